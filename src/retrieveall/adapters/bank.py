"""The adapter bank: all adapters in use, added to the backbone's linear layers, mixed per row of the batch.

Knows linear layers, languages and weights; knows nothing of text, routing or training loops. The backbone gets forward
hooks and is not changed: its module names, its ``state_dict`` and its files stay as they were.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from retrieveall.adapters.layer_adapters import LayerAdapters
from retrieveall.adapters.mixture import BatchMixture
from retrieveall.adapters.pool import AdapterPool
from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights, matches_target
from retrieveall.config import ALL_LINEAR, LoraSettings, check_language
from retrieveall.errors import AdapterError, InputError, LanguageError

__all__ = ["AdapterBank"]

_BLOCK = re.compile(r"\.\d+\.")
"""In the name of a layer: it belongs to one of a stack of blocks, and is no embedding and no head."""


class _Active(threading.local):
    """What the forward passes of one thread use: the mixtures of its ``use`` blocks, the innermost last."""

    def __init__(self) -> None:
        self.mixtures: list[BatchMixture] = []
        self.dropped: tuple[Tensor, Tensor] | None = None  # a layer's input, and the same after dropout


class AdapterBank(nn.Module):
    """Adapters of many languages on one frozen backbone; each row of a batch has its own mixture of them.

    A module, so that its trainable adapters are its ``parameters()`` and its ``state_dict()``; frozen adapters are in
    neither. ``use``, ``add``, ``remove`` and ``ensure`` exclude each other across threads. A mixture is active in the
    thread that entered ``use``: a forward pass outside ``use``, and one in any other thread, is the bare backbone's.

    Examples:
        >>> bank = AdapterBank.attach(model, AdapterPool(folder))
        >>> with bank.use([{"de": 1.0}, {"fr": 0.6, "es": 0.4}, {}]):
        ...     logits = model(input_ids).logits  # three rows: German, a mixture, the bare backbone
    """

    def __init__(
        self, linears: Mapping[str, nn.Module], pool: AdapterPool | None, max_loaded: int, merge: bool
    ) -> None:
        super().__init__()
        self.pool = pool
        self.max_loaded = max_loaded
        self._linears = dict(linears)
        self._layers = {name: LayerAdapters(*_widths(module)) for name, module in linears.items()}
        # Registered under names without dots, which a submodule cannot have.
        self.layers = nn.ModuleDict({name.replace(".", "/"): layer for name, layer in self._layers.items()})
        self._shapes: dict[str, LoraShape] = {}
        self._last_used: dict[str, int] = {}  # of languages from the pool, which can be loaded again
        self._dropouts: dict[str, float] = {}  # trainable languages
        self._clock = 0
        self._active = _Active()
        self._lock = threading.RLock()
        self._merging = [name for name, linear in linears.items() if merge and _can_merge(linear)]
        for name in self._merging:
            linears[name].forward = _MergedForward(self, name)
        self._hooks: list[RemovableHandle] = [
            linear.register_forward_hook(_Hook(self, name))
            for name, linear in linears.items()
            if name not in self._merging
        ]

    @classmethod
    def attach(
        cls, model: nn.Module, pool: AdapterPool | None = None, *, max_loaded: int = 64, merge: bool = False
    ) -> AdapterBank:
        """Freeze ``model`` and register forward hooks on its linear layers; ``detach`` removes the hooks.

        Args:
            model: any Hugging Face language model.
            pool: where ``ensure`` and ``use`` find adapters that are not loaded.
            max_loaded: number of adapters in memory above which the least recently used of the pool are unloaded; a
                batch that needs more still runs.
            merge: where no gradient is recorded, multiply many tokens of one mixture by a merged weight, which is made
                for the product and dropped; of plain linear layers in float32 only, since others would round it.

        Raises:
            InputError: ``model`` already has a bank, or ``max_loaded`` is not positive.
        """
        if max_loaded < 1:
            raise InputError(f"max_loaded is at least 1, got {max_loaded}")
        if any(_has_bank(module) for module in model.modules()):
            raise InputError("expected a model without a bank, this one has one; call its detach() first")
        model.requires_grad_(False)
        linears = {name: module for name, module in model.named_modules() if _is_linear(module)}
        return cls(linears, pool, max_loaded, merge)

    def detach(self) -> None:
        """Remove the hooks; the model is the bare backbone again, and the bank can no longer be used."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for name in self._merging:
            del self._linears[name].forward
        self._merging.clear()

    @property
    def languages(self) -> tuple[str, ...]:
        """The adapters in memory, in the order they were added."""
        return tuple(self._shapes)

    # -- adding and removing --

    def add(self, language: str, weights: LoraWeights) -> None:
        """Add a frozen copy of an adapter, in place of one of the same language.

        Raises:
            LanguageError: ``language`` is not a language identifier.
            AdapterError: a module that the backbone does not have, or a tensor that does not fit it.
        """
        check_language(language)
        self._check(language, weights)
        with self._lock:
            self._forget(language)
            for name, layer in weights.layers.items():
                weight: Tensor = self._linears[name].weight  # type: ignore[assignment]
                self._layers[name].add(language, layer, dtype=_dtype(self._linears[name]), device=weight.device)
            self._shapes[language] = weights.shape

    def remove(self, language: str) -> None:
        """Remove an adapter from memory; its files stay.

        Raises:
            LanguageError: it is not in memory.
            InputError: it is in use.
        """
        with self._lock:
            if language not in self._shapes:
                raise LanguageError(f"no adapter {language!r} is loaded, only {_listed(self._shapes)}")
            if any(language in mixture.languages for mixture in self._active.mixtures):
                raise InputError(f"adapter {language!r} is in use; remove it after the forward pass")
            self._forget(language)

    def ensure(self, languages: Iterable[str]) -> None:
        """Load from the pool what is not in memory, and unload the least recently used above ``max_loaded``.

        Raises:
            LanguageError: a language that is neither in memory nor in the pool.
            AdapterError: its files cannot be used; the adapters in memory stay.
        """
        with self._lock:
            wanted = list(dict.fromkeys(languages))
            for language in wanted:
                if language not in self._shapes:
                    self._load(language)
                if language in self._last_used:
                    self._clock += 1
                    self._last_used[language] = self._clock
            kept = set(wanted).union(*(mixture.languages for mixture in self._active.mixtures))
            for language in sorted(self._last_used, key=self._last_used.__getitem__):
                if len(self._shapes) <= self.max_loaded:
                    break
                if language not in kept:
                    self._forget(language)

    def _load(self, language: str) -> None:
        if self.pool is None or not self.pool.has(language):
            known = self.pool.languages() if self.pool else ()
            raise LanguageError(
                f"expected one of the languages {_listed([*self._shapes, *known])}, got {language[:80]!r}; "
                f"train it with add-language"
            )
        self.add(language, self.pool.load(language))
        self._last_used[language] = 0

    def _forget(self, language: str) -> None:
        for layer in self._layers.values():
            layer.remove(language)
        for table in (self._shapes, self._last_used, self._dropouts):
            table.pop(language, None)

    def _check(self, language: str, weights: LoraWeights) -> None:
        for name, layer in weights.layers.items():
            linear = self._layers.get(name)
            if linear is None:
                raise AdapterError(
                    f"adapter {language!r}: the backbone has no linear layer {name}; use the backbone it was trained on"
                )
            expected = (layer.rank, linear.in_features), (linear.out_features, layer.rank)
            got = tuple(layer.a.shape), tuple(layer.b.shape)
            for matrix, want, shape in zip(("lora_A", "lora_B"), expected, got, strict=True):
                if want != shape:
                    raise AdapterError(
                        f"adapter {language!r}: {name}.{matrix} has shape {shape}, "
                        f"the backbone needs {want}; "
                        f"use the backbone it was trained on"
                    )
        missing = [name for name in self._targets(weights.shape.target_modules) if name not in weights.layers]
        if missing:
            raise AdapterError(f"adapter {language!r}: no tensors for {missing[0]}, which it targets; train it again")

    def _targets(self, targets: Sequence[str]) -> list[str]:
        return [name for name in self._linears if matches_target(name, targets)]

    # -- the forward pass --

    @contextmanager
    def use(self, rows: Sequence[Mapping[str, float]], lengths: Sequence[int] | None = None) -> Iterator[None]:
        """Mix adapters per row in every forward pass of this thread inside the ``with``. Afterwards, also after an
        exception, what was active before is active again.

        Args:
            rows: for each row of the batch a mapping of language to weight; an empty one is the bare backbone,
                exactly. Languages that are not in memory are loaded from the pool.
            lengths: the tokens of each row, where the rows follow each other without padding in one dimension.

        Raises:
            LanguageError: an unknown language.
            InputError: a weight that is not finite, or (in the forward pass) another number of rows.
        """
        with self._lock:
            mixture = BatchMixture(rows, lengths)
            self.ensure(mixture.languages)
            with self._activate(mixture):
                yield

    def checkpoint_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """``context_fn`` of ``torch.utils.checkpoint``: the backward pass recomputes activations under the mixture that
        is active now, after ``use`` was left and in whatever thread autograd runs it.
        """
        active = self._active.mixtures
        return nullcontext(), self._activate(active[-1]) if active else nullcontext()

    @contextmanager
    def _activate(self, mixture: BatchMixture) -> Iterator[None]:
        active = self._active
        active.mixtures.append(mixture)
        try:
            yield
        finally:
            active.mixtures.pop()
            active.dropped = None

    def _add_to(self, name: str, x: Tensor, out: Tensor) -> Tensor:
        if not self._active.mixtures:
            return out
        mixture = self._active.mixtures[-1]
        _check_size(name, x, mixture)
        result = self._layers[name](self._drop(x, mixture), out, mixture)
        assert isinstance(result, Tensor)
        return result

    def _run(self, name: str, x: Tensor) -> Tensor:
        """The output of a plain linear layer with the adapters of the active mixture."""
        linear = self._linears[name]
        assert isinstance(linear, nn.Linear)
        mixture = self._active.mixtures[-1] if self._active.mixtures else None
        if mixture is None or mixture.runs is None or torch.is_grad_enabled():
            return self._add_to(name, x, F.linear(x, linear.weight, linear.bias))
        _check_size(name, x, mixture)
        return self._layers[name].linear(x, linear.weight, linear.bias, mixture.runs)

    def _drop(self, x: Tensor, mixture: BatchMixture) -> Tensor:
        """Dropout on the adapters' input, in training mode. Layers with the same input (q, k and v) share the mask:
        drawing it costs as much as a linear layer of width 256, and PEFT's independent masks showed no gain.
        """
        if not (self.training and self._dropouts):
            return x
        dropped = self._active.dropped
        if dropped is not None and dropped[0] is x:
            return dropped[1]
        rates = [max([0.0, *(self._dropouts.get(name, 0.0) for name, _ in row)]) for row in mixture.rows]
        if not any(rates):
            return x
        if len(set(rates)) == 1:
            result = F.dropout(x, rates[0])
        else:
            rate = torch.tensor(rates, device=x.device, dtype=x.dtype).view(-1, *[1] * (x.dim() - 1))
            result = x * (torch.rand_like(x) >= rate) / (1 - rate)
        self._active.dropped = (x, result)
        return result

    # -- training --

    def trainable(
        self, languages: Iterable[str], settings: LoraSettings, seed: int, start: LoraWeights | None = None
    ) -> None:
        """Create a trainable adapter for each language, in place of one of the same language.

        Each begins as a copy of ``start``, if that is given. Otherwise A is Kaiming uniform with a = sqrt(5) and B is
        zero, as in PEFT, and these values depend on the seed and the language only, not on the other languages.
        Dropout acts while the bank is in training mode.

        Raises:
            AdapterError: the backbone has no module that ``settings.target_modules`` names.
        """
        if ALL_LINEAR in settings.target_modules:
            found = sorted({name.rpartition(".")[2] for name in self._linears if _BLOCK.search(name)})
            settings = settings.model_copy(update={"target_modules": tuple(found)})
        names = self._targets(settings.target_modules)
        if not names:
            endings = sorted({name.rpartition(".")[2] for name in self._linears})
            raise AdapterError(
                f"no linear layer of the backbone is named like {_listed(settings.target_modules)}; "
                f"set target_modules to some of {_listed(endings)}"
            )
        shape = LoraShape.from_settings(settings)
        for language in languages:
            weights = start or self._fresh(check_language(language), shape, names, seed)
            with self._lock:
                self._forget(language)
                for name, layer in weights.layers.items():
                    device: Any = self._linears[name].weight.device
                    self._layers[name].add_trainable(language, layer, device=device)
                self._shapes[language] = shape
                self._dropouts[language] = settings.dropout

    def _fresh(self, language: str, shape: LoraShape, names: Iterable[str], seed: int) -> LoraWeights:
        digest = hashlib.sha256(f"{seed} {language}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        layers = {}
        for name in names:
            linear = self._layers[name]
            a = torch.empty(shape.rank, linear.in_features)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
            layers[name] = LoraLayer(a, torch.zeros(linear.out_features, shape.rank), shape.scaling_of(name))
        return LoraWeights(shape, layers)

    def parameters_of(self, language: str) -> list[nn.Parameter]:
        """The parameters of one trainable language; empty where it is not trainable."""
        return [p for layer in self._layers.values() for p in layer.parameters_of(language)]

    def export(self, language: str) -> LoraWeights:
        """A float32 copy of a trainable adapter, for ``AdapterPool.save`` or ``add``.

        Raises:
            LanguageError: not a trainable language of this bank.
        """
        if language not in self._dropouts:
            raise LanguageError(f"no adapter {language!r} is being trained, only {_listed(self._dropouts)}")
        layers = {name: layer.export(language) for name, layer in self._layers.items() if layer.rank(language)}
        return LoraWeights(self._shapes[language], layers)


class _Hook:
    """The forward hook of one linear layer; a class, so that ``attach`` can tell a bank's hooks from others."""

    def __init__(self, bank: AdapterBank, name: str) -> None:
        self._bank, self._name = bank, name

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return self._bank._add_to(self._name, inputs[0], output)


class _MergedForward:
    """Takes the place of the ``forward`` of one linear layer; a class for the same reason."""

    def __init__(self, bank: AdapterBank, name: str) -> None:
        self._bank, self._name = bank, name

    def __call__(self, input: Tensor) -> Tensor:
        return self._bank._run(self._name, input)


def _has_bank(module: nn.Module) -> bool:
    hooked = any(isinstance(hook, _Hook) for hook in module._forward_hooks.values())
    return hooked or isinstance(module.forward, _MergedForward)


def _can_merge(module: nn.Module) -> bool:
    """Whether it is a linear layer as torch has it, in float32, whose ``forward`` nobody else has replaced."""
    if not isinstance(module, nn.Linear) or "forward" in vars(module):
        return False
    return type(module).forward is nn.Linear.forward and module.weight.dtype == torch.float32


def _check_size(name: str, x: Tensor, mixture: BatchMixture) -> None:
    if x.shape[0] != len(mixture):
        raise InputError(
            f"expected a batch of {len(mixture)} rows, as many as use() was given, got {x.shape[0]} at {name}; "
            "give use() one mapping a row"
        )


def _is_linear(module: nn.Module) -> bool:
    """A linear layer, or GPT-2's ``Conv1D``, which is one with its weight transposed."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _dtype(module: nn.Module) -> torch.dtype:
    """The dtype a layer computes in: its weight's, or where that is packed (4-bit layers) the one it names."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    found = weight.dtype if weight.is_floating_point() else getattr(module, "compute_dtype", None)
    return found if isinstance(found, torch.dtype) else torch.float32


def _widths(module: nn.Module) -> tuple[int, int]:
    """Input and output width."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return int(module.nx), int(module.nf)  # type: ignore[arg-type]


def _listed(names: Iterable[str]) -> str:
    found = sorted(set(names))
    more = f" and {len(found) - 20} more" if len(found) > 20 else ""
    return (", ".join(found[:20]) + more) if found else "none"
