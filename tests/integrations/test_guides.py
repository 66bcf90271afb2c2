"""Every Python block of the guides runs, with a model that costs nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from known_names import KnownNames

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(4))
def test_from_spacy(names: KnownNames, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("spacy", reason="spaCy is not installed")
    import retrieveall.integrations.spacy  # noqa: F401  # an installation finds it by its entry point

    assert len(blocks("from_spacy.md")) == 4
    exec(blocks("from_spacy.md")[number], {})
    said = capsys.readouterr().out
    if number == 0:
        assert said.splitlines() == ["Ada Lovelace PER 0.75", "London LOC 0.5", "en"]
    if number == 3:
        assert [span["label"] for span in json.loads(said)["entities"]] == ["PER", "LOC"]


@pytest.mark.parametrize(("number", "part"), [(0, "Ada Lovelace => person 0.75"), (1, "no zero-shot labels")])
def test_from_gliner(names: KnownNames, number: int, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(blocks("from_gliner.md")) == 2
    exec(blocks("from_gliner.md")[number], {})
    assert part in capsys.readouterr().out


@pytest.mark.parametrize(("number", "library"), enumerate(("retrieveall", "datasets", "pandas")))
def test_from_hugging_face(names: KnownNames, number: int, library: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(library)
    assert len(blocks("from_hugging_face.md")) == 3
    exec(blocks("from_hugging_face.md")[number], {})
    assert "Ada Lovelace" in capsys.readouterr().out
