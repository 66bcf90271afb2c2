"""What knowledge and adapters are worth, each against a model trained without it: the experiments of the lab book.

    python scripts/experiments.py --panx DIR --build runs/mini --out runs/experiments

DIR is that of ``make model``, ``--build`` the folder that it made. Every experiment trains on the same backbone and
data for as many steps as the shipped adapters, and is measured on PAN-X test, routed by retrieval:

- own: the shipped model: an adapter a language, knowledge in the prompt;
- shared: one adapter for all languages, of the rank of all of theirs together;
- plain: an adapter a language, trained and run without knowledge.

With ``--unaided`` the backbone too is another one: from masked words on, all of the shipped model's joint tagging, the
same sentences in as many steps, but never with knowledge; then adapters as for "plain".

With ``--low-resource 100`` two languages are cut to that many sentences, which a backbone of its own, trained on the
other six, has never seen a label of; an adapter of their own is compared with one that all eight share.
Every step leaves a file behind and is not done again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "mini"))
from steps import LANGUAGES, PASSES, RANK, RATE, Step, do, joint_tagging, script, training_data  # type: ignore[import-not-found]

CUT = ("de", "ko")
"""The languages that are cut: one whose words others share, one in a script of its own."""


def measured(panx: Path, model: Path, report: Path, sentences: int, languages: str, *more: str) -> Step:
    return Step(f"measure {report.stem}", sentences / 2000, report, script(
        "retrieveall", "evaluate", panx, "--model", model, "--split", "test", "--languages", languages,
        "--limit", sentences, "--threads", 1, "--output", report, *more,
    ))  # fmt: skip


def trained(args: argparse.Namespace, model: Path, languages: str, data: list[object], *more: object) -> Step:
    """One adapter for all of ``languages``."""
    card = model / "adapters" / languages.partition(",")[0] / "adapter_card.json"
    run = args.out / f"run-{model.parent.name}-{model.name}-{languages.replace(',', '-')}"
    return Step(f"adapter of {model.name} for {languages}", 10, card, script(
        "packed_adapters.py", "--model", model, "--languages", languages, *data, *more, "--out", run,
    ))  # fmt: skip


def scaled(panx: Path, model: Path) -> Step:
    """The adapters as strong as is best on validation, like those of the shipped model."""
    report = model.with_name(f"{model.name}-strengths.json")
    return Step(f"strengths of {model.name}", 4, report, script(
        "strengths.py", "--panx", panx, "--model", model, "--out", report,
    ))  # fmt: skip


def created(panx: Path, args: argparse.Namespace, model: Path, backbone: Path, knowledge: Path, *more: str) -> Step:
    return Step(f"model folder {model.name}", 0.5, model / "retrieveall.yaml", script(
        "adapters.py", "create", "--panx", panx, "--tokenizer", args.build / "tokenizer", "--backbone", backbone,
        "--knowledge", knowledge, *more, "--out", model,
    ))  # fmt: skip


def shared_and_plain(args: argparse.Namespace) -> list[Step]:
    """Own adapters against a shared one, and knowledge against none."""
    build, out, everyone = args.build, args.out, ",".join(LANGUAGES)
    # A change of the weights is the sum over the ranks: at the rate of the small adapters its loss rises for a thousand
    # steps (rank-stabilised LoRA, arXiv 2312.03732, divides by the root of the rank for this reason).
    rate = round(RATE / len(LANGUAGES) ** 0.5, 6)
    large = ["--passes", args.passes, "--rank", args.rank * len(LANGUAGES), "--lr", rate]
    return [
        created(args.panx, args, out / "shared", build / "tags", build / "knowledge", "--name", "one shared adapter"),
        trained(args, out / "shared", everyone, training_data(build), *large),
        scaled(args.panx, out / "shared"),
        measured(args.panx, out / "shared", out / "shared.json", args.sentences, everyone),
        *without_knowledge(args, out / "plain", build / "tags", "no knowledge"),
        measured(args.panx, build / "model", out / "own.json", args.sentences, everyone),
    ]


def without_knowledge(args: argparse.Namespace, model: Path, backbone: Path, name: str) -> list[Step]:
    """A model with adapters that were trained, and are run, without knowledge, and its scores."""
    options = ["--passes", args.passes, "--rank", args.rank, "--knowledge", 1, 0, 0]
    return [
        created(args.panx, args, model, backbone, args.build / "knowledge", "--name", name, "--no-knowledge"),
        *(trained(args, model, language, training_data(args.build), *options) for language in LANGUAGES),
        scaled(args.panx, model),
        measured(args.panx, model, model.with_suffix(".json"), args.sentences, ",".join(LANGUAGES)),
    ]


def unaided(args: argparse.Namespace) -> list[Step]:
    """Knowledge against none where the backbone has never seen any either."""
    build, out = args.build, args.out
    folders = [out / "unaided-first", out / "unaided-second", out / "unaided-third", out / "unaided-tags"]
    tagging = [*training_data(build), "--tokenizer", build / "tokenizer", "--workers", args.workers]
    rounds = joint_tagging(build / "words", folders, (80, 26, 43, 55), *tagging, knowledge=False)
    return [*rounds, *without_knowledge(args, out / "unaided", folders[-1], "no knowledge from masked words on")]


def cut_corpora(panx: Path, target: Path, sentences: int) -> None:
    """PAN-X with the languages of ``CUT`` cut to the first ``sentences`` of train."""
    for language in LANGUAGES:
        folder = target / language
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", "validation", "test"):
            shutil.copyfile(panx / language / f"{split}.tsv", folder / f"{split}.tsv")
        if language in CUT:
            lines = (folder / "train.tsv").read_text(encoding="utf-8").split("\n")
            parts = [list(lines) for blank, lines in groupby(lines, lambda line: not line.strip()) if not blank]
            text = "\n\n".join("\n".join(part) for part in parts[:sentences]) + "\n"
            (folder / "train.tsv").write_text(text, encoding="utf-8")


def low_resource(args: argparse.Namespace) -> list[Step]:
    """Two languages with few sentences: adapters of their own against one that all eight share."""
    build, many = args.build, [language for language in LANGUAGES if language not in CUT]
    out = args.out / f"low-{args.low_resource}"
    panx, everyone = out / "panx", ",".join(LANGUAGES)
    six = args.out / "six"
    tokenizer = ["--tokenizer", build / "tokenizer"]
    knowledge = Step("knowledge", 1, out / "knowledge/zh/vectors.safetensors",
                     script("knowledge.py", "--panx", panx, "--out", out / "knowledge"))  # fmt: skip

    prompts = Step("prompts", 5, out / "prepared/ko/train.full.safetensors", script(
        "prepare.py", "--panx", panx, *tokenizer, "--knowledge", out / "knowledge",
        "--negatives", build / "negatives", "--out", out / "prepared",
    ))  # fmt: skip
    backbone = Step("backbone of six languages", 14, six / "model.safetensors", script(
        "backbone.py", "tags", "--start", build / "words", "--data", out / "prepared",
        "--languages", ",".join(many), *tokenizer, "--rows", 30, "--row-length", 128, "--dropout", 0.15,
        "--word-dropout", 0.08, "--knowledge", 0.15, 0.35, 0.5, "--steps", args.six_steps, "--out", six,
    ))  # fmt: skip
    data: list[object] = ["--data", out / "prepared"]
    # Of a hundred sentences a batch must not need more than there are.
    few = ["--passes", 20, "--least-steps", 150, "--rank", args.rank, "--rows", 30 if args.low_resource >= 500 else 8]
    name = f"{args.low_resource} sentences"
    return [
        knowledge,
        prompts,
        backbone,
        created(panx, args, out / "own", six, out / "knowledge", "--name", f"{name}, own adapter"),
        *(trained(args, out / "own", language, data, *few) for language in CUT),
        created(panx, args, out / "shared", six, out / "knowledge", "--name", f"{name}, shared adapter"),
        trained(args, out / "shared", everyone, data, "--passes", 1, "--rank", args.rank * len(LANGUAGES)),
        measured(panx, out / "own", out / "own.json", args.sentences, ",".join(CUT), "--told"),
        measured(panx, out / "shared", out / "shared.json", args.sentences, ",".join(CUT), "--told"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True, help="folder of LANG/train.tsv and test.tsv")
    parser.add_argument("--build", type=Path, required=True, help="what scripts/mini/build.py made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=10000, help="test sentences a language")
    parser.add_argument("--rank", type=int, default=RANK, help="of one language's adapter")
    parser.add_argument("--passes", type=float, default=PASSES, help="of the shipped adapters")
    parser.add_argument("--low-resource", type=int, metavar="SENTENCES", help="that experiment instead of the others")
    parser.add_argument("--unaided", action="store_true", help="that experiment instead of the others")
    parser.add_argument("--workers", type=int, default=2, help="processes of its longest steps, one a core")
    parser.add_argument("--six-steps", type=int, default=1000, help="of the backbone for --low-resource")
    parser.add_argument("--plan", action="store_true", help="print the steps and their cost, do nothing")
    args = parser.parse_args()
    if not (args.build / "tags/model.safetensors").exists():
        sys.exit(f"expected the folder of a finished scripts/mini/build.py at {args.build}; build the model first")
    if args.low_resource and not args.plan:
        cut_corpora(args.panx, args.out / f"low-{args.low_resource}" / "panx", args.low_resource)
    chosen = low_resource if args.low_resource else unaided if args.unaided else shared_and_plain
    do(chosen(args), only_plan=args.plan)


if __name__ == "__main__":
    main()
