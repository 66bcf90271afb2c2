"""The adapter bank: every adapter in use, inside the model, mixed per row of the batch.

Knows linear layers, languages and weights; knows nothing of text, routing or training loops. The backbone is
hooked, not changed: its module names, its ``state_dict`` and its files stay as they were.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from retrieveall.adapters.plan import Plan
from retrieveall.adapters.pool import AdapterPool
from retrieveall.adapters.site import Site
from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights, matches_target
from retrieveall.config import LoraSettings, check_language
from retrieveall.errors import AdapterError, InputError, LanguageError

__all__ = ["AdapterBank"]


class AdapterBank(nn.Module):
    """Adapters of many languages over one frozen backbone, each row of a batch with its own mixture.

    A module, so that its trainable adapters are its ``parameters()`` and its ``state_dict()``; adapters that
    are only used are in neither. One forward pass at a time: ``use``, ``add``, ``remove`` and ``ensure`` wait
    for each other across threads. A forward pass outside ``use`` is the bare backbone's.

    Example:
        >>> bank = AdapterBank.attach(model, AdapterPool(folder))
        >>> with bank.use([{"de": 1.0}, {"fr": 0.6, "es": 0.4}, {}]):
        ...     logits = model(input_ids).logits  # three rows: German, a mixture, the bare backbone
    """

    def __init__(self, linears: Mapping[str, nn.Module], pool: AdapterPool | None, max_loaded: int) -> None:
        super().__init__()
        self.pool = pool
        self.max_loaded = max_loaded
        self._linears = dict(linears)
        self._sites = {name: Site(*_widths(module)) for name, module in linears.items()}
        # Registered under names without dots, which a submodule cannot have.
        self.sites = nn.ModuleDict({name.replace(".", "/"): site for name, site in self._sites.items()})
        self._shapes: dict[str, LoraShape] = {}
        self._from_pool: dict[str, int] = {}  # language to time of last use; these can be loaded again
        self._dropouts: dict[str, float] = {}  # trainable languages
        self._clock = 0
        self._active: list[Plan] = []
        self._dropped: tuple[Tensor, Tensor] | None = None
        self._lock = threading.RLock()
        self._hooks: list[RemovableHandle] = [
            linear.register_forward_hook(_Hook(self, name)) for name, linear in linears.items()
        ]

    @classmethod
    def attach(cls, model: nn.Module, pool: AdapterPool | None = None, *, max_loaded: int = 64) -> AdapterBank:
        """Freeze ``model`` and hook its linear layers; ``detach`` takes the hooks off again.

        Args:
            model: any Hugging Face causal language model.
            pool: where ``ensure`` and ``use`` find adapters that are not loaded.
            max_loaded: from how many adapters on the least recently used one of the pool leaves memory; a
                batch that needs more still runs.

        Raises:
            InputError: ``model`` already carries a bank, or ``max_loaded`` is not positive.
        """
        if max_loaded < 1:
            raise InputError(f"max_loaded is at least 1, got {max_loaded}")
        if any(isinstance(hook, _Hook) for module in model.modules() for hook in module._forward_hooks.values()):
            raise InputError("expected a model without adapters, this one carries a bank; call detach() on it first")
        model.requires_grad_(False)
        return cls({name: module for name, module in model.named_modules() if _is_linear(module)}, pool, max_loaded)

    def detach(self) -> None:
        """Take all hooks off the model, which then is the bare backbone again; the bank is of no more use."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @property
    def languages(self) -> tuple[str, ...]:
        """The adapters in memory, in the order of arrival: the columns of a weight matrix given to
        ``use``.
        """
        return tuple(self._shapes)

    # -- adding and removing --

    def add(self, language: str, weights: LoraWeights) -> None:
        """Hold a frozen copy of an adapter; one of the same name is replaced. The other languages stay as
        they are.

        Raises:
            LanguageError: ``language`` is no identifier.
            AdapterError: a module that the backbone does not have, or a tensor that does not fit it.
        """
        check_language(language)
        self._check(language, weights)
        with self._lock:
            self._forget(language)
            for name, layer in weights.layers.items():
                weight: Tensor = self._linears[name].weight  # type: ignore[assignment]
                self._sites[name].add(language, layer, dtype=_dtype(self._linears[name]), device=weight.device)
            self._shapes[language] = weights.shape

    def remove(self, language: str) -> None:
        """Take an adapter out of memory; its files stay.

        Raises:
            LanguageError: it is not in memory.
            InputError: it is in use right now.
        """
        with self._lock:
            if language not in self._shapes:
                raise LanguageError(f"no adapter {language!r} is loaded, only {_listed(self._shapes)}")
            if any(language in plan.languages for plan in self._active):
                raise InputError(f"adapter {language!r} is in use; remove it after the forward pass")
            self._forget(language)

    def ensure(self, languages: Iterable[str]) -> None:
        """Load from the pool what is not in memory, and let the least recently used go.

        Raises:
            LanguageError: neither memory nor pool have the language.
            AdapterError: its files cannot be used; the adapters in memory stay.
        """
        with self._lock:
            wanted = list(dict.fromkeys(languages))
            for language in wanted:
                if language not in self._shapes:
                    self._load(language)
                if language in self._from_pool:
                    self._clock += 1
                    self._from_pool[language] = self._clock
            kept = set(wanted).union(*(plan.languages for plan in self._active))
            for language in sorted(self._from_pool, key=self._from_pool.__getitem__):
                if len(self._shapes) <= self.max_loaded:
                    break
                if language not in kept:
                    self._forget(language)

    def _load(self, language: str) -> None:
        known = self.pool.languages() if self.pool else ()
        if self.pool is None or language not in known:
            raise LanguageError(
                f"expected one of the languages {_listed([*self._shapes, *known])}, got {language[:80]!r}; "
                f"train it with add-language"
            )
        self.add(language, self.pool.load(language))
        self._from_pool[language] = 0

    def _forget(self, language: str) -> None:
        for site in self._sites.values():
            site.remove(language)
        for table in (self._shapes, self._from_pool, self._dropouts):
            table.pop(language, None)

    def _check(self, language: str, weights: LoraWeights) -> None:
        for name, layer in weights.layers.items():
            site = self._sites.get(name)
            if site is None:
                raise AdapterError(
                    f"adapter {language!r}: the backbone has no linear layer {name}; use the backbone it was trained on"
                )
            expected = (layer.rank, site.in_features), (site.out_features, layer.rank)
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
    def use(self, weights: Tensor | Sequence[Mapping[str, float]]) -> Iterator[None]:
        """Mix adapters per row in every forward pass inside the ``with``; afterwards, also after an
        exception, what was active before is active again.

        Args:
            weights: per row a mapping of language to weight, or a matrix [batch, adapters] with the columns
                ``languages``. A row without weights is the bare backbone, exactly. Languages that are not in
                memory are loaded from the pool.

        Raises:
            LanguageError: an unknown language.
            InputError: a weight that is not finite, or (in the forward pass) another number of rows.
        """
        with self._lock:
            plan = Plan(self._rows(weights))
            self.ensure(plan.languages)
            self._active.append(plan)
            try:
                yield
            finally:
                self._active.pop()
                self._dropped = None

    def checkpoint_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """``context_fn`` of ``torch.utils.checkpoint``: what the backward pass computes again, after ``use`` was left,
        runs under the mixture that is active now.
        """
        return nullcontext(), self._again(self._active[-1]) if self._active else nullcontext()

    @contextmanager
    def _again(self, plan: Plan) -> Iterator[None]:
        self._active.append(plan)
        try:
            yield
        finally:
            self._active.pop()
            self._dropped = None

    def _rows(self, weights: Tensor | Sequence[Mapping[str, float]]) -> Sequence[Mapping[str, float]]:
        if not isinstance(weights, Tensor):
            return weights
        names = self.languages
        if weights.dim() != 2 or weights.shape[1] != len(names):
            raise InputError(f"expected weights of shape [batch, {len(names)}], got {list(weights.shape)}")
        return [dict(zip(names, row, strict=True)) for row in weights.tolist()]

    def _add_to(self, name: str, x: Tensor, out: Tensor) -> Tensor:
        if not self._active:
            return out
        plan = self._active[-1]
        if x.shape[0] != len(plan):
            raise InputError(f"use() was given {len(plan)} rows, the batch has {x.shape[0]} at {name}; give one each")
        result = self._sites[name](self._drop(x, plan), out, plan)
        assert isinstance(result, Tensor)
        return result

    def _drop(self, x: Tensor, plan: Plan) -> Tensor:
        """Dropout on the adapters' input. Layers that share an input (q, k and v) share the mask: drawing it
        costs as much as a linear layer of width 256, and PEFT's independent masks bring nothing that was ever
        measured.
        """
        if not (self.training and self._dropouts):
            return x
        if self._dropped is not None and self._dropped[0] is x:
            return self._dropped[1]
        rates = [max((self._dropouts.get(name, 0.0) for name, _ in row), default=0.0) for row in plan.rows]
        if not any(rates):
            return x
        if len(set(rates)) == 1:
            dropped = F.dropout(x, rates[0])
        else:
            rate = torch.tensor(rates, device=x.device, dtype=x.dtype).view(-1, *[1] * (x.dim() - 1))
            dropped = x * (torch.rand_like(x) >= rate) / (1 - rate)
        self._dropped = (x, dropped)
        return dropped

    # -- training --

    def trainable(
        self,
        languages: Iterable[str],
        settings: LoraSettings,
        seed: int,
        start: Mapping[str, LoraWeights] | None = None,
    ) -> None:
        """Create a fresh adapter of parameters for every language, replacing one of the same name.

        A is Kaiming uniform with a = sqrt(5) and B is zero, as in PEFT; a language's numbers depend on the
        seed and its own name only, so that it starts alike whatever other languages are trained with it.
        Dropout acts while the bank is in training mode.

        Args:
            start: weights to continue from, by language, in place of the fresh ones.

        Raises:
            AdapterError: the backbone has no module that ``settings.target_modules`` names.
        """
        names = self._targets(settings.target_modules)
        if not names:
            endings = sorted({name.rpartition(".")[2] for name in self._linears})
            raise AdapterError(
                f"no linear layer of the backbone is named like {_listed(settings.target_modules)}; "
                f"set target_modules to some of {_listed(endings)}"
            )
        shape = LoraShape.from_settings(settings)
        for language in languages:
            weights = (start or {}).get(language) or self._fresh(check_language(language), shape, names, seed)
            self._check(language, weights)
            with self._lock:
                self._forget(language)
                for name, layer in weights.layers.items():
                    device: Any = self._linears[name].weight.device
                    self._sites[name].add_trainable(language, layer, device=device)
                self._shapes[language] = weights.shape
                self._dropouts[language] = settings.dropout

    def _fresh(self, language: str, shape: LoraShape, names: Iterable[str], seed: int) -> LoraWeights:
        digest = hashlib.sha256(f"{seed} {language}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        layers = {}
        for name in names:
            site = self._sites[name]
            a = torch.empty(shape.rank, site.in_features)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
            layers[name] = LoraLayer(a, torch.zeros(site.out_features, shape.rank), shape.scaling_of(name))
        return LoraWeights(shape, layers)

    def parameters_of(self, language: str) -> list[nn.Parameter]:
        """The parameters of one trainable language; empty where it is not trainable."""
        return [p for site in self._sites.values() for p in site.parameters_of(language)]

    def export(self, language: str) -> LoraWeights:
        """A float32 copy of a trainable adapter, for ``AdapterPool.save`` or, frozen, for ``add``.

        Raises:
            LanguageError: it is not trainable in this bank.
        """
        if language not in self._dropouts:
            raise LanguageError(f"no adapter {language!r} is being trained, only {_listed(self._dropouts)}")
        layers = {name: site.export(language) for name, site in self._sites.items() if site.rank(language)}
        return LoraWeights(self._shapes[language], layers)


class _Hook:
    """What stands behind a hooked layer; a class, so that ``attach`` can tell a bank's hooks from others."""

    def __init__(self, bank: AdapterBank, name: str) -> None:
        self._bank, self._name = bank, name

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return self._bank._add_to(self._name, inputs[0], output)


def _is_linear(module: nn.Module) -> bool:
    """A linear layer, or GPT-2's ``Conv1D``, which is one with its weight transposed."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _dtype(module: nn.Module) -> torch.dtype:
    """That of the products of a layer: of its weight, or where that is packed (4-bit layers) the one it names."""
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
