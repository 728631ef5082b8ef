"""What an endpoint has beside the protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from personality_common.endpoint.exchange import Exchange
from personality_common.endpoint.fields import Fields
from personality_common.endpoint.model import Card
from personality_common.page.page import Application


@dataclass(frozen=True)
class Site:
    """What an endpoint has beside the protocols, for its own page.

    Attributes:
        page: at `/`; None: the plain one.
        exchanges: path -> what is asked there, see `Exchange`.
        actions: path -> what answers an object of JSON with another; one at a time, and none beside an answer
            of the model. They must be sent as application/json, which no form of another site can do.
    """

    page: Application | None = None
    exchanges: Mapping[str, Callable[[Fields, Card], Exchange]] = field(default_factory=dict)
    actions: Mapping[str, Callable[[Fields], Any]] = field(default_factory=dict)
