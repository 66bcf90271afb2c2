"""Words with offsets: the rules per script, invariants on any text, Unicode clusters as a reference."""

from __future__ import annotations

import time
import unicodedata

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieveall.data.segmentation import MAX_WORD, segment


def words(text: str) -> list[str]:
    return [word.text for word in segment(text)]


SAMPLES = {
    "apostrophe stands apart": ("it's l’été", ["it", "'", "s", "l", "’", "été"]),
    "decimal and dash": ("3.14—x_1", ["3", ".", "14", "—", "x", "_", "1"]),
    "Japanese": ("トヨタ自動車ー々で2019年。", [*"トヨタ自動車ー々で", "2019", "年", "。"]),
    "half-width kana keep their voicing marks": ("ｶﾞｰﾄﾞ", ["ｶﾞ", "ｰ", "ﾄﾞ"]),
    "Han with a variation selector": ("葛\U000e0100城", ["葛\U000e0100", "城"]),
    "kana with a combining mark": ("か\u3099a", ["か\u3099", "a"]),
    "bopomofo": ("ㄅㄆ", ["ㄅ", "ㄆ"]),
    "Latin inside Chinese": ("在ABC公司", ["在", "ABC", "公", "司"]),
    "Korean": ("서울에서 왔다", ["서울에서", "왔다"]),
    "Russian": ("Ёлка, ok", ["Ёлка", ",", "ok"]),
    "decomposed Latin": ("cafe\u0301s", ["cafe\u0301s"]),
    "Devanagari with a joiner": ("क्\u200dष", ["क्\u200dष"]),
    "Persian with a non-joiner": ("می\u200cخواهم", ["می\u200cخواهم"]),
    "a joiner at the end stands outside": ("a\u200d b", ["a", "b"]),
    "Thai clusters": ("กำที่", ["กำ", "ที่"]),
    "Khmer stacked consonants": ("ខ្មែរ", ["ខ្មែ", "រ"]),
    "Myanmar vowel signs stay": ("မြန်မာ", ["မြ", "န်", "မာ"]),
    "Arabic and Hebrew": ("سلام، שלום", ["سلام", "،", "שלום"]),
    "emoji sequences": ("👩🏻‍❤️‍💋‍👨🏻👍🏽🇩🇪🇫🇷", ["👩🏻‍❤️‍💋‍👨🏻", "👍🏽", "🇩🇪", "🇫🇷"]),
    "keycaps and tag flags": ("1️⃣2️⃣🏴󠁧󠁢󠁥󠁮󠁧󠁿", ["1️⃣", "2️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]),
    "no words": ("\ufeff\u200b\u202e \0\ud800\t\u2028\r\n", []),
    "nothing": ("", []),
}


@pytest.mark.parametrize(("text", "expected"), SAMPLES.values(), ids=SAMPLES)
def test_words_of_each_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", [False, True]),
        ("a, b", [False, False, True]),
        (" a", [True]),
        ("a\u200bb", [False, False]),
        ("a\0b", [False, False]),
        ("a \u200bb", [False, True]),
        ("a\u200b b", [False, True]),
        ("a\r\nb", [False, True]),
        ("a\u3000b", [False, True]),
        ("\ufeffa", [False]),
    ],
)
def test_space_before(text: str, expected: list[bool]) -> None:
    assert [word.space_before for word in segment(text)] == expected


SPICE = (
    "a9é\u0301漢かｶﾞー一กำ\u0e48ខ្\u1039က😀👩\u200d\u200c🏻🇩1\ufe0f\u20e3#*_.'-"
    "\u200b\ufeff\0\ud800\U000e0067\U0010ffff \u3000\r\n"
)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.one_of(st.sampled_from(SPICE), st.characters()), max_size=60))
def test_invariants_on_any_text(text: str) -> None:
    covered = set()
    position = 0
    for word in segment(text):
        assert position <= word.start < word.end <= len(text)
        assert text[word.start : word.end] == word.text
        assert len(word.text) <= MAX_WORD
        assert not regex.search(r"\s", word.text)
        assert word.space_before == bool(regex.search(r"\s", text[position : word.start]))
        covered.update(range(word.start, word.end))
        position = word.end
    outside = {text[i] for i in range(len(text)) if i not in covered}
    assert all(char.isspace() or unicodedata.category(char) in {"Cc", "Cf", "Cs"} for char in outside)


CLUSTER = st.builds(
    "".join,
    st.tuples(
        st.sampled_from("漢かｶー一กទကㄅ😀👩❤🇩🇪.,!«»$+"),
        st.text(alphabet="\u0301\u3099ﾞ\u0e33\u0e35\u17b6\u200d\ufe0f🏻", max_size=3),
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(CLUSTER, st.just(" ")), max_size=20).map("".join).map(str.lstrip))
@example("😀\u0e33\u200d😀")  # a spacing mark before the joiner: two clusters
@example("😀\u200d\u200d😀")
@example("😀\u0301\u200d😀")
def test_clusters_are_those_of_unicode(text: str) -> None:
    """Reference: the regex package's ``\\X``, UAX 29 extended grapheme clusters."""
    clusters = [match.span() for match in regex.finditer(r"\X", text) if match[0] != " "]
    assert [(word.start, word.end) for word in segment(text)] == clusters


def test_a_long_run_is_cut() -> None:
    text = "x" * (2 * MAX_WORD + 5)
    assert [len(word) for word in words(text)] == [MAX_WORD, MAX_WORD, 5]


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "漢",
        "\u0301",
        "!\u0301",
        "😀\u200d",
        "🇩",
        "\u1780\u17d2",
        "a" + "\u200d" * 300,
        "\u200d",
        "ก่",
        " ",
    ],
    ids=ascii,
)
def test_time_is_linear(unit: str) -> None:
    def seconds(length: int) -> float:
        text = (unit * (length // len(unit) + 1))[:length]
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            segment(text)
            best = min(best, time.process_time() - start)
        return best

    # Eight times the input: a quadratic search would take 64 times as long.
    assert seconds(40_000) < 20 * seconds(5_000) + 0.05
