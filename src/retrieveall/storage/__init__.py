"""Files of a model folder: written atomically, checked before a library opens them. No torch, no models."""

from __future__ import annotations

from retrieveall.storage.checks import check_safetensors, read_json, refuse_unsafe_weights
from retrieveall.storage.files import MANIFEST, safe_join, sha256_file, write_atomic
from retrieveall.storage.manifest import FileRecord, Manifest
from retrieveall.storage.transaction import Transaction, recover
from retrieveall.storage.truncation import is_truncated, is_truncated_stream, why_not_json

__all__ = [
    "MANIFEST",
    "FileRecord",
    "Manifest",
    "Transaction",
    "check_safetensors",
    "is_truncated",
    "is_truncated_stream",
    "read_json",
    "recover",
    "refuse_unsafe_weights",
    "safe_join",
    "sha256_file",
    "why_not_json",
    "write_atomic",
]
