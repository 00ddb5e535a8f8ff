"""Whom a link asks where its master is."""

from __future__ import annotations

import asyncio

import pytest

from gateway.brokers.redis_connection import ConnectionLost
from gateway.brokers.redis_options import Address
from gateway.brokers.redis_topology import first_answer
from gateway.brokers.resp import RespError
from tests.support.waiting import timeout_s


class Witnesses:
    """Each answers with its port, is silent (None), or raises."""

    def __init__(self, *answers: int | Exception | None) -> None:
        self.answers = {Address(f"w{place}", 1): answer for place, answer in enumerate(answers)}
        self.asked: list[str] = []
        self.left: list[str] = []

    async def ask(self, address: Address) -> int:
        self.asked.append(address.host)
        answer = self.answers[address]
        try:
            if answer is None:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
        finally:
            self.left.append(address.host)
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    async def first(self, seconds: float = 60.0) -> tuple[str, int]:
        address, answer = await first_answer(self.answers, self.ask, seconds)
        return address.host, answer


async def test_first_that_answers_is_asked_alone() -> None:
    witnesses = Witnesses(1, 2)
    assert await witnesses.first() == ("w0", 1)
    assert witnesses.asked == ["w0"]


async def test_who_is_silent_or_fails_has_the_next_one_asked() -> None:
    witnesses = Witnesses(None, OSError("refused"), RespError("ERR no"), ConnectionLost("gone"), None, 5)
    assert await witnesses.first() == ("w5", 5)
    assert witnesses.asked == [f"w{place}" for place in range(6)]
    assert sorted(witnesses.left) == sorted(witnesses.asked), "nobody is waited for any more"


async def test_where_nobody_answers_it_says_why_not() -> None:
    witnesses = Witnesses(OSError("refused"), None)
    with pytest.raises(ConnectionLost) as lost:
        await witnesses.first(timeout_s(0.5))
    assert str(lost.value) == "w0:1: refused; w1:1: no answer in time"
    assert sorted(witnesses.left) == ["w0", "w1"]


async def test_fault_of_ours_is_no_answer_of_theirs() -> None:
    with pytest.raises(ZeroDivisionError):
        await Witnesses(None, ZeroDivisionError()).first()
