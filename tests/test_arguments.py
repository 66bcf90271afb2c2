"""Wrong values from callers of the Python interface: one line at once that says what was meant."""

from __future__ import annotations

from typing import Any

import pytest

from retrieveall.arguments import (
    check_count,
    check_language,
    check_option_names,
    check_text,
    check_threshold,
    checked_path,
    label_meant,
    languages_per_text,
    listed,
    listed_levels,
    server_url,
    wanted_labels,
)
from retrieveall.errors import InputError, LanguageError

LABELS = ("PER", "ORG", "LOC")


def test_texts_in_the_shapes_of_other_libraries() -> None:
    np, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", None, float("nan"), "b"]})
    assert next(iter(listed(frame["text"]))) == "a"
    assert list(listed(np.array(["a", "b"]))) == ["a", "b"]
    for table in (frame, np.array([["a"]])):
        with pytest.raises(InputError, match="a table; pass one column"):
            listed(table)
    for number in (1, 2):
        with pytest.raises(InputError, match=f"as text {number} .*empty cells.*fillna"):
            check_text(list(frame["text"])[number], number)
    for empty in (pandas.NA, pandas.NaT, np.float32("nan")):
        with pytest.raises(InputError, match="as text 0 "):
            check_text(empty, 0)
    with pytest.raises(InputError, match="got ndarray as text 0"):
        check_text(np.array([1.0, 2.0]), 0)
    check_text(np.str_("a"), 0)
    check_threshold(np.float32(0.5))
    with pytest.raises(InputError, match="from 0 to 1, got nan"):
        check_threshold(np.float64("nan"))


@pytest.mark.parametrize("texts", [5, None, b"a", {"a": 1}, {"a"}, frozenset("a"), object(), 1.5, float("nan")])
def test_what_is_no_list_of_texts(texts: Any) -> None:
    with pytest.raises(InputError, match=f"expected a text or a list of texts, got {type(texts).__name__}"):
        listed(texts)


@pytest.mark.parametrize("threshold", [2, -1, "0.5", True, [0.5], float("nan"), float("inf"), 1j])
def test_what_is_no_threshold(threshold: Any) -> None:
    with pytest.raises(InputError, match="expected a threshold from 0 to 1, got"):
        check_threshold(threshold)


def test_a_threshold_in_per_cent() -> None:
    with pytest.raises(InputError, match=r"divide by 100: 0\.5$"):
        check_threshold(50)


@pytest.mark.parametrize(
    ("language", "meant"),
    [
        *[("EN", "en"), ("En", "en"), (" en ", "en"), ("english", "en"), ("English", "en"), ("eng", "en")],
        *[("en-US", "en"), ("en_GB", "en"), ("Deutsch", "de"), ("ger", "de"), ("zh-hans", "zh-Hans"), ("cn", None)],
    ],
)
def test_the_language_that_was_meant(language: str, meant: str | None) -> None:
    with pytest.raises(LanguageError, match="de, en, zh-Hans") as caught:
        check_language(language, ("de", "en", "zh-Hans"))
    assert (f"did you mean {meant!r}?" in str(caught.value)) == (meant is not None)


@pytest.mark.parametrize("language", [5, b"en", {"en"}, {"en": 1}, 1.5])
def test_what_is_no_language(language: Any) -> None:
    for known in (("en",), None):
        with pytest.raises(InputError, match=r"got (int|bytes|set|dict|float)"):
            languages_per_text(language, 1, known)
        with pytest.raises(InputError):
            languages_per_text([language], 1, known)


def test_languages_of_a_model_that_is_elsewhere() -> None:
    assert languages_per_text("xx", 2, None) == ["xx", "xx"]
    assert languages_per_text(["xx", None], 2, None) == ["xx", None]
    assert wanted_labels(["X", "Y"], None) == {"X", "Y"}


@pytest.mark.parametrize(
    ("label", "meant"),
    [("person", "PER"), ("per", "PER"), ("PERSON", "PER"), ("Organisation", "ORG"), ("GPE", "LOC"), ("LOCC", "LOC")],
)
def test_the_label_that_was_meant(label: str, meant: str) -> None:
    for labels in (label, [label], ("PER", label)):
        with pytest.raises(InputError, match=f"among PER, ORG, LOC, got '{label}'; did you mean '{meant}'"):
            wanted_labels(labels, LABELS)
    assert label_meant("dish", LABELS) is None
    assert label_meant("person", ("DISH",)) is None


@pytest.mark.parametrize("labels", [5, b"PER", {"PER": 1}, 1.5, [None], [5], True])
def test_what_are_no_labels(labels: Any) -> None:
    for known in (LABELS, None):
        with pytest.raises(InputError, match="labels"):
            wanted_labels(labels, known)


def test_levels_counts_and_options() -> None:
    for levels in (None, 5, "entity", b"entity", ["nothing"], [5]):
        with pytest.raises(InputError, match="expected a list of levels among entity, context, got"):
            listed_levels(levels)
    for count in (0, -1, "5", 1.5, None, True):
        with pytest.raises(InputError, match="expected n of at least 1, got"):
            check_count(count, "n")
    with pytest.raises(InputError, match="did you mean language"):
        check_option_names({"languages": "en"}, ("language", "labels"), "predict")


@pytest.mark.parametrize(
    "url", ["", "x y", "ftp://h", "http://", "h:port", "http://h?k=1", "http://h#a", 5, None, b"h"]
)
def test_what_is_no_address(url: Any) -> None:
    with pytest.raises(InputError, match="expected a server address such as 'http://localhost:8000', got"):
        server_url(url, "use key")


@pytest.mark.parametrize(
    ("url", "full"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("example.org", "http://example.org"),
        ("https://h/x", "https://h/x"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_address_needs_no_protocol(url: str, full: str) -> None:
    assert server_url(url, "") == full


@pytest.mark.parametrize("url", ["user:hidden@host", "http://user:hidden@host"])
def test_a_password_in_an_address_is_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match="use key") as caught:
        server_url(url, "use key")
    assert "hidden" not in str(caught.value)


def test_levels_are_read_once() -> None:
    assert listed_levels(level for level in ("context", "entity")) == ["context", "entity"]


def test_tables_are_no_labels_and_no_levels() -> None:
    np = pytest.importorskip("numpy")
    assert wanted_labels(np.array(["PER"]), LABELS) == {"PER"}
    assert listed_levels(np.array(["entity"])) == ["entity"]
    for known in (LABELS, None):
        with pytest.raises(InputError, match="expected a list of labels, got ndarray, a table"):
            wanted_labels(np.array([["PER", "ORG"]]), known)
    with pytest.raises(InputError, match="expected a list of levels"):
        listed_levels(np.array([["entity", "context"]]))


@pytest.mark.parametrize("path", [None, 5, b"a", "", "a\0b", str])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(InputError, match="expected the archive as a path, got"):
        checked_path(path, "the archive")
