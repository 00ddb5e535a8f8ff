"""Handing accepted connections to another process of this host, with the bytes that were read from them.

A channel is a Unix stream socket. Each connection travels as one frame: a letter that says what it is, the number of
bytes, the bytes; its descriptor is attached to the first of them. So descriptors arrive in the order of their frames,
and each no later than the end of its frame.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

_FRAME: Final = struct.Struct(">cI")
#: A client's connection, which speaks to the public listener.
CLIENT: Final = b"C"
#: A connection of another host, which has shown that it knows the cluster's secret, and sends requests as on a link.
LINK: Final = b"L"
#: Bytes that may come with a connection: a head, and what one read may bring behind it.
MAX_DATA_BYTES: Final = 1024 * 1024
_MAX_FDS: Final = 64
_READ_BYTES: Final = 64 * 1024
#: The kernel lets no more descriptors be under way: others have to arrive first.
_RETRY_S: Final = 0.01

#: What a connection to a worker's socket says first.
CHANNEL_GREETING: Final = b"H"
LINK_GREETING: Final = b"R"


class HandoverChannel:
    """The sending end. Raises: OSError where nobody listens at ``path``.

    ``undelivered`` gets back what the other process did not take before it ended; ``gone`` is called then.
    """

    def __init__(
        self,
        path: Path,
        undelivered: Callable[[bytes, int, bytes], None],
        gone: Callable[[], None],
    ) -> None:
        self._undelivered = undelivered
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        #: Kind, descriptor and data; the first may have gone out in part, and then has no descriptor any more.
        self._waiting: deque[tuple[bytes, int, bytes]] = deque()
        self._rest = b""
        self._is_writing = False
        self._is_ending = False
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.setblocking(False)
            self._sock.connect(str(path))
            self._sock.send(CHANNEL_GREETING)
        except OSError:
            self._sock.close()
            raise
        self._loop.add_reader(self._sock.fileno(), self._ended)

    def send(self, kind: bytes, fd: int, data: bytes) -> None:
        """Hand ``fd`` over, which is the channel's from now on."""
        self._waiting.append((kind, fd, data))
        if not self._is_writing:
            self._flush()

    def close(self) -> None:
        """What is still waiting is given back."""
        if self._sock.fileno() < 0:
            return
        self._stop_writing()
        if not self._is_ending:
            self._end()
        self._sock.close()

    def _end(self) -> None:
        self._is_ending = True
        self._loop.remove_reader(self._sock.fileno())
        waiting, self._waiting = self._waiting, deque()
        self._gone()
        for kind, fd, data in waiting:
            self._undelivered(kind, fd, data)

    def _ended(self) -> None:
        # Nothing is ever said on it, so the other end takes no more. Whose descriptor is gone has to follow it.
        self._end()
        if not self._rest:
            self.close()

    def _flush(self) -> None:
        while self._rest or self._waiting:
            try:
                if self._rest:
                    self._rest = self._rest[self._sock.send(self._rest) :]
                    continue
                kind, fd, data = self._waiting[0]
                frame = _FRAME.pack(kind, len(data)) + data
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
                sent = self._sock.sendmsg([frame], rights)
            except BlockingIOError:
                if not self._is_writing:
                    self._is_writing = True
                    self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:
                    self._loop.call_later(_RETRY_S, self._retry)
                else:
                    self.close()
                return
            self._waiting.popleft()
            os.close(fd)
            self._rest = frame[sent:]
        self._stop_writing()
        if self._is_ending:
            self.close()

    def _retry(self) -> None:
        if self._sock.fileno() >= 0:
            self._flush()

    def _stop_writing(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._sock.fileno())


class HandoverReceiver:
    """The receiving end of a channel: ``received`` gets kind, descriptor and data of each connection."""

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[[bytes, int, bytes], None],
        gone: Callable[[HandoverReceiver], None],
    ) -> None:
        self._sock = sock
        self._received = received
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._fds: deque[int] = deque()
        self._loop.add_reader(sock.fileno(), self._read)

    def finish(self) -> None:
        """Let the sender know that this end takes no more; what is under way still comes, and then the end."""
        if self._sock.fileno() >= 0:
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        while self._fds:
            os.close(self._fds.popleft())
        self._gone(self)

    def _read(self) -> None:
        size = array.array("i").itemsize
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(
                _READ_BYTES, socket.CMSG_SPACE(_MAX_FDS * size), getattr(socket, "MSG_CMSG_CLOEXEC", 0)
            )
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % size])
                self._fds.extend(fds)
        if not data or flags & socket.MSG_CTRUNC:
            self.close()
            return
        self._buffer += data
        while len(self._buffer) >= _FRAME.size:
            kind, length = _FRAME.unpack_from(self._buffer)
            end = _FRAME.size + length
            if length > MAX_DATA_BYTES or kind not in (CLIENT, LINK):
                self.close()
                return
            if len(self._buffer) < end:
                return
            if not self._fds:
                self.close()
                return
            frame, self._buffer = self._buffer[_FRAME.size : end], self._buffer[end:]
            self._received(kind, self._fds.popleft(), frame)


def peer_is_ours(sock: socket.socket) -> bool:
    """Whether the process at the other end of a Unix socket runs as our user, or as root."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # the directory's mode has to do
    credentials = struct.Struct("3i")
    _, uid, _ = credentials.unpack(sock.getsockopt(socket.SOL_SOCKET, option, credentials.size))
    return uid in (0, os.geteuid())
