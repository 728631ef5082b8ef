"""The head of a night: the learner's own, with its gate, beside the adapter and in one step with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from device_sim.companion.export import write_interactions
from device_sim.companion.log import read_events
from device_sim.heads.heads import open_heads
from device_sim.night import activation
from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.html import page
from device_sim.night.reactions import OTHER_BUNDLE, reactions
from device_sim.night.report import document, read_report
from device_sim.night.state import Night, read_nights
from device_sim.night.teaching import identical
from grpo.feedback import read_feedback
from grpo.learners import make_learner
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.files.atomic import read_json_object
from personality_common.registry import together
from personality_common.registry.registry import Registry
from personality_common.terminal.progress import SILENT

from .hearing import LIKED, TOKENS, Small, react
from .living import Day
from .pretending import Pretender, TextCodec
from .test_commands import MADE, ROOM

BUNDLE = Path("tiny-bundle")
Pt = Callable[..., Any]


@pytest.fixture(autouse=True)
def listens(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("cycle.open_listener", "listening.open_listener"):
        monkeypatch.setattr(f"device_sim.night.{place}", lambda path: None if path is None else Small())


def live(day: Day, engine: Pretender | None = None, bundle: Path | None = BUNDLE, **options: Any) -> Night:
    config = NightConfig(day.store, min_free=0, bundle=bundle, **options)
    night = run_night(config, engine or Pretender(), SILENT)
    assert night is not None
    return night


def active(store: Path) -> tuple[str, str]:
    """Of adapter and head."""
    learned = store / "learned"
    return Registry(learned, TextCodec()).active, open_heads(store).active


@pytest.fixture
def alone(tmp_path: Path) -> Day:
    """A store of reactions alone, enough to open the gate."""
    day = Day(tmp_path / "alone")
    react(day, 0, 100)
    return day


def test_both_learn_in_one_night_and_both_go_back(day: Day) -> None:
    react(day, 0, 100)
    night = live(day)
    assert night.head is not None
    assert (night.accepted, night.head.accepted) == (True, True), (night.reasons, night.head.reasons)
    assert active(day.store) == (night.version, night.head.version)
    heads, adapters = open_heads(day.store), Registry(day.store / "learned", TextCodec())
    record = heads.show(heads.active).record
    assert record.parents == (night.head.baseline,)
    assert {gate.name for gate in record.gates if gate.passed} == {c.name for c in night.head.checks}
    assert record.after["wealth"] > 20
    assert len(set(night.head.more) & set(LIKED)) >= 6
    assert not set(night.head.less) & set(LIKED)
    assert not list((day.store / "nights").rglob("*.safetensors"))
    first = heads.versions()[0].version
    assert heads.rollback() == first
    assert identical(heads.load(first), Small().shipped)
    assert adapters.active == night.version


def test_the_head_is_that_of_pt_grpo_night_after_night(alone: Day, tmp_path: Path) -> None:
    react(alone, 100, 30)
    day = Day(tmp_path / "again")
    small = Small()
    learner, kept = make_learner("posterior", small.reference), None
    for first, count in ((0, 50), (50, 50), (100, 30)):
        react(day, first, count)
        night = live(day)
        out = tmp_path / "said.jsonl"
        write_interactions(day.store, out)
        told = read_feedback(out, TOKENS)
        new = told.__class__(told.interactions[first:], "")
        latents = small.latents([one.text or "" for one in new.interactions])
        kept, tuned = learner.night(latents, new.groups(), kept or learner.start())
        assert night.head is not None
        assert tuned.gate is not None
        assert night.head.wealth == tuned.gate.wealth
        assert night.head.accepted == tuned.gate.open
    heads = open_heads(day.store)
    assert kept is not None
    assert identical(heads.load(heads.active), kept.head)
    assert [n.head and n.head.accepted for n in read_nights(day.store)] == [False, True, True]


def test_only_what_was_accepted_changes(alone: Day, day: Day) -> None:
    night = live(alone)
    assert night.accepted is None
    assert night.head is not None
    assert night.head.accepted
    assert active(alone.store) == (night.activated, night.head.version)
    react(day, 0, 100, chance=True)
    night = live(day)
    assert night.head is not None
    assert (night.accepted, night.head.accepted) == (True, False)
    assert night.head.version is None
    assert "could be chance" in night.head.reasons[0]
    assert active(day.store) == (night.version, night.head.baseline)
    assert len(open_heads(day.store).versions()) == 1


def test_what_was_forgotten_is_in_no_head(alone: Day, tmp_path: Path) -> None:
    first = live(alone)
    assert first.head is not None
    other = Day(tmp_path / "other")
    shutil.copytree(alone.store, other.store)
    alone.forget(first.head.new[7])
    second = live(alone)
    assert second.head is not None
    assert second.unclean == (first.head.version,)
    assert second.head.reactions == 99
    assert second.head.more
    assert (read_nights(alone.store)[0].head or first.head).more == ()
    heads = open_heads(alone.store)
    with pytest.raises(ToolkitError, match="blocked"):
        heads.activate(first.head.version or "")
    # As if it had never been said.
    shutil.rmtree(other.store / "nights")
    shutil.rmtree(other.store / "learned")
    other.forget(first.head.new[7])
    never = live(other)
    assert never.head is not None
    assert never.head.wealth == second.head.wealth
    theirs = open_heads(other.store)
    assert identical(heads.load(heads.active), theirs.load(theirs.active))
    # All of it, and no bundle: the head that shipped reads again, and none is made until there is a bundle.
    alone.forget(*first.head.new[:60])
    third = live(alone, bundle=None)
    assert third.head is None
    assert heads.active == heads.versions()[0].version
    fourth = live(alone)
    assert fourth.head is not None
    assert (fourth.head.reactions, fourth.head.accepted) == (40, False)
    assert run_night(NightConfig(alone.store, min_free=0, bundle=BUNDLE), Pretender(), SILENT) is None


def test_a_head_of_another_bundle_is_refused_by_name(alone: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    live(alone)
    react(alone, 200, 3)
    monkeypatch.setattr("device_sim.night.cycle.open_listener", lambda path: Small("f" * 64))
    before = sorted(p.name for p in (alone.store / "nights").iterdir())
    with pytest.raises(MismatchError, match=r"its heads must be of the bundle c{12}, --bundle is of f{12}"):
        live(alone)
    assert sorted(p.name for p in (alone.store / "nights").iterdir()) == before


def test_moods_of_another_bundle_and_answers_that_were_broken_off_are_left_out(tmp_path: Path) -> None:
    day = Day(tmp_path / "store")
    react(day, 0, 4, bundle="f" * 64)
    react(day, 4, 3)
    mood = TOKENS[:8]
    day.talk("Broken.", "Oh", partial=True, edit="Oh, well.", mood=mood, bundle="c" * 64)
    day.talk("Unjudged.", "Oh.", mood=mood, bundle="c" * 64)
    day.talk("Somebody else's.", "Oh.", reward=1.0, mood=mood, bundle="c" * 64, user="other")
    found = reactions(read_events(day.store / "events"), "default", "c" * 64, TOKENS)
    assert (len(found.live), found.left_out) == (3, {OTHER_BUNDLE: 4})


def test_a_failure_within_the_activation_changes_neither(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    react(day, 0, 100)

    def failing(*_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(together, "write_pointers", failing)
        # The store's other writes have imported it by name: only the one of both versions fails.
        patch.setattr("device_sim.night.listening.add_kind", _added)
        with pytest.raises(OSError, match="no space"):
            live(day)
    shipped = (
        Registry(day.store / "learned", TextCodec()).versions()[0],
        open_heads(day.store).versions()[0],
    )
    assert active(day.store) == tuple(version.version for version in shipped)
    night = live(day, bundle=None)
    assert night.head is not None
    assert active(day.store) == (night.version, night.head.version)


def _added(path: Path, codec: Any, identity: Any, shipped: Any) -> Any:
    """`add_kind`, whose writes do not fail."""
    from personality_common.registry.pointers import write_pointers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "write_pointers", write_pointers)
        return together.add_kind(path, codec, identity, shipped)


def test_a_head_that_learned_what_was_forgotten_meanwhile_is_never_active(
    alone: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(activation, "_target", stop)
        with pytest.raises(KeyboardInterrupt):
            live(alone)
    (stopped,) = read_nights(alone.store)
    assert stopped.head is not None
    assert stopped.head.version is not None
    alone.forget(stopped.head.new[0])
    night = live(alone)
    assert night.head is not None
    assert not night.head.accepted
    assert night.unclean == (stopped.head.version,)
    assert active(alone.store)[1] == night.head.baseline
    second = live(alone)
    assert second.head is not None
    assert second.head.accepted


def test_the_report_has_the_head_and_no_text(alone: Day, pt: Pt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_sim.night.models.ModelEngine", lambda *_, **__: Pretender())
    monkeypatch.setattr("device_sim.companion.models.opening.gguf_file", Path)
    (alone.store / "b").mkdir()
    told = pt("night", "run", alone.store, "--dry-run", "--bundle", alone.store / "b")
    assert "100  new reactions to moods of 100 that are live, for the head" in told.out, told.err
    done = pt("night", "run", alone.store, "--min-free", 0, "--bundle", alone.store / "b")
    assert "night-0001: nothing new for the adapter" in done.out, done.err
    assert "night-0001: head accepted, h0002-" in done.out
    found = read_report(alone.store)
    jsonschema.validate(document(found), read_json_object(ROOM / "nights.schema.json"))
    state = alone.store / "nights" / "0001" / "state.json"
    jsonschema.validate(read_json_object(state), read_json_object(ROOM / "night.schema.json"))
    assert '"head":{"' in state.read_text().replace(" ", "").replace("\n", "")
    made = page(found, MADE)
    assert "likelier than as shipped" in made
    assert LIKED[0] in made
    assert "Mood number" not in made + done.out + state.read_text()
    listed = pt("heads", "list", alone.store)
    assert "h0002-" in listed.out
    report = pt("night", "report", alone.store)
    assert "head accepted" in report.out


def test_a_store_without_heads_says_how_they_come(day: Day) -> None:
    live(day, bundle=None)
    with pytest.raises(DataError, match="pt night run --bundle makes the first"):
        open_heads(day.store)
