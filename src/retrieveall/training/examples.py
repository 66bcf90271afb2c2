"""Training examples: the prompts of inference around gold sentences, with what must not be seen left out.

Every sentence is looked up in the knowledge base as if neither it nor its twins had ever been part of it
(``KnowledgeBase.retrieve(leave_out=...)``); without that a model learns to copy and fails on new text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from retrieveall.config import ModelConfig
from retrieveall.data import segment
from retrieveall.decoding import TagSet, to_word_spans, write_answer
from retrieveall.decoding.grammar import AnswerGrammar
from retrieveall.engines.encoding import TokenCodec, encode_input, encode_question
from retrieveall.knowledge import KnowledgeBase
from retrieveall.prompts import Prompt, PromptBuilder, load_template
from retrieveall.types import Knowledge, Sentence, Word

__all__ = ["Example", "ExampleBuilder"]


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids, and what is learnt at which of them: the model shall say ``tags[i]`` at ``reads[i]``.

    For the tagging decoder these are the tags of the words, for the generating one the next token of the answer, which
    stands in ``ids`` from ``question`` on. The words that may be hidden have their first tokens at ``starts`` and their
    last at ``ends``. ``text`` and ``gold``, its (start, end, label), are there for validation of answers.
    """

    ids: list[int]
    reads: list[int]
    starts: list[int]
    tags: list[int]
    language: str
    ends: list[int] = field(default_factory=list)
    question: int = 0
    text: str = ""
    gold: frozenset[tuple[int, int, str]] = frozenset()


class ExampleBuilder:
    """Turns gold sentences into examples, with the builder and the codec that inference uses.

    ``grammar`` is that of the answers of a generating model, None for one that tags: it encodes the gold answers, so
    that training sees the tokens which inference, with its forced ones, writes.
    """

    def __init__(
        self,
        config: ModelConfig,
        knowledge: KnowledgeBase | None,
        codec: TokenCodec,
        grammar: AnswerGrammar | None = None,
    ) -> None:
        self._config = config
        self._knowledge = knowledge
        self._codec = codec
        self._tags = TagSet(config.label_names)
        self._grammar = grammar
        self._repeat = config.decoder.attention == "repeat" and grammar is None
        self._prompts = PromptBuilder(
            load_template(config.prompt.template),
            config.labels,
            config.prompt,
            codec.count,
            config.retrieval.min_similarity,
            codec.chat_frame() if config.prompt.chat else None,
        )

    def knowledge_of(self, sentences: Sequence[Sentence], *, leave_out: bool) -> list[Knowledge]:
        """What retrieval finds for each sentence; with ``leave_out`` as if it had never been part of the pool."""
        if self._knowledge is None:
            return [Knowledge() for _ in sentences]
        return self._knowledge.retrieve(
            [sentence.text for sentence in sentences],
            self._config.prompt.context_examples,
            leave_out=sentences if leave_out else None,
            near_matches=self._config.retrieval.near_matches,
            partial_matches=self._config.retrieval.partial_matches,
        )

    def build(self, sentences: Sequence[Sentence], *, leave_out: bool = True, batch: int = 256) -> Iterator[Example]:
        """Examples in the order of ``sentences``.

        Raises:
            InputError: a label that the configuration does not have.
        """
        for first in range(0, len(sentences), batch):
            rows = sentences[first : first + batch]
            for sentence, knowledge in zip(rows, self.knowledge_of(rows, leave_out=leave_out), strict=True):
                yield self.encode(sentence, knowledge)

    def encode(self, sentence: Sentence, knowledge: Knowledge) -> Example:
        """One example from a sentence and what was found for it."""
        words = segment(sentence.text)
        tokens = sum(map(len, self._codec.words(words))) * (2 if self._repeat else 1)
        prompt = self._prompts.build(sentence.text, knowledge, input_tokens=tokens)
        if self._grammar is not None:
            return self._answer(self._grammar, sentence, prompt, words)
        encoded = encode_input(self._codec, prompt, words, repeat=self._repeat)
        tags = self._tags.encode(to_word_spans(words, sentence.entities), len(words))
        return Example(
            encoded.ids, encoded.reads, encoded.word_starts, tags, sentence.language or "", ends=encoded.reads
        )

    def _answer(self, grammar: AnswerGrammar, sentence: Sentence, prompt: Prompt, words: Sequence[Word]) -> Example:
        encoded = encode_question(self._codec, prompt, words)
        spans = to_word_spans(words, sentence.entities)
        answer = grammar.encode(write_answer(sentence.text, sentence.entities, grammar.spacing))
        tokens = [*answer, grammar.end_ids[0]]
        question = len(encoded.ids)
        named = {word for first, last, _ in spans for word in range(first, last)}
        others = [word for word in range(len(words)) if word not in named]  # what is to be copied must be seen
        return Example(
            encoded.ids + tokens,
            list(range(question - 1, question - 1 + len(tokens))),
            [encoded.word_starts[word] for word in others],
            tokens,
            sentence.language or "",
            ends=[encoded.reads[word] for word in others],
            question=question,
            text=sentence.text,
            gold=frozenset((words[first].start, words[last - 1].end, label) for first, last, label in spans),
        )
