"""Nights of feedback, lived on a phone: with a simulated user, or from a file; and lives without a phone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from device_sim.heads.shipped import identity
from device_sim.routes.choosing import ROUTES, make_route
from device_sim.routes.route import HeadUpdate
from device_sim.runtimes.runtime import LoadedModel
from device_sim.simulate.config import SimulateConfig
from device_sim.simulate.drift import Drift, measure_drift
from device_sim.simulate.phone import Delivery, Phone
from device_sim.simulate.texts import Chosen, Embedder, choose_texts, feedback_latents, latents_of
from device_sim.users.nights import Night, NightsConfig, Texts, live, top_reward
from device_sim.users.users import User, make_user
from grpo.baselines import ONE_HOT, tune_one_hot
from grpo.feedback import Interaction, read_feedback
from grpo.gate import GateReading
from grpo.groups import Groups
from grpo.head import Head
from grpo.learners import Kept, Learner, LearnerName, make_learner
from grpo.reference import Reference
from grpo.tune import TuneResult
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.registry.record import Record, now
from personality_common.terminal.progress import Reporter


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
class Measured:
    """Texts that reward and drift are measured on, (N, 1536) embeddings with them; texts where known."""

    latents: Tensor
    embeddings: NDArray[np.float32]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class OtherLife:
    """A life beside that of the phone: of another learner, or with another seed.

    Attributes:
        last: night.
        gate: after it.
    """

    learner: LearnerName
    seed: int
    last: Night = field(repr=False)
    gate: GateReading


@dataclass(frozen=True)
class Lived:
    """What a simulation lived through.

    Attributes:
        others: lives beside it.
    """

    nights: tuple[NightRecord, ...]
    days: tuple[Said, ...]
    measured: Measured
    phone: Phone
    others: tuple[OtherLife, ...] = ()

    def lives(self, learner: LearnerName) -> list[Night]:
        """The last nights of all lives with the phone's learner, the phone's own first."""
        own, beside = self.nights[-1].lived, [o.last for o in self.others if o.learner == learner]
        return [] if own is None else [own, *beside]


class Moving:
    """What moves the phone's head, night after night, with what it keeps."""

    def __init__(
        self, config: SimulateConfig, bundle: VerifiedBundle, phone: Phone, learner: Learner
    ) -> None:
        self.config, self.bundle, self.phone, self.learner = config, bundle, phone, learner
        self.kept: Kept = learner.start()

    def night(self, latents: Tensor, groups: Groups, data: dict[str, str]) -> tuple[TuneResult, Delivery]:
        """One night; `data` are fingerprints of what it learns from."""
        before = self.kept.head
        if self.config.objective == "one-hot":
            update = tune_one_hot(latents, groups, before, self.phone.shipped, self.config.grpo)
            kept = None
        else:
            kept, update = self.learner.night(latents, groups, self.kept)
            self.kept = kept
        record = self._record(update, data)
        delivery = self.phone.deliver(HeadUpdate(before, update.head, latents), record, kept)
        self.kept = self.kept._replace(head=delivery.head)
        return update, delivery

    def _record(self, update: TuneResult, data: dict[str, str]) -> Record:
        """Of a version in the store; the phone adds parents and gates."""
        night, one_hot = update.night, self.config.objective == "one-hot"
        return Record(
            identity=identity(self.bundle),
            created=now(),
            settings={"objective": "one-hot", **asdict(ONE_HOT)}
            if one_hot
            else {
                "learner": self.learner.name,
                **({} if self.config.rewards is None else {"rewards": self.config.rewards}),
                **asdict(self.config.grpo),
            },
            data=data,
            before={} if night.reward_mean is None else {"reward_mean": night.reward_mean},
            after={
                "kl_shipped": night.kl_shipped,
                "overlap_shipped": night.overlap_shipped,
                "head_change": night.head_change,
            },
        )


class _World:
    """Texts and tokens, embedded once: the backbone is frozen."""

    def __init__(
        self, chosen: list[Chosen], bundle: VerifiedBundle, runtime: LoadedModel, embedder: Embedder
    ) -> None:
        items = dict.fromkeys(
            [*bundle.vocabulary.tokens, *(t for one in chosen for t in (*one.training, *one.held_out))]
        )
        self._row = {text: row for row, text in enumerate(items)}
        self._base, self._embeddings = embedder.embed(list(items))
        self._latents = latents_of(runtime, self._embeddings)
        self.tokens = torch.from_numpy(self._base[self._rows(bundle.vocabulary.tokens)])

    def texts(self, texts: tuple[str, ...]) -> Texts:
        rows = self._rows(texts)
        return Texts(torch.from_numpy(self._latents[rows]), torch.from_numpy(self._base[rows]))

    def embeddings(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        return self._embeddings[self._rows(texts)]

    def _rows(self, texts: tuple[str, ...]) -> list[int]:
        return [self._row[text] for text in texts]


def live_with_user(
    config: SimulateConfig,
    bundle: VerifiedBundle,
    runtime: LoadedModel,
    embedder: Embedder,
    reference: Reference,
    folder: Path,
    reporter: Reporter,
) -> Lived:
    """Days with a simulated user, nights on the phone; each night starts from the head in the package."""
    assert config.user is not None
    assert config.data is not None
    needed, seed = config.nights.nights * config.nights.interactions, config.nights.seed
    seeds = range(seed, seed + config.repeats)
    chosen = [choose_texts(config.data, needed, one) for one in seeds]
    world = _World(chosen, bundle, runtime, embedder)
    training, held_out = (world.texts(texts) for texts in (chosen[0].training, chosen[0].held_out))
    embeddings = world.embeddings((*chosen[0].training, *chosen[0].held_out))
    user = make_user(config.user, world.tokens, training.embeddings, seed)
    phone = Phone(bundle, [make_route(bundle, name) for name in route_names(config)], folder, embeddings)
    moving = Moving(config, bundle, phone, make_learner(config.learners[0], reference))
    nights: list[tuple[TuneResult, Delivery]] = []
    with reporter.stage("night", config.nights.nights, "nights") as stage:

        def night(latents: Tensor, groups: Groups, head: Head, shipped: Head) -> Head:
            nights.append(moving.night(latents, groups, {}))
            stage.advance(1, {"reward": f"{nights[-1][0].night.reward_mean or math.nan:+.2f}"})
            return nights[-1][1].head

        lived = live(user, training, held_out, phone.shipped, config.grpo, config.nights, night)
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
    days = tuple(Said(tuple(chosen[0].training[i] for i in n.texts.tolist()), n.groups) for n in lived)
    beside = [(name, i) for name in config.learners for i in range(config.repeats)][1:]
    others = []
    with reporter.stage("lives beside", len(beside), "lives") as stage:
        for name, i in beside:
            own, measured = (world.texts(texts) for texts in (chosen[i].training, chosen[i].held_out))
            someone = make_user(config.user, world.tokens, own.embeddings, seeds[i])
            spend = replace(config.nights, seed=seeds[i])
            others.append(live_alone(name, reference, someone, own, measured, spend))
            stage.advance(1)
    measured_on = Measured(held_out.latents, embeddings, chosen[0].held_out)
    return Lived(records, days, measured_on, phone, tuple(others))


def live_alone(
    name: LearnerName,
    reference: Reference,
    user: User,
    training: Texts,
    held_out: Texts,
    nights: NightsConfig,
) -> OtherLife:
    """A life without packages, routes and store; the heads are those that a phone would have by `patch`."""
    learner = make_learner(name, reference)
    kept, gate = learner.start(), GateReading(1.0, None, True)

    def night(latents: Tensor, groups: Groups, head: Head, shipped: Head) -> Head:
        nonlocal kept, gate
        kept, update = learner.night(latents, groups, kept)
        gate = update.gate or gate
        return kept.head

    lived = live(user, training, held_out, reference.shipped, reference.config, nights, night)
    return OtherLife(name, nights.seed, lived[-1], gate)


def replay(
    config: SimulateConfig,
    bundle: VerifiedBundle,
    runtime: LoadedModel,
    embedder: Embedder,
    reference: Reference,
    folder: Path,
    reporter: Reporter,
) -> Lived:
    """A feedback file, in its order, in nights of `interactions`; all of it."""
    assert config.feedback is not None
    feedback = read_feedback(
        config.feedback,
        bundle.vocabulary.tokens,
        base_dim=bundle.encoder.dim,
        rewards=config.event_rewards,
    )
    latents = feedback_latents(feedback.interactions, embedder, runtime)
    groups = feedback.groups()
    # Interactions may come as latents, so the routes are compared on the bundle's own golden embeddings.
    embeddings = bundle.golden.arrays["embeddings"]
    phone = Phone(bundle, [make_route(bundle, name) for name in route_names(config)], folder, embeddings)
    moving = Moving(config, bundle, phone, make_learner(config.learners[0], reference))
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
            update, delivery = moving.night(latents[rows], day, {"feedback": feedback.fingerprint})
            drift = measure_drift(latents, delivery.head, phone.shipped, config.grpo)
            records.append(NightRecord(update, delivery, drift, None, None))
            days.append(Said(_texts(feedback.interactions[rows]), day))
            stage.advance(1)
    measured = Measured(latents, embeddings, _texts(feedback.interactions))
    return Lived(tuple(records), tuple(days), measured, phone)


def route_names(config: SimulateConfig) -> tuple[str, ...]:
    """Routes that every update takes."""
    return ROUTES if config.route == "all" else (config.route,)


def _texts(interactions: tuple[Interaction, ...]) -> tuple[str, ...]:
    return tuple(interaction.text or "" for interaction in interactions)
