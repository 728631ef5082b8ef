"""What a character does, in generated examples: the rules, and exactly how likely they make each label.

The rules are made up, cheap and known, so that a model can be held against the truth. Of a character they
read five axes, the emotions, the first relation, the scene and the event; nothing else has any influence.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pretrain.character.schema import (
    ACTIONS,
    AWARENESS,
    CONTEXTS,
    EMOTIONS,
    REGISTERS,
    VOICES,
    Schema,
)

CONFIDENCE: Final = (0.5, 0.9)
UP: Final = (0.05, 0.25)
DOWN: Final = (-0.15, -0.05)
VALENCE_SPREAD: Final = 0.1
SHIFT_ABOVE: Final = 0.15
SHIFT_CHANCE: Final = 0.2
ABSENT_SELF_AWARENESS: Final = 0.5
LIVELY: Final = 0.7
QUIET: Final = 0.3
"""Tension above the one, or below the other, changes what people do."""
LOUD_OR_LOW: Final = 0.4

_EVENT_ACTIONS: Final[dict[str, dict[str, float]]] = {
    "Speech": {"Speak": 2},
    "Action": {"Perform": 2},
    "Movement": {"Move": 2},
    "Observation": {"Examine": 2},
    "Interaction": {"Perform": 1},
    "Emote": {"Wait": 1},
    "Inquiry": {"Examine": 1.5},
}
_REGISTER_ACTIONS: Final[dict[str, dict[str, float]]] = {
    "Aggressive": {"Resist": 1.5, "Speak": 1},
    "Vulnerable": {"Speak": 1, "Wait": 0.5},
    "Tender": {"Speak": 1.5, "Perform": 0.5},
    "Guarded": {"Wait": 1, "Examine": 1},
    "Inquisitive": {"Examine": 1.5, "Speak": 1},
    "Playful": {},
    "Neutral": {},
}
_REGISTER_CONTEXT: Final = {
    "Aggressive": ("EmotionalReaction", 2.0),
    "Vulnerable": ("EmotionalReaction", 1.5),
    "Tender": ("RelationalDynamic", 1.5),
    "Inquisitive": ("CurrentScene", 1.5),
}
_OTHER_CONTEXT: Final = ("CurrentScene", 1.0)
_REGISTER_VALENCE: Final = dict(zip(REGISTERS, (-0.3, 0.1, 0.3, -0.1, 0.0, 0.4, 0.1), strict=True))
_EVENT_SPEECH: Final = {"Speech": 0.8, "Emote": 0.3, "Observation": 0.4}
_OTHER_SPEECH: Final = 0.5
_REGISTER_DELTAS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    # register: (what rises, what falls)
    "Aggressive": (("anger",), ("trust",)),
    "Vulnerable": (("trust",), ("fear",)),
    "Tender": (("joy", "trust"), ()),
    "Playful": (("joy", "surprise"), ()),
    "Guarded": (("fear",), ("joy",)),
    "Inquisitive": (("surprise", "anticipation"), ()),
    "Neutral": ((), ()),
}


@dataclass(frozen=True)
class Odds:
    """What the rules say of a situation, before anything is drawn.

    Attributes:
        action, context, voice: probabilities, in the schema's order.
        occurs: probability that she speaks.
        valence: its mean; uniform within VALENCE_SPREAD of it.
        awareness, dominant: index; the rules leave nothing to chance here.
        up, down: indices of the emotions that rise, uniform in UP, and fall, uniform in DOWN. What has risen
            above SHIFT_ABOVE shifts with SHIFT_CHANCE.
    """

    action: tuple[float, ...]
    context: tuple[float, ...]
    voice: tuple[float, ...]
    occurs: float
    valence: float
    awareness: int
    dominant: int
    up: tuple[int, ...]
    down: tuple[int, ...]

    def expected(self, schema: Schema) -> list[float]:
        """The expectation of every label: probabilities of classes, means of numbers."""
        delta, shift = _zeros(), _zeros()
        for i in self.up:
            delta[i] = sum(UP) / 2
            shift[i] = (UP[1] - SHIFT_ABOVE) / (UP[1] - UP[0]) * SHIFT_CHANCE
        for i in self.down:
            delta[i] = sum(DOWN) / 2
        parts: dict[str, Sequence[float]] = {
            "action.type": self.action,
            "action.confidence": [sum(CONFIDENCE) / 2],
            "action.valence": [self.valence],
            "action.context": self.context,
            "speech.occurs": [self.occurs],
            "speech.register": self.voice,
            "speech.confidence": [sum(CONFIDENCE) / 2],
            "emotion.delta": delta,
            "emotion.shift": shift,
        }
        return self._row(schema, parts)

    def draw(self, schema: Schema, rng: random.Random) -> list[float]:
        """Labels; numbers have four decimals."""
        delta, shift = _zeros(), _zeros()
        for i in self.up:
            delta[i] = round(rng.uniform(*UP), 4)
            shift[i] = int(delta[i] > SHIFT_ABOVE and rng.random() < SHIFT_CHANCE)
        for i in self.down:
            delta[i] = round(rng.uniform(*DOWN), 4)
        valence = self.valence + rng.uniform(-VALENCE_SPREAD, VALENCE_SPREAD)
        parts: dict[str, Sequence[float]] = {
            "action.type": _drawn(self.action, rng),
            "action.confidence": [round(rng.uniform(*CONFIDENCE), 4)],
            "action.valence": [round(max(-1.0, min(1.0, valence)), 4)],
            "action.context": _drawn(self.context, rng),
            "speech.occurs": [int(rng.random() < self.occurs)],
            "speech.register": _drawn(self.voice, rng),
            "speech.confidence": [round(rng.uniform(*CONFIDENCE), 4)],
            "emotion.delta": delta,
            "emotion.shift": shift,
        }
        return self._row(schema, parts)

    def _row(self, schema: Schema, parts: dict[str, Sequence[float]]) -> list[float]:
        one_number = schema.output("thought.dominant").kind == "real"
        parts["action.target"] = [-1]
        parts["thought.awareness"] = _one_hot(self.awareness, len(AWARENESS))
        parts["thought.dominant"] = [self.dominant] if one_number else _one_hot(self.dominant, len(EMOTIONS))
        return [value for output in schema.outputs for value in parts[output.key]]


def odds(description: Mapping[str, Any]) -> Odds:
    """What the rules say of a description (see `pretrain.character.features`)."""
    axes: dict[str, float] = {key: axis["central"] for key, axis in description["axes"].items()}
    event, scene = description["event"], description["scene"]
    register, tension = event["register"], scene["tension"]
    rises, falls = _REGISTER_DELTAS[register]
    occurs = _EVENT_SPEECH.get(event["type"], _OTHER_SPEECH) + 0.2 * axes.get("expression_silence", 0.0)
    return Odds(
        action=_action(event["type"], register, tension, axes),
        context=_context(register, description["relations"]),
        voice=_voice(tension),
        occurs=max(0.0, min(1.0, occurs)),
        valence=_REGISTER_VALENCE[register] + 0.2 * axes.get("warmth_openness", 0.0),
        awareness=_awareness(axes.get("self_awareness", ABSENT_SELF_AWARENESS)),
        dominant=_dominant(description["emotions"]),
        up=tuple(EMOTIONS.index(name) for name in rises),
        down=tuple(EMOTIONS.index(name) for name in falls),
    )


def _action(event: str, register: str, tension: float, axes: Mapping[str, float]) -> tuple[float, ...]:
    weights = dict.fromkeys(ACTIONS, 1.0)
    added = [_EVENT_ACTIONS[event], _REGISTER_ACTIONS[register]]
    if tension > LIVELY:
        added.append({"Resist": 1, "Move": 0.5})
    if tension < QUIET:
        added.append({"Wait": 1, "Examine": 0.5})
    if axes.get("empathy", 0.0) > 0.6:
        added.append({"Speak": 1})
    if axes.get("distance_management", 0.0) > 0.6:
        added.append({"Wait": 1})
    for bonus in added:
        for action, weight in bonus.items():
            weights[action] += weight
    return _shares(list(weights.values()))


def _context(register: str, relations: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    weights = dict.fromkeys(CONTEXTS, 1.0)
    context, weight = _REGISTER_CONTEXT.get(register, _OTHER_CONTEXT)
    weights[context] += weight
    if relations and relations[0]["trust_benevolence"]["central"] > 0.5:
        weights["SharedHistory"] += 1
    return _shares(list(weights.values()))


def _voice(tension: float) -> tuple[float, ...]:
    shares = dict.fromkeys(VOICES, 0.0)
    if tension > LIVELY:
        shares["Declamatory"] = LOUD_OR_LOW
    elif tension < QUIET:
        shares["Whisper"] = LOUD_OR_LOW
    shares["Conversational"] = 1 - sum(shares.values())
    return tuple(shares.values())


def _awareness(self_awareness: float) -> int:
    for index, above in enumerate((0.7, 0.5, 0.3)):
        if self_awareness > above:
            return index
    return AWARENESS.index("Defended")


def _dominant(emotions: Mapping[str, Mapping[str, Any]]) -> int:
    """The strongest emotion; the last of several."""
    felt = [emotions[name]["intensity"] if name in emotions else 0.0 for name in EMOTIONS]
    return max(range(len(EMOTIONS)), key=lambda i: (felt[i], i))


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    return tuple(weight / sum(weights) for weight in weights)


def _drawn(probabilities: Sequence[float], rng: random.Random) -> list[float]:
    (index,) = rng.choices(range(len(probabilities)), probabilities)
    return _one_hot(index, len(probabilities))


def _one_hot(index: int, size: int) -> list[float]:
    return [int(i == index) for i in range(size)]


def _zeros() -> list[float]:
    return [0] * len(EMOTIONS)
