"""Who may ask: this machine's programs and the endpoint's own page, not pages of other sites in a browser.

A page of another site can have a browser send requests here. It cannot hide its Origin; and where it has made
its own name stand for 127.0.0.1 (DNS rebinding), that name is the Host.
"""

from __future__ import annotations

import hmac
from email.message import Message
from urllib.parse import urlsplit

from personality_common.endpoint.config import EndpointConfig
from personality_common.endpoint.model import RequestError

LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))


def check_site(headers: Message, config: EndpointConfig) -> None:
    """RequestError if a request comes from a page of another site."""
    hosts, origins = headers.get_all("Host", []), headers.get_all("Origin", [])
    if len(hosts) != 1 or len(origins) > 1:
        raise RequestError("a request must have one Host, and one Origin at most", 400, "host")
    if config.is_local and _name(hosts[0]) not in LOCAL_NAMES | {config.host}:
        raise RequestError("Host must be localhost: this endpoint is for this machine alone", 403, "host")
    site = headers.get("Sec-Fetch-Site", "none")
    if (origins and origins[0] != f"http://{hosts[0]}") or site not in ("none", "same-origin"):
        raise RequestError("pages of other sites may not ask here", 403, "origin")


def check_key(headers: Message, config: EndpointConfig) -> None:
    """RequestError if a key is needed and the request has another."""
    if config.api_key is None:
        return
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    sent = key.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent, config.api_key.encode()):
        raise RequestError("the API key must be sent as a bearer token, and be right", 401, "invalid_api_key")


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"http://{host}").hostname
    except ValueError:
        return None
