"""Generates parts of the documents: example outputs, help texts and results tables.

    python scripts/docs.py --write    rewrites them
    python scripts/docs.py --check    exits with 1 and names the stale documents

A block in a document begins with ``<!-- generated: COMMAND -->`` and ends with ``<!-- end -->``; the command is one
of ``python FILE``, ``retrieveall ...``, ``results FILE...`` (the table of reports), ``measured FILE...`` (what
``recipes.measure`` wrote, side by side), ``means FILE...`` (the same without single sets and languages),
``scale FILE`` and ``peers FILE`` (what ``recipes.measure.scale`` and ``recipes.measure.peers`` wrote), ``headline
FILE`` (one number), and ``benchmarks overview DIR`` and ``benchmarks details DIR`` (what ``retrieveall benchmark``
left in the folders of DIR).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md", "docs/benchmark.md", "docs/cli.md", "docs/lab_book.md", "docs/models.md", "docs/scaling.md",
)  # fmt: skip
VERBS = (
    "extract", "train", "add-language", "adopt", "remove-language", "index", "evaluate", "benchmark",
    "validate", "convert", "serve", "info", "plan",
)  # fmt: skip

_COMPLETION = """\
**Completion.** `retrieveall --install-completion` sets up the tab key for the shell that runs it (bash, zsh, fish,
PowerShell); open a new shell afterwards. `--show-completion` prints the script instead. Commands and options are
completed, and the values of which there are few: shipped models, languages and labels of the model named before,
presets, formats, GPUs, and the keys of `--set`.
"""

_BLOCK = re.compile(r"(<!-- generated: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_SINGLE = re.compile(r"^\| (?:running, \w\w/|PAN-X, \w\w,).*\n", re.MULTILINE)
_SCORE = re.compile(r"\b[01]\.\d+\b")


def generate(command: str, document: str = "README.md") -> str:
    """The text of a block in a document, in Markdown."""
    program, *arguments = shlex.split(command)
    if program == "results":
        from retrieveall.evaluation import load_reports, render_table

        return "\n" + render_table(load_reports([ROOT / name for name in arguments])).strip() + "\n\n"
    if program == "headline":
        return headline(ROOT / arguments[0])
    if program == "benchmarks":
        return benchmarks(*arguments, document)
    if program in ("measured", "means"):
        sys.path.insert(0, str(ROOT))  # recipes are beside the package, not in it
        from recipes.measure.tables import compare

        table = compare([json.loads((ROOT / name).read_text("utf-8")) for name in arguments]).strip()
        if program == "means":
            table = _SINGLE.sub("", table)
        return f"\n{table}\n\n"
    if program == "scale":
        sys.path.insert(0, str(ROOT))
        from recipes.measure.scale import render_scale

        return f"\n{render_scale(json.loads((ROOT / arguments[0]).read_text('utf-8')))}\n\n"
    if program == "peers":
        sys.path.insert(0, str(ROOT))
        from recipes.measure.peers import summary

        return f"\n{summary(json.loads((ROOT / arguments[0]).read_text('utf-8')))}\n\n"
    if program == "python":
        source = (ROOT / arguments[0]).read_text(encoding="utf-8").strip()
        return f"```python\n{source}\n```\n\n```text\n{_run([sys.executable, *arguments])}\n```\n"
    if arguments[-1:] == ["--help"]:
        return f"```text\n{_run([sys.executable, '-m', 'retrieveall', *arguments])}\n```\n"
    return f"```console\n$ {command}\n{_run([sys.executable, '-m', 'retrieveall', *arguments])}\n```\n"


def headline(path: Path) -> str:
    """The sentence with the score in the README's introduction."""
    results = json.loads(path.read_text("utf-8"))
    running, panx = results["running"], results["panx"]
    return (
        f"**{100 * running['mean']['f1']:.0f} F1** on running text (news, web, tweets, encyclopaedia) and "
        f"{100 * panx['mean']['f1']:.0f} on PAN-X,\n"
        f"validation sets, the mean of {len(panx['languages'])} languages; the language is not given.\n"
    )


def benchmarks(kind: str, folder: str, document: str) -> str:
    """What is said of the results under a folder, with links that work in the document."""
    from retrieveall.benchmark.report import summary

    prefix = "../" * document.count("/") + folder
    text = getattr(summary, kind)(summary.find_results(ROOT / folder), prefix)
    return f"\n{text.strip()}\n\n"


def _run(command: list[str]) -> str:
    environment = {
        **os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "TERMINAL_WIDTH": "100", "PYTHONUTF8": "1",
    }  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def renew(text: str, document: str = "README.md", only: str = "") -> str:
    """``text`` with every block regenerated whose command begins with ``only``."""
    return _BLOCK.sub(
        lambda match: match[1] + generate(match[2], document) + match[4] if match[2].startswith(only) else match[0],
        text,
    )


def same(old: str, new: str) -> bool:
    """Whether two texts are equal up to the last digit of probabilities, which may differ between processors."""
    return _SCORE.sub("0.0", old) == _SCORE.sub("0.0", new)


def cli_page() -> str:
    """docs/cli.md with one empty block per command."""
    parts = ["# Command line\n", "Written by `make docs` from the help texts themselves.\n", _COMPLETION]
    for verb in ("", *VERBS):
        command = f"retrieveall {verb} --help".replace("  ", " ")
        parts.append(f"## `retrieveall {verb}`\n".replace(" `\n", "`\n"))
        parts.append(f"<!-- generated: {command} -->\n<!-- end -->\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", action="store_true")
    group.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = renew(cli_page() if name == "docs/cli.md" else old, name)
        if args.write:
            path.write_text(new, encoding="utf-8")
        elif not same(old, new):
            stale.append(name)
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run: make docs")


if __name__ == "__main__":
    main()
