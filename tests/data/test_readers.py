"""Corpus files in: formats, joining of tokens, ids, compressed files, archives, folders, and bad input."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieveall.data import find_splits, read_corpus
from retrieveall.errors import DataError, InputError, LanguageError
from retrieveall.types import Entity, Sentence

GERMAN = "Angela\tB-PER\nMerkel\tI-PER\nin\tO\nKöln\tB-LOC\n.\tO\n\nIBM\tB-ORG\n\n"
Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def read(path: str | Path, **options: object) -> list[Sentence]:
    return list(read_corpus(path, **options))  # type: ignore[arg-type]


def test_conll_becomes_text_with_character_spans(write: Write) -> None:
    assert read(write("train.tsv", GERMAN), language="de") == [
        Sentence(
            "Angela Merkel in Köln .",
            (Entity(0, 13, "PER", "Angela Merkel"), Entity(17, 21, "LOC", "Köln")),
            "de",
            "de-train-1",
        ),
        Sentence("IBM", (Entity(0, 3, "ORG", "IBM"),), "de", "de-train-2"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        GERMAN.replace("\t", " "),
        GERMAN.replace("\n", "\r\n"),
        "\ufeff" + GERMAN,
        "\n\n" + GERMAN.strip(),
        "-DOCSTART-\tO\n\n" + GERMAN,
        "-DOCSTART- -X- -X- O\n" + GERMAN,
        GERMAN.replace("B-PER\nMerkel\tI-PER", "I-PER\nMerkel\tI-PER"),
        GERMAN.replace("I-PER", "E-PER").replace("B-LOC", "S-LOC").replace("B-ORG", "S-ORG"),
        GERMAN.replace("I-PER", "L-PER").replace("B-LOC", "U-LOC").replace("B-ORG", "U-ORG"),
    ],
    ids=["blanks", "CRLF", "BOM", "blank lines", "DOCSTART", "CoNLL-2003 DOCSTART", "IOB1", "BIOES", "BILOU"],
)
def test_variants_of_conll_read_the_same(write: Write, content: str) -> None:
    assert read(write("a/train.conll", content)) == read(write("b/train.conll", GERMAN))


def test_chinese_and_japanese_join_without_blanks_and_read_a_hash_as_one(write: Write) -> None:
    tokens = "# O,我 O,在 O,北 B-LOC,京 I-LOC,# O,大 I-ORG,学 I-ORG,C O,D O".replace(" ", "\t").replace(",", "\n")
    path = write("train.tsv", tokens)
    expected = Sentence(
        " 我在北京 大学CD", (Entity(3, 5, "LOC", "北京"), Entity(6, 8, "ORG", "大学")), "zh", "zh-train-1"
    )
    assert read(path, language="zh") == [expected]
    assert [sentence.text for sentence in read(path)] == [expected.text], "found out from the tokens"


def test_a_hash_is_a_token_like_others_where_words_are_spaced(write: Write) -> None:
    assert read(write("x.tsv", "C\tO\n#\tO\n漢\tO\n"), language="en")[0].text == "C # 漢"


def test_romanised_min_nan_is_spaced(write: Write) -> None:
    assert read(write("x.tsv", "Tâi-oân\tB-LOC\nlâng\tO\n"), language="zh-min-nan")[0].text == "Tâi-oân lâng"


def test_wikiann_prefixes_name_the_language(write: Write) -> None:
    path = write("dev", "ko:서울\tB-LOC\nko::\tO\n\nko:부산\tB-LOC\n")
    first, second = read(path, format="conll")
    assert (first.text, first.language, first.entities) == ("서울 :", "ko", (Entity(0, 2, "LOC", "서울"),))
    assert second.id != first.id


def test_a_missing_prefix_later_in_the_file_is_an_error(write: Write) -> None:
    path = write("x.tsv", "en:a\tO\n\n" * 100 + "b\tO\n")
    with pytest.raises(DataError, match=r"x\.tsv:201: expected a token with the prefix 'en:'"):
        read(path)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed_files_read_as_plain_ones(write: Write, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    packed = write(f"train.tsv{suffix}", compress(GERMAN.encode()))
    assert read(packed, language="de") == read(write("train.tsv", GERMAN), language="de")
    damaged = write(f"cut.tsv{suffix}", compress(GERMAN.encode())[:-12])
    with pytest.raises(DataError, match="damaged or truncated"):
        read(damaged)
    with pytest.raises(DataError, match="damaged or truncated"):
        read(write(f"plain.tsv{suffix}", GERMAN))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "de.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in {"train": "de:Köln\tB-LOC\n", "dev": "de:Bonn\tB-LOC\n", "extra": "x"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("test")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def test_wikiann_archives_are_read_split_by_split(archive: Path, tmp_path: Path) -> None:
    assert read(f"{archive}?split=train") == [Sentence("Köln", (Entity(0, 4, "LOC", "Köln"),), "de", "train-1")]
    assert read(f"{archive}?split=validation")[0].text == "Bonn"
    assert read(f"{archive}?split=dev")[0].text == "Bonn"
    assert list(tmp_path.iterdir()) == [archive], "nothing is unpacked"


@pytest.mark.parametrize(
    ("query", "message"),
    [("", "expected the split"), ("?split=all", "got all"), ("?split=test", "member named test")],
)
def test_archives_need_a_split_that_is_a_plain_file(archive: Path, query: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(f"{archive}{query}")


def test_format_follows_suffix_then_content(write: Write) -> None:
    line = '{"text": "Köln", "entities": [{"start": 0, "end": 4, "label": "LOC"}]}\n'
    for name in ("a.jsonl", "a.txt", "a"):
        assert read(write(name, line))[0].entities == (Entity(0, 4, "LOC", "Köln"),)
    assert read(write("b.txt", GERMAN))[0].text == "Angela Merkel in Köln ."
    plain = write("d.txt", "Ein Satz.\n\nNoch einer.\n")
    with pytest.raises(DataError, match=r"formats doccano, .*, conll, got 'Ein Satz.' and nothing that fits"):
        read(plain)
    assert [s.text for s in read(plain, format="text")] == ["Ein Satz.", "Noch einer."]
    assert read(write("c.txt", GERMAN), format="text")[0] == Sentence("Angela\tB-PER", (), None, "c-1")


BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.tsv", b"", "empty file"),
    "blank lines only": ("x.tsv", b"\n \n\n", "at least one sentence"),
    "three columns": ("x.tsv", b"a\tO\nb\tNN\tO\n", r"x\.tsv:2: expected 2 columns, .*, got 3"),
    "no column of tags": ("x.tsv", b"a b c\nd e f\n", r"got 'a b c' and no column of tags"),
    "one column": ("x.tsv", b"a\tO\n\nb\n", r"x\.tsv:3: expected 2 columns.*got only 'b'; write the tag"),
    "no token": ("x.tsv", b"\tO\n", r"x\.tsv:1: expected a token"),
    "unknown tag": ("x.tsv", b"a\tO\nb\tX-PER\n", r"x\.tsv:2: expected a tag such as"),
    "broken UTF-8": ("x.tsv", b"a\tO\nb\xff\tO\n", r"x\.tsv:2: expected UTF-8, got byte 0xff at byte 2"),
    "binary": ("x.tsv", b"a\tO\n\x00\x01\x02\n", r"x\.tsv:2: expected text, got binary data"),
    "UTF-16": ("x.tsv", "a\tO\n".encode("utf-16"), r"x\.tsv:1: expected UTF-8, got UTF-16"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_bad_files_give_one_line_with_file_and_line(write: Write, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write(name, content))
    assert "\n" not in str(caught.value)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found none"):
        read(tmp_path / "none.tsv")
    with pytest.raises(DataError, match="found none"):
        read(f"{tmp_path}/none.tar.gz?split=train")
    with pytest.raises(DataError, match="got a directory"):
        read(tmp_path)


def test_wrong_options_are_refused(write: Write) -> None:
    path = write("x.tsv", GERMAN)
    with pytest.raises(LanguageError):
        read(path, language="../de")
    with pytest.raises(InputError, match="format out of"):
        read(path, format="xml")
    with pytest.raises(InputError, match="scheme out of"):
        read(path, scheme="iob3")
    with pytest.raises(InputError, match="expected hf://"):
        read("hf://wikiann")
    with pytest.raises(DataError, match=r"x\.tsv:1: expected tags of the scheme iob2, got 'S-ORG'"):
        read(write("x.tsv", "IBM\tS-ORG\n"), scheme="iob2")


def test_a_large_file_streams_in_bounded_memory(write: Write) -> None:
    def peak(repeats: int) -> int:
        path = write(f"x{repeats}.tsv", GERMAN * repeats)
        tracemalloc.start()
        assert sum(1 for _ in read_corpus(path, language="de")) == 2 * repeats
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)  # fills caches
    assert peak(12_000) < 1.5 * peak(3000), "the first 64 KB are held to recognise the format"


def test_splits_are_found_by_language(write: Write, tmp_path: Path) -> None:
    for name in (
        "de/train.tsv",
        "de/dev.jsonl",
        "ja/test.conll.gz",
        "ja/notes.md",
        "CON/train.tsv",
        "empty/x",
    ):
        write(name, "x")
    assert find_splits(tmp_path) == {
        "de": {"train": tmp_path / "de/train.tsv", "validation": tmp_path / "de/dev.jsonl"},
        "ja": {"test": tmp_path / "ja/test.conll.gz"},
    }
    assert list(find_splits(tmp_path, ["ja"])) == ["ja"]
    with pytest.raises(DataError, match="check the language"):
        find_splits(tmp_path, ["fr"])
    with pytest.raises(LanguageError):
        find_splits(tmp_path, ["../de"])
    with pytest.raises(DataError, match="check the path"):
        find_splits(tmp_path / "empty")
    write("de/train.jsonl", "x")
    with pytest.raises(DataError, match="one file for train"):
        find_splits(tmp_path)


@pytest.mark.parametrize("link", ["de/test.tsv", "fr"])
def test_splits_never_leave_the_root_through_links(write: Write, tmp_path: Path, link: str) -> None:
    write("root/de/train.tsv", "x")
    outside = write("outside/test.tsv", "x")
    (tmp_path / "root" / link).symlink_to(outside if link.endswith(".tsv") else outside.parent)
    with pytest.raises(DataError, match="link to outside"):
        find_splits(tmp_path / "root")
