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


# -- Korean particles as words of their own ---------------------------------------------------------------------------


def parts(text: str) -> list[str]:
    return [word.text for word in segment(text, particles=True)]


PARTICLES = {
    "a place": ("서울에서 왔다", ["서울", "에서", "왔다"]),
    "two particles are one part": ("서울에서는", ["서울", "에서는"]),
    "the shortest stem": ("세종대왕은", ["세종대왕", "은"]),
    "the copula": ("김철수입니다.", ["김철수", "입니다", "."]),
    "an honorific with its particle": ("김철수씨는", ["김철수", "씨는"]),
    "a name that ends like a particle": ("인도", ["인", "도"]),
    "and the particle after it": ("인도는", ["인도", "는"]),
    "a name in other letters": ("York에서", ["York", "에서"]),
    "other letters on both sides": ("A서울에서B", ["A", "서울", "에서", "B"]),
    "digits": ("2019년에", ["2019", "년", "에"]),
    "a particle alone": ("에서", ["에서"]),
    "a syllable alone": ("는", ["는"]),
    "no particle": ("한국어 ㅋㅋㅋ", ["한국어", "ㅋㅋㅋ"]),
    "Han letters stand alone anyway": ("金철수는", ["金", "철수", "는"]),
}


@pytest.mark.parametrize(("text", "expected"), PARTICLES.values(), ids=PARTICLES)
def test_names_can_end_before_korean_particles(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


def test_a_part_follows_without_a_space() -> None:
    words = segment(" 서울에서\nYork에서", particles=True)
    assert [(word.text, word.space_before) for word in words] == [
        ("서울", True),
        ("에서", False),
        ("York", True),
        ("에서", False),
    ]


KOREAN = st.lists(
    st.one_of(
        st.sampled_from(["서울", "에서", "는", "으로", "씨", "님", "입니다", "인", "도", "York", "東", "1", "é", "."]),
        st.sampled_from(["\u1112\u1161\u11ab", "\u302e", "\u0301", "\u200d", "\u200c", " ", "\n", "\ud800", "👍🏽"]),
        st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3),
        st.characters(),
    ),
    max_size=30,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(KOREAN)
@example("서울\u200d에서")  # a joiner alone is no word
@example("서울\u0301에서")
@example("York\u302e")  # a mark of the script Hangul
def test_parts_are_those_of_whole_words(text: str) -> None:
    """Joined, the parts are the words without splitting; all that is not Hangul stays as it was."""
    whole, split = segment(text), segment(text, particles=True)
    position = 0
    for word in whole:
        own = []
        while position < len(split) and split[position].end <= word.end:
            own.append(split[position])
            position += 1
        assert "".join(part.text for part in own) == word.text
        assert own[0].start == word.start
        assert [part.space_before for part in own] == [word.space_before] + [False] * (len(own) - 1)
        assert all(text[part.start : part.end] == part.text for part in own)
        assert all(left.end == right.start for left, right in zip(own, own[1:], strict=False))
        assert not any(regex.fullmatch(r"[\p{M}\p{Cf}]+", part.text) for part in own[1:])
        if not regex.search(r"\p{Hangul}", word.text):
            assert len(own) == 1
        else:  # a stem and a particle of each stretch of Hangul, and what is between
            assert len(own) <= 3 * len(regex.findall(r"\p{Hangul}+", word.text)) + 1
    assert position == len(split)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)).filter(lambda c: not regex.match(r"\p{Hangul}", c))))
def test_no_split_outside_hangul(text: str) -> None:
    assert segment(text, particles=True) == segment(text)


@pytest.mark.parametrize("unit", ["서울에서 ", "으", "가나", "씨님은", "가\u200d", "서울a", "는은\u0301"], ids=ascii)
def test_splitting_particles_takes_linear_time(unit: str) -> None:
    def seconds(length: int) -> float:
        text = (unit * (length // len(unit) + 1))[:length]
        start = time.process_time()
        segment(text, particles=True)
        return time.process_time() - start

    # Eight times the input: a quadratic search would take 64 times as long.
    assert seconds(200_000) < 20 * min(seconds(25_000) for _ in range(2)) + 0.05
