"""Languages that are added and removed while requests run, on a tiny model."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serving_fakes import live

from retrieveall import RetrieveAll
from retrieveall.config import parse_config
from retrieveall.model_folder import ModelFolder
from retrieveall.serving.archive import pack
from retrieveall.serving.changes import check_changeable
from retrieveall.serving.settings import ServiceSettings
from retrieveall.storage import Manifest

ADMIN = {"authorization": "Bearer admin-of-the-test"}
SETTINGS = parse_config(ServiceSettings, {"admin_token": "admin-of-the-test", "unpacked_bytes": 8 << 20}, "test")
TEXTS = ["Anna Meier wurde gestern erwähnt .", "Ada Lovelace in London", "昨天王小明上了报纸。", "北京 und Köln"]


def answers(client: httpx.Client, **more: Any) -> list[Any]:
    answer = client.post("/v1/extract", json={"texts": TEXTS, **more})
    assert answer.status_code == 200, answer.text
    return [(each["entities"], each["route"]) for each in answer.json()["results"]]


def files(folder: Path) -> dict[str, str]:
    return {name: record.sha256 for name, record in Manifest.load(folder).files.items()}


@pytest.fixture
def served(model_copy: Path) -> Iterator[tuple[httpx.Client, Path]]:
    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    with live(model, SETTINGS) as (url, _), httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        yield client, model_copy


@pytest.fixture
def packed(tiny_model: Path, tmp_path: Path) -> Path:
    pack(tiny_model, "de", tmp_path / "de.tar.gz")
    return tmp_path / "de.tar.gz"


def test_a_language_leaves_and_returns(served: tuple[httpx.Client, Path], packed: Path) -> None:
    client, folder = served
    before, manifest = answers(client), files(folder)
    assert client.delete("/v1/languages/xx", headers=ADMIN).status_code == 404
    assert client.put("/v1/languages/de", content=packed.read_bytes(), headers=ADMIN).status_code == 409
    left = client.delete("/v1/languages/de", headers=ADMIN)
    assert left.json() == {"language": "de", "languages": ["en", "zh"]}
    assert not (folder / "adapters/de").exists()
    assert not (folder / "knowledge/de").exists()
    for _, route in answers(client):
        assert "de" not in {**route["adapters"], **route["votes"]}
    assert client.post("/v1/extract", json={"texts": "a", "language": "de"}).status_code == 422
    assert [each["language"] for each in client.get("/v1/languages").json()["languages"]] == ["en", "zh"]
    again = client.put("/v1/languages/de", content=packed.read_bytes(), headers=ADMIN)
    assert again.json() == {"language": "de", "languages": ["de", "en", "zh"]}
    assert [each["sentences"] for each in client.get("/v1/languages").json()["languages"]] == [20, 20, 20]
    for (old, old_route), (new, new_route) in zip(before, answers(client), strict=True):
        assert [{**each, "score": 0} for each in old] == [{**each, "score": 0} for each in new]
        assert old_route["votes"] == pytest.approx(new_route["votes"])
    assert files(folder) == manifest
    ModelFolder.open(folder, verify=True)


def test_no_request_is_dropped_meanwhile(served: tuple[httpx.Client, Path], packed: Path) -> None:
    client, _ = served
    stop, failed, done = threading.Event(), [], [0]

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, timeout=120, trust_env=False) as own:
            while not stop.is_set():
                answer = own.post("/v1/extract", json={"texts": TEXTS, "language": ["en", None, "zh", None]})
                done[0] += 1
                if answer.status_code != 200:
                    failed.append(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        assert client.delete("/v1/languages/de", headers=ADMIN).status_code == 200
        assert client.put("/v1/languages/de", content=packed.read_bytes(), headers=ADMIN).status_code == 200
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert done[0] > 3


def _scaled(folder: Path) -> None:
    """Another backbone's fingerprint on the card: only running it on this one tells."""
    path = folder / "adapters/de/adapter_card.json"
    path.write_text(path.read_text().replace('"backbone_fingerprint": "', '"backbone_fingerprint": "0'))


def _other_labels(folder: Path) -> None:
    path = folder / "adapters/de/adapter_card.json"
    path.write_text(path.read_text().replace('"PER"', '"ANIMAL"'))


def _other_language(folder: Path) -> None:
    path = folder / "adapters/de/adapter_card.json"
    path.write_text(path.read_text().replace('"language": "de"', '"language": "nl"'))


def _not_finite(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "adapters/de/adapter_model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0, 0] = np.nan
    save_file(tensors, path)


def _code(folder: Path) -> None:
    path = folder / "adapters/de/adapter_config.json"
    path.write_text(path.read_text().replace("{", '{"auto_map": {"AutoModel": "evil.Model"},', 1))


def _pickled(folder: Path) -> None:
    (folder / "adapters/de/adapter_model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n.")


def _cut(folder: Path) -> None:
    path = folder / "knowledge/de/sentences.parquet"
    path.write_bytes(path.read_bytes()[:-50])


def _fewer_vectors(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "knowledge/de/vectors.safetensors"
    save_file({"codes": load_file(path)["codes"][:-1]}, path)


BAD = [_scaled, _other_labels, _other_language, _not_finite, _code, _pickled, _cut, _fewer_vectors]


def test_a_bad_upload_changes_nothing(served: tuple[httpx.Client, Path], tiny_model: Path, tmp_path: Path) -> None:
    client, folder = served
    assert client.delete("/v1/languages/de", headers=ADMIN).status_code == 200
    before, manifest = answers(client), files(folder)
    for spoil in BAD:
        source = tmp_path / spoil.__name__
        for part in ("adapters/de", "knowledge/de"):
            shutil.copytree(tiny_model / part, source / part)
        spoil(source)
        pack(source, "de", tmp_path / "bad.tar.gz")
        answer = client.put("/v1/languages/de", content=(tmp_path / "bad.tar.gz").read_bytes(), headers=ADMIN)
        assert answer.status_code == 422, spoil.__name__
        assert answer.json()["detail"], spoil.__name__
        assert files(folder) == manifest, spoil.__name__
    for content, status in ((b"no archive", 422), (b"", 422)):
        assert client.put("/v1/languages/de", content=content, headers=ADMIN).status_code == status
    for name in ("..%2f..%2fevil", "a b", "x" * 100, "encoder", "%00"):
        assert client.put(f"/v1/languages/{name}", content=b"x", headers=ADMIN).status_code in (404, 422)
    assert [entities for entities, _ in answers(client)] == [entities for entities, _ in before]
    assert files(folder) == manifest


def test_an_upload_that_is_too_large(served: tuple[httpx.Client, Path]) -> None:
    client, _ = served
    small = SETTINGS.model_copy(update={"upload_bytes": 2000})
    with live(RetrieveAll.from_pretrained(served[1], device="cpu"), small) as (url, _):
        answer = httpx.put(f"{url}/v1/languages/nl", content=b"x" * 3000, headers=ADMIN, trust_env=False)
        assert answer.status_code == 413
    assert client.get("/readyz").status_code == 200


def test_models_that_cannot_change_are_refused_at_the_start(
    loaded: RetrieveAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieveall.errors import InputError
    from retrieveall.serving import changes

    check_changeable(loaded)
    monkeypatch.setattr(changes, "shipped_models", lambda: {"tiny": loaded.folder.path})
    with pytest.raises(InputError, match="a model of the package"):
        check_changeable(loaded)


def test_knowledge_of_fewer_and_more_languages(
    loaded: RetrieveAll, tiny_model: Path, without_scores: Callable[[Any], Any]
) -> None:
    """``with_languages`` retrieves what knowledge opened anew does."""
    knowledge = loaded.knowledge
    fewer = knowledge.with_languages(tiny_model / "knowledge", ["en", "zh"])
    again = fewer.with_languages(tiny_model / "knowledge", ["de", "en", "zh"])
    full = knowledge.retrieve(TEXTS, 5, match_languages=True)
    assert again.retrieve(TEXTS, 5, match_languages=True) == full
    for found in fewer.retrieve(TEXTS, 5, match_languages=True):
        assert {each.language for each in found.neighbours} <= {"en", "zh"}
        assert "de" not in found.languages
    assert knowledge.retrieve(TEXTS, 5, match_languages=True) == full
