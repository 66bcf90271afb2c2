"""Loads a frozen backbone: local files are checked first, only safetensors are read, no model code is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from retrieveall.config import ModelConfig
from retrieveall.engines.local.compact import load_compact
from retrieveall.engines.local.compact_encoder import load_compact_encoder
from retrieveall.engines.local.forward import position_offset
from retrieveall.engines.local.heads import check_head
from retrieveall.engines.local.options import loading_options
from retrieveall.engines.local.packed import is_packed, read_packed
from retrieveall.errors import ConfigError, ModelFolderError, UnsafeFileError
from retrieveall.storage import check_safetensors, read_json, refuse_unsafe_weights
from retrieveall.storage.hub import fail_fast
from retrieveall.tokens.tokenizer import is_hub_id, local_folder

__all__ = ["ENCODERS", "backbone_source", "check_length", "is_encoder", "load_backbone", "open_backbone"]

ENCODERS = frozenset({"bert", "camembert", "roberta", "xlm-roberta", "xlm-roberta-xl"})
"""Values of ``model_type`` whose models see a whole text and have no causal mask."""


def is_encoder(config: ModelConfig, folder: Path | None) -> bool:
    """Whether the backbone named by ``config`` is an encoder, by its ``config.json`` alone.

    Raises:
        ModelFolderError, UnsafeFileError: as ``load_backbone``.
    """
    return _model_type(config, backbone_source(config, folder)) in ENCODERS


def _model_type(config: ModelConfig, source: str) -> str:
    from transformers import AutoConfig

    options = {"trust_remote_code": False, "revision": config.backbone.revision or "main"}
    try:
        with fail_fast(source):
            return str(AutoConfig.from_pretrained(source, **options).model_type)
    except Exception as error:  # whatever the library raises about a folder, the user needs one line with its name
        raise _not_loaded(source, error) from error


def _not_loaded(source: str, error: Exception) -> ModelFolderError:
    detail = " ".join(str(error).split())[:300] or type(error).__name__
    return ModelFolderError(f"could not load the backbone {source}: {detail}")


def load_backbone(config: ModelConfig, folder: Path | None) -> Any:
    """The backbone named in ``config``, frozen and in evaluation mode.

    Looked up in ``folder``, then as any local folder, then as a hub id at ``config.backbone.revision``.

    Raises:
        ModelFolderError: not found, malformed, or neither a causal language model nor an encoder.
        ConfigError: a kernel that cannot run here; for tagging, an unsupported change of the logits.
        MissingExtraError: 4-bit quantisation without bitsandbytes.
        UnsafeFileError: pickled weights, or a configuration that requires code or refers to another model.
    """
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.utils import logging

    source = backbone_source(config, folder)
    kind = _model_type(config, source)
    loader: Any = AutoModelForCausalLM
    options: dict[str, Any] = {"trust_remote_code": False, "revision": config.backbone.revision or "main"}
    options |= loading_options(config)
    if kind in ENCODERS:
        _check_encoder(config, kind)
        loader, options = AutoModel, options | {"add_pooling_layer": False}
    progress = logging.is_progress_bar_enabled()
    if Path(source).is_dir():
        logging.disable_progress_bar()  # no progress bar for a file read in a tenth of a second
    try:
        if is_packed(Path(source)):
            model, missing = _unpacked(loader, source, options)
        else:
            model, loading = loader.from_pretrained(source, use_safetensors=True, output_loading_info=True, **options)
            missing = loading["missing_keys"]
    except ModelFolderError:
        raise
    except Exception as error:
        raise _not_loaded(source, error) from error
    finally:
        if progress:
            logging.enable_progress_bar()
    if missing:  # the library would continue with random weights
        raise ModelFolderError(f"the backbone {source} has no tensor {min(missing)}; save or download it again")
    if config.decoder.reads_logits and kind not in ENCODERS:
        check_head(model.config)
    model.requires_grad_(False)
    return model.eval()


def _unpacked(loader: Any, source: str, options: dict[str, Any]) -> tuple[Any, list[str]]:
    """A backbone with packed weights, which the library cannot read, and the names of tensors that are missing."""
    from transformers import AutoConfig

    settings = {name: value for name, value in options.items() if name not in ("revision", "trust_remote_code")}
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    model = loader.from_config(config, trust_remote_code=False, **settings)
    dtype = model.dtype
    weights = {name: tensor.to(dtype) for name, tensor in read_packed(Path(source)).items()}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    return model, missing


def _check_encoder(config: ModelConfig, kind: str) -> None:
    """Refuse a decoder that needs a causal model.

    Raises:
        ConfigError: names the architecture and the remedy.
    """
    if not config.decoder.full_attention:
        raise ConfigError(
            f"the backbone is an encoder ({kind}), which reads a text as a whole and does not write; "
            "set decoder.kind to 'tagging' and decoder.attention to 'full', or use a causal language model"
        )


def open_backbone(config: ModelConfig, folder: Path, device: torch.device) -> Any:
    """``load_backbone`` for inference; a small plain Llama or BERT on a CPU is loaded without transformers."""
    # The compact model has neither causal attention nor a key-value cache.
    if config.decoder.full_attention and device.type == "cpu" and config.backbone.quantization == "none":
        source = Path(backbone_source(config, folder))
        dtype = getattr(torch, config.backbone.dtype)
        for load in (load_compact, load_compact_encoder) if source.is_dir() else ():
            if (compact := load(source, dtype)) is not None:
                return compact
    return load_backbone(config, folder)


def backbone_source(config: ModelConfig, folder: Path | None) -> str:
    """The name to pass to transformers, after checking local files."""
    named = config.backbone.path
    local = local_folder(named, folder)
    if local is None:
        if is_hub_id(named):
            return named
        where = folder / named if folder is not None else Path(named)
        # A model that is yet to be made has no settings to look into.
        remedy = "check the path" if folder is None else "check backbone.path in retrieveall.yaml"
        raise ModelFolderError(
            f"expected the backbone in {str(where)[:300]!r} or a hub id such as 'Qwen/Qwen2.5-7B', "
            f"found neither; {remedy}"
        )
    refuse_unsafe_weights(local)
    _refuse_detours(local)
    weights = sorted(local.glob("*.safetensors"))
    if not weights:
        raise ModelFolderError(f"expected *.safetensors in {local}, found none; save the model with safetensors")
    for path in weights:
        check_safetensors(path)
    return str(local)


def _refuse_detours(folder: Path) -> None:
    """Reject files that would make the library load something other than ``folder``.

    Raises:
        UnsafeFileError: names the file and the remedy.
    """
    if (folder / "adapter_config.json").exists():
        raise UnsafeFileError(
            f"{folder / 'adapter_config.json'} would load another model instead of this one; move the adapter away"
        )
    if (folder / "config.json").exists():
        for key, value in read_json(folder / "config.json").items():
            # A kernel name with a slash is a repository of compiled code.
            if key.endswith("_implementation") and "/" in str(value):
                raise UnsafeFileError(
                    f"{folder / 'config.json'} asks to download code ({key!r}), which is never done; remove the key"
                )


def check_length(config: ModelConfig, model: Any) -> None:
    """Reject prompt lengths above the backbone's maximum.

    Raises:
        ConfigError: names both lengths.
    """
    longest = getattr(model.config, "max_position_embeddings", None)
    longest = None if longest is None else longest - position_offset(model)
    answer = config.decoder.longest_answer
    if longest is not None and config.prompt.max_tokens + answer > longest:
        beside = f" and decoder.max_answer_tokens is {answer}" if answer else ""
        raise ConfigError(
            f"prompt.max_tokens is {config.prompt.max_tokens}{beside}, the backbone reads at most {longest}; lower it"
        )
