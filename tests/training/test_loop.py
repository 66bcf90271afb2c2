"""The loop on its own: any module, any batches, parameter groups, averages, mixed precision, going on after a stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from retrieveall.config import OptimisationConfig
from retrieveall.errors import ConfigError, NonFiniteError
from retrieveall.training import loop
from retrieveall.training.loop import LoopTrainer, fit


class Regression(nn.Module):
    """Two layers that are told apart by their groups."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 1)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        hidden = nn.functional.dropout(torch.tanh(self.first(inputs)), 0.2, self.training)
        return {"loss": (self.second(hidden)[:, 0] * self.frozen - labels).square().mean()}


class Numbers:
    """Batches of unequal size, the same whenever they are asked for."""

    def __init__(self, count: int = 12, scale: float = 1.0) -> None:
        self.count, self.scale = count, scale
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        self.asked.append(number)
        generator = torch.Generator().manual_seed(number)
        inputs = torch.randn(4 + number % 3, 6, generator=generator)
        return {"inputs": inputs, "labels": self.scale * inputs.sum(1)}


def config(**settings: Any) -> OptimisationConfig:
    return OptimisationConfig.model_validate({"learning_rate": 0.02, "warmup_ratio": 0.2, **settings})


def run(folder: Path, module: nn.Module | None = None, **options: Any) -> Regression:
    module = module or Regression()
    batches, settings = options.pop("batches", None) or Numbers(), options.pop("settings", None) or config()
    fit(module, batches, settings, folder, device="cpu", show_bar=False, **options)
    assert isinstance(module, Regression)
    return module


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def equal(one: nn.Module, two: nn.Module) -> bool:
    found, expected = weights(one), weights(two)
    return all(torch.equal(found[name], expected[name]) for name in expected)


def test_it_learns_and_leaves_what_is_frozen(tmp_path: Path) -> None:
    before, module = weights(Regression()), run(tmp_path)
    changed = {name for name, tensor in weights(module).items() if not torch.equal(tensor, before[name])}
    assert changed == {"first.weight", "first.bias", "second.weight", "second.bias"}


def test_every_batch_is_seen_once_in_order(tmp_path: Path) -> None:
    batches = Numbers()
    run(tmp_path, batches=batches)
    assert batches.asked == list(range(12))


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_that_was_stopped_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float, accumulation: int
) -> None:
    settings = config(weight_average=average, gradient_accumulation=accumulation, checkpoint_minutes=1e-9)
    whole = run(tmp_path / "whole", settings=settings)
    step, done = LoopTrainer.training_step, []

    def stopped(self: Any, *args: Any, **kwargs: Any) -> Any:
        done.append(1)
        if len(done) == 8:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LoopTrainer, "training_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", settings=settings)
    batches = Numbers()
    resumed = run(tmp_path / "run", settings=settings, batches=batches)
    assert batches.asked[0] == (6 if accumulation == 2 else 7), "it goes on, and builds nothing of what was done"
    assert equal(resumed, whole)
    again = run(tmp_path / "run", settings=settings)
    assert equal(again, whole), "a run that is complete has nothing to do"


def test_an_interruption_ends_the_step_and_leaves_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting(Numbers):
        def __getitem__(self, number: int) -> dict[str, Tensor]:
            if number == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__getitem__(number)

    whole = run(tmp_path / "whole")
    # A shell that starts the tests in the background has told its children to ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", batches=Interrupting())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Ctrl-C again" in capsys.readouterr().err
    assert len(list((tmp_path / "run").glob("checkpoint-*"))) == 1
    batches = Numbers()
    assert equal(run(tmp_path / "run", batches=batches), whole)
    assert batches.asked[0] >= 5


def test_a_group_has_a_rate_and_a_decay_of_its_own(tmp_path: Path) -> None:
    module = Regression()
    before = weights(module)
    groups = [{"params": module.first.parameters(), "lr": 0.0}, {"params": module.second.parameters()}]
    run(tmp_path, module, groups=[{**group, "params": list(group["params"])} for group in groups])
    assert torch.equal(module.first.weight, before["first.weight"])
    assert not torch.equal(module.second.weight, before["second.weight"])


def test_the_weights_that_are_kept_are_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As computed by hand from the weights after every step, few of them counting at first."""
    steps: list[dict[str, Tensor]] = []
    end = loop._Average.on_step_end

    def recorded(self: Any, *args: Any, **kwargs: Any) -> None:
        steps.append({name: p.detach().clone() for name, p in self._weights.items()})
        end(self, *args, **kwargs)

    monkeypatch.setattr(loop._Average, "on_step_end", recorded)
    start = weights(Regression())
    evaluated: list[Tensor] = []
    module = Regression()

    def evaluate() -> dict[str, float]:
        evaluated.append(module.second.weight.detach().clone())
        return {"x": 0.5}

    run(tmp_path, module, settings=config(weight_average=0.7), evaluate=evaluate, evaluate_after=[5])
    expected = start["second.weight"]
    means = []
    for number, after in enumerate(steps, start=1):
        decay = min(0.7, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * after["second.weight"]
        means.append(expected)
    torch.testing.assert_close(module.second.weight, means[-1])
    torch.testing.assert_close(evaluated[0], means[4])
    assert not torch.equal(module.second.weight, steps[-1]["second.weight"])


def test_evaluation_changes_nothing(tmp_path: Path) -> None:
    calls: list[int] = []
    batches = Numbers()

    def evaluate() -> dict[str, float]:
        calls.append(len(batches.asked))
        assert not module.training
        return {"de": 0.5}

    plain, module = run(tmp_path / "plain"), Regression()
    run(tmp_path / "evaluated", module, batches=batches, evaluate=evaluate, evaluate_after=[4, 8])
    assert calls == [4, 8]
    assert equal(module, plain)


# -- mixed precision ---------------------------------------------------------------------------------------------------


@pytest.fixture
def scaler_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> list[torch.amp.GradScaler]:
    """Let fp16 work on a CPU as it does on a GPU: accelerate leaves the scaler away there. Also, let the Trainer not
    measure the norm of the gradients before each step, which unscales them by the way; not every release does.
    """
    from accelerate import Accelerator
    from transformers import Trainer

    scalers: list[torch.amp.GradScaler] = []
    init = Accelerator.__init__

    def with_scaler(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if self.mixed_precision == "fp16":
            self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=10**6)
            self.native_amp = True
            scalers.append(self.scaler)

    monkeypatch.setattr(Accelerator, "__init__", with_scaler)
    monkeypatch.setattr(Trainer, "_get_grad_norm", lambda *_, **__: None)
    return scalers


@pytest.mark.parametrize("scale", [0.001, 1.0, 8.0], ids=["small", "medium", "clipped"])
def test_fp16_clips_true_gradients(
    tmp_path: Path, scaler_on_a_cpu: list[torch.amp.GradScaler], monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    norms: list[float] = []
    clip = nn.utils.clip_grad_norm_

    def recorded(parameters: Any, norm: float) -> Tensor:
        found: Tensor = clip(parameters, norm)
        norms.append(found.item())
        return found

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", recorded)
    monkeypatch.setattr(nn.functional, "dropout", lambda x, *_: x)
    moved, found = [], []
    for precision in ("no", "fp16"):
        norms.clear()
        module = run(tmp_path / precision, batches=Numbers(scale=scale), settings=config(mixed_precision=precision))
        found.append(list(norms))
        before = weights(Regression())
        moved.append({name: tensor - before[name] for name, tensor in weights(module).items()})
    assert scaler_on_a_cpu
    assert scaler_on_a_cpu[0].get_scale() == 2.0**8, "no step was left out"
    assert len(found[0]) == len(found[1]) == 12
    assert found[1] == pytest.approx(found[0], rel=0.05)
    for name, tensor in moved[0].items():
        torch.testing.assert_close(moved[1][name], tensor, rtol=0.1, atol=0.01)


def test_bf16_is_chosen_where_the_hardware_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    step = LoopTrainer.training_step

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(bool(self.args.bf16))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(LoopTrainer, "training_step", recorded)
    for fast in (True, False):
        monkeypatch.setattr(loop, "has_fast_bfloat16", lambda fast=fast, **_: fast)
        run(tmp_path / str(fast), settings=config(mixed_precision="auto"), batches=Numbers(1))
    assert seen == [True, False]


class Spoilt(Regression):
    """From the call ``first`` on, its loss or its gradient is no number."""

    def __init__(self, first: int, *, gradient: bool = False) -> None:
        super().__init__()
        self.calls, self._first, self._gradient = 0, first, gradient

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss = super().forward(inputs, labels)["loss"]
        self.calls += 1
        if self.training and self.calls > self._first:
            if self._gradient:
                loss.register_hook(lambda gradient: gradient * float("nan"))
            else:
                loss = loss * float("inf")
        return {"loss": loss}


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("first", [1, 7, 11])
def test_a_run_that_diverges_says_so_and_what_to_do(tmp_path: Path, first: int, gradient: bool) -> None:
    """Also where the last step spoils the weights, and never with a checkpoint to go on with."""
    module, folder = Spoilt(first, gradient=gradient), tmp_path / "run"
    settings = config(checkpoint_minutes=1e-9)
    with pytest.raises(ConfigError, match=r"training diverged: .* with learning_rate 0.02; lower it") as caught:
        run(folder, module, settings=settings, evaluate=lambda: {}, evaluate_after=[4])
    said = str(caught.value)
    assert "--set learning_rate=0.002" in said
    assert str(folder) in said
    assert "dtype" not in said, "the module is in full precision"
    assert module.calls <= first + 1, "stopped at once"
    newest = loop._last_checkpoint(folder)
    saved = {} if newest is None else load_file(f"{newest}/weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())


def test_a_learning_rate_that_is_far_too_high(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training diverged: .*learning_rate 1e\+30; lower it"):
        run(tmp_path, settings=config(learning_rate=1e30))


def test_what_else_may_be_at_fault_comes_last(tmp_path: Path) -> None:
    settings = config(mixed_precision="bf16", weight_decay=0)
    module = Spoilt(3).bfloat16()

    class Halves(Numbers):
        def __getitem__(self, number: int) -> dict[str, Tensor]:
            return {name: tensor.bfloat16() for name, tensor in super().__getitem__(number).items()}

    with pytest.raises(ConfigError, match=r"backbone\.dtype to float32 and mixed_precision to 'no'") as caught:
        run(tmp_path, module, settings=settings, batches=Halves())
    said = str(caught.value)
    assert said.index("learning_rate") < said.index("dtype")


def test_before_the_first_step_the_model_is_at_fault(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="get the model again"):
        run(tmp_path, Spoilt(0))
