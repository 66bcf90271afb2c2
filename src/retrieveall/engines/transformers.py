"""The engine that runs a Hugging Face causal language model in this process, on CPU or GPU, with the adapter bank.

Knows token ids, masks and adapters by name; knows nothing of retrieval, votes or entities.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieveall.adapters import AdapterPool, backbone_fingerprint
from retrieveall.adapters.bank import AdapterBank
from retrieveall.config import ModelConfig
from retrieveall.decoding import TagSet
from retrieveall.engines.base import Generated, GenerateRequest, TagRequest
from retrieveall.engines.compact import CompactLlama, load_compact
from retrieveall.engines.encoding import EncodedInput, TokenCodec, encode_input, encode_question
from retrieveall.engines.heads import check_head, finish_logits
from retrieveall.engines.loading import loading_options
from retrieveall.engines.patterns import check_patterns
from retrieveall.errors import ConfigError, InputError, ModelFolderError, UnsafeFileError
from retrieveall.prompts import ChatFrame, Piece
from retrieveall.storage import check_safetensors, read_json, refuse_unsafe_weights
from retrieveall.types import Word

if TYPE_CHECKING:
    from retrieveall.engines.generation import AnswerWriter

__all__ = [
    "TransformersEngine",
    "attention_mask",
    "backbone_source",
    "choose_tag_tokens",
    "load_backbone",
    "read_tag_logits",
    "tag_token_ids",
]

# Small enough for the cache of one core; larger batches were no faster on a CPU and took 50 MB more.
_TOKENS_PER_BATCH = 1024
_MAX_TOKENIZER = 256 << 20  # bytes of a tokenizer.json; the largest in use have a tenth


def load_backbone(config: ModelConfig, folder: Path | None) -> tuple[Any, Any]:
    """The backbone named by ``config`` and its tokenizer, frozen and in evaluation mode.

    A path inside ``folder`` comes first, then any other local folder, then a hub id at ``config.backbone.revision``.
    Only safetensors are read, and no code that comes with a model is run.

    Raises:
        ModelFolderError: not found, malformed, or not a causal language model with a fast tokenizer.
        ConfigError: a kernel that cannot run here; for tags, an architecture whose logits cannot be read.
        MissingExtraError: 4 bits without bitsandbytes.
        UnsafeFileError: weights that would be unpickled, a configuration that asks for code or names another model,
            or a tokenizer that may take exponential time.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    source = backbone_source(config, folder)
    options: dict[str, Any] = {"trust_remote_code": False, "revision": config.backbone.revision or "main"}
    options |= loading_options(config)
    progress = logging.is_progress_bar_enabled()
    if Path(source).is_dir():
        logging.disable_progress_bar()  # a bar for a file read in a tenth of a second is noise
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, revision=options["revision"])
        model, loading = AutoModelForCausalLM.from_pretrained(
            source,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # whatever the library raises about a folder, the user needs one line with its name
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelFolderError(f"could not load the backbone {source}: {detail}") from error
    finally:
        if progress:
            logging.enable_progress_bar()
    if loading["missing_keys"]:  # the library would go on with random numbers
        raise ModelFolderError(
            f"the backbone {source} has no tensor {min(loading['missing_keys'])}; save or download it again"
        )
    if config.decoder.kind == "tagging":
        check_head(model.config)
    model.requires_grad_(False)
    return model.eval(), tokenizer


def _open_backbone(config: ModelConfig, folder: Path, device: torch.device) -> tuple[Any, Any]:
    """``load_backbone``, or for a small plain Llama on a CPU the same model without waiting for transformers."""
    # The compact model has neither causal attention nor a cache, and its tokenizer no chat template.
    plain = config.decoder.kind == "tagging" and not config.prompt.chat and config.backbone.quantization == "none"
    if plain and config.decoder.attention == "full" and device.type == "cpu":
        source = Path(backbone_source(config, folder))
        compact = load_compact(source, getattr(torch, config.backbone.dtype)) if source.is_dir() else None
        if compact is not None:
            return compact
    return load_backbone(config, folder)


def backbone_source(config: ModelConfig, folder: Path | None) -> str:
    """What to hand to transformers, after local files were checked."""
    named = config.backbone.path
    inside = folder / named if folder is not None and not Path(named).is_absolute() else None
    local = next((path for path in (inside, Path(named)) if path is not None and _is_folder(path)), None)
    if local is None:
        if os.sep in named.strip(os.sep) and not named.startswith((".", os.sep)) and named.count("/") == 1:
            return named  # "organisation/model": the hub
        raise ModelFolderError(
            f"expected the backbone in {str(inside or named)[:300]!r} or a hub id such as 'Qwen/Qwen2.5-7B', "
            "found neither; check backbone.path in retrieveall.yaml"
        )
    refuse_unsafe_weights(local)
    _refuse_detours(local)
    weights = sorted(local.glob("*.safetensors"))
    if not weights:
        raise ModelFolderError(f"expected *.safetensors in {local}, found none; save the model with safetensors")
    for path in weights:
        check_safetensors(path)
    return str(local)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no file system takes
        return False


def _refuse_detours(folder: Path) -> None:
    """Refuse files that would make the library load something else than ``folder``, or take for ever.

    Raises:
        UnsafeFileError: names the file and the remedy.
    """
    if (folder / "adapter_config.json").exists():
        raise UnsafeFileError(
            f"{folder / 'adapter_config.json'} would load another model in place of this one; move the adapter away"
        )
    if (folder / "config.json").exists():
        for key, value in read_json(folder / "config.json").items():
            # A name with a slash is a repository of compiled code.
            if key.endswith("_implementation") and "/" in str(value):
                raise UnsafeFileError(
                    f"{folder / 'config.json'} asks to fetch code ({key!r}), which is never done; remove the key"
                )
    if (folder / "tokenizer.json").exists():
        # Before it is loaded: adding tokens to a tokenizer already runs its normaliser.
        path = folder / "tokenizer.json"
        check_patterns(read_json(path, limit=_MAX_TOKENIZER), str(path))


def attention_mask(lengths: Tensor, longest: int, *, repeat: bool, dtype: torch.dtype = torch.float32) -> Tensor:
    """Which tokens each token sees, for rows padded on the right.

    With ``repeat`` the mask of causal attention, int64 [batch, longest]. Without, a mask to be added to the attention
    logits, [batch, 1, longest, longest]: 0 between the tokens of a row, very negative to padding, which sees itself.
    Transformers takes a four-dimensional mask as it is, which lifts the causal mask of any decoder.
    """
    inside = torch.arange(longest, device=lengths.device) < lengths[:, None]
    if repeat:
        return inside.long()
    itself = torch.eye(longest, dtype=torch.bool, device=lengths.device)
    seen = (inside[:, None, :].expand(-1, longest, -1) | itself)[:, None]
    return torch.zeros(seen.shape, dtype=dtype, device=lengths.device).masked_fill(~seen, torch.finfo(dtype).min)


def read_tag_logits(model: Any, ids: Tensor, mask: Tensor, reads: Tensor, tag_ids: Tensor | None) -> Tensor:
    """Logits of the tag tokens, float32 [reads, tags], at ``reads`` (positions in the flattened batch).

    Only the rows of the output embedding that belong to tag tokens are multiplied, not the whole vocabulary; all of
    them, [reads, vocabulary], where ``tag_ids`` is None.
    """
    if isinstance(model, CompactLlama) and len(reads):
        states = model.states_at(ids, mask, reads)
    else:
        states = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        states = states.flatten(0, 1)[reads]
    head = model.get_output_embeddings()
    rows = slice(None) if tag_ids is None else tag_ids
    logits = states @ head.weight[rows].T
    if getattr(head, "bias", None) is not None:
        logits = logits + head.bias[rows]
    return finish_logits(model.config, logits.float())


class TransformersEngine:
    """Runs tag requests in length-sorted batches; rows of one batch may use different adapters and mixtures.

    Args:
        config: of the model folder.
        folder: the model folder, for its backbone and adapters.
        device: "cpu", "cuda", "cuda:1"; the GPU is taken where there is one if None.

    Raises:
        InputError: no such device.
        ConfigError: tag tokens that the tokenizer does not have, a generating model without an end token, or prompts
            longer than the backbone can read.
        ModelFolderError: as ``load_backbone``.
    """

    def __init__(self, config: ModelConfig, folder: Path, *, device: str | None = None) -> None:
        self.config = config
        self.device = _device(device)
        self.model, tokenizer = _open_backbone(config, folder, self.device)
        _check_length(config, self.model)
        self.model.to(self.device)
        self.fingerprint = backbone_fingerprint(self.model)
        self.codec = TokenCodec(tokenizer, config.decoder.spacing)
        self.pool = AdapterPool(folder, self.fingerprint)
        self.bank = AdapterBank.attach(self.model, self.pool)
        self.writer = self._writer() if config.decoder.kind == "generation" else None
        tags = tag_token_ids(config, self.codec) if self.writer is None else []
        self.tag_ids = torch.tensor(tags, dtype=torch.long, device=self.device)
        self._repeat = config.decoder.attention == "repeat" and self.writer is None

    def refresh(self) -> None:
        """Let go of adapters that left the folder or may have changed there; they are loaded again when needed."""
        for language in self.bank.languages:
            self.bank.remove(language)

    def count(self, piece: Piece) -> int:
        return self.codec.count(piece)

    def count_words(self, words: Sequence[Word]) -> int:
        return sum(map(len, self.codec.words(words))) * (2 if self._repeat else 1)

    def _writer(self) -> AnswerWriter:
        from retrieveall.engines.generation import AnswerWriter

        return AnswerWriter(self.model, self.bank, self.codec, self.config)

    def chat_frame(self) -> ChatFrame | None:
        """What stands around the prompt; None without ``prompt.chat``."""
        return self.codec.chat_frame() if self.config.prompt.chat else None

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Generated]:
        """The answer to each request, in the order given.

        Raises:
            InputError: the model is one that tags.
            ModelFolderError: the model computes numbers that are not finite.
        """
        from retrieveall.engines.answering import read_answer
        from retrieveall.engines.generation import Question

        if self.writer is None:
            raise InputError("expected a generating model, this one tags words (decoder.kind); call tag")
        questions = [
            Question(encode_question(self.codec, each.prompt, each.words).ids, each.text, each.adapters)
            for each in requests
        ]
        written = self.writer.write(questions)
        labels, constrained = self.config.label_names, self.config.decoder.constrained
        return [
            read_answer(answer, each.text, labels, constrained=constrained)
            for answer, each in zip(written, requests, strict=True)
        ]

    def encode(self, request: TagRequest) -> EncodedInput:
        """The token ids of a request and where its words are read."""
        return encode_input(self.codec, request.prompt, request.words, repeat=self._repeat)

    def tag(self, requests: Sequence[TagRequest]) -> list[npt.NDArray[Any]]:
        """Log-probabilities float32 [words, tags] of each request, in the order given.

        Raises:
            InputError: the model is one that generates.
            ModelFolderError: the model computes numbers that are not finite.
        """
        if self.writer is not None:
            raise InputError("expected a model that tags words, this one generates (decoder.kind); call generate")
        logits = self.logits(requests)
        if not all(np.isfinite(rows).all() for rows in logits):
            raise ModelFolderError(
                "the model's scores contain NaN or infinity; set backbone.dtype to float32, or get the model again"
            )
        return [_log_softmax(rows / self.config.decoder.temperature) for rows in logits]

    def logits(self, requests: Sequence[TagRequest]) -> list[npt.NDArray[Any]]:
        """Logits float32 [words, tags] of each request before the temperature."""
        encoded = [self.encode(request) for request in requests]
        results: list[npt.NDArray[Any]] = [np.zeros((0, len(self.tag_ids)), dtype=np.float32)] * len(requests)
        for batch in self._batches(requests, encoded):
            logits = self._run([encoded[i] for i in batch], [requests[i].adapters for i in batch])
            for i, rows in zip(batch, logits, strict=True):
                results[i] = rows
        return results

    def _batches(self, requests: Sequence[TagRequest], encoded: Sequence[EncodedInput]) -> Iterator[list[int]]:
        """Indices in batches of about equal tokens: similar lengths, and inside a batch equal adapters, together."""
        order = sorted((i for i in range(len(encoded)) if encoded[i].reads), key=lambda i: len(encoded[i].ids))
        batch: list[int] = []
        for i in order:
            if batch and len(encoded[i].ids) * (len(batch) + 1) > _TOKENS_PER_BATCH:
                yield sorted(batch, key=lambda j: (sorted(requests[j].adapters.items()), j))
                batch = []
            batch.append(i)
        if batch:
            yield sorted(batch, key=lambda j: (sorted(requests[j].adapters.items()), j))

    @torch.inference_mode()
    def _run(self, rows: Sequence[EncodedInput], adapters: Sequence[Any]) -> list[npt.NDArray[Any]]:
        lengths = [len(row.ids) for row in rows]
        longest = max(lengths)
        ids = torch.full((len(rows), longest), self.codec.pad, dtype=torch.long)
        for b, row in enumerate(rows):
            ids[b, : len(row.ids)] = torch.tensor(row.ids)
        reads = torch.tensor([b * longest + read for b, row in enumerate(rows) for read in row.reads])
        mask = attention_mask(
            torch.tensor(lengths, device=self.device), longest, repeat=self._repeat, dtype=self.model.dtype
        )
        with self.bank.use(list(adapters)):
            logits = read_tag_logits(self.model, ids.to(self.device), mask, reads.to(self.device), self.tag_ids)
        counts = [len(row.reads) for row in rows]
        return [part.numpy() for part in torch.split(logits.cpu(), counts)]


def _check_length(config: ModelConfig, model: Any) -> None:
    longest = getattr(model.config, "max_position_embeddings", None)
    answer = config.decoder.max_answer_tokens if config.decoder.kind == "generation" else 0
    if longest is not None and config.prompt.max_tokens + answer > longest:
        beside = f" and decoder.max_answer_tokens is {answer}" if answer else ""
        raise ConfigError(
            f"prompt.max_tokens is {config.prompt.max_tokens}{beside}, the backbone reads at most {longest}; lower it"
        )


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        detail = str(error).splitlines()[0]
        raise InputError(f"expected a device such as 'cpu' or 'cuda:0', got {name!r}: {detail}") from None
    return device


def tag_token_ids(config: ModelConfig, codec: TokenCodec) -> list[int]:
    """Ids of the tag tokens in the order of the tag set.

    Raises:
        ConfigError: a tag without a token, or two tags with the same.
    """
    tags = TagSet(config.label_names).tags
    missing = [tag for tag in tags if tag not in config.decoder.tag_tokens]
    if missing:
        raise ConfigError(f"decoder.tag_tokens: expected a token for every tag, found none for {missing[0]}")
    ids = [codec.token_id(config.decoder.tag_tokens[tag]) for tag in tags]
    if len(set(ids)) != len(ids):
        raise ConfigError("decoder.tag_tokens: expected a different token for every tag, found one twice")
    return ids


def choose_tag_tokens(config: ModelConfig, codec: TokenCodec) -> dict[str, str]:
    """A token for every tag that has none: reserved ones (``<|tag0|>``...) where the tokenizer has them, else letters.

    Raises:
        ConfigError: the tokenizer has too few single-token candidates.
    """
    tags = TagSet(config.label_names).tags
    reserved = (f"<|tag{i}|>" for i in range(len(tags)))
    letters = (f"{sign}{a}{b}" for sign in (" ", "") for b in ("", *_ALPHABET) for a in _ALPHABET)
    chosen, taken = dict(config.decoder.tag_tokens), set[int]()
    taken.update(codec.token_id(token) for token in chosen.values())
    candidates = (token for source in (reserved, letters) for token in source)
    for tag in tags:
        while tag not in chosen:
            if (token := next(candidates, "")) == "":
                raise ConfigError("the tokenizer has too few single tokens for these labels; set decoder.tag_tokens")
            try:
                found = codec.token_id(token)
            except ConfigError:
                continue
            if found not in taken:
                chosen[tag] = token
                taken.add(found)
    return chosen


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _log_softmax(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    shifted = rows - rows.max(axis=1, keepdims=True) if len(rows) else rows
    result: npt.NDArray[Any] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
