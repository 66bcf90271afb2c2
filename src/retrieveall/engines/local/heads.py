"""Scaling and soft capping of logits, as some architectures apply them after the output embedding.

Tags are read from a few rows of the output embedding without the model's own ``forward``, so these steps are repeated
here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrieveall.errors import ConfigError

__all__ = ["check_head", "finish_logits"]

_KEYS = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
_NEUTRAL = (None, 0, 1)  # no limit, no factor
# The same key has different meanings (one architecture multiplies by what another divides by), so only architectures
# that were compared with their own forward are supported.
_SOFT_LIMIT = {"gemma2", "gemma3", "gemma3_text", "gemma3n_text", "vaultgemma"}
_DIVIDES = {"granite", "granitemoe", "granitemoeshared", "granitemoehybrid"}
_MULTIPLIES = {"cohere": "logit_scale", "cohere2": "logit_scale", "falcon_h1": "lm_head_multiplier"}


def check_head(config: Any) -> None:
    """Reject an architecture that changes its logits in an unsupported way.

    Raises:
        ConfigError: names the architecture and the key.
    """
    kind = getattr(config, "model_type", "")
    for key in _KEYS:
        if getattr(config, key, None) not in _NEUTRAL and not _known(kind, key):
            raise ConfigError(
                f"the backbone's architecture {kind!r} changes its logits ({key}) in a way that the tagging decoder "
                "does not support; use decoder.kind 'generation' or another backbone"
            )


def finish_logits(config: Any, logits: Tensor) -> Tensor:
    """Turn products with the output embedding, float32 of any shape, into the logits of the model's ``forward``."""
    kind = getattr(config, "model_type", "")
    if kind in _SOFT_LIMIT and (limit := config.final_logit_softcapping) not in _NEUTRAL:
        return torch.tanh(logits / float(limit)) * float(limit)
    if kind in _DIVIDES:
        return logits / float(config.logits_scaling)
    if kind in _MULTIPLIES:
        return logits * float(getattr(config, _MULTIPLIES[kind]))
    return logits


def _known(kind: str, key: str) -> bool:
    return (
        (key == "final_logit_softcapping" and kind in _SOFT_LIMIT)
        or (key == "logits_scaling" and kind in _DIVIDES)
        or _MULTIPLIES.get(kind) == key
    )
