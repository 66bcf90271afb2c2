"""The step that writes the training sentences: corpora, texts that are made, and all of it in many forms."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from recipes.base.corpora import Corpora
from recipes.base.settings import CorpusSettings, SentencesSettings
from recipes.base.variations import Mentions, Writer
from recipes.mini.sentences import read_sentences
from recipes.raw_text import raw_text
from retrieveall.data import write_jsonl
from retrieveall.types import Sentence

__all__ = ["write_sentences"]


def write_sentences(
    folder: Path,
    settings: SentencesSettings,
    corpora: CorpusSettings,
    data: Corpora,
    negatives: Path,
    plain_text: Path | None = None,
    joined_with_names: bool = True,
) -> None:
    """``train/``, ``pool/`` and ``validation/LANGUAGE.jsonl``.

    Args:
        plain_text: more running text, ``LANGUAGE.jsonl``.
        joined_with_names: join sentences with any others; else only with sentences of plain text without a name. What
            is joined may be retrieved, and of a text only the one sentence whose id it keeps is left out.
    """
    gold, plain = {}, {}
    mentions = Mentions()
    for language in data.languages:
        rng = random.Random(f"{settings.seed} {language}")
        panx, running = data.train(language, corpora, rng)
        running *= settings.repeats.get(language, 1)
        if plain_text is not None and (plain_text / f"{language}.jsonl").is_file():
            running += read_sentences(plain_text / f"{language}.jsonl")
        gold[language] = panx, running
        plain[language] = read_sentences(negatives / f"{language}.jsonl")
        mentions.add([*panx, *running])
    # What is joined to a sentence is raw text, whatever the sentence is.
    others = {
        language: [*(raw_text(each).sentence for each in running if joined_with_names), *plain[language]]
        for language, (_, running) in gold.items()
    }
    for language in data.languages:
        rng = random.Random(f"{settings.seed} {language} forms")
        writer = Writer(language, settings.variations, mentions, others, rng)
        made = list(_made(writer, settings, *gold[language], plain[language], rng))
        folders = {"train": made, "pool": data.pool(language)}
        folders["validation"] = data.validation(language, corpora.validation)
        for name, sentences in folders.items():
            (folder / name).mkdir(exist_ok=True)
            write_jsonl(sentences, folder / name / f"{language}.jsonl")
        characters = sum(len(each.text) for each in made)
        print(f"{language}: {len(made):,} sentences, {characters:,} characters", flush=True)


def _made(
    writer: Writer,
    settings: SentencesSettings,
    panx: Sequence[Sentence],
    running: Sequence[Sentence],
    plain: Sequence[Sentence],
    rng: random.Random,
) -> Iterator[Sentence]:
    share = settings.variations.raw

    def numbered(sentence: Sentence, number: int, kind: str) -> Sentence:
        return replace(sentence, id=f"{kind}:{number}")

    for sentence in [*panx, *running]:  # they keep their ids: retrieval is not to show them to themselves
        raw = raw_text(sentence).sentence if rng.random() < share else sentence
        yield writer.vary(raw)
    for number, sentence in enumerate(rng.sample(plain, min(settings.plain, len(plain)))):
        yield numbered(writer.vary(sentence), number, "plain")
    for number in range(settings.templates):
        yield numbered(writer.vary(writer.template()), number, "template")
    for number in range(settings.everyday):
        yield numbered(writer.vary(writer.everyday()), number, "everyday")
    for number in range(settings.lists):
        yield numbered(writer.names(), number, "list")
    for number in range(settings.phrases):
        yield numbered(writer.phrase(), number, "phrase")
    sources = (running or plain, plain or running)
    for number in range(settings.fragments):
        source = sources[number % 2]
        if source and (found := writer.fragment(raw_text(rng.choice(source)).sentence)) is not None:
            yield numbered(found, number, "fragment")
