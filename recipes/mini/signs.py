"""Whether a sentence shows any sign of a name: rules by language, precision before recall.

The docstring of each rule says what it asks for; the lists of signs in ``words/`` were grown by reading what it let
through. Sentences with the name of a person, organisation or place, among random sentences that a rule accepted and
that one reader, a language model, read; the rules were tightened after each reading, and each is a new random sample:

==================  ===============  ==========================================
language            last reading     earlier readings, of 60 each
==================  ===============  ==========================================
en, es, fr, ru, de  0 of 60 each     0 each
zh                  1 of 120 (0.8%)  about 13, 4, 2, 4, 5, 3, 2, 2, 2, 4
ja                  0 of 60          2, 8, 0, 1, 0; and 2 of 30 held out
ko                  1 of 60 (1.7%)   6, 5, 2, 3, 5, 1
==================  ===============  ==========================================

The rules were made on the same text that these sentences come from, so the figures hold for it and no other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ahocorasick_rs import AhoCorasick

from recipes.mini.plain_text import CASED, HAN_RUN, WORD, Counts, characters, fold, pattern, word_list

__all__ = ["KATAKANA", "Rule", "has_no_name", "rest_has_no_name"]

Rule = Callable[[str], bool]

KATAKANA = re.compile(r"[ァ-ヺー]{2,}")
_HAN = "\u3400-\u9fff々"
_LATIN = re.compile(r"[A-Za-zÀ-ÿА-яＡ-Ｚａ-ｚα-ω]")
_QUOTES = re.compile(r"[《》「」『』·・•〈〉“”‘’\"'―—]")


def has_no_name(language: str, counts: Counts, mentions: Counter[str]) -> Rule:
    """The rule of a language for whole sentences; ``mentions`` are those of the training data."""
    if language in CASED:
        return _cased(language, counts, mentions)
    return {"zh": _chinese, "ja": _japanese, "ko": _korean}[language](counts, mentions)


def rest_has_no_name(language: str, counts: Counts, mentions: Counter[str], known: Sequence[str]) -> Rule:
    """The rule for what is left of a sentence without its ``known`` names.

    In languages without capital letters only signs count, and not the broadest: hardly a sentence would pass.
    """
    if language in CASED:
        return _cased(language, counts, mentions)
    if language == "ko":
        return _korean_rest(counts, known)
    automaton = AhoCorasick(list(known))
    lists = ("names", "organisations", "people", "sounds") if language == "zh" else ("people", "given_names")
    signs = pattern(language, *lists, "rest")

    def accept(text: str) -> bool:
        if automaton.find_matches_as_indexes(text) or signs.search(text):
            return False
        return not signs.search(text.translate(fold())) if language == "zh" else _only_loan_words(text)

    return accept


def _cased(language: str, counts: Counts, mentions: Counter[str]) -> Rule:
    """No capitalised word but the first, which must be a common word; no mention of two or more words."""
    lists = word_list(language)
    allowed, titles = frozenset(lists.get("capitalised", ())), frozenset(lists.get("titles", ()))
    sequences = _sequences(mentions)
    german = language == "de"
    nouns = _german_nouns(counts, mentions) if german else frozenset()

    def common(word: str) -> bool:
        low = counts.lower[word.lower()]
        return low >= 30 and low >= 4 * counts.inner[word]

    def name_like(left: str, word: str) -> bool:
        if word.islower():
            return not german and counts.inner[word.capitalize()] > counts.lower[word]
        return word not in allowed and (word not in nouns or left in nouns or left.lower() in titles)

    def accept(text: str) -> bool:
        words = WORD.findall(text)
        if not words[0][0].isupper() or not (common(words[0]) or words[0] in nouns or words[0] in allowed):
            return False
        if any(name_like(left, word) for left, word in zip(words, words[1:], strict=False)):
            return False
        low = [word.lower() for word in words]
        return not any(
            tuple(low[start : start + size]) in sequences
            for size in range(2, 6)
            for start in range(len(low) - size + 1)
        )

    return accept


def _sequences(mentions: Counter[str]) -> frozenset[tuple[str, ...]]:
    """Mentions of two to five words, lower-cased, one of which has a capital."""
    rows = (WORD.findall(mention) for mention in mentions)
    return frozenset(
        tuple(word.lower() for word in row) for row in rows if 2 <= len(row) <= 5 and not row[-1].islower()
    )


def _german_nouns(counts: Counts, mentions: Counter[str]) -> frozenset[str]:
    """Common nouns: used with an indefinite determiner, part of compounds, and in no mention."""
    named = {word for mention in mentions for word in WORD.findall(mention) if counts.lower[word] < 30}
    candidates = {
        word
        for word, total in counts.inner.items()
        if word[1:].islower()
        and len(word) > 3
        and counts.indefinite[word] >= max(3, 0.05 * total)
        and word not in named
    }
    parts: Counter[str] = Counter()
    for word in counts.inner:
        for cut in range(3, len(word) - 2):
            parts[word[:cut]] += 1
            parts[word[cut:].capitalize()] += 1
    return frozenset(word for word in candidates if parts[word] >= 2)


def _uncommon(counts: Counts, lines: int, alone: str) -> Rule:
    """Whether a text has a Han character in no pair that ``lines`` lines hold, and not among ``alone``."""

    def uncommon(text: str) -> bool:
        for i, c in enumerate(text):
            if c < "\u3400" or not c.isalpha() or c in alone:
                continue
            if max(counts.grams[text[max(i - 1, 0) : i + 1]], counts.grams[text[i : i + 2]]) < lines:
                return True
        return False

    return uncommon


def _matcher(mentions: Counter[str]) -> Rule:
    """Whether a text holds a mention of two or more characters, one of them a Han character or katakana."""
    kept = [m for m in mentions if len(m) > 1 and re.search(rf"[{_HAN}ァ-ヺ]", m) and not m.isascii()]
    automaton = AhoCorasick(kept)
    return lambda text: bool(automaton.find_matches_as_indexes(text))


def _shared_beginnings(mentions: Iterable[str], shape: str) -> Counter[str]:
    """The first two characters of mentions of a shape, where several begin alike."""
    starts = Counter(mention[:2] for mention in mentions if re.fullmatch(shape, mention))
    return Counter({start: number for start, number in starts.items() if number > 1})


def _chinese(counts: Counts, mentions: Counter[str]) -> Rule:
    """No mention, no sign of names, places or organisations, and every character in a common pair.

    Mentions and pairs are compared after folding the most frequent traditional characters to simplified ones.
    """
    folded: Counter[str] = Counter()
    for mention, number in mentions.items():
        folded[mention.translate(fold())] += number
    for start, number in _shared_beginnings(folded, rf"[{_HAN}]{{4}}.*").items():
        if counts.grams[start] < 40 * number:
            folded[start] += number
    rare, mentioned = _uncommon(counts, 32, characters("zh", "common")), _matcher(folded)
    signs = pattern("zh", "names", "places", "organisations", "people", "sounds")
    surnames = frozenset(characters("zh", "surnames"))

    def surname(text: str) -> bool:
        pairs = (text[i : i + 2] for i, c in enumerate(text) if c in surnames)
        return any(pair[1:] >= "\u3400" and pair[1:].isalpha() and counts.grams[pair] < 80 for pair in pairs)

    def accept(text: str) -> bool:
        plain = text.translate(fold())
        if any(sign.search(each) for sign in (_LATIN, _QUOTES, signs) for each in (text, plain)):
            return False
        return not (surname(plain) or mentioned(plain) or rare(plain))

    return accept


def _only_loan_words(text: str) -> bool:
    """Whether all katakana is everyday loan words."""
    return all(run in word_list("ja")["loan_words"] for run in KATAKANA.findall(text))


def _japanese(counts: Counts, mentions: Counter[str]) -> Rule:
    """No mention, no sign of names; katakana only in everyday loan words; common pairs of characters."""
    rare = _uncommon(counts, 15, characters("ja", "common"))
    mentioned = _matcher(mentions + _shared_beginnings(mentions, rf"[{_HAN}]{{4,5}}"))
    signs, people, kin = (
        pattern("ja", "places", "honoured", "given_names"),
        pattern("ja", "people"),
        pattern("ja", "kin"),
    )

    def name_like(run: str) -> bool:
        """A rare run of Han characters, or one that a particle follows nearly always and no modifier precedes."""
        total = counts.runs[run]
        return total < 20 or (counts.marked[run] > 0.8 * total and counts.modified[run] < 0.12 * total)

    def accept(text: str) -> bool:
        if not re.search(r"[ぁ-ん]", text) or re.search(r"\s", text) or not _only_loan_words(text):
            return False
        if any(sign.search(text) for sign in (_LATIN, _QUOTES, signs)) or people.search(kin.sub("", text)):
            return False
        if any(name_like(run) for _, run, _ in HAN_RUN.findall(text)):
            return False
        plain = KATAKANA.sub("、", text)
        return not mentioned(plain) and not rare(plain)

    return accept


def _korean(counts: Counts, mentions: Counter[str]) -> Rule:
    """Every word has a common stem, which is no mention and no word of one."""
    lists = word_list("ko")
    signs, particle = pattern("ko", "signs"), re.compile(f"(?:{'|'.join(lists['particles'])})$")
    verb, place = re.compile(f"(?:{'|'.join(lists['verbs'])})$"), re.compile(rf"^[가-힣]{{2,}}[{lists['places'][0]}]$")
    foreign, surnames = frozenset(characters("ko", "foreign")), frozenset(characters("ko", "surnames"))
    stems = counts.stems
    words = Counter(word for m, number in mentions.items() for word in WORD.findall(m) * number)
    named = {
        word
        for word, number in words.items()
        if len(word) > 1 and stems[word] < (150 if word in mentions else 40) * number
    }
    strong = {word for word in named if mentions[word] >= 4}.union(lists["names"])

    def noun(stem: str) -> bool:
        """A common stem that verbs, adjectives or plurals are also made of, as of names they are not."""
        lines = stems[stem]
        return lines >= 100 or (
            lines >= 25 and sum(stems[stem + suffix] for suffix in lists["suffixes"]) >= 0.02 * lines
        )

    def fits(word: str) -> bool:
        forms = [word]
        while len(word := forms[-1]) > 1 and (match := particle.search(word)) and match.start():
            forms.append(word[: match.start()])
        whole, stem = forms[0], forms[-1]
        if any(form in named for form in forms) or whole[:2] in strong or whole[:3] in strong:
            return False
        if (place.match(stem) and stems[stem] < 300) or (len(stem) > 3 and stem[-1] in foreign):
            return False
        if len(stem) == 1:
            return len(whole) == 1 or stems[whole] >= 30
        if any(noun(form) for form in forms if len(form) > 1) or stems[whole] >= 300:
            return True
        if verb.search(whole) and stems[whole[:2]] >= 60:
            return True
        return stems[stem] >= 8 and len(stem) < 4 and stem[0] not in surnames and not foreign.intersection(stem)

    return lambda text: not signs.search(text) and all(map(fits, WORD.findall(text)))


def _korean_rest(counts: Counts, known: Sequence[str]) -> Rule:
    """No sign of names, no word that begins like a known one, and only words whose beginning is common."""
    beginnings = {mention[:3] for mention in known}
    signs = pattern("ko", "signs")

    def common(word: str) -> bool:
        if any(word[:size] in beginnings for size in (2, 3)):
            return False
        return len(word) == 1 or counts.stems[word[:2]] >= 60

    return lambda text: not signs.search(text) and all(map(common, WORD.findall(text)))
