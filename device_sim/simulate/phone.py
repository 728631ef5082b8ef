"""The device: it holds one head, and brings each night's update into copies of the packages that shipped."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from device_sim.heads.heads import LEARNING_FILE, create_heads, open_heads
from device_sim.heads.learning import LearnedHead, write_learning
from device_sim.heads.shipped import PART, identity, read_head, shipped_head
from device_sim.routes.choosing import make_route
from device_sim.routes.route import Delivered, HeadUpdate, Route
from device_sim.routes.verify import RouteCheck, verify_routes
from device_sim.runtimes.opening import evaluate, open_mirror
from device_sim.simulate.integrity import Integrity, compare_packages
from grpo.head import Head
from grpo.learners import Kept
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.registry.record import Gate, Record

PROBES: Final = 8
"""Texts whose logits are compared every night."""


@dataclass(frozen=True)
class Delivery:
    """One night's update on the device.

    Attributes:
        head: that the device holds now, read back from the first route's copy.
        checks: of each route against PyTorch's head.
        integrity: route -> its copy beside the package that shipped.
        version: of the head in the store; None where the update left the head as it was, bit for bit.
        activated: whether the gates let it become the active one.
    """

    head: Head = field(repr=False)
    checks: tuple[RouteCheck, ...]
    integrity: dict[str, Integrity]
    version: str | None
    activated: bool


class Phone:
    """Routes with their copies, and the store of head versions, all under one folder."""

    def __init__(
        self, bundle: VerifiedBundle, routes: Sequence[Route], folder: Path, probes: NDArray[np.float32]
    ) -> None:
        """
        Args:
            probes: (N, 1536) embeddings whose logits the routes are compared on.
        """
        self.bundle = bundle
        self.routes = tuple(routes)
        self.folder = folder
        self.probes = probes[:PROBES]
        # Frozen, so PyTorch's latents of the probes are the same every night.
        mirror = open_mirror(bundle.package(PART), bundle.places(PART))
        self.probe_latents, _ = evaluate(mirror, self.probes)
        self.shipped = shipped_head(bundle)
        self.store = create_heads(folder / "heads", identity(bundle), self.shipped)
        self.shipped_version = self.store.active
        self.delivered: tuple[Delivered, ...] = ()
        self.held_before = [(self.shipped_version, self.shipped)]
        self.refused = False

    def deliver(self, update: HeadUpdate, record: Record, kept: Kept | None = None) -> Delivery:
        """Bring an update into a copy by every route, read it back, verify it, and keep the version.

        What left the head as it was is no version; what its learner keeps is then beside the store.

        Args:
            kept: what the learner keeps beside the head.

        Raises:
            MismatchError: a route found that something else than the head would change.
        """
        self.delivered = tuple(route.apply(update, self._target(route)) for route in self.routes)
        checks = verify_routes(update, self.delivered, self.probes, self.probe_latents)
        integrity = {delivered.route: self._compare(delivered) for delivered in self.delivered}
        gates = (
            *(Gate(f"route {check.route}", check.passed, check.reason) for check in checks),
            *(
                Gate(f"frozen by {route}", found.tensors_identical and found.bytes_identical)
                for route, found in integrity.items()
            ),
        )
        head = self.held(self.delivered[0])
        learned = None if kept is None else kept._replace(head=head)
        beside = self.folder / LEARNING_FILE
        if all(gate.passed for gate in gates) and _identical(head, self.held_before[-1][1]):
            if learned is not None:
                write_learning(beside, learned)
            return Delivery(head, checks, integrity, None, False)
        beside.unlink(missing_ok=True)
        stored = head if learned is None else LearnedHead.of(learned)
        self.refused = True
        version = self.store.add(stored, replace(record, parents=(self.store.active,), gates=gates))
        activated = all(gate.passed for gate in gates)
        if activated:
            self.refused = False
            self.store.activate(version)
            self.held_before.append((version, head))
        return Delivery(head, checks, integrity, version, activated)

    def held(self, delivered: Delivered) -> Head:
        """The head in a copy, read from its bytes; for `state`, what its buffers hold."""
        if delivered.buffers:
            return delivered.head
        return read_head(delivered.package, self.bundle.places(self._part(delivered)))

    def patched(self) -> Path:
        """`PersonalityModel.mlpackage` with the head that the device holds."""
        for delivered in self.delivered:
            if delivered.route == "patch":
                return delivered.package
        return self._patch(self.held(self.delivered[0]), "packages")

    def rolled_back(self) -> tuple[bool, str]:
        """Whether a copy of the store gives back every head, bit for bit, down to the shipped one.

        That one is patched into the package, and every byte compared, the head's too.
        """
        aside = self.folder / "restored"
        shutil.copytree(self.store.path, aside / "heads")
        store = open_heads(aside / "heads")
        wrong = []
        for version, head in reversed(self.held_before[:-1]):
            back = store.rollback()
            if back != version or not _identical(store.load(back), head):
                wrong.append(back)
        shipped = store.load(store.active)
        found = compare_packages(self.bundle.package(PART), self._patch(shipped, "restored"), ())
        shutil.rmtree(aside)
        steps = len(self.held_before) - 1
        if not steps and self.refused:
            return False, "no update was activated, so there is nothing to go back from"
        back_to = f"{steps} back to the shipped head" if steps else "no update made a version"
        detail = f"{back_to}: {found.changed_bytes:,} of {found.other_bytes:,} bytes differ"
        if wrong:
            detail = f"{wrong[0]} is not the head that was active; {detail}"
        return not wrong and found.bytes_identical, detail

    def _patch(self, head: Head, folder: str) -> Path:
        patch = make_route(self.bundle, "patch")
        update = HeadUpdate(self.shipped, head, torch.zeros(1, head.weight.shape[1]))
        return patch.apply(update, self._target(patch, folder)).package

    def _part(self, delivered: Delivered) -> str:
        return next(route.part for route in self.routes if route.name == delivered.route)

    def _target(self, route: Route, folder: str = "packages") -> Path:
        return self.folder / folder / route.name / self.bundle.package(route.part).name

    def _compare(self, delivered: Delivered) -> Integrity:
        part = self._part(delivered)
        return compare_packages(self.bundle.package(part), delivered.package, self.bundle.places(part))


def _identical(ours: Head, theirs: Head) -> bool:
    """Bit for bit: -0.0 is not 0.0."""
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(ours, theirs, strict=True))
