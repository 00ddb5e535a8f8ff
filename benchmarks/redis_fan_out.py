"""What a publish costs Redis by the number of nodes that hear it: ``python -m benchmarks.redis_fan_out``.

Load: one connection publishes 128 bytes and awaits the answers of each batch; the others have subscribed. CPU µs of
Redis per message, in batches of 1 and of 16. Invariant: every connection gets every byte, or the run fails.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import sys
from typing import Final

from benchmarks import table
from benchmarks.brokers import OwnRedis
from benchmarks.nodes import cpu_s
from benchmarks.table import Table

NODES: Final = (1, 2, 5, 10, 20, 50)
BATCHES: Final = (1, 16)
_PAYLOAD: Final = b"x" * 128
_TIMEOUT_S: Final = 60.0


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def delivered(channel: bytes) -> bytes:
    """What a subscriber gets for one message."""
    return command(b"message", channel, _PAYLOAD)


def redis_us(port: int, pid: int, listeners: int, batch: int, messages: int) -> float:
    """Raises: RuntimeError where bytes are missing."""
    channel = b"room"
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(listeners + 1)]
    publisher, *subscribers = sockets
    try:
        for each in subscribers:
            each.sendall(command(b"SUBSCRIBE", channel))
            each.recv(4096)
        request, answer = command(b"PUBLISH", channel, _PAYLOAD) * batch, b":%d\r\n" % listeners * batch
        _round(publisher, subscribers, request, answer, len(delivered(channel)) * batch)
        before = cpu_s([pid])
        for _ in range(messages // batch):
            _round(publisher, subscribers, request, answer, len(delivered(channel)) * batch)
        return (cpu_s([pid]) - before) * 1e6 / (messages // batch * batch)
    finally:
        for each in sockets:
            each.close()


def _round(publisher: socket.socket, subscribers: list[socket.socket], request: bytes, answer: bytes, due: int) -> None:
    publisher.sendall(request)
    left = {publisher: len(answer), **dict.fromkeys(subscribers, due)}
    with selectors.DefaultSelector() as selector:
        for sock in left:
            selector.register(sock, selectors.EVENT_READ)
        while any(left.values()):
            ready = selector.select(_TIMEOUT_S)
            if not ready:
                raise RuntimeError(f"bytes missing at {sum(map(bool, left.values()))} connections")
            for key, _ in ready:
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                left[sock] -= len(sock.recv(65536))
                if left[sock] < 0:
                    raise RuntimeError("more bytes than were published")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    own = OwnRedis()
    rows = []
    with own as url:
        if url is None:
            print("redis-server is not installed", file=sys.stderr)
            return 2
        port = int(url.rpartition(":")[2])
        for listeners in NODES:
            found = [redis_us(port, own.process.pid, listeners, batch, options.messages) for batch in BATCHES]
            rows.append([str(listeners), *(f"{us:.1f}" for us in found)])
    headings = ["nodes that hear it", *(f"Redis µs, batches of {batch}" for batch in BATCHES)]
    print((table.as_markdown if options.markdown else table.as_text)(Table(headings, rows, range(3))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
