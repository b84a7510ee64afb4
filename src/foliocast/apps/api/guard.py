"""Middleware: host, size, rate and token, before anything is parsed."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from foliocast.apps.api.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
OPEN_PATHS = {"/health"}
ADDRESSES = 10_000  # whose rates are remembered
# A report is one file with its own style and script: it may run them, alone in its frame, and reach nothing.
REPORT_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; sandbox allow-scripts"
)
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", REPORT_POLICY),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Refuses what is too large, too slow, too frequent or unknown; plain ASGI, so that streams pass untouched.

    Parameters
    ----------
    app : ASGI application
    settings : Settings
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], settings: Settings) -> None:
        self.app, self.settings = app, settings
        self._seen: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key.lower(): value for key, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, _safe(send))
            return
        await self.app(scope, self._limited(receive), _safe(send))

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> JSONResponse | None:
        if self.settings.token is None and _host(headers) not in self.settings.hosts:
            return self._error(421, "this service without a token answers to its loopback name only")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.settings.max_body_bytes:
            return self._error(413, self._size_text())
        client = (scope.get("client") or ("?", 0))[0]
        if not self._allowed(client):
            return self._error(429, "too many requests from this address; wait a minute", {"Retry-After": "60"})
        if self.settings.token is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self.settings.token.encode()):
                return self._error(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})
        return None

    def _allowed(self, client: str) -> bool:
        limit, now = self.settings.requests_per_minute, time.monotonic()
        if limit == 0:
            return True
        recent = self._seen.pop(client, None) or deque()
        while recent and now - recent[0] > 60:
            recent.popleft()
        self._seen[client] = recent  # the newest last, so that the oldest is forgotten first
        if len(self._seen) > ADDRESSES:
            del self._seen[next(iter(self._seen))]
        if len(recent) >= limit:
            return False
        recent.append(now)
        return True

    def _limited(self, receive: Receive) -> Receive:
        """The body, up to its size and within its time; the end of a stream, which comes after it, may take longer."""
        read, ended = 0, False
        until = time.monotonic() + self.settings.body_seconds

        async def counted() -> Message:
            nonlocal read, ended
            if ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, "the request did not arrive in time") from None
            ended = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > self.settings.max_body_bytes:
                raise HTTPException(413, self._size_text())
            return message

        return counted

    def _size_text(self) -> str:
        return f"the request is larger than {self.settings.max_body_bytes / 1024 / 1024:.3g} MiB"

    @staticmethod
    def _error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": text}, status_code=status, headers=headers)


def _host(headers: dict[bytes, bytes]) -> str:
    """The name called, without its port."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def _safe(send: Send) -> Send:
    """Answers are what they say they are: a result is never run as a page of this origin, nor kept by a proxy."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            have = {key.lower() for key, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in SAFE_HEADERS if pair[0] not in have)]
        await send(message)

    return sending
