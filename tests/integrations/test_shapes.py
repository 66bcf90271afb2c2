"""The shapes of Hugging Face and GLiNER, and what importing them loads."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from known_names import KnownNames
from retrieveall.errors import InputError
from retrieveall.integrations.gliner import EntityPredictor
from retrieveall.integrations.hugging_face import TokenClassifier, map_entities

TEXT = "Ada Lovelace lived in London."
ADA = {"entity_group": "PER", "score": 0.75, "word": "Ada Lovelace", "start": 0, "end": 12}
LONDON = {"entity_group": "LOC", "score": 0.5, "word": "London", "start": 22, "end": 28}


def test_a_pipeline_has_the_keys_of_the_aggregated_one(names: KnownNames) -> None:
    classify = TokenClassifier("base")
    assert classify(TEXT) == [ADA, LONDON]
    assert classify([TEXT, "none"]) == [[ADA, LONDON], []]
    assert classify([]) == []
    assert classify(TEXT, labels=["LOC"]) == [LONDON]


def test_a_pipeline_streams_what_is_no_list(names: KnownNames) -> None:
    taken = []

    def texts() -> object:
        for text in (TEXT, "London", "never"):
            taken.append(text)
            yield text

    results = TokenClassifier(names)(texts(), batch_size=1)  # type: ignore[call-overload]
    assert taken == []
    assert next(results) == [ADA, LONDON]
    assert "never" not in taken


def test_the_keys_are_those_of_transformers() -> None:
    """Of its own aggregation, on its own input: the names are not only copied by hand."""
    from transformers import TokenClassificationPipeline

    class Bare(TokenClassificationPipeline):  # type: ignore[misc]
        def __init__(self) -> None:
            self.model = SimpleNamespace(config=SimpleNamespace(id2label={0: "O", 1: "B-PER"}))
            self.tokenizer = SimpleNamespace(convert_tokens_to_string=" ".join)

    entities = [{"entity": "B-PER", "score": 0.75, "index": 1, "word": "Ada", "start": 0, "end": 3}]
    assert set(Bare().group_entities(entities)[0]) == set(ADA)


def test_a_dataset_gets_columns(names: KnownNames) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"review": [TEXT, None, "none"], "id": [1, 2, 3]})
    for batched in (True, False):
        mapped = dataset.map(map_entities(names, "review"), batched=batched)  # type: ignore[arg-type]
        assert mapped["id"] == [1, 2, 3]
        found = [[entity["text"] for entity in row] for row in mapped["entities"]]
        assert found == [["Ada Lovelace", "London"], [], []]
    with pytest.raises(InputError, match="expected the column 'revew', there are review, id"):
        dataset.map(map_entities(names, "revew"), batched=True)  # type: ignore[arg-type]


def test_gliner_labels_are_returned_as_asked_for(names: KnownNames) -> None:
    model = EntityPredictor.from_pretrained("base")
    found = model.predict_entities(f"{TEXT} IBM", ["Person", "location", "organization"])
    assert found == [
        {"start": 0, "end": 12, "text": "Ada Lovelace", "label": "Person", "score": 0.75},
        {"start": 22, "end": 28, "text": "London", "label": "location", "score": 0.5},
    ]
    assert [each["label"] for each in model.predict_entities(f"{TEXT} IBM", threshold=0.1)] == ["PER", "LOC", "ORG"]
    assert [len(each) for each in model.batch_predict_entities([TEXT, "none"], ["loc"])] == [1, 0]


def test_gliner_labels_that_are_not_there_are_refused(names: KnownNames) -> None:
    with pytest.raises(InputError, match=r"PER, ORG, LOC.*'award'.*no zero-shot labels.*--from base"):
        EntityPredictor(names).predict_entities(TEXT, ["award"])  # type: ignore[arg-type]


def test_importing_them_loads_no_library_that_computes() -> None:
    code = (
        "import sys, retrieveall.integrations.hugging_face, retrieveall.integrations.gliner\n"
        "print([name for name in ('torch', 'transformers', 'spacy', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
