"""GLiNER (Zaratiana et al. 2024, arXiv 2311.08526), tuned on given words; called as ``peer_programs`` says.

Standard library and GLiNER only. The settings that the options do not name are those of GLiNER's own
``config_finetune.yaml``: a cosine schedule, no focal loss, summed losses.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from gliner import GLiNER
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from transformers.models.auto import auto_factory, configuration_auto, tokenization_auto

FILES = ("*.json", "*.safetensors", "*.model", "*.txt")  # neither code nor anything that is unpickled


def peak_memory() -> float:
    """Of this process, in MB of 10^6 bytes, on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def forbid_code() -> None:
    """Refuse models that bring code: GLiNER loads its encoder with ``trust_remote_code``."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise SystemExit("expected a model without code of its own, got one with auto_map")

    for module in (auto_factory, configuration_auto, tokenization_auto):
        module.get_class_from_dynamic_module = refuse


def find_folder(path: str) -> Path:
    """The folder of a model, downloaded if it is a hub id."""
    try:
        folder = Path(path) if Path(path).is_dir() else Path(snapshot_download(path, allow_patterns=list(FILES)))
    except (OSError, HFValidationError) as error:  # errors of the hub and of the network are OSErrors
        sys.exit(f"could not load the model {path}: {' '.join(str(error).split())[:120]}; give a folder or a hub id")
    if not (folder / "model.safetensors").is_file():
        sys.exit(f"could not load the model {path}: expected model.safetensors in it")
    return folder


def load(folder: Path, settings: dict[str, Any]) -> Any:
    """A GLiNER model, or a new one over an encoder."""
    if settings["start"] == "gliner":
        if not (folder / "gliner_config.json").is_file():
            sys.exit(f"could not load the model {folder.name}: expected gliner_config.json; or set start: encoder")
        return GLiNER.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
    width = json.loads((folder / "config.json").read_bytes())["hidden_size"]
    config = {"model_name": str(folder), "hidden_size": width, "max_width": settings["max_width"], "max_len": 256}
    return GLiNER.from_config(config).float()  # an encoder stored in half precision stays in it otherwise


def names_of(settings: dict[str, Any]) -> dict[str, str]:
    """The words for each label."""
    return {label: settings["names"].get(label, label) for label in settings["labels"]}


def train(sentences: str, target: str, options: str) -> None:
    settings = json.loads(options)
    transformers.set_seed(settings["seed"])
    model = load(find_folder(settings["backbone"]), settings)
    lines = Path(sentences).read_text(encoding="utf-8").splitlines()
    examples = list(to_examples(map(json.loads, lines), names_of(settings)))
    model.train_model(
        examples,
        None,
        output_dir=f"{target}.run",
        learning_rate=settings["learning_rate"],
        others_lr=settings["others_learning_rate"],
        weight_decay=settings["weight_decay"],
        others_weight_decay=settings["weight_decay"],
        lr_scheduler_type="cosine",
        warmup_ratio=settings["warmup"],
        per_device_train_batch_size=settings["batch_size"],
        max_steps=settings["epochs"] * math.ceil(len(examples) / settings["batch_size"]),
        save_strategy="no",
        disable_tqdm=True,
        dataloader_num_workers=0,
        use_cpu=not torch.cuda.is_available(),
        seed=settings["seed"],
    )
    model.save_pretrained(target, safe_serialization=True)
    print(json.dumps({"memory_mb": peak_memory()}))


def to_examples(sentences: Iterator[dict[str, Any]], names: dict[str, str]) -> Iterator[dict[str, Any]]:
    """As GLiNER wants them: the last word of a span is part of it.

    Labels that a sentence does not have are its negatives, so that all are asked for, in another order in every pass. A
    fixed order would be learnt in place of the names.
    """
    for sentence in sentences:
        spans = [[first, last - 1, names[label]] for first, last, label in sentence["spans"]]
        absent = sorted(set(names.values()) - {name for *_, name in spans})
        yield {"tokenized_text": sentence["words"], "ner": spans, "ner_negatives": absent}


def predict(target: str, options: str) -> None:
    settings = json.loads(options)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = GLiNER.from_pretrained(target, local_files_only=True, map_location=device, dtype=torch.float32)
    labels = {name: label for label, name in names_of(settings).items()}
    for line in sys.stdin:
        spans = find(model, json.loads(line), labels, settings["threshold"])
        print(json.dumps({"spans": spans, "memory_mb": peak_memory()}), flush=True)


def find(model: Any, sentences: Sequence[dict[str, Any]], labels: dict[str, str], threshold: float) -> list[Any]:
    """The spans of each sentence, [first word, last + 1, label, probability]; the words are those given."""
    texts = ["".join(w + " " * s for w, s in zip(each["words"], each["spaces"], strict=True)) for each in sentences]
    words = {text: list(places(each)) for text, each in zip(texts, sentences, strict=True)}
    model.data_processor.words_splitter = words.__getitem__
    found = model.inference(texts, list(labels), threshold=threshold, batch_size=32)
    return [list(to_spans(entities, words[text], labels)) for text, entities in zip(texts, found, strict=True)]


def places(sentence: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Each word with its first and last character in the text."""
    start = 0
    for word, space in zip(sentence["words"], sentence["spaces"], strict=True):
        yield word, start, start + len(word)
        start += len(word) + space


def to_spans(
    entities: Sequence[dict[str, Any]], words: Sequence[tuple[str, int, int]], labels: dict[str, str]
) -> Iterator[list[Any]]:
    first = {start: number for number, (_, start, _) in enumerate(words)}
    last = {end: number + 1 for number, (_, _, end) in enumerate(words)}
    for each in entities:
        yield [first[each["start"]], last[each["end"]], labels[each["label"]], each["score"]]


if __name__ == "__main__":
    forbid_code()
    if sys.argv[1] == "train":
        train(*sys.argv[2:])
    else:
        predict(*sys.argv[2:])
