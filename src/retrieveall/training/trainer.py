"""Training adapters over a frozen backbone: all languages in one run, or one alone.

``transformers.Trainer`` does the loop, so that resuming, mixed precision, accumulation and several processes are its
own; what is added is which parameters are saved (the adapters only), the order of the data, and F1 per language.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from retrieveall.config import TrainingConfig
from retrieveall.data import segment
from retrieveall.decoding import UNCALIBRATED, Calibration, ScoredSpan, TagSet, decode_batch, fit_calibration
from retrieveall.engines.answering import read_answer
from retrieveall.engines.generation import AnswerWriter, Question
from retrieveall.errors import ModelFolderError
from retrieveall.evaluation.spans import Counts
from retrieveall.training.dataset import Collator, LengthSampler, TaggingDataset
from retrieveall.training.examples import Example
from retrieveall.training.model import TaggingModel
from retrieveall.training.parallel import Processes, Share
from retrieveall.training.progress import report_on_stderr

__all__ = ["Fitted", "fit_adapters"]

_ADAPTERS = "adapters.safetensors"


@dataclass(frozen=True)
class Fitted:
    """What the last validation said, by language: F1 from 0 to 1, and the calibration of the probabilities."""

    scores: Mapping[str, float]
    calibrations: Mapping[str, Calibration]


class AdapterTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    """``Trainer`` that saves and restores the adapters alone and scores them language by language."""

    def __init__(
        self,
        *args: Any,
        languages: Sequence[str],
        tag_set: TagSet,
        temperature: float,
        processes: Processes,
        writer: AnswerWriter | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._processes = processes
        self.model_accepts_loss_kwargs = True  # the loss is over a whole step already, see ``compute_loss``
        self._languages = tuple(languages)
        self._tag_set = tag_set
        self._temperature = temperature
        self._writer = writer
        self.scores: dict[str, float] = {}
        self.calibrations: dict[str, Calibration] = {}

    def get_train_dataloader(self) -> DataLoader[Example]:
        assert isinstance(self.train_dataset, TaggingDataset)
        size = self.args.train_batch_size * self._processes.count
        share = Share(LengthSampler(self.train_dataset, size, self.args.seed), size, self._processes)
        self.add_callback(_Epochs(share))
        return DataLoader(
            self.train_dataset,
            batch_sampler=share,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        """Labels in the step, of all its batches and all processes; in some there may be none."""
        return max(1, self._processes.total(sum(batch["tags"].numel() for batch in batch_samples)))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Any:
        """This batch's part of the mean over all labels of the step, so that batches, accumulated ones and processes
        with many labels weigh more: any split of a global batch gives the same gradient.
        """
        outputs = model(**inputs)
        # Gradients are averaged over the processes: the factor turns that into a sum.
        share = self._processes.count * inputs["tags"].numel() / (num_items_in_batch or inputs["tags"].numel())
        loss = outputs["loss"] * share
        return (loss, outputs) if return_outputs else loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        from safetensors import SafetensorError

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
        tensors = {name: p.detach().cpu().contiguous() for name, p in self._bank().state_dict().items()}
        save_file(tensors, str(folder / _ADAPTERS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        from safetensors.torch import load_file

        self._bank().load_state_dict(load_file(str(Path(resume_from_checkpoint) / _ADAPTERS)))

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Span F1 of every language on the evaluation examples, told the language."""
        assert isinstance(self.eval_dataset, Dataset)
        counts = {language: Counts() for language in self._languages}
        judged: dict[str, list[tuple[float, int, int, bool]]] = {language: [] for language in self._languages}
        model = self.model
        assert isinstance(model, TaggingModel)
        model.eval()
        examples = sorted((self.eval_dataset[i] for i in range(len(self.eval_dataset))), key=lambda e: len(e.ids))  # type: ignore[arg-type]
        size = self.args.eval_batch_size
        batches = [
            self.data_collator.arrange(examples[first : first + size]) for first in range(0, len(examples), size)
        ]
        with nullcontext() if model.shards is None else model.shards.uneven():
            share = [self._predict(model, batch) for batch in self._processes.deal(batches)]
        predicted = self._processes.collect(share)
        for batch, rows in zip(batches, predicted, strict=True):
            for example, found in zip(batch, rows, strict=True):
                gold = example.gold if self._writer else set(self._tag_set.decode(example.tags))
                right = [(start, end, label) in gold for start, end, label, _ in found]
                words = [self._words(example, start, end) for start, end, _, _ in found]
                total = len(segment(example.text)) if self._writer else len(example.tags)
                around = [total - own for own in words]
                scores = [score for _, _, _, score in found]
                judged[example.language] += zip(scores, words, around, right, strict=True)
                counts[example.language] += Counts(sum(right), len(right), len(gold))
        model.train()
        self.scores = {language: counts[language].f1 for language in self._languages}
        self.calibrations = {
            language: fit_calibration(*zip(*own, strict=True)) if own else UNCALIBRATED
            for language, own in judged.items()
        }
        metrics = {f"{metric_key_prefix}_f1_{language}": f1 for language, f1 in self.scores.items()}
        metrics[f"{metric_key_prefix}_f1"] = sum(self.scores.values()) / max(1, len(self.scores))
        self.log(metrics)
        control: TrainerControl = self.control  # type: ignore[has-type]
        self.control = self.callback_handler.on_evaluate(self.args, self.state, control, metrics)
        return metrics

    @torch.inference_mode()
    def _predict(self, model: torch.nn.Module, batch: list[Example]) -> Sequence[Sequence[ScoredSpan]]:
        if self._writer is not None:
            return self._answers(self._writer, batch)
        inputs = self._prepare_inputs(self.data_collator(batch))
        with self.compute_loss_context_manager():
            logits: Tensor = model(**inputs)["logits"]
        rows = torch.split(
            (logits.float() / self._temperature).log_softmax(dim=1).cpu(), [len(example.tags) for example in batch]
        )
        return decode_batch(self._tag_set, [part.numpy() for part in rows])

    def _answers(self, writer: AnswerWriter, batch: list[Example]) -> Sequence[Sequence[ScoredSpan]]:
        """Spans of characters, where tags give spans of words."""
        questions = [Question(each.ids[: each.question], each.text, {each.language: 1.0}) for each in batch]
        with self.compute_loss_context_manager():
            written = writer.write(questions)
        labels = self._tag_set.labels
        return [read_answer(found, each.text, labels).spans for found, each in zip(written, batch, strict=True)]

    def _words(self, example: Example, start: int, end: int) -> int:
        """The length of a span, of words where the model tags and of characters where it writes."""
        return len(segment(example.text[start:end])) if self._writer else end - start

    def _bank(self) -> Any:
        model = self.accelerator.unwrap_model(self.model)
        return model.bank


class _ClipEachLanguage(TrainerCallback):  # type: ignore[misc]
    """Gradient clipping language by language: one norm over all adapters would let one language slow another."""

    def __init__(self, model: TaggingModel, norm: float) -> None:
        self._model = model
        self._norm = norm

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        for language in self._model.languages:
            torch.nn.utils.clip_grad_norm_(self._model.bank.parameters_of(language), self._norm)


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the order of the rows which epoch it is, also where a run resumes in the middle of one."""

    def __init__(self, share: Share) -> None:
        self._share = share

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._share.set_epoch(int(state.epoch or 0))


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


def fit_adapters(
    model: TaggingModel,
    train: TaggingDataset,
    validation: Sequence[Example],
    tag_set: TagSet,
    config: TrainingConfig,
    run_folder: Path,
    *,
    pad: int,
    temperature: float = 1.0,
    writer: AnswerWriter | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Fitted:
    """Train the adapters in ``model.bank``; what comes back was measured on ``validation`` after the last epoch.

    Checkpoints go to ``run_folder``; where it holds one already, training goes on from it and ends with the weights
    of an uninterrupted run. ``writer`` writes the answers of a generating model for validation.
    """
    processes = Processes.join(device)
    use_cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
    arguments = TrainingArguments(
        output_dir=str(run_folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=0.0,  # _ClipEachLanguage
        bf16=config.mixed_precision == "bf16",
        fp16=config.mixed_precision == "fp16",
        eval_strategy="epoch" if validation else "no",
        save_strategy="no",
        save_total_limit=2,
        logging_steps=50,
        seed=config.seed,
        data_seed=config.seed,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=not use_cpu,
        ddp_find_unused_parameters=True,  # the languages that a batch does not have
        ddp_broadcast_buffers=False,
        report_to=[],
        use_cpu=use_cpu,
        disable_tqdm=not progress,
    )
    if processes.count == 1 and arguments.n_gpu > 1:
        arguments._n_gpu = 1  # several GPUs take several processes; torch's DataParallel would cut the rows apart
    trainer = AdapterTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=_Listed(validation) if validation else None,
        data_collator=Collator(pad, model.languages),
        callbacks=[_Minutes(config.checkpoint_minutes, processes), _ClipEachLanguage(model, 1.0)],
        processes=processes,
        languages=model.languages,
        tag_set=tag_set,
        temperature=temperature,
        writer=writer,
    )
    report_on_stderr(trainer)
    if processes.count > 1:
        torch.manual_seed(config.seed + processes.rank)  # else all processes would drop the same places
    trainer.train(resume_from_checkpoint=_last_checkpoint(run_folder, processes.count))
    return Fitted(trainer.scores, trainer.calibrations)


class _Listed(Dataset[Example]):
    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]


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
