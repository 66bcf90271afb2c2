"""Loading options of a backbone: attention implementation and quantisation."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from retrieveall.config import ModelConfig
from retrieveall.errors import ConfigError, MissingExtraError

__all__ = ["loading_options"]


def loading_options(config: ModelConfig) -> dict[str, Any]:
    """Keyword arguments of transformers' ``from_pretrained``, except name and revision.

    Raises:
        ConfigError: a kernel that cannot run this dtype, this attention or this machine.
        MissingExtraError: 4-bit quantisation without bitsandbytes.
    """
    options: dict[str, Any] = {"dtype": getattr(torch, config.backbone.dtype)}
    kernel = _kernel(config)
    if kernel is not None:
        options["attn_implementation"] = kernel
    if config.backbone.quantization == "4bit":
        options["quantization_config"] = _four_bits(config)
    return options


def _kernel(config: ModelConfig) -> str | None:
    """transformers' name of the attention implementation; None: its default, SDPA if supported."""
    wanted = config.backbone.kernel
    full = config.decoder.full_attention
    if wanted == "auto":
        # Measured: for sentences on a CPU, eager attention is a tenth faster than the fused kernel, which
        # works head by head.
        return "eager" if full and not torch.cuda.is_available() else None
    if wanted == "flash_attention_2":
        _check_flash(config, full)
    return wanted


def _check_flash(config: ModelConfig, full: bool) -> None:
    if full:
        raise ConfigError(
            "backbone.kernel flash_attention_2 cannot remove the causal mask as decoder.attention 'full' requires; "
            "use the kernel sdpa, or decoder.attention 'repeat'"
        )
    if config.backbone.dtype == "float32":
        raise ConfigError("backbone.kernel flash_attention_2 needs backbone.dtype bfloat16 or float16, got float32")
    if not torch.cuda.is_available() or find_spec("flash_attn") is None:
        raise ConfigError(
            "backbone.kernel flash_attention_2 needs a GPU and the package 'flash-attn', one of them is missing; "
            "install it, or use the kernel sdpa"
        )


def _four_bits(config: ModelConfig) -> Any:
    """NF4 with double quantisation (arXiv 2305.14314), 4.13 bits per weight; computes in the backbone's dtype.

    Embeddings, norms and the output embedding keep the backbone's dtype.
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
