"""A model folder opened for training: what training adapters and tuning a backbone have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from retrieveall.adapters import backbone_fingerprint
from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import TrainingConfig, dump_yaml
from retrieveall.decoders import make_decoder
from retrieveall.engines.local.backbone import check_length, load_backbone
from retrieveall.engines.local.engine import LocalEngine
from retrieveall.engines.local.forward import position_offset
from retrieveall.errors import ConfigError, InputError, LanguageError
from retrieveall.knowledge import KnowledgeBase
from retrieveall.model_folder import ModelFolder
from retrieveall.stages import Stages
from retrieveall.storage import write_atomic
from retrieveall.tokens import TokenCodec, load_tokenizer
from retrieveall.training import check_installed
from retrieveall.training.batches import ExampleBatches, LanguageExamples
from retrieveall.training.data import LanguageData, Progress, check_data, digest, in_language
from retrieveall.training.examples import cached_examples, encode_examples, examples_key, level_shares
from retrieveall.training.identity import Identity, check_identity, write_identity
from retrieveall.training.loss import PredictionLoss, add_dropout, compile_backbone, takes_packed_rows
from retrieveall.training.parallel import Processes
from retrieveall.training.progress import report_no_checkpoint
from retrieveall.training.shards import Shards, check_sharding
from retrieveall.training.validation import Validation

__all__ = ["Session"]


class Session:
    """One run over one model folder.

    Raises:
        LanguageError: a language without knowledge.
        InputError: a label that the model does not have; no sentences.
        DataError: ``run_folder`` belongs to another run.
    """

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
        check_data(data, model.config.label_names)
        self.model, self.config, self.run_folder, self.device = model, config, run_folder, device
        self.languages = sorted(data)
        self.sentences = {language: in_language(data[language].train, language) for language in self.languages}
        self._held_out = {language: in_language(data[language].validation, language) for language in self.languages}
        if not any(self.sentences.values()):
            raise InputError("expected training sentences, got none")
        self.processes = Processes.join(device)
        if config.shard_backbone:
            check_sharding(model.config.backbone, self.processes)
        self._knowledge = knowledge.fingerprint()
        settings = model.config
        self.codec = TokenCodec(load_tokenizer(settings.backbone, model.path), settings.decoder.spacing)
        self.decoder = make_decoder(settings, self.codec)
        self.stages = Stages(
            settings, knowledge, self.codec, frame=self.codec.chat_frame() if settings.prompt.chat else None
        )
        self._mask_token = self._find_mask_token()
        torch.manual_seed(config.seed)
        self.backbone = load_backbone(settings, model.path)
        check_length(settings, self.backbone)
        self.fingerprint = backbone_fingerprint(self.backbone)
        self.check_run_folder(self.fingerprint)
        self.bank = AdapterBank.attach(self.backbone)
        self.shards: Shards | None = None
        self.packed = config.packing and takes_packed_rows(self.backbone, settings.backbone.kernel)

    def examples(self, progress: Progress | None) -> list[LanguageExamples]:
        """What is trained on: read from the run folder, or made and kept there."""
        shares = level_shares(self.model.config, self.config.knowledge)
        total = sum(map(len, self.sentences.values()))
        done = 0
        parts = []
        with self.processes.main_first():  # the others read what it kept
            for language, sentences in self.sentences.items():

                def encode(sentences: Sequence[Any] = sentences, base: int = done) -> Any:
                    def report(some: int) -> None:
                        if progress is not None:
                            progress("retrieving knowledge", base + some, total)

                    return encode_examples(self.stages, self.decoder, sentences, list(shares), report)

                path = self.run_folder / "examples" / f"{language}.safetensors"
                key = examples_key(self.model.config, self.codec, self._knowledge, sentences)
                parts.append(LanguageExamples(language, cached_examples(path, key, list(shares), encode), shares))
                done += len(sentences)
        return [part for part in parts if len(part)]

    def batches(
        self, parts: Sequence[LanguageExamples], *, separate: bool, config: TrainingConfig | None = None
    ) -> ExampleBatches:
        """The batches of the run, or of a part of it with other settings.

        Raises:
            InputError: no sentence has a word.
            ConfigError: an example is longer than the backbone can read.
        """
        if not parts:
            raise InputError("expected training sentences with words, got none")
        longest = max(int(each.lengths.max()) for part in parts for each in part.examples.values())
        positions = getattr(self.backbone.config, "max_position_embeddings", None)
        readable = longest if positions is None else positions - position_offset(self.backbone)
        if longest > readable:
            raise ConfigError(
                f"expected training examples of at most {readable} tokens for this backbone, got {longest}; "
                "lower windows.words"
            )
        settings = self.model.config
        row_length = self.config.row_length or settings.prompt.max_tokens + settings.decoder.longest_answer
        return ExampleBatches(
            parts,
            config or self.config,
            self.processes,
            separate=separate,
            row_length=(max(row_length, longest) if self.config.compile else row_length) if self.packed else None,
            pad=self.codec.pad,
            mask_token=self._mask_token,
            fixed=self.config.compile and self.packed,
        )

    def module(self, languages: Sequence[str] = ()) -> PredictionLoss:
        """The module to train: the adapters of ``languages``, or without any the backbone itself."""
        add_dropout(self.backbone, self.config.dropout)
        if self.config.shard_backbone:
            self.shards = Shards(self.backbone, self.processes)
        if self.config.compile:
            compile_backbone(self.backbone)
        return PredictionLoss(
            self.backbone,
            self.bank,
            self.decoder.candidates,
            self.config,
            languages=languages,
            full_attention=self.model.config.decoder.full_attention,
            packed=self.packed,
            shards=self.shards,
        )

    def validation(self, sentences: int) -> Validation | None:
        """So many held-out sentences of each language; None where there are none."""
        some = [each for own in self._held_out.values() for each in own[:sentences]]
        if not some:
            return None
        uneven = nullcontext if self.shards is None else self.shards.uneven
        return Validation(self.stages, self.decoder, some, self.processes, uneven)

    def engine(self) -> LocalEngine:
        """The engine over the backbone and the bank as they are now."""
        return LocalEngine(
            self.backbone,
            self.bank,
            self.codec,
            full_attention=self.model.config.decoder.full_attention,
            forward=None if self.shards is None else self.shards.score,
        )

    def _find_mask_token(self) -> int | None:
        """The token that hides words, where some are to be hidden.

        Raises:
            ConfigError: the tokenizer has none.
        """
        if not self.config.word_dropout:
            return None
        tokenizer = self.codec.tokenizer
        found: int | None = tokenizer.backend.token_to_id("<|mask|>") if tokenizer.mask is None else tokenizer.mask
        if found is None:
            raise ConfigError(
                f"word_dropout is {self.config.word_dropout}, expected a tokenizer with a mask token to hide words, "
                "got one without; set it to 0"
            )
        return found

    def report_beginning(self) -> None:
        """Say so where a run that was begun before starts anew."""
        begun = any(self.run_folder.rglob("checkpoint-*/trainer_state.json"))
        if self._known_run and not begun and self.processes.main:
            report_no_checkpoint(self.run_folder, self.config.checkpoint_minutes)

    def check_run_folder(self, backbone: str) -> None:
        """Refuse the folder of another run, and say in a new one what it belongs to.

        Args:
            backbone: the fingerprint of what the run begins with.
        """
        sentences = (each for own in self.sentences.values() for each in own)
        # Data before settings, some of which depend on their number.
        identity: Identity = {
            "backbone": backbone,
            "number of sentences": {language: len(own) for language, own in self.sentences.items()},
            "texts or labels": digest(sentences),
            "settings of the model": self.model.config.model_dump(mode="json"),
            "training settings": self.config.identity(),
            "knowledge": self._knowledge,
            "number of processes": {"processes": self.processes.count},  # a step is another one with more of them
        }
        changed = {
            "settings of the model": self.model.config.model_dump(mode="json", exclude_defaults=True),
            "training settings": self.config.identity(changed=True),
        }
        with self.processes.main_first():
            self._known_run = check_identity(self.run_folder, identity, changed)
            if self.processes.main:
                write_identity(self.run_folder, identity)
                write_atomic(self.run_folder / "training.yaml", dump_yaml(self.config).encode())
