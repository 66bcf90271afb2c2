"""The generated parts of the documents: outputs of the examples, help texts, the results table.

    python scripts/docs.py --write    writes them anew
    python scripts/docs.py --check    exits with 1 and says what is stale

A block in a document begins with ``<!-- generated: COMMAND -->`` and ends with ``<!-- end -->``; the command is one
of ``python FILE``, ``retrieveall ...``, ``results FILE...`` (the table of reports) and ``headline FILE`` (one number).
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs/cli.md", "docs/experiments.md")
VERBS = (
    "extract", "train", "add-language", "adopt", "remove-language", "index", "evaluate", "validate", "info", "plan",
)  # fmt: skip

_BLOCK = re.compile(r"(<!-- generated: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_SCORE = re.compile(r"\b[01]\.\d+\b")


def generate(command: str) -> str:
    """The text of a block, in Markdown."""
    program, *arguments = shlex.split(command)
    if program == "results":
        from retrieveall.evaluation import load_reports, render_table

        return "\n" + render_table(load_reports([ROOT / name for name in arguments])).strip() + "\n\n"
    if program == "headline":
        return headline(ROOT / arguments[0])
    if program == "python":
        source = (ROOT / arguments[0]).read_text(encoding="utf-8").strip()
        return f"```python\n{source}\n```\n\n```text\n{_run([sys.executable, *arguments])}\n```\n"
    if arguments[-1:] == ["--help"]:
        return f"```text\n{_run([sys.executable, '-m', 'retrieveall', *arguments])}\n```\n"
    return f"```console\n$ {command}\n{_run([sys.executable, '-m', 'retrieveall', *arguments])}\n```\n"


def headline(path: Path) -> str:
    """The sentence of the README's first screen that holds the number."""
    from retrieveall.evaluation import EvaluationReport

    report = EvaluationReport.load(path)
    told = "without being told the language" if report.choice == "routed" else "told the language"
    f1 = 100 * (report.mean["f1"] or 0.0)
    return f"**{f1:.1f} F1** on PAN-X test, the mean of {len(report.languages)} languages, {told}.\n"


def _run(command: list[str]) -> str:
    environment = {
        **os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "TERMINAL_WIDTH": "100", "PYTHONUTF8": "1",
    }  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def renew(text: str) -> str:
    """``text`` with every block generated anew."""
    return _BLOCK.sub(lambda match: match[1] + generate(match[2]) + match[4], text)


def same(old: str, new: str) -> bool:
    """Probabilities may differ in their last digit between processors; all else must be equal."""
    return _SCORE.sub("0.0", old) == _SCORE.sub("0.0", new)


def cli_page() -> str:
    """docs/cli.md with one block a verb, not yet generated."""
    parts = ["# Command line\n", "Written by `make docs` from the help texts themselves.\n"]
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
        new = renew(cli_page() if name == "docs/cli.md" else old)
        if args.write:
            path.write_text(new, encoding="utf-8")
        elif not same(old, new):
            stale.append(name)
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run: make docs")


if __name__ == "__main__":
    main()
