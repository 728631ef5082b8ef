"""Where an endpoint listens, and how much it takes on."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from personality_common.errors import ConfigError


@dataclass(frozen=True)
class EndpointConfig:
    """Where and for whom to serve.

    Attributes:
        host: address to listen at; any that others can reach needs --api-key.
        port: to listen at; 0 takes a free one.
        api_key: what clients must send as a bearer token; better as PT_API_KEY, since others see commands.
        queue: requests that may wait while one is answered; more get 503.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = None
    queue: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise ConfigError(f"--port must be between 0 and 65535, got {self.port}")
        if not 0 <= self.queue <= 1_000:
            raise ConfigError(f"--queue must be between 0 and 1000, got {self.queue}")
        key = self.api_key
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key and key):
            raise ConfigError("--api-key must be of ASCII letters, digits and signs, without spaces")
        if not self.is_local and key is None:
            raise ConfigError(f"--host {self.host} lets others in: give --api-key, or set PT_API_KEY")

    @property
    def is_local(self) -> bool:
        """Nobody else can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
