"""A companion behind a real endpoint, for tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from device_sim.companion.companion import Companion, Parts
from device_sim.companion.events import Event, Turn
from device_sim.companion.log import EventLog
from device_sim.companion.serving.model import CompanionModel
from device_sim.companion.serving.page import companion_site
from personality_common.endpoint.config import EndpointConfig
from personality_common.endpoint.server import Endpoint

from .conversing import Masking, Moody, Remembering, Scripted, take_tags


@dataclass(frozen=True)
class Served:
    """An endpoint, and what is behind it."""

    endpoint: Endpoint
    log: EventLog
    memory: Remembering
    model: Scripted

    @property
    def events(self) -> list[Event]:
        return list(self.log.read())

    @property
    def turns(self) -> list[Turn]:
        return [event.body for event in self.events if isinstance(event.body, Turn)]

    @property
    def texts(self) -> list[str | None]:
        return [turn.text for turn in self.turns]


@contextlib.contextmanager
def serving(log: EventLog, model: Scripted, key: str | None = None) -> Iterator[Served]:
    """Until the end of the context."""
    memory = Remembering()
    parts = Parts(model, Masking(), take_tags, lambda: memory, Moody)
    behind = CompanionModel(Companion(log, parts))
    site = companion_site(behind, with_key=key is not None)
    endpoint = Endpoint(behind, EndpointConfig(port=0, api_key=key), site)
    thread = threading.Thread(target=endpoint.run)
    thread.start()
    try:
        yield Served(endpoint, log, memory, model)
    finally:
        endpoint.shutdown()
        thread.join()
