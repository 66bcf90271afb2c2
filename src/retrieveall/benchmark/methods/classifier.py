"""Token classification: a linear layer over a backbone's states, tuned whole or by LoRA.

With an encoder this is how XLM-R is tuned for entities (Conneau et al. 2020; Devlin et al. 2019): the tag of a word is
read at its first token. With a causal language model whose mask is removed it is LS-unLLaMA (Li et al. 2023,
arXiv 2310.01208). The model sees the sentence alone: no prompt, no knowledge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrieveall.benchmark.methods.base import Found, InProcess, Job, repeated, to_entities
from retrieveall.config import ModelConfig, TaggingConfig, TrainingConfig
from retrieveall.data import segment, spans_to_tags, tags_to_spans, to_word_spans
from retrieveall.engines.local.backbone import ENCODERS, load_backbone
from retrieveall.engines.local.engine import choose_device
from retrieveall.engines.local.forward import attention_mask
from retrieveall.errors import ConfigError, MissingExtraError
from retrieveall.tokens import TokenCodec, load_tokenizer
from retrieveall.training.loop import fit
from retrieveall.types import Sentence, Word

__all__ = ["ClassifierRunner", "TagBatches", "WordTagger", "split_words"]

_WEIGHTS = "tagger.safetensors"
_BATCH_TOKENS = {"cpu": 2048}
_BATCH_TOKENS_ON_GPU = 32768


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a sentence that fits: token ids, the first token of each word, and its words in the sentence."""

    ids: list[int]
    reads: list[int]
    first: int
    tags: list[int]


def split_words(codec: TokenCodec, words: Sequence[Word], tags: Sequence[int], most: int) -> list[Piece]:
    """The pieces of a sentence, of at most ``most`` tokens each, the tokenizer's own at both ends included."""
    room = most - len(codec.bos) - len(codec.closing)
    pieces: list[Piece] = []
    ids: list[int] = []
    reads: list[int] = []
    first = 0

    def close(end: int) -> None:
        if reads:
            pieces.append(Piece(codec.bos + ids + codec.closing, list(reads), first, list(tags[first:end])))

    for number, own in enumerate(codec.words(words)):
        if ids and len(ids) + len(own) > room:
            close(number)
            ids, reads, first = [], [], number
        reads.append(len(codec.bos) + len(ids))
        ids = ids + list(own[:room])
    close(len(words))
    return pieces


class WordTagger(nn.Module):
    """A backbone without its head, and a linear layer in float32 that gives each word its tag.

    ``full_attention``: hand over a mask of four dimensions, which takes the place of a causal one.
    """

    def __init__(self, model: Any, tags: int, *, full_attention: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.full_attention = full_attention
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(model.config.hidden_size), tags, dtype=torch.float32)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, segments: Tensor, reads: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The mean cross-entropy over the words, and logits [words, tags].

        Args:
            ids: int64 [rows, length].
            segments: int64 [rows, length], 1 for a token, 0 for padding.
            reads: int64 [words], the words' first tokens in the flattened ids.
            labels: int64 [words].
        """
        options: dict[str, Any] = {}
        if self.full_attention:
            mask = attention_mask(segments, full=True, dtype=self.model.dtype)
            options["use_cache"] = False
        else:
            mask = segments
        states = self.model(input_ids=ids, attention_mask=mask, **options).last_hidden_state
        logits = self.head(self.dropout(states.flatten(0, 1)[reads].float()))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class TagBatches:
    """The batches of all epochs: pieces of similar length together, in an order that depends on seed and epoch."""

    def __init__(self, pieces: Sequence[Piece], config: TrainingConfig, pad: int) -> None:
        self._pieces, self._config, self._pad = pieces, config, pad
        size = config.batch_size
        self._by_epoch = -(-len(pieces) // size)
        total = config.steps * config.gradient_accumulation if config.steps else round(config.epochs * self._by_epoch)
        self._total = max(1, total)
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        epoch, place = divmod(number, self._by_epoch)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._plan(epoch)
        return collate([self._pieces[i] for i in self._epoch[1][place]], self._pad)

    def _plan(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self._config.seed, epoch])
        order = rng.permutation(len(self._pieces)).tolist()
        size = self._config.batch_size
        pool = 32 * size  # sorted by length inside of so many, which spares most of the padding
        batches = []
        for start in range(0, len(order), pool):
            some = sorted(order[start : start + pool], key=lambda i: len(self._pieces[i].ids))
            batches += [some[first : first + size] for first in range(0, len(some), size)]
        return [batches[i] for i in rng.permutation(len(batches))]


def collate(pieces: Sequence[Piece], pad: int) -> dict[str, Tensor]:
    """The arguments of ``WordTagger.forward``."""
    longest = max(len(piece.ids) for piece in pieces)
    ids = torch.full((len(pieces), longest), pad, dtype=torch.int64)
    segments = torch.zeros_like(ids)
    reads: list[int] = []
    for row, piece in enumerate(pieces):
        ids[row, : len(piece.ids)] = torch.tensor(piece.ids)
        segments[row, : len(piece.ids)] = 1
        reads += [row * longest + read for read in piece.reads]
    labels = [tag for piece in pieces for tag in piece.tags]
    return {"ids": ids, "segments": segments, "reads": torch.tensor(reads), "labels": torch.tensor(labels)}


class ClassifierRunner(InProcess):
    """Trains and runs a ``WordTagger`` on the languages of a job, all with the same weights."""

    def __init__(self, job: Job) -> None:
        assert job.training is not None
        self._job, self._method, self._config = job, job.method, job.training
        self._tags = ["O", *(f"{prefix}-{label}" for label in job.label_names for prefix in "BI")]
        self._number = {tag: number for number, tag in enumerate(self._tags)}
        backbone = job.required_backbone()
        # Both readings of the settings: an encoder has no other, and of a causal model the mask is lifted.
        decoder = TaggingConfig(attention="full")
        self._settings = ModelConfig(backbone=backbone, labels=job.labels, decoder=decoder)
        self._codec = TokenCodec(load_tokenizer(backbone, None), "as_is")
        self._module: WordTagger | None = None

    def fit(self) -> None:
        module = self._make(training=True)
        pieces = [
            piece
            for language, corpus in self._job.corpora.items()
            for sentence in repeated(corpus.train, self._job.at_least)
            for piece in self._pieces(sentence)
        ]
        batches = TagBatches(pieces, self._config, self._codec.pad)
        module.train()
        fit(module, batches, self._config, self._job.folder / "run", device=self._job.device, show_bar=False)
        self._save(module)

    def open(self) -> None:
        from safetensors.torch import load_file

        module = self._make(training=False)
        saved = load_file(str(self._job.folder / _WEIGHTS))
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name in saved:
                    parameter.copy_(saved.pop(name))
        if saved:
            raise ConfigError(f"{self._job.folder / _WEIGHTS}: expected tensors of this model, got {min(saved)}")
        self._module = module.eval()

    def predict(self, language: str, texts: Sequence[str]) -> list[Found]:
        assert self._module is not None
        sentences = [segment(text) for text in texts]
        pieces = [
            (number, piece)
            for number, words in enumerate(sentences)
            for piece in split_words(self._codec, words, [0] * len(words), self._method.max_tokens)
        ]
        rows: list[list[tuple[int, float]]] = [[(0, 1.0)] * len(words) for words in sentences]
        for batch in self._batches(pieces):
            best = self._best([piece for _, piece in batch])
            for number, piece in batch:
                length = len(piece.reads)
                rows[number][piece.first : piece.first + length], best = best[:length], best[length:]
        return [Found(self._entities(*each)) for each in zip(texts, sentences, rows, strict=True)]

    def trained_bytes(self) -> int:
        return (self._job.folder / _WEIGHTS).stat().st_size

    def _make(self, *, training: bool) -> WordTagger:
        torch.manual_seed(self._config.seed)
        loaded = load_backbone(self._settings, None)
        kind = loaded.config.model_type
        encoder = kind in ENCODERS
        if self._method.kind == "token_classification" and not encoder:
            raise ConfigError(
                f"{self._method.name}: expected an encoder ({', '.join(sorted(ENCODERS))}), got {kind}; "
                "use the method unmasked_lm for a causal language model"
            )
        if self._method.kind == "unmasked_lm" and encoder:
            raise ConfigError(
                f"{self._method.name}: expected a causal language model, got {kind}; use token_classification"
            )
        base = loaded if encoder else loaded.base_model
        if self._method.weights == "lora":
            base = self._with_lora(base)
        elif training:
            base.float().requires_grad_(True)  # half precision loses small updates
        dropout = self._config.dropout
        module = WordTagger(base, len(self._tags), full_attention=not encoder, dropout=dropout)
        return module.to(choose_device(self._job.device))

    def _with_lora(self, base: Any) -> Any:
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            raise MissingExtraError("peft", "train", "LoRA of token classification") from None
        lora = self._config.lora
        modules = list(lora.target_modules)
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            use_rslora=lora.use_rslora,
            target_modules="all-linear" if modules == ["all-linear"] else modules,
        )
        return get_peft_model(base, config)

    def _pieces(self, sentence: Sentence) -> list[Piece]:
        words = segment(sentence.text)
        tags = spans_to_tags(to_word_spans(words, sentence.entities), len(words))
        numbers = [self._number[tag] for tag in tags]
        return split_words(self._codec, words, numbers, self._method.max_tokens)

    def _save(self, module: WordTagger) -> None:
        from safetensors.torch import save_file

        trained = {
            name: parameter.detach().cpu().contiguous()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        save_file(trained, str(self._job.folder / _WEIGHTS))

    def _batches(self, pieces: Sequence[tuple[int, Piece]]) -> Iterator[list[tuple[int, Piece]]]:
        device = choose_device(self._job.device).type
        limit = _BATCH_TOKENS.get(device, _BATCH_TOKENS_ON_GPU)
        batch: list[tuple[int, Piece]] = []
        for each in sorted(pieces, key=lambda each: len(each[1].ids)):
            if batch and len(each[1].ids) * (len(batch) + 1) > limit:
                yield batch
                batch = []
            batch.append(each)
        if batch:
            yield batch

    @torch.inference_mode()
    def _best(self, pieces: Sequence[Piece]) -> list[tuple[int, float]]:
        """The most probable tag of each word with its probability."""
        assert self._module is not None
        device = self._module.head.weight.device
        batch = {name: tensor.to(device) for name, tensor in collate(pieces, self._codec.pad).items()}
        found = self._module(**batch)["logits"].softmax(dim=1).max(dim=1)
        return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))

    def _entities(self, text: str, words: Sequence[Word], row: Sequence[tuple[int, float]]) -> Any:
        """Tags as entities, read as conlleval does; the probability is the product over the words of an entity."""
        spans = tags_to_spans([self._tags[number] for number, _ in row])
        probabilities = [float(np.prod([row[i][1] for i in range(first, last)])) for first, last, _ in spans]
        return to_entities(text, words, spans, probabilities)
