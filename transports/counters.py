"""What the engine counts. Every drop is in here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Totals since start."""

    opened: int = 0
    #: Ended sessions by reason (``transports.reasons``).
    closed: Counter[str] = field(default_factory=Counter)
    upgrades: int = 0
    #: Refusals by their name in the catalogue.
    refused: Counter[str] = field(default_factory=Counter)
    #: Messages for sessions that were already ending.
    dropped_closed: int = 0
    #: Volatile messages for clients that could not take them.
    dropped_volatile: int = 0
    #: How often a client had sent more than its rates allow, and was read more slowly.
    throttled: int = 0
    #: How often reading from a client paused until handlers had caught up.
    held_for_handlers: int = 0
    #: Conflated messages that a newer one of their key replaced while they waited.
    conflated: int = 0
    #: Messages sent with ``tidegate:once`` that were settled, each once, and copies of them that came besides.
    once_handled: int = 0
    once_copies: int = 0
    #: Streams of such messages that were forgotten before their time, since there were too many, or too much of them.
    once_forgotten: int = 0
    messages_in: int = 0
    #: Messages handed to sessions: one for each recipient.
    messages_out: int = 0
    #: Of these, with the overhead that buffers count (``transports.outbound``).
    bytes_out: int = 0
