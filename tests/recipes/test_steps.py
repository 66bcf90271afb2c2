"""A step runs once for the same settings and inputs, anew for any other, and goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

import recipes.steps as steps_module
from recipes.build import plan
from recipes.corpora import Lines, Sentences
from recipes.steps import Files, Step, all_steps, build, steps_to_run
from retrieveall.errors import ConfigError


class Size(BaseModel):
    size: int


class Kitchen:
    """A chain of two steps over a file, and what has been run."""

    def __init__(self, home: Path) -> None:
        self.home, self.ran = home, []
        self.out = home / "out"
        self.source = home / "source.txt"
        self.source.write_text("flour")
        self.fails = False

    def steps(self, size: int = 1, heat: int = 200) -> Step:
        def knead(folder: Path, settings: Size, source: Files) -> None:
            self.ran.append("dough")
            (folder / "dough").write_text((source.folder / source.names[0]).read_text() * settings.size)

        def bake(folder: Path, dough: Path, heat: int) -> None:
            self.ran.append("bread")
            with (folder / "log").open("a") as log:
                log.write("tried ")
            if self.fails:
                raise RuntimeError("the oven is cold")
            (folder / "bread").write_text(f"{(dough / 'dough').read_text()} at {heat}")

        files = Files(self.home, ("source.txt",))
        dough = Step("dough", knead, {"settings": Size(size=size), "source": files})
        return Step("bread", bake, {"dough": dough, "heat": heat})

    def build(self, size: int = 1, heat: int = 200) -> str:
        self.ran.clear()
        return (build(self.steps(size, heat), self.out) / "bread").read_text()


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_what_is_done_is_not_done_again(kitchen: Kitchen) -> None:
    assert kitchen.build() == "flour at 200"
    assert kitchen.ran == ["dough", "bread"]
    assert kitchen.build() == "flour at 200"
    assert kitchen.ran == []


def test_other_settings_or_files_run_the_step_and_what_follows_it(kitchen: Kitchen) -> None:
    kitchen.build()
    assert kitchen.build(heat=180) == "flour at 180"
    assert kitchen.ran == ["bread"]
    assert kitchen.build(size=2) == "flourflour at 200"
    assert kitchen.ran == ["dough", "bread"]
    assert kitchen.build(size=1) == "flour at 200"
    assert kitchen.ran == []
    kitchen.source.write_text("rye")
    assert kitchen.build() == "rye at 200"


def test_a_step_that_failed_goes_on_in_its_folder(kitchen: Kitchen) -> None:
    kitchen.fails = True
    with pytest.raises(RuntimeError):
        kitchen.build()
    kitchen.fails = False
    kitchen.build()
    assert kitchen.ran == ["bread"]
    folder = kitchen.steps().folder(kitchen.out)
    assert (folder / "log").read_text() == "tried tried "


def test_a_plan_is_what_the_build_then_runs(kitchen: Kitchen) -> None:
    assert [step.name for step in steps_to_run(kitchen.steps(), kitchen.out)] == ["dough", "bread"]
    assert not kitchen.out.exists()
    kitchen.build()
    assert not list(steps_to_run(kitchen.steps(), kitchen.out))
    assert [step.name for step in steps_to_run(kitchen.steps(heat=1), kitchen.out)] == ["bread"]


def test_a_plan_says_the_state_of_every_step(kitchen: Kitchen) -> None:
    def states(**settings: int) -> list[str]:
        return [line.partition("  ")[0] for line in plan(kitchen.steps(**settings), kitchen.out).splitlines()]

    assert states() == ["to do", "to do"]
    kitchen.fails = True
    with pytest.raises(RuntimeError):
        kitchen.build()
    assert states() == ["done", "started"]
    kitchen.fails = False
    kitchen.build()
    assert states() == ["done", "done"]
    assert states(heat=1) == ["done", "to do"]
    shutil.rmtree(kitchen.steps().before[0].folder(kitchen.out))
    assert states() == ["not needed", "done"]


def test_the_note_of_a_step_says_what_it_was_made_of(kitchen: Kitchen) -> None:
    kitchen.build()
    note = json.loads((kitchen.steps().folder(kitchen.out) / "done.json").read_text())
    assert note["arguments"]["heat"] == 200
    assert note["arguments"]["dough"].startswith("dough-")
    assert note["provenance"]["versions"]["python"]
    assert note["seconds"] >= 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"en/train\.tsv.*check"):
        _ = Sentences(tmp_path, "train", ("en",)).key
    with pytest.raises(ConfigError, match=r"en\.txt\.xz.*check"):
        _ = Lines(tmp_path, ("en",)).key


def test_a_part_of_a_corpus_is_another_corpus(tmp_path: Path) -> None:
    for language in ("de", "en"):
        (tmp_path / language).mkdir()
        (tmp_path / language / "train.tsv").write_text("Ulm\tB-LOC\n\nKiel\tB-LOC\n")
    whole, again = (Sentences(tmp_path, "train", ("en", "de")) for _ in range(2))
    parts = [Sentences(tmp_path, "train", ("en", "de"), 1), Sentences(tmp_path, "train", ("en",))]
    assert whole.key == again.key
    assert len({whole.key, *(part.key for part in parts)}) == 3
    assert [len(corpus.of("en")) for corpus in (whole, *parts)] == [2, 1, 2]


class Rank:
    """One of several processes that build; all of their meetings are on a list."""

    def __init__(self, main: bool) -> None:
        self.main, self.met = main, list[str]()

    def total(self, value: int) -> int:
        self.met.append("all")
        return 2 * value

    @contextmanager
    def main_first(self) -> Iterator[None]:
        self.met.append("main first")
        yield


@pytest.mark.parametrize("main", [True, False])
def test_of_several_processes_all_run_parallel_steps_and_the_first_the_rest(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, main: bool
) -> None:
    rank = Rank(main)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(steps_module, "_join", lambda: rank)
    bread = kitchen.steps()
    if not main:  # what the first process makes before the others go on
        for step in all_steps(bread):
            step.folder(kitchen.out).mkdir(parents=True)
        (bread.before[0].folder(kitchen.out) / "dough").write_text("flour")
    build(replace(bread, parallel=True), kitchen.out)
    assert kitchen.ran == (["dough", "bread"] if main else ["bread"])
    assert (bread.folder(kitchen.out) / "bread").read_text() == "flour at 200"
    done = [step.is_done(kitchen.out) for step in all_steps(bread)]
    assert done == [main, main], "notes are written by the first alone"
    assert rank.met == ["all", *["main first"] * 4], "or the processes would wait for each other for ever"
    assert replace(bread, parallel=True).key == bread.key
