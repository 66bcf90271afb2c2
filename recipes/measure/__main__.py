"""Measure a model: running text, PAN-X, ordinary texts, borders of sentences, negatives, speed.

    python -m recipes.measure base --ner DIR --panx DIR --ordinary FILE --everyday FILE --not-in-the-pool FILE \\
        --out results.json

The model is routed and runs in one thread on the CPU. What knowledge is worth is the difference between two runs, one
of them with ``--levels none``; what 8 bits cost, one with ``--cpu-precision int8``. Results are saved as JSON after
every part, and printed as Markdown at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from recipes.measure.threads import use_one_thread


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="base", help="name, folder or hub id; the shipped one if left out")
    parser.add_argument("--ner", type=Path, help="folder of train/ and measure/, with LANGUAGE/CORPUS/validation.tsv")
    parser.add_argument("--panx", type=Path, help="folder of LANGUAGE/validation.tsv")
    parser.add_argument("--ordinary", type=Path, help="file of marked texts: KIND, tab, text")
    parser.add_argument("--everyday", type=Path, help="another such file, of short texts by language")
    parser.add_argument("--not-in-the-pool", type=Path, help="file of lines in languages without an adapter")
    parser.add_argument("--limit", type=int, default=400, help="sentences of each file, 0 for all (default: 400)")
    parser.add_argument("--sets", type=_names, help="only these sets of --ner, such as en/btc,ko/kmou")
    parser.add_argument(
        "--only",
        type=_names,
        help="only these parts: running, negatives, panx, ordinary, everyday, not_in_the_pool, pairs, documents,"
        " speed; all that have an input if left out",
    )
    parser.add_argument(
        "--split",
        choices=("validation", "test"),
        default="validation",
        help="of PAN-X; test is for the final report only",
    )
    parser.add_argument(
        "--levels",
        type=_names,
        help="levels of knowledge in the prompt: entity, context, both with a comma, or none; all if left out",
    )
    parser.add_argument(
        "--cpu-precision", help="of the linear layers: same, int8, bfloat16 or auto; as the model has it if left out"
    )
    parser.add_argument("--out", type=Path, required=True, help="file of the results")
    args = parser.parse_args(arguments)
    if args.limit < 0:
        parser.error(f"expected a limit of at least 1, or 0 for all, got {args.limit}")
    return args


def _names(given: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",") if name.strip())


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    args = parse(arguments)
    use_one_thread()
    # Imported late: the libraries below read the number of threads when they are loaded.
    from recipes.measure.run import Inputs, Measurement, parts_to_run
    from recipes.measure.tables import render
    from recipes.measure.variant import Variant
    from retrieveall.errors import RetrieveAllError
    from retrieveall.storage import write_atomic

    def save(results: dict[str, Any]) -> None:
        write_atomic(args.out, json.dumps(results, ensure_ascii=False, indent=2).encode() + b"\n")

    inputs = Inputs(
        ner=args.ner,
        panx=args.panx,
        ordinary=args.ordinary,
        everyday=args.everyday,
        not_in_the_pool=args.not_in_the_pool,
        limit=args.limit or None,
        sets=args.sets,
        split=args.split,
    )
    try:
        parts = parts_to_run(inputs, args.only)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        measurement = Measurement(args.model, inputs, Variant.parse(args.levels, args.cpu_precision))
        use_one_thread()
        print(render(measurement.run(parts, save)))
    except (RetrieveAllError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
