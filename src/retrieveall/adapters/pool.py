"""The adapters of a model folder on disk, in PEFT's own format, so that PEFT, vLLM and the Hub read them too.

Knows files; knows neither the model nor forward passes. Everything is checked before it is used: nothing is unpickled,
imported or fetched, and ``base_model_name_or_path`` is never followed. Torch is imported where tensors are read or
written, not before.
"""

from __future__ import annotations

import json
from pathlib import Path

from retrieveall.adapters.card import CARD_NAME, AdapterCard
from retrieveall.adapters.peft_config import CONFIG_NAME, parse_peft_config, peft_config
from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights, matches_target
from retrieveall.config import check_language
from retrieveall.errors import AdapterError, LanguageError, ModelFolderError, UnsafeFileError
from retrieveall.storage import (
    MANIFEST,
    Manifest,
    check_safetensors,
    read_json,
    refuse_unsafe_weights,
    safe_join,
    write_atomic,
)

__all__ = ["AdapterPool", "read_adapter", "write_adapter"]

_FOLDER = "adapters"
_WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_FLOATS = {"F32", "F16", "BF16"}


class AdapterPool:
    """The folders ``adapters/<language>/`` of a model folder, each with PEFT's two files and an adapter card.

    Args:
        root: the model folder. Its ``manifest.json``, where it has one, says which languages there are, and adapters
            are compared with it before they are loaded.
        fingerprint: of the backbone in use; an adapter whose card names another one is refused.
    """

    def __init__(self, root: Path, fingerprint: str | None = None) -> None:
        self.root = Path(root)
        self.fingerprint = fingerprint
        self._manifest: tuple[tuple[int, int, int], Manifest] | None = None

    def languages(self) -> tuple[str, ...]:
        """The languages with an adapter, sorted. Read from the disk at each call; no adapter is opened."""
        manifest = self._find_manifest()
        if manifest is not None:
            names = [name.split("/") for name in manifest.names(_FOLDER)]
            return tuple(sorted(check_language(p[1]) for p in names if len(p) == 3 and p[2] == CONFIG_NAME))
        folder = self.root / _FOLDER
        found = [path.name for path in folder.iterdir() if (path / CONFIG_NAME).is_file()] if folder.is_dir() else []
        return tuple(sorted(map(check_language, found)))

    def has(self, language: str) -> bool:
        """Whether there is an adapter of the language. Does not list the others, of which there may be thousands.

        Raises:
            LanguageError: ``language`` is not a language identifier.
        """
        folder, manifest = self.folder(language), self._find_manifest()
        if manifest is not None:
            return f"{_FOLDER}/{language}/{CONFIG_NAME}" in manifest.files
        return (folder / CONFIG_NAME).is_file()

    def folder(self, language: str) -> Path:
        """``adapters/<language>`` inside the model folder, which may not exist.

        Raises:
            LanguageError: ``language`` is not a language identifier.
            UnsafeFileError: it is a link out of the model folder.
        """
        return safe_join(self.root, f"{_FOLDER}/{check_language(language)}")

    def card(self, language: str) -> AdapterCard:
        """The adapter card of a language.

        Raises:
            LanguageError: the pool has no such language.
            ModelFolderError: the card is missing or malformed.
        """
        return AdapterCard.load(self._existing(language))

    def load(self, language: str) -> LoraWeights:
        """Read and check an adapter, on the CPU, in the dtype it was saved in.

        Raises:
            LanguageError: the pool has no such language.
            AdapterError: it does not fit its configuration or the backbone, or is not finite; names file and
                tensor.
            UnsafeFileError: a pickle, a configuration that asks for code, or a link out of the folder.
            ModelFolderError: a file is missing or differs from the manifest.
        """
        folder = self._existing(language)
        manifest = self._find_manifest()
        if manifest is not None:
            manifest.verify(f"{_FOLDER}/{language}")
        if (folder / CARD_NAME).exists():
            self._check_card(folder, language)
        return read_adapter(folder)

    @staticmethod
    def save(target: Path, weights: LoraWeights, card: AdapterCard) -> None:
        """Write an adapter folder: PEFT's two files and the card. To change a folder in use, write to the staging
        folder of a ``Transaction``, so that all files appear at once.

        Raises:
            AdapterError: a tensor is not finite.
            ModelFolderError: the disk is full.
        """
        write_adapter(target, weights)
        write_atomic(target / CARD_NAME, card.to_bytes())

    def _find_manifest(self) -> Manifest | None:
        """Read again only when the file was replaced: with thousands of adapters it has megabytes."""
        try:
            stat = (self.root / MANIFEST).stat()
        except OSError:
            return None
        stamp = stat.st_ino, stat.st_mtime_ns, stat.st_size
        if self._manifest is None or self._manifest[0] != stamp:
            self._manifest = stamp, Manifest.load(self.root)
        return self._manifest[1]

    def _existing(self, language: str) -> Path:
        folder = self.folder(language)
        if not self.has(language):
            known = self.languages()
            names = ", ".join(known[:20]) + ("" if len(known) <= 20 else f" and {len(known) - 20} more")
            raise LanguageError(f"expected one of the languages {names or '(none)'}, got {language!r}; add it first")
        return folder

    def _check_card(self, folder: Path, language: str) -> None:
        card = AdapterCard.load(folder)
        if self.fingerprint is not None and card.backbone_fingerprint != self.fingerprint:
            raise AdapterError(
                f"{folder / CARD_NAME}: the adapter {language!r} was trained on the backbone "
                f"{card.backbone_fingerprint[:12]}, this one is {self.fingerprint[:12]}; "
                f"train it on this backbone"
            )


def write_adapter(folder: Path, weights: LoraWeights) -> None:
    """Write PEFT's two files; the configuration last, without which the folder is no adapter.

    Raises:
        AdapterError: a tensor is not finite.
        ModelFolderError: the disk is full.
    """
    from safetensors.torch import save

    tensors = {}
    for module, layer in weights.layers.items():
        for letter, tensor in (("A", layer.a), ("B", layer.b)):
            name = f"{_PREFIX}{module}.lora_{letter}.weight"
            if not tensor.isfinite().all():
                raise AdapterError(f"tensor {name} contains NaN or infinity and was not saved; train the adapter again")
            tensors[name] = tensor.detach().cpu().contiguous()
    config = peft_config(weights.shape, sorted(weights.layers))
    write_atomic(folder / _WEIGHTS_NAME, save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / CONFIG_NAME, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


def read_adapter(folder: Path) -> LoraWeights:
    """Read and check PEFT's two files in any folder, on the CPU, in the dtype they were saved in.

    Raises:
        AdapterError: an adapter that is not plain LoRA, or tensors that do not fit its configuration or are not
            finite; names file and tensor.
        UnsafeFileError: a pickle, a configuration that asks for code, or a link out of the folder.
        ModelFolderError: a file is missing.
    """
    refuse_unsafe_weights(folder)
    config = safe_join(folder, CONFIG_NAME)
    shape = parse_peft_config(read_json(config), config)
    path = safe_join(folder, _WEIGHTS_NAME)
    modules = _check_tensors(path, shape)
    from safetensors.torch import load_file

    tensors = load_file(path)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise AdapterError(f"{path}: tensor {name} contains NaN or infinity; train the adapter again")
    layers = {}
    for module in modules:
        a, b = (tensors[f"{_PREFIX}{module}.lora_{letter}.weight"] for letter in "AB")
        layers[module] = LoraLayer(a, b, shape.scaling_of(module))
    return LoraWeights(shape, layers)


def _check_tensors(path: Path, shape: LoraShape) -> list[str]:
    """The names of the adapted modules, if the header agrees with the configuration in names, dtypes and ranks."""
    if not path.exists():
        raise AdapterError(f"{path} is missing; expected the adapter's weights, train it again or restore the file")
    try:
        header = check_safetensors(path)
    except UnsafeFileError:
        raise
    except ModelFolderError as error:
        raise AdapterError(str(error)) from None
    found: dict[str, set[str]] = {}
    for name, (dtype, size) in header.items():
        module, letter = _split(path, name)
        _check_tensor(f"{path}: tensor {name[:200]}", module, letter, dtype, size, shape)
        found.setdefault(module, set()).add(letter)
    for module, letters in found.items():
        if missing := {"A", "B"} - letters:
            name = f"{_PREFIX}{module}.lora_{missing.pop()}.weight"
            raise AdapterError(f"{path}: tensor {name[:200]} is missing; train it again")
    for target in shape.target_modules:
        if not any(matches_target(module, (target,)) for module in found):
            raise AdapterError(f"{path}: no tensors for the target module {target[:200]!r}; train it again")
    if not found:
        raise AdapterError(f"{path} holds no tensors; train it again")
    return sorted(found)


def _check_tensor(what: str, module: str, letter: str, dtype: str, size: tuple[int, ...], shape: LoraShape) -> None:
    if dtype not in _FLOATS or len(size) != 2 or 0 in size:
        raise AdapterError(f"{what} is {dtype} {str(list(size))[:80]}, expected a float matrix; train it again")
    if shape.target_modules and not matches_target(module, shape.target_modules):
        raise AdapterError(f"{what} is not of the configured target modules; train it again")
    rank = size[0] if letter == "A" else size[1]
    if rank != shape.rank_of(module):
        raise AdapterError(f"{what} has rank {rank}, {CONFIG_NAME} says {shape.rank_of(module)}; train it again")


def _split(path: Path, name: str) -> tuple[str, str]:
    for letter in "AB":
        suffix = f".lora_{letter}.weight"
        if name.startswith(_PREFIX) and name.endswith(suffix) and len(name) > len(_PREFIX) + len(suffix):
            return name[len(_PREFIX) : -len(suffix)], letter
    raise AdapterError(f"{path}: unexpected tensor {name[:200]!r}, expected only PEFT's LoRA tensors; train it again")
