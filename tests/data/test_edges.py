"""Which words hold a letter, and which may stand at the edge of an entity."""

from __future__ import annotations

import pytest

from retrieveall.data import has_letter, may_be_edge, segment

EMOJI = "🎉 👍 👍🏽 👨‍👩‍👧 🏳️‍🌈 🇩🇪 1️⃣ #️⃣ ❤ ❤️ ☺ ✓ ⛄ ☎ ‼️ ©️ 🀄 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ⏰ ⬆"


@pytest.mark.parametrize("text", [*"*_`#|<>[]{}~=\\^＊｜［•▪●→★■─·・", *EMOJI.split()])
def test_what_is_no_edge(text: str) -> None:
    [word] = segment(text)
    assert not may_be_edge(word)
    assert not has_letter(word)


@pytest.mark.parametrize("text", [*".!?()\"'«»“”&+-–%$@/©®™♂", "Anna", "7", "北", "ー", "の", "U2", "e\u0301", "สี"])
def test_what_is_an_edge(text: str) -> None:
    [word] = segment(text)
    assert may_be_edge(word)
    assert has_letter(word) == any(map(str.isalpha, text))
