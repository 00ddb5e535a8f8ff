"""What the supervisor and a worker say to each other: JSON objects, one a line, over a pair of sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Final

#: Of a message; a report with every refusal there is has a few kilobytes.
MAX_MESSAGE_BYTES: Final = 1024 * 1024


class Channel:
    """One end. Ends when the process at the other does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=MAX_MESSAGE_BYTES))

    def send(self, **message: Any) -> None:
        """Does nothing when the other end is gone."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Ends with the other process."""
        while True:
            try:
                line = await self._reader.readline()
            except (ConnectionError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)

    def close(self) -> None:
        self._writer.close()

    async def finish(self) -> None:
        """Close once everything was sent that the other end still takes."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def read_first(sock: socket.socket) -> dict[str, Any]:
    """The first message, before there is a loop. Raises: EOFError where the supervisor is gone."""
    data = b""
    while not data.endswith(b"\n"):
        more = sock.recv(1)
        if not more:
            raise EOFError("the supervisor is gone")
        data += more
    message: dict[str, Any] = json.loads(data)
    return message


def send_last(sock: socket.socket, **message: Any) -> None:
    """A message where there is no loop; the process ends after it. Does nothing when the other end is gone."""
    with contextlib.suppress(OSError):
        sock.sendall(json.dumps(message).encode() + b"\n")
