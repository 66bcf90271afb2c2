"""The generating decoder on the shipped small backbone, beside the tagging one: F1 and speed, as a markdown table.

    python scripts/generation.py --panx DIR --languages en,de --sentences 20000 --validation 1000 --out runs/generation

DIR holds ``LANG/train.tsv`` and ``LANG/validation.tsv``. The model folder, its checkpoints and the results are in OUT;
stopped and called again with the same arguments, it goes on where it was. That backbone has learnt to see the whole
sentence at once and never to write: ``--train-backbone EPOCHS`` first trains a copy of it, all of its weights, to write
the answers of all the languages.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

TEMPLATE = "mini-answer.v1"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True, help="folder of LANG/SPLIT.tsv files")
    parser.add_argument("--languages", default="en,es,fr,ru,de,zh,ja,ko")
    parser.add_argument("--sentences", type=int, help="training sentences of each language; all if left out")
    parser.add_argument("--validation", type=int, default=1000, help="sentences of each language to measure on")
    parser.add_argument("--source", default="mini", help="tagging model to compare with, whose backbone is taken")
    parser.add_argument("--train-backbone", type=float, default=0.0, metavar="EPOCHS")
    parser.add_argument("--epochs", type=float, default=1.0, help="of the adapters")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of the adapters")
    parser.add_argument("--backbone-learning-rate", type=float, default=5e-4)
    parser.add_argument("--mixed-precision", default="no", choices=("no", "bf16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def read(args: argparse.Namespace, split: str, count: int | None) -> dict[str, list[Any]]:
    from retrieveall.data import read_corpus

    return {
        language: list(islice(read_corpus(args.panx / language / f"{split}.tsv", language=language), count))
        for language in args.languages.split(",")
    }


def create(source: Path, target: Path) -> None:
    """A generating model without adapters over the backbone and the knowledge of ``source``."""
    from retrieveall.config import ModelConfig, dump_yaml, load_yaml
    from retrieveall.storage import Manifest

    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for name in ("backbone", "knowledge"):
        shutil.copytree(source / name, part / name)
    config = load_yaml(ModelConfig, source / "retrieveall.yaml")
    decoder = {"kind": "generation", "attention": "repeat", "tag_tokens": {}, "temperature": 1.0}
    update = {
        "name": "retrieveall-mini-generation",
        "prompt": config.prompt.model_copy(update={"template": TEMPLATE}),
        "decoder": config.decoder.model_copy(update=decoder),
    }
    (part / "retrieveall.yaml").write_text(dump_yaml(config.model_copy(update=update)), encoding="utf-8")
    Manifest.of(part).write()
    part.rename(target)


def train_backbone(args: argparse.Namespace, folder: Path, data: Mapping[str, Sequence[Any]]) -> None:
    """Train all weights of the folder's backbone to write the answers of all languages, without adapters."""
    import torch
    import torch.nn.functional as F
    from transformers import Trainer, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint

    from retrieveall.config import TrainingConfig
    from retrieveall.engines.encoding import TokenCodec
    from retrieveall.engines.generation import answer_grammar
    from retrieveall.engines.transformers import attention_mask, load_backbone, read_tag_logits
    from retrieveall.model_folder import ModelFolder
    from retrieveall.storage import Transaction
    from retrieveall.training.dataset import Collator, LengthSampler, TaggingDataset
    from retrieveall.training.examples import ExampleBuilder
    from retrieveall.training.retrieved import retrieve_once

    done = args.out / "backbone.done"
    if done.exists():
        return
    opened = ModelFolder.open(folder)
    model, tokenizer = load_backbone(opened.config, folder)
    codec = TokenCodec(tokenizer, opened.config.decoder.spacing)
    grammar = answer_grammar(opened.config, codec, model)
    builder = ExampleBuilder(opened.config, opened.knowledge(), codec, grammar)
    sentences = [replace(each, language=name) for name, own in data.items() for each in own]
    found = retrieve_once(
        args.out / "backbone-knowledge.jsonl",
        f"{args.panx} {args.languages} {args.sentences}",
        sentences,
        lambda some: builder.knowledge_of(some, leave_out=True),
    )
    settings = TrainingConfig(batch_size=64, word_dropout=0.05)
    hidden = tokenizer.backend_tokenizer.token_to_id("<|mask|>")

    class BackboneTrainer(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return LengthSampler(self.train_dataset, self.args.train_batch_size, self.args.seed)

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            ids = inputs["ids"]
            mask = attention_mask(inputs["lengths"], ids.shape[1], repeat=True)
            logits = read_tag_logits(model, ids, mask, inputs["reads"], None)
            loss = F.cross_entropy(logits, inputs["tags"], label_smoothing=0.05)
            return (loss, {"logits": logits}) if return_outputs else loss

    run = args.out / "backbone-run"
    trainer = BackboneTrainer(
        model=model.requires_grad_(True).train(),
        args=TrainingArguments(
            output_dir=str(run),
            num_train_epochs=args.train_backbone,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=args.backbone_learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            weight_decay=0.01,
            bf16=args.mixed_precision == "bf16",
            save_steps=200,
            save_total_limit=1,
            logging_steps=50,
            remove_unused_columns=False,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=TaggingDataset(builder, sentences, found, settings, hidden),
        data_collator=Collator(codec.pad, tuple(data)),
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(run)) if run.exists() else None)
    with Transaction(folder) as transaction:
        target = transaction.replace_folder("backbone")
        for path in (folder / "backbone").iterdir():
            if path.suffix != ".safetensors":
                shutil.copyfile(path, target / path.name)
        model.to("cpu", torch.bfloat16).save_pretrained(target)
    done.touch()


def fit(args: argparse.Namespace, folder: Path, train_data: Mapping[str, Any], held_out: Mapping[str, Any]) -> None:
    """Train the adapters that the model does not have yet."""
    from retrieveall.config import TrainingConfig
    from retrieveall.model_folder import ModelFolder
    from retrieveall.training.run import LanguageData, train

    missing = [name for name in train_data if name not in ModelFolder.open(folder).languages()]
    if not missing:
        return
    config = TrainingConfig.model_validate(
        {
            "lora": {"rank": args.rank, "alpha": 2.0 * args.rank, "dropout": 0.0},
            "epochs": args.epochs,
            "learning_rate": args.learning_rate,
            "word_dropout": 0.05,
            "label_smoothing": 0.05,
            "mixed_precision": args.mixed_precision,
            "validation_sentences": 100,
            "checkpoint_minutes": 3.0,
        }
    )
    data = {name: LanguageData(train_data[name], held_out[name]) for name in missing}
    train(folder, data, config, args.out / "run", progress=report)


def report(what: str, done: int, total: int) -> None:
    if done % 2560 == 0 or done == total:
        print(f"{what} {done:,}/{total:,}", file=sys.stderr, flush=True)


def overhead(model: Any, texts: Sequence[str], language: str, rows: int = 32) -> dict[str, float]:
    """Share of the time of generation that goes into the grammar, in batches of ``rows``."""
    writer = model.engine.writer
    rows = min(rows, len(texts))
    model.predict(texts[:rows], language=language)
    writer.seconds = dict.fromkeys(writer.seconds, 0.0)
    writer.passes = 0
    for first in range(0, len(texts) - rows + 1, rows):
        model.predict(texts[first : first + rows], language=language)
    passes = max(1, writer.passes)
    return {
        "rows": rows,
        "share": writer.seconds["grammar"] / max(1e-9, sum(writer.seconds.values())),
        "model_ms_per_pass": 1000 * writer.seconds["model"] / passes,
        "grammar_ms_per_pass": 1000 * writer.seconds["grammar"] / passes,
    }


def run(args: argparse.Namespace) -> None:
    from retrieveall import RetrieveAll
    from retrieveall.evaluation import Provenance, evaluate
    from retrieveall.model_folder import ModelFolder
    from retrieveall.storage import write_atomic

    args.out.mkdir(parents=True, exist_ok=True)
    folder = args.out / "model"
    create(ModelFolder.open(args.source).path, folder)
    train_data, held_out = read(args, "train", args.sentences), read(args, "validation", args.validation)
    if args.train_backbone:
        train_backbone(args, folder, train_data)
    fit(args, folder, train_data, held_out)

    models = {
        "tagging": RetrieveAll.from_pretrained(args.source),
        "generation": RetrieveAll.from_pretrained(folder, constrained=True),
        "generation, unconstrained": RetrieveAll.from_pretrained(folder, constrained=False),
    }
    reports = {}
    for name, model in models.items():
        for language, own in held_out.items():
            model.predict([each.text for each in own[:8]], language=language)  # warm
        reports[name] = evaluate(model, held_out, language="told", seen_texts=frozenset())
    some = next(iter(held_out))
    cost = overhead(models["generation"], [each.text for each in held_out[some]], some)
    lines = ["| decoder | " + " | ".join(held_out) + " | mean F1 | sentences/s |", "|---" * (len(held_out) + 3) + "|"]
    for name, one in reports.items():
        f1 = [100 * one.languages[language].f1 for language in held_out]
        seconds = sum(each.seconds for each in one.languages.values())
        speed = sum(each.sentences for each in one.languages.values()) / max(1e-9, seconds)
        cells = [name, *(f"{each:.1f}" for each in [*f1, sum(f1) / len(f1)]), f"{speed:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    free = reports["generation, unconstrained"].languages.values()
    answers = sum(one.sentences for one in free)
    faulty = {kind: sum(getattr(one.faults, kind) for one in free) for kind in ("malformed", "invented", "unknown")}
    result = {
        "data": f"{args.panx.name} validation, the first {args.validation} sentences of each language, language told",
        "arguments": {name: str(value) for name, value in vars(args).items()},
        "decoders": {name: one.to_dict() for name, one in reports.items()},
        "unconstrained_answers": {"answers": answers, **faulty},
        "grammar_overhead": cost,
        "provenance": asdict(Provenance.collect(models["generation"])),
    }
    write_atomic(args.out / "results.json", (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    print("\n".join(lines))
    print("\nUnconstrained answers with a fault: ", end="")
    print(", ".join(f"{100 * count / answers:.1f}% {kind}" for kind, count in faulty.items()))
    print(
        f"Grammar at batch {cost['rows']}: {100 * cost['share']:.1f}% of the step time "
        f"({cost['grammar_ms_per_pass']:.2f} ms of {cost['grammar_ms_per_pass'] + cost['model_ms_per_pass']:.2f} ms)"
    )


def main() -> int:
    args = parse()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    from retrieveall.errors import RetrieveAllError

    try:
        run(args)
    except RetrieveAllError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
