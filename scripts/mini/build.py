"""The shipped model from the corpora, step by step; a step whose output is there is not done again.

    python scripts/mini/build.py --panx DIR --lmtext DIR --out runs/mini

Every long step keeps checkpoints: stop it at any moment and start it again. ``--plan`` only prints the steps.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
GROUPS = ("en,ja,fr,ko", "de,es,ru,zh")


@dataclass(frozen=True)
class Step:
    """A command, the file it leaves behind, and the minutes it took on one core of the machine of experiments.md."""

    name: str
    minutes: float
    output: str
    command: list[str]


def steps(panx: Path, lmtext: Path, out: Path) -> list[Step]:
    """All of it, in order."""
    corpora = ["--panx", str(panx)]
    text = ["--lmtext", str(lmtext)]
    tokenizer = ["--tokenizer", f"{out}/tokenizer"]

    def step(name: str, minutes: float, output: str, *command: str) -> Step:
        return Step(name, minutes, f"{out}/{output}", list(command))

    rows = ["--rows", "30", "--row-length", "128", "--dropout", "0.15"]
    tags = ["--steps", "3000", *rows, "--word-dropout", "0.08"]
    return [
        step("tokenizer", 2, "tokenizer/tokenizer.json", "tokenizer.py", *corpora, *text, "--out", f"{out}/tokenizer"),
        step("word2vec", 13, "vectors.safetensors", "embeddings.py", *corpora, *text, *tokenizer,
             "--out", f"{out}/vectors.safetensors"),
        step("text", 2, "text.safetensors", "text.py", *corpora, *text, *tokenizer, "--out", f"{out}/text.safetensors"),
        step("masked words", 20, "words/model.safetensors", "backbone.py", "words", "--data", f"{out}/text.safetensors",
             *tokenizer, "--vectors", f"{out}/vectors.safetensors", "--steps", "1000", "--out", f"{out}/words"),
        step("sentences without entities", 10, "negatives/zh.jsonl", "negatives.py", *corpora, *text,
             "--out", f"{out}/negatives", "--held-out-dir", f"{out}/prose"),
        step("knowledge", 1, "knowledge/zh/vectors.safetensors", "knowledge.py", *corpora, "--out", f"{out}/knowledge"),
        step("prompts", 12, "prepared/prepared.json", "prepare.py", *corpora, *tokenizer,
             "--knowledge", f"{out}/knowledge", "--negatives", f"{out}/negatives", "--out", f"{out}/prepared"),
        step("joint tagging", 40, "tags/model.safetensors", "backbone.py", "tags", "--start", f"{out}/words",
             "--data", f"{out}/prepared", *tokenizer, *tags, "--knowledge", "0.15", "0.4", "0.45",
             "--out", f"{out}/tags"),
        step("model folder", 0.5, "model/retrieveall.yaml", "adapters.py", "create", *corpora, *tokenizer,
             "--backbone", f"{out}/tags", "--knowledge", f"{out}/knowledge", "--out", f"{out}/model"),
        *(
            step(f"adapters {group}", 27, f"model/adapters/{group[:2]}/adapter_card.json", "adapters.py", "train",
                 *corpora, "--negatives", f"{out}/negatives", "--languages", group,
                 "--run", f"{out}/run-{group[:2]}", "--out", f"{out}/model")
            for group in GROUPS
        ),
        step("temperature", 1, "shipped/retrieveall.yaml", "finish.py", *corpora, "--model", f"{out}/model",
             "--install", f"{out}/shipped"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True, help="folder of LANG/train.tsv and validation.tsv")
    parser.add_argument("--lmtext", type=Path, required=True, help="folder of LANG.txt.xz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plan", action="store_true", help="print the steps and their cost, do nothing")
    args = parser.parse_args()
    for path in (args.panx, args.lmtext):
        if not path.is_dir():
            sys.exit(f"expected a folder at {path}, found none; give the corpora with --panx and --lmtext")
    todo = [step for step in steps(args.panx, args.lmtext, args.out) if not Path(step.output).exists()]
    print(f"{len(todo)} steps, about {sum(step.minutes for step in todo):.0f} minutes on one core:")
    for step in todo:
        print(f"  {step.minutes:5.1f} min  {step.name}")
    if args.plan:
        return
    for step in todo:
        print(f"== {step.name}", flush=True)
        started = time.monotonic()
        subprocess.run([sys.executable, str(HERE / step.command[0]), *step.command[1:]], check=True)
        print(f"== {step.name}: {(time.monotonic() - started) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
