"""Listening sockets that outlive the workers which accept from them.

Where Linux shares a port between sockets, each worker has one of its own: the kernel spreads connections evenly over
them, which workers that wait at one and the same socket do not (docs/design/workers.md has the figures). All of them
stay open in the supervisor, and are accepted from by another worker while one is away, so no connection is refused.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Final

#: Family, and what the system knows it by.
Address = tuple[int, tuple[Any, ...]]
CAN_SHARE_PORT: Final = sys.platform == "linux"
#: How long a connection without a request stays with the kernel, where another worker can take it when one dies. Linux
#: counts in repetitions of its SYN-ACK, of which the first comes after a second.
DEFER_S: Final = 1


def bind(host: str, port: int, count: int, backlog: int, *, defers: bool = False) -> list[list[socket.socket]]:
    """For each of ``count`` workers its sockets, one for each address of ``host``; one entry for all where no port
    can be shared. Port 0 takes a free one, the same for all addresses.

    ``defers``: clients speak first here, so connections are accepted when they do, or after ``DEFER_S``.

    Raises: OSError.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses: list[Address] = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    bound: list[list[socket.socket]] = []
    try:
        if CAN_SHARE_PORT and count > 1:
            # A socket that shares its port may join those of another gateway; one that does not tells it is taken.
            probes = _bind_all(addresses, port, shares=False)
            port = probes[0].getsockname()[1]
            for probe in probes:
                probe.close()
        for _ in range(count if CAN_SHARE_PORT else 1):
            bound.append(_bind_all(addresses, port, shares=CAN_SHARE_PORT and count > 1))
            port = bound[0][0].getsockname()[1]
        for sock in (each for several in bound for each in several):
            if defers and hasattr(socket, "TCP_DEFER_ACCEPT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_S)
            sock.listen(backlog)
    except OSError:
        for sock in (each for several in bound for each in several):
            sock.close()
        raise
    return bound


def _bind_all(addresses: list[Address], port: int, *, shares: bool) -> list[socket.socket]:
    bound: list[socket.socket] = []
    try:
        for family, address in addresses:
            sock = socket.socket(family, socket.SOCK_STREAM)
            bound.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            port = port or sock.getsockname()[1]
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


def name_of(sock: socket.socket) -> str:
    """``host:port``, or the path of a Unix socket."""
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
