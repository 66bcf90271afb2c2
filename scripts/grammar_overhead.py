"""What the grammar of written answers costs: a start per text, a mask per step, one JSON on standard output.

Two vocabularies: that of a model folder (the shipped one) and a synthetic byte-level one of 152,000 tokens, the size of
Qwen2.5's. Texts are random sentences of 30 words. A step of a batch is ``fill_masks`` over all rows plus what each row
then writes; rows choose at random among what is allowed, and begin anew when they end. With llguidance installed, the
same language is timed there too: rules of ``answer_gbnf`` compiled per text, masks filled by its own parallel call.
All times are of the processor, of all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retrieveall.decoding import AnswerGrammar, AnswerState, fill_masks
from retrieveall.engines.remote_grammar import answer_gbnf

LABELS = ("PER", "ORG", "LOC")
SHIPPED = Path(__file__).resolve().parents[1] / "src/retrieveall/models/mini/backbone/tokenizer.json"
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def synthetic(size: int, seed: int = 0) -> str:
    """A byte-level BPE of ``size`` tokens: every byte, random words and parts of words, with and without a space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    choose = random.Random(seed)
    vocabulary = {each: number for number, each in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary["<|end|>"] = len(vocabulary)
    merges: list[tuple[str, str]] = []
    known = [*LETTERS, *LETTERS.upper(), "Ġ", *(f"{mark}" for mark in ".,;:-)")]
    while len(vocabulary) < size:
        left = choose.choice(known)
        right = choose.choice(LETTERS) if choose.random() < 0.98 else "Ċ" if left in ".,;:-)" else "'"
        if left + right not in vocabulary and len(left) < 14:
            vocabulary[left + right] = len(vocabulary)
            merges.append((left, right))
            known.append(left + right)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer.to_str()


def make_texts(count: int, words: int = 30, seed: int = 1) -> list[str]:
    """Random sentences: words of 1 to 10 letters, one in five with a capital, a few marks between them."""
    choose = random.Random(seed)

    def word() -> str:
        made = "".join(choose.choices(LETTERS, weights=range(26, 0, -1), k=choose.randint(1, 10)))
        return (made.capitalize() if choose.random() < 0.2 else made) + choose.choice(["", "", "", "", ",", "."])

    lexicon = [word() for _ in range(2000)]
    return [" ".join(choose.choices(lexicon, k=words)) for _ in range(count)]


def per_step(rules: AnswerGrammar, texts: list[str], batch: int, steps: int) -> dict[str, float]:
    """Milliseconds of one step of a batch: filling the masks, and writing one token or the forced ones a row."""
    choose = np.random.default_rng(0)
    queue = iter(texts * (1 + batch * steps // len(texts)))
    states = [rules.start(next(queue)) for _ in range(batch)]
    masks = np.empty((batch, rules.words), dtype=np.int32)
    filling, writing, forced_tokens, written = [], 0.0, 0, 0
    for _ in range(steps):
        begin = time.process_time()
        fill_masks(states, masks)
        filling.append(time.process_time() - begin)
        chosen = [pick(row, choose) for row in masks]
        begin = time.process_time()
        for state, token in zip(states, chosen, strict=True):
            known = state.forced() or [token]
            state.advance(known)
            written += len(known)
            forced_tokens += len(known) - 1
        writing += time.process_time() - begin
        states = [rules.start(next(queue)) if state.finished else state for state in states]
    return {
        "mask_ms": round(statistics.mean(filling) * 1e3, 4),
        "mask_ms_median": round(statistics.median(filling) * 1e3, 4),
        "advance_and_forced_ms": round(writing / steps * 1e3, 4),
        "tokens_without_a_pass": round(forced_tokens / max(written, 1), 3),
    }


def pick(row: np.ndarray, choose: np.random.Generator) -> int:
    return int(choose.choice(np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))))


def measure(tokenizer_json: str, vocabulary: int, end: int, batches: list[int], steps: int) -> dict[str, Any]:
    begin = time.process_time()
    rules = AnswerGrammar(tokenizer_json, vocabulary, [end], LABELS)
    build = time.process_time() - begin
    texts = make_texts(100)

    def started(start: Callable[[str], Any]) -> float:
        begin = time.process_time()
        for text in texts:
            start(text)
        return round((time.process_time() - begin) / len(texts) * 1e3, 4)

    def start_and_look(text: str) -> AnswerState:
        state = rules.start(text)
        state.advance(rules.table.tokens(b"PER"))
        state.mask()  # the first one looks at every word
        return state

    begin = time.process_time()
    AnswerGrammar(tokenizer_json, vocabulary, [end], ("A", "B"))
    again = time.process_time() - begin
    return {
        "vocabulary": vocabulary,
        "tokenizer_s": round(build, 3),
        "label_set_ms": round(again * 1e3, 3),
        "start_ms": started(rules.start),
        "start_and_first_mention_ms": started(start_and_look),
        "step": {str(batch): per_step(rules, texts, batch, steps) for batch in batches},
    }


def compare(tokenizer_json: str, vocabulary: int, end: int, batches: list[int], steps: int) -> dict[str, Any] | str:
    """llguidance for the same language."""
    try:
        import llguidance
        import llguidance.numpy as guided
    except ImportError:
        return "not installed"
    tokenizer = llguidance.LLTokenizer(tokenizer_json, n_vocab=vocabulary, eos_token=end)
    executor = llguidance.LLExecutor()
    texts = make_texts(100)

    def start(text: str) -> Any:
        return llguidance.LLMatcher(tokenizer, llguidance.grammar_from("grammar", answer_gbnf(text, LABELS)))

    begin = time.process_time()
    for text in texts[:20]:
        start(text)
    compiled = (time.process_time() - begin) / 20
    choose, found = np.random.default_rng(0), {}
    for batch in batches:
        queue = iter(texts * (1 + batch * steps // len(texts)))
        matchers = [start(next(queue)) for _ in range(batch)]
        masks = guided.allocate_token_bitmask(batch, vocabulary)
        filling = []
        for _ in range(steps):
            begin = time.process_time()
            guided.fill_next_token_bitmask_par(executor, list(zip(matchers, range(batch), strict=True)), masks)
            filling.append(time.process_time() - begin)
            for row, matcher in enumerate(matchers):
                matcher.consume_token(pick(masks[row], choose))
                if matcher.is_stopped():
                    matchers[row] = start(next(queue))
        found[str(batch)] = {
            "mask_ms": round(statistics.mean(filling) * 1e3, 4),
            "mask_ms_median": round(statistics.median(filling) * 1e3, 4),
        }
    return {"version": llguidance.__version__, "compile_ms": round(compiled * 1e3, 3), "step": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tokenizer", type=Path, default=SHIPPED, help="a tokenizer.json; default: the shipped model's"
    )
    parser.add_argument("--end", default="<|end|>", help="its end token")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 64])
    parser.add_argument("--steps", type=int, default=40, help="steps timed for each batch size")
    parser.add_argument("--large", type=int, default=152_000, help="tokens of the synthetic vocabulary")
    parser.add_argument("--skip-llguidance", action="store_true")
    options = parser.parse_args()

    shipped = options.tokenizer.read_text(encoding="utf-8")
    state = json.loads(shipped)
    end = next((each["id"] for each in state["added_tokens"] if each["content"] == options.end), None)
    if end is None:
        sys.exit(f"{options.tokenizer} has no token {options.end!r}; name its end token with --end")
    size = max(max(state["model"]["vocab"].values()), max(each["id"] for each in state["added_tokens"])) + 1
    large = synthetic(options.large)
    cases = {options.tokenizer.parent.parent.name: (shipped, size, end), "synthetic": (large, options.large, 256)}
    result: dict[str, Any] = {"processors": os.cpu_count(), "load_average": round(os.getloadavg()[0], 2)}
    for name, (text, vocabulary, last) in cases.items():
        result[name] = measure(text, vocabulary, last, options.batches, options.steps)
        if not options.skip_llguidance:
            result[name]["llguidance"] = compare(text, vocabulary, last, options.batches, options.steps)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
