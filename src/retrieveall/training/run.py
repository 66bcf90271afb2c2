"""From corpora to a model folder: create one, train the adapters of its languages, add a language.

Each verb ends with one transaction: until then the folder is as it was, and what was trained waits in the run folder.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from retrieveall.adapters import AdapterCard, AdapterPool, LoraWeights, backbone_fingerprint
from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import (
    BackboneConfig,
    ModelConfig,
    TrainingConfig,
    check_language,
    dump_yaml,
)
from retrieveall.data import check_labels
from retrieveall.decoding import UNCALIBRATED, TagSet
from retrieveall.engines.encoding import TokenCodec
from retrieveall.engines.generation import AnswerWriter, answer_grammar
from retrieveall.engines.transformers import load_backbone, tag_token_ids
from retrieveall.errors import DataError, InputError, LanguageError, ModelFolderError
from retrieveall.knowledge import KnowledgeBase
from retrieveall.model_folder import ADAPTERS, KNOWLEDGE, SETTINGS, ModelFolder
from retrieveall.storage import Transaction, write_atomic
from retrieveall.training.dataset import TaggingDataset
from retrieveall.training.examples import Example, ExampleBuilder
from retrieveall.training.installed import check_installed
from retrieveall.training.model import TaggingModel
from retrieveall.training.parallel import Processes
from retrieveall.training.retrieved import retrieve_once
from retrieveall.training.shards import Shards, check_sharding
from retrieveall.training.suited import suited
from retrieveall.training.trainer import Fitted, fit_adapters
from retrieveall.types import Knowledge, Sentence

__all__ = ["LanguageData", "Progress", "Training", "add_language", "create_model", "retrieve", "train"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""


@dataclass(frozen=True)
class LanguageData:
    """The gold sentences of one language.

    ``knowledge`` are those that may be retrieved, ``train`` those that are trained on where they are not the same,
    for instance with sentences without entities added.
    """

    train: Sequence[Sentence]
    validation: Sequence[Sentence] = field(default_factory=tuple)
    knowledge: Sequence[Sentence] | None = None

    @property
    def pool(self) -> Sequence[Sentence]:
        return self.train if self.knowledge is None else self.knowledge


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
    config = suited(config)
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
) -> dict[str, float]:
    """Train one adapter for each language of ``data`` and put them into the model folder.

    The languages' knowledge must be there already (``create_model``, ``add_language``). Adapters of other languages
    are not touched. Stopped at any moment and called again with the same arguments, it goes on from the last
    checkpoint in ``run_folder`` and ends with the same weights. Under ``accelerate launch`` or ``torchrun`` all
    processes call this alike; the first one writes.

    Returns:
        The validation F1 of each language, 0 to 1, told the language.

    Raises:
        LanguageError: a language without knowledge in the folder.
        InputError: a label that the model does not have; no sentences.
        DataError: ``run_folder`` belongs to a run with other settings.
    """
    model = ModelFolder.open(folder)
    trained = Training(model, model.knowledge(), data, config, run_folder, device)
    fitted = trained.fit(progress, show_bar)
    trained.commit(lambda transaction: trained.save(transaction.replace_folder, fitted))
    return dict(fitted.scores)


def retrieve(
    folder: Path,
    data: Mapping[str, LanguageData],
    config: TrainingConfig,
    run_folder: Path,
    *,
    progress: Progress | None = None,
) -> int:
    """Only the first part of ``train``: find the knowledge of the training sentences and keep it in ``run_folder``.

    Returns:
        The number of sentences.
    """
    model = ModelFolder.open(folder)
    return len(Training(model, model.knowledge(), data, config, run_folder, "cpu").retrieve(progress))


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
) -> float:
    """Add a language: index its sentences, train its adapter, and put both into the folder as one change.

    No file of another language is written.

    Returns:
        Its validation F1, 0 to 1, told the language; 0 without validation sentences.

    Raises:
        LanguageError: no identifier, or a language that the model has already.
        InputError: a label that the model does not have; no sentences.
    """
    check_language(language)
    model = ModelFolder.open(folder)
    knowledge = model.knowledge()
    if language in {*model.languages(), *knowledge.languages}:
        raise LanguageError(
            f"the model has the language {language!r} already; "
            f"remove it first with: retrieveall remove-language {language}"
        )
    if not data.train:
        raise InputError(f"expected training sentences of {language!r}, got none")
    if progress is not None:
        progress(f"indexing {language}", 0, len(data.pool))
    knowledge.add_language(language, data.pool)
    trained = Training(model, knowledge, {language: data}, config, run_folder, device)
    fitted = trained.fit(progress, show_bar)

    def save(transaction: Transaction) -> None:
        trained.save(transaction.replace_folder, fitted)
        knowledge.save_language(language, transaction.replace_folder(f"{KNOWLEDGE}/{language}"))

    trained.commit(save)
    return fitted.scores.get(language, 0.0)


class Training:
    """One run over one model folder, from knowledge to adapters in memory."""

    def __init__(
        self,
        model: ModelFolder,
        knowledge: KnowledgeBase,
        data: Mapping[str, LanguageData],
        config: TrainingConfig,
        run_folder: Path,
        device: str | None,
    ) -> None:
        check_installed()
        missing = sorted(set(data) - set(knowledge.languages))
        if missing:
            raise LanguageError(f"no knowledge of {missing[0]!r} in the model; add it with: retrieveall add-language")
        self._model, self._data, self._config = model, data, config
        self._knowledge = knowledge
        self._languages = sorted(data)
        self._run_folder = run_folder
        self._device = device
        self._check_labels()
        self._processes = Processes.join(device)
        if config.shard_backbone:
            check_sharding(model.config.backbone, self._processes)
        with self._processes.main_first():
            self._check_run()
        torch.manual_seed(config.seed)
        self._backbone, tokenizer = load_backbone(model.config, model.path)
        self._codec = TokenCodec(tokenizer, model.config.decoder.spacing)
        self._fingerprint = backbone_fingerprint(self._backbone)
        self._bank = AdapterBank.attach(self._backbone)
        self._bank.trainable(self._languages, config.lora, config.seed)
        self._generates = model.config.decoder.kind == "generation"
        grammar = answer_grammar(model.config, self._codec, self._backbone) if self._generates else None
        self._builder = ExampleBuilder(model.config, knowledge, self._codec, grammar)
        self._tags = TagSet(model.config.label_names)

    def fit(self, progress: Progress | None, show_bar: bool) -> Fitted:
        """Retrieve, then train; what validation said of each language."""
        sentences = [sentence for language in self._languages for sentence in self._own(language)]
        if not sentences:
            raise InputError("expected training sentences, got none")
        with self._processes.main_first():  # the others read what it kept
            found = self.retrieve(progress)
        token = getattr(self._codec.tokenizer, "mask_token", None) or "<|mask|>"
        hidden = self._codec.tokenizer.backend_tokenizer.token_to_id(token)
        dataset = TaggingDataset(self._builder, sentences, found, self._config, hidden)
        settings = self._model.config
        tag_ids = None if self._generates else torch.tensor(tag_token_ids(settings, self._codec))
        module = TaggingModel(
            self._backbone,
            self._bank,
            tag_ids,
            self._languages,
            repeat=self._generates or settings.decoder.attention == "repeat",
            label_smoothing=self._config.label_smoothing,
            checkpointing=self._config.gradient_checkpointing,
            shards=Shards(self._backbone, self._processes) if self._config.shard_backbone else None,
        )
        writer = AnswerWriter(self._backbone, self._bank, self._codec, settings) if self._generates else None
        return fit_adapters(
            module,
            dataset,
            self._validation(),
            self._tags,
            self._config,
            self._run_folder,
            pad=self._codec.pad,
            temperature=settings.decoder.temperature,
            writer=writer,
            device=self._device,
            progress=show_bar,
        )

    def retrieve(self, progress: Progress | None) -> list[Knowledge]:
        """What leave-one-out retrieval finds for the training sentences of each language, in order."""
        found: list[Knowledge] = []
        total = sum(len(self._data[language].train) for language in self._languages)
        key = self._knowledge_key()
        for language in self._languages:
            base = len(found)

            def report(done: int, base: int = base) -> None:
                if progress is not None:
                    progress("retrieving knowledge", base + done, total)

            found += retrieve_once(
                self._run_folder / "knowledge" / f"{language}.jsonl",
                f"{key} {_describe(self._own(language))['sha256']}",
                self._own(language),
                lambda some: self._builder.knowledge_of(some, leave_out=True),
                report,
            )
        return found

    def _knowledge_key(self) -> str:
        """What retrieval depends on besides the sentence: its settings and the files of the knowledge base."""
        digest = hashlib.sha256(dump_yaml(self._model.config.retrieval).encode())
        digest.update(str(self._model.config.prompt.context_examples).encode())
        for language in self._knowledge.languages:
            for sentence in self._knowledge.sentences(language).texts:
                digest.update(sentence.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def commit(self, save: Callable[[Transaction], None]) -> None:
        """Change the model folder as one, in the main process, while the others wait."""
        with self._processes.main_first():
            if self._processes.main:
                with Transaction(self._model.path) as transaction:
                    save(transaction)

    def save(self, new_folder: Callable[[str], Path], fitted: Fitted) -> None:
        """Write every adapter with its card to ``new_folder(its place in the model folder)``."""
        for language in self._languages:
            weights = _half(self._bank.export(language))
            card = AdapterCard(
                language=language,
                labels=self._model.config.label_names,
                template=self._model.config.prompt.template,
                backbone_fingerprint=self._fingerprint,
                rank=self._config.lora.rank,
                alpha=self._config.lora.alpha,
                created=datetime.now(UTC).strftime("%Y-%m-%d"),
                data=_describe(self._own(language)),
                scores={"validation_f1": round(fitted.scores[language], 4)} if language in fitted.scores else {},
                calibration=fitted.calibrations.get(language, UNCALIBRATED),
            )
            AdapterPool.save(new_folder(f"{ADAPTERS}/{language}"), weights, card)

    def _own(self, language: str) -> list[Sentence]:
        """The training sentences of a language, labelled as such."""
        return [
            sentence if sentence.language == language else _in_language(sentence, language)
            for sentence in self._data[language].train
        ]

    def _validation(self) -> list[Example]:
        limit = self._config.validation_sentences
        sentences = [
            _in_language(sentence, language)
            for language in self._languages
            for sentence in self._data[language].validation[:limit]
        ]
        return list(self._builder.build(sentences, leave_out=False))

    def _check_labels(self) -> None:
        known = self._model.config.label_names
        for language in self._languages:
            own = (*self._data[language].train, *self._data[language].validation)
            check_labels(own, known, language, "relabel it, or train a model with that label")

    def _check_run(self) -> None:
        """A run folder belongs to one configuration, data set and model; resuming with another would mix two runs."""
        digest = hashlib.sha256(self._config.identity().encode())
        digest.update(dump_yaml(self._model.config).encode())
        if self._processes.count > 1:  # a step is another one with more of them
            digest.update(f"{self._processes.count} processes".encode())
        for language in self._languages:
            for sentence in self._own(language):
                digest.update(f"{language}\0{sentence.text}\0{sentence.entities}\0".encode("utf-8", "surrogatepass"))
        path = self._run_folder / "run.sha256"
        if path.is_file() and path.read_text().strip() != digest.hexdigest():
            raise DataError(
                f"{self._run_folder} holds a run with other settings or data; choose another run folder or remove it"
            )
        if not self._processes.main:
            return
        self._run_folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, digest.hexdigest().encode())
        write_atomic(self._run_folder / "training.yaml", dump_yaml(self._config).encode())


def _half(weights: LoraWeights) -> LoraWeights:
    """float16 on disk: half the size, and three digits are more than a trained adapter has."""
    layers = {name: replace(layer, a=layer.a.half(), b=layer.b.half()) for name, layer in weights.layers.items()}
    return replace(weights, layers=layers)


def _in_language(sentence: Sentence, language: str) -> Sentence:
    return Sentence(sentence.text, sentence.entities, language, sentence.id)


def _describe(sentences: Sequence[Sentence]) -> dict[str, int | str]:
    digest = hashlib.sha256()
    for sentence in sentences:
        digest.update(sentence.text.encode("utf-8", "surrogatepass") + b"\0")
    return {
        "sentences": len(sentences),
        "entities": sum(len(sentence.entities) for sentence in sentences),
        "sha256": digest.hexdigest(),
    }
