"""What the grammar of answers costs in generation: a Markdown table.

    python scripts/grammar_overhead.py --corpus DIR --backbone DIR

Writes the gold answers of corpus sentences with ``AnswerWriter``. The backbone computes its scores as always; then the
next token of the gold answer is made the likeliest, so that answers are of true length. DIR holds LANG/validation.tsv.
Times are of the processor, of all threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from retrieveall.adapters.bank import AdapterBank
from retrieveall.answers import write_answer
from retrieveall.answers.grammar import AnswerGrammar
from retrieveall.config import ModelConfig
from retrieveall.data import read_corpus, segment
from retrieveall.engines.base import WriteRequest
from retrieveall.engines.local.backbone import load_backbone
from retrieveall.engines.local.writer import AnswerWriter
from retrieveall.tokens import TokenCodec, load_tokenizer
from retrieveall.types import Sentence

LABELS = ("PER", "ORG", "LOC")
PROMPT = """Find the names in the text. PER is a person, real or fictional. ORG is an organisation: a company, party,
team, school or band. LOC is a place: a country, city, river, mountain or building. Write one line for each name, in the
order of the text: the label, a space and the name as it stands in the text. Write O before a name that is none.
Text: """


class GoldWriter(AnswerWriter):
    """Writes ``gold[text]``; the grammar and the model work as always."""

    gold: dict[str, list[int]]

    @property
    def grammar(self) -> AnswerGrammar:
        assert self._grammar is not None
        return self._grammar

    def _step(self, rows: Any, logits: Any) -> None:
        for number, row in enumerate(rows):
            logits[number, self.gold[row.question.text][len(row.tokens)]] += 1e4
        super()._step(rows, logits)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begin = time.process_time()
        yield
        self.seconds[what] += time.process_time() - begin


def texts(corpus: Path, words: int) -> Iterator[Sentence]:
    """Texts of all languages in turn."""
    for reader in cycle([joined(read_corpus(path), words) for path in sorted(corpus.glob("*/validation.tsv"))]):
        yield next(reader)


def joined(sentences: Iterable[Sentence], words: int) -> Iterator[Sentence]:
    """Sentences put together until they have ``words`` words."""
    text, entities = "", []
    for sentence in sentences:
        shift = len(text) + bool(text)
        text = f"{text} {sentence.text}" if text else sentence.text
        entities += [replace(each, start=each.start + shift, end=each.end + shift) for each in sentence.entities]
        if len(segment(text)) >= words:
            yield Sentence(text, tuple(entities), sentence.language, "")
            text, entities = "", []


def measure(writer: GoldWriter, codec: TokenCodec, rows: int, words: int, options: argparse.Namespace) -> str:
    """One line of the table."""
    count = rows * (options.batches or max(1, 16 // rows))
    sentences = list(islice(texts(options.corpus, words), count))
    rules = writer.grammar
    answers = [rules.encode(write_answer(each.text, each.entities, options.spacing)) for each in sentences]
    writer.gold = {each.text: [*answer, rules.end_ids[0]] for each, answer in zip(sentences, answers, strict=True)}
    requests = [
        WriteRequest(codec.plain(f"{PROMPT}{each.text}\nNames:\n"), each.text, {}, LABELS, options.spacing, 10_000)
        for each in sentences
    ]
    whole, grammar, start = [], [], []
    for _ in range(options.repeats):
        writer.seconds, writer.passes = {"model": 0.0, "grammar": 0.0}, 0
        begin = time.process_time()
        for first in range(0, count, rows):
            written = writer.write(requests[first : first + rows])
            assert [each.answer for each in written] == [codec.decode(each) for each in answers[first : first + rows]]
        whole.append(time.process_time() - begin)
        grammar.append(writer.seconds["grammar"])
        begin = time.process_time()
        for each in sentences:
            rules.start(each.text)
        start.append((time.process_time() - begin) / count * 1e3)
    share = median(part / all_of_it for part, all_of_it in zip(grammar, whole, strict=True))
    cells = (rows, words, writer.passes, f"{median(whole):.2f} s", f"{median(grammar):.3f} s", f"{share:.1%}")
    return f"| {' | '.join(map(str, cells))} | {median(start):.1f} ms |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, required=True, help="a folder with a causal model and its tokenizer")
    parser.add_argument("--spacing", default="as_is", choices=("as_is", "always"))
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--words", type=int, nargs="+", default=[20, 110])
    parser.add_argument("--batches", type=int, default=0, help="of a measurement; default: 16 rows or one batch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = ModelConfig.model_validate(
        {
            "labels": [{"name": name} for name in LABELS],
            "backbone": {"path": str(options.backbone.resolve())},
            "decoder": {"kind": "generation", "spacing": options.spacing},
        }
    )
    model, codec = load_backbone(config, None), TokenCodec(load_tokenizer(config.backbone, None), options.spacing)
    writer = GoldWriter(model, AdapterBank.attach(model), codec, LABELS, options.spacing)
    print("| rows | words | passes | whole | grammar | share | start of a text |\n|---|---|---|---|---|---|---|")
    for words in options.words:
        for rows in options.rows:
            print(measure(writer, codec, rows, words, options), flush=True)


if __name__ == "__main__":
    main()
