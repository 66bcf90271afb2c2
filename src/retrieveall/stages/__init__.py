"""The stages before the model runs: window, retrieve, route, prompt; shared by prediction, training and planning."""

from __future__ import annotations

from retrieveall.stages.merge import merge_knowledge, merge_routes
from retrieveall.stages.stages import Stages, TokenCounter
from retrieveall.stages.window import Window, cut_windows, windows_to_run

__all__ = ["Stages", "TokenCounter", "Window", "cut_windows", "merge_knowledge", "merge_routes", "windows_to_run"]
