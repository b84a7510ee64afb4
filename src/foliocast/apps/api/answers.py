"""Forecasts for many at once: one worker computes, each question once, and answers are kept."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from foliocast.runtime.files import plain

Answer = TypeVar("Answer")


class BusyError(Exception):
    """The answer is not there yet, or too many wait; asking again later helps."""


class Answers:
    """Computes in one worker thread, remembers the last answers, and never computes the same twice at once.

    Parameters
    ----------
    seconds : float
        Longest wait for an answer; the computation goes on and a later call gets it.
    max_waiting : int
        Questions that may wait for the worker.
    size : int
        Answers kept.
    """

    def __init__(self, seconds: float, max_waiting: int, size: int = 2048) -> None:
        self.seconds, self.max_waiting, self.size = seconds, max_waiting, size
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forecast")
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._asked: dict[Hashable, asyncio.Future[bytes]] = {}

    async def get(self, question: Hashable, compute: Callable[[], dict[str, Any]]) -> bytes:
        """The answer as JSON.

        Raises
        ------
        BusyError
            It takes longer than ``seconds``, or too many wait.
        """
        if question in self._kept:
            self._kept.move_to_end(question)
            return self._kept[question]
        future = self._asked.get(question)
        if future is None:
            if len(self._asked) >= self.max_waiting:
                raise BusyError("too many forecasts are being computed; try again in a moment")
            loop = asyncio.get_running_loop()
            future = self._asked[question] = loop.run_in_executor(self._worker, lambda: _json(compute()))
            future.add_done_callback(lambda done: self._keep(question, done))
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.seconds)
        except TimeoutError:
            raise BusyError("the model is still being fitted; try again in a moment") from None

    def close(self) -> None:
        """Start no further computation."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _keep(self, question: Hashable, done: asyncio.Future[bytes]) -> None:
        self._asked.pop(question, None)
        if done.cancelled() or done.exception() is not None:
            return  # those who wait are told; the next to ask tries again
        self._kept[question] = done.result()
        if len(self._kept) > self.size:
            self._kept.popitem(last=False)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(plain(value), allow_nan=False).encode()
