"""What the machine that builds the model can do."""

from __future__ import annotations

import torch

__all__ = ["fast_bfloat16"]


def fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; one that does not is ten times slower with it than without."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
