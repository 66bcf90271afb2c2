"""One forward pass of a backbone over rows of tokens: attention masks and scores of candidate tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrieveall.engines.local.compact import CompactLlama
from retrieveall.engines.local.four_bits import FourBitEmbedding
from retrieveall.engines.local.heads import finish_logits

__all__ = ["attention_mask", "output_embedding", "position_offset", "score_states", "score_tokens"]

_OFFSET_POSITIONS = {"camembert", "roberta", "xlm-roberta", "xlm-roberta-xl"}


def attention_mask(segments: Tensor, *, full: bool, packed: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    """The attention mask of a batch.

    Args:
        segments: int64 [batch, length], the sequence number of each token, 0 for padding on the right.
        full: full attention within a sequence, else causal attention.
        packed: rows hold several sequences.

    Returns:
        For causal attention over single sequences, int64 [batch, length]. Else a mask [batch, 1, length, length] to be
        added to the attention logits: 0 inside a sequence, very negative elsewhere. Transformers uses a
        four-dimensional mask unchanged, which replaces the causal mask of any decoder.
    """
    if not full and not packed:
        return (segments > 0).long()
    seen = segments[:, :, None] == segments[:, None, :]
    if not full:
        seen = seen.tril()
    seen = seen[:, None]
    return torch.zeros(seen.shape, dtype=dtype, device=segments.device).masked_fill(~seen, torch.finfo(dtype).min)


def output_embedding(model: Any) -> Any:
    """The layer whose rows score tokens; an encoder without a head scores with its input embeddings."""
    return model.get_output_embeddings() or model.get_input_embeddings()


def position_offset(model: Any) -> int:
    """The first position of a text: RoBERTa and its kin begin after the number of the padding token."""
    kind = getattr(model.config, "model_type", "")
    return int(model.config.pad_token_id) + 1 if kind in _OFFSET_POSITIONS else 0


def score_tokens(
    model: Any, ids: Tensor, mask: Tensor, positions: Tensor, candidates: Tensor | None, places: Tensor | None = None
) -> Tensor:
    """Logits float32 [positions, candidates] at ``positions``, indices into the flattened batch.

    Only the candidates' rows of the output embedding are multiplied; if None, all of them, for logits [positions,
    vocabulary]. ``places`` are position ids [batch, length] of packed rows.
    """
    if isinstance(model, CompactLlama) and len(positions):
        states = model.states_at(ids, mask, positions)
    else:
        options = {} if places is None else {"position_ids": places + position_offset(model)}
        states = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False, **options).last_hidden_state
        states = states.flatten(0, 1)[positions]
    return score_states(model, states, candidates)


def score_states(model: Any, states: Tensor, candidates: Tensor | None) -> Tensor:
    """Logits float32 [states, candidates] of states [states, width]; as ``score_tokens``."""
    head = output_embedding(model)
    if isinstance(head, FourBitEmbedding):
        assert candidates is not None  # an encoder does not write
        weight = head.rows(candidates)
    else:
        weight = head.weight if candidates is None else head.weight[candidates]
    logits = states @ weight.T
    if getattr(head, "bias", None) is not None:
        logits = logits + (head.bias if candidates is None else head.bias[candidates])
    return finish_logits(model.config, logits.float())
