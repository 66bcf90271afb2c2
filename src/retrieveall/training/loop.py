"""The training loop: any module that returns a loss, over any numbered batches.

``transformers.Trainer`` does the loop, so that resuming, mixed precision, accumulation and several processes are its
own. Added are what is saved (the trained weights only), clipping by group, a moving average of the weights, and
checkpoints by the clock. Knows parameters and batches; knows nothing of languages or adapters.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from retrieveall.config import OptimisationConfig
from retrieveall.engines.local.fast_linear import has_bfloat16
from retrieveall.errors import ModelFolderError
from retrieveall.training.divergence import Divergence
from retrieveall.training.parallel import Processes
from retrieveall.training.progress import report_on_stderr
from retrieveall.training.schedule import WHOLE, Part, schedule

__all__ = ["Batches", "fit", "has_fast_bfloat16"]

_WEIGHTS = "weights.safetensors"
_AVERAGE = "average/"  # before the names of averaged tensors in that file
_MAX_NORM = 1.0
_WORKERS = 2  # that make batches while a GPU computes; on a CPU they would only take turns with it
_BETAS = (0.9, 0.98)  # RoBERTa's: with 0.999 a short run is over before the second moment is known

Group = Mapping[str, Any]
"""A parameter group of torch's optimisers: ``params``, and perhaps ``lr`` and ``weight_decay``."""


class Batches(Protocol):
    """The batches of a run in order, in this process; a batch is the same whenever it is asked for.

    A batch holds the arguments of the module; its tensor ``labels`` has an element for each prediction.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> dict[str, Tensor]: ...


def fit(
    module: nn.Module,
    batches: Batches,
    config: OptimisationConfig,
    run_folder: Path,
    *,
    groups: Sequence[Group] | None = None,
    clip: Sequence[Sequence[nn.Parameter]] | None = None,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    evaluate_after: Collection[int] = (),
    part: Part = WHOLE,
    device: str | None = None,
    show_bar: bool = True,
) -> None:
    """Train ``module`` in place on ``batches``, once each.

    Checkpoints go to ``run_folder``; where it holds one already, training goes on from it and ends with the weights
    of an uninterrupted run. Under ``accelerate launch`` or ``torchrun`` all processes call this alike.

    Args:
        module: called with a batch's tensors by name, returns ``{"loss": mean over the labels of the batch}``. A step
            minimises the mean over all labels of its batches and processes.
        groups: all parameters that need a gradient, in one group, if None.
        clip: parameters whose gradients are clipped together, by their norm; those of a group if None.
        evaluate: scores by name, 0 to 1, to be reported; called after so many batches as ``evaluate_after`` says.
        part: of the schedule of the learning rate, for a phase of a run.
        device: "cpu" keeps to the CPU where there is a GPU.

    An interruption (Ctrl-C) is heeded after the step in progress, with a checkpoint; a second one at once.

    Raises:
        ModelFolderError: a checkpoint cannot be written.
        ConfigError: training diverged: losses or weights are no numbers.
        KeyboardInterrupt: training was interrupted.
    """
    processes = Processes.join(device)
    if groups is None:
        groups = [{"params": [p for p in module.parameters() if p.requires_grad]}]
    arguments = _arguments(config, run_folder, processes, device, show_bar)
    trainer = LoopTrainer(
        module,
        batches,
        arguments,
        processes,
        optimizer=_optimizer(groups, clip, config, fused=not arguments.fp16),
        weight_average=config.weight_average,
        part=part,
        divergence=Divergence.of(config, run_folder, module),
        evaluate=evaluate,
        steps={-(-number // config.gradient_accumulation) for number in evaluate_after},
    )
    trainer.add_callback(_Minutes(config.checkpoint_minutes, processes))
    report_on_stderr(trainer)
    if processes.count > 1:
        torch.manual_seed(config.seed + processes.rank)  # else all processes would drop the same places
    interruption = _Interruption(processes)
    trainer.add_callback(interruption)
    with interruption.listening():
        trainer.train(resume_from_checkpoint=_last_checkpoint(run_folder, processes.count))
    if interruption.heeded:
        raise KeyboardInterrupt
    trainer.check_weights()
    trainer.keep_average()


def _arguments(
    config: OptimisationConfig, run_folder: Path, processes: Processes, device: str | None, show_bar: bool
) -> TrainingArguments:
    use_cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
    precision = config.mixed_precision
    if precision == "auto":
        precision = "bf16" if has_fast_bfloat16(use_cpu=use_cpu) else "no"
    arguments = TrainingArguments(
        output_dir=str(run_folder),
        num_train_epochs=1,  # the batches of all epochs, one after the other
        per_device_train_batch_size=1,  # a batch is one item of the data set
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,
        max_grad_norm=0.0,  # see _optimizer
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        save_strategy="no",
        save_total_limit=2,
        logging_steps=50,
        seed=config.seed,
        data_seed=config.seed,
        remove_unused_columns=False,
        dataloader_num_workers=0 if use_cpu else _WORKERS,
        dataloader_pin_memory=not use_cpu,
        ddp_find_unused_parameters=True,  # the languages that a batch does not have
        ddp_broadcast_buffers=False,
        report_to=[],
        use_cpu=use_cpu,
        disable_tqdm=not show_bar,
    )
    if processes.count == 1 and arguments.n_gpu > 1:
        arguments._n_gpu = 1  # several GPUs take several processes; torch's DataParallel would cut the rows apart
    return arguments


def has_fast_bfloat16(*, use_cpu: bool) -> bool:
    """Whether the hardware multiplies bfloat16 itself; a processor that does not is ten times slower with it."""
    if not use_cpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return has_bfloat16()


def _optimizer(
    groups: Sequence[Group], clip: Sequence[Sequence[nn.Parameter]] | None, config: OptimisationConfig, *, fused: bool
) -> torch.optim.Optimizer:
    """AdamW that clips gradients group by group: one norm over all would let one language slow another.

    Clipping is a part of the optimiser's step, so that it comes after a gradient scaler has unscaled the gradients. A
    fused optimiser would unscale them inside of the step.
    """
    clipped = [list(group["params"]) for group in groups] if clip is None else [list(some) for some in clip]
    optimizer = torch.optim.AdamW(
        [dict(group) for group in groups],
        lr=config.learning_rate,
        betas=_BETAS,
        weight_decay=config.weight_decay,
        fused=fused,
    )

    def clip_gradients(*_: Any) -> None:
        for parameters in clipped:
            nn.utils.clip_grad_norm_(parameters, _MAX_NORM)

    optimizer.register_step_pre_hook(clip_gradients)
    return optimizer


class LoopTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    """``Trainer`` that takes numbered batches, and saves and restores the trained weights alone."""

    def __init__(
        self,
        module: nn.Module,
        batches: Batches,
        arguments: TrainingArguments,
        processes: Processes,
        *,
        optimizer: torch.optim.Optimizer,
        weight_average: float,
        part: Part,
        divergence: Divergence,
        evaluate: Callable[[], Mapping[str, float]] | None,
        steps: Collection[int],
    ) -> None:
        super().__init__(
            model=module,
            args=arguments,
            train_dataset=batches,
            eval_dataset=[],
            data_collator=_only_item,
            optimizers=(optimizer, None),
            callbacks=[_AtSteps(steps)] if evaluate is not None else [],
        )
        self.model_accepts_loss_kwargs = True  # the loss is over a whole step already, see ``compute_loss``
        self._processes, self._divergence = processes, divergence
        self._evaluate_module = evaluate
        self._part = part
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.trained = {name: p for name, p in module.named_parameters() if id(p) in trained}
        self.average = _Average(self.trained, weight_average) if weight_average else None
        if self.average is not None:
            self.add_callback(self.average)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The schedule of this phase of the run; that of a run in one phase is transformers' own."""
        if self._part == WHOLE:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = schedule(
            optimizer or self.optimizer, num_training_steps, float(self.args.warmup_steps), self._part
        )
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            self.train_dataset,
            batch_size=1,
            shuffle=False,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        """Labels in the step, of all its batches and all processes; in some there may be none."""
        return max(1, self._processes.total(sum(batch["labels"].numel() for batch in batch_samples)))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Any:
        """This batch's part of the mean over all labels of the step, so that batches, accumulated ones and processes
        with many labels weigh more: any split of a global batch gives the same gradient.
        """
        outputs = model(**inputs)
        # Gradients are averaged over the processes: the factor turns that into a sum.
        share = self._processes.count * inputs["labels"].numel() / (num_items_in_batch or inputs["labels"].numel())
        loss = outputs["loss"] * share
        self._divergence.check_loss(loss, self.state.global_step)
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        assert self._evaluate_module is not None
        module = self.accelerator.unwrap_model(self.model)
        module.eval()
        self.check_weights()
        with self._averaged(), self._divergence.scoring():
            scores = self._evaluate_module()
        module.train()
        metrics = {f"{metric_key_prefix}_f1_{name}": score for name, score in scores.items()}
        metrics[f"{metric_key_prefix}_f1"] = sum(scores.values()) / max(1, len(scores))
        self.log(metrics)
        return metrics

    def check_weights(self) -> None:
        """Refuse weights that are no numbers.

        Raises:
            ConfigError: the run has diverged.
        """
        self._divergence.check_weights(self.trained.values(), self.state.global_step)

    def keep_average(self) -> None:
        """End with the averaged weights, where they are wanted."""
        if self.average is not None:
            self.average.copy_to_weights()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        if self.average is None:
            yield
            return
        current = [p.detach().clone() for p in self.trained.values()]
        self.average.copy_to_weights()
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(self.trained.values(), current, strict=True):
                    p.copy_(value)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        from safetensors import SafetensorError

        self.check_weights()  # a checkpoint of a diverged run would be gone on with
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own
            detail = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelFolderError(
                f"could not write a checkpoint to {self.args.output_dir}: {detail}; "
                "free space and repeat, training goes on from the last whole checkpoint"
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        from safetensors.torch import save_file

        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: p.detach().cpu().contiguous() for name, p in self.trained.items()}
        if self.average is not None:
            tensors |= {f"{_AVERAGE}{name}": mean.cpu() for name, mean in self.average.tensors.items()}
        save_file(tensors, str(folder / _WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        from safetensors.torch import load_file

        saved = load_file(str(Path(resume_from_checkpoint) / _WEIGHTS))
        with torch.no_grad():
            for name, p in self.trained.items():
                p.copy_(saved[name])
        if self.average is not None:
            self.average.load({name: saved[f"{_AVERAGE}{name}"] for name in self.trained})


def _only_item(items: Sequence[Any]) -> Any:
    (item,) = items
    return item


class _Average(TrainerCallback):  # type: ignore[misc]
    """An exponential moving average of the weights, over few steps at first."""

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self._weights, self._decay = weights, decay
        self.tensors: dict[str, Tensor] = {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: tensor.to(self._weights[name].device) for name, tensor in tensors.items()}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self.tensors:  # else they came from a checkpoint
            self.load({name: p.detach().clone() for name, p in self._weights.items()})

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        decay = min(self._decay, (1 + state.global_step) / (10 + state.global_step))
        current: list[Tensor] = [self._weights[name] for name in self.tensors]
        torch._foreach_lerp_(list(self.tensors.values()), current, 1 - decay)

    @torch.no_grad()
    def copy_to_weights(self) -> None:
        for name, mean in self.tensors.items():
            self._weights[name].copy_(mean)


class _AtSteps(TrainerCallback):  # type: ignore[misc]
    """Evaluates after the steps of these numbers."""

    def __init__(self, steps: Collection[int]) -> None:
        self._steps = frozenset(steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.global_step in self._steps:
            control.should_evaluate = True
        return control


class _Minutes(TrainerCallback):  # type: ignore[misc]
    """A checkpoint every so many minutes, whatever a step takes; the clock of the main process counts."""

    def __init__(self, minutes: float, processes: Processes) -> None:
        self._processes = processes
        self._seconds = minutes * 60
        self._last = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self._processes.agree(time.monotonic() - self._last > self._seconds):
            self._last = time.monotonic()
            control.should_save = True
        return control


class _Interruption(TrainerCallback):  # type: ignore[misc]
    """Stops after a step with a checkpoint where the user interrupts; amid a step, weights are half changed."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._wanted = False
        self.heeded = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take interruptions inside; where the program handles them in another way, nothing is changed."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._take)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _take(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._wanted = True
        print(
            "\nstopping after this step, with a checkpoint; press Ctrl-C again to stop at once",
            file=sys.stderr,
            flush=True,
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self._processes.agree(self._wanted) and state.global_step < state.max_steps:
            self.heeded = True
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False
        return control


def _last_checkpoint(folder: Path, processes: int = 1) -> str | None:
    """The newest complete checkpoint: one that a kill or a full disk cut short has no whole state file, which is
    written last.

    Several processes write a file of random states each, with no order between them.
    """
    files = [f"rng_state_{rank}.pth" for rank in range(processes) if processes > 1]
    found = [
        path
        for path in folder.glob("checkpoint-*")
        if _is_json(path / "trainer_state.json") and all((path / name).is_file() for name in files)
    ]
    return str(max(found, key=lambda path: int(path.name.rpartition("-")[2]))) if found else None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True
