"""What the service is allowed to do, and to whom it answers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from foliocast.apps.binding import is_loopback
from foliocast.core.errors import ConfigError
from foliocast.runtime.home import home

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "testserver")


@dataclass(frozen=True)
class Settings:
    """Limits and places of one service.

    Parameters
    ----------
    folder : Path
        Jobs, uploads and results; no path outside it is ever served.
    token : str or None
        Bearer token; required when the service is bound to anything but loopback.
    max_body_bytes : int
        Requests larger than this are refused with 413 before they are read.
    max_unpacked_bytes : int
        An upload that unpacks to more than this is refused.
    requests_per_minute : int
        Per client address; more are answered with 429. 0 switches it off.
    body_seconds : float
        A client that has not sent its request in this time is answered with 408.
    answer_seconds : float
        A forecast that takes longer (its model is being fitted) is answered with 503; it goes on, so ask again.
    stream_seconds : float
        A stream of events ends after this time; browsers open it again by themselves.
    max_streams : int
        Streams of events at the same time.
    workers : int
        Jobs that run at the same time.
    max_waiting : int
        Jobs, and forecasts, that may wait.
    origins : tuple of str
        Web origins that may call from a browser; none by default.
    hosts : tuple of str
        Names by which the service without a token may be called: a page that had its own name resolve to 127.0.0.1
        could otherwise talk to it. With a token, any.
    """

    folder: Path = field(default_factory=lambda: home() / "service")
    token: str | None = field(default_factory=lambda: os.environ.get("FOLIOCAST_API_TOKEN") or None)
    max_body_bytes: int = 32 * 1024 * 1024
    max_unpacked_bytes: int = 256 * 1024 * 1024
    requests_per_minute: int = 1200
    body_seconds: float = 60.0
    answer_seconds: float = 120.0
    stream_seconds: float = 3600.0
    max_streams: int = 64
    workers: int = 1
    max_waiting: int = 100
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = LOOPBACK_NAMES


def check_binding(host: str, token: str | None) -> None:
    """Refuse to stand open to a network without a token.

    Raises
    ------
    ConfigError
        If the host is not loopback and there is no token, or the token is too short to be one.
    """
    if token is not None and len(token) < 16:
        raise ConfigError("the API token has fewer than 16 characters; make one with: openssl rand -hex 24")
    if not is_loopback(host) and token is None:
        raise ConfigError(
            f"refusing to serve on {host} without a token: anyone who reaches it could start jobs; "
            "set FOLIOCAST_API_TOKEN or bind to 127.0.0.1"
        )
