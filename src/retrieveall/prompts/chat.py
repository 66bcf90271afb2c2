"""The chat template of an instruction-tuned model, as two literals around one user message.

The template is rendered once with a placeholder message; the text before and after it is the frame. Input texts are
never rendered: they are encoded as plain text, so that ``<|im_end|>`` or ``<|eot_id|>`` in a text cannot end a turn.

The user's turn is the prompt with the text; the assistant's turn is the answer, or for the tagging decoder the second
copy of the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from retrieveall.errors import ConfigError

__all__ = ["ChatFrame", "chat_frame"]

_PLACEHOLDER = "placeholder-of-the-message"
_DATE = date(2025, 1, 1)
"""Replaces today's date in templates, which would make prompts differ from those in training."""


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """Literals ``before`` and ``after`` the user message; ``after`` opens the assistant's turn."""

    before: str
    after: str


def chat_frame(template: str | None, name: str, tokens: Mapping[str, str]) -> ChatFrame:
    """The frame of a chat template, without the begin-of-sequence token.

    Args:
        name: name of the tokenizer, for errors.
        tokens: special tokens available to the template, such as ``bos_token`` and ``eos_token``.

    Raises:
        ConfigError: there is no usable chat template.
    """
    if template is None:
        raise ConfigError(
            f"prompt.chat: expected a chat template in the tokenizer of {name}, found none; "
            "set prompt.chat to false, or use an instruction-tuned backbone"
        )
    from retrieveall.prompts.chat_template import render_chat  # jinja2 is not needed without a chat template

    try:
        text = render_chat(template, _PLACEHOLDER, tokens, _DATE)
    except Exception as error:  # a template may raise anything; the user gets one line
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"prompt.chat: the chat template of {name} failed: {detail}; set it to false") from error
    before, found, after = text.partition(_PLACEHOLDER)
    if not found or _PLACEHOLDER in after:
        raise ConfigError(
            f"prompt.chat: expected the chat template of {name} to contain the message once; set it to false"
        )
    return ChatFrame(before.removeprefix(tokens.get("bos_token", "")), after)
