"""Choose the probability below which a model leaves entities out, on validation sets.

    python -m recipes.measure.thresholds MODEL --ner DIR --panx DIR

For pairs of thresholds, of an entity and of the surest entity of its sentence: F1 on running text and PAN-X (means of
the languages), and the share of sentences without an entity that get one. What is chosen goes into ``threshold`` and
``sentence_threshold`` of the model's settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

from recipes.measure.threads import use_one_thread

THRESHOLDS = (0.0, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
SENTENCE_THRESHOLDS = (0.0, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


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
    parser.add_argument("--cpu-precision", help="as in recipes.measure; as the model has it if left out")
    parser.add_argument("--limit", type=int, default=200, help="sentences of each file (default: %(default)s)")
    args = parser.parse_args(arguments)
    use_one_thread()
    # Imported late: the libraries below read the number of threads when they are loaded.
    from recipes.corpora import Sentences
    from recipes.measure.running import negatives, read_running, score_set, summarise
    from recipes.measure.variant import Variant
    from retrieveall.evaluation import score_spans
    from retrieveall.thresholds import select
    from retrieveall.types import Entity, Prediction

    model = Variant.parse(None, args.cpu_precision).open(args.model)
    sets = read_running(args.ner, limit=args.limit)
    languages = tuple(each for each in model.languages if (args.panx / each / "validation.tsv").is_file())
    corpus = Sentences(args.panx, "validation", languages, args.limit)
    panx = {language: list(corpus.of(language)) for language in languages}

    def kept(predictions: Iterable[Prediction], own: dict[str, float]) -> list[Sequence[Entity]]:
        config = model.config.model_copy(update=own)
        return [select(each, model.labels, None, config).entities for each in predictions]

    found = {each.name: model.predict(each.texts, threshold=0.0) for each in sets}
    found_panx = {name: model.predict([s.text for s in own], threshold=0.0) for name, own in panx.items()}
    print(
        "| threshold | of a sentence | running text F1 | sentences without a name that get one | PAN-X F1 |\n"
        "| --- | --- | --- | --- | --- |"
    )
    for least, surest in product(THRESHOLDS, SENTENCE_THRESHOLDS):
        if 0 < surest <= least:
            continue  # as without
        own = {"threshold": least, "sentence_threshold": surest}
        scores = {s.name: score_set(s.sentences, kept(found[s.name], own)).as_json() for s in sets}
        running = summarise(scores)
        of_panx = fmean(
            score_spans([s.entities for s in sentences], kept(found_panx[name], own)).micro.f1
            for name, sentences in panx.items()
        )
        figures = (running["mean"]["f1"], negatives(running)["rate"], of_panx)
        f1, spurious, of_panx = (100 * each for each in figures)
        print(f"| {least:.2f} | {surest:.2f} | {f1:.1f} | {spurious:.1f}% | {of_panx:.1f} |", flush=True)


if __name__ == "__main__":
    main()
