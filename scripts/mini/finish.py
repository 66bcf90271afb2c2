"""The last step of the shipped model: temperature, calibrations and F1 on validation go into settings and cards.

python scripts/mini/finish.py --panx DIR --model runs/mini/model [--install src/retrieveall/models/mini]
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from retrieveall import RetrieveAll
from retrieveall.adapters import AdapterPool
from retrieveall.adapters.card import CARD_NAME
from retrieveall.config import dump_yaml
from retrieveall.data import read_corpus
from retrieveall.evaluation import evaluate, fit_model_calibrations, fit_model_temperature
from retrieveall.model_folder import SETTINGS
from retrieveall.storage import Transaction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument(
        "--sentences", type=int, default=400, help="validation sentences a language: temperature and F1"
    )
    parser.add_argument("--calibrate-on", type=int, default=4000, help="for the calibrations")
    parser.add_argument("--install", type=Path, help="where to put the finished model, in place of what is there")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = RetrieveAll.from_pretrained(args.model, device="cpu")
    validation = {
        language: list(read_corpus(args.panx / language / "validation.tsv", language=language))
        for language in model.languages
    }
    sentences = {language: some[: args.sentences] for language, some in validation.items()}
    temperature = round(fit_model_temperature(model, sentences), 3)
    print(f"temperature {temperature}")
    decoder = model.config.decoder.model_copy(update={"temperature": temperature})
    with Transaction(args.model) as transaction:
        text = dump_yaml(model.config.model_copy(update={"decoder": decoder}))
        transaction.path(SETTINGS).write_text(text, encoding="utf-8")
    model = RetrieveAll.from_pretrained(args.model, device="cpu")
    calibrations = fit_model_calibrations(model, validation, limit=args.calibrate_on)
    report = evaluate(model, sentences, language="told")
    pool = AdapterPool(args.model)
    with Transaction(args.model) as transaction:
        for language, calibration in calibrations.items():
            f1 = round(report.languages[language].f1, 4)
            print(f"{language}: F1 {f1:.4f}, calibration", *(f"{x:.3f}" for x in calibration))
            card = replace(pool.card(language), calibration=calibration, scores={"validation_f1": f1})
            transaction.path(f"adapters/{language}/{CARD_NAME}").write_bytes(card.to_bytes())
    if args.install:
        shutil.rmtree(args.install, ignore_errors=True)
        RetrieveAll.from_pretrained(args.model, device="cpu").save_pretrained(args.install)
        size = sum(path.stat().st_size for path in args.install.rglob("*") if path.is_file())
        print(f"{args.install}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
