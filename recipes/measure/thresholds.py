"""Choose the probability below which a model leaves entities out, on validation sets.

    python -m recipes.measure.thresholds MODEL --ner DIR --panx DIR

For each threshold: F1 on running text and PAN-X (means of the languages), and the share of sentences without an entity
that get one. The lowest threshold whose F1 is best goes into ``threshold`` of the model's settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from recipes.measure.threads import use_one_thread

THRESHOLDS = (0.0, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.measure.thresholds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="name, folder or hub id")
    parser.add_argument("--ner", type=Path, required=True, help="folder of train/ and measure/")
    parser.add_argument("--panx", type=Path, required=True, help="folder of LANGUAGE/validation.tsv")
    parser.add_argument("--limit", type=int, default=200, help="sentences of each file (default: %(default)s)")
    args = parser.parse_args(arguments)
    use_one_thread()
    # Imported late: the libraries below read the number of threads when they are loaded.
    from recipes.corpora import Sentences
    from recipes.measure.running import RunningSet, negatives, read_running, score_set, summarise
    from retrieveall import RetrieveAll
    from retrieveall.evaluation import score_spans
    from retrieveall.types import Entity, Prediction

    model = RetrieveAll.from_pretrained(args.model, device="cpu")
    sets = read_running(args.ner, limit=args.limit)
    languages = tuple(each for each in model.languages if (args.panx / each / "validation.tsv").is_file())
    corpus = Sentences(args.panx, "validation", languages, args.limit)
    panx = {language: list(corpus.of(language)) for language in languages}

    def kept(predictions: Iterable[Prediction], threshold: float) -> list[list[Entity]]:
        return [[e for e in each.entities if e.score is None or e.score >= threshold] for each in predictions]

    def on_running(
        found: dict[str, list[Prediction]], sets: Sequence[RunningSet], threshold: float
    ) -> tuple[float, float]:
        scores = {s.name: score_set(s.sentences, kept(found[s.name], threshold)).as_json() for s in sets}
        running = summarise(scores)
        return running["mean"]["f1"], negatives(running)["rate"]

    found = {each.name: model.predict(each.texts, threshold=0.0) for each in sets}
    found_panx = {name: model.predict([s.text for s in own], threshold=0.0) for name, own in panx.items()}
    print(
        "| threshold | running text F1 | sentences without a name that get one | PAN-X F1 |\n| --- | --- | --- | --- |"
    )
    for threshold in THRESHOLDS:
        f1, spurious = on_running(found, sets, threshold)
        scores = [
            score_spans([s.entities for s in own], kept(found_panx[name], threshold)).micro.f1
            for name, own in panx.items()
        ]
        print(f"| {threshold:.2f} | {100 * f1:.1f} | {100 * spurious:.1f}% | {100 * fmean(scores):.1f} |", flush=True)


if __name__ == "__main__":
    main()
