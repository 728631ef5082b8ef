"""The port: taken before a model is loaded, so that one that is taken already is known at once."""

from __future__ import annotations

import errno
import socket
from typing import Final

from personality_common.endpoint.config import EndpointConfig
from personality_common.errors import ToolkitError

_BACKLOG: Final = 128
"""Who connects while the model is loaded waits here."""


def listen(config: EndpointConfig) -> socket.socket:
    """Listen where a config says.

    Raises:
        ToolkitError: the port is taken, or is not this user's to take.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {config.port} of {config.host} is taken; choose another with --port"
        else:
            reason = f"{config.host} port {config.port} cannot be listened at: {error.strerror or error}"
        raise ToolkitError(reason) from None
