"""Which topic of the broker stands for what, and which node a client is at.

A namespace has a topic, each of its rooms another, each node its own, and all servers one together. A client's own
room is the topic of its node: its sid begins with the node's id.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from transports.session_ids import owner_of

from .brokers.base import MAX_TOPIC_BYTES, BrokerConfigError

#: What every server of the cluster hears.
SERVERS: Final = "#servers"
#: Of a sid, behind the id of its node.
_RANDOM_CHARACTERS: Final = 20


def node_topic(node_id: str) -> str:
    """What this node alone hears."""
    return f"@{node_id}"


def namespace_topic(namespace: str) -> str:
    """What nodes hear that have a client in the namespace."""
    return namespace


def room_topic(namespace: str, room: Any) -> str:
    """What nodes hear that have a client in the room. A namespace has no comma, so no two are one.

    Raises: TypeError for a room that is not text: nodes could not tell each other which one is meant.
        BrokerConfigError, a ValueError, for lone surrogates.
    """
    if not isinstance(room, str):
        raise TypeError(f"rooms of a cluster are named by text, not by {room!r}")
    topic = f"{namespace},{room}"
    if len(topic) * 4 <= MAX_TOPIC_BYTES and topic.isascii():
        return topic
    try:
        encoded = topic.encode()
    except UnicodeEncodeError:
        raise BrokerConfigError(f"a room cannot have lone surrogates in its name: {room[:60]!r}") from None
    if len(encoded) <= MAX_TOPIC_BYTES:
        return topic
    return f"{hashlib.sha256(encoded).hexdigest()},"


def topic_of(namespace: str, room: Any) -> str:
    """Of a room, or with None of the whole namespace. Raises: as ``room_topic``."""
    return namespace_topic(namespace) if room is None else room_topic(namespace, room)


def node_of(sid: str) -> str:
    """The id with which a sid begins; what else a text of that length begins with; empty where it is too short."""
    return sid[:-_RANDOM_CHARACTERS]


def may_be_sid(room: str) -> bool:
    """Whether a room could be a client's own, to one who does not know the nodes."""
    return owner_of(room) is not None
