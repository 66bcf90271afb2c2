"""The shipped model from the corpora, step by step; a step whose output is there is not done again.

    python scripts/mini/build.py --panx DIR --lmtext DIR --out runs/mini

Every long step keeps checkpoints: stop it at any moment and start it again. ``--plan`` only prints the steps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from steps import (  # type: ignore[import-not-found]
    LANGUAGES,
    PASSES,
    Step,
    do,
    joint_tagging,
    script,
    share_of,
    training_data,
)


def steps(panx: Path, lmtext: Path, out: Path, workers: int, share: float) -> list[Step]:
    """All of it, in order, with ``share`` of the long trainings' steps; minutes are those of docs/experiments.md."""
    corpora = ["--panx", panx]
    text = ["--lmtext", lmtext]
    tokenizer = ["--tokenizer", out / "tokenizer"]
    plain = ["--negatives", out / "negatives", "--positives", out / "positives"]
    prompts = [*corpora, *tokenizer, "--knowledge", out / "knowledge", *plain]
    rows: list[object] = ["--rows", 30, "--row-length", 128]
    tagging = [*training_data(out), *tokenizer, "--workers", workers]
    rounds = [out / "tags-first", out / "tags-second", out / "tags-third", out / "tags"]

    def step(name: str, minutes: float, output: str, program: str, *arguments: object) -> Step:
        return Step(name, minutes, out / output, script(program, *arguments))

    return [
        step("tokenizer", 1, "tokenizer/tokenizer.json", "tokenizer.py", *corpora, *text, "--out", out / "tokenizer"),
        step("word2vec", 6, "vectors.safetensors", "embeddings.py", *corpora, *text, *tokenizer,
             "--out", out / "vectors.safetensors"),
        step("text", 1, "text.safetensors", "text.py", *corpora, *text, *tokenizer, "--share", 0.5,
             "--out", out / "text.safetensors"),
        # By steps and not minutes, like joint tagging, so that a slower machine ends with as good a model.
        step("masked words", 50 * share, "words/model.safetensors", "backbone.py", "words",
             "--data", out / "text.safetensors", *tokenizer, "--vectors", out / "vectors.safetensors",
             "--dropout", 0.0, *rows, "--workers", workers,
             "--steps", share_of(5200, share), "--out", out / "words"),
        step("sentences without entities", 1, "negatives/ko.jsonl", "negatives.py", *corpora, *text,
             "--out", out / "negatives", "--held-out-dir", out / "prose"),
        step("knowledge", 1, "knowledge/zh/vectors.safetensors", "knowledge.py", *corpora, "--out", out / "knowledge"),
        step("plain text with names", 3, "positives/ko.jsonl", "positives.py", *corpora, *text,
             "--knowledge", out / "knowledge", "--out", out / "positives"),
        step("prompts", 5, "prepared/ko/train.full.safetensors", "prepare.py", *prompts, "--out", out / "prepared"),
        step("prompts with mentions swapped", 4, "swapped/ko/train.full.safetensors", "prepare.py", *prompts,
             "--swap", 0.7, "--out", out / "swapped"),
        *joint_tagging(out / "words", rounds, (137, 44, 78, 78), *tagging, share=share),
        step("model folder", 0.5, "model/retrieveall.yaml", "adapters.py", "create", *corpora, *tokenizer,
             "--backbone", out / "tags", "--knowledge", out / "knowledge", "--out", out / "model"),
        *(
            step(f"adapter {language}", 5, f"model/adapters/{language}/adapter_card.json",
                 "packed_adapters.py", "--model", out / "model", "--languages", language, *training_data(out),
                 "--passes", PASSES, *rows, "--out", out / f"adapter-{language}")
            for language in LANGUAGES
        ),
        step("strengths of adapters", 4, "strengths.json", "strengths.py", *corpora, "--model", out / "model",
             "--out", out / "strengths.json"),
        step("temperature, calibrations, scores", 2, "shipped/retrieveall.yaml", "finish.py", *corpora,
             "--sentences", 1000, "--model", out / "model", "--install", out / "shipped"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True, help="folder of LANG/train.tsv and validation.tsv")
    parser.add_argument("--lmtext", type=Path, required=True, help="folder of LANG.txt.xz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2, help="processes of the two longest steps, one a core")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of the longest trainings, to try all "
                        "of this out on a few sentences before it takes hours")  # fmt: skip
    parser.add_argument("--plan", action="store_true", help="print the steps and their cost, do nothing")
    args = parser.parse_args()
    for path in (args.panx, args.lmtext):
        if not path.is_dir():
            sys.exit(f"expected a folder at {path}, found none; give the corpora with --panx and --lmtext")
    if not 0 < args.share <= 1:
        parser.error(f"expected a --share above 0 and at most 1, got {args.share}")
    do(steps(args.panx, args.lmtext, args.out, args.workers, args.share), only_plan=args.plan)


if __name__ == "__main__":
    main()
