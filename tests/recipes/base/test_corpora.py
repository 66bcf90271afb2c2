"""Corpora of base on small files: what is trained on, what may be retrieved, what is chosen on, and the key of all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from recipes.base.corpora import Corpora
from recipes.base.settings import CorpusSettings
from retrieveall.errors import ConfigError


def write(path: Path, count: int, word: str, name: str = "Ulm") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{word}{number}\tO\n{name}\tB-LOC\n.\tO\n" for number in range(count)]
    path.write_text("\n".join(rows), encoding="utf-8")


@pytest.fixture
def corpora(tmp_path: Path) -> Corpora:
    for language, name in {"en": "Ulm", "ko": "부산에서"}.items():
        for split, count in {"train": 9, "validation": 6}.items():
            write(tmp_path / "panx" / language / f"{split}.tsv", count, "wiki", name)
    for name in ("news", "talk"):
        for split, count in {"train": 8, "validation": 5}.items():
            write(tmp_path / "running" / "en" / name / f"{split}.tsv", count, name)
    return Corpora(tmp_path / "panx", tmp_path / "running", ("en", "ko"))


def limits(**of: int) -> CorpusSettings:
    return CorpusSettings(
        panx={"others": 5, "ko": 3}, running=4, of={f"en/{key}": n for key, n in of.items()}, validation=4
    )


def test_ids_tell_the_corpora_of_a_language_apart(corpora: Corpora) -> None:
    found = corpora.of("en", "train")
    assert list(found) == ["panx", "en/news", "en/talk"]
    assert [len(each) for each in found.values()] == [9, 8, 8]
    ids = [sentence.id for own in found.values() for sentence in own]
    assert len(set(ids)) == len(ids)
    assert found["en/talk"][3].id == "en/talk:3"


def test_samples_have_the_sizes_of_the_settings(corpora: Corpora) -> None:
    panx, running = corpora.train("en", limits(talk=2), random.Random(1))
    assert [len(panx), len(running)] == [5, 4 + 2]
    assert sum(sentence.id.startswith("en/talk") for sentence in running) == 2
    panx, running = corpora.train("ko", limits(), random.Random(1))
    assert [len(panx), len(running)] == [3, 0]
    panx, running = corpora.train("en", limits(news=100, talk=0), random.Random(1))
    assert {sentence.id for sentence in running} == {f"en/news:{number}" for number in range(8)}
    assert corpora.train("en", limits(), random.Random(1)) == corpora.train("en", limits(), random.Random(1))


def test_what_is_trained_on_is_in_the_pool_by_its_id(corpora: Corpora) -> None:
    pool = {sentence.id: sentence for sentence in corpora.pool("en")}
    assert len(pool) == 9 + 8 + 8
    panx, running = corpora.train("en", limits(), random.Random(1))
    for sentence in [*panx, *running]:
        assert [entity.text for entity in pool[sentence.id].entities] == ["Ulm"]
    assert pool["panx:0"].text == "wiki0 Ulm ."
    assert pool["en/news:0"].text == "news0 Ulm.", "running text is raw text"
    for sentence in pool.values():
        assert all(sentence.text[entity.start : entity.end] == entity.text for entity in sentence.entities)


@pytest.mark.parametrize(("size", "panx", "running"), [(4, 4, 4), (6, 6, 6), (10, 6, 10), (100, 6, 10), (1, 1, 0)])
def test_validation_takes_both_kinds_in_turn(corpora: Corpora, size: int, panx: int, running: int) -> None:
    found = [sentence.id.split(":")[0] for sentence in corpora.validation("en", size)]
    assert [found.count("panx"), len(found) - found.count("panx")] == [panx, running]
    both = 2 * min(panx, running)
    assert found[:both:2] == ["panx"] * (both // 2)
    assert "panx" not in found[1:both:2]
    assert [sentence.id for sentence in corpora.validation("ko", 4)] == [f"panx:{i}" for i in range(4)]


def test_korean_names_end_before_their_particles_everywhere(corpora: Corpora) -> None:
    for sentences in (
        corpora.pool("ko"),
        corpora.validation("ko", 3),
        corpora.train("ko", limits(), random.Random(1))[0],
    ):
        assert {entity.text for sentence in sentences for entity in sentence.entities} == {"부산"}
        assert all("부산에서" in sentence.text for sentence in sentences)


def test_the_key_is_that_of_all_files(corpora: Corpora) -> None:
    def again(**changes: object) -> str:
        settings = {
            "panx": corpora.panx,
            "running": corpora.running,
            "languages": ("en", "ko"),
            "limit": None,
        } | changes
        return Corpora(**settings).key  # type: ignore[arg-type]

    first = again()
    assert first == corpora.key
    assert len({first, again(limit=2), again(languages=("en",))}) == 3
    write(corpora.running / "en" / "talk" / "validation.tsv", 4, "talk")
    second = again()
    write(corpora.running / "ko" / "web" / "train.tsv", 1, "web")
    write(corpora.running / "ko" / "web" / "validation.tsv", 1, "web")
    assert len({first, second, again()}) == 3
    (corpora.running / "ko" / "web" / "validation.tsv").unlink()
    with pytest.raises(ConfigError, match=r"ko/web/validation\.tsv"):
        again()


def test_a_limit_is_that_of_each_file(corpora: Corpora) -> None:
    few = Corpora(corpora.panx, corpora.running, corpora.languages, 2)
    assert [sentence.id for sentence in few.pool("en")] == [
        f"{name}:{number}" for name in ("panx", "en/news", "en/talk") for number in range(2)
    ]
