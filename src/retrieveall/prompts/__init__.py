"""Hierarchical prompts from versioned templates; training and inference use the same builder."""

from __future__ import annotations

from retrieveall.prompts.builder import Prompt, PromptBuilder
from retrieveall.prompts.chat import ChatFrame, chat_frame
from retrieveall.prompts.template import Piece, Template, available_templates, load_template

__all__ = [
    "ChatFrame",
    "Piece",
    "Prompt",
    "PromptBuilder",
    "Template",
    "available_templates",
    "chat_frame",
    "load_template",
]
