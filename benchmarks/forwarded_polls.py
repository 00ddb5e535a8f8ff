"""A long-polling client whose requests reach the node that does not own its session: what it costs, and who can.

The client keeps a connection to each of two nodes. A round trip is a POST with an event and the GET that brings its
ack.
"""

from __future__ import annotations

import json
import socket
import statistics
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

from benchmarks import nodes
from benchmarks.forwarding import get
from benchmarks.measure import Cores
from benchmarks.nodes import SYSTEMS, Cluster, cpu_s, family
from benchmarks.peers import PeerError
from benchmarks.table import Table

ROUND_TRIPS: Final = 1000
_EVENT: Final = b'421["echo","%s"]' % (b"a" * 64)
_ACK: Final = b'431["%s"]' % (b"a" * 64)
_OURS: Final = nodes.TIDEGATE_FORWARDS
_THEIRS: Final = nodes.NODE_REDIS


def measure(runs: int, cores: Cores, tell: Callable[[str], None]) -> dict[str, Any]:
    """Medians by system: ``direct_us`` and ``passed_on_us`` of both nodes, or ``refused``: what the other node says.

    Raises: PeerError, also when a round trip brings anything but its ack.
    """
    found: dict[str, list[dict[str, Any]]] = {_OURS: [], _THEIRS: []}
    for turn in range(runs):
        for name in (_OURS, _THEIRS) if turn % 2 else (_THEIRS, _OURS):
            with nodes.running(SYSTEMS[name], cores) as cluster:
                figures = _one(cluster)
            found[name].append(figures)
            tell(f"polls  {name}, run {turn + 1}: {figures}")
    return {name: _median(each) for name, each in found.items()}


def as_table(polls: dict[str, Any]) -> Table:
    rows = []
    for name, figures in polls.items():
        passed_on = figures.get("passed_on_us")
        more = "-" if passed_on is None else f"{passed_on - figures['direct_us']:+.0f}"
        shown = figures["refused"] if passed_on is None else f"{passed_on:.0f}"
        rows.append([name, f"{figures['direct_us']:.0f}", shown, more])
    return Table(
        ["POST of an event, GET of its ack; µs of both nodes", "to the owner", "to the other", "more"],
        rows,
        range(1, 4),
    )


def _median(figures: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"direct_us": statistics.median(each["direct_us"] for each in figures)}
    if all("passed_on_us" in each for each in figures):
        found["passed_on_us"] = statistics.median(each["passed_on_us"] for each in figures)
    else:
        found["refused"] = next(each["refused"] for each in figures if "refused" in each)
    return {**found, "runs": figures}


def _one(cluster: Cluster) -> dict[str, Any]:
    pids = [pid for root in cluster.pids for pid in family(root, nodes.parents())]
    with closing(_connect(cluster.ports[0])) as owner, closing(_connect(cluster.ports[1])) as other:
        sid = json.loads(_ask(owner, get())[1][1:])["sid"]
        _ask(owner, _post(sid, b"40"))
        _ask(owner, get(sid))
        status, answer = _ask(other, _post(sid, b"3"))
        figures: dict[str, Any] = {}
        if status != 200:
            figures["refused"] = f"{status} {json.loads(answer)['message']}"
        for key, sock in (("direct_us", owner), ("passed_on_us", other)):
            if sock is other and "refused" in figures:
                continue
            for _ in range(ROUND_TRIPS):  # unmeasured: Node compiles what is hot
                _round_trip(sock, sid)
            before = cpu_s(pids)
            for _ in range(ROUND_TRIPS):
                _round_trip(sock, sid)
            figures[key] = (cpu_s(pids) - before) * 1e6 / ROUND_TRIPS
        return figures


def _round_trip(sock: socket.socket, sid: str) -> None:
    _ask(sock, _post(sid, _EVENT))
    status, answer = _ask(sock, get(sid))
    # A ping may come alone before the ack.
    while status == 200 and answer == b"2":
        _ask(sock, _post(sid, b"3"))
        status, answer = _ask(sock, get(sid))
    if status != 200 or _ACK not in answer:
        raise PeerError(f"{status} {answer.decode(errors='replace')} instead of an ack")


def _post(sid: str, body: bytes) -> bytes:
    head = f"POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\n"
    return f"{head}Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _ask(sock: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer, which has a Content-Length or is chunked."""
    sock.sendall(request)
    data = b""
    while (found := parse_response(data)) is None:
        more = sock.recv(65536)
        if not more:
            raise PeerError(f"the connection ended after {data!r}")
        data += more
    return found


def parse_response(data: bytes) -> tuple[int, bytes] | None:
    """Status and body, None as long as it is not whole."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    lines = head.split(b"\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    status = int(lines[0].split()[1])
    if headers.get(b"transfer-encoding") == b"chunked":
        return _unchunk(status, body)
    length = int(headers.get(b"content-length", b"0"))
    return (status, body[:length]) if len(body) >= length else None


def _unchunk(status: int, body: bytes) -> tuple[int, bytes] | None:
    whole = b""
    while True:
        size, separator, body = body.partition(b"\r\n")
        if not separator:
            return None
        length = int(size, 16)
        if len(body) < length + 2:
            return None
        if not length:
            return status, whole
        whole += body[:length]
        body = body[length + 2 :]
