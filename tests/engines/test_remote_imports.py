"""A client of a server needs neither torch nor transformers: in a process of its own, it never imports them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from completions_server import CompletionsServer, TinyModel, serving

from retrieveall.config import GenerationConfig, ModelConfig, dump_yaml, load_yaml
from retrieveall.storage import Manifest

pytest.importorskip("httpx")

CLIENT = """
import json, sys
from retrieveall import RetrieveAll
model = RetrieveAll.from_pretrained(sys.argv[1], engine="openai", server=sys.argv[2])
texts = ["Anna Meier war in Köln .", "昨天李白上了报纸。", "Karl May " * 20]
found = [[(e.start, e.end, e.label) for e in each.entities] for each in model.predict(texts)]
model.reload()
heavy = [name for name in ("torch", "transformers", "peft", "accelerate") if name in sys.modules]
print(json.dumps([heavy, found, "jinja2" in sys.modules]))
"""
CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def _tagging(config: ModelConfig, folder: Path) -> ModelConfig:
    return config


def _generation(config: ModelConfig, folder: Path) -> ModelConfig:
    prompt = config.prompt.model_copy(update={"template": "answer.v1", "max_tokens": 512})
    decoder = GenerationConfig(spacing=config.decoder.spacing, max_answer_tokens=24)
    return config.model_copy(update={"decoder": decoder, "prompt": prompt})


def _chat(config: ModelConfig, folder: Path) -> ModelConfig:
    path = folder / "backbone" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": CHAT}))
    return config.model_copy(update={"prompt": config.prompt.model_copy(update={"chat": True})})


@pytest.mark.parametrize("change", [_tagging, _generation, _chat])
def test_a_remote_engine_needs_no_torch(
    tiny_repeat_model: Path, tmp_path: Path, change: Callable[[ModelConfig, Path], ModelConfig]
) -> None:
    from retrieveall import RetrieveAll

    folder = Path(shutil.copytree(tiny_repeat_model, tmp_path / "model"))
    config = change(load_yaml(ModelConfig, folder / "retrieveall.yaml"), folder)
    (folder / "retrieveall.yaml").write_text(dump_yaml(config), encoding="utf-8")
    Manifest.of(folder).write()
    with serving(TinyModel(folder), processed=True) as server:
        heavy, found, chatted = _run(CLIENT, folder, server)
        here = RetrieveAll.from_pretrained(folder, server=server.url)
        expected = here.predict(["Anna Meier war in Köln .", "昨天李白上了报纸。", "Karl May " * 20])
    assert heavy == []
    assert found == [[[e.start, e.end, e.label] for e in each.entities] for each in expected]
    assert chatted == config.prompt.chat


def _run(code: str, folder: Path, server: CompletionsServer) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), server.url], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
