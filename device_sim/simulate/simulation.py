"""Nights of feedback on the package that ships, as a phone lives through them, and the verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_sim.heads.shipped import PART, open_shipped, shipped_reference
from device_sim.runtimes.config import RuntimeChoice
from device_sim.runtimes.opening import evaluate, open_mirror, open_runtime
from device_sim.simulate import verdict
from device_sim.simulate.config import SimulateConfig
from device_sim.simulate.drift import Example, TokenShift, examples, token_shifts
from device_sim.simulate.lives import NightRecord, OtherLife, Said, live_with_user, replay, route_names
from device_sim.simulate.texts import Embedder
from device_sim.users.users import NO_SIGNAL, UserConfig, parse_user
from grpo.head import Head
from grpo.reference import Reference, Spent
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.errors import ConfigError
from personality_common.evidence.claims import Check, claim, passed
from personality_common.files.staging import staged_folder
from personality_common.terminal.progress import SILENT, Reporter

FIGURES_FILE: Final = "simulation.json"


@dataclass(frozen=True)
class Simulation:
    """What a simulation ended with.

    Attributes:
        others: lives beside the phone's.
        measured: how many texts reward and drift are measured on.
        shifts: tokens that gained or lost a place in the top 8, on the measured texts.
        examples: of the measured texts.
    """

    config: SimulateConfig
    bundle: VerifiedBundle
    nights: tuple[NightRecord, ...]
    days: tuple[Said, ...]
    others: tuple[OtherLife, ...]
    measured: int
    shifts: tuple[TokenShift, ...]
    examples: tuple[Example, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return passed(self.checks)


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
    reference = shipped_reference(bundle, config.grpo)
    live_through = live_with_user if config.user is not None else replay
    with _workspace(config.out) as folder:
        lived = live_through(config, bundle, runtime, embedder, reference, folder, reporter)
        nights, measured, phone = lived.nights, lived.measured, lived.phone
        tuned, held = nights[-1].update.head, nights[-1].delivery.head
        deliveries = [night.delivery for night in nights]
        # The head of the update itself where the package must hold its very bits.
        mirror = open_mirror(shipped, places, tuned if route_names(config)[0] == "patch" else held)
        updated = phone.patched()
        _, ours = evaluate(open_runtime(_other(config.runtime), updated, places), measured.embeddings)
        _, theirs = evaluate(mirror, measured.embeddings)
        tokens = bundle.vocabulary.tokens
        lives = lived.lives(config.learners[0])
        control = _simulated(config) in NO_SIGNAL
        shifts = tuple(token_shifts(measured.latents, held, phone.shipped, tokens))
        checks = (
            verdict.head_changed(phone.shipped, held, nights[-1].update.gate, lives, control),
            verdict.frozen_identical(deliveries),
            verdict.bytes_identical(deliveries),
            verdict.routes_agree(deliveries),
            verdict.runtimes_agree(
                ours, theirs, f"{_other(config.runtime)}, torch", bundle.part(PART).precision
            ),
            verdict.reward_rose(nights[-1].lived, nights[-1].update.gate, lives, control),
            verdict.drift_within(
                [night.update.spent or _spent(reference, night.delivery.head) for night in nights],
                nights[-1].drift,
                config.grpo,
                config.objective == "learner",
            ),
            claim("rolled-back", "head restored bit for bit by rollback", *phone.rolled_back()),
        )
        yield (
            Simulation(
                config=config,
                bundle=bundle,
                nights=nights,
                days=lived.days,
                others=lived.others,
                measured=len(measured.latents),
                shifts=shifts,
                examples=tuple(examples(measured.texts, measured.latents, held, phone.shipped, tokens))
                if any(measured.texts)
                else (),
                checks=checks,
            ),
            folder,
        )


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


def _spent(reference: Reference, head: Head) -> Spent:
    return reference.spent(head)


def _simulated(config: SimulateConfig) -> str | None:
    """The kind of user, unless it is one's own function."""
    parsed = None if config.user is None else parse_user(config.user)
    return parsed.kind if isinstance(parsed, UserConfig) else None


def _other(runtime: RuntimeChoice) -> RuntimeChoice:
    """What PyTorch is compared with: the runtime in use, unless that is PyTorch's own mirror."""
    return "mil" if runtime == "torch" else runtime
