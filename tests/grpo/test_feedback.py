"""Feedback files: what is read, and that anything wrong refuses the whole file without quoting users."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grpo.events import EVENT_REWARDS, parse_rewards
from grpo.feedback import MAX_LINE_BYTES, read_feedback
from personality_common.errors import DataError, MismatchError, ToolkitError

TOKENS = ("calm", "curious", "self pitying", "shy")
SECRET = "my secret diary"


def line(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "id": "a",
        "text": SECRET,
        "candidates": [{"tokens": ["curious", "calm"], "reward": 0.7, "logp": -3.5}],
    }
    return {k: v for k, v in (base | changes).items() if v is not ...}


def candidate(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {"tokens": ["curious", "calm"], "reward": 0.7}
    return {k: v for k, v in (base | changes).items() if v is not ...}


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n", "utf-8")
    return path


def test_a_good_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "feedback.jsonl",
        line(time="2024-05-02T10:00:00Z"),
        "",
        line(
            id="b",
            text=...,
            latent=[0.5, -1, 2],
            time=5,
            candidates=[
                candidate(tokens=["shy", "self pitying", "calm"], reward=None),
                candidate(tokens=["shy"], reward=float("nan")),
                candidate(tokens=["calm"], reward=-1, logp=None),
            ],
        ),
        line(id="c", text=..., base_embedding=[1, 0], time=7.5),
    )
    feedback = read_feedback(path, TOKENS, base_dim=2, latent_dim=3)
    assert [i.id for i in feedback.interactions] == ["b", "c", "a"]  # in order of time
    assert feedback.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    b, c, a = feedback.interactions
    assert a.text == SECRET
    assert a.time == 1714644000.0
    assert b.latent is not None
    assert b.latent.dtype == torch.float32
    assert b.latent.tolist() == [0.5, -1.0, 2.0]
    assert c.base_embedding is not None
    groups = feedback.groups()
    assert groups.actions.tolist() == [
        [[3, 2, 0], [3, -1, -1], [0, -1, -1]],
        [[1, 0, -1], [-1, -1, -1], [-1, -1, -1]],
        [[1, 0, -1], [-1, -1, -1], [-1, -1, -1]],
    ]
    rewards, behaviour = groups.rewards["reward"], groups.behaviour
    nan = torch.nan
    expected = torch.tensor([[nan, nan, -1.0], [0.7, nan, nan], [0.7, nan, nan]], dtype=torch.float64)
    torch.testing.assert_close(rewards, expected, rtol=0, atol=0, equal_nan=True)
    assert behaviour is not None
    expected = torch.tensor([[nan] * 3, [-3.5, nan, nan], [-3.5, nan, nan]], dtype=torch.float64)
    torch.testing.assert_close(behaviour, expected, rtol=0, atol=0, equal_nan=True)


def test_without_all_times_the_order_is_the_file_s(tmp_path: Path) -> None:
    path = write(tmp_path / "f", line(id="late", time=9), line(id="none"), line(id="early", time=1))
    assert [i.id for i in read_feedback(path, TOKENS).interactions] == ["late", "none", "early"]


CASES: list[tuple[object, str]] = [
    ("{", "must be JSON, column"),
    ("[1]", "the line: must be an object, got a list of 1"),
    ('{"id": "a", "id": "b"}', "a field is given twice"),
    ("[" * 100_000, "must be plain JSON"),
    ("9" * 10_000, "must be plain JSON"),
    (line(id=3), "id: must be a string that is not empty, got a number"),
    (line(note=SECRET), "fields must be among base_embedding, candidates"),
    (line(text=...), "must have one of text, base_embedding, latent, got none"),
    (line(latent=[0, 0, 0]), "got text and latent"),
    (line(text="  "), "text: must be Unicode that is not blank"),
    (line(candidates=[]), "candidates: must be a list of 1 to 1024, got a list of 0"),
    (line(candidates=[7]), r"candidates\[0\]: must be an object"),
    (line(candidates=[candidate(tokens=[])]), r"candidates\[0\].tokens: must be a list of strings"),
    (
        line(candidates=[candidate(), candidate(tokens=["calm", SECRET])]),
        r"candidates\[1\].tokens\[1\]: must be a token",
    ),
    (line(candidates=[candidate(tokens=["calm", "shy", "calm"])]), r"candidates\[0\].tokens\[2\]: .* twice"),
    (line(candidates=[candidate(tokens=[SECRET, "Calm"])]), r"candidates\[0\].tokens: .*vocabulary in use"),
    (line(candidates=[candidate(reward=...)]), r"candidates\[0\].reward: must be a number, or null"),
    (
        line(candidates=[candidate(reward=float("inf"))]),
        r"candidates\[0\].reward: must be a finite number, got inf",
    ),
    (line(candidates=[candidate(reward=True)]), r"candidates\[0\].reward: must be a number, got a boolean"),
    (line(candidates=[candidate(reward=10**400)]), r"candidates\[0\].reward: must be a finite number"),
    (
        line(candidates=[candidate(logp=float("nan"))]),
        r"candidates\[0\].logp: must be a finite number, got nan",
    ),
    (line(candidates=[candidate(logp=2)]), r"candidates\[0\].logp: .* must be 0 or less, got 2"),
    (
        line(candidates=[candidate(rewards=1)]),
        r"candidates\[0\]\.: fields must be among logp, reward, tokens",
    ),
    (line(text=..., latent=[1, 2]), "latent: must be a list of 3 numbers, got a list of 2"),
    (line(text=..., latent=[1, float("nan"), 2]), r"latent\[1\]: must be a finite number"),
    (line(text=..., latent=[1, 1e39, 2]), "latent: must fit float32"),
    (line(text=..., base_embedding=[1, 2]), "base_embedding: is not taken here"),
    (line(time="tomorrow"), "time: must be seconds or ISO 8601"),
    (line(id="first"), "id: must be distinct, or feedback counts twice; line 1"),
    ("x" * (MAX_LINE_BYTES + 1), "must not exceed"),
]


@pytest.mark.parametrize(("bad", "message"), CASES, ids=range(len(CASES)))
def test_anything_wrong_refuses_the_file(tmp_path: Path, bad: object, message: str) -> None:
    path = write(tmp_path / "feedback.jsonl", line(id="first"), bad)
    with pytest.raises(
        DataError if "vocabulary in use" not in message else MismatchError, match=message
    ) as caught:
        read_feedback(path, TOKENS, latent_dim=3)
    text = str(caught.value)
    assert text.startswith(f"{path}:2: ")
    assert "\n" not in text
    assert SECRET not in text


def test_empty_and_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one interaction"):
        read_feedback(write(tmp_path / "empty", "", " "), TOKENS)
    path = tmp_path / "latin"
    path.write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(DataError, match="latin:1: must be UTF-8, got byte 0xe9"):
        read_feedback(path, TOKENS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from([*TOKENS, SECRET, ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["tokens", "reward", "logp", "id", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["id", "text", "latent", "candidates", "time"]), value=VALUES)
def test_no_value_crashes_the_reader(tmp_path: Path, field: str, value: object) -> None:
    path = write(tmp_path / "f", line(**{field: value}))
    try:
        feedback = read_feedback(path, TOKENS, latent_dim=2)
    except ToolkitError as error:
        assert SECRET not in str(error)  # noqa: PT017 - both outcomes are fine
    else:
        assert len(feedback.groups()) == 1


def heard(*candidates: str) -> dict[str, object]:
    return line(candidates=[candidate(tokens=[token], reward=None) for token in candidates])


def event(name: object, **changes: object) -> dict[str, object]:
    return {k: v for k, v in ({"event": name, "of": "a"} | changes).items() if v is not ...}


def rewards_of(path: Path, spec: str | None = None) -> list[list[float | None]]:
    rewards = EVENT_REWARDS if spec is None else parse_rewards(spec)
    feedback = read_feedback(path, TOKENS, rewards=rewards)
    return [[c.reward for c in i.candidates] for i in feedback.interactions]


def test_events_are_rewards_and_silence_is_none(tmp_path: Path) -> None:
    path = write(
        tmp_path / "f",
        heard("calm", "shy", "curious", "self pitying"),
        *(event("shown", candidate=i) for i in range(4)),
        event("copied", candidate=0),
        event("edited", candidate=0),
        event("copied", candidate=0),
        event("rated", candidate=1, value=-0.5),
        event("regenerated", candidate=2),
    )
    assert rewards_of(path) == [[pytest.approx(0.7), -0.5, -1.0, None]]
    assert rewards_of(path, "edited=none,rated=4, shown=0") == [[1.0, -2.0, -1.0, 0.0]]
    groups = read_feedback(path, TOKENS).groups()
    assert groups.rewards["reward"].isnan().tolist() == [[False, False, False, True]]


def test_contradictory_events_cancel_and_the_last_rating_holds(tmp_path: Path) -> None:
    rated_up, again = event("rated", value=1), event("regenerated")
    for events in ([rated_up, again], [again, rated_up]):
        assert rewards_of(write(tmp_path / "f", heard("calm"), *events)) == [[0.0]]
    path = write(tmp_path / "f", heard("calm"), rated_up, event("rated", value=-1))
    assert rewards_of(path) == [[-1.0]]


def test_a_delayed_event_is_credited_to_the_interaction_that_it_names(tmp_path: Path) -> None:
    """Nights later, after others, and in a file whose order is that of time."""
    path = write(
        tmp_path / "f",
        heard("calm") | {"time": 200},
        heard("shy") | {"id": "b", "time": 100},
        event("regenerated", of="b"),
        event("copied", time=900_000),
    )
    feedback = read_feedback(path, TOKENS)
    assert [(i.id, i.candidates[0].reward) for i in feedback.interactions] == [("b", -1.0), ("a", 1.0)]


EVENTS: list[tuple[object, str]] = [
    (event("copyed"), "event: must be one of shown, copied, edited, regenerated, rated, is another"),
    (event(["copied"]), "event: must be one of shown"),
    (event("copied", of="later"), "of: must be the id of an interaction further up in the file, is not"),
    (event("copied", of=...), "of: must be the id"),
    (event("copied", candidate=...), "candidate: must be the number of one of 2, from 0"),
    (event("copied", candidate=2), "candidate: must be the number of one of 2, from 0"),
    (event("copied", candidate=-1), "candidate: must be the number"),
    (event("copied", candidate=True), "candidate: must be the number"),
    (event("copied", candidate=1), "candidate: must have a reward or events, and this one has a reward"),
    (event("copied", candidate=0, value=1), "value: must be there for rated, and for no other event"),
    (event("rated", candidate=0), "value: must be there for rated"),
    (event("rated", candidate=0, value=5), "value: must be from -1 to 1, got 5"),
    (event("rated", candidate=0, value="up"), "value: must be a number, got a string"),
    (event("copied", candidate=0, time=99), "time: must not be before that of the interaction, is"),
    (event("copied", candidate=0, text=SECRET), "fields must be among candidate, event, of, time, value"),
]


@pytest.mark.parametrize(("bad", "message"), EVENTS, ids=range(len(EVENTS)))
def test_a_wrong_event_refuses_the_file(tmp_path: Path, bad: object, message: str) -> None:
    first = line(time=100, candidates=[candidate(reward=None), candidate(reward=0)])
    path = write(tmp_path / "f", first, bad, line(id="later", time=100))
    with pytest.raises(DataError, match=message) as caught:
        read_feedback(path, TOKENS)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "event=reward"),
        ("copied", "event=reward"),
        ("copyed=1", "events among shown, copied"),
        ("copied=1,copied=2", "copied twice"),
        ("copied=inf", "a finite number, or none"),
        ("copied=much", "a finite number, or none, got 'much'"),
    ],
)
def test_a_wrong_spec_says_what_is_wrong(spec: str, message: str) -> None:
    with pytest.raises(ToolkitError, match=message):
        parse_rewards(spec)
