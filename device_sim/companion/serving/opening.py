"""An endpoint from its config: the port first, then the store, then what takes long."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from device_sim.companion.config import ServeConfig
from device_sim.companion.opening import open_companion
from device_sim.companion.serving.model import CompanionModel
from device_sim.companion.serving.page import companion_site
from personality_common.endpoint.listening import listen
from personality_common.endpoint.server import Endpoint
from personality_common.terminal.progress import Reporter


@contextlib.contextmanager
def open_endpoint(config: ServeConfig, reporter: Reporter) -> Iterator[Endpoint]:
    """Hold a port and a store; `run` serves.

    Raises:
        ToolkitError: the port is taken, another process has the store, or a part of the companion cannot be
            opened.
    """
    with listen(config.endpoint) as wire, open_companion(config, reporter) as companion:
        # What is wrong with them is said now, not to whoever asks first.
        for part in (companion.parts.memory, companion.parts.mood):
            if part is not None:
                part()
        model = CompanionModel(companion)
        site = companion_site(model, with_key=config.api_key is not None)
        yield Endpoint(model, config.endpoint, site, reporter, wire)
