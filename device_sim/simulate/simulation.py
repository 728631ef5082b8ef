"""Nights of feedback on the package that ships, as a phone lives through them, and the verdict."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from device_sim.heads.shipped import PART, identity, open_shipped
from device_sim.routes.choosing import ROUTES, make_route
from device_sim.routes.route import HeadUpdate
from device_sim.runtimes.config import RuntimeChoice
from device_sim.runtimes.opening import evaluate, open_mirror, open_runtime
from device_sim.runtimes.runtime import LoadedModel
from device_sim.simulate import verdict
from device_sim.simulate.config import SimulateConfig
from device_sim.simulate.drift import Drift, Example, TokenShift, examples, measure_drift, token_shifts
from device_sim.simulate.phone import Delivery, Phone
from device_sim.simulate.texts import Embedder, choose_texts, feedback_latents, latents_of
from device_sim.users.nights import Night, Texts, live, top_reward
from device_sim.users.users import UserConfig, make_user, parse_user
from grpo.baselines import ONE_HOT, tune_one_hot
from grpo.feedback import Interaction, read_feedback
from grpo.groups import Groups
from grpo.head import Head
from grpo.tune import TuneResult, tune_head
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.errors import ConfigError
from personality_common.evidence.claims import Check, claim, passed
from personality_common.files.staging import staged_folder
from personality_common.registry.record import Record, now
from personality_common.terminal.progress import SILENT, Reporter

FIGURES_FILE: Final = "simulation.json"


@dataclass(frozen=True)
class NightRecord:
    """One night.

    Attributes:
        update: what the objective did: metrics of the night and of its steps.
        delivery: how it reached the package.
        drift: from the shipped head, on the measured texts.
        lived: with a simulated user, how the night's head does on held-out texts; None for a feedback file.
        training_rise: mean reward of the top 8 on the night's own texts, over that of the shipped head.
    """

    update: TuneResult = field(repr=False)
    delivery: Delivery
    drift: Drift
    lived: Night | None
    training_rise: float | None


@dataclass(frozen=True)
class Said:
    """A day's feedback, for the log: texts ("" where unknown) with their candidates."""

    texts: tuple[str, ...] = field(repr=False)
    groups: Groups = field(repr=False)


@dataclass(frozen=True)
class Simulation:
    """What a simulation ended with.

    Attributes:
        measured: how many texts reward and drift are measured on.
        shifts: tokens that gained or lost a place in the top 8, on the measured texts.
        examples: of the measured texts.
    """

    config: SimulateConfig
    bundle: VerifiedBundle
    nights: tuple[NightRecord, ...]
    days: tuple[Said, ...]
    measured: int
    shifts: tuple[TokenShift, ...]
    examples: tuple[Example, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return passed(self.checks)


@dataclass(frozen=True)
class _Measured:
    """Texts that reward and drift are measured on, (N, 1536) embeddings with them; texts where known."""

    latents: Tensor
    embeddings: NDArray[np.float32]
    texts: tuple[str, ...]


@contextmanager
def simulate_phone(config: SimulateConfig, reporter: Reporter = SILENT) -> Iterator[tuple[Simulation, Path]]:
    """Simulate; yields the result and the folder with head versions and packages.

    The folder takes the place of `config.out` when the block ends well, and is temporary without `out`: a
    kill, an error, or Ctrl-C leaves what was there.

    Raises:
        DataError: bundle, texts or feedback are malformed, or too few.
        MismatchError: parts of the bundle, the run, or the feedback belong to another vocabulary or run;
            or a route found that something else than the head would change.
        ToolkitError: the encoder or the runtime is not usable here, a reward function raised, or an
            update did nothing.
    """
    require_replaceable(config.out)
    bundle = open_shipped(config.bundle)
    shipped, places = bundle.package(PART), bundle.places(PART)
    runtime = open_runtime(config.runtime, shipped, places)
    embedder = Embedder(bundle, config.run, reporter, config.allow_remote_encoder)
    live_through = _live_with_user if config.user is not None else _replay
    with _workspace(config.out) as folder:
        nights, days, measured, phone = live_through(config, bundle, runtime, embedder, folder, reporter)
        tuned, held = nights[-1].update.head, nights[-1].delivery.head
        deliveries = [night.delivery for night in nights]
        # The head of the update itself where the package must hold its very bits.
        mirror = open_mirror(shipped, places, tuned if _names(config)[0] == "patch" else held)
        updated = phone.patched()
        _, ours = evaluate(open_runtime(_other(config.runtime), updated, places), measured.embeddings)
        _, theirs = evaluate(mirror, measured.embeddings)
        tokens = bundle.vocabulary.tokens
        shifts = tuple(token_shifts(measured.latents, held, phone.shipped, tokens))
        checks = (
            verdict.head_changed(phone.shipped, held),
            verdict.frozen_identical(deliveries),
            verdict.bytes_identical(deliveries),
            verdict.routes_agree(deliveries),
            verdict.runtimes_agree(
                ours, theirs, f"{_other(config.runtime)}, torch", bundle.part(PART).precision
            ),
            verdict.reward_rose(nights[-1].lived, _simulated(config), shifts),
            verdict.drift_within(
                [n.update.night for n in nights], nights[-1].drift, config.grpo, config.objective == "grpo"
            ),
            claim("rolled-back", "head restored bit for bit by rollback", *phone.rolled_back()),
        )
        yield (
            Simulation(
                config=config,
                bundle=bundle,
                nights=nights,
                days=days,
                measured=len(measured.latents),
                shifts=shifts,
                examples=tuple(examples(measured.texts, measured.latents, held, phone.shipped, tokens))
                if any(measured.texts)
                else (),
                checks=checks,
            ),
            folder,
        )


_Lived = tuple[tuple[NightRecord, ...], tuple[Said, ...], _Measured, Phone]


def _live_with_user(
    config: SimulateConfig,
    bundle: VerifiedBundle,
    runtime: LoadedModel,
    embedder: Embedder,
    folder: Path,
    reporter: Reporter,
) -> _Lived:
    """Days with a simulated user, nights on the phone; each night starts from the head in the package."""
    assert config.user is not None
    assert config.data is not None
    spend = config.nights
    chosen = choose_texts(config.data, spend.nights * spend.interactions, spend.seed)
    first = len(bundle.vocabulary.tokens)
    second = first + len(chosen.training)
    base, embeddings = embedder.embed([*bundle.vocabulary.tokens, *chosen.training, *chosen.held_out])
    # Once for all nights: the backbone is frozen.
    latents = latents_of(runtime, embeddings)
    tokens, training, held_out = (
        Texts(torch.from_numpy(latents[rows]), torch.from_numpy(base[rows]))
        for rows in (slice(first), slice(first, second), slice(second, None))
    )
    embeddings = embeddings[second:]
    user = make_user(config.user, tokens.embeddings, training.embeddings, spend.seed)
    phone = Phone(bundle, [make_route(bundle, name) for name in _names(config)], folder, embeddings)

    nights: list[tuple[TuneResult, Delivery]] = []
    with reporter.stage("night", spend.nights, "nights") as stage:

        def night(latents: Tensor, groups: Groups, head: Head, shipped: Head) -> Head:
            update = _update(config, latents, groups, head, shipped)
            delivery = phone.deliver(HeadUpdate(head, update.head, latents), _record(config, bundle, update))
            nights.append((update, delivery))
            stage.advance(1, {"reward": f"{update.night.reward_mean or math.nan:+.2f}"})
            return delivery.head

        lived = live(user, training, held_out, phone.shipped, config.grpo, spend, night)
    records = tuple(
        NightRecord(
            update,
            delivery,
            measure_drift(held_out.latents, delivery.head, phone.shipped, config.grpo),
            n,
            n.training_reward - float(top_reward(user, training[n.texts], phone.shipped, n.night).mean()),
        )
        for (update, delivery), n in zip(nights, lived, strict=True)
    )
    days = tuple(Said(tuple(chosen.training[i] for i in n.texts.tolist()), n.groups) for n in lived)
    return records, days, _Measured(held_out.latents, embeddings, chosen.held_out), phone


def _replay(
    config: SimulateConfig,
    bundle: VerifiedBundle,
    runtime: LoadedModel,
    embedder: Embedder,
    folder: Path,
    reporter: Reporter,
) -> _Lived:
    """A feedback file, in its order, in nights of `interactions`; all of it."""
    assert config.feedback is not None
    feedback = read_feedback(config.feedback, bundle.vocabulary.tokens, base_dim=bundle.encoder.dim)
    latents = feedback_latents(feedback.interactions, embedder, runtime)
    groups = feedback.groups()
    # Interactions may come as latents, so the routes are compared on the bundle's own golden embeddings.
    embeddings = bundle.golden.arrays["embeddings"]
    phone = Phone(bundle, [make_route(bundle, name) for name in _names(config)], folder, embeddings)
    head = phone.shipped
    records: list[NightRecord] = []
    days: list[Said] = []
    size = config.nights.interactions
    starts = range(0, len(latents), size)
    with reporter.stage("night", len(starts), "nights") as stage:
        for start in starts:
            rows = slice(start, start + size)
            day = Groups(
                groups.actions[rows],
                {name: rewards[rows] for name, rewards in groups.rewards.items()},
                None if groups.behaviour is None else groups.behaviour[rows],
            )
            update = _update(config, latents[rows], day, head, phone.shipped)
            record = _record(config, bundle, update, feedback.fingerprint)
            delivery = phone.deliver(HeadUpdate(head, update.head, latents[rows]), record)
            head = delivery.head
            drift = measure_drift(latents, head, phone.shipped, config.grpo)
            records.append(NightRecord(update, delivery, drift, None, None))
            days.append(Said(_texts(feedback.interactions[rows]), day))
            stage.advance(1)
    return tuple(records), tuple(days), _Measured(latents, embeddings, _texts(feedback.interactions)), phone


def require_replaceable(out: Path | None) -> None:
    """Raise ConfigError if `--out` holds anything but an earlier simulation."""
    if out is None or not out.exists():
        return
    if not out.is_dir() or out.is_symlink() or (any(out.iterdir()) and not (out / FIGURES_FILE).is_file()):
        raise ConfigError(f"--out must be a new folder or an earlier simulation, {out} is something else")


@contextmanager
def _workspace(out: Path | None) -> Iterator[Path]:
    if out is None:
        with tempfile.TemporaryDirectory(prefix="pt-simulate.") as folder:
            yield Path(folder)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        with staged_folder(out) as folder_:
            yield folder_


def _update(config: SimulateConfig, latents: Tensor, groups: Groups, head: Head, shipped: Head) -> TuneResult:
    tune = tune_head if config.objective == "grpo" else tune_one_hot
    return tune(latents, groups, head, shipped, config.grpo)


def _record(
    config: SimulateConfig, bundle: VerifiedBundle, update: TuneResult, feedback: str | None = None
) -> Record:
    """Of a version in the store; the phone adds parents and gates."""
    night = update.night
    return Record(
        identity=identity(bundle),
        created=now(),
        settings=asdict(config.grpo)
        if config.objective == "grpo"
        else {"objective": config.objective, **asdict(ONE_HOT)},
        data={} if feedback is None else {"feedback": feedback},
        before={} if night.reward_mean is None else {"reward_mean": night.reward_mean},
        after={
            "kl_shipped": night.kl_shipped,
            "overlap_shipped": night.overlap_shipped,
            "head_change": night.head_change,
        },
    )


def _simulated(config: SimulateConfig) -> UserConfig | None:
    """The user, unless it is one's own function."""
    parsed = None if config.user is None else parse_user(config.user)
    return parsed if isinstance(parsed, UserConfig) else None


def _names(config: SimulateConfig) -> tuple[str, ...]:
    return ROUTES if config.route == "all" else (config.route,)


def _other(runtime: RuntimeChoice) -> RuntimeChoice:
    """What PyTorch is compared with: the runtime in use, unless that is PyTorch's own mirror."""
    return "mil" if runtime == "torch" else runtime


def _texts(interactions: tuple[Interaction, ...]) -> tuple[str, ...]:
    return tuple(interaction.text or "" for interaction in interactions)
