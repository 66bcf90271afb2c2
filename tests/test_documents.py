"""What the documents show is what the commands print, and what they name exists."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from retrieveall.config import ModelConfig, parse_config

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "retrieveall"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
HISTORY = ("lab_book.md", "CHANGELOG.md")
"""These name files of earlier commits, too."""

_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_PATH = re.compile(r"\b(?:scripts|tests|src|examples|recipes|benchmarks)/[\w./-]+")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a document in one language."""
    return [code for found, code in _BLOCK.findall(path.read_text(encoding="utf-8")) if found == language]


def prose(path: Path) -> str:
    """A document without its code blocks."""
    return _BLOCK.sub("", path.read_text(encoding="utf-8"))


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
    rows = [line.split() for line in done.stdout.splitlines() if line.strip().startswith(("PER", "LOC", "ORG"))]
    found = {row[-1] for row in rows}
    assert {"Bradley", "Díaz", "Marchand", "Гагарин", "Krüger", "李白", "徳川家康", "세종대왕"} <= found


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_to_files_are_good(path: Path) -> None:
    targets = [target for target, _ in _LINK.findall(prose(path)) if "://" not in target]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def anchors(path: Path) -> set[str]:
    """The anchors that a code host gives the headings of a document."""
    headings = _HEADING.findall(prose(path))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_to_headings_are_good(path: Path) -> None:
    links = [(target, anchor) for target, anchor in _LINK.findall(prose(path)) if anchor and "://" not in target]
    lost = [link for link in links if link[1] not in anchors(path.parent / link[0] if link[0] else path)]
    assert lost == []


def test_every_public_name_is_in_the_reference() -> None:
    import retrieveall

    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: retrieveall\.([A-Za-z_]+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted({*retrieveall.__all__, "errors"} - {"__version__"})
    for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name not in HISTORY], ids=name_of)
def test_files_that_are_named_exist(path: Path) -> None:
    text = re.sub(r"`scripts/mini/`", "", path.read_text(encoding="utf-8"))  # said to be of earlier commits
    named = {found.rstrip("./") for found in _PATH.findall(text) if "NAME" not in found}
    assert sorted(each for each in named if not (ROOT / each).exists()) == []


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if blocks(path, "python")], ids=name_of)
def test_imports_in_examples_work(path: Path) -> None:
    for code in blocks(path, "python"):
        if "import spacy" in code:  # no dependency; tests/integrations runs these where it is installed
            pytest.importorskip("spacy")
        imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec("\n".join(map(ast.unparse, imports)), {})


def test_settings_in_the_documents_are_valid() -> None:
    path = ROOT / "docs" / "model_folder.md"
    (settings,) = blocks(path, "yaml")
    import yaml

    parse_config(ModelConfig, yaml.safe_load(settings), name_of(path))


def test_the_documents_install_what_the_service_and_its_client_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    before, client = text.split("\n## Client\n")
    for part, needed in ((before, {"fastapi", "uvicorn"}), (client.split("\n## ")[0], {"httpx"})):
        names = re.search(r"pip install -e '\.\[([\w,-]+)\]'", part)
        assert names is not None
        installed = {re.split(r"[<>=\[]", each)[0] for name in names[1].split(",") for each in extras[name]}
        assert needed <= installed


def packages_in_the_document() -> list[str]:
    """The packages of the table in architecture.md, from the lowest to the highest."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("## The packages, in import order")[1].split("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]


def test_the_table_of_packages_is_complete() -> None:
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(packages_in_the_document()) == sorted(there - {"__init__", "__main__"})


def test_the_table_of_packages_is_in_import_order() -> None:
    order = {name: place for place, name in enumerate(packages_in_the_document())}
    upwards = set()
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if own not in order or module is None or not module.startswith("retrieveall."):
                continue
            imported = module.split(".")[1]
            if order.get(imported, -1) > order[own]:
                upwards.add((own, imported))
    assert upwards == set()
