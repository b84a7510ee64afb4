"""Middleware: size, rate and token, before anything is parsed."""

from __future__ import annotations

import hmac
import time
from collections import defaultdict, deque
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


class Guard:
    """Refuses what is too large, too frequent or unknown; plain ASGI, so that streams pass untouched.

    Parameters
    ----------
    app : ASGI application
    settings : Settings
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], settings: Settings) -> None:
        self.app, self.settings = app, settings
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key.lower(): value for key, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self.app(scope, self._limited(receive), send)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> JSONResponse | None:
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
        recent = self._seen[client]
        while recent and now - recent[0] > 60:
            recent.popleft()
        if len(recent) >= limit:
            return False
        recent.append(now)
        return True

    def _limited(self, receive: Receive) -> Receive:
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.settings.max_body_bytes:
                raise HTTPException(413, self._size_text())
            return message

        return counted

    def _size_text(self) -> str:
        return f"the request is larger than {self.settings.max_body_bytes // 1024 // 1024} MiB"

    @staticmethod
    def _error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": text}, status_code=status, headers=headers)
