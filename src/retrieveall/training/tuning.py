"""Tuning all weights of a backbone for names, on the prompts of all languages together, before it has adapters."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from retrieveall.adapters import backbone_fingerprint
from retrieveall.config import BackboneConfig, TrainingConfig
from retrieveall.errors import ConfigError, ModelFolderError
from retrieveall.model_folder import ModelFolder
from retrieveall.storage import Transaction, write_atomic
from retrieveall.training.data import LanguageData, Progress
from retrieveall.training.divergence import Divergence
from retrieveall.training.loop import fit
from retrieveall.training.progress import report_scores
from retrieveall.training.session import Session

__all__ = ["parameter_groups", "tune_backbone"]

_BACKBONE = BackboneConfig().path
_TUNED = "tuned.json"
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")  # as encoders and decoders name their parameters


def tune_backbone(
    folder: Path,
    data: Mapping[str, LanguageData],
    config: TrainingConfig,
    run_folder: Path,
    *,
    device: str | None = None,
    progress: Progress | None = None,
    show_bar: bool = True,
) -> dict[str, float]:
    """Train all weights of the model's own backbone, and put them into the folder as one change.

    Resumes as ``train`` does; ``config.lora`` plays no part. Weights are trained in float32 and written in
    ``backbone.dtype``. With ``config.frozen_layers`` the lowest layers stay as they are, and with an
    ``embedding_rate`` of 0 the embeddings too; where both do, no gradient is computed below the first trained layer.

    Returns:
        The validation F1 of each language without an adapter, 0 to 1.

    Raises:
        ModelFolderError: the model has adapters, which would no longer fit.
        ConfigError: the backbone is not inside the folder, is quantised, is to be sharded, or has no more layers than
            are to be frozen.
        DataError, InputError, LanguageError: as ``train``.
    """
    model = ModelFolder.open(folder)
    _check(model, config)
    tuning = _Tuning(model, model.knowledge(), data, config, run_folder, device)
    if tuning.done is not None:
        return tuning.done
    scores = tuning.fit(progress, show_bar)
    with tuning.processes.main_first():
        if tuning.processes.main:
            tuning.commit(scores)
    return scores


def parameter_groups(backbone: Any, learning_rate: float, embedding_rate: float) -> list[dict[str, Any]]:
    """Groups for the optimiser: embeddings learn at a rate of their own and do not decay, since most are seen seldom.

    At the rate 0 they are in no group.

    Args:
        embedding_rate: learning rate of the embeddings, in multiples of ``learning_rate``.
    """
    embeddings = _embeddings(backbone)
    named = {id(parameter) for parameter in embeddings}
    others = [each for each in backbone.parameters() if each.requires_grad and id(each) not in named]
    groups: list[dict[str, Any]] = [{"params": others}]
    if embedding_rate:
        groups.insert(0, {"params": embeddings, "lr": learning_rate * embedding_rate, "weight_decay": 0.0})
    return groups


def _freeze(backbone: nn.Module, config: TrainingConfig) -> None:
    """Let only those weights have a gradient that ``config`` trains."""
    frozen = config.frozen_layers
    layers = {int(found[1]) for name, _ in backbone.named_parameters() if (found := _LAYER.search(name))}
    if frozen >= max(1, len(layers)):
        raise ConfigError(f"frozen_layers: expected less than the {len(layers)} layers of the backbone, got {frozen}")
    backbone.requires_grad_(True)
    for name, parameter in backbone.named_parameters():
        found = _LAYER.search(name)
        below = int(found[1]) < frozen if found else frozen > 0 and name.startswith("embeddings.")
        parameter.requires_grad_(not below)
    for embedding in _embeddings(backbone):
        embedding.requires_grad_(config.embedding_rate > 0)


def _embeddings(backbone: Any) -> list[nn.Parameter]:
    """The weights of the embeddings of tokens, read and scored."""
    embeddings = [backbone.get_input_embeddings().weight]
    head = backbone.get_output_embeddings()
    if head is not None and head.weight is not embeddings[0]:
        embeddings.append(head.weight)
    return embeddings


def _check(model: ModelFolder, config: TrainingConfig) -> None:
    backbone = model.config.backbone
    if model.languages():
        raise ModelFolderError(
            f"expected a model without adapters to tune its backbone, {model.path} has {', '.join(model.languages())}, "
            "which would no longer fit; remove them first, or make a new model"
        )
    if backbone.path != _BACKBONE or not (model.path / _BACKBONE).is_dir():
        raise ConfigError(
            f"expected the backbone inside the model folder to tune it, backbone.path is {backbone.path!r}; "
            "make the model with a local backbone, which is copied in"
        )
    if backbone.quantization != "none" or config.shard_backbone:
        raise ConfigError(
            "expected a backbone of full precision, whole in each process, to tune all of its weights; "
            "set backbone.quantization to 'none' and shard_backbone to false"
        )


class _Tuning(Session):
    """``done``: the scores of this very run, where its backbone is in the folder already."""

    def __init__(self, *args: Any) -> None:
        self.done: dict[str, float] | None = None
        super().__init__(*args)

    def check_run_folder(self, backbone: str) -> None:
        # Stopped after the folder has changed, the run is complete, and this is another backbone than it began with.
        try:
            said = json.loads((self.run_folder / _TUNED).read_bytes())
        except (OSError, ValueError):
            said = {}
        if said.get("backbone") == backbone:
            super().check_run_folder(said["began_with"])
            self.done = said["scores"]
        else:
            super().check_run_folder(backbone)

    def fit(self, progress: Progress | None, show_bar: bool) -> dict[str, float]:
        self.report_beginning()
        dtype = self.backbone.dtype
        self.backbone.float()
        _freeze(self.backbone, self.config)
        batches = self.batches(self.examples(progress), separate=False)
        module = self.module()
        validation, engine = self.validation(self.config.validation_sentences), self.engine()

        def evaluate() -> dict[str, float]:
            if validation is None:
                return {}
            scores = validation.run(engine, lambda language: {})
            return {language: score.counts.f1 for language, score in scores.items()}

        fit(
            module,
            batches,
            self.config,
            self.run_folder,
            groups=parameter_groups(self.backbone, self.config.learning_rate, self.config.embedding_rate),
            clip=[[each for each in self.backbone.parameters() if each.requires_grad]],
            evaluate=None if validation is None else evaluate,
            evaluate_after=batches.plan.ends[:-1],
            device=self.device,
            show_bar=show_bar,
        )
        module.eval()
        self.backbone.to(dtype)
        with Divergence.of(self.config, self.run_folder, module).scoring():
            scores = evaluate()
        if scores and self.processes.main:
            report_scores(scores)
        return scores

    def commit(self, scores: Mapping[str, float]) -> None:
        """Put the backbone into the model folder, and say so in the run folder."""
        said = {
            "backbone": backbone_fingerprint(self.backbone),
            "began_with": self.fingerprint,
            "scores": dict(scores),
        }
        write_atomic(self.run_folder / _TUNED, json.dumps(said, indent=1).encode())
        source = self.model.path / _BACKBONE
        with Transaction(self.model.path) as transaction:
            target = transaction.replace_folder(_BACKBONE)
            self.backbone.save_pretrained(target)
            for path in sorted(source.iterdir()):  # the tokenizer
                weights = path.name.endswith((".safetensors", ".safetensors.index.json"))
                if path.is_file() and not weights and not (target / path.name).exists():
                    shutil.copyfile(path, target / path.name)
