"""Training to write answers: the tokens of inference, loss on the answer alone, whole runs, less memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from retrieveall import RetrieveAll
from retrieveall.config import ModelConfig, TrainingConfig
from retrieveall.decoding import write_answer
from retrieveall.decoding.grammar import AnswerGrammar
from retrieveall.engines.encoding import TokenCodec
from retrieveall.errors import ConfigError
from retrieveall.model_folder import ModelFolder
from retrieveall.training.dataset import Collator, TaggingDataset
from retrieveall.training.examples import ExampleBuilder
from retrieveall.types import Entity, Knowledge, Sentence

CONFIG = TrainingConfig.model_validate(
    {
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.01,
        "word_dropout": 0.1,
        "checkpoint_minutes": 10.0,
        "validation_sentences": 4,
    }
)


def entity(text: str, start: int, end: int, label: str) -> Entity:
    return Entity(start, end, label, text[start:end])


def hard_sentences() -> list[Sentence]:
    """Repeats, one of which is no entity; no spaces; marks of the format and of chats; many; none."""
    ulm = "Ulm, Ulm und Ulmer (Ulm)"
    chinese = "王小明在北京大学读书，王小明不在上海"
    markers = "<|end|> PER Anna\nO x <|tag0|>"
    many = " ".join(["Anna Köln"] * 12)
    return [
        Sentence(ulm, (entity(ulm, 5, 8, "LOC"), entity(ulm, 20, 23, "ORG")), "de", "1"),
        Sentence(chinese, (entity(chinese, 0, 3, "PER"), entity(chinese, 4, 8, "ORG")), "de", "2"),
        Sentence(markers, (entity(markers, 0, 7, "ORG"), entity(markers, 12, 16, "PER")), "de", "3"),
        Sentence(many, tuple(entity(many, 10 * i, 10 * i + 4, "PER") for i in range(12)), "de", "4"),
        Sentence("nichts", (), "de", "5"),
    ]


def builder_of(tokenizer: Any, spacing: Any, template: str) -> tuple[ExampleBuilder, AnswerGrammar]:
    config = ModelConfig.model_validate(
        {
            "labels": [{"name": name} for name in ("PER", "ORG", "LOC")],
            "prompt": {"template": template},
            "decoder": {"kind": "generation", "spacing": spacing},
        }
    )
    grammar = AnswerGrammar(tokenizer.backend_tokenizer.to_str(), 360, [1], config.label_names, spacing)
    return ExampleBuilder(config, None, TokenCodec(tokenizer, spacing), grammar), grammar


@pytest.mark.parametrize(("spacing", "template"), [("always", "mini-answer.v1"), ("as_is", "answer.v1")])
def test_training_sees_what_inference_writes(
    tiny_tokenizer: Any, corpus: dict[str, list[Sentence]], spacing: str, template: str
) -> None:
    """Every gold token is allowed where it stands, and wherever a token is forced it is the gold one."""
    builder, grammar = builder_of(tiny_tokenizer, spacing, template)
    forced_ones = 0
    for sentence in [*hard_sentences(), *(each for own in corpus.values() for each in own[:8])]:
        example = builder.encode(sentence, Knowledge())
        gold = example.ids[example.question :]
        state = grammar.start(sentence.text)
        position = 0
        while position < len(gold):
            forced = state.forced()
            assert gold[position : position + len(forced)] == forced
            step = forced or [gold[position]]
            mask = state.mask()
            assert mask[step[0] // 32] >> (step[0] % 32) & 1
            state.advance(step)
            position += len(step)
            forced_ones += len(forced)
        assert state.finished
    assert forced_ones > 50


def test_the_loss_is_on_the_answer_and_its_end(tiny_tokenizer: Any) -> None:
    builder, grammar = builder_of(tiny_tokenizer, "always", "mini-answer.v1")
    for sentence in hard_sentences():
        example = builder.encode(sentence, Knowledge())
        assert example.tags == [example.ids[read + 1] for read in example.reads]
        assert example.reads == list(range(example.question - 1, len(example.ids) - 1))
        answer = write_answer(sentence.text, sentence.entities, "always")
        assert tiny_tokenizer.decode(example.tags[:-1]) == answer
        assert example.tags[-1] == grammar.end_ids[0]
        assert example.gold == {(each.start, each.end, each.label) for each in sentence.entities}


def test_words_of_entities_are_never_hidden(tiny_tokenizer: Any) -> None:
    builder, _ = builder_of(tiny_tokenizer, "always", "mini-answer.v1")
    text = "Gestern war Anna Meier in Ulm"
    sentence = Sentence(text, (entity(text, 12, 22, "PER"),), "de", "1")
    config = CONFIG.model_copy(update={"word_dropout": 0.999, "knowledge_dropout": 0.0})
    example = TaggingDataset(builder, [sentence], [Knowledge()], config, 2)[0]
    question = tiny_tokenizer.decode(example.ids[: example.question])
    assert "Anna Meier" in question
    assert "Gestern" not in question
    assert tiny_tokenizer.decode(example.tags[:-1]) == "PER Anna Meier"


@pytest.mark.parametrize("kind", ["generation", "tagging"])
def test_checkpointing_changes_no_gradient(
    make_backbone: Callable[..., Any], tiny_tokenizer: Any, corpus: dict[str, list[Sentence]], kind: str
) -> None:
    """The backward pass computes activations again, under the adapters that each row had."""
    from retrieveall.adapters.bank import AdapterBank
    from retrieveall.training.model import TaggingModel

    builder, _ = builder_of(tiny_tokenizer, "always", "mini-answer.v1")
    if kind == "tagging":
        config = ModelConfig.model_validate({"labels": [{"name": name} for name in ("PER", "ORG", "LOC")]})
        builder = ExampleBuilder(config, None, TokenCodec(tiny_tokenizer, "always"))
    sentences = [*corpus["de"][:3], *corpus["zh"][:3]]
    batch = Collator(0, ["de", "zh"])([builder.encode(each, Knowledge()) for each in sentences])
    found = []
    for checkpointing in (False, True):
        backbone = make_backbone("qwen2")
        bank = AdapterBank.attach(backbone)
        torch.manual_seed(3)
        bank.trainable(["de", "zh"], CONFIG.lora.model_copy(update={"dropout": 0.3}), 5)
        for parameter in bank.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        tag_ids = None if kind == "generation" else torch.arange(7, 20)
        model = TaggingModel(backbone, bank, tag_ids, ["de", "zh"], repeat=True, checkpointing=checkpointing).train()
        calls: list[int] = []
        first = backbone.base_model.layers[0].self_attn
        handle = first.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(11)
        loss = model(**batch)["loss"]
        loss.backward()
        handle.remove()
        assert len(calls) == 1 + checkpointing, "the activations are computed again, or the option does nothing"
        found.append((loss.item(), {name: p.grad.clone() for name, p in bank.named_parameters()}))
        with torch.no_grad():
            assert model.eval()(**batch)["loss"].item() != loss.item(), "dropout acts in training only"
    (plain_loss, plain), (loss, gradients) = found
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-4, atol=1e-6)


def french(count: int) -> list[Sentence]:
    texts = [f"Marie habite à Paris depuis {number} ans ." for number in range(count)]
    return [
        Sentence(text, (Entity(0, 5, "PER", "Marie"), Entity(15, 20, "LOC", "Paris")), "fr", f"fr-{i}")
        for i, text in enumerate(texts)
    ]


def test_add_language_learns_to_write(tiny_generating_model: Path, tmp_path: Path) -> None:
    from retrieveall.training.run import LanguageData, add_language

    folder = tmp_path / "model"
    model = RetrieveAll.from_pretrained(tiny_generating_model, device="cpu")
    model.save_pretrained(folder)
    text = "Anna wohnt in Köln ."
    before = model.predict(text, language="de")[0].entities
    config = CONFIG.model_copy(update={"epochs": 16.0})
    f1 = add_language(
        folder, "fr", LanguageData(french(24), french(4)), config, tmp_path / "run", device="cpu", show_bar=False
    )
    assert f1 > 0.9, "24 sentences that differ in a number are learnt by heart"
    grown = RetrieveAll.from_pretrained(folder, device="cpu")
    found = grown.predict("Marie habite à Paris depuis 7 ans .", language="fr")[0].entities
    assert [(each.text, each.label) for each in found] == [("Marie", "PER"), ("Paris", "LOC")]
    assert min(each.score or 0 for each in found) > 0.5
    assert grown.predict(text, language="de")[0].entities == before
    card = json.loads((folder / "adapters" / "fr" / "adapter_card.json").read_text())
    assert card["template"] == "mini-answer.v1"
    assert card["calibration"] != [1.0, 0.0]


def test_an_interrupted_run_ends_with_the_same_weights(
    tiny_generating_model: Path,
    corpus: dict[str, list[Sentence]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from retrieveall.training import trainer
    from retrieveall.training.run import LanguageData, train

    data = {"zh": LanguageData(corpus["zh"][:12], corpus["zh"][:2])}
    config = CONFIG.model_copy(update={"checkpoint_minutes": 1e-6})
    weights = []
    for interrupted in (False, True):
        folder, run = tmp_path / f"model{interrupted}", tmp_path / f"run{interrupted}"
        ModelFolder.open(tiny_generating_model).copy_to(folder)
        if interrupted:
            with monkeypatch.context() as patch:
                patch.setattr(trainer.AdapterTrainer, "evaluate", _interrupt)
                with pytest.raises(KeyboardInterrupt):
                    train(folder, data, config, run, device="cpu", show_bar=False)
            assert list(run.glob("checkpoint-*"))
        train(folder, data, config, run, device="cpu", show_bar=False)
        weights.append((folder / "adapters" / "zh" / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def generating(**prompt: Any) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "labels": [{"name": name} for name in ("PER", "ORG", "LOC")],
            "prompt": {"template": "answer.v1", **prompt},
            "decoder": {"kind": "generation"},
        }
    )


def test_create_model(tiny_generating_model: Path, corpus: dict[str, list[Sentence]], tmp_path: Path) -> None:
    from retrieveall.training.run import LanguageData, create_model

    backbone = tiny_generating_model / "backbone"
    data = {"de": LanguageData(corpus["de"])}
    create_model(tmp_path / "model", generating(), data, backbone=backbone)
    config = ModelFolder.open(tmp_path / "model").config
    assert (config.decoder.kind, config.decoder.tag_tokens) == ("generation", {})
    assert RetrieveAll.from_pretrained(tmp_path / "model", device="cpu").predict("Köln")[0].route.adapters == {}
    with pytest.raises(ConfigError, match="chat template"):
        create_model(tmp_path / "chat", generating(chat=True), data, backbone=backbone)


def test_the_command_line_runs_a_generating_model(
    tiny_generating_model: Path, corpus: dict[str, list[Sentence]], tmp_path: Path
) -> None:
    """``train`` from a configuration, ``extract`` and ``evaluate``."""
    from typer.testing import CliRunner

    from retrieveall.cli.app import app
    from retrieveall.config import dump_yaml
    from retrieveall.data import write_jsonl

    data = tmp_path / "data" / "de"
    data.mkdir(parents=True)
    for split, count in (("train", 20), ("validation", 4), ("test", 6)):
        write_jsonl(corpus["de"][:count], data / f"{split}.jsonl")
    backbone = str(tiny_generating_model / "backbone")
    config = generating().model_copy(update={"backbone": generating().backbone.model_copy(update={"path": backbone})})
    (tmp_path / "model.yaml").write_text(dump_yaml(config))
    (tmp_path / "training.yaml").write_text(dump_yaml(CONFIG))
    model = str(tmp_path / "model")

    def run(*arguments: Any) -> str:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        return result.stdout

    run(
        *("train", data.parent, "--out", model, "--settings", tmp_path / "model.yaml"),
        *("--config", tmp_path / "training.yaml", "--run", tmp_path / "run"),
    )
    text = corpus["de"][0].text
    [line] = run("extract", text, "--model", model, "--format", "jsonl").splitlines()
    for each in json.loads(line)["entities"]:
        assert text[each["start"] : each["end"]] == each["text"]
    run("evaluate", data.parent, "--model", model, "--output", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["languages"]["de"]["sentences"] == 6
