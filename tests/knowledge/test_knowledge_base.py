from __future__ import annotations

import copy
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    together = base.retrieve(texts, 4, exclude=sentences)
    alone = [base.retrieve([t], 4, exclude=[s])[0] for t, s in zip(texts, sentences, strict=True)]
    assert together == alone
    assert base.retrieve(texts[::-1], 4, exclude=sentences[::-1]) == alone[::-1]


def test_leave_one_out_hides_duplicates_and_their_mentions(encoder: NgramEncoder, corpora: Corpora) -> None:
    entity = (Entity(0, 8, "LOC", "Altenrip"),)
    own = Sentence("Altenrip liegt am Rhein .", entity, "de", "own")
    planted = [
        own,
        Sentence("Altenrip liegt am Rhein .", (Entity(0, 8, "ORG", "Altenrip"),), "de", "duplicate"),
        Sentence("ALTENRIP liegt am  Rhein.", (Entity(0, 8, "PER", "ALTENRIP"),), "de", "shouting duplicate"),
        Sentence("Altenrip liegt am Rhein !", entity, "de", "near duplicate"),
    ]
    abroad = [Sentence("Altenrip liegt am Rhein .", entity, "ru", "duplicate abroad")]
    base = KnowledgeBase.build(corpora | {"de": corpora["de"] + planted, "ru": corpora["ru"] + abroad}, encoder)
    (seen,) = base.retrieve([own.text], 4)
    assert {n.sentence.id for n in seen.neighbours} >= {"own", "duplicate", "duplicate abroad"}
    (hidden,) = base.retrieve([own.text], 500, exclude=[own])
    assert len(hidden.neighbours) == 60 * 3 + 1
    assert hidden.neighbours[0].sentence.id == "near duplicate"
    assert plain(own.text) not in {plain(n.sentence.text) for n in hidden.neighbours}
    (known,) = hidden.entities
    assert known.counts == {"de": {"LOC": 1}}
    (all_known,) = seen.entities
    assert all_known.counts == {"de": {"LOC": 2, "ORG": 1}, "ru": {"LOC": 1}}


def test_leave_one_out_equals_a_base_without_the_duplicates(
    base: KnowledgeBase, corpora: Corpora, encoder: NgramEncoder
) -> None:
    for sentence in (corpora["de"][0], corpora["ru"][5], corpora["zh"][7]):
        rest = {
            language: [s for s in some if plain(s.text) != plain(sentence.text)] for language, some in corpora.items()
        }
        rebuilt = KnowledgeBase(encoder, base.scale, {})
        for language, some in rest.items():
            rebuilt.add_language(language, some)
        assert base.retrieve([sentence.text], 50, exclude=[sentence]) == rebuilt.retrieve([sentence.text], 50)


def test_a_sentence_outside_the_pool_takes_its_mentions_from_the_counts(
    corpora: Corpora, encoder: NgramEncoder
) -> None:
    def tagged(name: str, frame: str, id: str, language: str | None = "de") -> Sentence:
        start = frame.index("{}")
        return Sentence(frame.format(name), (Entity(start, start + len(name), "LOC", name),), language, id)

    pool = [tagged("Oberau", "{} liegt im Tal .", "once")]
    pool += [tagged("Unterau", "{} liegt am Bach " + "!" * n, f"often {n}") for n in range(5)]
    base = KnowledgeBase.build(corpora | {"de": corpora["de"] + pool}, encoder)

    def counts(sentence: Sentence) -> list[Any]:
        (found,) = base.retrieve([sentence.text], 3, exclude=[sentence])
        return [known.counts for known in found.entities]

    for id in ("", "new"):
        assert counts(tagged("Oberau", "Wir sind in {} gewesen .", id)) == []
        assert counts(tagged("Unterau", "Wir sind in {} gewesen .", id)) == [{"de": {"LOC": 4}}]
    # In the pool: one fewer, as before, in whatever form it comes.
    assert counts(pool[1]) == counts(tagged("Unterau", "{}  liegt am BACH", "")) == [{"de": {"LOC": 4}}]
    # Another text under the id of one in the pool loses its own mentions, and no neighbour is where it comes from.
    swapped = tagged("Unterau", "{} liegt im Tal .", "once")
    assert counts(swapped) == [{"de": {"LOC": 4}}]
    (found,) = base.retrieve([swapped.text], 99, exclude=[swapped])
    assert "once" not in {neighbour.sentence.id for neighbour in found.neighbours}
    # Only its own language is said to have known it.
    assert counts(tagged("Unterau", "Wir sind in {} gewesen .", "", "ru")) == [{"de": {"LOC": 5}}]


def test_saved_and_opened_it_retrieves_the_same(base: KnowledgeBase, tmp_path: Path) -> None:
    base.save(tmp_path / "knowledge")
    opened = KnowledgeBase.open(tmp_path / "knowledge")
    assert opened.languages == ("de", "ru", "zh")
    assert opened.retrieve(TEXTS, 7) == base.retrieve(TEXTS, 7)
    assert [len(opened.sentences(language)) for language in opened.languages] == [60] * 3
    opened.save(tmp_path / "copy")
    assert digests(tmp_path / "copy") == digests(tmp_path / "knowledge")


def test_building_twice_writes_the_same_bytes(base: KnowledgeBase, corpora: Corpora, tmp_path: Path) -> None:
    texts = [sentence.text for sentences in corpora.values() for sentence in sentences]
    for name in ("first", "second"):
        encoder = NgramEncoder.fit(texts, dimension=12, buckets=512)
        KnowledgeBase.build(corpora, encoder).save(tmp_path / name)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


def test_a_language_comes_without_touching_the_others(
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
    base.save(folder)
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
    left = base.examples(known, exclude=examples[0])
    assert left == [each for each in examples if plain(each.text) != plain(examples[0].text)]


@pytest.mark.parametrize("options", [{}, {"partial_matches": True}, {"languages": ["de"]}], ids=str)
def test_what_is_handed_out_shares_nothing_with_the_index(base: KnowledgeBase, options: dict[str, Any]) -> None:
    texts = ["Hamburg und Meier und Anna", "Karl in Hamburg"]
    before = base.retrieve(texts, 2, **options)
    expected = copy.deepcopy(before)
    for known in (known for each in before for known in each.entities):
        assert isinstance(hash(known), int)
        for counts in (known.counts, *known.counts.values()):
            with pytest.raises((TypeError, AttributeError)):
                counts["de"] = 7  # type: ignore[index]
            if isinstance(counts, dict):  # by force
                dict.clear(counts)
    assert base.retrieve(texts, 2, **options) == expected
    assert any(each.entities for each in expected)


def relabelled(sentences: list[Sentence], row: int, **changes: Any) -> list[Sentence]:
    changed = [*sentences]
    changed[row] = replace(changed[row], **changes)
    return changed


def test_the_fingerprint_changes_with_all_that_retrieval_depends_on(
    base: KnowledgeBase, corpora: Corpora, encoder: NgramEncoder, tmp_path: Path
) -> None:
    german = corpora["de"]
    (entity,) = german[3].entities
    variants = {
        "label": {"de": relabelled(german, 3, entities=(replace(entity, label="MISC"),))},
        "boundary": {"de": relabelled(german, 3, entities=(replace(entity, end=entity.end - 1),))},
        "no entity": {"de": relabelled(german, 3, entities=())},
        "text": {"de": relabelled(german, 3, text=german[3].text + " .")},
        "id": {"de": relabelled(german, 3, id="other")},
        "order": {"de": german[::-1]},
        "one less": {"de": german[:-1]},
        "another language": {"fr": german},
    }
    found = {name: KnowledgeBase.build(corpora | change, encoder).fingerprint() for name, change in variants.items()}
    found["fewer languages"] = KnowledgeBase.build({"de": german}, encoder).fingerprint()
    found["scale"] = rescaled(base, corpora).fingerprint()
    texts = [sentence.text for sentence in german]
    found["encoder"] = KnowledgeBase.build(corpora, NgramEncoder.fit(texts, dimension=12, buckets=512)).fingerprint()
    found["as it was"] = base.fingerprint()
    assert len(set(found.values())) == len(found)
    assert KnowledgeBase.build(corpora, encoder).fingerprint() == base.fingerprint()
    base.save(tmp_path)
    opened = KnowledgeBase.open(tmp_path)
    assert opened.fingerprint() == base.fingerprint()
    opened.add_language("zh", corpora["zh"][1:])
    assert opened.fingerprint() != base.fingerprint()


def rescaled(base: KnowledgeBase, corpora: Corpora) -> KnowledgeBase:
    other = KnowledgeBase(base.encoder, base.scale / 2, {})
    for language, sentences in corpora.items():
        other.add_language(language, sentences)
    return other


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
    with pytest.raises(
        ModelFolderError, match=rf"{name} is (missing|damaged|truncated).*make the index again"
    ) as caught:
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
    with pytest.raises(InputError, match="to exclude for each of 5 texts, got 1"):
        base.retrieve(TEXTS, 3, exclude=[None])
    with pytest.raises(LanguageError, match="'xx'"):
        base.save_language("xx", "nowhere")
    with pytest.raises(LanguageError, match=r"\.\./up"):
        base.add_language("../up", [])
    with pytest.raises(LanguageError, match="'encoder'"):
        base.add_language("encoder", [])
    with pytest.raises(InputError, match="got none"):
        KnowledgeBase.build({"de": []})
    assert base.retrieve([], 3) == []


def test_knowledge_needs_neither_torch_nor_faiss() -> None:
    """A client of a remote engine retrieves, too."""
    program = """
import sys
sys.modules["torch"] = sys.modules["faiss"] = None
from retrieveall.knowledge import KnowledgeBase
from retrieveall.types import Sentence
base = KnowledgeBase.build({"de": [Sentence(f"Satz {number}", (), "de", str(number)) for number in range(300)]})
assert base.retrieve(["Satz 7"], 1, exclude=[base.sentences("de")[8]])[0].neighbours[0].sentence.id == "7"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_progress_is_reported(corpora: Corpora, encoder: NgramEncoder) -> None:
    seen: list[tuple[str, int, int]] = []
    KnowledgeBase.build(corpora, encoder, progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == [0, 60, 120, 180]
    assert {total for _, _, total in seen} == {180}
