"""A configuration and its backbone: fills in what depends on the tokenizer, and checks that they go together."""

from __future__ import annotations

from retrieveall.config import DecoderConfig, ModelConfig
from retrieveall.engines.encoding import TokenCodec
from retrieveall.engines.generation import answer_grammar
from retrieveall.engines.transformers import choose_tag_tokens, load_backbone

__all__ = ["suited"]


def suited(config: ModelConfig) -> ModelConfig:
    """``config`` with a token for every tag, where it tags.

    Raises:
        ModelFolderError: the backbone cannot be loaded.
        ConfigError: its tokenizer cannot give every tag a token; for a generating model, it has no end token or cannot
            write the labels; it has no chat template where ``prompt.chat`` asks for one.
    """
    backbone, tokenizer = load_backbone(config, None)
    codec = TokenCodec(tokenizer, config.decoder.spacing)
    if config.prompt.chat:
        codec.chat_frame()
    if config.decoder.kind == "generation":
        answer_grammar(config, codec, backbone)
        return config
    tag_tokens = choose_tag_tokens(config, codec)
    decoder = DecoderConfig.model_validate(config.decoder.model_dump() | {"tag_tokens": tag_tokens})
    return config.model_copy(update={"decoder": decoder})
