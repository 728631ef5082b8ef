"""What weights begin with under `--prepare`: heads that copy, and topics.

That a token which came before comes again is a skill that a small model finds by chance, after millions of
tokens or never: two heads of two layers must fit together before either is worth anything. Here they do
from the start, and so do those that see which tool a question is for. Training leaves these heads as they
are, and learns everything else.

The stream between the layers is divided into `Fields` of directions. Layer 0 tells each token which two
came before it, and in which part of a conversation it stands. Two heads of layer 1 look at what came after
those two tokens where they stood before, and say it (induction, arXiv:2209.11895); a third averages the
topics of the last question. A head of layer 2 looks for what has them among the tools. Two heads there and
in each later layer say what they look at; where to look is theirs to learn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise
from typing import Final

import torch
from torch import Tensor

from personality_common.errors import ConfigError
from pretrain.lm.chat import ROLE_TOKENS, SPECIAL_IDS, Role
from pretrain.lm.config import ModelConfig
from pretrain.lm.model import Attention, Decoder, Layer
from pretrain.lm.topics import TOPICS, Topics

PARTS: Final[tuple[tuple[Role, ...], ...]] = (
    ("tools",),
    ("user",),
    ("assistant", "call", "none", "result"),
    ("text", "system"),
)
TOOLS, USER = 0, 1
STREAM: Final = 2.0
"""Length of a token's code. Far from 0, so that steps of an optimizer do not sweep away what is prepared."""
LEAST_CODE: Final = 48
SLOW: Final = 1.05
"""Radians that a pair of numbers turns by within the context, at most, if it is to hold what is compared."""
FAST: Final = 0.02
"""Radians per token that a pair turns by, at least, if it is to tell neighbours apart."""


@dataclass(frozen=True)
class Fields:
    """Directions of the stream.

    Attributes:
        code: random, of each token: what is read, and what is said (the embedding is the head, too).
        first, second: codes of the token before, and of the one before that.
        asked, answered: the topics of a token.
        topic: what the last question is about; the head reads it, so that what often answers it is likely.
        mark, part: which mark a token is, and which it stands behind.
        strength: how much a token tells of the topic.
        found: something fits the topic.
    """

    code: slice
    first: slice
    second: slice
    asked: slice
    answered: slice
    topic: slice
    mark: slice
    part: slice
    strength: slice
    found: slice


def fields_of(config: ModelConfig) -> Fields:
    """Where each is.

    Raises:
        ConfigError: the shape has no room for them.
    """
    sizes = {"first": 32, "second": 16, "mark": len(PARTS), "part": len(PARTS), "strength": 1, "found": 1}
    rest = [sizes.get(field.name, TOPICS) for field in fields(Fields)][1:]
    code = min(2 * config.head_size, config.embedding_size - sum(rest))
    if code < LEAST_CODE or config.heads < 4 or config.layers < 3 or len(slow_pairs(config)) < 8:
        raise ConfigError(
            f"--prepare needs a --size of 3 layers, 4 heads, an embedding_size of {LEAST_CODE + sum(rest)}, "
            "and a rope_base so high that 8 pairs of a head hardly turn, as demo has"
        )
    return Fields(*(slice(a, b) for a, b in pairwise(accumulate([code, *rest], initial=0))))


def turns(config: ModelConfig) -> list[float]:
    """Radians per token of each pair of a head."""
    half = config.head_size // 2
    return [config.rope_base ** (-pair / half) for pair in range(half)]


def slow_pairs(config: ModelConfig) -> list[int]:
    """Pairs that can hold what is compared at any distance."""
    return [pair for pair, turn in enumerate(turns(config)) if turn * config.context_length <= SLOW]


@torch.no_grad()
def prepare(model: Decoder, topics: Topics | None, seed: int) -> None:
    """Overwrite the weights with which a decoder begins.

    Args:
        topics: as `count_topics` makes them; None for none.
        seed: of the codes.

    Raises:
        ConfigError: the shape has no room.
    """
    f = fields_of(model.config)
    generator = torch.Generator().manual_seed(seed)
    _embed(model, f, topics, generator)
    first = _orthonormal(32, _size(f.code), generator)
    second = _orthonormal(16, 32, generator)
    _look_back(model, f, first, second @ first)
    _copy(model, f, first, second, generator)
    _find(model, f)
    _hold(model, f)
    for layer in range(2, model.config.layers):
        for number, part in enumerate(_halves(f.code)):
            head = _Head(model, layer, number)
            head.prefer({f.part.start + USER: 1.0})
            head.move(part, part, 0.35)


def _embed(model: Decoder, f: Fields, topics: Topics | None, generator: torch.Generator) -> None:
    embedding = model.embedding.weight
    embedding.mul_(0.5)
    code = torch.randn(len(embedding), _size(f.code), generator=generator)
    embedding[:, f.code] = STREAM * code / code.norm(dim=1, keepdim=True)
    for number, roles in enumerate(PARTS):
        for role in roles:
            embedding[SPECIAL_IDS[ROLE_TOKENS[role]], f.mark.start + number] = STREAM
    if topics is not None:
        asked, answered = map(torch.from_numpy, topics)
        embedding[:, f.asked], embedding[:, f.answered], embedding[:, f.topic] = (
            asked,
            answered,
            0.5 * answered,
        )
        embedding[:, f.strength.start] = asked.norm(dim=1)
        embedding[SPECIAL_IDS[ROLE_TOKENS["call"]], f.found] = STREAM / 2
        embedding[SPECIAL_IDS[ROLE_TOKENS["none"]], f.found] = -STREAM / 2
    # The codes are long: without it the first guesses would be far too sure.
    model.norm.weight.fill_(0.2)


def _look_back(model: Decoder, f: Fields, first: Tensor, second: Tensor) -> None:
    """Layer 0: the two tokens before, and the last mark."""
    for distance, target, codes in ((1, f.first, first), (2, f.second, second)):
        head = _Head(model, 0, distance - 1)
        head.look_back(distance)
        head.move(f.code, target, 0.22, codes)
    head = _Head(model, 0, 2)
    head.prefer({f.mark.start + number: 3.0 for number in range(len(PARTS))})
    head.prefer_near(10.0)
    head.move(f.mark, f.part, 0.2)


def _copy(model: Decoder, f: Fields, first: Tensor, second: Tensor, generator: torch.Generator) -> None:
    """Layer 1: this token and the one before are the two before the one that is looked at; it is said."""
    length = 2 * len(slow_pairs(model.config))
    of_first = 2.2 * _orthonormal(length, 32, generator)
    of_second = 1.76 * _orthonormal(length, 16, generator)
    for number, part in enumerate(_halves(f.code)):
        head = _Head(model, 1, number)
        head.compare(
            [(f.code, of_first @ first), (f.first, of_second @ second)],
            [(f.first, of_first), (f.second, of_second)],
        )
        head.move(part, part, 0.45)


def _find(model: Decoder, f: Fields) -> None:
    """Layer 1: the topic of the last question, from the tokens that tell most of it. Layer 2: what has it
    among the tools; where nothing has, the mark of the tools is looked at."""
    head = _Head(model, 1, 2)
    head.prefer({f.part.start + USER: 2.5, f.strength.start: 3.0})
    head.prefer_near(4.0)
    head.move(f.asked, f.topic, 0.8)
    head = _Head(model, 2, 2)
    same = 4.0 * torch.eye(TOPICS)
    head.compare([(f.topic, same)], [(f.answered, same)])
    head.prefer({f.part.start + TOOLS: 2.5, f.mark.start + TOOLS: 3.5})
    head.move(f.answered, f.topic, 0.5)
    found = torch.zeros(1, model.config.embedding_size)
    found[0, f.part.start + TOOLS], found[0, f.mark.start + TOOLS] = 1.0, -2.0
    head.move(slice(None), f.found, 1.2, found, after=TOPICS)


def _hold(model: Decoder, f: Fields) -> None:
    """Keep from training what it would sweep away before it is of use: what finds a tool, and until then
    what is in its fields. The heads that copy are of use at once, and learn more."""
    size = model.config.head_size
    read = torch.ones(model.config.embedding_size)
    for field in (f.asked, f.answered, f.mark, f.strength):
        read[field] = 0
    _mask(model.embedding.weight, read.clone())
    for field in (f.topic, f.part):
        read[field] = 0
    for index in range(3):
        layer = model.layers[index]
        assert isinstance(layer, Layer)
        others = torch.ones(model.config.embedding_size)
        others[2 * size : 3 * size] = 0
        a, forward = layer.attention, layer.feed_forward
        for linear in (a.query, a.key, a.value):
            _mask(linear.weight, others[:, None])
            _mask(linear.bias, others)
        written = read if index < 2 else torch.ones(len(read))
        _mask(a.output.weight, written[:, None] * others)
        _mask(a.output.bias, written)
        _mask(forward.down.bias, written)
        _mask(forward.down.weight, written[:, None])
        _mask(layer.attention_norm.weight, read)
        _mask(layer.attention_norm.bias, read)


def _mask(parameter: Tensor, free: Tensor) -> None:
    parameter.register_hook(lambda gradient: gradient * free.to(gradient.device))  # type: ignore[no-untyped-call]


class _Head:
    """A head whose weights are made nearly nothing, and then added to."""

    def __init__(self, model: Decoder, layer: int, number: int) -> None:
        found = model.layers[layer].attention
        assert isinstance(found, Attention)
        self.attention = found
        size = model.config.head_size
        self.size, self.turns, self.start = size, turns(model.config), number * size
        self.context = model.config.context_length
        own = slice(self.start, self.start + size)
        a = self.attention
        self.value, self.output = a.value.weight[own], a.output.weight[:, own]
        for weight in (a.query.weight[own], a.key.weight[own], self.value, self.output):
            weight.mul_(0.25)
        slow = slow_pairs(model.config)
        self.slow = [self.start + pair for pair in slow] + [self.start + size // 2 + pair for pair in slow]

    def look_back(self, distance: int) -> None:
        """Look so many tokens back: the phases of all fast pairs agree there alone."""
        self._wave({pair: turn * distance for pair, turn in enumerate(self.turns) if turn > FAST}, 13.0)

    def prefer_near(self, nats: float) -> None:
        """Prefer the nearer of two tokens by so much for each radian of a pair that takes half a turn or so
        for the context."""
        pair = next(pair for pair, turn in enumerate(self.turns) if turn * self.context <= 3.5)
        self._wave({pair: -math.pi / 2}, nats)

    def _wave(self, phases: dict[int, float], nats: float) -> None:
        """Add nats * cos(turn * distance - phase) to the scores, for each pair."""
        amplitude = (nats * self.size**0.5) ** 0.5
        query, key = self.attention.query.bias, self.attention.key.bias
        for pair, phase in phases.items():
            one, other = self.start + pair, self.start + self.size // 2 + pair
            query[one] += amplitude * math.cos(phase)
            query[other] -= amplitude * math.sin(phase)
            key[one] += amplitude

    def prefer(self, nats: dict[int, float]) -> None:
        """Add to the scores what the token that is looked at has in some directions, times so many nats."""
        row, query = self.slow[-1], 12.0
        self.attention.query.bias[row] += query
        for direction, weight in nats.items():
            self.attention.key.weight[row, direction] += weight * self.size**0.5 / query

    def compare(self, query: Sequence[tuple[slice, Tensor]], key: Sequence[tuple[slice, Tensor]]) -> None:
        """Add to the scores the product of matrices (n, field) times fields of the token that looks, and of
        the one that is looked at."""
        for linear, parts in ((self.attention.query, query), (self.attention.key, key)):
            for field, matrix in parts:
                linear.weight[self.slow[: len(matrix)], field] += matrix

    def move(
        self, source: slice, target: slice, gain: float, matrix: Tensor | None = None, after: int = 0
    ) -> None:
        """Add the field `source` of what is looked at, times a matrix and `gain`, to the field `target`,
        through the head's numbers from `after` on."""
        length = _size(target)
        through = slice(after, after + length)
        self.value[through, source] += gain**0.5 * (torch.eye(length) if matrix is None else matrix)
        self.output[target, through] += gain**0.5 * torch.eye(length)


def _halves(field: slice) -> tuple[slice, slice]:
    middle = (field.start + field.stop) // 2
    return slice(field.start, middle), slice(middle, field.stop)


def _size(field: slice) -> int:
    return int(field.stop - field.start)


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """(rows, columns) with orthonormal rows, or columns where these are fewer."""
    few, many = sorted((rows, columns))
    made: Tensor = torch.linalg.qr(torch.randn(many, few, generator=generator))[0]
    return made if rows == many else made.T
