"""A worker in a process of its own, to be killed and stopped: says what it hears, a line each, on standard output.

``python -m tests.brokers.worker DIRECTORY TOPIC``
"""

from __future__ import annotations

import asyncio
import sys

from gateway.brokers.base import Callbacks, Gap
from gateway.brokers.unix import UnixBroker


def say(*words: object) -> None:
    print(*words, flush=True)


async def main(directory: str, topic: str) -> None:
    def gap(found: Gap) -> None:
        say("gap", found.peer)

    broker = UnixBroker(
        directory,
        callbacks=Callbacks(
            on_message=lambda _topic, _sender, payload: say("message", payload[:20].decode()),
            on_node_joined=lambda node: say("joined", node.id),
            on_node_left=lambda node: say("left", node.id),
            on_gap=gap,
        ),
    )
    broker.subscribe(topic)
    await broker.start()
    await broker.synced(10)
    say("id", broker.node.id)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
