"""The pipeline: every way of asking gives the same answer, and every choice can be fixed, filtered and seen."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retrieveall import RetrieveAll
from retrieveall.config import ModelConfig, dump_yaml, load_yaml
from retrieveall.data import segment
from retrieveall.errors import ConfigError, InputError, LanguageError, ModelFolderError
from retrieveall.model_folder import SETTINGS
from retrieveall.stages import cut_pieces
from retrieveall.storage import Manifest, Transaction
from retrieveall.thresholds import select
from retrieveall.types import Entity, Knowledge, Prediction, Route, Sentence

Plain = Callable[[Any], list[Entity]]


@pytest.fixture(scope="module", params=["full", "repeat"])
def model(request: pytest.FixtureRequest) -> RetrieveAll:
    found: RetrieveAll = request.getfixturevalue({"full": "loaded", "repeat": "loaded_repeat"}[request.param])
    return found


def same(first: Sequence[Prediction], second: Sequence[Prediction], plain: Plain) -> None:
    """Equal but for the last digits of scores, which depend on the batch."""
    assert [each.text for each in first] == [each.text for each in second]
    for a, b in zip(first, second, strict=True):
        assert plain(a.entities) == plain(b.entities)
        assert [entity.score for entity in a.entities] == pytest.approx([e.score for e in b.entities], abs=1e-3)
        assert (a.route, a.knowledge) == (b.route, b.knowledge)


class TestSameAnswer:
    def test_entities_are_stretches_of_the_text_in_order(self, model: RetrieveAll, mixed_texts: list[str]) -> None:
        predictions = model.predict(mixed_texts)
        assert [each.text for each in predictions] == mixed_texts
        assert sum(len(each.entities) for each in predictions) > 20
        for each in predictions:
            position = 0
            for entity in each.entities:
                assert position <= entity.start < entity.end <= len(each.text)
                assert entity.text == each.text[entity.start : entity.end]
                assert entity.label in model.labels
                assert 0 < (entity.score or 0) <= 1
                position = entity.end

    def test_one_by_one_and_streamed(self, model: RetrieveAll, mixed_texts: list[str], without_scores: Plain) -> None:
        together = model.predict(mixed_texts)
        same([model.predict(text)[0] for text in mixed_texts], together, without_scores)
        for size in (1, 4, 1000):
            same(list(model.stream(iter(mixed_texts), batch_size=size)), together, without_scores)

    def test_shuffled(self, model: RetrieveAll, mixed_texts: list[str], without_scores: Plain) -> None:
        together = dict(zip(mixed_texts, model.predict(mixed_texts), strict=True))
        order = random.Random(2).sample(mixed_texts, len(mixed_texts))
        same(model.predict(order), [together[text] for text in order], without_scores)

    def test_from_several_threads(self, model: RetrieveAll, mixed_texts: list[str], without_scores: Plain) -> None:
        together = model.predict(mixed_texts)
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda text: model.predict(text)[0], mixed_texts))
        same(found, together, without_scores)

    def test_streaming_reads_ahead_no_more_than_a_batch(self, loaded: RetrieveAll) -> None:
        taken = []

        def texts() -> Any:
            for number in range(10):
                taken.append(number)
                yield f"Ulm {number}"

        stream = loaded.stream(texts(), batch_size=3)
        assert taken == []
        assert next(stream).text == "Ulm 0"
        assert taken == [0, 1, 2]

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 256])
    def test_texts_before_a_bad_one_are_answered(
        self, loaded: RetrieveAll, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As docs/extract.md says; whatever ends the stream, and wherever in its batch."""
        monkeypatch.setattr("retrieveall.arguments.MAX_CHARACTERS", 10)

        def interrupted() -> Any:
            yield from (f"Ulm {number}" for number in range(4))
            raise OSError("the disk has gone")

        good = [f"Ulm {number}" for number in range(4)]
        wrong: list[tuple[Any, type[Exception], str]] = [
            ([*good, 5, "Ulm 5"], InputError, "got int as text 4 of the list"),
            ([*good, "x" * 11, "Ulm 5"], InputError, "at most 10 characters, got 11 as text 4 of the list"),
            (interrupted(), OSError, "the disk has gone"),
        ]
        for texts, error, said in wrong:
            found: list[str] = []
            with pytest.raises(error, match=said):
                found.extend(each.text for each in loaded.stream(texts, batch_size=size))
            assert found == good

    def test_a_single_text_is_not_read_as_characters(self, loaded: RetrieveAll) -> None:
        assert [each.text for each in loaded.stream("Ulm und Köln")] == ["Ulm und Köln"]
        assert [each.text for each in loaded.predict("Ulm und Köln")] == ["Ulm und Köln"]

    def test_nothing(self, model: RetrieveAll) -> None:
        assert model.predict([]) == []
        assert list(model.stream([])) == []
        for text in ("", " ", "\n\t \u3000", "\u200b\ufeff", "\x00"):
            [prediction] = model.predict([text])
            assert prediction == Prediction(text, (), Route(reason="no_letters"), Knowledge())


class TestLanguage:
    def test_fixed_for_all(self, model: RetrieveAll, mixed_texts: list[str]) -> None:
        for each in model.predict(mixed_texts, language="zh"):
            assert (each.route.adapters, each.route.reason) == ({"zh": 1.0}, "fixed")
            assert each.route.language == "zh"

    def test_one_a_text(self, model: RetrieveAll, without_scores: Plain) -> None:
        texts = ["Karl May in London"] * 3
        found = model.predict(texts, language=["de", None, "zh"])
        routed, german, chinese = (model.predict(texts[0], language=each)[0] for each in (None, "de", "zh"))
        same(found, [german, routed, chinese], without_scores)
        assert without_scores(german.entities) != without_scores(chinese.entities)

    @pytest.mark.parametrize("language", ["fr", "", "../de", "DE", "x" * 10_000])
    def test_unknown(self, loaded: RetrieveAll, language: str) -> None:
        with pytest.raises(LanguageError, match="de, en, zh") as caught:
            loaded.predict(["Ulm"], language=language)
        assert len(str(caught.value)) < 300

    def test_another_number_than_texts(self, loaded: RetrieveAll) -> None:
        with pytest.raises(InputError, match="expected a language, or one per text, got int"):
            loaded.predict("Anna", language=5)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"one language per text \(2\), got 1"):
            loaded.predict(["a", "b"], language=["de"])

    def test_routed_by_what_is_near(self, model: RetrieveAll, corpus: dict[str, list[Sentence]]) -> None:
        for language, sentences in corpus.items():
            for each in model.predict([sentence.text for sentence in sentences[:3]]):
                assert each.route.language == language
                assert each.route.reason in {"vote", "mixture"}
                assert sum(each.route.adapters.values()) == pytest.approx(1)


class TestFilters:
    def test_labels(self, model: RetrieveAll, mixed_texts: list[str], without_scores: Plain) -> None:
        everything = model.predict(mixed_texts)
        for wanted in (["PER"], "PER", ["LOC", "ORG"], []):
            for found, whole in zip(model.predict(mixed_texts, labels=wanted), everything, strict=True):
                kept = [entity for entity in whole.entities if entity.label in wanted]
                assert without_scores(found.entities) == without_scores(kept)

    def test_threshold(self, model: RetrieveAll, mixed_texts: list[str], without_scores: Plain) -> None:
        everything = model.predict(mixed_texts)
        for found, whole in zip(model.predict(mixed_texts, threshold=0.5), everything, strict=True):
            kept = [entity for entity in whole.entities if (entity.score or 0) >= 0.5]
            assert without_scores(found.entities) == without_scores(kept)

    def test_a_model_has_a_threshold_of_its_own(self, model_copy: Path, mixed_texts: list[str]) -> None:
        everything = RetrieveAll.from_pretrained(model_copy, device="cpu").predict(mixed_texts)
        scores = sorted(entity.score or 0.0 for each in everything for entity in each.entities)
        middle = scores[len(scores) // 2]
        with Transaction(model_copy) as transaction:
            config = load_yaml(ModelConfig, model_copy / SETTINGS).model_copy(update={"threshold": middle})
            transaction.path(SETTINGS).write_text(dump_yaml(config), encoding="utf-8")
        strict = RetrieveAll.from_pretrained(model_copy, device="cpu")
        assert strict.predict(mixed_texts) == strict.predict(mixed_texts, threshold=middle)
        assert list(strict.stream(mixed_texts)) == strict.predict(mixed_texts)
        assert strict.predict(mixed_texts, threshold=0.0) == everything
        kept = sum(len(each.entities) for each in strict.predict(mixed_texts))
        assert kept == sum(score >= middle for score in scores) < len(scores)

    def test_a_model_has_a_threshold_for_sentences(self, model_copy: Path, mixed_texts: list[str]) -> None:
        everything = RetrieveAll.from_pretrained(model_copy, device="cpu").predict(mixed_texts)
        surest = sorted(max(entity.score or 0.0 for entity in each.entities) for each in everything if each.entities)
        middle = surest[len(surest) // 2]
        with Transaction(model_copy) as transaction:
            config = load_yaml(ModelConfig, model_copy / SETTINGS).model_copy(update={"sentence_threshold": middle})
            transaction.path(SETTINGS).write_text(dump_yaml(config), encoding="utf-8")
        strict = RetrieveAll.from_pretrained(model_copy, device="cpu")
        kept = strict.predict(mixed_texts)
        assert kept == [select(each, strict.labels, None, strict.config) for each in everything]
        assert kept != everything
        assert list(strict.stream(mixed_texts)) == kept
        assert strict.predict(mixed_texts, threshold=0.0) == everything

    def test_stream_filters_as_predict(self, loaded: RetrieveAll, mixed_texts: list[str]) -> None:
        options: dict[str, Any] = {"labels": ["PER"], "threshold": 0.5, "language": "de"}
        assert list(loaded.stream(mixed_texts, **options)) == loaded.predict(mixed_texts, **options)

    def test_unusable_values(self, loaded: RetrieveAll) -> None:
        with pytest.raises(InputError, match="PER, ORG, LOC"):
            loaded.predict("Ulm", labels=["CITY"])
        with pytest.raises(InputError, match="PER, ORG, LOC, got 'CITY'"):
            loaded.predict("Ulm", labels="CITY")
        wrong: list[tuple[dict[str, Any], str]] = [
            *(({"threshold": each}, "from 0 to 1") for each in (-0.1, 1.1, float("nan"), "0.5", True)),
            *(({"labels": each}, "did you mean 'PER'") for each in ("person", ["per"])),
            *(({"labels": each}, "list of labels|among PER") for each in (5, b"PER", {"PER": 1}, [None])),
            *(({"language": each}, "did you mean 'en'") for each in ("EN", "english", "en-US", "eng")),
            *(({"language": each}, "add-language") for each in ("xx", "")),
            *(({"language": each}, "got int|got bytes") for each in (5, b"en")),
        ]
        for options, said in wrong:
            with pytest.raises(InputError, match=said):
                loaded.predict("Ulm", **options)
            with pytest.raises(InputError, match=said):
                loaded.stream(["Ulm"], **options)  # at once, not with the first text
        for size in (0, "10", 2.5, None):
            with pytest.raises(InputError, match="batch_size"):
                loaded.stream(["Ulm"], batch_size=size)  # type: ignore[arg-type]
        for levels in (None, 5, "entity", ["none"]):
            with pytest.raises(InputError, match="list of levels"):
                loaded.predict("Ulm", levels=levels)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="progress as a function"):
            loaded.predict("Ulm", progress=5)  # type: ignore[arg-type]
        for path in (None, "a\0b"):
            with pytest.raises(InputError, match="expected the new folder as a path, got"):
                loaded.save_pretrained(path)  # type: ignore[arg-type]

    def test_tables_and_generators(self, loaded: RetrieveAll) -> None:
        np = pytest.importorskip("numpy")
        with pytest.raises(InputError, match="a list of labels, got ndarray, a table"):
            loaded.predict("Ulm", labels=np.array([["PER", "ORG"]]))
        with pytest.raises(InputError, match="a list of levels"):
            loaded.predict("Ulm", levels=np.array([["entity", "context"]]))
        both = loaded.predict("Ulm", levels=(each for each in ("entity", "context")), keep_prompts=True)
        assert both == loaded.predict("Ulm", keep_prompts=True)

    @pytest.mark.parametrize("size", [1, 2, 256])
    def test_a_stream_names_the_number_of_a_text(self, loaded: RetrieveAll, size: int) -> None:
        with pytest.raises(InputError, match="as text 3 of the list"):
            list(loaded.stream(["a", "b", "c", None], batch_size=size))  # type: ignore[list-item]

    def test_a_copy_within_the_model_is_refused(self, model_copy: Path) -> None:
        model = RetrieveAll.from_pretrained(model_copy)
        before = sorted(model_copy.rglob("*"))
        for place in (model_copy, model_copy / "adapters" / "zz", model_copy / "a" / ".." / "b"):
            with pytest.raises(ModelFolderError, match="a folder outside the model"):
                model.save_pretrained(place)
        assert sorted(model_copy.rglob("*")) == before

    @pytest.mark.parametrize("text", [b"Ulm", None, 3, ["Ulm"]])
    def test_what_is_no_text(self, loaded: RetrieveAll, text: Any) -> None:
        with pytest.raises(InputError, match=f"expected a text, got {type(text).__name__} as text 1 of the list"):
            loaded.predict(["Ulm", text])

    @pytest.mark.parametrize("texts", [b"Ulm", None, 3, {"text": "Ulm"}])
    def test_what_is_no_list_of_texts(self, loaded: RetrieveAll, texts: Any) -> None:
        for call in (loaded.predict, lambda texts: list(loaded.stream(texts))):
            with pytest.raises(InputError, match=f"expected a text or a list of texts, got {type(texts).__name__};"):
                call(texts)

    def test_a_text_above_the_limit(self, loaded: RetrieveAll, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("retrieveall.arguments.MAX_CHARACTERS", 10)
        loaded.predict("x" * 10)
        with pytest.raises(InputError, match="at most 10 characters, got 11"):
            loaded.predict("x" * 11)


class TestKnowledge:
    def test_what_led_to_a_prediction_is_in_it(self, model: RetrieveAll) -> None:
        [each] = model.predict("  Karl May in London")
        assert [(known.start, known.end, known.label) for known in each.knowledge.entities] == [
            (2, 10, "PER"),
            (14, 20, "LOC"),
        ]
        assert len(each.knowledge.neighbours) == 8
        similarities = [neighbour.similarity for neighbour in each.knowledge.neighbours]
        assert similarities == sorted(similarities, reverse=True)

    def test_of_a_long_text_it_is_merged(self, loaded: RetrieveAll) -> None:
        text = "\n" + "nichts zu sehen hier und da " * 20 + "Karl May, Köln, " * 3
        [each] = loaded.predict(text)
        for known in each.knowledge.entities:
            assert text[known.start : known.end] == known.surface
        assert sum(known.surface == "Köln" for known in each.knowledge.entities) == 3
        sentences = [neighbour.sentence for neighbour in each.knowledge.neighbours]
        assert len(set(sentences)) == len(sentences) > 8
        similarities = [neighbour.similarity for neighbour in each.knowledge.neighbours]
        assert similarities == sorted(similarities, reverse=True)
        assert each.route.reason == "unknown"  # the made-up sentences of the pool hold no such words
        assert sum(each.route.adapters.values()) == pytest.approx(1)
        [told] = loaded.predict(text, language="de")
        assert sum(told.route.adapters.values()) == pytest.approx(1)
        assert sum(each.route.votes.values()) == pytest.approx(1)


class TestLongTexts:
    def test_windows_in_no_language_of_the_model_are_counted(
        self, loaded: RetrieveAll, corpus: dict[str, list[Sentence]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where the mean of the route does not show them, and in whatever pieces the text is read."""
        german = "".join(f"{sentence.text}\n\n" for sentence in corpus["de"])
        text = german + "สมชายมาจากกรุงเทพมหานคร และทำงานที่ธนาคาร\n\n" + german + "12, 34.\n\n" * 30
        [whole] = loaded.predict(text)
        assert whole.route.reason != "unknown"
        windows = loaded.stages.window([text])
        reasons = [route.reason for route in loaded.stages.route(windows, loaded.stages.retrieve(windows))]
        assert {r for w, r in zip(windows, reasons, strict=True) if "สมชาย" in w.text} == {"unknown"}
        assert (whole.windows, whole.unknown_windows) == (
            sum(reason != "no_letters" for reason in reasons),
            reasons.count("unknown"),
        )
        assert len(reasons) > whole.windows > whole.unknown_windows > 0
        [told] = loaded.predict(text, language="de")
        assert told.unknown_windows == 0
        assert [(each.windows, each.unknown_windows) for each in loaded.predict(["", "12"])] == [(0, 0)] * 2
        monkeypatch.setattr("retrieveall.pipeline.cut_pieces", lambda texts: cut_pieces(texts, size=len(german)))
        parts = [text[piece.offset :][: len(piece.text)] for piece in cut_pieces([text], size=len(german))]
        [pieces], alone = loaded.predict(text), loaded.predict(parts)
        assert len(parts) > 1
        assert (pieces.windows, pieces.unknown_windows) == (
            sum(each.windows for each in alone),
            sum(each.unknown_windows for each in alone),
        )

    def test_entities_are_those_of_its_windows(self, loaded: RetrieveAll, without_scores: Plain) -> None:
        """Cut at the ends of sentences, a long text is read as its windows are, scores too."""
        parts = [f"Anna Meier war gestern nicht in {place}, sagte jemand danach." for place in ("Ulm", "Köln", "Bonn")]
        size = loaded.config.windows.words
        assert len(segment(parts[0])) * 2 <= size < len(segment(parts[0])) * 3
        doubles = [f"{a} {b}" for a, b in zip((parts * 2)[::2], (parts * 2)[1::2], strict=True)]
        [whole] = loaded.predict(" ".join(doubles))
        alone, offset = [], 0
        for text, prediction in zip(doubles, loaded.predict(doubles), strict=True):
            alone += [replace(e, start=e.start + offset, end=e.end + offset) for e in prediction.entities]
            offset += len(text) + 1
        assert len(alone) > 3
        assert without_scores(whole.entities) == without_scores(alone)
        assert [e.score for e in whole.entities] == pytest.approx([e.score for e in alone], abs=1e-3)

    def test_the_score_of_an_entity_does_not_depend_on_other_windows(
        self, model_copy: Path, without_scores: Plain
    ) -> None:
        """Each window is calibrated by its own route, whatever languages the rest of the document has."""
        for number, language in enumerate(("de", "en", "zh")):
            path = model_copy / "adapters" / language / "adapter_card.json"
            card = json.loads(path.read_text())
            path.write_text(json.dumps(card | {"calibration": [0.5 + number, number - 1.0, 0.1, -0.2, 0.0, 0.3]}))
        Manifest.of(model_copy).write()
        model = RetrieveAll.from_pretrained(model_copy, device="cpu")
        german = "Anna Meier wurde gestern in der Zeitung erwähnt, und Karl May war nicht dabei, hier in Hamburg." * 2
        chinese = "昨天王小明上了报纸，参见北京大学，李白没有来。" * 3
        [alone], [both] = model.predict(german), model.predict(f"{german}\n\n{chinese}")
        assert both.route.adapters != alone.route.adapters
        # The last window of the German text may go on into the Chinese one.
        inside, same = ([e for e in each.entities if e.end <= len(german) // 2] for each in (both, alone))
        assert len(inside) > 2
        assert without_scores(inside) == without_scores(same)
        assert [e.score for e in inside] == pytest.approx([e.score for e in same], abs=1e-4)

    def test_every_window_keeps_to_the_tokens_of_the_prompt(
        self, model: RetrieveAll, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lengths: list[int] = []
        score = model.engine.score

        def record(requests: Sequence[Any]) -> Any:
            lengths.extend(len(request.ids) for request in requests)
            return score(requests)

        monkeypatch.setattr(model.engine, "score", record)
        texts = ["\U00010330" * 900, "a\u0301\u0302\u0303" * 200, "Karl May " * 40, "👩🏽‍🚀" * 20]
        predictions = model.predict(texts)
        assert len(lengths) > 8
        room = model.stages._room
        task = sum(map(model.engine.codec.count, model.stages._prompts.task))
        assert max(lengths) <= max(model.config.prompt.max_tokens, room + task)
        assert [prediction.text for prediction in predictions] == texts


class TestReload:
    def test_settings_that_changed(self, model_copy: Path) -> None:
        model = RetrieveAll.from_pretrained(model_copy, device="cpu")
        assert len(model.predict("Karl May in London")[0].knowledge.neighbours) == 8
        _change(model_copy, "neighbours: 8", "neighbours: 3")
        model.reload()
        assert len(model.predict("Karl May in London")[0].knowledge.neighbours) == 3
        assert model.config.retrieval.neighbours == 3

    def test_labels_that_were_renamed(self, model_copy: Path) -> None:
        model = RetrieveAll.from_pretrained(model_copy, device="cpu")
        before = [e.label for e in model.predict("Karl May in London")[0].entities]
        _change(model_copy, "LOC", "PLACE")
        model.reload()
        after = [e.label for e in model.predict("Karl May in London")[0].entities]
        assert model.labels == ("PER", "ORG", "PLACE")
        assert after == ["PLACE" if label == "LOC" else label for label in before]

    def test_another_backbone_is_refused(self, model_copy: Path) -> None:
        model = RetrieveAll.from_pretrained(model_copy, device="cpu")
        expected = model.predict("Karl May in London")
        _change(model_copy, "dtype: float32", "dtype: bfloat16")
        with pytest.raises(ConfigError, match="open the model again"):
            model.reload()
        assert model.predict("Karl May in London") == expected

    def test_a_choice_made_on_opening_stays(self, tiny_generating_model: Path) -> None:
        model = RetrieveAll.from_pretrained(tiny_generating_model, device="cpu", constrained=False)
        model.reload()
        assert not model.config.decoder.constrained


def _change(folder: Path, old: str, new: str) -> None:
    path = folder / "retrieveall.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    Manifest.of(folder).write()
