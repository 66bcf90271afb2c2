"""Write the samples of tests/samples: 50 sentences of openly licensed running text and 50 of PAN-X a language.

    python scripts/samples.py --panx DIR --running DIR

Validation sentences, evenly over the corpora of a language, raw text. Spanish has no openly licensed running text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.base.corpora import Corpora
from recipes.raw_text import raw_text
from retrieveall.data import write_jsonl

LANGUAGES = ("en", "es", "fr", "ru", "de", "zh", "ja", "ko")
SIZE = 50
OUT = Path(__file__).parents[1] / "tests" / "samples"
LONGEST = 300  # characters


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--running", type=Path, required=True)
    args = parser.parse_args()
    corpora = Corpora(args.panx, args.running, LANGUAGES)
    for language in LANGUAGES:
        found = corpora.of(language, "validation")
        sets = {"panx": found.pop("panx")[1000 : 1000 + SIZE]}  # behind those that training looks at
        share = -(-SIZE // len(found)) if found else 0
        sets["running"] = [
            raw_text(sentence).sentence
            for sentences in found.values()
            for sentence in [each for each in sentences[60:] if len(each.text) <= LONGEST][:share]
        ][:SIZE]
        for name, sentences in sets.items():
            if sentences:
                (OUT / name).mkdir(parents=True, exist_ok=True)
                write_jsonl(sentences, OUT / name / f"{language}.jsonl")


if __name__ == "__main__":
    main()
