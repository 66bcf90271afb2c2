"""Creates the decoder of a model."""

from __future__ import annotations

from retrieveall.config import ModelConfig
from retrieveall.decoders.base import Decoder
from retrieveall.decoders.generation import GenerationDecoder
from retrieveall.decoders.tagging import TaggingDecoder
from retrieveall.tokens import TokenCodec

__all__ = ["complete_config", "make_decoder"]

_DECODERS: dict[str, type[TaggingDecoder] | type[GenerationDecoder]] = {
    "tagging": TaggingDecoder,
    "generation": GenerationDecoder,
}


def make_decoder(config: ModelConfig, codec: TokenCodec) -> Decoder:
    """The decoder for ``config.decoder``.

    Raises:
        ConfigError: the settings do not fit the tokenizer.
    """
    return _DECODERS[config.decoder.kind](config, codec)


def complete_config(config: ModelConfig, codec: TokenCodec) -> ModelConfig:
    """Fill in the settings that depend on the tokenizer, such as tag tokens.

    Raises:
        ConfigError: the tokenizer has too few tag tokens; for a generating model, it has no end token or cannot encode
            the labels; with ``prompt.chat``, it has no chat template.
    """
    if config.prompt.chat:
        codec.chat_frame()
    return _DECODERS[config.decoder.kind].complete(config, codec)
