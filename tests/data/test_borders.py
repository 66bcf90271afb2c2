"""Borders: sentences in eight languages, abbreviations, tabs, cells and lines; time."""

from __future__ import annotations

import itertools
import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.data import find_borders, script_changes, segment

# (sentence that ends with a name, sentence that begins with one), without their stops
SENTENCES = {
    "en": (("The prize went to {}", ".!?…"), "{} praised him"),
    "de": (("Den Preis bekam {}", ".!?…"), "{} lobte ihn"),
    "es": (("El premio fue para {}", ".!?…"), "{} lo felicitó"),
    "fr": (("Le prix est allé à {}", ".!?…"), "{} l'a félicité"),
    "ru": (("Премию получил {}", ".!?…"), "{} похвалил его"),
    "zh": (("获奖者是{}", "。！？"), "{}表示祝贺"),
    "ja": (("受賞者は{}", "。！？"), "{}は称賛した"),
    "ko": (("상을 받은 사람은 {}", ".!?"), "{}는 그를 칭찬했다"),
}
NAMES = {
    "en": ("Peter Jackson", "London", "NASA"),
    "de": ("Peter Müller", "Siemens", "SAP"),
    "es": ("Pedro Gómez", "Telefónica", "ONU"),
    "fr": ("Pierre Dupont", "Élodie", "SNCF"),
    "ru": ("Пётр Иванов", "Москва", "МГУ"),
    "zh": ("李小龙", "北京"),
    "ja": ("山田太郎", "トヨタ"),
    "ko": ("봉준호", "네이버"),
}
PAIRS = [
    (language, first.format(name), stop, second.format(other))
    for language, ((first, stops), second) in SENTENCES.items()
    for name, stop, other in itertools.product(NAMES[language], stops, NAMES[language])
]


def units(text: str) -> list[str]:
    """The stretches between borders, without blanks at their ends."""
    words = segment(text)
    bounds = [0, *(words[number].start for number in find_borders(text, words)), len(text)]
    return [text[start:end].strip() for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("closing", ["", '"', "”", ")", "»", "**", "[12]"])
@pytest.mark.parametrize("space", ["", " ", "\n", "  "])
def test_pairs_of_sentences(closing: str, space: str) -> None:
    for language, first, stop, second in PAIRS:
        unspaced = language in ("zh", "ja") or (language == "ko" and not closing)
        if space or (unspaced and not closing):
            ended = first + stop + closing
            assert units(ended + space + second) == [ended, second]


@pytest.mark.parametrize(
    "text",
    [
        "Mr. Smith", "St. Petersburg", "z. B. Siemens", "J. R. R. Tolkien", "U.S. President", "Dr. med. Anna Keller",
        "Nr. 5", "т. е. Москва", "ул. Ленина", "им. Пушкина", "EE. UU. Hoy", "Sra. Gómez", "Mme. Curie", "No. 10",
        "ST. PETERSBURG", "DR. SMITH", "GmbH & Co. KG", "Warner Bros. Pictures", "1. FC Köln", "Am 3. Oktober",
        "Yahoo! is", "Lenta.ru", "3.5", "Washington (D.C.) Post", "Prof. Dr. Müller", "Jan. 5", "डॉ. सिंह",
        "Sancho IV. (Navarra)", "「いい。」と言った", "Who? asked he", "Ltd., London",
    ],
)  # fmt: skip
def test_what_ends_no_sentence(text: str) -> None:
    assert units(text) == [text]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("He joined NASA. Later he moved.", ["He joined NASA.", "Later he moved."]),
        ("네이버가 밝혔다.카카오는 답했다.", ["네이버가 밝혔다.", "카카오는 답했다."]),
        ("in 1998. Er war", ["in 1998.", "Er war"]),
        ("в 1998 г. Он", ["в 1998 г.", "Он"]),
        ("on March 4. The", ["on March 4.", "The"]),
        ("he said. “London", ["he said.", "“London"]),
        ("是。“李", ["是。", "“李"]),
        ("यह है। दिल्ली", ["यह है।", "दिल्ली"]),
        ("هل جاء؟ محمد", ["هل جاء؟", "محمد"]),
        ("Great! 🎉 Rome", ["Great!", "🎉 Rome"]),
    ],
)
def test_what_ends_sentences(text: str, ends: list[str]) -> None:
    assert units(text) == ends


@pytest.mark.parametrize(
    "separator",
    ["\t", "\x00", "\x07", " \t ", "\n\n", "\n \n", "\r\n\r\n", "\n\u200b\n", "\f", "\u2029", "\x1e", " | ", "|"],
)
def test_separators(separator: str) -> None:
    for names in NAMES.values():
        found = [unit.strip("| \u200b\n\x00\x07") for unit in units(separator.join(names))]
        assert [unit for unit in found if unit] == list(names)


def test_rows_of_tables() -> None:
    rows = ["| Anna | Paris |", "|---|---|", "| Karl May | New York |"]
    assert {unit.strip("| ") for unit in units("\n".join(rows))} >= {"Anna", "Paris", "Karl May", "New York"}


@pytest.mark.parametrize(
    "lines",
    [
        ["Apple sues Samsung", "Obama visits Cuba", "Germany beats Brazil"],
        ["Apple sues Samsung", "Obama visits Cuba"],
        ["Siemens", "Volkswagen", "Bayer"],
        ["苹果起诉三星", "奥巴马访问古巴"],
    ],
)
def test_lines_of_lists(lines: list[str]) -> None:
    for line_break in ("\n", "\r\n", "\r", "\u2028"):
        assert units(line_break.join(lines)) == lines


@pytest.mark.parametrize(
    "markers", [("-", "-"), ("•", "•"), ("#", "#"), (">", "–"), ("1.", "2."), ("9)", "10)"), ("3.", "2."), ("-", "1.")]
)
@pytest.mark.parametrize("indent", ["", "  "])
def test_a_marker_is_no_part_of_what_is_listed(markers: tuple[str, str], indent: str) -> None:
    first, second = markers
    found = units(f"{indent}{first} Anna\n{indent}{second} Karl May")
    assert found == [first, "Anna", *([second, "Karl May"] if second != "1." else ["1. Karl May"])]


@pytest.mark.parametrize(
    "text", ["1. FC Köln", "1. FC Köln\n1. FC Nürnberg", "2. Bundesliga\n4. Liga", "#Berlin Marathon"]
)
def test_numbers_that_do_not_count_are_parts_of_names(text: str) -> None:
    assert all(line in units(text) for line in text.split("\n"))


@pytest.mark.parametrize("width", range(16, 100, 3))
def test_names_in_wrapped_text_are_whole(width: int) -> None:
    text = (
        "The prime minister of the country met Angela Merkel and the president of the United States in Rio de Janeiro. "
        "They spoke about the war in the north, the New York Stock Exchange and the visit of Ursula von der Leyen."
    )
    for line in (
        text,
        "Gestern besuchte Angela Merkel die Stadt Hamburg an der Elbe, wo Olaf Scholz Bürgermeister war.",
    ):
        wrapped = textwrap.fill(line, width)
        expected = [unit.replace("\n", " ") for unit in units(wrapped)]
        assert expected == units(line)


@pytest.mark.parametrize(
    "text", ["Angela\nMerkel besuchte gestern Ham-\nburg.", "Angela\nMerkel", "Best regards,\nPeter"]
)
def test_a_line_break_alone_is_no_border(text: str) -> None:
    assert units(text) == [text]


@given(st.text(st.sampled_from('aA北다.!。"”( \n\t|-1👍'), max_size=60))
def test_borders_are_numbers_of_words_in_order(text: str) -> None:
    words = segment(text)
    found = find_borders(text, words)
    assert found == sorted(set(found))
    assert all(0 < number < len(words) for number in found)
    for number in range(1, len(words)):
        between = text[words[number - 1].end : words[number].start]
        if "\t" in between or between.count("\n") > 1:
            assert number in found


@pytest.mark.parametrize(
    "text", ["a", "北", ".", "!", ". ", "a. ", "A. B\n", "\n", "a\n", "A b c d\n", "|", '"', "\u0301", "1. "]
)
def test_time_is_linear(text: str) -> None:
    def seconds(times: int) -> float:
        words = segment(text * times)
        best = float("inf")
        for _ in range(3):
            begin = time.process_time()
            find_borders(text * times, words)
            best = min(best, time.process_time() - begin)
        return best

    assert seconds(40_000) < 8 * max(seconds(10_000), 0.03)


@pytest.mark.parametrize(
    ("parts", "changes"),
    [
        (("Tim Cook came. ", "习近平昨天访问了上海。", "He left again. "), (1, 2)),
        (
            ("田中さんは昨日トヨタを訪れた。", "习近平昨天访问了上海。"),
            (),
        ),
        (("Он приехал в Казань. ", "Er kam aus Kasan. ", "Sie blieb."), (1,)),
        (("김민수는 삼성전자에서 일한다. ", "OK. ", "문재인 대통령은 부산을 방문했다."), ()),  # too few letters
        (("Tim Cook met 习近平 there. ", "He left again."), ()),
        (("1984. ", "!!! ", "Tim Cook came. "), ()),
    ],
)
def test_changes_of_script(parts: tuple[str, ...], changes: tuple[int, ...]) -> None:
    text = "".join(parts)
    words = segment(text)
    found = [words[number].start for number in script_changes(words, find_borders(text, words))]
    assert found == [sum(map(len, parts[:number])) for number in changes]


def test_the_script_of_a_text_without_borders_does_not_change() -> None:
    assert script_changes([], []) == []
    assert script_changes(segment("Ulm"), []) == []
