"""Sentences in the forms that people write them in: joined, in capitals, in letters, lists, markup, with emoji.

Every function takes and returns sentences whose entities are exact spans of their text.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import regex
import yaml

from recipes.base.particles import RIEUL, final_consonant
from recipes.base.settings import VariationSettings
from retrieveall.errors import DataError
from retrieveall.types import Entity, Sentence

__all__ = ["Mentions", "Writer", "fill", "join", "map_mentions", "word_list"]

WORDS = Path(__file__).parent / "words"
CASED = frozenset(("en", "es", "fr", "ru", "de"))
SPACED = CASED | {"ko"}

# {PER}; {city}, a kind of name; {city:dat}, in a case; {city}[이|가], with its particle after consonants and vowels.
_SLOT = regex.compile(r"\{(?P<name>PER|LOC|ORG|[a-z]+(?::[a-z]+)?)\}(?:\[(?P<closed>[^|\]]*)\|(?P<open>[^\]]*)\])?")
EVERYDAY_LABELS = {"first": "PER", "surname": "PER", "person": "PER", "city": "LOC", "country": "LOC", "company": "ORG"}
_CASES = ("nom", "gen", "dat", "acc", "ins", "loc")
_WORD = regex.compile(r"\p{L}[\p{L}\p{M}'’]*")
_MARKUP = (
    ("**", "**"), ("*", "*"), ("_", "_"), ("__", "__"), ("`", "`"), ("<b>", "</b>"), ("<i>", "</i>"), ("[[", "]]"),
    ('<a href="https://example.org/x">', "</a>"), ("[", "](https://example.org/a)"), ("#", ""), ("~~", "~~"),
    ('"', '"'), ("“", "”"), ("«", "»"), ("「", "」"), ("(", ")"), ("<strong>", "</strong>"),
)  # fmt: skip
_EMOJI = (*"😀🎉👍🔥😂🙏✨🚀😢🎂⚽🏆📍📅✅🙌🤔💪", "➡️", "👩‍💻", "👨‍👩‍👧", "🇫🇷", "🇯🇵", "🏳️‍🌈", "👍🏽", "❤️")
_KEYS = {
    "PER": ("name", "author", "contact", "user", "Name", "CEO", "from", "Kunde", "nombre", "nom", "имя"),
    "LOC": ("city", "location", "country", "address", "Ort", "ciudad", "ville", "город", "place"),
    "ORG": ("company", "employer", "org", "team", "Firma", "empresa", "société", "компания", "publisher"),
}
_CURRENCIES = ("€", "$", "USD", "EUR", "円", "元", "₽", "원")
_SEPARATORS = ("\n", "\n", "\n\n", "\t", ", ", "; ", " | ", " / ", "\n- ", "\n• ", " - ", " · ", "\n* ")


@cache
def word_list(language: str) -> dict[str, list[str]]:
    """``words/LANGUAGE.yaml``: phrases, templates and titles."""
    found: dict[str, list[str]] = yaml.safe_load((WORDS / f"{language}.yaml").read_text(encoding="utf-8"))
    return found


@dataclass
class Mentions:
    """Mentions of the training data by language and label, each as often as it occurs."""

    of: dict[str, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def add(self, sentences: Iterable[Sentence]) -> None:
        for sentence in sentences:
            for entity in sentence.entities:
                text = sentence.text[entity.start : entity.end]
                if 2 <= len(text) <= 40 and "\n" not in text:
                    self.of[sentence.language or ""][entity.label].append(text)

    def draw(self, language: str, label: str, rng: random.Random) -> str:
        """One of them.

        Raises:
            DataError: there is none.
        """
        found = self.of[language].get(label) if language in self.of else None
        if not found:
            raise DataError(
                f"expected mentions of {label} in the training sentences of {language!r}, got none; read more sentences"
            )
        return rng.choice(found)


def map_mentions(sentence: Sentence, change: Callable[[str, str, int], tuple[str, int, int]]) -> Sentence:
    """The sentence with every mention replaced: ``change(mention, label, number)`` gives a text and the span in it."""
    text, entities, position = "", [], 0
    for number, entity in enumerate(sentence.entities):
        text += sentence.text[position : entity.start]
        new, start, end = change(sentence.text[entity.start : entity.end], entity.label, number)
        entities.append(Entity(len(text) + start, len(text) + end, entity.label, new[start:end]))
        text += new
        position = entity.end
    return replace(sentence, text=text + sentence.text[position:], entities=tuple(entities))


def join(sentences: Sequence[Sentence], glue: Sequence[str]) -> Sentence:
    """One text of several; ``glue[i]`` stands after sentence i."""
    text, entities = "", []
    for sentence, after in zip(sentences, [*glue, ""], strict=True):
        entities += [
            replace(each, start=each.start + len(text), end=each.end + len(text)) for each in sentence.entities
        ]
        text += sentence.text + after
    return replace(sentences[0], text=text, entities=tuple(entities))


def fill(template: str, draw: Callable[[str], str], language: str) -> Sentence:
    """A template with its slots filled: ``draw`` gets what is in the braces, a label or ``city`` or ``city:dat``."""
    text, entities, position = "", [], 0
    for slot in _SLOT.finditer(template):
        text += template[position : slot.start()]
        mention = draw(slot["name"])
        kind = slot["name"].partition(":")[0]
        entities.append(Entity(len(text), len(text) + len(mention), EVERYDAY_LABELS.get(kind, kind), mention))
        text += mention
        if slot["closed"] is not None:
            text += slot["closed"] if _is_closed(mention, slot["closed"]) else slot["open"]
        position = slot.end()
    return Sentence(text + template[position:], tuple(entities), language)


def _is_closed(mention: str, particle: str) -> bool:
    """Whether a particle after this name has its form for consonants; 로 stands after ㄹ, too."""
    final = final_consonant(mention[-1])
    if final is None:
        return mention[-1].lower() not in "aeiouy"
    return final != 0 and not (particle == "으로" and final == RIEUL)


def _same_length(sentence: Sentence, text: str) -> Sentence:
    """The sentence with another text of the same length; as it is where letters have changed their number."""
    if len(text) != len(sentence.text):
        return sentence
    entities = tuple(replace(each, text=text[each.start : each.end]) for each in sentence.entities)
    return replace(sentence, text=text, entities=entities)


class Writer:
    """Writes sentences of one language in other forms.

    Args:
        others: sentences to join with, of this and other languages.
    """

    def __init__(
        self,
        language: str,
        settings: VariationSettings,
        mentions: Mentions,
        others: Mapping[str, Sequence[Sentence]],
        rng: random.Random,
    ) -> None:
        self.language, self.mentions, self.rng = language, mentions, rng
        self._settings, self._others = settings, others
        self._words = word_list(language)
        self._space = " " if language in SPACED else ""

    def vary(self, sentence: Sentence) -> Sentence:
        """The sentence in one other form, or as it is, by the shares of the settings; several forms may meet."""
        shares, chance, own = self._settings, self.rng.random, sentence.id
        if sentence.entities and chance() < shares.swapped:
            sentence = self._swap(sentence, self.language, 0.6)
        elif sentence.entities and chance() < shares.foreign:
            sentence = self._swap(sentence, self.rng.choice(sorted(self.mentions.of)), 0.5)
        if chance() < shares.titled:
            sentence = self._title(sentence)
        if self.language in CASED:
            pick = chance()
            if pick < shares.capitals:
                sentence = _same_length(sentence, sentence.text.upper())
            elif pick < shares.capitals + shares.lower:
                sentence = _same_length(sentence, sentence.text.lower())
            elif pick < shares.capitals + shares.lower + shares.headline:
                sentence = _same_length(sentence, _WORD.sub(lambda m: m[0][0].upper() + m[0][1:], sentence.text))
        if chance() < shares.marked:
            sentence = self._markup(sentence)
        if chance() < shares.wrapped and self.language in SPACED:
            sentence = _same_length(sentence, self._wrap(sentence.text))
        if chance() < shares.joined:
            sentence = self._join(sentence)
        if chance() < shares.letter:
            sentence = self._letter(sentence)
        if chance() < shares.emoji:
            sentence = self._emoji(sentence)
        return replace(sentence, id=own)  # also behind a greeting: what has this id is not retrieved for it

    def template(self) -> Sentence:
        """A sentence of the list ``with_names``, or an opening of a letter."""
        kind = "with_names" if self.rng.random() < 0.8 else "greetings"
        return fill(self.rng.choice(self._words[kind]), self._person_or(self.language), self.language)

    def everyday(self) -> Sentence:
        """A short sentence with well-known and other names, such as people type first."""
        return fill(self.rng.choice(self._words["everyday"]), self._everyday_name, self.language)

    def names(self) -> Sentence:
        """Names alone, or several by lines and in cells, some as data with keys."""
        rng = self.rng
        count = rng.choice((1, 1, 2, 3, 4, 6))
        mixed = rng.random() < 0.15
        items = []
        label = rng.choice(("PER", "LOC", "ORG"))
        for _ in range(count):
            if rng.random() < 0.5:
                label = rng.choice(("PER", "LOC", "ORG"))
            language = rng.choice(sorted(self.mentions.of)) if mixed else self.language
            mention = self.mentions.draw(language, label, rng)
            items.append(Sentence(mention, (Entity(0, len(mention), label, mention),), self.language))
        if rng.random() < 0.2:
            return self._record(items)
        if count > 1 and rng.random() < 0.25:  # cells between names that are none
            items = [each for item in items for each in (item, self._cell())]
        separator = rng.choice(_SEPARATORS)
        return join(items, [separator] * (len(items) - 1))

    def phrase(self) -> Sentence:
        """A short text without a name."""
        kinds = ("phrases", "everyday_phrases", "words", "subjects", "signs")
        kind = self.rng.choices(kinds, (6, 3, 2, 2, 1))[0]
        text = self._sign() if kind == "signs" else self.rng.choice(self._words[kind])
        if self.language in CASED and self.rng.random() < 0.15:
            text = self.rng.choice((text.upper(), text.lower(), text.capitalize()))
        if self.rng.random() < 0.1:
            text += self.rng.choice((".", "!", "?", "...", " 🙂", ":", " !"))
        if self.rng.random() < 0.15:
            text += self.rng.choice((" ", "\n")) + self.rng.choice(self._words["phrases"])
        return Sentence(text, (), self.language)

    def fragment(self, sentence: Sentence) -> Sentence | None:
        """A few words of a sentence, at least one word away from any mention; None where there are none."""
        pieces = sentence.text.split(" ") if self._space else list(sentence.text)
        size = self.rng.randint(1, 6) if self._space else self.rng.randint(2, 12)
        first = self.rng.randrange(max(1, len(pieces) - size))
        start = sum(len(each) + len(self._space) for each in pieces[:first])
        text = self._space.join(pieces[first : first + size])
        if any(each.start <= start + len(text) + 1 and start <= each.end + 1 for each in sentence.entities):
            return None
        text = text.strip(" ,;:-–—()")
        if self.language in CASED and self.rng.random() < 0.5:
            text = text[:1].upper() + text[1:]
        return Sentence(text, (), self.language) if regex.search(r"\p{L}", text) else None

    def _person_or(self, language: str) -> Callable[[str], str]:
        return lambda label: self.mentions.draw(language, label, self.rng)

    def _everyday_name(self, slot: str) -> str:
        """Mostly of the language's own list; now and then of another's or a mention, where no case is asked for."""
        kind, _, case = slot.partition(":")
        chance = 0.0 if case else self.rng.random()
        if chance > 0.75:
            return self.mentions.draw(self.language, EVERYDAY_LABELS[kind], self.rng)
        own = self._words if chance < 0.65 else word_list(self.rng.choice(sorted(self.mentions.of)))
        names = own.get(kind) or self._words[kind]
        forms = self.rng.choice(names).split("|")
        return forms[_CASES.index(case or "nom") if len(forms) > 1 else 0]

    def _swap(self, sentence: Sentence, language: str, share: float) -> Sentence:
        def change(mention: str, label: str, number: int) -> tuple[str, int, int]:
            if self.rng.random() < share and label in self.mentions.of.get(language, ()):
                mention = self.mentions.draw(language, label, self.rng)
            return mention, 0, len(mention)

        return map_mentions(sentence, change)

    def _title(self, sentence: Sentence) -> Sentence:
        titles, honorifics = self._words["titles"], self._words["honorifics"]

        def change(mention: str, label: str, number: int) -> tuple[str, int, int]:
            if label != "PER":
                return mention, 0, len(mention)
            before = self.rng.choice(titles) if not honorifics or self.rng.random() < 0.2 else ""
            after = self.rng.choice(honorifics) if honorifics and not before else ""
            return before + mention + after, len(before), len(before) + len(mention)

        return map_mentions(sentence, change)

    def _markup(self, sentence: Sentence) -> Sentence:
        left, right = self.rng.choice(_MARKUP)
        if not sentence.entities:
            return replace(sentence, text=left + sentence.text + right)
        chosen = self.rng.randrange(len(sentence.entities)) if self.rng.random() < 0.6 else None

        def change(mention: str, label: str, number: int) -> tuple[str, int, int]:
            if chosen is not None and number != chosen:
                return mention, 0, len(mention)
            return left + mention + right, len(left), len(left) + len(mention)

        return map_mentions(sentence, change)

    def _wrap(self, text: str) -> str:
        """Some spaces as line breaks, as in text that was wrapped at a width."""
        width = self.rng.choice((20, 30, 40, 60))
        out, column = [], 0
        for character in text:
            column = 0 if character == "\n" else column + 1
            if character == " " and column > width * 0.8:
                character, column = "\n", 0
            out.append(character)
        return "".join(out)

    def _join(self, sentence: Sentence) -> Sentence:
        language = self.language if self.rng.random() < 0.8 else self.rng.choice(sorted(self._others))
        if not self._others[language]:
            return sentence
        more = [self.rng.choice(self._others[language]) for _ in range(self.rng.choice((1, 1, 2)))]
        sentences = [sentence, *more] if self.rng.random() < 0.5 else [*more, sentence]
        glue = []
        for left in sentences[:-1]:
            ended = regex.search(r"[.!?。！？…]['\"”»)」]?$", left.text) is not None
            space = "" if left.language in ("zh", "ja") and self.rng.random() < 0.8 else " "
            lines = self.rng.choice(("\n", "\n\n"))
            glue.append(space if ended and self.rng.random() < 0.75 else lines)
        return replace(join(sentences, glue), language=self.language)

    def _letter(self, sentence: Sentence) -> Sentence:
        rng, words = self.rng, self._words
        parts, glue = [sentence], []
        if rng.random() < 0.7:
            parts.insert(0, fill(rng.choice(words["greetings"]), self._first_name, self.language))
            glue.append(rng.choice(("\n", "\n\n", "\n\n")))
        if rng.random() < 0.7:
            parts.append(Sentence(rng.choice(words["closings"]), (), self.language))
            glue.append(rng.choice(("\n", "\n\n")))
            name = self._first_name("PER")
            parts.append(Sentence(name, (Entity(0, len(name), "PER", name),), self.language))
            glue.append("\n")
        return join(parts, glue)

    def _first_name(self, label: str) -> str:
        name = self.mentions.draw(self.language, label, self.rng)
        if label == "PER" and " " in name and self.rng.random() < 0.6:
            first, *_, last = name.split(" ")
            short = self.rng.choice((first, last))
            name = short if len(short) > 2 and short[0].isalpha() and short[-1].isalpha() else name
        return name

    def _emoji(self, sentence: Sentence) -> Sentence:
        emoji = self.rng.choice(_EMOJI)
        place = self.rng.random()
        if place < 0.3:
            return join([Sentence(emoji, (), self.language), sentence], [self.rng.choice(("", " "))])
        if place < 0.6 or not sentence.entities:
            end = Sentence(emoji * self.rng.choice((1, 1, 2, 3)), (), self.language)
            return join([sentence, end], [self.rng.choice(("", " "))])
        chosen = self.rng.randrange(len(sentence.entities))
        before = self.rng.random() < 0.4
        space = self.rng.choice(("", " "))

        def change(mention: str, label: str, number: int) -> tuple[str, int, int]:
            if number != chosen:
                return mention, 0, len(mention)
            if before:
                lead = emoji + space
                return lead + mention, len(lead), len(lead) + len(mention)
            return mention + space + emoji, 0, len(mention)

        return map_mentions(sentence, change)

    def _record(self, items: Sequence[Sentence]) -> Sentence:
        """The names as values of a JSON object or of lines with keys."""
        style = self.rng.choice(("json", "yaml", "query"))
        before, between, after = {
            "json": ('{"', '", "', '"}'), "yaml": ("", "\n", ""), "query": ("", "&", ""),
        }[style]  # fmt: skip
        value = {"json": '": "', "yaml": ": ", "query": "="}[style]
        parts: list[Any] = [Sentence(before, (), self.language)]
        for number, item in enumerate(items):
            key = self.rng.choice(_KEYS[item.entities[0].label])
            parts += [Sentence((between if number else "") + key + value, (), self.language), item]
        return join([*parts, Sentence(after, (), self.language)], [""] * len(parts))

    def _cell(self) -> Sentence:
        kind = self.rng.random()
        text = self._sign() if kind < 0.6 else self.rng.choice(self._words["words"])
        return Sentence(text, (), self.language)

    def _sign(self) -> str:
        """Numbers, dates, codes, punctuation, emoji."""
        rng = self.rng
        return rng.choice(
            (
                str(rng.randrange(10 ** rng.randint(1, 9))),
                f"{rng.randint(1, 28)}.{rng.randint(1, 12)}.{rng.randint(1900, 2030)}",
                f"{rng.randint(1900, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
                f"{rng.randrange(24)}:{rng.randrange(60):02}",
                f"{rng.randrange(1000)}.{rng.randrange(100):02} {rng.choice(_CURRENCIES)}",
                f"{rng.randrange(101)}%",
                "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789-") for _ in range(rng.randint(4, 12))),
                rng.choice(
                    (".", "...", "?", "!", "-", "--", "n/a", "?!", "***", "#", "OK", "ok", ":)", "👍", "✅", "+1")
                ),
                rng.choice(_EMOJI) * rng.choice((1, 1, 2)),
                f"v{rng.randrange(10)}.{rng.randrange(20)}.{rng.randrange(10)}",
                f"https://example.{rng.choice(('org', 'com', 'net'))}/{rng.randrange(10**6)}",
                f"#{rng.randrange(10**5)}",
            )
        )
