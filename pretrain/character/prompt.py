"""An answer as lines of a prompt."""

from __future__ import annotations

from typing import Final

import numpy as np

from personality_common.prompt import prompt_block
from pretrain.character.decoding import Answer, Delta, round_half_away

TONE: Final = float(np.float32(0.3))
"""Valence beyond it has a word; a float32, as valences are."""

_ABOUT: Final = {
    "SharedHistory": "what they have shared",
    "CurrentScene": "the present scene",
    "EmotionalReaction": "what this stirs",
    "RelationalDynamic": "how the two stand",
    "WorldResponse": "the world around",
}
_KNOWN: Final = {
    "Articulate": "can say it",
    "Recognizable": "would recognise it if named",
    "Preconscious": "shows in behaviour, unnamed",
    "Defended": "avoids it, do not let the character say it",
    "Structural": "colours what is noticed, never said",
}
UNSPOKEN: Final = ("Defended", "Structural")


def character_block(name: str, answer: Answer) -> str:
    """The block of one answer: what she does, whether she speaks, what leads inside, what shifts.

    Percentages are those of the calibrated softmax. Of an emotion that she avoids, nothing in the block says
    that she could name it.

    Raises:
        DataError: the name cannot stand in a prompt (see `personality_common.prompt`).
    """
    action, speech, thought = answer.action, answer.speech, answer.thought
    second, second_p = action.second
    does = (
        f"{action.type.lower()} ({_percent(action.p)}; else {second.lower()} {_percent(second_p)}), "
        f"about: {_ABOUT[action.context]}, tone: {_tone(action.valence)}"
    )
    aloud = f"yes ({_percent(speech.p)}), voice: {speech.register.lower()}" if speech.occurs else "no"
    unspoken = thought.dominant if thought.awareness in UNSPOKEN else None
    shifts = ", ".join(_shift(delta, unspoken) for delta in answer.deltas) or "none"
    return prompt_block(
        f"{name} now",
        [
            ("does", does),
            ("says aloud", aloud),
            ("inside", f"{thought.dominant} leads; {_KNOWN[thought.awareness]}"),
            ("shifts", shifts),
        ],
    )


def _shift(delta: Delta, unspoken: str | None) -> str:
    aware = " (becoming aware of it)" if delta.shift and delta.emotion != unspoken else ""
    return f"{delta.emotion} {_signed(delta.change)}{aware}"


def _tone(valence: float) -> str:
    word = "warm" if valence > TONE else "cold" if valence < -TONE else "even"
    return f"{word} {_signed(valence)}"


def _signed(value: float) -> str:
    return f"{round_half_away(100 * value) / 100:+.2f}"


def _percent(p: float) -> str:
    return f"{round_half_away(100 * p)} %"
