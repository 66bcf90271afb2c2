"""Builds the prompts of training and inference.

Turns a text and its knowledge into the hierarchical prompt P_e, se_1..se_n, P_c, sc_1..sc_m, P_t (design, section 1).
The caller supplies the token counter; no tokenizer is needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retrieveall.config import LabelConfig, PromptConfig
from retrieveall.prompts.chat import ChatFrame
from retrieveall.prompts.template import Piece, Template, fill, literal
from retrieveall.types import Entity, Knowledge, KnownEntity, Neighbour, Sentence

__all__ = ["Prompt", "PromptBuilder"]

STRENGTHS = ((5, "++"), (2, "+"), (0, ""))
"""Minimum count and its symbol: a small model reads two symbols more easily than numbers."""
UNSURE = "~"
"""For a near match, and for words that occur more often inside longer mentions than as a mention."""
PARTIAL = ((0.8, "*"), (0.0, "?"))
"""For partial matches: the minimum share of the mentions that has the label, and its symbol."""

DOUBTS = ((0.75, ""), (0.5, "-"), (0.0, "--"))
"""Minimum ``mention_share`` and its symbol: in Japanese two of five exact matches are doubtful, and fewer than half of
those are an entity."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The pieces before the text, and those between the text and its repeat or answer."""

    before: tuple[Piece, ...]
    repeat: tuple[Piece, ...]
    entities: tuple[KnownEntity, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()

    def render(self, text: str, *, repeated: bool = False) -> str:
        """The full text of the prompt, for display."""
        before = "".join(piece.text for piece in self.before) + text
        return before + "".join(piece.text for piece in self.repeat) + text if repeated else before


class PromptBuilder:
    """Builds prompts of one template for one label set.

    ``count`` returns the tokens of a piece. Neighbours below ``min_similarity`` are not shown. If prompt and input
    exceed ``config.max_tokens``, context examples are dropped first, starting with the farthest, then entity examples,
    starting with the least certain; the task and the input never. With ``chat``, prompt and text are one user message.
    """

    def __init__(
        self,
        template: Template,
        labels: Sequence[LabelConfig],
        config: PromptConfig,
        count: Callable[[Piece], int],
        min_similarity: float = -1.0,
        chat: ChatFrame | None = None,
    ) -> None:
        self._template = template
        self._config = config
        self._count = count
        self._min_similarity = min_similarity
        self._opening = tuple(literal(chat.before)) if chat else ()
        described = [piece for label in labels for piece in self._label(label)]
        self._task = (*fill(template.task.prompt, labels=described), *fill(template.text))
        self._repeat = (*fill(template.repeat), *(literal(chat.after) if chat else ()))

    @property
    def task(self) -> tuple[Piece, ...]:
        """The fixed pieces of every prompt: the task and the frame of the text."""
        return (*self._opening, *self._task, *self._repeat)

    @property
    def room(self) -> int:
        """Token budget of all copies of the text: what the task leaves, at least half of the total."""
        task = self._tokens(self.task)
        return max(self._config.max_tokens - task, self._config.max_tokens // 2)

    def build(self, text: str, knowledge: Knowledge, *, input_tokens: int = 0) -> Prompt:
        """The prompt for ``text``, whose copies take ``input_tokens`` of the budget."""
        fixed = self._tokens(self.task)
        budget = self._config.max_tokens - input_tokens - fixed
        entity_prompt, context_prompt = (
            fill(level.prompt) for level in (self._template.entity, self._template.context)
        )

        chosen: dict[int, list[Piece]] = {}
        budget_entities = budget - self._tokens(entity_prompt)
        for index in self._most_certain(knowledge.entities):
            pieces = self._entity_example(text, knowledge.entities[index])
            budget_entities -= self._tokens(pieces)
            if budget_entities < 0:
                break
            chosen[index] = pieces
        entity_pieces = [*entity_prompt, *(piece for index in sorted(chosen) for piece in chosen[index])]
        if not chosen:
            entity_pieces = []

        budget -= self._tokens(entity_pieces) + self._tokens(context_prompt)
        context_pieces: list[Piece] = []
        shown: list[Neighbour] = []
        for neighbour in knowledge.neighbours[: self._config.context_examples]:
            if neighbour.similarity < self._min_similarity:
                break
            pieces = self._context_example(neighbour.sentence)
            budget -= self._tokens(pieces)
            if budget < 0:
                break
            context_pieces += pieces
            shown.append(neighbour)
        if shown:
            context_pieces = [*context_prompt, *context_pieces]

        return Prompt(
            before=(*self._opening, *entity_pieces, *context_pieces, *self._task),
            repeat=self._repeat,
            entities=tuple(knowledge.entities[index] for index in sorted(chosen)),
            neighbours=tuple(shown),
        )

    def _tokens(self, pieces: Sequence[Piece]) -> int:
        return sum(self._count(piece) for piece in pieces)

    def _label(self, label: LabelConfig) -> list[Piece]:
        return fill(self._template.task.label, name=label.name, definition=label.definition or label.name)

    def _most_certain(self, entities: Sequence[KnownEntity]) -> list[int]:
        """Indices of the entity examples to show, best first: exact, near, partial; frequent before rare."""
        ranked = sorted(
            range(len(entities)),
            key=lambda i: (entities[i].partial, -entities[i].similarity, -sum(entities[i].label_counts().values()), i),
        )
        return ranked[: self._config.entity_examples]

    def _entity_example(self, text: str, entity: KnownEntity) -> list[Piece]:
        counts = entity.label_counts()
        count = sum(counts.values())
        if entity.partial:
            strength = next(sign for least, sign in PARTIAL if counts[entity.label] >= least * count)
        elif entity.similarity < 1 or entity.mostly_inside:
            strength = UNSURE
        else:
            strength = next(sign for least, sign in STRENGTHS if count >= least)
        return fill(
            self._template.entity.example,
            mention=text[entity.start : entity.end],
            surface=entity.surface,
            label=entity.label,
            count=str(count),
            strength=strength,
            doubt=next(sign for least, sign in DOUBTS if entity.mention_share >= least),
        )

    def _context_example(self, sentence: Sentence) -> list[Piece]:
        listed = [piece for entity in sentence.entities for piece in self._mention(sentence.text, entity)]
        marked: list[Piece] = []
        position = 0
        for entity in sentence.entities:
            if entity.start > position:
                marked.append(Piece(sentence.text[position : entity.start], literal=False))
            marked += self._mention(sentence.text, entity)
            position = entity.end
        if position < len(sentence.text):
            marked.append(Piece(sentence.text[position:], literal=False))
        return fill(self._template.context.example, text=sentence.text, marked=marked, entities=listed)

    def _mention(self, text: str, entity: Entity) -> list[Piece]:
        return fill(self._template.context.mention, mention=text[entity.start : entity.end], label=entity.label)
