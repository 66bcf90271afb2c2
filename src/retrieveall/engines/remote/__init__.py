"""Engines whose model runs on a server; torch is not imported."""
