"""Sentences of plain text whose names are all known, labelled by the entity index: prose is not only what holds none.

    python scripts/mini/positives.py --lmtext DIR --panx DIR --knowledge runs/mini/knowledge --out runs/mini/positives

A sentence is taken where the index knows a name in it and what is left of it without its names shows no sign of one
more; the signs are those of ``negatives.py``, the broadest of them left away where hardly a sentence would pass. In
languages with capital letters a known given name and what follows it is a person. A model that has seen only PAN-X and
sentences without names learns that a full stop means "no name here"; in Chinese and Japanese it then found one name in
four. Only every second line is read; ``scripts/prose_names.py`` measures on the others.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ahocorasick_rs import AhoCorasick, MatchKind

sys.path.insert(0, str(Path(__file__).parent))
from negatives import (  # type: ignore[import-not-found]
    CASED,
    JA_GIVEN,
    JA_LOAN,
    JA_NAME,
    KATAKANA,
    KO_OUT,
    STATISTICS_LINES,
    ZH_COUNTRY,
    ZH_FOLD,
    ZH_ORG,
    ZH_PERSON,
    ZH_SOUND,
    Counts,
    Rule,
    count,
    fits_length,
    mentions_of,
    read_lines,
    rule_of,
    sentences_of,
)

from retrieveall.data import read_corpus, write_jsonl
from retrieveall.knowledge import KnowledgeBase
from retrieveall.types import Entity, KnownEntity, Sentence

BATCH = 256
MOST_PER_NAME = 15
"""Sentences of one name; else a few countries would be most of them."""
MOST_PER_LINE = {"zh": 20, "ja": 20, "ko": 20}
"""Sentences taken of one line where there are few; elsewhere three."""
_GOES_ON = {"zh": "人语語文籍裔族话話军軍队隊", "ja": "人語系製立軍", "ko": "인어계"}
"""A character after a name that makes it a people, a language or the beginning of a longer name."""
_PAUSE = {"zh": "，", "ja": "、"}
"""What stands for a name that is taken out, where there are no spaces."""
_CAPITALISED = re.compile(r"[^\W\d_a-zà-ÿа-я][\w’-]*(?: [^\W\d_a-zà-ÿа-я][\w’-]*)*")
_JA_RUN = re.compile("[ァ-ヺー]{2}")
_JA_PERSON = re.compile(r"([ァ-ヺー]{2,})(?:・[ァ-ヺー]{2,})*")
_ZH_PERSON_REST = re.compile(r"(?:[·•・][\u3400-\u9fff]{1,5}(?=[，。、的和与與说說在是]))?")
_ZH_SIGNS = re.compile(r"[省县縣镇鎮乡鄉州郡寺廟庙]|[A-Z《》·]")
_JA_SIGNS = re.compile(r"[県郡藩駅]|大学|高校|会社|神社|協会|鉄道|銀行|新聞|[A-Z・『』]")


@dataclass
class Names:
    """What PAN-X train says about the names of a language.

    ``labels`` has the label of each mention seen at least three times, 8 in 10 times with that label, and not more
    often as a word like any other; ``given`` the first names of people, each of at least five of them; in
    Chinese and Japanese those that a point separates from the rest.
    """

    labels: dict[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()


def around(text: str, names: Iterable[Entity]) -> Iterator[str]:
    """The stretches of the text before, between and after its names."""
    position = 0
    for name in names:
        yield text[position : name.start]
        position = name.end
    yield text[position:]


def names_of(language: str, panx: Path) -> Names:
    sentences = list(read_corpus(panx / language / "train.tsv", language=language))
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in sentences:
        for entity in sentence.entities:
            seen[entity.text][entity.label] += 1
            words = re.split(r"[·•・]" if language in ("zh", "ja") else r"\s", entity.text)
            if words[0] and (len(words) > 1 or language in CASED):
                first[words[0]][entity.label] += 1
    likely = {
        mention: label
        for mention, labels in seen.items()
        for label, number in labels.most_common(1)
        if len(mention) > 1 and labels.total() >= 3 and number >= 0.8 * labels.total()
    }
    mentions = list(likely)
    automaton = AhoCorasick(mentions, matchkind=MatchKind.LeftmostLongest)
    outside: Counter[str] = Counter()
    for sentence in sentences:
        rest = "\0".join(around(sentence.text, sentence.entities))
        outside.update(mentions[i] for i, _, _ in automaton.find_matches_as_indexes(rest))
    kept = {
        mention: label
        for mention, label in likely.items()
        if outside[mention] <= seen[mention].total() and not re.fullmatch("[ぁ-んー]+", mention)
    }
    given = frozenset(
        word
        for word, labels in first.items()
        if len(word) > 1 and labels["PER"] >= 5 and labels["PER"] >= 0.9 * labels.total()
    )
    return Names(kept, given)


def training_lines(lines: list[str]) -> list[str]:
    """Every second line, once, and none that is also among the others."""
    others = set(lines[::2])
    return [line for line in dict.fromkeys(lines[1::2]) if line not in others]


def whole(text: str, start: int, end: int) -> bool:
    """Whether no run of katakana goes on before or after."""
    return not any(_JA_RUN.match(text[border - 1 : border + 1]) for border in (start, end))


def find_names(text: str, known: Sequence[KnownEntity], language: str, counts: Counts, names: Names) -> list[Entity]:
    """Known mentions and, where there are capital letters, people by their given names."""
    found = []
    for entity in known:
        mention = text[entity.start : entity.end]
        label = names.labels.get(mention)
        if label is None or not whole(text, entity.start, entity.end):
            continue
        if language in CASED and (
            not mention[0].isupper() or (mention.isalpha() and counts.lower[mention.lower()] >= counts.inner[mention])
        ):
            continue
        found.append(Entity(entity.start, entity.end, label, mention))
    for start, end in people(text, language, counts, names.given):
        found = [name for name in found if name.end <= start or name.start >= end]
        found.append(Entity(start, end, "PER", text[start:end]))
    return sorted(found)


def people(text: str, language: str, counts: Counts, given: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Where a known given name stands, with what follows it."""
    if language in CASED:
        for run in _CAPITALISED.finditer(text):
            words = run.group().split()
            if words[0] in given and counts.lower[words[0].lower()] < counts.inner[words[0]] and len(words) <= 3:
                yield run.span()
    elif language == "ja":
        for run in _JA_PERSON.finditer(text):
            if run.group(1) in given:
                yield run.span()
    elif language == "zh" and given:
        for first in re.finditer("|".join(map(re.escape, sorted(given))), text):
            rest = _ZH_PERSON_REST.match(text, first.end())
            yield first.start(), rest.end() if rest else first.end()


def korean_rest(counts: Counts, names: Names) -> Rule:
    """No sign of names, no word that begins with a known one, and only words whose beginning is common."""
    beginnings = {mention[:3] for mention in names.labels}

    def common(word: str) -> bool:
        if any(word[:size] in beginnings for size in (2, 3)):
            return False
        return len(word) == 1 or counts.stems[word[:2]] >= 60

    return lambda text: not KO_OUT.search(text) and all(map(common, re.findall(r"[^\W\d_]+", text)))


def rest_rule(language: str, counts: Counts, mentions: Counter[str], names: Names) -> Rule:
    """Whether what is left of a sentence shows no sign of a name."""
    if language in CASED:
        return rule_of(language, counts, mentions)
    if language == "ko":
        return korean_rest(counts, names)
    automaton = AhoCorasick(list(names.labels))

    def accept(text: str) -> bool:
        if automaton.find_matches_as_indexes(text):
            return False
        if language == "zh":
            plain = text.translate(ZH_FOLD)
            patterns = (ZH_COUNTRY, ZH_ORG, ZH_PERSON, ZH_SOUND, _ZH_SIGNS)
            return not any(pattern.search(text) or pattern.search(plain) for pattern in patterns)
        if any(run not in JA_LOAN for run in KATAKANA.findall(text)):
            return False
        return not any(pattern.search(text) for pattern in (_JA_SIGNS, JA_NAME, JA_GIVEN))

    return accept


def without(text: str, names: Iterable[Entity], language: str) -> str:
    """The text with its names taken out, as a sentence again."""
    rest = re.sub(r"\s+", " ", _PAUSE.get(language, "").join(around(text, names))).lstrip(" ,，、")
    return rest[:1].upper() + rest[1:]


def labelled(
    texts: list[str], base: KnowledgeBase, accept: Rule, language: str, counts: Counts, names: Names
) -> Iterator[tuple[str, list[Entity]]]:
    """The texts with names, all of whose names are known."""
    found = base.retrieve(texts, 0, languages=[language], near_matches=False)
    for text, knowledge in zip(texts, found, strict=True):
        here = find_names(text, knowledge.entities, language, counts, names)
        if not here or any(text[name.end : name.end + 1] in (*_GOES_ON.get(language, ""),) for name in here):
            continue
        rest = without(text, here, language)
        if sum(map(str.isalpha, rest)) >= 4 and accept(rest):
            yield text, here


def vary(text: str, rng: random.Random, cased: bool) -> str:
    """One sentence in thirteen lower-cased where there is case, one in thirteen without its final punctuation."""
    draw = rng.random()
    if cased and draw < 0.075 and len(text.lower()) == len(text):
        return text.lower()
    return text.rstrip(".!?…。！？ ") if 0.075 <= draw < 0.15 else text


def select(
    lines: list[str],
    label: Callable[[list[str]], Iterator[tuple[str, list[Entity]]]],
    language: str,
    size: int,
    rng: random.Random,
) -> Iterator[Sentence]:
    """Up to ``size`` labelled sentences out of lines in random order."""
    seen: set[str] = set()
    uses: Counter[str] = Counter()
    order = rng.sample(lines, len(lines))
    for first in range(0, len(order), BATCH):
        texts = []
        for line in order[first : first + BATCH]:
            candidates = [text for text in sentences_of(line) if fits_length(text)]
            texts += rng.sample(candidates, min(MOST_PER_LINE.get(language, 3), len(candidates)))
        for text, names in label(texts):
            if text in seen or any(uses[name.text] >= MOST_PER_NAME for name in names):
                continue
            if len(seen) == size:
                return
            seen.add(text)
            uses.update(name.text for name in names)
            shown = vary(text, rng, language in CASED)
            if all(name.end <= len(shown) for name in names):
                entities = tuple(Entity(n.start, n.end, n.label, shown[n.start : n.end]) for n in names)
                yield Sentence(shown, entities, language)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lmtext", type=Path, required=True)
    parser.add_argument("--panx", type=Path, required=True)
    parser.add_argument("--knowledge", type=Path, required=True)
    parser.add_argument("--languages", default="en,es,fr,ru,de,zh,ja,ko")
    parser.add_argument("--count", type=int, default=2500, help="sentences a language, at most")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    base = KnowledgeBase.open(args.knowledge)
    for language in args.languages.split(","):
        started = time.monotonic()
        rng = random.Random(f"{args.seed} {language}")
        lines = read_lines(args.lmtext, language)
        counts = count(rng.sample(lines, min(len(lines), STATISTICS_LINES)), language)
        names = names_of(language, args.panx)
        accept = rest_rule(language, counts, mentions_of(language, args.panx), names)
        label = partial(labelled, base=base, accept=accept, language=language, counts=counts, names=names)
        rows = list(select(training_lines(lines), label, language, args.count, rng))
        write_jsonl(rows, args.out / f"{language}.jsonl")
        labels = Counter(entity.label for row in rows for entity in row.entities)
        shares = ", ".join(f"{number:,} {label}" for label, number in sorted(labels.items()))
        print(f"{language}: {len(rows):,} with {shares} in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
