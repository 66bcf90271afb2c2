"""``plan``: figures for people and as JSON, from names, files, folders and corpora; nothing heavy is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_fakes import one_error
from typer.testing import Result

from retrieveall.data import write_jsonl
from retrieveall.types import Sentence

Run = Callable[..., Result]


@pytest.fixture
def data(corpus: dict[str, list[Sentence]], tmp_path: Path) -> Path:
    for language, sentences in corpus.items():
        (tmp_path / "data" / language).mkdir(parents=True)
        write_jsonl(sentences, tmp_path / "data" / language / "train.jsonl")
    return tmp_path / "data"


def facts(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_for_people(run: Run, data: Path) -> None:
    shown = run("plan", "qwen2.5-7b", "--data", data, "--gpu", "H100")
    assert shown.exit_code == 0, shown.output
    for part in ("7,615,616,512 parameters", "training memory", "60 sentences of de, en, zh", "estimated from the",
                 "H100 SXM, 80 GB: training fits", "35% of 989 TFLOPS", "an epoch", "sentences a second"):  # fmt: skip
        assert part in shown.stdout


def test_as_json(run: Run, data: Path) -> None:
    found = facts(run("plan", "llama-3-8b", "--data", data, "--gpu", "a100", "--decoder", "generation", "--json"))
    assert found["backbone_parameters"] == 8_030_261_248
    assert found["adapters"] == 3
    assert found["training"]["total"] == sum(  # type: ignore[index]
        found["training"][name]  # type: ignore[index]
        for name in ("weights", "optimiser", "activations", "logits")
    )
    half = facts(run("plan", "llama-3-8b", "--data", data, "--languages", "de", "--json", "--set", "lora.rank=8"))
    assert (half["adapters"], half["adapter_parameters"]) == (1, found["adapter_parameters"] // 2)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("xlm-roberta-base", 277_453_056),
        ("xlm-roberta-large", 558_840_832),
        ("multilingual-e5-small", 117_505_920),
    ],
)
def test_encoders(run: Run, data: Path, name: str, parameters: int) -> None:
    found = facts(run("plan", name, "--data", data, "--gpu", "a100", "--json"))
    assert (found["decoder"], found["backbone_parameters"], found["row_length"]) == ("tagging", parameters, 256)
    assert found["sentences_per_second"]
    assert "training fits" in run("plan", name, "--gpu", "a100").stdout
    one_error(run("plan", name, "--decoder", "generation"), "does not write", "tagging")
    one_error(run("plan", name, "--set", "lora.target_modules=[q_proj]"), "attention.self.query", "q_proj")


def test_presets_are_named_in_the_help() -> None:
    from retrieveall.backbones import preset_names
    from retrieveall.cli import plan, training_options

    for module in (plan, training_options):
        text = Path(str(module.__file__)).read_text(encoding="utf-8")
        assert [name for name in preset_names() if name not in text] == []


def test_four_bits_fit_where_sixteen_do_not(run: Run, data: Path) -> None:
    options = ("--data", data, "--gpu", "rtx4090")
    assert "training does not fit" in run("plan", "qwen2.5-14b", *options).stdout
    assert "training fits" in run("plan", "qwen2.5-14b", *options, "--quantization", "4bit").stdout


def test_without_a_corpus_a_gpu_is_still_compared(run: Run) -> None:
    shown = run("plan", "qwen2.5-14b", "--gpu", "rtx4090")
    assert shown.exit_code == 0, shown.output
    assert "RTX 4090, 24 GB: training does not fit, inference does not fit" in shown.stdout
    assert "--data" in shown.stdout
    assert "an epoch" not in shown.stdout
    found = facts(run("plan", "qwen2.5-14b", "--gpu", "rtx4090", "--json"))
    assert (found["gpu"]["name"], found["seconds_per_epoch"]) == ("rtx4090", None)  # type: ignore[index]


def test_languages_are_those_of_a_corpus(run: Run) -> None:
    shown = run("plan", "qwen2.5-7b", "--languages", "de,en")
    assert shown.exit_code == 2
    assert "--data" in shown.output


def test_of_a_model_folder_with_its_own_tokenizer(run: Run, tiny_repeat_model: Path) -> None:
    found = facts(run("plan", tiny_repeat_model, "--data", tiny_repeat_model, "--json"))
    assert found["count_method"] == "counted by the tokenizer"
    assert found["tokens_per_epoch"]
    assert facts(run("plan", tiny_repeat_model, "--json"))["tokens_per_epoch"] is None


def test_the_knowledge_of_a_model_is_a_corpus(run: Run, tiny_model: Path) -> None:
    found = facts(run("plan", "qwen2.5-7b", "--data", tiny_model, "--languages", "zh", "--json"))
    assert list(found["languages"]) == ["zh"]  # type: ignore[call-overload]
    one_error(run("plan", "qwen2.5-7b", "--data", tiny_model, "--languages", "xx"), "de, en, zh", "'xx'")


def test_a_local_backbone_has_its_own_shape(run: Run, data: Path, tiny_repeat_model: Path) -> None:
    found = facts(run("plan", "qwen2.5-7b", "--backbone", tiny_repeat_model / "backbone", "--data", data, "--json"))
    assert found["backbone_parameters"] < 100_000  # type: ignore[operator]
    assert found["count_method"] == "counted by the tokenizer"


def test_bad_questions_are_one_line(run: Run, data: Path, tmp_path: Path) -> None:
    one_error(run("plan", "qwen3000"), "qwen2.5-7b", "'qwen3000'")
    one_error(run("plan", "qwen2.5-7b", "--gpu", "tpu"), "h100", "'tpu'")
    one_error(run("plan", "qwen2.5-7b", "--data", tmp_path / "none"), "none")
    one_error(run("plan", "qwen2.5-7b", "--backbone", tmp_path), "config.json", "check the path")
    one_error(run("plan", "qwen2.5-7b", "--quantization", "3bit"), "--quantization", "4bit")
    one_error(run("plan", "qwen2.5-7b", "--set", "lora.target_modules=[c_attn]"), "q_proj", "c_attn")


def test_no_library_that_computes_is_loaded(data: Path) -> None:
    script = (
        "import sys; sys.argv = ['retrieveall', 'plan', 'qwen2.5-7b', '--data', sys.argv[1]]\n"
        "from retrieveall.cli import main\n"
        "try: main()\n"
        "except SystemExit as exit: assert not exit.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(data)], check=True, capture_output=True)
