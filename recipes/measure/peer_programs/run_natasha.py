"""Entities by natasha."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from natasha import Doc, NewsEmbedding, NewsNERTagger, Segmenter
from peer_protocol import answer


def main() -> None:
    segmenter, tagger = Segmenter(), NewsNERTagger(NewsEmbedding())

    def find(texts: list[str]) -> Iterator[list[tuple[int, int, str]]]:
        for text in texts:
            document = Doc(text)
            document.segment(segmenter)
            document.tag_ner(tagger)
            yield [(each.start, each.stop, each.type) for each in document.spans]

    answer(find, f"natasha {version('natasha')}")


if __name__ == "__main__":
    main()
