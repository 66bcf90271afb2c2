"""Read and write PEFT's ``adapter_config.json``. Plain data: neither PEFT nor torch is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retrieveall.adapters.weights import LoraShape
from retrieveall.errors import AdapterError

__all__ = ["CONFIG_NAME", "parse_peft_config", "peft_config"]

CONFIG_NAME = "adapter_config.json"
_MAX_RANK = 65_536
# Options of variants of LoRA that compute something other than W x + s B A x, or adapt more than linear layers.
_UNSUPPORTED = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)
# Initialisations that also change the backbone's weights, so that A and B do not fit the original backbone.
_REWRITING = ("pissa", "olora", "corda", "loftq", "lora_ga")
# With one of these, not every module that target_modules names is adapted.
_NARROWING = ("layers_to_transform", "exclude_modules")
_PLAIN_KEY = re.compile(r"\^?[A-Za-z0-9_.]+")


def parse_peft_config(raw: Mapping[str, Any], path: Path) -> LoraShape:
    """The LoRA shape in an ``adapter_config.json``; ``path`` is for error messages.

    A regular expression as ``target_modules`` is not evaluated, since a hostile one takes exponential time; the tensors
    say which modules are adapted.

    Raises:
        AdapterError: not plain LoRA, or an invalid value; names file and key.
    """
    if raw.get("peft_type") != "LORA":
        raise AdapterError(f"{path}: expected peft_type LORA, got {str(raw.get('peft_type'))[:40]!r}; train it as LoRA")
    if raw.get("bias", "none") != "none":
        raise AdapterError(f"{path}: expected bias 'none', got {str(raw['bias'])[:40]!r}; train it without biases")
    for key in _UNSUPPORTED:
        if raw.get(key):
            raise AdapterError(f"{path}: {key} is not supported, only plain LoRA; train it without")
    if str(raw.get("init_lora_weights")).lower().startswith(_REWRITING):
        raise AdapterError(
            f"{path}: init_lora_weights {raw['init_lora_weights']!r} changes the backbone; convert it first"
        )
    return LoraShape(
        rank=_rank(path, "r", raw.get("r")),
        alpha=_number(path, "lora_alpha", raw.get("lora_alpha")),
        use_rslora=_flag(path, "use_rslora", raw.get("use_rslora", False)),
        target_modules=() if any(raw.get(key) for key in _NARROWING) else _targets(path, raw.get("target_modules")),
        rank_pattern={k: _rank(path, k, v) for k, v in _pattern(path, raw, "rank_pattern").items()},
        alpha_pattern={k: _number(path, k, v) for k, v in _pattern(path, raw, "alpha_pattern").items()},
    )


def peft_config(shape: LoraShape, modules: Sequence[str]) -> dict[str, Any]:
    """The content of ``adapter_config.json`` for an adapter of these ``modules``, as PEFT reads it."""
    return {
        "alpha_pattern": dict(shape.alpha_pattern),
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": shape.alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": shape.rank,
        "rank_pattern": dict(shape.rank_pattern),
        "target_modules": sorted(shape.target_modules or modules),
        "task_type": "CAUSAL_LM",
        "use_rslora": shape.use_rslora,
    }


def _targets(path: Path, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise AdapterError(f"{path}: expected a list of names as target_modules, got {str(value)[:40]!r}; correct it")
    return tuple(sorted(value))


def _pattern(path: Path, raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key) or {}
    if not isinstance(value, dict) or not all(_PLAIN_KEY.fullmatch(name) for name in value):
        raise AdapterError(f"{path}: expected plain module names as keys of {key}; spell the modules out")
    return value


def _rank(path: Path, key: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_RANK:
        raise AdapterError(f"{path}: expected a rank of 1 to {_MAX_RANK} as {key}, got {str(value)[:40]!r}; correct it")
    return value


def _number(path: Path, key: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < 1e6:
        raise AdapterError(f"{path}: expected a positive number as {key}, got {str(value)[:40]!r}; correct it")
    return float(value)


def _flag(path: Path, key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise AdapterError(f"{path}: expected true or false as {key}, got {str(value)[:40]!r}; correct it")
    return value
