"""Many who ask the same are one computation; who asks too much or too long is told."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from foliocast.apps.api.answers import Answers, BusyError


def test_the_same_question_is_computed_once_however_many_ask() -> None:
    asked: list[int] = []
    answers = Answers(seconds=30, max_waiting=10)

    def compute() -> dict[str, int]:
        asked.append(1)
        return {"n": len(asked)}

    async def crowd() -> list[bytes]:
        return await asyncio.gather(*(answers.get("q", compute) for _ in range(200)))

    assert {json.loads(text)["n"] for text in asyncio.run(crowd())} == {1}
    assert json.loads(asyncio.run(answers.get("q", compute))) == {"n": 1}
    assert len(asked) == 1
    answers.close()


def test_a_slow_answer_is_promised_and_there_later() -> None:
    answers, ready = Answers(seconds=0.05, max_waiting=10), threading.Event()

    def compute() -> dict[str, bool]:
        ready.wait(30)
        return {"done": True}

    async def ask() -> bytes:
        with pytest.raises(BusyError, match="still being fitted"):
            await answers.get("q", compute)
        ready.set()
        answers.seconds = 30
        return await answers.get("q", compute)

    assert json.loads(asyncio.run(ask())) == {"done": True}
    answers.close()


def test_a_crowd_of_different_questions_has_an_end_and_answers_are_forgotten_in_turn() -> None:
    answers, ready = Answers(seconds=30, max_waiting=2, size=1), threading.Event()

    def compute() -> dict[str, float]:
        ready.wait(30)
        return {"nan": float("nan")}

    async def ask() -> list[bytes]:
        first = [asyncio.ensure_future(answers.get(k, compute)) for k in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="too many"):
            await answers.get(2, compute)
        ready.set()
        return await asyncio.gather(*first)

    assert [json.loads(text) for text in asyncio.run(ask())] == [{"nan": None}] * 2
    assert len(answers._kept) == 1
    answers.close()


def test_a_failure_reaches_those_who_wait_and_is_not_kept() -> None:
    answers, calls = Answers(seconds=30, max_waiting=2), []

    def compute() -> dict[str, int]:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("once")
        return {"n": len(calls)}

    async def ask() -> bytes:
        with pytest.raises(ValueError, match="once"):
            await answers.get("q", compute)
        return await answers.get("q", compute)

    assert json.loads(asyncio.run(ask())) == {"n": 2}
    answers.close()
