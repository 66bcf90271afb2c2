"""What the documents show is what the commands print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_generated_parts_of_the_documents_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_make_run_shows_all_languages() -> None:
    done = subprocess.run(
        [sys.executable, "examples/eight_languages.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("adapters") == 8
    found = {line.split()[1] for line in done.stdout.splitlines() if line.strip().startswith(("PER", "LOC", "ORG"))}
    assert {"Ada", "Gabriel", "Marie", "Юрий", "Angela", "李白", "織田信長"} <= found
    assert any(mention.startswith("세종") for mention in found)
