"""What the service is allowed to do, and to whom it answers."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from foliocast.core.errors import ConfigError
from foliocast.runtime.home import home


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
    requests_per_minute : int
        Per client address; more are answered with 429. 0 switches it off.
    workers : int
        Jobs that run at the same time.
    origins : tuple of str
        Web origins that may call from a browser; none by default.
    """

    folder: Path = field(default_factory=lambda: home() / "service")
    token: str | None = field(default_factory=lambda: os.environ.get("FOLIOCAST_API_TOKEN") or None)
    max_body_bytes: int = 32 * 1024 * 1024
    requests_per_minute: int = 1200
    workers: int = 1
    origins: tuple[str, ...] = ()


def check_binding(host: str, token: str | None) -> None:
    """Refuse to stand open to a network without a token.

    Raises
    ------
    ConfigError
        If the host is not loopback and there is no token, or the token is too short to be one.
    """
    if token is not None and len(token) < 16:
        raise ConfigError("the API token has fewer than 16 characters; make one with: openssl rand -hex 24")
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and token is None:
        raise ConfigError(
            f"refusing to serve on {host} without a token: anyone who reaches it could start jobs; "
            "set FOLIOCAST_API_TOKEN or bind to 127.0.0.1"
        )
