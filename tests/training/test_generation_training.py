"""Training to write answers: the tokens of inference, loss on the answer alone, whole runs, less memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import french

from retrieveall import RetrieveAll
from retrieveall.answers import write_answer
from retrieveall.answers.grammar import AnswerGrammar
from retrieveall.config import GenerationConfig, KnowledgeShares, ModelConfig, TrainingConfig
from retrieveall.data import may_be_edge, segment
from retrieveall.decoders import make_decoder
from retrieveall.errors import ConfigError
from retrieveall.model_folder import ModelFolder
from retrieveall.stages import Stages
from retrieveall.tokens import TokenCodec
from retrieveall.training.examples import encode_examples
from retrieveall.training.run import LanguageData, Training
from retrieveall.types import Entity, Sentence
from tiny import codec_of

CONFIG = TrainingConfig.model_validate(
    {
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "epochs": 2,
        "batch_size": 2,
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


def examples_of(
    tokenizer: Any, sentences: list[Sentence], spacing: Any, template: str
) -> tuple[TokenCodec, list[list[int]], list[list[int]], list[list[int]]]:
    """The codec, and for each sentence the ids, the positions and the labels of its example, without knowledge."""
    config = ModelConfig.model_validate(
        {
            "labels": [{"name": name} for name in ("PER", "ORG", "LOC")],
            "prompt": {"template": template},
            "decoder": {"kind": "generation", "spacing": spacing},
        }
    )
    codec = codec_of(tokenizer, spacing)
    stages = Stages(config, None, codec)
    examples = encode_examples(stages, make_decoder(config, codec), sentences, ["none"])["none"]
    flat = (
        (examples.ids, examples.ids_at),
        (examples.positions, examples.labels_at),
        (examples.labels, examples.labels_at),
    )
    columns = [[values[at[i] : at[i + 1]].tolist() for i in range(len(examples))] for values, at in flat]
    return codec, *columns


@pytest.mark.parametrize(("spacing", "template"), [("always", "mini-answer.v1"), ("as_is", "answer.v1")])
def test_training_sees_what_inference_writes(
    tiny_tokenizer: Any, corpus: dict[str, list[Sentence]], spacing: Any, template: str
) -> None:
    """Every gold token is allowed where it stands, and wherever a token is forced it is the gold one."""
    sentences = [*hard_sentences(), *(each for own in corpus.values() for each in own[:8])]
    _, _, _, answers = examples_of(tiny_tokenizer, sentences, spacing, template)
    grammar = AnswerGrammar(tiny_tokenizer.backend_tokenizer.to_str(), 360, [1], ("PER", "ORG", "LOC"), spacing)
    forced_ones = 0
    for sentence, gold in zip(sentences, answers, strict=True):
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
    sentences = hard_sentences()
    codec, ids, positions, labels = examples_of(tiny_tokenizer, sentences, "always", "mini-answer.v1")
    for sentence, own, reads, gold in zip(sentences, ids, positions, labels, strict=True):
        assert gold == [own[read + 1] for read in reads]
        assert reads == list(range(len(own) - len(gold) - 1, len(own) - 1))
        # Markup at an edge: such a mention is never predicted, and so not learnt.
        learnt = [each for each in sentence.entities if all(map(may_be_edge, segment(each.text)))]
        assert codec.decode(gold[:-1]) == write_answer(sentence.text, learnt, "always")
        assert gold[-1] == codec.end


def test_words_of_entities_are_never_hidden(tiny_generating_model: Path, tmp_path: Path) -> None:
    text = "Gestern war Anna Meier in Ulm"
    sentence = Sentence(text, (entity(text, 12, 22, "PER"),), "de", "1")
    config = CONFIG.model_copy(update={"word_dropout": 0.999, "knowledge": KnowledgeShares(none=1, entity=0, both=0)})
    model = ModelFolder.open(tiny_generating_model)
    training = Training(model, model.knowledge(), {"de": LanguageData([sentence])}, config, tmp_path, "cpu")
    batch = training.batches(training.examples(None), separate=True)[0]
    shown = training.codec.decode(batch["ids"][0, : batch["reads"][0] + 1].tolist())
    assert "Anna Meier" in shown
    assert "Gestern" not in shown
    assert training.codec.decode(batch["labels"][:-1].tolist()) == "PER Anna Meier"


@pytest.mark.parametrize("kind", ["generation", "tagging"])
def test_checkpointing_changes_no_gradient(
    build_model: Callable[..., Path], corpus: dict[str, list[Sentence]], tmp_path: Path, kind: str
) -> None:
    """The backward pass computes activations again, under the adapters that each row had."""
    folder = build_model(tmp_path / "model", architecture="qwen2", attention="full", decoder=kind)
    data = {language: LanguageData(corpus[language][:3]) for language in ("de", "zh")}
    found = []
    for checkpointing in (False, True):
        lora = CONFIG.lora.model_copy(update={"dropout": 0.3})
        config = CONFIG.model_copy(update={"gradient_checkpointing": checkpointing, "lora": lora, "batch_size": 8})
        model = ModelFolder.open(folder)
        training = Training(model, model.knowledge(), data, config, tmp_path / f"run{checkpointing}", "cpu")
        training.bank.trainable(["de", "zh"], lora, 5)
        torch.manual_seed(3)
        for parameter in training.bank.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        batches = training.batches(training.examples(None), separate=True)
        batch = next(batches[k] for k in range(len(batches)) if len(batches[k]["languages"].unique()) == 2)
        module = training.module(["de", "zh"]).train()
        calls: list[int] = []
        first = training.backbone.base_model.layers[0].self_attn
        handle = first.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(11)
        loss = module(**batch)["loss"]
        loss.backward()
        handle.remove()
        assert len(calls) == 1 + checkpointing, "the activations are computed again, or the option does nothing"
        found.append((loss.item(), {name: p.grad.clone() for name, p in training.bank.named_parameters()}))
        with torch.no_grad():
            assert module.eval()(**batch)["loss"].item() != loss.item(), "dropout acts in training only"
    (plain_loss, plain), (loss, gradients) = found
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-4, atol=1e-6)


def test_add_language_learns_to_write(tiny_generating_model: Path, tmp_path: Path) -> None:
    from retrieveall.training.run import add_language

    folder = tmp_path / "model"
    model = RetrieveAll.from_pretrained(tiny_generating_model, device="cpu")
    model.save_pretrained(folder)
    text = "Anna wohnt in Köln ."
    before = model.predict(text, language="de")[0].entities
    config = CONFIG.model_copy(update={"epochs": 16.0})
    scores = add_language(
        folder, "fr", LanguageData(french(24), french(4)), config, tmp_path / "run", device="cpu", show_bar=False
    )
    assert scores.told is not None
    assert scores.told > 0.9, "24 sentences that differ in a number are learnt by heart"
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
    from retrieveall.training import loop
    from retrieveall.training.run import train

    data = {"zh": LanguageData(corpus["zh"][:12], corpus["zh"][:2])}
    config = CONFIG.model_copy(update={"checkpoint_minutes": 1e-6})
    weights = []
    for interrupted in (False, True):
        folder, run = tmp_path / f"model{interrupted}", tmp_path / f"run{interrupted}"
        ModelFolder.open(tiny_generating_model).copy_to(folder)
        if interrupted:
            with monkeypatch.context() as patch:
                patch.setattr(loop.LoopTrainer, "evaluate", _interrupt)
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
    from retrieveall.training.run import create_model

    backbone = tiny_generating_model / "backbone"
    data = {"de": LanguageData(corpus["de"])}
    create_model(tmp_path / "model", generating(), data, backbone=backbone)
    config = ModelFolder.open(tmp_path / "model").config
    assert isinstance(config.decoder, GenerationConfig)
    assert (
        RetrieveAll.from_pretrained(tmp_path / "model", device="cpu", allow_no_adapters=True)
        .predict("Köln")[0]
        .route.adapters
        == {}
    )
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
