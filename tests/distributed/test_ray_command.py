"""``extract --engine ray`` beside ``extract``: the same results and the same last lines, without Ray itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from number_model import results
from serial_ray import use_serial_ray
from typer.testing import CliRunner, Result

from retrieveall.cli.app import app


def extract(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["extract", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result


def lines(result: Result) -> list[str]:
    """Standard error without figures of speed and the place."""
    return [re.sub(r"[\d,.]+ (texts|characters) a second|written to .*", r"\1", x) for x in result.stderr.splitlines()]


@pytest.mark.parametrize("name", ["in.json", "in.jsonl", "in.txt"])
def test_the_command_ends_as_the_local_engine_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, corpus: dict[str, list[Any]], name: str
) -> None:
    use_serial_ray(monkeypatch)
    texts = [sentence.text for sentences in corpus.values() for sentence in sentences[:3]]
    texts.append("Владимир Ленин жил в Цюрихе и работал там над книгой")
    objects = [{"text": text, "x": float("nan") if n % 2 else n} for n, text in enumerate(texts)]
    content = {
        "in.json": json.dumps(objects, indent=1),
        "in.jsonl": "\n".join(map(json.dumps, objects)),
        "in.txt": "\n".join(texts),
    }
    (tmp_path / name).write_text(content[name], encoding="utf-8")
    command = ["-i", tmp_path / name, "-m", tiny_model, "--threads", 1, "--batch-size", 4]
    local = extract(*command, "-o", tmp_path / "local.jsonl")
    ray = extract(*command, "-o", tmp_path / "ray", "--engine", "ray", "--workers", 1, "--block-rows", 4)

    rows = results(tmp_path / "ray")
    assert [row.pop("row_id") for row in rows] == [f"{name}:{n}" for n in range(1, len(texts) + 1)]
    assert rows == [json.loads(line) for line in (tmp_path / "local.jsonl").read_text().splitlines()]

    assert lines(ray) == lines(local)
    assert lines(ray)[-1].startswith(f"{len(texts)} texts, {sum(len(row['entities']) for row in rows)} entities, ")
    assert re.search(rf", [\d,.]+ texts a second, written to {re.escape(str(tmp_path / 'ray'))}$", ray.stderr.strip())
    counted = f"note: {len(texts) // 2} values of the input that are not a number"
    assert any(line.startswith(counted) for line in lines(ray)) == (name != "in.txt")
    unknown = sum(row["route"]["reason"] == "unknown" for row in rows)
    assert unknown
    assert any(f"{unknown} of {len(texts)} texts" in line for line in lines(ray))

    again = extract(*command, "-o", tmp_path / "ray", "--engine", "ray", "--workers", 1, "--block-rows", 4)
    assert lines(again)[:-1] == lines(local)[:-1], "an earlier run's values are counted, too"
    assert f"{len(texts)} texts ({len(texts)} of them from the stopped run)" in lines(again)[-1]


def test_of_long_texts_the_characters_a_second_are_told_as_by_the_local_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, corpus: dict[str, list[Any]]
) -> None:
    use_serial_ray(monkeypatch)
    foreign = "Владимир Ленин жил в Цюрихе и работал там над книгой\n\n"
    text = foreign + "\n\n".join(sentence.text for sentence in corpus["de"])
    text += "\n" * (10_100 - len(text))  # long, and soon read
    (tmp_path / "in.jsonl").write_text(f"{json.dumps({'text': text})}\n" * 2, encoding="utf-8")
    command = ["-i", tmp_path / "in.jsonl", "-m", tiny_model, "--threads", 1]
    local = extract(*command, "-o", tmp_path / "local.jsonl")
    on_ray = [*command, "-o", tmp_path / "ray", "--engine", "ray", "--workers", 1, "--block-rows", 1]
    ray = extract(*on_ray)
    assert lines(ray) == lines(local)
    assert lines(ray)[-1].endswith(", texts, characters, ")
    assert any(re.search(r"parts of 2 of 2 texts \(2 of \d+ windows\)", line) for line in lines(ray))
    (tmp_path / "ray" / "_retrieveall" / "done" / "000000-000001.json").unlink()
    again = extract(*on_ray)
    assert lines(again)[:-1] == lines(local)[:-1]
    assert lines(again)[-1].endswith(", texts, characters, "), "of the texts of this run alone"
