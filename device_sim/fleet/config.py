"""What `pt fleet` is asked to do, checked on construction."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from device_sim.fleet.mix import parse_mix
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from grpo.learners import LearnerName, default_learner
from personality_common.errors import ConfigError, ToolkitError


@dataclass(frozen=True)
class FleetConfig:
    """One run of `pt fleet`.

    Attributes:
        bundle: what `pt export` wrote.
        data: conversations whose texts the users react to.
        devices: how many; device i has the seed --seed + i.
        user: kinds of users with weights, as for pt simulate: 0.6*profile+0.4*thumbs:answers=0.3
        run: the bundle's run: embed texts with its encoder, not with the bundle's.
        allow_remote_encoder: send texts away for a run that was not made here and whose encoder is hosted.
        out: work folder: the same command goes on in it. Figures and report are there in the end.
        workers: processes; none: one for each core.
        learner: posterior or grpo; left out, posterior, or grpo if a setting is of gradients.
        nights: how the days are spent.
        grpo: the update.
    """

    bundle: Path
    data: str
    devices: int = 10_000
    user: str = "0.5*profile+0.2*thumbs+0.1*drifting+0.1*contrary+0.1*random"
    run: Path | None = None
    allow_remote_encoder: bool = False
    out: Path = Path("fleet")
    workers: int | None = None
    learner: LearnerName | None = None
    nights: NightsConfig = field(default_factory=lambda: NightsConfig(nights=30, interactions=20))
    grpo: GRPOConfig = field(default_factory=GRPOConfig)

    def __post_init__(self) -> None:
        for name in ("devices", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name} must be 1 or more, got {value}")
        try:
            parse_mix(self.user)
        except ToolkitError as error:
            raise ConfigError(f"--user: {error}") from None

    @property
    def learns_by(self) -> LearnerName:
        """The learner of every device."""
        return self.learner or default_learner(self.grpo)

    @property
    def processes(self) -> int:
        """Workers to start."""
        if self.workers is not None:
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
