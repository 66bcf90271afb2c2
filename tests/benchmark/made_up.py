"""Results of a benchmark that was not run, to look at what is made of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from retrieveall.benchmark import BenchmarkConfig
from retrieveall.benchmark.cells import cells_of
from retrieveall.benchmark.corpora import Corpus, Gold
from retrieveall.benchmark.runner import CELLS, CONFIG, PLAN
from retrieveall.benchmark.scores import Row, summary
from retrieveall.benchmark.worker import FAILED, RESULT, dump_rows, save_cell
from retrieveall.config import LabelConfig, dump_yaml, parse_config
from retrieveall.evaluation import Provenance
from retrieveall.types import Sentence

LABELS = ("PER", "ORG", "LOC")
LANGUAGES = ("en", "de", "zh", "ja")
RAW: dict[str, Any] = {
    "name": "made-up",
    "data": {"path": "panx", "languages": list(LANGUAGES), "train": 250, "test": 60},
    "seeds": [1, 2],
    "sizes": [50, 1000],
    "sets": ["all", "grow"],
    "backbone": "owner/model",
    "methods": [
        {"name": "RetrieveAll", "kind": "retrieveall", "seeds": [1, 2, 3]},
        {"name": "shared adapter", "kind": "retrieveall", "adapters": "shared"},
        {"name": "LS-unLLaMA", "kind": "unmasked_lm"},
        {"name": "CRF, per language", "kind": "crf", "languages": ["en", "de"]},
        {"name": "PromptNER", "kind": "promptner"},
    ],
}
QUALITY = {"RetrieveAll": 0.8, "shared adapter": 0.72, "LS-unLLaMA": 0.65, "CRF, per language": 0.5}


def _rows(quality: float, language: str, seed: int, *, routed: bool, probable: bool) -> list[Row]:
    gold_of, choose = random.Random(language), random.Random(f"{language} {seed} {quality}")
    rows = []
    for _ in range(60):
        gold = [(10 * i, 10 * i + 5, gold_of.choice(LABELS)) for i in range(gold_of.randint(1, 3))]
        found: dict[tuple[int, int, str], float] = {}
        for start, end, label in gold:
            p = choose.random()
            if p < quality:
                found[start, end, label] = 0.5 + p / 2
            elif p < 0.9:
                found[start, end + choose.choice((0, 1)), choose.choice(LABELS)] = p / 2
        seen = tuple(gold_of.random() < 0.4 for _ in gold)
        other = LANGUAGES[(LANGUAGES.index(language) + 1) % 4]
        rows.append(
            Row(
                tuple(gold),
                tuple(found),
                (True,) * len(gold),
                seen,
                gold_of.random() < 0.1,
                tuple(found.values()) if probable else (),
                (language if choose.random() < 0.9 else other) if routed else None,
            )
        )
    return rows


def write_made_up(out: Path) -> Path:
    """Results as the cells of ``RAW`` would leave them; PromptNER has not been run for want of weights."""
    config = parse_config(BenchmarkConfig, RAW, "made up")
    corpora = {
        language: Corpus(
            language,
            [Sentence(f"{language} {n}") for n in range(1000)],
            [],
            [Gold(Sentence("x"), ())],
        )
        for language in LANGUAGES
    }
    labels = tuple(LabelConfig(name=name) for name in LABELS)
    cells = cells_of(config, corpora, labels)
    (out / CONFIG).write_text(dump_yaml(config), encoding="utf-8")
    (out / PLAN).write_text(json.dumps({"cells": [cell.folder for cell in cells]}))
    provenance = Provenance(commit="0" * 40, date="2026-11-26", machine={"processor": "CPU", "cpus": 2})
    for cell in cells:
        folder = out / CELLS / cell.folder
        save_cell(cell, labels, folder, out)
        if cell.method.name == "PromptNER":
            (folder / FAILED).write_text("expected the backbone in 'x' or a hub id, found neither; check")
            continue
        rows = {}
        for language in cell.languages:
            quality = QUALITY[cell.method.name] - 0.25 / (cell.sizes[language] / 50) ** 0.5
            quality -= 0.03 * len(cell.languages) * (cell.method.name == "shared adapter")
            own = cell.method.name == "RetrieveAll"
            rows[language] = _rows(
                quality, language, cell.seed, routed=own, probable=not cell.method.name.startswith("CRF")
            )
        _write(folder, cell, rows, provenance)
    return out


def _write(folder: Path, cell: Any, rows: dict[str, list[Row]], provenance: Provenance) -> None:
    sentences = sum(map(len, rows.values()))
    result = {
        "method": {"name": cell.method.name, "kind": cell.method.kind},
        "languages": cell.languages,
        "sizes": cell.sizes,
        "seed": cell.seed,
        "model_fingerprint": cell.training_key,
        "backbone": {"path": "owner/model"},
        "scores": {language: summary(own) for language, own in rows.items()},
        "cost": {
            "training_seconds": 600.0 * len(cell.languages) * QUALITY[cell.method.name] ** 4,
            "training_processor_seconds": 1200.0,
            "predicting_seconds": sentences / 100 / QUALITY[cell.method.name] ** 3,
            "sentences": sentences,
            "sentences_per_second": 100,
            "peak_memory_mb": 900.0,
            "gpu_memory_mb": None,
            "trained_mb": 2.5,
        },
        "provenance": {
            "commit": provenance.commit,
            "modified": False,
            "machine": provenance.machine,
            "versions": {"python": "3.11"},
            "date": provenance.date,
            "command": f"python -m retrieveall.benchmark.worker {folder.parents[1] / CONFIG} {folder}",
        },
    }
    (folder / RESULT).write_text(json.dumps(result))
    (folder / "predictions.jsonl").write_bytes(dump_rows(rows))
