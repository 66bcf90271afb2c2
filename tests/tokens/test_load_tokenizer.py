"""The tokenizer of a folder: as transformers reads it, from data alone, and every fault one line."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retrieveall.config import BackboneConfig
from retrieveall.errors import ModelFolderError, RetrieveAllError, UnsafeFileError
from retrieveall.tokens import Tokenizer, load_tokenizer

SPECIAL = ("bos", "eos", "pad", "mask")
TEXTS = ["Anna wohnt in Köln", " 北京大学 12345 ...", "a<|im_end|>b <|end|>", "'s EOS", "👩🏽‍🚀 e\u0301\n\n x", ""]


@pytest.fixture
def save(tokenizers: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """``save(kind, **settings)``: a folder with a tokenizer, and these keys in its ``tokenizer_config.json``."""

    def make(kind: str = "tiny", **settings: Any) -> Path:
        folder = tmp_path / "backbone"
        tokenizers[kind].save_pretrained(folder)
        edit(folder / "tokenizer_config.json", **settings)
        return folder

    return make


def edit(path: Path, **changes: Any) -> None:
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | changes))


def load(folder: Path) -> Tokenizer:
    return load_tokenizer(BackboneConfig(path=folder.name), folder.parent)


def reference(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def same(found: Tokenizer, expected: Any) -> None:
    assert {kind: getattr(found, kind) for kind in SPECIAL} == {
        kind: getattr(expected, f"{kind}_token_id") for kind in SPECIAL
    }
    for special in (True, False):
        found.backend.encode_special_tokens = special  # that is, split them
        for text in TEXTS:
            ids = found.backend.encode(text, add_special_tokens=False).ids
            assert ids == expected.encode(text, add_special_tokens=False, split_special_tokens=special)
            assert found.backend.decode(ids, skip_special_tokens=False) == expected.decode(
                ids, clean_up_tokenization_spaces=False
            )


class TestAsTransformers:
    @pytest.mark.parametrize("kind", ["tiny", "llama3", "qwen2", "sentencepiece"])
    def test_ids_and_special_tokens(self, save: Callable[..., Path], kind: str) -> None:
        folder = save(kind)
        same(load(folder), reference(folder))

    @pytest.mark.parametrize("kind", SPECIAL)
    @pytest.mark.parametrize("form", ["text", "object", "null", "unknown"])
    def test_a_token_as_text_and_as_object(self, save: Callable[..., Path], kind: str, form: str) -> None:
        text = "<|item|>" if form != "unknown" else "<|nowhere|>"
        token = {
            "text": text,
            "object": {"__type": "AddedToken", "content": text, "lstrip": False, "rstrip": False, "special": True},
            "null": None,
            "unknown": text,
        }[form]
        folder = save(**{f"{kind}_token": token})
        found = load(folder)
        if form == "unknown":  # transformers makes room for it, which the model does not have
            assert getattr(found, kind) is None
        else:
            same(found, reference(folder))
            assert (getattr(found, kind) is None) == (form == "null")

    def test_a_token_that_is_plain_text_in_the_file(self, save: Callable[..., Path]) -> None:
        """A word of the vocabulary that is named as the end token is one token wherever the template writes it."""
        folder = save()
        state = json.loads((folder / "tokenizer.json").read_text())
        state["added_tokens"] = [each for each in state["added_tokens"] if each["content"] != "<|end|>"]
        (folder / "tokenizer.json").write_text(json.dumps(state))
        found = load(folder)
        same(found, reference(folder))
        assert found.backend.encode("a<|end|>").ids[-1] == found.eos

    @pytest.mark.parametrize("decoder", [False, True])
    def test_the_map_of_old_folders(self, save: Callable[..., Path], decoder: bool) -> None:
        """``special_tokens_map.json`` counts where ``tokenizer_config.json`` does not list the added tokens."""
        folder = save(**({"added_tokens_decoder": {}} if decoder else {}))
        edit(folder / "special_tokens_map.json", eos_token="<|item|>", mask_token={"content": "<|mask|>"})
        found = load(folder)
        same(found, reference(folder))
        assert found.token(found.eos) == ("<|end|>" if decoder else "<|item|>")

    @pytest.mark.parametrize(
        "name", ["BertTokenizer", "GPT2Tokenizer", "GPTNeoXTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer"]
    )
    @pytest.mark.parametrize("suffix", ["", "Fast"])
    def test_what_the_class_of_a_tokenizer_takes(self, tmp_path: Path, name: str, suffix: str) -> None:
        """The models of these classes on the hub do not write their tokens down."""
        import transformers

        defaults = inspect.signature(getattr(transformers, name).__init__).parameters
        names = {kind: defaults[f"{kind}_token"].default for kind in SPECIAL if f"{kind}_token" in defaults}
        folder = of_words(tmp_path / "backbone", [str(each) for each in names.values() if each])
        edit(folder / "tokenizer_config.json", tokenizer_class=name + suffix)
        found = load(folder)
        assert {kind: found.token(getattr(found, kind)) for kind in SPECIAL} == {
            kind: str(names.get(kind) or "") for kind in SPECIAL
        }

    @pytest.mark.parametrize(
        "model", ["bert", "distilbert", "electra", "gpt2", "gpt_neo", "gpt_neox", "gptj", "roberta", "xlm-roberta"]
    )
    def test_a_model_names_its_class(self, tmp_path: Path, model: str) -> None:
        from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

        names = ["<s>", "</s>", "<pad>", "<mask>", "[PAD]", "[MASK]", "<|endoftext|>", "<|padding|>"]
        folder = of_words(tmp_path / "backbone", names)
        edit(folder / "config.json", model_type=model)
        found = load(folder)
        edit(folder / "tokenizer_config.json", tokenizer_class=TOKENIZER_MAPPING_NAMES[model])
        expected = load(folder)
        assert [getattr(found, kind) for kind in SPECIAL] == [getattr(expected, kind) for kind in SPECIAL]
        assert found.pad is not None or found.eos is not None

    def test_another_model_has_no_tokens_but_those_written_down(self, tmp_path: Path) -> None:
        """Also not those of its ``config.json``: Qwen2.5 names a beginning there that its tokenizer does not have."""
        folder = of_words(tmp_path / "backbone", ["<s>", "</s>"])
        edit(folder / "config.json", model_type="qwen2", bos_token_id=0, eos_token_id=1)
        found = load(folder)
        assert [getattr(found, kind) for kind in SPECIAL] == [None] * 4


def of_words(folder: Path, special: list[str]) -> Path:
    """A folder with a tokenizer of a few words and these tokens, and nothing beside ``tokenizer.json``."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    words = dict.fromkeys([*special, "a", "?"])
    backend = Backend(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="?"))
    backend.add_special_tokens(special)
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    return folder


class TestChatTemplate:
    @pytest.mark.parametrize(
        "settings",
        [
            {"chat_template": "{{ messages }}"},
            {"chat_template": [{"name": "rag", "template": "x"}, {"name": "default", "template": "{{ messages }}"}]},
        ],
    )
    def test_in_the_settings(self, save: Callable[..., Path], settings: dict[str, Any]) -> None:
        assert load(save(**settings)).chat_template == "{{ messages }}"

    def test_a_file_of_its_own_comes_first(self, save: Callable[..., Path]) -> None:
        folder = save(chat_template="old")
        (folder / "chat_template.jinja").write_text("é {{ messages }}", encoding="utf-8")
        assert load(folder).chat_template == reference(folder).chat_template == "é {{ messages }}"

    @pytest.mark.parametrize(
        "settings", [{}, {"chat_template": [{"name": "rag", "template": "x"}]}, {"chat_template": 7}]
    )
    def test_none(self, save: Callable[..., Path], settings: dict[str, Any]) -> None:
        assert load(save(**settings)).chat_template is None

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (2 << 20)], ids=["no UTF-8", "large"])
    def test_a_file_that_is_none(self, save: Callable[..., Path], content: bytes) -> None:
        folder = save()
        (folder / "chat_template.jinja").write_bytes(content)
        with pytest.raises(ModelFolderError, match=r"chat_template\.jinja"):
            load(folder)


class TestWhereItLies:
    def test_in_the_model_folder_first(self, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        folder = save()
        monkeypatch.chdir(folder.parent)
        of_words(folder.parent / "other", ["</s>"])
        assert load(folder).eos == 1
        for named in (str(folder), "./backbone", "backbone"):
            assert load_tokenizer(BackboneConfig(path=named), None).eos == 1
            assert load_tokenizer(BackboneConfig(path=named), folder.parent / "other").eos == 1

    def test_weights_are_not_needed(self, save: Callable[..., Path]) -> None:
        folder = save()
        (folder / "config.json").unlink(missing_ok=True)
        assert load(folder).eos == 1

    def test_on_the_hub_nothing_but_its_files_is_fetched(
        self, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import huggingface_hub

        asked: list[dict[str, Any]] = []
        folder = save()

        def fetch(name: str, **options: Any) -> str:
            asked.append({"name": name, **options})
            return str(folder)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
        found = load_tokenizer(BackboneConfig(path="organisation/model", revision="abc"), folder.parent)
        assert (found.eos, found.name) == (1, "organisation/model")
        [call] = asked
        assert (call["name"], call["revision"]) == ("organisation/model", "abc")
        assert {Path(name).suffix for name in call["allow_patterns"]} == {".json", ".jinja"}
        assert not any("*" in name for name in call["allow_patterns"])

    def test_a_hub_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        def fail(*_: Any, **__: Any) -> str:
            raise OSError("no\nnetwork")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(ModelFolderError, match="could not load the tokenizer of organisation/model: no network"):
            load_tokenizer(BackboneConfig(path="organisation/model"), None)


BREAK: dict[str, Callable[[Path], object]] = {
    "missing": lambda folder: (folder / "tokenizer.json").unlink(),
    "no JSON": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "of nothing": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "settings no JSON": lambda folder: (folder / "tokenizer_config.json").write_text("{"),
    "settings a list": lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
    "map no JSON": lambda folder: (folder / "special_tokens_map.json").write_text("{"),
}


@pytest.mark.parametrize("fault", BREAK)
def test_a_broken_tokenizer_is_one_line(save: Callable[..., Path], fault: str) -> None:
    folder = save()
    BREAK[fault](folder)
    with pytest.raises(ModelFolderError) as caught:
        load(folder)
    assert "backbone" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["nowhere", "a/b/c", "/nowhere", "..", pytest.param("x" * 5000, id="long"), "a\0b", "~nobody"]
)
def test_no_such_backbone(save: Callable[..., Path], path: str) -> None:
    folder = save()
    with pytest.raises(RetrieveAllError) as caught:
        load_tokenizer(BackboneConfig(path=path), folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_pattern_that_would_hang(save: Callable[..., Path]) -> None:
    folder = save()
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    edit(folder / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [split]})
    with pytest.raises(UnsafeFileError, match=r"tokenizer\.json.*\(a\+\)\+"):
        load(folder)


@pytest.mark.parametrize("change", [{"auto_map": {"AutoTokenizer": ["evil.Tok", None]}}, {"trust_remote_code": True}])
def test_code_that_comes_with_a_tokenizer(save: Callable[..., Path], change: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFileError, match=r"tokenizer_config\.json"):
        load(save(**change))
