"""The chat template of an instruction-tuned model, as the two literals that stand around one message of the user.

The template is run once, by the tokenizer and in its sandbox, on a message that is a placeholder; what it writes
before and after is the frame. Texts are never put through it: they stay contents of the prompt, encoded as plain text,
so that a text with ``<|im_end|>`` or ``<|eot_id|>`` in it ends no turn.

Under a frame the user's turn is the prompt with the text; the assistant's turn, which the frame opens, is the answer,
or for the tagging decoder the second copy of the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieveall.errors import ConfigError

__all__ = ["ChatFrame", "chat_frame"]

_PLACEHOLDER = "placeholder-of-the-message"
_DATE = "01 Jan 2025"
"""Some templates write today's date; a prompt that changes over night would not be the one of training."""


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """``before`` and ``after`` the user's message; ``after`` ends where the assistant begins to write."""

    before: str
    after: str


def chat_frame(tokenizer: Any) -> ChatFrame:
    """The frame of a transformers tokenizer's chat template, without the token that begins every text.

    Raises:
        ConfigError: the tokenizer has no chat template, or one that cannot be used.
    """
    name = str(getattr(tokenizer, "name_or_path", "") or "the backbone")
    if getattr(tokenizer, "chat_template", None) is None:
        raise ConfigError(
            f"prompt.chat: expected a chat template in the tokenizer of {name}, found none; "
            "set prompt.chat to false, or take an instruction-tuned backbone"
        )
    message = [{"role": "user", "content": _PLACEHOLDER}]
    try:
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, date_string=_DATE)
    except Exception as error:  # whatever a template raises, the user needs one line
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"prompt.chat: the chat template of {name} failed: {detail}; set it to false") from error
    before, found, after = str(text).partition(_PLACEHOLDER)
    if not found or _PLACEHOLDER in after:
        raise ConfigError(
            f"prompt.chat: expected the chat template of {name} to hold the message once, it does not; set it to false"
        )
    begin = getattr(tokenizer, "bos_token", None)
    return ChatFrame(before.removeprefix(begin) if begin else before, after)
