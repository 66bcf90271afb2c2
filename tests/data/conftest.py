"""Files with a content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from format_samples import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes | object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str | bytes) else json.dumps(content, ensure_ascii=False)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write
