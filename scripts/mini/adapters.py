"""Steps 5 and 6 of the shipped model: a model folder around the backbone, and its adapters.

    python scripts/mini/adapters.py create --panx DIR --backbone runs/mini/tags --knowledge runs/mini/knowledge --out M
    python scripts/mini/adapters.py train --panx DIR --negatives runs/mini/negatives --languages en,es --out M

Several ``train`` processes may run side by side with different languages: an adapter depends on its own language only.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from retrieveall.config import ModelConfig, TrainingConfig, load_yaml
from retrieveall.data import read_corpus
from retrieveall.knowledge import KnowledgeBase
from retrieveall.training.run import LanguageData, create_model, retrieve, train

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from machine import fast_bfloat16  # type: ignore[import-not-found]  # noqa: E402


def half_precision(source: Path, tokenizer: Path, target: Path) -> Path:
    """The backbone in bfloat16 on disk, half the size, with its tokenizer; what is trained on is what is shipped."""
    target.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(str(source / "model.safetensors")).items()}
    save_file(tensors, str(target / "model.safetensors"), {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["dtype"] = "bfloat16"
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    from tokenizers import Tokenizer

    Tokenizer.from_file(str(tokenizer / "tokenizer.json")).save(str(target / "tokenizer.json"), pretty=False)
    shutil.copyfile(HERE / "tokenizer_config.json", target / "tokenizer_config.json")
    return target


def report(what: str, done: int, total: int) -> None:
    if done % 8192 == 0 or done == total:
        print(f"{what} {done:,}/{total:,}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["create", "retrieve", "train"])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--knowledge", type=Path)
    parser.add_argument("--negatives", type=Path)
    parser.add_argument("--languages", default="en,es,fr,ru,de,zh,ja,ko")
    parser.add_argument("--sentences", type=int, help="training sentences a language; all if not given")
    parser.add_argument("--name", help="of the model")
    parser.add_argument("--no-knowledge", action="store_true", help="prompts without entity and context examples")
    parser.add_argument("--config", type=Path, default=HERE / "training.yaml")
    parser.add_argument("--run", type=Path, help="folder of checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    languages = args.languages.split(",")

    def read(language: str, split: str) -> list:
        return list(islice(read_corpus(args.panx / language / f"{split}.tsv", language=language), args.sentences))

    if args.task == "create":
        data = {language: LanguageData(read(language, "train")) for language in languages}
        backbone = half_precision(args.backbone, args.tokenizer, args.out.with_name(args.out.name + "-backbone"))
        config = load_yaml(ModelConfig, HERE / "retrieveall.yaml")
        if args.name:
            config = config.model_copy(update={"name": args.name})
        if args.no_knowledge:
            nothing = config.prompt.model_copy(update={"entity_examples": 0, "context_examples": 0})
            config = config.model_copy(update={"prompt": nothing})
        create_model(args.out, config, data, backbone=backbone, knowledge=KnowledgeBase.open(args.knowledge))
        return
    data = {}
    for language in languages:
        own = read(language, "train")
        extra = list(read_corpus(args.negatives / f"{language}.jsonl", language=language)) if args.negatives else []
        extra = extra[: len(own) // 8]
        data[language] = LanguageData([*own, *extra], read(language, "validation"), own)
    settings = load_yaml(TrainingConfig, args.config)
    if not fast_bfloat16():
        settings = settings.model_copy(update={"mixed_precision": "no"})
    if args.task == "retrieve":
        print(f"{retrieve(args.out, data, settings, args.run, progress=report):,} sentences")
        return
    scores = train(args.out, data, settings, args.run, device="cpu", show_bar=False, progress=report)
    for language, f1 in scores.items():
        print(f"{language}: validation F1 {f1:.4f}")


if __name__ == "__main__":
    main()
