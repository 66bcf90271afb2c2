"""How cost grows: milliseconds a text and memory by sentences in the knowledge, and by adapters mixed in one batch.

    python -m recipes.measure.scale --sentences 10000,100000,1000000 --adapters 8,100,1000

Everything is synthetic: sentences of random words, adapters of random weights over the backbone of a model. Every
figure comes from a process of its own, with one thread. Results are added to ``--out`` after each; a figure that is
measured again replaces the old one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.measure.threads import use_one_thread

__all__ = ["main", "parse", "render_scale"]

OUT = Path("benchmarks/results/scale.json")
KINDS = ("sentences", "adapters")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.measure.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sentences", type=_counts, default=[], help="numbers of sentences, such as 10000,1000000")
    parser.add_argument("--adapters", type=_counts, default=[], help="numbers of adapters, such as 8,100,1000")
    parser.add_argument("--model", default="base", help="whose backbone the adapters are for (default: %(default)s)")
    parser.add_argument("--rank", type=int, default=8, help="of the adapters (default: %(default)s)")
    parser.add_argument("--texts", type=int, default=256, help="to measure time on (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="file of the results (default: %(default)s)")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if not (args.sentences or args.adapters):
        parser.error("expected --sentences or --adapters, got neither")
    return args


def _counts(given: str) -> list[int]:
    counts = [int(number) for number in given.split(",") if number.strip()]
    if any(count < 1 for count in counts):
        raise argparse.ArgumentTypeError(f"expected numbers of at least 1, got {given!r}")
    return counts


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    args = parse(arguments)
    use_one_thread()
    if args.one:
        print(json.dumps(_measure(args)))
        return
    for kind in KINDS:
        for count in getattr(args, kind):
            _save(args.out, kind, count, _in_a_process(args, kind, count))
    print(render_scale(json.loads(args.out.read_text(encoding="utf-8"))))


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    # Imported late: the libraries below read the number of threads when they are loaded.
    from recipes.measure.scale_parts import measure_adapters, measure_sentences

    if args.one == "sentences":
        return measure_sentences(args.sentences[0], args.texts, args.rounds)
    return measure_adapters(args.model, args.adapters[0], args.rank, args.texts, args.rounds)


def _in_a_process(args: argparse.Namespace, kind: str, count: int) -> dict[str, Any]:
    """One figure; a process that fails ends the program with its last line."""
    options = {"model": args.model, "rank": args.rank, "texts": args.texts, "rounds": args.rounds}
    command = [sys.executable, "-m", "recipes.measure.scale", "--one", kind, f"--{kind}", str(count)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    print(f"{count:,} {kind}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: {count:,} {kind}: the process failed with status {done.returncode}; see above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _save(path: Path, kind: str, count: int, found: dict[str, Any]) -> None:
    from retrieveall.storage import write_atomic

    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"format": 1}
    own = results.setdefault(kind, {})
    own[str(count)] = found
    results[kind] = dict(sorted(own.items(), key=lambda item: int(item[0])))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(results, ensure_ascii=False, indent=2).encode() + b"\n")


def render_scale(results: dict[str, Any]) -> str:
    """Two tables in Markdown, and where the figures come from."""
    from retrieveall.evaluation.report import markdown_table

    keys = ("ms_a_text", "open_seconds", "peak_memory_mb", "index_seconds")
    sentences = _rows(results.get("sentences", {}), keys)
    adapters = _rows(results.get("adapters", {}), ("ms_a_text", "ms_a_text_from_disk", "peak_memory_mb"))
    head = ["sentences", "ms a text", "seconds to open", "peak memory, MB", "seconds to index"]
    parts = [markdown_table(head, sentences)] if sentences else []
    head = ["adapters in a batch", "ms a text, all in memory", "ms a text, 64 in memory", "peak memory, MB"]
    parts += [markdown_table(head, adapters)] if adapters else []
    return "\n\n".join([*parts, _origin([each for kind in KINDS for each in results.get(kind, {}).values()])])


def _rows(results: dict[str, Any], keys: Sequence[str]) -> list[list[str]]:
    return [[f"{int(count):,}", *(str(each[key]) for key in keys)] for count, each in results.items()]


def _origin(figures: Sequence[dict[str, Any]]) -> str:
    """Where the figures come from, in one sentence."""
    commits = {(each["commit"] or "none")[:12] + (" with local changes" * bool(each["modified"])) for each in figures}
    dates = {each["date"][:10] for each in figures}
    machines = {each["machine"].get("processor", "unknown") for each in figures}
    where = "; ".join(", ".join(sorted(some)) for some in (dates, machines))
    return f"Measured {where}; one thread; commit {', '.join(sorted(commits))}."


if __name__ == "__main__":
    main()
