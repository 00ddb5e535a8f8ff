"""What becomes of a message while a client cannot take it: the sender's choice, or that of the room.

- *reliable*: it waits. When too much waits, the client is disconnected with the reason ``slow client``.
- *volatile*: the client never gets it.
- *conflated*: it waits until there is a newer message of its key, which takes its place. What waits so comes after
  everything that waits reliably.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class How(StrEnum):
    RELIABLE = "reliable"
    VOLATILE = "volatile"
    CONFLATED = "conflated"


@dataclass(frozen=True, slots=True)
class Delivery:
    """``key``: of a conflated message, unique over all namespaces of a connection."""

    how: How
    key: Hashable = None


RELIABLE: Final = Delivery(How.RELIABLE)
VOLATILE: Final = Delivery(How.VOLATILE)


def conflated(conflate: Hashable, namespace: str, event: str, room: Any) -> Delivery:
    """Conflated by a key of the application's, or for True by event and room.

    Raises: TypeError for a key that cannot be one.
    """
    if conflate is True:
        # Of different length than an application's, so that the two never meet.
        return Delivery(How.CONFLATED, (namespace, event, _room_key(room)))
    try:
        hash(conflate)
    except TypeError:
        raise TypeError(f"conflate must be True or a key that can be hashed, not {conflate!r}") from None
    return Delivery(How.CONFLATED, (namespace, conflate))


def belongs_to(namespace: str) -> Callable[[Any], bool]:
    """Whether a ``Delivery.key`` is of this namespace."""
    return lambda key: bool(key[0] == namespace)


def _is_several(room: Any) -> bool:
    return isinstance(room, (list, tuple, set, frozenset))


def _room_key(room: Any) -> Hashable:
    key: Hashable = frozenset(room) if _is_several(room) else room
    return key


class DeliveryPolicies:
    """How messages to a room are delivered where ``emit`` does not say; nothing is kept but what was set."""

    def __init__(self) -> None:
        self._policies: dict[tuple[str, Any, str | None], How] = {}

    def __len__(self) -> int:
        return len(self._policies)

    def set(self, namespace: str, room: Any, event: str | None, how: str | None) -> None:
        """None forgets. Raises: ValueError, TypeError for what is no policy, or no single room."""
        if _is_several(room):
            raise TypeError(f"a delivery policy is set for one room at a time, not for {room!r}")
        if how is None:
            self._policies.pop((namespace, room, event), None)
        elif how in list(How):
            self._policies[namespace, room, event] = How(how)
        else:
            raise ValueError(f"delivery must be {', '.join(map(repr, map(str, How)))} or None, not {how!r}")

    def find(self, namespace: str, room: Any, event: str) -> How:
        """Of several rooms: what they agree on, else reliable."""
        if not self._policies:
            return How.RELIABLE
        found = {self._of_room(namespace, name, event) for name in (room if _is_several(room) else (room,))}
        return found.pop() if len(found) == 1 else How.RELIABLE

    def _of_room(self, namespace: str, room: Any, event: str) -> How:
        policies = self._policies
        how = policies.get((namespace, room, event))
        return policies.get((namespace, room, None), How.RELIABLE) if how is None else how

    def choose(
        self,
        namespace: str,
        room: Any,
        event: str,
        *,
        volatile: bool | None,
        conflate: Hashable,
        has_callback: bool,
    ) -> Delivery:
        """What the arguments of an emit say, or else the policy of its room. ``conflate``: None and False are none.

        A message that is to be answered is reliable whatever the policy.
        Raises: ValueError for arguments that exclude each other, TypeError as ``conflated``.
        """
        if conflate is not None and conflate is not False:
            if volatile:
                raise ValueError("a message is volatile or conflated, not both: leave out volatile or conflate")
            if has_callback:
                raise ValueError(
                    "a conflated message may be replaced and then is never answered: leave out callback or conflate"
                )
            return conflated(conflate, namespace, event, room)
        if has_callback:
            return RELIABLE
        if volatile:
            return VOLATILE
        if volatile is False or conflate is False:
            return RELIABLE
        how = self.find(namespace, room, event)
        if how is How.CONFLATED:
            return conflated(True, namespace, event, room)
        return VOLATILE if how is How.VOLATILE else RELIABLE
