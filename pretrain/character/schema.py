"""What the 453 inputs and the outputs mean: one table, from which every offset is computed.

`v1` is what the story engine has: a character's axes lie in the order of their ids, so that a slot means
another axis for another character, and the dominant emotion is one float. In `v2` a slot is an axis, and
the dominant emotion has a logit for each of the eight.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final, Literal, get_args

from personality_common.errors import ConfigError

SchemaName = Literal["v1", "v2"]
SCHEMA_NAMES: Final = get_args(SchemaName)
DEFAULT_SCHEMA: Final[SchemaName] = "v2"

FEATURES: Final = 453
OUTPUTS: Final = {"v1": 42, "v2": 49}
HEADS: Final = ("action", "speech", "thought", "emotion")

LAYERS: Final = ("Topsoil", "Sediment", "Bedrock", "Primordial")
PROVENANCES: Final = ("Authored", "Inferred", "Generated", "Confirmed", "Overridden")
AWARENESS: Final = ("Articulate", "Recognizable", "Preconscious", "Defended", "Structural")
EMOTIONS: Final = ("joy", "trust", "fear", "surprise", "sadness", "disgust", "anger", "anticipation")
ROLES: Final = ("Gate", "Bridge", "Hub", "Periphery")
SCENES: Final = ("Gravitational", "Connective", "Gate", "Threshold")
EVENTS: Final = ("Speech", "Action", "Movement", "Observation", "Interaction", "Emote", "Inquiry")
REGISTERS: Final = ("Aggressive", "Vulnerable", "Playful", "Guarded", "Neutral", "Tender", "Inquisitive")
ACTIONS: Final = ("Perform", "Speak", "Move", "Examine", "Wait", "Resist")
CONTEXTS: Final = (
    "SharedHistory", "CurrentScene", "EmotionalReaction", "RelationalDynamic", "WorldResponse",
)  # fmt: skip
VOICES: Final = ("Whisper", "Conversational", "Declamatory", "Internal")
AXES: Final = (
    "ambition", "curiosity", "devotion", "discipline", "distance_management", "empathy",
    "expression_silence", "grief", "guilt", "humor", "pride", "restlessness", "risk_appetite",
    "self_awareness", "stubbornness", "warmth_openness",
)  # fmt: skip
"""The axes that `v2` knows, in their slots: alphabetical, so that a character who has all of them is the
same in both schemas."""


@dataclass(frozen=True)
class Number:
    """One input."""

    name: str
    low: float
    high: float
    integer: bool = False

    @property
    def size(self) -> int:
        return 1


@dataclass(frozen=True)
class Choice:
    """One of several, as a one-hot; `default` is what a description may leave out."""

    name: str
    options: tuple[str, ...]
    default: str | None = None

    @property
    def size(self) -> int:
        return len(self.options)

    @cached_property
    def one_hots(self) -> dict[str, list[int]]:
        return {option: [int(option == other) for other in self.options] for option in self.options}


@dataclass(frozen=True)
class Group:
    """Fields that a description holds in an object of their own."""

    name: str
    fields: tuple[Number, ...]

    @property
    def size(self) -> int:
        return len(self.fields)

    @cached_property
    def names(self) -> dict[str, None]:
        return dict.fromkeys(field.name for field in self.fields)


Field = Number | Choice | Group
Keys = Literal["ids", "sorted ids", "list", "one"]


@dataclass(frozen=True)
class Region:
    """Slots of equal layout.

    Attributes:
        name: key of the description.
        slots: their names.
        keys: how a description fills them. `ids`: an object, by slot name. `sorted ids`: an object with any
            keys, in their order, as many as there are slots. `list`: from the first slot on. `one`: a
            single object, which must be there.
        fields: of a slot. A slot of zeros is empty.
    """

    name: str
    slots: tuple[str, ...]
    keys: Keys
    fields: tuple[Field, ...]

    @cached_property
    def width(self) -> int:
        return sum(field.size for field in self.fields)

    @property
    def size(self) -> int:
        return self.width * len(self.slots)

    @cached_property
    def names(self) -> dict[str, None]:
        return dict.fromkeys(field.name for field in self.fields)


Kind = Literal["class", "binary", "real", "noise", "constant"]


@dataclass(frozen=True)
class Output:
    """Neighbouring outputs that are decoded together.

    Attributes:
        head: model output that they are part of.
        name: within the head.
        kind: `class`: logits of a softmax. `binary`: a logit each. `real`: as they are, clamped. `noise`:
            what the data draw without looking at the features. `constant`: always -1 in the data.
        labels: a name for each number.
        low, high: where decoding clamps what is real.
    """

    head: str
    name: str
    kind: Kind
    labels: tuple[str, ...]
    low: float = -1.0
    high: float = 1.0

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def key(self) -> str:
        return f"{self.head}.{self.name}"

    @property
    def activation(self) -> str:
        return {"class": "softmax", "binary": "sigmoid"}.get(self.kind, "identity")

    @property
    def loss(self) -> str:
        return {"class": "cross-entropy", "binary": "binary cross-entropy"}.get(self.kind, "squared error")


@dataclass(frozen=True)
class Schema:
    """The meaning of every input and output; see the module."""

    name: SchemaName
    regions: tuple[Region, ...]
    outputs: tuple[Output, ...]

    def __post_init__(self) -> None:
        found = (sum(r.size for r in self.regions), sum(o.size for o in self.outputs))
        assert found == (FEATURES, OUTPUTS[self.name]), f"{self.name} has {found} inputs and outputs"

    @property
    def size(self) -> int:
        """Numbers that come out, over all heads."""
        return OUTPUTS[self.name]

    @cached_property
    def region_offsets(self) -> dict[str, int]:
        return dict(zip((r.name for r in self.regions), _starts(r.size for r in self.regions), strict=True))

    @cached_property
    def places(self) -> dict[str, slice]:
        """Where an output is in the flat row, by `head.name`."""
        starts = _starts(o.size for o in self.outputs)
        return {o.key: slice(at, at + o.size) for o, at in zip(self.outputs, starts, strict=True)}

    @cached_property
    def heads(self) -> dict[str, slice]:
        """Where a head is in the flat row."""
        found = {}
        for head in HEADS:
            own = [self.places[o.key] for o in self.outputs if o.head == head]
            found[head] = slice(own[0].start, own[-1].stop)
        return found

    def output(self, key: str) -> Output:
        return next(o for o in self.outputs if o.key == key)

    def of_kind(self, *kinds: Kind) -> tuple[Output, ...]:
        return tuple(o for o in self.outputs if o.kind in kinds)

    def input_names(self) -> Iterator[str]:
        """A name for each of the 453 inputs: `axes.empathy.layer.Bedrock`."""
        for region in self.regions:
            for slot in region.slots:
                prefix = f"{region.name}.{slot}" if slot else region.name
                for field in region.fields:
                    yield from (f"{prefix}.{name}" for name in _names(field))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON, offsets included."""
        return {
            "schema": self.name,
            "features": FEATURES,
            "outputs": self.size,
            "regions": [_region_json(r, self.region_offsets[r.name]) for r in self.regions],
            "heads": {
                head: {
                    "offset": place.start,
                    "size": place.stop - place.start,
                    "parts": [
                        _output_json(o, self.places[o.key].start, place.start)
                        for o in self.outputs
                        if o.head == head
                    ],
                }
                for head, place in self.heads.items()
            },
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of `to_json` as JSON with sorted keys and no spaces."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@cache
def load_schema(name: str) -> Schema:
    """`v1` or `v2`.

    Raises:
        ConfigError: there is no such schema.
    """
    if name == "v1":
        return Schema("v1", _regions(_numbered("slot", 16), "sorted ids"), _outputs((_ONE_DOMINANT,)))
    if name == "v2":
        return Schema("v2", _regions(AXES, "ids"), _outputs((_DOMINANT,)))
    raise ConfigError(f"--schema must be one of {', '.join(SCHEMA_NAMES)}, got {name}")


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}_{i:02d}" for i in range(count))


def _names(field: Field) -> list[str]:
    if isinstance(field, Number):
        return [field.name]
    parts = field.options if isinstance(field, Choice) else field.names
    return [f"{field.name}.{part}" for part in parts]


_VALUE: Final = (
    Number("central", -1, 1),
    Number("variance", 0, 1),
    Number("low", -1, 1),
    Number("high", -1, 1),
)
RELATION_VALUES: Final = ("trust_reliability", "trust_competence", "trust_benevolence", "affection", "debt")


def _regions(axis_slots: tuple[str, ...], keys: Keys) -> tuple[Region, ...]:
    axis = (*_VALUE, Choice("layer", LAYERS), Choice("provenance", PROVENANCES))
    self_edge = (
        "trust_competence", "trust_intentions", "trust_reliability", "affection", "debt", "history_weight",
        "projection_accuracy",
    )  # fmt: skip
    values = tuple(Group(name, _VALUE) for name in RELATION_VALUES)
    return (
        Region("axes", axis_slots, keys, axis),
        Region("emotions", EMOTIONS, "ids", (Number("intensity", 0, 1), Choice("awareness", AWARENESS))),
        Region("self_edge", ("",), "one", tuple(Number(name, 0, 1) for name in self_edge)),
        Region("relations", _numbered("relation", 5), "list", (*values, Choice("role", ROLES, "Periphery"))),
        Region(
            "scene",
            ("",),
            "one",
            (Choice("type", SCENES), Number("cast_size", 0, 255, integer=True), Number("tension", 0, 1)),
        ),
        Region(
            "event",
            ("",),
            "one",
            (
                Choice("type", EVENTS),
                Choice("register", REGISTERS),
                Number("confidence", 0, 1),
                Number("target_count", 0, 255, integer=True),
            ),
        ),
        Region(
            "history",
            _numbered("turn", 3),
            "list",
            (
                Choice("action", ACTIONS, "Examine"),
                Choice("speech", VOICES, "Conversational"),
                Choice("awareness", AWARENESS),
                Number("valence", -1, 1),
            ),
        ),
    )


_ONE_DOMINANT: Final = Output("thought", "dominant", "real", ("index",), 0, 7)
_DOMINANT: Final = Output("thought", "dominant", "class", EMOTIONS)


def _outputs(dominant: tuple[Output]) -> tuple[Output, ...]:
    return (
        Output("action", "type", "class", ACTIONS),
        Output("action", "confidence", "noise", ("confidence",), 0, 1),
        Output("action", "target", "constant", ("target",)),
        Output("action", "valence", "real", ("valence",)),
        Output("action", "context", "class", CONTEXTS),
        Output("speech", "occurs", "binary", ("occurs",)),
        Output("speech", "register", "class", VOICES),
        Output("speech", "confidence", "noise", ("confidence",), 0, 1),
        Output("thought", "awareness", "class", AWARENESS),
        *dominant,
        Output("emotion", "delta", "real", EMOTIONS),
        Output("emotion", "shift", "binary", EMOTIONS),
    )


def _starts(sizes: Iterator[int]) -> list[int]:
    starts, at = [], 0
    for size in sizes:
        starts.append(at)
        at += size
    return starts


def _region_json(region: Region, offset: int) -> dict[str, Any]:
    starts = _starts(field.size for field in region.fields)
    return {
        "name": region.name,
        "offset": offset,
        "size": region.size,
        "width": region.width,
        "filled_by": region.keys,
        "slots": list(region.slots),
        "fields": [
            {"name": field.name, "offset": at, "size": field.size} | _field_json(field)
            for field, at in zip(region.fields, starts, strict=True)
        ],
    }


def _field_json(field: Field) -> dict[str, Any]:
    if isinstance(field, Number):
        return {"low": field.low, "high": field.high, "integer": field.integer}
    if isinstance(field, Choice):
        return {"one_hot": list(field.options), "default": field.default}
    return {"fields": [{"name": each.name} | _field_json(each) for each in field.fields]}


def _output_json(output: Output, offset: int, head_offset: int) -> dict[str, Any]:
    return {
        "name": output.name,
        "offset": offset,
        "offset_in_head": offset - head_offset,
        "kind": output.kind,
        "activation": output.activation,
        "loss": output.loss,
        "labels": list(output.labels),
        "low": output.low,
        "high": output.high,
    }
