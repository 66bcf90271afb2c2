"""From corpora to a model folder: create one, train the adapters of its languages, add a language.

Each verb ends with one transaction: until then the folder is as it was, and what was trained waits in the run folder.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from retrieveall.adapters import AdapterCard, AdapterPool, LoraWeights
from retrieveall.config import BackboneConfig, ModelConfig, TrainingConfig, check_language, dump_yaml
from retrieveall.decoders import complete_config
from retrieveall.decoders.calibration import UNCALIBRATED, Calibration
from retrieveall.engines.local.backbone import is_encoder, load_backbone
from retrieveall.errors import InputError, LanguageError, ModelFolderError
from retrieveall.evaluation import evaluate
from retrieveall.evaluation.calibrate import calibration_of
from retrieveall.knowledge import KnowledgeBase
from retrieveall.model_folder import ADAPTERS, KNOWLEDGE, SETTINGS, ModelFolder
from retrieveall.pipeline import RetrieveAll
from retrieveall.storage import Transaction
from retrieveall.tokens import TokenCodec, load_tokenizer
from retrieveall.training.batches import ExampleBatches, LanguageExamples
from retrieveall.training.data import LanguageData, Progress, describe
from retrieveall.training.divergence import Divergence
from retrieveall.training.finished import added, model_key, run_key, trained
from retrieveall.training.loop import fit
from retrieveall.training.loss import PredictionLoss
from retrieveall.training.progress import report_scores
from retrieveall.training.session import Session
from retrieveall.training.validation import best_scaling

__all__ = [
    "FEW_STEPS",
    "Fitted",
    "LanguageData",
    "Progress",
    "Scores",
    "Training",
    "add_language",
    "already_added",
    "already_trained",
    "create_model",
    "prepare",
    "settings_for",
    "train",
]

_EPOCHS = 20.0
_PASSES = 10_000  # sentences, counted once a pass, that a small language is trained on
_SMALL = 1_000  # sentences below which batches are small, so that there are more steps
_SMALL_BATCH = 2
_SMALL_ROW = 128  # tokens; the examples of a few prompts
_TOGETHER = "mul"  # ISO 639-2 for several languages: the adapter of all of them, while they train one
FEW_STEPS = 50
"""Steps of a language below which hardly anything is learnt."""


def create_model(
    folder: Path,
    config: ModelConfig,
    data: Mapping[str, LanguageData],
    *,
    backbone: Path | None = None,
    knowledge: KnowledgeBase | None = None,
    progress: Progress | None = None,
) -> ModelFolder:
    """A model folder with settings and knowledge, without adapters.

    Args:
        backbone: a local model to copy into the folder; without it ``config.backbone`` stays a path or hub id.
        knowledge: a base that is already built over ``data``.

    Raises:
        ModelFolderError: ``folder`` is in use; the backbone cannot be loaded.
        ConfigError: the backbone's tokenizer cannot give every tag a token; for a generating model, it has no end
            token or cannot write the labels; it has no chat template where ``prompt.chat`` asks for one.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ModelFolderError(f"expected a new or empty folder for the model, {folder} has files; choose another")
    if backbone is not None:
        config = config.model_copy(
            update={"backbone": config.backbone.model_copy(update={"path": str(backbone.resolve()), "revision": None})}
        )
    if is_encoder(config, None):
        config = config.model_copy(update={"decoder": config.decoder.for_encoder()})
    load_backbone(config, None)  # to fail here and not after hours
    codec = TokenCodec(load_tokenizer(config.backbone, None), config.decoder.spacing)
    config = complete_config(config, codec)
    if knowledge is None:
        pools = {language: of.pool for language, of in data.items()}
        knowledge = KnowledgeBase.build(pools, config.retrieval.encoder, progress)
    with Transaction(folder) as transaction:
        if backbone is not None:
            target = transaction.replace_folder("backbone")
            for path in sorted(backbone.iterdir()):
                if path.suffix in {".json", ".safetensors", ".txt", ".model", ".jinja"}:
                    shutil.copyfile(path, target / path.name)
            inside = config.backbone.model_copy(update={"path": BackboneConfig().path})
            config = config.model_copy(update={"backbone": inside})
        transaction.path(SETTINGS).write_text(dump_yaml(config), encoding="utf-8")
        knowledge.write_files(transaction.replace_folder(KNOWLEDGE))
    return ModelFolder.open(folder)


def train(
    folder: Path,
    data: Mapping[str, LanguageData],
    config: TrainingConfig,
    run_folder: Path,
    *,
    device: str | None = None,
    progress: Progress | None = None,
    show_bar: bool = True,
    warn: Callable[[str], None] | None = None,
    knowledge: KnowledgeBase | None = None,
) -> dict[str, float]:
    """Train one adapter for each language of ``data`` and put them into the model folder.

    Epochs and batch size that ``config`` does not set are chosen by the number of sentences, see ``settings_for``.
    ``warn`` is told before training begins if there are too few steps to learn from.

    The languages' knowledge must be there already (``create_model``, ``add_language``). Adapters of other languages
    are not touched. Stopped at any moment and called again with the same arguments, it goes on from the last
    checkpoint in ``run_folder`` and ends with the same weights. Under ``accelerate launch`` or ``torchrun`` all
    processes call this alike; the first one writes.

    Args:
        knowledge: retrieve from this base and not from the folder's own, for experiments.

    Returns:
        The validation F1 of each language, 0 to 1, with the gold language.

    Raises:
        LanguageError: a language without knowledge in the folder.
        InputError: a label that the model does not have; no sentences.
        DataError: ``run_folder`` belongs to a run with other settings, data, knowledge or another backbone.
    """
    training = _opened(folder, data, config, run_folder, device, knowledge)
    fitted = training.fit(progress, show_bar, warn)
    training.commit(lambda transaction: fitted.save(transaction.replace_folder))
    return dict(fitted.scores)


def prepare(
    folder: Path,
    data: Mapping[str, LanguageData],
    config: TrainingConfig,
    run_folder: Path,
    *,
    progress: Progress | None = None,
    knowledge: KnowledgeBase | None = None,
) -> None:
    """Make the training examples in ``run_folder``, from which ``train`` with the same arguments goes on.

    Retrieval takes a CPU as long as some GPUs take to train.

    Raises:
        LanguageError, InputError, DataError: as ``train``.
    """
    _opened(folder, data, config, run_folder, "cpu", knowledge).examples(progress)


def add_language(
    folder: Path,
    language: str,
    data: LanguageData,
    config: TrainingConfig,
    run_folder: Path,
    *,
    device: str | None = None,
    progress: Progress | None = None,
    show_bar: bool = True,
) -> Scores:
    """Add a language: index its sentences, train its adapter, and put both into the folder as one change.

    No file of another language is written. Epochs that ``config`` does not set are chosen by the number of
    sentences, see ``settings_for``.

    Returns:
        Its validation F1 with the gold language and as routed among all languages of the model.

    Raises:
        LanguageError: no identifier, or a language that the model has already.
        InputError: a label that the model does not have; no sentences.
    """
    check_language(language)
    model = ModelFolder.open(folder)
    knowledge = model.knowledge()
    if language in model.languages():
        raise LanguageError(
            f"the model has the language {language!r} already; "
            f"remove it first with: retrieveall remove-language {language} --model {shlex.quote(str(folder))}"
        )
    if language in knowledge.languages:
        raise LanguageError(
            f"the model has the sentences of {language!r} but no adapter, its training did not finish; repeat the "
            "command that began it, or remove it first with: "
            f"retrieveall remove-language {language} --model {shlex.quote(str(folder))}"
        )
    if not data.train:
        raise InputError(f"expected training sentences of {language!r}, got none")
    if progress is not None:
        progress(f"indexing {language}", 0, len(data.pool))
    knowledge.add_language(language, data.pool)
    config = settings_for(config, len(data.train))
    training = Training(model, knowledge, {language: data}, config, run_folder, device)
    fitted = training.fit(progress, show_bar)

    def save(transaction: Transaction) -> None:
        fitted.save(transaction.replace_folder)
        knowledge.save_language(language, transaction.replace_folder(f"{KNOWLEDGE}/{language}"))

    training.commit(save)
    steps = training.steps
    if language not in fitted.scores or not training.processes.main:
        return Scores(fitted.scores.get(language), None, steps)
    routed = evaluate(
        RetrieveAll.from_pretrained(folder, device=device),
        {language: data.validation[: config.calibration_sentences]},
        seen_texts=(),
    )
    return Scores(fitted.scores[language], routed.languages[language].f1, steps)


def already_trained(
    folder: Path, data: Mapping[str, LanguageData], config: TrainingConfig, *, apart: bool = False
) -> dict[str, float | None] | None:
    """The validation F1 of each language, if ``train`` with these arguments would give the adapters that are there.

    Args:
        apart: each language as a run of its own (``train_pool``).
    """
    runs = [{language: own} for language, own in data.items()] if apart else [data]
    found = [trained(folder, run, _settings_of(config, run)) for run in runs]
    if any(scores is None for scores in found):
        return None
    return {language: f1 for scores in found if scores is not None for language, f1 in scores.items()}


def already_added(folder: Path, language: str, data: LanguageData, config: TrainingConfig) -> bool:
    """Whether ``add_language`` has added these sentences with these settings."""
    return added(folder, language, data, settings_for(config, len(data.train)))


@dataclass(frozen=True, slots=True)
class Scores:
    """Validation F1 of a language, 0 to 1; None without validation sentences.

    ``told``: with the gold language. ``routed``: as the model is used. ``steps``: optimiser steps that were trained.
    """

    told: float | None
    routed: float | None
    steps: int


def settings_for(config: TrainingConfig, sentences: int) -> TrainingConfig:
    """``config`` with epochs and batch size for so many sentences of a language, unless it sets epochs or steps.

    Three passes over a hundred sentences are 15 steps, in which little is learnt. A small language is passed over more
    often, up to ``_EPOCHS`` times, in smaller batches of shorter rows unless it sets their size, too.
    """
    if {"epochs", "steps"} & config.model_fields_set:
        return config
    changes: dict[str, float] = {"epochs": min(_EPOCHS, max(config.epochs, _PASSES / max(sentences, 1)))}
    if sentences < _SMALL and not {"batch_size", "row_length"} & config.model_fields_set:
        changes |= {"batch_size": _SMALL_BATCH, "row_length": _SMALL_ROW}
    return config.model_copy(update=changes)


@dataclass(frozen=True)
class Fitted:
    """Trained adapters with their cards, and the validation F1 of each language, 0 to 1, where there was some."""

    adapters: Mapping[str, tuple[LoraWeights, AdapterCard]]
    scores: Mapping[str, float] = field(default_factory=dict)

    def save(self, new_folder: Callable[[str], Path]) -> None:
        """Write every adapter with its card to ``new_folder(its place in the model folder)``."""
        for language, (weights, card) in self.adapters.items():
            AdapterPool.save(new_folder(f"{ADAPTERS}/{language}"), weights, card)


class Training(Session):
    """One run over one model folder, from knowledge to adapters in memory."""

    def fit(self, progress: Progress | None, show_bar: bool, warn: Callable[[str], None] | None = None) -> Fitted:
        """Make the examples, train, choose the scaling of each adapter, calibrate."""
        self.report_beginning()
        together = self.config.together if len(self.languages) > 1 else 0.0
        self.bank.trainable([_TOGETHER] if together else self.languages, self.config.lora, self.config.seed)
        parts = self.examples(progress)
        batches = self.batches_of_run = self.batches(parts, separate=True, config=_share(self.config, 1 - together))
        if warn is not None and self.processes.main and (warning := self._too_few(len(parts))):
            warn(warning)
        languages = [part.language for part in parts]
        module = self.module([_TOGETHER] * len(parts) if together else languages)
        if together:
            self._learn_together(parts, module, show_bar)
            module.languages = tuple(languages)
        self._learn(batches, module, show_bar)
        module.eval()
        divergence = Divergence.of(self.config, self.run_folder, module)
        with divergence.scoring():
            return self._finish(divergence)

    @property
    def steps(self) -> int:
        """Optimiser steps of the run."""
        return len(self.batches_of_run) // self.config.gradient_accumulation

    def _learn_together(self, parts: Sequence[LanguageExamples], module: PredictionLoss, show_bar: bool) -> None:
        """Train one adapter on all languages; each then begins with a copy of it."""
        # Other batches than those that follow, which may be fewer than the sentences.
        config = _share(self.config, self.config.together).model_copy(update={"seed": self.config.seed + 1})
        fit(
            module,
            self.batches(parts, separate=False, config=config),
            config,
            self.run_folder / "together",
            groups=[{"params": self.bank.parameters_of(_TOGETHER)}],
            part=(0.0, self.config.together),
            device=self.device,
            show_bar=show_bar,
        )
        start = self.bank.export(_TOGETHER)
        self.bank.remove(_TOGETHER)
        self.bank.trainable(self.languages, self.config.lora, self.config.seed, start)

    def _too_few(self, languages: int) -> str | None:
        """What is wrong with the number of steps, if anything is."""
        steps = self.steps // languages
        if steps >= FEW_STEPS:
            return None
        sentences = sum(map(len, self.sentences.values())) // languages
        how = f"--set steps={FEW_STEPS * 4 * languages}, or --set batch_size=2 and more epochs"
        return (
            f"{sentences:,} sentences a language give {steps:,} steps of training; in fewer than {FEW_STEPS} hardly "
            f"anything is learnt: {how}, or more sentences"
        )

    def _learn(self, batches: ExampleBatches, module: PredictionLoss, show_bar: bool) -> None:
        validation = self.validation(self.config.validation_sentences)
        engine = self.engine()

        def evaluate() -> dict[str, float]:
            assert validation is not None
            scores = validation.run(engine, lambda language: {language: 1.0})
            return {language: score.counts.f1 for language, score in scores.items()}

        fit(
            module,
            batches,
            self.config,
            self.run_folder,
            groups=[{"params": self.bank.parameters_of(language)} for language in self.languages],
            evaluate=None if validation is None else evaluate,
            evaluate_after=batches.plan.ends[:-1],
            part=(self.config.together if len(self.languages) > 1 else 0.0, 1.0),
            device=self.device,
            show_bar=show_bar,
        )

    def _finish(self, divergence: Divergence) -> Fitted:
        """Scaling and calibration, on the weights as they will be on the disk."""
        validation, engine = self.validation(self.config.calibration_sentences), self.engine()
        trained = {language: _half(self.bank.export(language)) for language in self.languages}
        layers = (layer for weights in trained.values() for layer in weights.layers.values())
        divergence.check_weights((matrix for layer in layers for matrix in (layer.a, layer.b)), self.steps)
        scores: dict[str, float] = {}
        calibrations: dict[str, Calibration] = {}
        if validation is not None:
            scalings = best_scaling(validation, engine, self.languages, self.config.lora.scalings)
            trained = {language: weights.scaled(scalings[language]) for language, weights in trained.items()}
            for language, weights in trained.items():
                self.bank.add(language, weights)
            found = validation.run(engine, lambda language: {language: 1.0})
            scores = {language: score.counts.f1 for language, score in found.items()}
            calibrations = {language: calibration_of(score.judged) for language, score in found.items()}
            if self.processes.main:
                report_scores(scores)
        return Fitted(
            {
                language: (
                    weights,
                    self._card(language, weights, scores, calibrations.get(language, UNCALIBRATED)),
                )
                for language, weights in trained.items()
            },
            scores,
        )

    @cached_property
    def _origin(self) -> dict[str, str]:
        """By which it is known again that this very run has ended."""
        key = run_key(self.config, self.sentences, self._held_out)
        return {"run": key, "model": model_key(self.model.path)}

    def _card(
        self, language: str, weights: LoraWeights, scores: Mapping[str, float], calibration: Calibration
    ) -> AdapterCard:
        return AdapterCard(
            language=language,
            labels=self.model.config.label_names,
            template=self.model.config.prompt.template,
            backbone_fingerprint=self.fingerprint,
            rank=weights.shape.rank,
            alpha=weights.shape.alpha,
            created=datetime.now(UTC).strftime("%Y-%m-%d"),
            data=describe(self.sentences[language]) | self._origin,
            scores={"validation_f1": round(scores[language], 4)} if language in scores else {},
            calibration=calibration,
        )

    def commit(self, save: Callable[[Transaction], None]) -> None:
        """Change the model folder as one, in the main process, while the others wait."""
        with self.processes.main_first():
            if self.processes.main:
                with Transaction(self.model.path) as transaction:
                    save(transaction)


def _opened(
    folder: Path,
    data: Mapping[str, LanguageData],
    config: TrainingConfig,
    run_folder: Path,
    device: str | None,
    knowledge: KnowledgeBase | None,
) -> Training:
    """The run of ``train``, with epochs and batch size that suit the mean number of sentences of a language."""
    model = ModelFolder.open(folder)
    config = _settings_of(config, data)
    return Training(model, knowledge or model.knowledge(), data, config, run_folder, device)


def _settings_of(config: TrainingConfig, data: Mapping[str, LanguageData]) -> TrainingConfig:
    return settings_for(config, sum(len(of.train) for of in data.values()) // max(1, len(data)))


def _share(config: TrainingConfig, share: float) -> TrainingConfig:
    """The settings with a share of the epochs or steps."""
    steps = None if config.steps is None else max(1, round(config.steps * share))
    return config.model_copy(update={"epochs": config.epochs * share, "steps": steps})


def _half(weights: LoraWeights) -> LoraWeights:
    """float16 on disk: half the size, and three digits are more than a trained adapter has."""
    layers = {name: replace(layer, a=layer.a.half(), b=layer.b.half()) for name, layer in weights.layers.items()}
    return replace(weights, layers=layers)
