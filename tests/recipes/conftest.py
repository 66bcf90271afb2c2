"""Corpora of three languages, small enough for a build within a test."""

from __future__ import annotations

import lzma
import random
from pathlib import Path

import pytest

NAMES = {
    "en": {"PER": ["Ada Lovelace", "John Smith"], "ORG": ["Royal Society"], "LOC": ["New York", "London"]},
    "de": {"PER": ["Anna Meier", "Karl May"], "ORG": ["Hamburger SV"], "LOC": ["Bad Homburg", "Ulm"]},
    "ja": {"PER": ["織田信長", "トム・クルーズ"], "ORG": ["京都大学"], "LOC": ["東京", "パリ"]},
}
FRAMES = {
    "en": ["{} was mentioned in the paper .", "See also {}", "They say that {} was not there !"],
    "de": ["{} wurde gestern in der Zeitung erwähnt .", "Siehe auch {}", "Man sagt , dass {} nicht dabei war !"],
    "ja": ["昨日{}が新聞に出た。", "{}を見よ", "{}は来なかった。"],
}
LINES = {
    "en": ["The weather was {} and {} on the day of the race.", "The {} bridge in the {} city of London was closed."],
    "de": ["Das war gestern sehr {} und das war auch {}.", "Das ist sehr {} in Ulm und auch sehr {}."],
    "ja": ["とてもいい天気の日は{}いいと私は{}思う。", "私は{}パリにとても{}住んでいます。"],
}
WORDS = {
    "en": ["fine", "cold", "dark", "old", "new", "wide", "long", "clean", "quiet", "dry"],
    "de": ["schön", "kalt", "dunkel", "alt", "neu", "breit", "lang", "rein", "still", "trocken"],
    "ja": ["よく", "また", "すぐ", "もう", "まだ", "いつも", "たぶん", "ずっと", "やはり", "きっと"],
}


def _tagged(language: str, count: int, rng: random.Random) -> str:
    """Sentences of one entity in the format of PAN-X."""
    rows = []
    for _ in range(count):
        label = rng.choice(["PER", "ORG", "LOC"])
        before, after = rng.choice(FRAMES[language]).split("{}")
        split = list if language == "ja" else str.split
        name = split(rng.choice(NAMES[language][label]))
        tags = [f"B-{label}"] + [f"I-{label}"] * (len(name) - 1)
        words = [*((word, "O") for word in split(before)), *zip(name, tags, strict=True)]
        words += [(word, "O") for word in split(after)]
        rows.append("\n".join(f"{word}\t{tag}" for word, tag in words))
    return "\n\n".join(rows) + "\n"


@pytest.fixture(scope="session")
def small_corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of PAN-X and of plain text: 120 + 40 sentences and 200 lines of each language."""
    panx, lmtext = tmp_path_factory.mktemp("panx"), tmp_path_factory.mktemp("lmtext")
    for language, lines in LINES.items():
        rng = random.Random(language)
        (panx / language).mkdir()
        (panx / language / "train.tsv").write_text(_tagged(language, 120, rng), encoding="utf-8")
        (panx / language / "validation.tsv").write_text(_tagged(language, 40, rng), encoding="utf-8")
        text = "\n".join(line.format(a, b) for a in WORDS[language] for b in WORDS[language] for line in lines) + "\n"
        (lmtext / f"{language}.txt.xz").write_bytes(lzma.compress(text.encode()))
    return panx, lmtext
