"""The program as a process: what it loads, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_fakes import one_error
from typer.testing import Result

import retrieveall
from retrieveall.cli.app import app

Spawn = Callable[..., "subprocess.Popen[bytes]"]
VERBS = [
    "extract",
    "train",
    "add-language",
    "adopt",
    "remove-language",
    "index",
    "evaluate",
    "validate",
    "convert",
    "info",
]
VERBS += ["plan"]
PIPE = subprocess.PIPE

_HELP = """
import json, resource, sys
sys.argv = ["retrieveall", *{arguments!r}]
from retrieveall.cli import main
try:
    main()
except SystemExit as exit:
    code = exit.code
seconds = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
print(json.dumps([code, seconds, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"], ["--version"]])
def test_help_loads_no_library_that_computes(arguments: list[str]) -> None:
    script = _HELP.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    code, seconds, modules = json.loads(done.stderr)
    assert not code
    assert done.stdout
    heavy = {
        "torch",
        "ray",
        "numpy",
        "transformers",
        "tokenizers",
        "faiss",
        "pyarrow",
        "scipy",
        "huggingface_hub",
        "regex",
    }
    assert heavy.isdisjoint(modules)
    assert seconds < 2  # 0.4 on a quiet machine; a library that computes takes longer on any


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(run: Callable[..., Result], verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert f"retrieveall {verb}" in result.stdout
    assert all(parameter.help for command in app.registered_commands for parameter in _parameters(command.name or ""))


def _parameters(verb: str) -> list[object]:
    import typer.main

    group = typer.main.get_command(app)
    return [p for p in group.commands[verb].params if p.name != "help"]  # type: ignore[attr-defined]


def test_threads_warn_of_a_busy_machine(run: Callable[..., Result]) -> None:
    for verb in ("extract", "evaluate", "train"):
        assert "slower than one" in " ".join(run(verb, "--help").stdout.replace("│", " ").split())


def test_version(run: Callable[..., Result]) -> None:
    assert run("--version").stdout == f"retrieveall {retrieveall.__version__}\n"


def test_nothing_shows_the_help_and_is_2(run: Callable[..., Result]) -> None:
    result = run()
    assert result.exit_code == 2
    assert "add-language" in result.output


def test_an_unknown_verb_is_2(run: Callable[..., Result]) -> None:
    result = run("extrat", "Ada")
    assert result.exit_code == 2
    assert "extract" in result.stderr  # the suggestion


def test_a_model_that_is_not_there(run: Callable[..., Result]) -> None:
    for arguments in (["extract", "Ada", "-m", "no/such/model"], ["info", "no/such/model"]):
        one_error(run(*arguments), "no/such/model", "check the path")


def test_python_m() -> None:
    done = subprocess.run([sys.executable, "-m", "retrieveall", "--version"], capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"retrieveall {retrieveall.__version__}"


@pytest.mark.skipif(os.name == "nt", reason="pipes of a POSIX shell")
def test_a_reader_that_stops_ends_an_endless_stream(spawn: Spawn) -> None:
    with (
        subprocess.Popen(["yes", "Ada in London"], stdout=PIPE) as source,
        spawn("extract", "--batch-size", "8", stdin=source.stdout, stdout=PIPE, stderr=PIPE) as program,
    ):
        assert program.stdout is not None
        assert program.stderr is not None
        assert json.loads(program.stdout.readline())["text"] == "Ada in London"
        program.stdout.close()
        assert program.wait(60) == 141
        assert program.stderr.read() == b""
        source.terminate()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interruption_is_one_line_and_leaves_the_target(spawn: Spawn, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("precious")
    arguments = ["extract", "--batch-size", "1", "--output", str(target)]
    with spawn(*arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE) as program:
        assert program.stdin is not None
        assert program.stderr is not None
        program.stdin.write(b"Ada\n")
        program.stdin.flush()
        while not any(path.stat().st_size for path in tmp_path.glob(".*.tmp")):
            assert program.poll() is None
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 130
        assert program.stderr.read() == b"interrupted\n"
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(spawn: Spawn) -> None:
    with Path("/dev/full").open("wb") as full, spawn("extract", "Ada", stdout=full, stderr=PIPE) as program:
        assert program.stderr is not None
        assert program.wait(60) == 1
        lines = program.stderr.read().decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: No space left on device")


def test_any_terminal_encoding_gets_utf8(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with spawn("extract", "北京", stdout=PIPE) as program:
        out, _ = program.communicate(timeout=60)
    assert json.loads(out.decode())["entities"][0]["text"] == "北京"


def test_what_other_packages_say_of_themselves_is_not_shown() -> None:
    """peft imports bitsandbytes, which warns of a kernel that is missing."""
    script = (
        "import logging, sys\n"
        "from retrieveall.cli import main\n"
        "sys.argv = ['retrieveall', '--version']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    logging.getLogger('bitsandbytes.backends.cpu.ops').warning('noise')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("retrieveall ")
    assert done.stderr == ""
