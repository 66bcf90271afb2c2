"""Hooks of mkdocs: pages for README.md and for the files of the repository that the documents link to.

The documents live in docs/ and link as on a code host: ``../Dockerfile``, ``../src/retrieveall/models/base/README.md``.
In the site, README.md is the first page and every linked file outside of docs/ is a page or a file under ``files/``, so
no link needs the address of a code host.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
FIRST = "index.md"

_DOWNLOADS = (".ipynb",)
"""Files that are copied as they are, and not shown on a page."""

_FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[#)])")
_ROW = re.compile(r"^\|.*", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_LANGUAGES = {".yaml": "yaml", ".cff": "yaml", ".py": "python", ".json": "json", "": "text"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of files outside of docs/."""
    pending = ["README.md", *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(pending)
    files.append(File.generated(config, FIRST, content=(ROOT / "README.md").read_text("utf-8")))
    while pending:
        for target in links_of(pending.pop()):
            if target not in seen and not target.startswith("docs/"):
                seen.add(target)
                pending += [target] if target.endswith(".md") else []
                files.append(File.generated(config, uri_of(target), content=page_of(target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let the links of a page lead to the pages of the site."""
    source = source_of(page.file.src_uri)
    parts = _FENCE.split(_without_front_matter(markdown))
    return "".join(part if number % 2 else _relinked(part, source) for number, part in enumerate(parts))


def links_of(source: str) -> Iterator[str]:
    """Files of the repository that a Markdown file links to, by their paths from the root."""
    for part in _FENCE.split((ROOT / source).read_text("utf-8"))[::2]:
        for link in _LINK.findall(part):
            yield posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def uri_of(path: str) -> str:
    """The source of the page that shows a file of the repository."""
    if path == "README.md":
        return FIRST
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    page = path if path.endswith((".md", *_DOWNLOADS)) else f"{path}.md"
    return f"files/{page}".replace("/README.md", "/card.md")


def source_of(uri: str) -> str:
    """The file of the repository that a page shows: the reverse of ``uri_of`` for Markdown."""
    if uri == FIRST:
        return "README.md"
    return uri.removeprefix("files/").replace("/card.md", "/README.md") if uri.startswith("files/") else f"docs/{uri}"


def page_of(path: str) -> str:
    """A file of the repository as Markdown.

    Raises:
        FileNotFoundError: a document links to a file that does not exist.
    """
    text = (ROOT / path).read_text("utf-8")
    if path.endswith((".md", *_DOWNLOADS)):
        return text
    language = _LANGUAGES.get(Path(path).suffix, "text")
    return f"# {path}\n\n````{language}\n{text.rstrip()}\n````\n"


def _without_front_matter(markdown: str) -> str:
    return re.sub(r"\A---\n.*?\n---\n", "", markdown, count=1, flags=re.DOTALL)


def _relinked(markdown: str, source: str) -> str:
    def to_page(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        return posixpath.relpath(uri_of(target), posixpath.dirname(uri_of(source)) or ".")

    return _ROW.sub(_with_pipes, _LINK.sub(to_page, markdown))


def _with_pipes(row: re.Match[str]) -> str:
    """A row of a table with plain pipes in its code: a code host needs backslashes there, Python-Markdown not."""
    return _CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0])
