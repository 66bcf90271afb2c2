"""How a backbone is loaded: which implementation of attention, and in how many bits. Knows settings, no weights."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from retrieveall.config import ModelConfig
from retrieveall.errors import ConfigError, MissingExtraError

__all__ = ["loading_options"]


def loading_options(config: ModelConfig) -> dict[str, Any]:
    """Keyword arguments of transformers' ``from_pretrained`` besides the name and its revision.

    Raises:
        ConfigError: a kernel that cannot run this dtype, this attention or this machine.
        MissingExtraError: 4 bits without bitsandbytes.
    """
    options: dict[str, Any] = {"dtype": getattr(torch, config.backbone.dtype)}
    kernel = _kernel(config)
    if kernel is not None:
        options["attn_implementation"] = kernel
    if config.backbone.quantization == "4bit":
        options["quantization_config"] = _four_bits(config)
    return options


def _kernel(config: ModelConfig) -> str | None:
    """The name that transformers knows it by; None leaves the choice to transformers, which is SDPA where it can."""
    wanted = config.backbone.kernel
    full = config.decoder.kind == "tagging" and config.decoder.attention == "full"
    if wanted == "auto":
        # Measured: for sentences on a CPU plain batched products are a tenth faster than the fused kernel, which
        # works head by head.
        return "eager" if full and not torch.cuda.is_available() else None
    if wanted == "flash_attention_2":
        _check_flash(config, full)
    return wanted


def _check_flash(config: ModelConfig, full: bool) -> None:
    if full:
        raise ConfigError(
            "backbone.kernel flash_attention_2 cannot lift the causal mask as decoder.attention 'full' asks; "
            "use the kernel sdpa, or decoder.attention 'repeat'"
        )
    if config.backbone.dtype == "float32":
        raise ConfigError("backbone.kernel flash_attention_2 needs backbone.dtype bfloat16 or float16, got float32")
    if not torch.cuda.is_available() or find_spec("flash_attn") is None:
        raise ConfigError(
            "backbone.kernel flash_attention_2 needs a GPU and the package 'flash-attn', one of them is not here; "
            "install it, or use the kernel sdpa"
        )


def _four_bits(config: ModelConfig) -> Any:
    """NF4 with doubly quantised scales (arXiv 2305.14314), 4.13 bits a weight; products in the backbone's dtype.

    Embeddings, norms and the output embedding stay in the backbone's dtype.
    """
    for package in ("bitsandbytes", "accelerate"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "quantization", "backbone.quantization '4bit'")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, config.backbone.dtype),
    )
