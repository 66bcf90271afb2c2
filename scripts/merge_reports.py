"""Merge reports of `retrieveall evaluate --languages ...` for the same model and data into one.

python scripts/merge_reports.py part1.json part2.json --out benchmarks/results/panx-test.json
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from retrieveall.evaluation import EvaluationReport, load_reports


def _about(report: EvaluationReport) -> tuple[str, str, str | None]:
    return report.choice, report.data, report.provenance.manifest_sha256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    first, *others = load_reports(args.parts)
    merged = dict(first.languages)
    for other in others:
        if _about(other) != _about(first):
            sys.exit("expected reports of the same model, data and choice of language; evaluate them again")
        if set(merged) & set(other.languages):
            sys.exit(f"expected every language once, got {min(set(merged) & set(other.languages))} twice")
        merged |= other.languages
    replace(first, languages=merged).save(args.out)


if __name__ == "__main__":
    main()
