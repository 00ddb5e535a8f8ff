"""Numbered messages that flow while something fails, and what must be true of those that came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gateway.brokers.base import BrokerError, WhenDown

from .recording import TestNode


class Flow:
    """``taken``: numbers that ``publish`` returned for. ``failed``: those it raised for."""

    def __init__(self, node: TestNode, topic: str, *, durable: bool, when_down: WhenDown = "wait") -> None:
        self.node = node
        self.topic = topic
        self.durable = durable
        self.when_down = when_down
        self.taken: list[int] = []
        self.failed: list[int] = []
        self._is_stopping = False

    async def run(self) -> None:
        number = 0
        while not self._is_stopping:
            try:
                await self.node.broker.publish(
                    self.topic, b"%d" % number, durable=self.durable, when_down=self.when_down
                )
                self.taken.append(number)
            except BrokerError:
                self.failed.append(number)
            number += 1
            await asyncio.sleep(0.002)

    def stop(self) -> None:
        self._is_stopping = True

    def received(self, node: TestNode) -> list[int]:
        return [int(payload) for payload in node.seen.payloads(self.topic)]


@contextlib.asynccontextmanager
async def flowing(*flows: Flow) -> AsyncIterator[None]:
    """The flows run meanwhile; all have ended after it."""
    tasks = [asyncio.create_task(flow.run()) for flow in flows]
    try:
        yield
        for flow in flows:
            flow.stop()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def assert_in_order_and_once(numbers: list[int]) -> None:
    assert numbers == sorted(set(numbers)), "duplicates, or out of order"
