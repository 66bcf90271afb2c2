"""Shell completion: what it proposes, that it is quick, and that the installed script works in bash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from retrieveall.cli import completion
from retrieveall.cli.app import app

EIGHT = ["de", "en", "es", "fr", "ja", "ko", "ru", "zh"]


def complete(*words: str) -> list[str]:
    """What the last of ``words`` is completed to, in this process."""
    from typer._completion_classes import BashComplete

    command = typer.main.get_command(app)
    completing = BashComplete(command, {}, "retrieveall", "_RETRIEVEALL_COMPLETE")
    return [item.value for item in completing.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["ext"], ["extract"]),
        (["extract", "--model", ""], ["base", "mini"]),
        (["extract", "--model", "m"], ["mini"]),
        (["serve", ""], ["base", "mini"]),
        (["info", "b"], ["base"]),
        (["train", "--from", "ba"], ["base"]),
        (["extract", "--language", ""], EIGHT),
        (["evaluate", "--model", "mini", "--languages", "de,e"], ["de,en", "de,es"]),
        (["extract", "--languages-that-are-none", ""], []),
        (["remove-language", "f"], ["fr"]),
        (["extract", "--labels", "PER,"], ["PER,LOC", "PER,ORG"]),
        (["extract", "--format", "c"], ["csv", "conll"]),
        (["extract", "--input-format", "t"], ["text", "tsv"]),
        (["train", "--config", "qwen"], ["qwen2.5-14b", "qwen2.5-7b"]),
        (["plan", "ll"], ["llama-3-8b", "llama-3-8b-instruct"]),
        (["plan", "mi"], ["mini"]),
        (["plan", "--gpu", "h100"], ["h100", "h100-pcie"]),
        (["train", "--decoder", "g"], ["generation"]),
        (["train", "--set", "epo"], ["epochs="]),
        (["add-language", "--set", "lora.a"], ["lora.alpha="]),
        (["convert", "--to", "doc"], ["docbin", "doccano", "doccano-relations"]),
        (["convert", "--scheme", "bi"], ["bioes"]),
        (["evaluate", "--split", "v"], ["validation"]),
    ],
    ids=" ".join,
)
def test_values_are_completed(words: list[str], values: list[str]) -> None:
    assert complete(*words) == values


def test_languages_and_labels_are_those_of_the_model_named_before(tiny_model: Path) -> None:
    assert complete("extract", "--model", str(tiny_model), "--language", "") == ["de", "en", "zh"]
    assert complete("extract", "--model", str(tiny_model), "--labels", "P") == ["PER"]
    assert complete("extract", "--model", "no/such/model", "--language", "") == []
    assert complete("extract", "--model", "no/such/model", "--labels", "") == []


def test_a_broken_model_completes_nothing(tmp_path: Path) -> None:
    for content in ("labels: [", "labels: 3", "- a", "labels: [{}]"):
        (tmp_path / "retrieveall.yaml").write_text(content)
        assert complete("extract", "--model", str(tmp_path), "--labels", "") == []


def test_the_gpus_are_those_of_the_plan() -> None:
    from retrieveall.planning.gpus import GPUS

    assert set(completion.GPUS) == set(GPUS)


_TAB = """
import json, resource, sys
from retrieveall.cli import main
try:
    main()
except SystemExit:
    pass
print(json.dumps([sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "line", ["retrieveall extract --model ", "retrieveall extract -l d", "retrieveall train --set e"]
)
def test_a_tab_loads_no_library_that_computes(line: str) -> None:
    environment = {**os.environ, "_RETRIEVEALL_COMPLETE": "complete_bash", "COMP_WORDS": line}
    environment["COMP_CWORD"] = str(len(line.split(" ")) - 1)
    done = subprocess.run([sys.executable, "-c", _TAB], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip()
    seconds, modules = json.loads(done.stderr)
    assert {"torch", "numpy", "transformers", "tokenizers", "pyarrow", "scipy", "huggingface_hub"}.isdisjoint(modules)
    assert seconds < 2  # 0.3 on a quiet machine


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_installed_script_completes_in_bash(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "retrieveall"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m retrieveall "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}

    def bash(script: str) -> str:
        command = ["bash", "--norc", "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert "completion installed" in bash("retrieveall --install-completion; true")
    assert "_RETRIEVEALL_COMPLETE" in bash("retrieveall --show-completion; true")
    press = (
        '. "$HOME/.bashrc"; COMP_WORDS=(retrieveall extract --model ""); COMP_CWORD=3; '
        'f=$(complete -p retrieveall | sed "s/.*-F \\([^ ]*\\).*/\\1/"); $f retrieveall; echo "${COMPREPLY[@]}"'
    )
    assert bash(press).split() == ["base", "mini"]
