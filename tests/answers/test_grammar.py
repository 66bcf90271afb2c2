"""The grammar of answers: exactly the legal ones, whatever the tokenizer and the tokenization."""

from __future__ import annotations

import random
import threading
import unicodedata
from collections.abc import Callable, Iterator

import llguidance
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieveall.answers import parse_answer, write_answer
from retrieveall.answers.gbnf import answer_gbnf
from retrieveall.answers.grammar import AnswerGrammar, AnswerState, fill_masks
from retrieveall.data import segment
from retrieveall.errors import ConfigError, InputError
from retrieveall.types import Entity

KINDS = ("byte-level", "sentencepiece", "characters")
TEXT = "the Apple pie of Apple, by Ada Lovelace in New  York: 北京大学 and Apple."
ALIKE = (" 스티치 ", " 스타", " Adamant ", "Adam ", " 上海", "«上", " Ž", "ž ")
"""Words that begin alike: with the same letters, or with some of the bytes of a letter."""
FEW = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHORT = st.lists(
    st.sampled_from([" ", " ", " ", "a", "A", "O", "Ada", "北", "京", ".", "Ada.", "a\n", "e\u0301"]), max_size=6
).map("".join)


@pytest.fixture
def make(tokenizer_json: Callable[[str], str]) -> Callable[..., AnswerGrammar]:
    def build(kind: str = "byte-level", labels: tuple[str, ...] = ("PER", "P", "LOC"), **options: str) -> AnswerGrammar:
        return AnswerGrammar(tokenizer_json(kind), 500, [1 if kind != "byte-level" else 0], labels, **options)

    return build


def allowed(state: AnswerState) -> list[int]:
    bits = np.unpackbits(state.mask().view(np.uint8), bitorder="little")
    return [int(number) for number in np.flatnonzero(bits)]


def written(grammar: AnswerGrammar, data: str) -> list[int]:
    """One token a byte, or a character where the vocabulary has no bytes."""
    ids = {piece: number for number, piece in grammar.tokens.data.items()}
    if b"\x80" in ids:
        return [ids[bytes([byte])] for byte in data.encode()]
    return [ids[character.encode()] for character in data]


def letters(*merged: str) -> str:
    """Byte-level BPE of single bytes and the tokens ``merged``, which grow letter by letter or from two letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"<|end|>": 0}
    for piece in (*sorted(pre_tokenizers.ByteLevel.alphabet()), *merged):
        vocabulary[piece] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [(piece[:-1], piece[-1]) for piece in merged]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer.to_str()


def legal_answers(text: str, labels: tuple[str, ...]) -> set[str]:
    """All of them, from the definition: runs of words in ascending order, each with a label."""
    words = segment(text)
    forms = [unicodedata.normalize("NFC", word.text) for word in words]

    def mention(first: int, last: int) -> str:
        spaced = (" " * words[number].space_before + forms[number] for number in range(first + 1, last))
        return forms[first] + "".join(spaced)

    def answers(position: int) -> Iterator[str]:
        yield ""
        for first in range(position, len(words)):
            for last in range(first + 1, len(words) + 1):
                for rest in set(answers(last)):
                    for label in (*labels, "O"):
                        yield f"{label} {mention(first, last)}" + ("\n" + rest if rest else "")

    return set(answers(0))


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
@settings(FEW, max_examples=40)
@given(text=SHORT, seed=st.integers(0, 9))
def test_exactly_the_tokens_that_lead_to_a_legal_answer(
    make: Callable[..., AnswerGrammar], kind: str, text: str, seed: int
) -> None:
    if len(segment(text)) > 4:
        return
    grammar = make(kind, ("P",))
    answers = {answer.encode() for answer in legal_answers(text, ("P",))}
    if grammar.tokens.leads:
        answers |= {b" " + answer for answer in answers if answer}
    choose, so_far, state = random.Random(seed), b"", grammar.start(text)
    while not state.finished:
        can_follow = {
            number
            for number, data in grammar.tokens.data.items()
            if any(answer.startswith(so_far + data) for answer in answers)
        }
        may_end = {*grammar.end_ids} if so_far in answers else set()
        assert set(allowed(state)) == can_follow | may_end
        token = choose.choice(sorted(can_follow | may_end))
        so_far += grammar.tokens.data.get(token, b"") if token not in grammar.end_ids else b""
        state.advance([token])
    assert state.answer == so_far.decode().lstrip(" ")


class TestLanguage:
    @pytest.mark.parametrize(
        "answer",
        [
            "PER Apple\nPER Apple\nLOC Apple\nLOC Apple",
            "PER Ada\nLOC Apple\nLOC Apple",
            "PER Ada Lovelace\nPER Lovelace",
            "GOD Ada",
            "PER  Ada",
            "PER da",
            "PER Ad\n",
            "PER Adam",
            "PERAda",
            "PER Ada\n\n",
            "\n",
            "PER Ada<|im_end|>",
            "LOC New York Ada",
            "LOC Apple.\nPER Ada",
        ],
    )
    @pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
    def test_what_cannot_be_written(self, make: Callable[..., AnswerGrammar], kind: str, answer: str) -> None:
        grammar = make(kind)
        state = grammar.start(TEXT)
        with pytest.raises(InputError, match="expected a token that can follow"):
            state.advance([*written(grammar, answer), *grammar.end_ids])

    def test_nothing_follows_the_end_but_the_end(self, make: Callable[..., AnswerGrammar]) -> None:
        state = make().start(TEXT)
        state.advance(state.grammar.end_ids)
        assert state.finished
        assert allowed(state) == list(state.grammar.end_ids)

    @pytest.mark.parametrize("text", ["", "  \n\t ", "\x00\ud800", "\u200b"])
    def test_a_text_without_words_has_the_empty_answer(self, make: Callable[..., AnswerGrammar], text: str) -> None:
        state = make().start(text)
        assert allowed(state) == state.forced() == list(state.grammar.end_ids)

    def test_words_that_the_vocabulary_cannot_spell_are_passed_over(self, make: Callable[..., AnswerGrammar]) -> None:
        grammar = make("characters")
        for wanted, fits in [("LOC 北京", True), ("LOC Apple", True), ("LOC Ж", False), ("LOC Apple Ж", False)]:
            state = grammar.start("Apple Ж London 北京 Ж")
            if fits:
                state.advance([*written(grammar, wanted), *grammar.end_ids])
                assert state.answer == wanted
                assert state.finished
            else:
                assert not grammar.tokens.can_write(wanted)
                state.advance(written(grammar, wanted.partition(" Ж")[0]) if "Apple" in wanted else [])
                assert state.mask().any()

    @pytest.mark.parametrize("kind", KINDS)
    @settings(FEW, max_examples=60)
    @given(text=SHORT, seed=st.integers(0, 99))
    def test_no_way_is_a_dead_end(self, make: Callable[..., AnswerGrammar], kind: str, text: str, seed: int) -> None:
        grammar = make(kind)
        state, choose = grammar.start(text + " Ж Ada"), random.Random(seed)
        for _ in range(500):
            if state.finished:
                break
            state.advance([choose.choice(allowed(state))])
        assert state.finished
        parsed = parse_answer(state.answer, text + " Ж Ada", ("PER", "P", "LOC"))
        assert parsed.malformed == parsed.invented == parsed.unknown == 0


@st.composite
def gold(draw: st.DrawFn) -> tuple[str, list[Entity]]:
    text = draw(
        st.lists(st.sampled_from([TEXT, *ALIKE, " Ada ", "Apple", ".", " 北京", "\n", "'", "é", " x"]), max_size=6).map(
            "".join
        )
    )
    words = segment(text)
    cuts = sorted(draw(st.lists(st.integers(0, len(words)), max_size=10, unique=True)))
    spans = [(words[first].start, words[last - 1].end) for first, last in zip(cuts[::2], cuts[1::2], strict=False)]
    return text, [Entity(start, end, draw(st.sampled_from(["PER", "P", "LOC"]))) for start, end in spans]


@pytest.mark.parametrize("spacing", ["as_is", "always"])
@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
@settings(FEW, max_examples=40)
@given(case=gold())
def test_gold_answers_are_legal_in_every_tokenization(
    make: Callable[..., AnswerGrammar],
    tokenizer_json: Callable[[str], str],
    kind: str,
    spacing: str,
    case: tuple[str, list[Entity]],
) -> None:
    from tokenizers import Tokenizer

    grammar = make(kind, spacing=spacing)
    text, entities = case
    answer = write_answer(text, entities, spacing)  # type: ignore[arg-type]
    whole = Tokenizer.from_str(tokenizer_json(kind)).encode(answer, add_special_tokens=False).ids
    for tokens in (written(grammar, answer), grammar.encode(answer), whole if answer else []):
        state = grammar.start(text)
        for token in [*tokens, grammar.end_ids[0]]:
            assert token in allowed(state)
            state.advance([token])
        assert state.finished
        assert state.answer == answer


class TestForced:
    @pytest.mark.parametrize("spacing", ["as_is", "always"])
    @pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
    @settings(FEW, max_examples=40)
    @given(case=gold())
    def test_forced_tokens_are_those_of_the_gold_answer(
        self, make: Callable[..., AnswerGrammar], kind: str, spacing: str, case: tuple[str, list[Entity]]
    ) -> None:
        grammar = make(kind, spacing=spacing)
        text, entities = case
        rest = [*grammar.encode(write_answer(text, entities, spacing)), grammar.end_ids[0]]  # type: ignore[arg-type]
        state = grammar.start(text)
        while rest:
            forced = state.forced()
            assert forced == rest[: len(forced)]
            step = forced or rest[:1]
            state.advance(step)
            rest = rest[len(step) :]

    def test_a_word_is_forced_once_it_is_the_only_one(self, make: Callable[..., AnswerGrammar]) -> None:
        grammar = make()
        state = grammar.start("Zebedeq met Bob")
        state.advance(written(grammar, "LOC Z"))
        assert state.forced() == list(grammar.tokens.encode(b"ebedeq"))
        state.advance(state.forced())
        assert state.forced() == []  # the line may end here, or go on
        state.advance(written(grammar, " met Bob"))
        assert state.forced() == list(grammar.end_ids)  # nothing is left of the text

    def test_words_without_spaces_between_them(self, make: Callable[..., AnswerGrammar]) -> None:
        grammar = make()
        state = grammar.start("«Zebedeq»")
        state.advance(written(grammar, "LOC «Z"))
        assert state.forced() == list(grammar.tokens.encode(b"ebedeq"))

    @pytest.mark.parametrize(
        ("text", "begun", "forced"),
        [
            ("Stadtrat", "St", ["adtr", "at"]),
            ("Stadt", "St", ["adt"]),
            ("Stadt Stadtrat", "St", []),  # "adt" or "adtr"
            ("Stadtrand Stadtrat", "St", []),  # both go on with "adtr", but other words need not
            ("Stadtrat Stadtrat", "St", ["adtr", "at"]),
            ("Stadtrat", "Sta", ["d", "t", "r", "at"]),  # not as the tokenizer writes the word, which begins with "St"
        ],
    )
    def test_of_words_that_begin_alike(self, text: str, begun: str, forced: list[str]) -> None:
        grammar = AnswerGrammar(letters("St", "ad", "adt", "adtr", "at"), 400, [0], ["LOC"])
        ids = {piece: number for number, piece in grammar.tokens.data.items()}
        state = grammar.start(text)
        state.advance([*written(grammar, "LOC "), ids[b"St"], *written(grammar, begun.removeprefix("St"))])
        assert state.forced() == [ids[piece.encode()] for piece in forced]

    def test_what_may_be_a_longer_token_is_left_to_the_model(self, make: Callable[..., AnswerGrammar]) -> None:
        grammar = make()
        pieces = grammar.tokens.data.values()
        assert any(piece.startswith(b"e ") for piece in pieces)
        assert not any(piece.startswith((b"q ", b"q\n")) for piece in pieces)
        for text, forced in [("Zxe met", "x"), ("Zxq met", "xq"), ("Zxe", "xe"), ("Ze met", "")]:
            state = grammar.start(text)
            state.advance(written(grammar, "LOC Z"))
            assert state.forced() == written(grammar, forced)


def test_masks_of_a_batch(make: Callable[..., AnswerGrammar]) -> None:
    grammar = make()
    states = [grammar.start(TEXT), None, grammar.start("")]
    out = np.full((3, grammar.words), -1, dtype=np.int32)
    fill_masks(states, out)
    assert (out[0] == states[0].mask()).all()  # type: ignore[union-attr]
    assert (out[1] == out[2]).all()
    assert out[1, 0] == 1
    assert not out[1, 1:].any()


def test_the_grammar_for_servers_is_the_same_language(
    make: Callable[..., AnswerGrammar], tokenizer_json: Callable[[str], str]
) -> None:
    grammar = make()
    tokenizer = llguidance.LLTokenizer(tokenizer_json("byte-level"), eos_token=grammar.end_ids[0])
    choose = random.Random(0)
    for text in ["", "a b", 'Ada "A\\da" \\n Ada.', "北京 e\u0301 a北", TEXT]:
        rules = answer_gbnf(text, ("PER", "P", "LOC"))
        ours = grammar.start(text)
        theirs = llguidance.LLMatcher(tokenizer, llguidance.grammar_from("grammar", rules))
        while not ours.finished:
            # Not its mask, which holds only the tokenizer's own way where the bytes are forced.
            fit = [each for each in grammar.tokens.data if theirs.validate_tokens([each])]
            fit += grammar.end_ids if theirs.is_accepting() else []
            assert sorted(fit) == allowed(ours)
            assert theirs.get_error() == ""
            token = choose.choice(allowed(ours))
            ours.advance([token])
            theirs.consume_token(token)


class TestTokens:
    @pytest.mark.parametrize("marker", ["<|im_end|>", "<|end|>", "[tool]"])
    def test_markers_write_nothing(self, tokenizer_json: Callable[[str], str], marker: str) -> None:
        """Special tokens and other added ones; their names in a text are spelled like any other word."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(tokenizer_json("byte-level"))
        tokenizer.add_tokens(["[tool]"])
        grammar = AnswerGrammar(tokenizer.to_str(), 500, [0], ["A"])
        number = tokenizer.token_to_id(marker)
        assert number not in grammar.tokens.data
        tokens = grammar.tokens.encode(marker.encode())
        assert number not in tokens
        assert b"".join(grammar.tokens.data[token] for token in tokens) == marker.encode()
        state = grammar.start(f"a {marker} b")
        state.advance(written(grammar, f"A a {marker}"))
        assert not {0, 1, number} & set(state.forced() or set(allowed(state)) - {0})

    def test_several_end_tokens(self, tokenizer_json: Callable[[str], str]) -> None:
        for end in (0, 1):
            grammar = AnswerGrammar(tokenizer_json("byte-level"), 500, [1, 0], ["A"])
            state = grammar.start("Ada Ada")
            assert {0, 1} <= set(allowed(state))
            state.advance(written(grammar, "A Ada"))
            assert {0, 1} <= set(allowed(state))
            state.advance([end])
            assert state.finished
            assert allowed(state) == [0, 1]

    def test_added_tokens_that_the_model_lacks_are_left_out(self, tokenizer_json: Callable[[str], str]) -> None:
        """A padding token that the embeddings were not resized for."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(tokenizer_json("byte-level"))
        size = tokenizer.get_vocab_size()
        tokenizer.add_special_tokens(["<|pad|>"])
        grammar = AnswerGrammar(tokenizer.to_str(), size, [0], ["A"])
        assert max(grammar.tokens.data) == size - 1
        assert max(allowed(grammar.start(TEXT))) < size


@pytest.mark.parametrize("words", [1, 100, 2000])
def test_long_texts_on_a_small_stack(make: Callable[..., AnswerGrammar], words: int) -> None:
    """Threads have 512 KB of stack on macOS. Where it overflows, the process ends, and this test with it."""
    grammar, found = make(), []

    def run() -> None:
        state = grammar.start(" ".join(f"w{number}" for number in range(words)))
        state.advance([*grammar.encode(f"PER w{words - 1}"), *grammar.end_ids])
        found.append(state.answer)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert found == [f"PER w{words - 1}"]


class TestMistakes:
    @pytest.mark.parametrize(
        "labels", [(), ("A", "A"), ("O",), ("a b",), ("a\n",), ("",), ("\ud800",), ("e\u0301", "é")]
    )
    def test_labels_that_cannot_be_told_apart(
        self, make: Callable[..., AnswerGrammar], labels: tuple[str, ...]
    ) -> None:
        with pytest.raises(InputError, match="expected labels"):
            make(labels=labels)

    @pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model": 1}', "\x00", "null"])
    def test_no_tokenizer(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"expected the text of a tokenizer\.json"):
            AnswerGrammar(text, 10, [0], ["A"])

    def test_a_tokenizer_that_joins_pieces_by_rule(self) -> None:
        from tokenizers import Tokenizer, models

        text = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")).to_str()
        with pytest.raises(ConfigError, match="WordPiece"):
            AnswerGrammar(text, 10, [0], ["A"])

    @pytest.mark.parametrize("ends", [[], [500], [-1]])
    def test_end_tokens(self, tokenizer_json: Callable[[str], str], ends: list[int]) -> None:
        with pytest.raises(ConfigError, match="end token"):
            AnswerGrammar(tokenizer_json("byte-level"), 500, ends, ["A"])

    def test_an_end_token_that_writes_text(self, tokenizer_json: Callable[[str], str]) -> None:
        with pytest.raises(ConfigError, match="end token"):
            AnswerGrammar(tokenizer_json("byte-level"), 500, [40], ["A"])

    def test_a_label_without_tokens(self, tokenizer_json: Callable[[str], str]) -> None:
        with pytest.raises(ConfigError, match="can write 'Ж'"):
            AnswerGrammar(tokenizer_json("characters"), 500, [1], ["Ж"])
