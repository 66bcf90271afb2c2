"""The spaCy component, with spaCy itself; it is no dependency, so this is skipped where it is not installed."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from known_names import KnownNames
from retrieveall.errors import EngineError

spacy = pytest.importorskip("spacy", reason="spaCy is not installed; docs/from_spacy.md says how to test with it")


@pytest.fixture
def make(names: KnownNames) -> Any:
    """``make(**config)``: a blank English pipeline with the component."""
    import retrieveall.integrations.spacy  # noqa: F401  # an installation finds it by its entry point

    def make(**config: Any) -> Any:
        nlp = spacy.blank("en")
        nlp.add_pipe("retrieveall", config=config)
        return nlp

    return make


def test_entities_scores_and_language(make: Any) -> None:
    doc = make()("Ada Lovelace lived in London, not in Londontown.")
    assert [(ent.text, ent.label_, ent._.ner_score) for ent in doc.ents] == [
        ("Ada Lovelace", "PER", 0.75),
        ("London", "LOC", 0.5),
        ("Londontown", "LOC", 0.5),  # widened to the token
    ]
    assert doc._.ner_language == "en"
    assert doc[0].ent_iob_ == "B"


def test_pipe_predicts_in_batches(make: Any, names: KnownNames) -> None:
    texts = [f"London {number}" for number in range(10)]
    docs = list(make().pipe(texts, batch_size=4))
    assert [doc.text for doc in docs] == texts
    assert all(len(doc.ents) == 1 for doc in docs)
    assert names.batches == [4, 4, 2]


def test_pipe_counts_texts_from_the_beginning(make: Any, names: KnownNames) -> None:
    names.failing = {"London 6"}
    with pytest.raises(EngineError, match="1 of 4 texts from text 4 on failed: text 6: no answer") as caught:
        list(make().pipe((f"London {number}" for number in range(10)), batch_size=4))
    assert caught.value.failures == {6: "no answer"}


def test_options(make: Any) -> None:
    doc = make(labels=["LOC", "ORG"], threshold=0.4, language="zh")("Ada Lovelace of IBM in London")
    assert [ent.text for ent in doc.ents] == ["London"]
    assert doc._.ner_language == "zh"


def test_two_entities_in_a_token_and_earlier_ones(make: Any) -> None:
    nlp = make()
    ruler = nlp.add_pipe("entity_ruler", before="retrieveall")
    ruler.add_patterns([{"label": "JOB", "pattern": "countess"}, {"label": "JOB", "pattern": "Ada"}])
    doc = nlp("The countess Ada Lovelace, LondonLondon 北京")
    assert [(ent.text, ent.label_) for ent in doc.ents] == [
        ("countess", "JOB"),
        ("Ada Lovelace", "PER"),
        ("LondonLondon", "LOC"),
        ("北京", "LOC"),
    ]


def test_it_is_saved_with_a_pipeline(make: Any, tmp_path: Any) -> None:
    make(threshold=0.6).to_disk(tmp_path / "nlp")
    doc = spacy.load(tmp_path / "nlp")("Ada Lovelace in London")
    assert [ent.text for ent in doc.ents] == ["Ada Lovelace"]


def test_evaluate_scores_as_spacys_own(make: Any, tmp_path: Any) -> None:
    from spacy.training import Example

    make().to_disk(tmp_path / "nlp")
    for nlp in (make(), spacy.load(tmp_path / "nlp")):
        text, gold = "Ada Lovelace lived in London.", {"entities": [(0, 12, "PER"), (13, 18, "LOC")]}
        scores = nlp.evaluate([Example.from_dict(nlp.make_doc(text), gold)])
        assert (scores["ents_p"], scores["ents_r"], scores["ents_f"]) == (0.5, 0.5, 0.5)
        assert scores["ents_per_type"]["PER"]["f"] == 1.0
    component = spacy.blank("en").add_pipe("retrieveall", config={"scorer": None})
    assert component.score([])["ents_f"] is None


def test_displacy_shows_them(make: Any) -> None:
    html = spacy.displacy.render(make()("Ada Lovelace"), style="ent", jupyter=False)
    assert "PER" in html


def test_the_entry_point_is_the_factory() -> None:
    from retrieveall.integrations.spacy import make_component

    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    (value,) = project["project"]["entry-points"]["spacy_factories"].values()
    assert metadata.EntryPoint("retrieveall", value, "spacy_factories").load() is make_component
