"""The workers of one host, with nothing installed: each listens at ``<directory>/<node id>.bus`` and dials the others.

::

    dial ──► HELLO node · INTEREST topics … · GREETING ──► the other dials back with its own
             from then on: INTEREST whenever it changes, CANARY and its echo, PUBLICATION, DIRECT, REQUEST, ANSWER, BYE

What is published is written to those workers alone that told of their interest. There is no broker in between that
could be down: a worker that dies is noticed at once by its connections, one that stands still when its lease runs out.
One that does not read until an outbox has been full for ``publish_timeout_s`` is cut off; it learns of the gap.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgpack

from ..envelope import Envelope, EnvelopeKind
from .base import (
    BrokerClosedError,
    BrokerConfigError,
    BrokerLimits,
    BrokerUnavailableError,
    Callbacks,
    Gap,
    Health,
    Node,
    WhenDown,
)
from .core import BrokerCore, Expected, decode_node, logger
from .frames import encode_frame
from .peers import Incoming, Outgoing, Peer, Ping, is_own_user, is_sender, too_long

SUFFIX: Final = ".bus"
#: How often the directory is looked at for workers that are not connected.
_SCAN_INTERVAL_S: Final = 0.5
_DIAL_TIMEOUT_S: Final = 2.0
#: How long `UnixBroker.close` waits for the last bytes to be taken.
_FAREWELL_S: Final = 1.0
#: How long `UnixBroker.start` waits for the workers that are there already.
_JOIN_TIMEOUT_S: Final = 2.0
_TOPICS_A_FRAME: Final = 256


class UnixBroker(BrokerCore):
    """directory: of this user alone (mode 0700); made where it is missing."""

    def __init__(
        self,
        directory: str | Path,
        node: Node | None = None,
        callbacks: Callbacks | None = None,
        limits: BrokerLimits | None = None,
    ) -> None:
        super().__init__(node, callbacks, limits)
        self.directory = Path(directory)
        self.path = self.directory / f"{self.node.id}{SUFFIX}"
        self._peers: dict[str, Peer] = {}
        self._interested: dict[str, set[Peer]] = {}
        self._strangers: set[Incoming] = set()
        self._server: asyncio.Server | None = None
        self._changed_topics: dict[str, bool] = {}
        self._pings: dict[int, Ping] = {}
        self._round_trip_s: float | None = None

    # -- begin and end ---------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._is_open:
            return
        self._check_directory()
        beginning = self.directory / f".{self.node.id}"
        if too_long(str(self.path)):
            raise BrokerConfigError(f"the path of a Unix-domain socket has up to 107 bytes: {self.path}")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, str(beginning), backlog=1024)
        # Under its name only once it listens, so that one which refuses is one of the dead.
        beginning.rename(self.path)
        self._is_open = True
        self._scan()
        self._spawn(self._watch())
        await self._until(lambda: all(peer.is_joined for peer in self._peers.values()), _JOIN_TIMEOUT_S)
        self._health.set()

    def _check_directory(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.directory.stat()
        except OSError as error:
            raise BrokerConfigError(f"the directory of the workers: {error}") from None
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise BrokerConfigError(
                f"{self.directory} must belong to this user and have mode 0700, not {stat.S_IMODE(found.st_mode):04o}"
            )

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self.path.unlink(missing_ok=True)
        if self._server is not None:
            self._server.close()
        peers = list(self._peers.values())
        bye = self._frame(EnvelopeKind.BYE)
        for peer in peers:
            if peer.outgoing is not None:
                peer.outgoing.put(bye)
                peer.outgoing.close()
        await self._until(lambda: all(peer.outgoing is None for peer in peers), _FAREWELL_S)
        for peer in peers:
            if peer.outgoing is not None:
                peer.outgoing.abort()
            if peer.incoming is not None:
                peer.incoming.abort()
        for incoming in list(self._strangers):
            incoming.abort()
        await self._end_tasks()
        await asyncio.sleep(0)  # the transports' last callbacks
        self._peers.clear()
        self._interested.clear()
        self._nodes.clear()
        self._health.set("closed")

    # -- finding the others ----------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Look for workers that are not connected, and for those that have fallen silent."""
        interval = min(_SCAN_INTERVAL_S, self.limits.lease_s / 3)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(interval)
            if self.path.exists():
                self._scan()
                self._health.set()
            else:
                self._health.set(f"{self.path} is gone: new workers cannot find this one")
            now = loop.time()
            for peer in list(self._peers.values()):
                if peer.node is not None and now - peer.heard_at > self.limits.lease_s:
                    self._node_left(peer.id)
            joined = {peer.id for peer in self._peers.values() if peer.is_joined}
            if joined:
                self._ping(joined)

    def _scan(self) -> None:
        try:
            names = os.listdir(self.directory)
        except OSError as error:
            self._health.set(f"the directory of the workers: {error}")
            return
        for name in names:
            peer_id, dot, suffix = name.rpartition(".")
            if dot + suffix == SUFFIX and peer_id != self.node.id:
                self._dial(peer_id)

    def _dial(self, peer_id: str) -> None:
        peer = self._peers.setdefault(peer_id, Peer(peer_id))
        if peer.dialling is None and (peer.outgoing is None or not peer.outgoing.is_open) and self._is_open:
            peer.dialling = self._spawn(self._connect(peer))

    async def _connect(self, peer: Peer) -> None:
        path = self.directory / f"{peer.id}{SUFFIX}"
        loop = asyncio.get_running_loop()
        outgoing = Outgoing(self.limits.max_outbox_bytes, lambda lost: self._outgoing_lost(peer, lost))
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                transport, _ = await loop.create_unix_connection(lambda: outgoing, str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            self._forget(peer)
            return
        except (OSError, TimeoutError):
            self._forget(peer)
            return
        finally:
            peer.dialling = None
            self._moved()
        if not is_own_user(transport):
            logger.error("%s is the socket of another user", path)
            outgoing.abort()
            return
        peer.outgoing = outgoing
        outgoing.put(self._frame(EnvelopeKind.HELLO, body=self._encoded_node))
        for frame in self._interest_frames(dict.fromkeys(self._topics, True)):
            outgoing.put(frame)
        outgoing.put(self._frame(EnvelopeKind.GREETING))
        self._maybe_joined(peer)

    def _forget(self, peer: Peer) -> None:
        if peer.incoming is None and self._peers.get(peer.id) is peer:
            del self._peers[peer.id]

    def _maybe_joined(self, peer: Peer) -> None:
        if peer.is_joined and peer.node is not None:
            self._node_joined(peer.node)
        self._moved()

    def _accept(self) -> Incoming:
        incoming = Incoming(self._frame_came, self._incoming_lost, lambda reason: logger.error("%s", reason))
        self._strangers.add(incoming)
        return incoming

    def _outgoing_lost(self, peer: Peer, outgoing: Outgoing) -> None:
        if outgoing.dropped:
            cause = "stalled" if outgoing.is_cut else "gone" if self._is_open else "closed"
            self.counters.dropped[cause] += outgoing.dropped
        if peer.outgoing is outgoing:
            peer.outgoing = None
            self._left(peer)

    def _incoming_lost(self, incoming: Incoming) -> None:
        self._strangers.discard(incoming)
        peer = self._peers.get(incoming.peer_id or "")
        if peer is None or peer.incoming is not incoming:
            return
        peer.incoming = None
        peer.is_introduced = False
        peer.lost_at = asyncio.get_running_loop().time()
        for topic in peer.interest:
            self._not_interested(peer, topic)
        peer.interest.clear()
        self._left(peer)

    def _left(self, peer: Peer) -> None:
        self._node_left(peer.id)
        for ping in self._pings.values():
            ping.waiting.discard(peer.id)
        if peer.outgoing is None and peer.incoming is None and not (self.directory / f"{peer.id}{SUFFIX}").exists():
            self._forget(peer)
        self._moved()

    # -- what comes ------------------------------------------------------------------------------------

    def _frame_came(self, incoming: Incoming, topics: list[str], data: bytes) -> None:
        envelope = self._open_envelope(data)
        if envelope is None or not self._is_open:
            return
        if not is_sender(incoming, envelope):
            self.counters.skipped["malformed"] += 1
            return
        if incoming.peer_id is None:
            self._introduced(incoming, envelope)
            return
        peer = self._peers[incoming.peer_id]
        peer.heard_at = asyncio.get_running_loop().time()
        kind = envelope.kind
        if kind is EnvelopeKind.INTEREST:
            self._interest_came(peer, envelope.body)
        elif kind is EnvelopeKind.GREETING:
            peer.is_introduced = True
            self._maybe_joined(peer)
            if peer.lost_at is not None:
                self.counters.gaps += 1
                seconds, peer.lost_at = peer.heard_at - peer.lost_at, None
                self._call(self.callbacks.on_gap, Gap(seconds, peer.id))
        elif kind is EnvelopeKind.CANARY:
            self._canary_came(peer, envelope)
        elif kind is EnvelopeKind.BYE:
            peer.lost_at = None
            incoming.abort()
        else:
            known = [topic for topic in topics if topic in self._topics]
            self._take(known[0] if known else topics[0] if topics else None, envelope)

    def _introduced(self, incoming: Incoming, envelope: Envelope) -> None:
        node = decode_node(envelope.body)
        if envelope.kind is not EnvelopeKind.HELLO or node is None or node.id != envelope.sender:
            self.counters.skipped["malformed"] += 1
            incoming.abort()
            return
        peer = self._peers.setdefault(node.id, Peer(node.id))
        if peer.incoming is not None:  # it has given up the earlier one
            earlier = peer.incoming
            self._incoming_lost(earlier)
            earlier.abort()
        self._strangers.discard(incoming)
        incoming.peer_id = node.id
        peer.node, peer.incoming = node, incoming
        peer.heard_at = asyncio.get_running_loop().time()
        self._dial(node.id)

    def _interest_came(self, peer: Peer, body: bytes) -> None:
        try:
            changes = msgpack.unpackb(body)
            if type(changes) is not dict or not all(type(value) is bool for value in changes.values()):
                raise ValueError("not topics with yes or no")
        except (ValueError, TypeError, msgpack.UnpackException):
            self.counters.skipped["malformed"] += 1
            return
        for topic, is_interested in changes.items():
            if is_interested:
                peer.interest.add(topic)
                self._interested.setdefault(topic, set()).add(peer)
            elif topic in peer.interest:
                peer.interest.discard(topic)
                self._not_interested(peer, topic)

    def _not_interested(self, peer: Peer, topic: str) -> None:
        peers = self._interested.get(topic)
        if peers is not None:
            peers.discard(peer)
            if not peers:
                del self._interested[topic]

    # -- round trips -----------------------------------------------------------------------------------

    def _ping(self, peer_ids: set[str]) -> Ping:
        now = asyncio.get_running_loop().time()
        if len(self._pings) > 64:  # of workers that have not answered any
            del self._pings[next(iter(self._pings))]
        reference = next(self._references)
        ping = self._pings[reference] = Ping(set(peer_ids), now)
        frame = self._frame(EnvelopeKind.CANARY, reference=reference)
        for peer_id in peer_ids:
            outgoing = self._peers[peer_id].outgoing
            if outgoing is not None and outgoing.has_room(len(frame)):
                outgoing.put(frame)
        return ping

    def _canary_came(self, peer: Peer, envelope: Envelope) -> None:
        if not envelope.extra:
            if peer.outgoing is not None:
                peer.outgoing.put(self._frame(EnvelopeKind.CANARY, reference=envelope.reference, extra=1))
            return
        self._maybe_joined(peer)  # its lease may have run out meanwhile
        ping = self._pings.get(envelope.reference)
        if ping is not None:
            self._round_trip_s = peer.heard_at - ping.sent_at
            ping.waiting.discard(peer.id)
            if not ping.waiting:
                del self._pings[envelope.reference]
            self._moved()

    async def synced(self, timeout_s: float) -> bool:
        until = asyncio.get_running_loop().time() + timeout_s
        if not await self._until(lambda: all(peer.dialling is None for peer in self._peers.values()), timeout_s):
            return False
        self._tell_interest()
        joined = {peer.id for peer in self._peers.values() if peer.is_joined}
        if joined:
            ping = self._ping(joined)
            return await self._until(lambda: not ping.waiting, until - asyncio.get_running_loop().time())
        return self._is_open

    @property
    def health(self) -> Health:
        state = self._health
        outgoing = [peer.outgoing for peer in self._peers.values() if peer.outgoing is not None]
        return Health(
            state.is_ready,
            state.reason,
            state.since,
            self._round_trip_s,
            sum(link.waiting for link in outgoing),
            sum(link.nbytes for link in outgoing),
        )

    # -- what goes -------------------------------------------------------------------------------------

    def _frame(
        self,
        kind: EnvelopeKind,
        topics: Iterable[str] = (),
        reference: int = 0,
        extra: int = 0,
        body: bytes = b"",
    ) -> bytes:
        return encode_frame(topics, self._envelope(kind, 0, 0, reference, extra, body))

    def _subscribe(self, topic: str) -> None:
        self._interest_changes(topic)

    def _unsubscribe(self, topic: str) -> None:
        self._interest_changes(topic)

    def _interest_changes(self, topic: str) -> None:
        if not self._is_open:
            return
        if not self._changed_topics:
            asyncio.get_running_loop().call_soon(self._tell_interest)
        # Turned back within the turn, nobody need know.
        if self._changed_topics.pop(topic, None) is None:
            self._changed_topics[topic] = topic in self._topics

    def _tell_interest(self) -> None:
        changes, self._changed_topics = self._changed_topics, {}
        frames = self._interest_frames(changes)
        for peer in self._peers.values():
            if peer.outgoing is not None:
                for frame in frames:
                    peer.outgoing.put(frame)

    def _interest_frames(self, changes: dict[str, bool]) -> list[bytes]:
        items = list(changes.items())
        portions = [dict(items[at : at + _TOPICS_A_FRAME]) for at in range(0, len(items), _TOPICS_A_FRAME)]
        return [self._frame(EnvelopeKind.INTEREST, body=msgpack.packb(portion)) for portion in portions]

    async def _publish(self, topics: tuple[str, ...], payload: bytes, durable: bool, when_down: WhenDown) -> bool:
        interested = self._interested
        if len(topics) == 1:
            peers = interested.get(topics[0])
            if not peers:
                return True
            frame = self._frame(EnvelopeKind.PUBLICATION, topics, body=payload)
            outgoing = [peer.outgoing for peer in peers if peer.outgoing is not None]
            return await self._put([(link, frame) for link in outgoing], when_down)
        wanted: dict[Peer, list[str]] = {}
        for topic in topics:
            for peer in interested.get(topic, ()):
                wanted.setdefault(peer, []).append(topic)
        frames: dict[tuple[str, ...], bytes] = {}
        to_put = []
        for peer, names in wanted.items():
            key = tuple(names)
            if key not in frames:
                frames[key] = self._frame(EnvelopeKind.PUBLICATION, key, body=payload)
            if peer.outgoing is not None:
                to_put.append((peer.outgoing, frames[key]))
        return await self._put(to_put, when_down)

    async def _put(self, frames: list[tuple[Outgoing, bytes]], when_down: WhenDown) -> bool:
        behind = [(link, frame) for link, frame in frames if not link.has_room(len(frame))]
        if not behind:
            for link, frame in frames:
                if not link.put(frame):
                    self.counters.dropped["gone"] += 1
            return True
        if when_down == "fail":
            self.counters.dropped["full"] += 1
            raise BrokerUnavailableError("a worker is behind")
        for link, frame in frames:
            if (link, frame) not in behind and not link.put(frame):
                self.counters.dropped["gone"] += 1
        if when_down == "drop":
            self.counters.dropped["full"] += len(behind)
            return False
        results = await asyncio.gather(
            *(link.put_when_room(frame, self.limits.publish_timeout_s) for link, frame in behind),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
            if not result:
                self.counters.dropped["gone"] += 1
        return True

    async def send(self, node_id: str, payload: bytes, *, when_down: WhenDown = "wait") -> None:
        self._check(payload)
        peer = self._peers.get(node_id)
        if peer is not None and peer.outgoing is not None:
            await self._put([(peer.outgoing, self._frame(EnvelopeKind.DIRECT, body=payload))], when_down)

    async def _send(self, node_id: str, kind: EnvelopeKind, reference: int, extra: int, body: bytes) -> None:
        if not self._is_open:
            raise BrokerClosedError("the broker is not running")
        peer = self._peers.get(node_id)
        if peer is not None and peer.outgoing is not None:
            frame = self._frame(kind, reference=reference, extra=extra, body=body)
            await self._put([(peer.outgoing, frame)], "fail")

    async def _ask(self, node_id: str | None, topic: str | None, reference: int, extra: int, body: bytes) -> Expected:
        peers: Iterable[Peer]
        if topic is not None:
            peers = self._interested.get(topic, ())
        elif node_id is not None:
            peers = [peer for peer in [self._peers.get(node_id)] if peer is not None]
        else:
            peers = self._peers.values()
        asked = [(peer.id, peer.outgoing) for peer in peers if peer.is_joined and peer.outgoing is not None]
        frame = self._frame(EnvelopeKind.REQUEST, (topic,) if topic is not None else (), reference, extra, body)
        await self._put([(link, frame) for _, link in asked], "fail")
        names = {peer_id for peer_id, _ in asked}
        gone = {node_id} - names if node_id is not None else set[Any]()
        return Expected(names | gone, gone=gone)
