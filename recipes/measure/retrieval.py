"""Compare encoders as retrievers: which language a text is in, what its nearest sentence is good for, and F1.

    python -m recipes.measure.retrieval base --backbone DIR --panx DIR --ner DIR --others DIR --out FILE

Every encoder gets the same pool, sentences of PAN-X and of running text, and the same validation sentences. The model
keeps its adapters and its prompts; what changes is the knowledge that routes. Everything runs in one thread. Results
are saved as JSON after every encoder; those that the file already has are not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from recipes.measure.threads import use_one_thread

if TYPE_CHECKING:
    from recipes.measure.retrieval_parts import Material
    from retrieveall import RetrieveAll
    from retrieveall.knowledge import Encoder

__all__ = ["ENCODERS", "main", "parse", "render_retrieval"]

TIMED = 15
"""Texts of each language that time is taken on."""
ENCODERS = {
    "letters": "no encoder: letters alone",
    "ngram-shipped": "n-grams, 32 dimensions, as shipped",
    "ngram": "n-grams, 32 dimensions",
    "ngram-64": "n-grams, 64 dimensions",
    "table": "embedding table",
    "table-centred": "embedding table, centred",
    "backbone": "backbone",
    "backbone-centred": "backbone, centred",
    "own": "the model's own tuned backbone",
    "own-centred": "the model's own tuned backbone, centred",
    "own-table-centred": "the model's own embedding table, centred",
    "ngram+backbone": "n-grams and backbone, centred",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.measure.retrieval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="name, folder or hub id of the model that is routed")
    parser.add_argument("--backbone", required=True, help="folder or hub id of the pretrained encoder")
    parser.add_argument("--panx", type=Path, required=True, help="folder of LANGUAGE/{train,validation}.tsv")
    parser.add_argument("--ner", type=Path, required=True, help="folder of train/ and measure/")
    parser.add_argument("--others", type=Path, help="as --panx, of languages outside of the model: sw, yo and any more")
    parser.add_argument("--sentences", type=int, default=2500, help="of the pool, a language (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=200, help="validation sentences a file (default: %(default)s)")
    parser.add_argument(
        "--encoders",
        type=lambda given: tuple(name.strip() for name in given.split(",") if name.strip()),
        default=tuple(ENCODERS),
        help=f"only some of {', '.join(ENCODERS)}",
    )
    parser.add_argument("--no-f1", action="store_true", help="leave out F1, which takes longer than the rest")
    parser.add_argument("--out", type=Path, required=True, help="file of the results")
    args = parser.parse_args(arguments)
    if unknown := [name for name in args.encoders if name not in ENCODERS]:
        parser.error(f"expected encoders among {', '.join(ENCODERS)}, got {unknown[0]!r}")
    if min(args.sentences, args.limit) < 1:
        parser.error("expected --sentences and --limit of at least 1")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    args = parse(arguments)
    use_one_thread()
    # Imported late: the libraries below read the number of threads when they are loaded.
    from retrieveall.errors import RetrieveAllError

    try:
        print(render_retrieval(_measure(args)))
    except (RetrieveAllError, OSError) as error:
        sys.exit(f"error: {error}")


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    from recipes.measure.retrieval_parts import Material, RememberingEngine, measure_encoder
    from recipes.measure.variant import Variant
    from retrieveall.evaluation import Provenance
    from retrieveall.storage import write_atomic

    model = Variant().open(args.model)
    use_one_thread()
    model.engine = RememberingEngine(model.engine)
    material = Material(model.languages, args.panx, args.ner, args.others, size=args.sentences, limit=args.limit)
    results = _opened(args)
    made = _Made(args, model, material)
    for name in args.encoders:
        if name in results["encoders"]:
            continue
        print(ENCODERS[name], file=sys.stderr, flush=True)
        shipped = {"weight": model.config.routing.weight, "dimension": model.config.routing.dimension}
        fixed = {"letters": {"dimension": 0.0}, "ngram-shipped": shipped}.get(name)
        found = made.costs(name) | measure_encoder(made.encoder(name), material, model, fixed, f1=not args.no_f1)
        results["encoders"][name] = found
        results["provenance"] = asdict(Provenance.collect(model))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(args.out, json.dumps(results, ensure_ascii=False, indent=1).encode() + b"\n")
    return results


def _opened(args: argparse.Namespace) -> dict[str, Any]:
    """The results so far, if they are of the same measurement."""
    setting = {"model": str(args.model), "sentences": args.sentences, "limit": args.limit}
    if args.out.is_file():
        results: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8"))
        if all(results.get(key) == value for key, value in setting.items()):
            return results
    return {"format": 1, **setting, "encoders": {}}


class _Made:
    """Encoders by name, each made once; what they have encoded is remembered, but not when time is taken."""

    def __init__(self, args: argparse.Namespace, model: RetrieveAll, material: Material) -> None:
        from recipes.measure.speed import texts_of_words

        self._backbone, self._model = args.backbone, model
        self._texts = material.pool_texts
        self._timed = texts_of_words(material.running, TIMED)
        self._raw: dict[str, Any] = {}
        self._kept: dict[str, Encoder] = {}

    def encoder(self, name: str) -> Encoder:
        """The encoder that remembers."""
        from recipes.measure.retrieval_encoders import CentredEncoder, JoinedEncoder, RememberingEncoder

        name = "ngram" if name == "ngram-shipped" else name
        if name not in self._kept:
            first, plus, second = name.partition("+")
            bare = name.removesuffix("-centred")
            if plus:
                made: Encoder = JoinedEncoder(name, self.encoder(first), self.encoder(f"{second}-centred"))
            elif bare != name:
                made = CentredEncoder(name, self.encoder(bare), self._texts)
            else:
                made = RememberingEncoder(self._bare(name))
            self._kept[name] = made
        return self._kept[name]

    def costs(self, name: str) -> dict[str, Any]:
        """Milliseconds a text, and megabytes of weights that the model does not have, of all parts together."""
        from recipes.measure.retrieval_parts import milliseconds

        parts = [part.removesuffix("-centred").removesuffix("-shipped") for part in name.split("+")]
        timed = sum(milliseconds(self._bare(part), self._timed) for part in parts)
        sizes = [self._megabytes(self._bare(part)) for part in parts if not part.startswith("own")]
        return {"milliseconds": timed, "megabytes": sum(sizes)}

    def _bare(self, name: str) -> Any:
        from recipes.base.backbone import backbone_folder
        from recipes.measure.retrieval_encoders import BackboneEncoder, RandomEncoder, TableEncoder
        from retrieveall.knowledge import NgramEncoder

        if name not in self._raw:
            makers: dict[str, Callable[[], Any]] = {
                "letters": RandomEncoder,
                "ngram": lambda: NgramEncoder.fit(self._texts, dimension=32),
                "ngram-64": lambda: NgramEncoder.fit(self._texts, dimension=64),
                "table": lambda: TableEncoder(name, self._bare("backbone"), self._texts),
                "own-table": lambda: TableEncoder(name, self._bare("own"), self._texts),
                "backbone": lambda: BackboneEncoder(name, self._model.config, backbone_folder(self._backbone)),
                "own": lambda: BackboneEncoder(
                    name, self._model.config, self._model.folder.path / self._model.config.backbone.path
                ),
            }
            self._raw[name] = makers[name]()
        return self._raw[name]

    @staticmethod
    def _megabytes(encoder: Any) -> float:
        """Of the weights as they are stored; n-grams are 8-bit numbers."""
        if hasattr(encoder, "buckets"):
            return float(encoder.buckets * (encoder.dimension + 2) / 1e6)
        return float(getattr(encoder, "megabytes", 0.0))


def render_retrieval(results: dict[str, Any]) -> str:
    """Three tables in Markdown: routing and F1, languages outside of the pool, and the nearest sentence with costs."""
    from retrieveall.evaluation.report import markdown_table, per_cent

    found: dict[str, Any] = {name: results["encoders"][name] for name in ENCODERS if name in results["encoders"]}

    def both(shares: dict[str, float]) -> str:
        return f"{per_cent(shares['panx'])} / {per_cent(shares['running'])}"

    rows = [
        [
            ENCODERS[name],
            f"{each['weight']:g}, {each['dimension']:g}" if each["dimension"] else "–",
            *(both(each["routed"][way]) for way in ("neighbours", "votes", "rules")),
            f"{100 * each['f1']['panx']:.2f} / {100 * each['f1']['running']:.2f}" if each["f1"] else "–",
        ]
        for name, each in found.items()
    ]
    head = ["PAN-X / running text, %", "weight, dimension", "20 neighbours right", "most votes right", "routed right"]
    parts = [markdown_table([*head, "F1"], rows)]
    if added := sorted({name for each in found.values() for name in each["added"]}):
        head = ["%", *(f"{name}, {what}" for name in added for what in ("routed right", "takes part", "others lose"))]
        head += ["called unknown", "similarity, AUC"]
        rows = [
            [
                ENCODERS[name],
                *(cell for language in added for cell in _added_cells(each, each["added"][language])),
                per_cent(each["foreign"]["unknown"]["mean"]) if each["foreign"] else "–",
                per_cent(each["foreign"]["auc"]["mean"]) if each["foreign"] else "–",
            ]
            for name, each in found.items()
        ]
        parts.append(markdown_table(head, rows))
    head = ["the nearest sentence, PAN-X / running text, %", "shares a label", "a mention", "the language"]
    head += ["ms a text", "MB of weights", "MB of 10,000 sentences"]
    rows = [
        [
            ENCODERS[name],
            *(
                both({kind: shares[key] for kind, shares in each["nearest"].items()})
                for key in ("label", "mention", "language")
            ),
            f"{each['milliseconds']:.2f}",
            f"{each['megabytes']:.1f}",
            f"{each['vector'] / 100:.2f}",
        ]
        for name, each in found.items()
    ]
    return "\n\n".join([*parts, markdown_table(head, rows)])


def _added_cells(each: dict[str, Any], own: dict[str, Any]) -> list[str]:
    from retrieveall.evaluation.report import per_cent

    loss = fmean(each["routed"]["rules"].values()) - fmean(own["others"].values())
    return [per_cent(own["rules"]), per_cent(own["takes_part"]), per_cent(loss)]


if __name__ == "__main__":
    main()
