"""The stages before the model runs: window, retrieve, route, prompt; shared by prediction, training and planning."""

from __future__ import annotations

from retrieveall.stages.merge import merge_knowledge, merge_routes
from retrieveall.stages.pieces import Parts, Piece, PiecePrediction, cut_pieces, group_pieces, sum_faults
from retrieveall.stages.stages import Stages, TokenCounter
from retrieveall.stages.window import Window, cut_windows, windows_to_run

__all__ = [
    "Parts",
    "Piece",
    "PiecePrediction",
    "Stages",
    "TokenCounter",
    "Window",
    "cut_pieces",
    "cut_windows",
    "group_pieces",
    "merge_knowledge",
    "merge_routes",
    "sum_faults",
    "windows_to_run",
]
