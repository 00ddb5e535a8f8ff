"""What the command does with a running cluster: ``tidegate nodes``, ``sockets``, ``emit`` and ``tail``.

Each joins the broker as a node without clients, does its work and leaves.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from .brokers.base import BrokerError, BrokerUnavailableError
from .codec import PacketError
from .emitter import AsyncEmitter, target_topics
from .encoded_events import decode_event
from .envelope import EnvelopeError, Message, MessageKind
from .node_messages import STATUS, NodeError, encoded_event, read_result
from .remote_socket import SocketFacts
from .topics import SERVERS, topic_of

T = TypeVar("T")

#: What the broker has to be reached in, and the nodes to answer in.
_TIMEOUT_S: Final = 5.0
#: Nodes tell of themselves within a second or so: the command waits for them to.
_NODES_S: Final = 3.0
_POLL_S: Final = 0.02


class ClusterCommandError(Exception):
    """The text says what is wrong, for the person at the command line."""


def run(url: str, work: Callable[[AsyncEmitter], Any]) -> Any:
    """Join the cluster, and return what ``work`` returns. Raises: ClusterCommandError."""

    async def main() -> Any:
        async with AsyncEmitter(url, kind="command") as emitter:
            await emitter.ready(_TIMEOUT_S)
            return await work(emitter)

    try:
        return asyncio.run(main())
    except BrokerUnavailableError as error:
        reason = error.reason or "it cannot be reached"
        raise ClusterCommandError(f"the broker (--broker) did not answer within {_TIMEOUT_S:.0f} s: {reason}") from None
    except (BrokerError, NodeError, OSError) as error:
        raise ClusterCommandError(str(error)) from None


# -- nodes ---------------------------------------------------------------------------------------------


async def nodes(emitter: AsyncEmitter) -> list[dict[str, Any]]:
    """Of each server: id, host, pid, version, when it began (Unix time), its clients and rooms (None: no answer)."""
    answers = await _ask_all(emitter)
    rows = []
    for node_id, node in sorted(emitter.nodes().items()):
        row = {"id": node_id, **node.info, "clients": None, "rooms": None}
        try:
            row |= read_result(node_id, answers[node_id])
        except (KeyError, NodeError, TypeError):
            pass  # it is shown as one that does not answer
        rows.append(row)
    return rows


async def _ask_all(emitter: AsyncEmitter) -> dict[str, bytes]:
    """How every server is, by its id, as far as it answers."""
    # Nodes tell of themselves within a moment of one's joining; who has answered has done so.
    message = Message(MessageKind.OTHER, arguments=(STATUS,)).encode()
    answers = await emitter.broker.request(message, topic=SERVERS, timeout_s=_TIMEOUT_S)
    ends = time.monotonic() + _NODES_S
    while not set(answers.answered) <= set(emitter.nodes()) and time.monotonic() < ends:  # noqa: ASYNC110 - once
        await asyncio.sleep(_POLL_S)
    return answers.answered


# -- sockets -------------------------------------------------------------------------------------------


async def sockets(emitter: AsyncEmitter, namespace: str, room: str | None) -> list[dict[str, Any]]:
    """Of each client: node, sid, namespace, rooms, transport and handshake. Raises: NodeError."""
    answers = await _ask_all(emitter)
    rooms = () if room is None else (room,)
    found = []
    for node_id in sorted(answers):
        for facts in await _pages(emitter, node_id, namespace, rooms):
            row = {"node": node_id, "sid": facts.sid, "namespace": facts.namespace}
            rest = {"rooms": sorted(map(str, facts.rooms)), "transport": facts.transport, "handshake": facts.handshake}
            found.append(row | rest)
    return found


async def _pages(emitter: AsyncEmitter, node_id: str, namespace: str, rooms: tuple[str, ...]) -> list[SocketFacts]:
    """Raises: NodeError."""
    found: list[SocketFacts] = []
    has_more = True
    while has_more:
        after = found[-1].sid if found else ""
        payload = Message(MessageKind.FETCH_SOCKETS, namespace, rooms, arguments=(after,)).encode()
        answers = await emitter.broker.request(payload, node_id=node_id, timeout_s=_TIMEOUT_S)
        if node_id not in answers.answered:
            raise NodeError(node_id, answers.failed.get(node_id, "it did not answer"))
        try:
            page, has_more = read_result(node_id, answers.answered[node_id])
            found += [SocketFacts.from_list(fields) for fields in page]
        except (EnvelopeError, ValueError, TypeError) as error:
            raise NodeError(node_id, str(error)) from None
    return found


# -- emit and tail -------------------------------------------------------------------------------------


def parse_arguments(texts: Sequence[str]) -> tuple[Any, ...]:
    """Each as JSON. Raises: ClusterCommandError."""
    found = []
    for text in texts:
        try:
            found.append(json.loads(text))
        except ValueError as error:
            raise ClusterCommandError(
                f"{text!r} is not JSON ({error}); text needs quotes of its own, as in '\"{text}\"'"
            ) from None
    return tuple(found)


async def emit(emitter: AsyncEmitter, event: str, arguments: tuple[Any, ...], namespace: str, room: str | None) -> None:
    await emitter.emit(event, arguments, room=room, namespace=namespace, when_down="fail")


async def tail(emitter: AsyncEmitter, namespace: str, room: str | None, show: Callable[[dict[str, Any]], None]) -> None:
    """Show each event that is sent to the room until cancelled. What nodes send to their own clients alone is not."""
    broker = emitter.broker

    def heard(topic: str, sender: str, payload: bytes) -> None:
        row = described(payload)
        if row is not None:
            show({"node": sender, **row})

    broker.callbacks.on_message = heard
    for topic in {topic_of(namespace, room), *target_topics(namespace, () if room is None else (room,), ())}:
        broker.subscribe(topic)
    await broker.synced(_TIMEOUT_S)
    await asyncio.Event().wait()


def described(payload: bytes) -> dict[str, Any] | None:
    """An event as a person reads it; None for what is none."""
    try:
        message = Message.decode(payload)
        if message.kind not in (MessageKind.EMIT, MessageKind.EMIT_WITH_ACK):
            return {"does": message.kind.name.lower(), "rooms": list(message.rooms)}
        event, *arguments = decode_event(encoded_event(message))
    except (EnvelopeError, PacketError):
        return None
    row: dict[str, Any] = {"event": event, "arguments": arguments, "rooms": list(message.rooms)}
    if message.except_rooms:
        row["except_rooms"] = list(message.except_rooms)
    if message.skip_sids:
        row["skip_sids"] = list(message.skip_sids)
    return row
