"""What clients may make a server keep or run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Options of ``gateway.Server`` by the same names.

    - ``max_namespaces``: that one connection may join; the next CONNECT is refused.
    - ``max_rooms``: that one client may be in; ``enter_room`` then raises ``TooManyRoomsError``.
    - ``max_pending_acks``: that the server awaits from one client; beyond it the oldest is given up.
    - ``max_handlers_per_connection``, ``max_handlers``: coroutine handlers that run or wait for their turn, for one
      connection and for all together. At the bound nothing is read from the connections concerned until a
      part of them have ended; so it is where the large events of one connection take twice ``max_buffered_bytes``. A
      handler that waits for its own client (``call``) is one of them.
    - ``max_attachments_bytes``: of one packet with all its attachments.
    - ``once_window_s``: for how long after its last message a client's stream of ``tidegate:once`` is remembered;
      0: the event is one like any other.
    - ``max_once_streams``, ``max_once_bytes``: that are remembered, and of their answers together; beyond it the least
      recently used streams are forgotten.

    Raises: ValueError for a limit below 1, but 0 for ``once_window_s``.
    """

    max_namespaces: int = 100
    max_rooms: int = 5_000
    max_pending_acks: int = 10_000
    max_handlers_per_connection: int = 1_000
    max_handlers: int = 20_000
    max_attachments_bytes: int = 8 * 1024 * 1024
    once_window_s: float = field(default=300.0, metadata={"least": 0})
    max_once_streams: int = 100_000
    max_once_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            least = limit.metadata.get("least", 1)
            if not value >= least:
                raise ValueError(f"{limit.name} must be {least} or more, not {value!r}")

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Limits:
        """The limits among ``options``, which are taken out of it."""
        return cls(**{name: options.pop(name) for name in NAMES if name in options})


NAMES = tuple(each.name for each in fields(Limits))
