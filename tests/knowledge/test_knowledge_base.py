from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieveall.errors import InputError, LanguageError, ModelFolderError
from retrieveall.knowledge import KnowledgeBase, NgramEncoder
from retrieveall.storage import Manifest
from retrieveall.types import Entity, Sentence

Corpora = dict[str, list[Sentence]]
TEXTS = ["Gestern war Hamburg in der Zeitung .", "Он жил в Москве", "昨天北京大学上了报纸。", "", "xyz"]


@pytest.fixture(scope="module")
def base(corpora: Corpora, encoder: NgramEncoder) -> KnowledgeBase:
    return KnowledgeBase.build(corpora, encoder)


def digests(folder: Path) -> dict[str, str]:
    """Every file but the manifest, which follows from the others."""
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / "manifest.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def plain(text: str) -> str:
    return "".join(text.casefold().split())


def test_retrieval_finds_sentences_and_mentions(base: KnowledgeBase) -> None:
    german, russian, chinese, empty, _ = base.retrieve(TEXTS, 5)
    assert [n.language for n in german.neighbours] == ["de"] * 5
    assert [n.language for n in russian.neighbours] == ["ru"] * 5
    assert [n.language for n in chinese.neighbours] == ["zh"] * 5
    assert [k.surface for k in german.entities] == ["Hamburg"]
    assert [k.surface for k in russian.entities] == ["Москва"]
    assert [k.surface for k in chinese.entities] == ["北京大学"]
    assert len(empty.neighbours) == 5
    assert empty.entities == ()
    similarities = [n.similarity for n in german.neighbours]
    assert similarities == sorted(similarities, reverse=True)
    assert 0.5 < similarities[0] <= 1


def test_results_do_not_depend_on_the_batch(base: KnowledgeBase, corpora: Corpora) -> None:
    sentences = [sentence for some in corpora.values() for sentence in some[:30]]
    texts = [sentence.text for sentence in sentences]
    together = base.retrieve(texts, 4, leave_out=sentences)
    alone = [base.retrieve([t], 4, leave_out=[s])[0] for t, s in zip(texts, sentences, strict=True)]
    assert together == alone
    assert base.retrieve(texts[::-1], 4, leave_out=sentences[::-1]) == alone[::-1]


def test_leave_one_out_hides_the_sentence_its_twins_and_their_mentions(encoder: NgramEncoder, corpora: Corpora) -> None:
    entity = (Entity(0, 8, "LOC", "Altenrip"),)
    own = Sentence("Altenrip liegt am Rhein .", entity, "de", "own")
    planted = [
        own,
        Sentence("Altenrip liegt am Rhein .", (Entity(0, 8, "ORG", "Altenrip"),), "de", "twin"),
        Sentence("ALTENRIP liegt am  Rhein.", (Entity(0, 8, "PER", "ALTENRIP"),), "de", "shouting twin"),
        Sentence("Altenrip liegt am Rhein !", entity, "de", "near twin"),
    ]
    abroad = [Sentence("Altenrip liegt am Rhein .", entity, "ru", "twin abroad")]
    base = KnowledgeBase.build(corpora | {"de": corpora["de"] + planted, "ru": corpora["ru"] + abroad}, encoder)
    (seen,) = base.retrieve([own.text], 4)
    assert {n.sentence.id for n in seen.neighbours} >= {"own", "twin", "twin abroad"}
    (hidden,) = base.retrieve([own.text], 500, leave_out=[own])
    assert len(hidden.neighbours) == 60 * 3 + 1
    assert hidden.neighbours[0].sentence.id == "near twin"
    assert plain(own.text) not in {plain(n.sentence.text) for n in hidden.neighbours}
    (known,) = hidden.entities
    assert known.counts == {"de": {"LOC": 1}}
    (all_known,) = seen.entities
    assert all_known.counts == {"de": {"LOC": 2, "ORG": 1}, "ru": {"LOC": 1}}


def test_leave_one_out_equals_a_base_without_the_twins(
    base: KnowledgeBase, corpora: Corpora, encoder: NgramEncoder
) -> None:
    for sentence in (corpora["de"][0], corpora["ru"][5], corpora["zh"][7]):
        rest = {
            language: [s for s in some if plain(s.text) != plain(sentence.text)] for language, some in corpora.items()
        }
        rebuilt = KnowledgeBase(encoder, base.scale, {})
        for language, some in rest.items():
            rebuilt.add_language(language, some)
        assert base.retrieve([sentence.text], 50, leave_out=[sentence]) == rebuilt.retrieve([sentence.text], 50)


def test_saved_and_opened_it_retrieves_the_same(base: KnowledgeBase, tmp_path: Path) -> None:
    base.save(tmp_path / "knowledge")
    opened = KnowledgeBase.open(tmp_path / "knowledge")
    assert opened.languages == ("de", "ru", "zh")
    assert opened.retrieve(TEXTS, 7) == base.retrieve(TEXTS, 7)
    assert len(opened) == len(base) == 180
    opened.save(tmp_path / "copy")
    assert digests(tmp_path / "copy") == digests(tmp_path / "knowledge")


def test_building_twice_writes_the_same_bytes(base: KnowledgeBase, corpora: Corpora, tmp_path: Path) -> None:
    texts = [sentence.text for sentences in corpora.values() for sentence in sentences]
    for name in ("first", "second"):
        encoder = NgramEncoder.fit(texts, dimension=12, buckets=512)
        KnowledgeBase.build(corpora, encoder).save(tmp_path / name)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


def test_a_language_comes_and_goes_without_touching_the_others(
    base: KnowledgeBase, make_sentences: Callable[..., list[Sentence]], tmp_path: Path
) -> None:
    folder = tmp_path / "knowledge"
    base.save(folder)
    before, expected = digests(folder), base.retrieve(TEXTS, 7)
    opened = KnowledgeBase.open(folder)
    opened.retrieve(TEXTS, 1)
    opened.add_language("de-x", make_sentences("de", 20, seed=3))
    opened.save(folder)
    after = digests(folder)
    assert {name: after[name] for name in before} == before
    assert {Path(name).parts[0] for name in after.keys() - before.keys()} == {"de-x"}
    assert opened.retrieve(TEXTS, 7) == KnowledgeBase.open(folder).retrieve(TEXTS, 7)
    assert opened.retrieve(TEXTS, 7) != expected
    assert opened.retrieve(TEXTS, 7, languages=["de", "ru", "zh"]) == expected
    opened.remove_language("de-x")
    assert opened.retrieve(TEXTS, 7) == expected
    opened.save(folder)
    assert digests(folder) == before


def test_one_language_can_be_written_alone(base: KnowledgeBase, tmp_path: Path) -> None:
    base.save(tmp_path / "whole")
    base.save_language("ru", tmp_path / "ru")
    assert digests(tmp_path / "ru") == digests(tmp_path / "whole" / "ru")


def test_saving_removes_nothing_but_knowledge(base: KnowledgeBase, tmp_path: Path) -> None:
    base.save(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    (tmp_path / "ru" / "notes.txt").write_bytes(b"mine")
    kept = KnowledgeBase(base.encoder, base.scale, {})
    kept.add_language("zh", [Sentence("新", (), "zh", "new")])
    kept.save(tmp_path)
    left = {name for name in digests(tmp_path) if not name.startswith(("encoder", "zh"))}
    assert left == {str(Path("photos", "cat.jpg")), str(Path("ru", "notes.txt"))}


def test_examples_mention_the_surface_and_hide_what_is_left_out(base: KnowledgeBase, corpora: Corpora) -> None:
    (known,) = base.retrieve(["Hamburg"], 0)[0].entities
    examples = base.examples(known)
    assert 1 <= len(examples) <= 3
    assert all("Hamburg" in {entity.text for entity in example.entities} for example in examples)
    left = base.examples(known, leave_out=examples[0])
    assert left == [each for each in examples if plain(each.text) != plain(examples[0].text)]


def test_replacing_a_language_forgets_the_old_sentences(base: KnowledgeBase, tmp_path: Path) -> None:
    base.save(tmp_path)
    opened = KnowledgeBase.open(tmp_path)
    opened.add_language("zh", [Sentence("新", (), "zh", "new")])
    opened.save(tmp_path)
    (known,) = KnowledgeBase.open(tmp_path).retrieve(["北京大学"], 9, languages=["zh"])
    assert [n.sentence.id for n in known.neighbours] == ["new"]
    assert known.entities == ()


@pytest.mark.parametrize("name", ["sentences.parquet", "vectors.safetensors", "entities.parquet", "words.parquet"])
@pytest.mark.parametrize("damage", ["truncated", "noise", "empty", "missing", "another language's"])
@pytest.mark.parametrize("manifest", [True, False], ids=["alone", "in a model"])
def test_damaged_files_are_named(base: KnowledgeBase, tmp_path: Path, name: str, damage: str, manifest: bool) -> None:
    (base.save if manifest else base.write_files)(tmp_path)
    path = tmp_path / "ru" / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        new = {"truncated": data[: len(data) * 2 // 3], "noise": b"\x00\xff" * 500, "empty": b""}
        path.write_bytes(new.get(damage, (tmp_path / "de" / "vectors.safetensors").read_bytes()[:-12]))
    with pytest.raises(ModelFolderError, match=rf"ru.{name}") as caught:
        KnowledgeBase.open(tmp_path).retrieve(TEXTS, 3)
    assert "\n" not in str(caught.value)


def test_the_manifest_of_an_index_is_right_after_every_save(
    base: KnowledgeBase, make_sentences: Callable[..., list[Sentence]], tmp_path: Path
) -> None:
    def check(languages: set[str]) -> None:
        Manifest.load(tmp_path).verify()
        assert set(Manifest.load(tmp_path).files) == set(digests(tmp_path))
        assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == languages | {"encoder"}

    base.write_files(tmp_path)  # as knowledge of a model: without a manifest
    KnowledgeBase.open(tmp_path).save(tmp_path)
    check({"de", "ru", "zh"})
    opened = KnowledgeBase.open(tmp_path)
    opened.add_language("de", make_sentences("de", 20, seed=3))
    opened.add_language("fr", make_sentences("de", 20, seed=4))
    opened.save(tmp_path)
    check({"de", "fr", "ru", "zh"})
    opened = KnowledgeBase.open(tmp_path)
    opened.remove_language("ru")
    opened.save(tmp_path)
    check({"de", "fr", "zh"})
    assert len(KnowledgeBase.open(tmp_path).retrieve(TEXTS, 3)) == len(TEXTS)
    base.save(tmp_path)
    check({"de", "ru", "zh"})


@pytest.mark.parametrize(
    "name", [*(f"ru/{name}" for name in ("sentences.parquet", "vectors.safetensors")), "encoder/scale.safetensors"]
)
def test_an_altered_file_is_found_when_it_is_first_used(base: KnowledgeBase, tmp_path: Path, name: str) -> None:
    """Opening compares sizes; a checksum costs reading the file, which opening does not do."""
    base.save(tmp_path / "index")
    path = tmp_path / "index" / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    opened = KnowledgeBase.open(tmp_path / "index")
    assert opened.sentences("de")[0].language == "de"
    with pytest.raises(ModelFolderError, match=rf"{name} was altered.*make the index again"):
        opened.retrieve(TEXTS, 3)
    with pytest.raises(ModelFolderError, match=rf"{name} was altered"):  # or the copy would vouch for the damage
        KnowledgeBase.open(tmp_path / "index").save(tmp_path / "copy")
    assert not (tmp_path / "copy" / "manifest.json").exists()
    if name == "ru/vectors.safetensors":  # a vector like any other
        assert len(KnowledgeBase.open(tmp_path / "index", verify=False).retrieve(TEXTS, 3)) == len(TEXTS)


@pytest.mark.parametrize("name", ["encoder/projection.safetensors", "ru/words.parquet"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_an_index_that_differs_from_its_manifest_is_not_opened(
    base: KnowledgeBase, tmp_path: Path, name: str, damage: str
) -> None:
    base.save(tmp_path)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFolderError, match=rf"{name} is (missing|damaged).*make the index again") as caught:
        KnowledgeBase.open(tmp_path, verify=False)
    assert "\n" not in str(caught.value)


def test_languages_that_differ_from_the_manifest_are_named(base: KnowledgeBase, tmp_path: Path) -> None:
    base.save(tmp_path)
    shutil.copytree(tmp_path / "ru", tmp_path / "fr")
    with pytest.raises(ModelFolderError, match=r"expected .*fr/sentences\.parquet in the manifest.*'fr' again"):
        KnowledgeBase.open(tmp_path)
    shutil.rmtree(tmp_path / "fr")
    shutil.rmtree(tmp_path / "ru")
    with pytest.raises(ModelFolderError, match=r"ru/entities\.parquet is missing"):
        KnowledgeBase.open(tmp_path)


def test_a_folder_without_knowledge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"found none; run: retrieveall index"):
        KnowledgeBase.open(tmp_path / "nothing")


def test_vectors_of_another_count_or_dimension_are_refused(base: KnowledgeBase, tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    base.write_files(tmp_path)
    path = tmp_path / "ru" / "vectors.safetensors"
    for shape in ((59, 12), (60, 11)):
        save_file({"codes": np.zeros(shape, dtype=np.int8)}, path)
        with pytest.raises(ModelFolderError, match=r"ru.vectors\.safetensors: expected"):
            KnowledgeBase.open(tmp_path).retrieve(TEXTS, 3)


@pytest.mark.parametrize(
    "text", ["\0", "\ud800", "\ufeffHamburg", "a\r\nb", "\u202eHamburg\u202c", "🏴‍☠️" * 50, "́" * 999]
)
def test_hostile_texts_have_exact_offsets(base: KnowledgeBase, text: str) -> None:
    (known,) = base.retrieve([text], 3)
    assert len(known.neighbours) == 3
    assert all(text[k.start : k.end] == k.surface for k in known.entities)
    assert ("Hamburg" in text) == bool(known.entities)


def test_sentences_that_no_file_can_hold_are_refused(encoder: NgramEncoder) -> None:
    with pytest.raises(InputError, match="lone surrogate"):
        KnowledgeBase.build({"de": [Sentence("a\ud800", (), "de", "1")]}, encoder)


def test_wrong_calls_are_refused(base: KnowledgeBase) -> None:
    with pytest.raises(LanguageError, match=r"'xx'; there is: de, ru, zh"):
        base.retrieve(TEXTS, 3, languages=["de", "xx"])
    with pytest.raises(InputError, match="to leave out, 5, got 1"):
        base.retrieve(TEXTS, 3, leave_out=[None])
    with pytest.raises(LanguageError, match="'xx'"):
        base.remove_language("xx")
    with pytest.raises(LanguageError, match=r"\.\./up"):
        base.add_language("../up", [])
    with pytest.raises(LanguageError, match="'encoder'"):
        base.add_language("encoder", [])
    with pytest.raises(InputError, match="got none"):
        KnowledgeBase.build({"de": []})
    assert base.retrieve([], 3) == []


def test_progress_is_reported(corpora: Corpora, encoder: NgramEncoder) -> None:
    seen: list[tuple[str, int, int]] = []
    KnowledgeBase.build(corpora, encoder, progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == [0, 60, 120, 180]
    assert {total for _, _, total in seen} == {180}
