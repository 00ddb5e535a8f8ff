"""The states of a session, and the one table that says how they change.

::

            OPENED          UPGRADE_BEGUN
    OPENING ──────► OPEN ◄──────────────────► UPGRADING
       │             │   UPGRADE_ENDED             │
       │             │ CLOSE_BEGUN                 │ CLOSE_BEGUN
       │             ▼                             │
       │          CLOSING ◄────────────────────────┘
       │             │ CLOSED
       └─────────────┴──────────► CLOSED
          CLOSED

``CLOSING`` is the time in which the last packets leave; nothing new is accepted in it.
"""

from __future__ import annotations

from enum import IntEnum, auto

from ..errors import LocalProtocolError


class State(IntEnum):
    """Ordered: every state from CLOSING on refuses new packets."""

    OPENING = 0
    OPEN = 1
    UPGRADING = 2
    CLOSING = 3
    CLOSED = 4


#: By names of their own, for what is done for each connection: asking the class costs a call in Python 3.11.
OPENING, OPEN, UPGRADING, CLOSING, CLOSED = State


class Signal(IntEnum):
    OPENED = auto()
    UPGRADE_BEGUN = auto()
    UPGRADE_ENDED = auto()
    CLOSE_BEGUN = auto()
    CLOSED = auto()


TRANSITIONS: dict[tuple[State, Signal], State] = {
    (State.OPENING, Signal.OPENED): State.OPEN,
    (State.OPENING, Signal.CLOSED): State.CLOSED,
    (State.OPEN, Signal.UPGRADE_BEGUN): State.UPGRADING,
    (State.UPGRADING, Signal.UPGRADE_ENDED): State.OPEN,
    (State.OPENING, Signal.CLOSE_BEGUN): State.CLOSING,
    (State.OPEN, Signal.CLOSE_BEGUN): State.CLOSING,
    (State.UPGRADING, Signal.CLOSE_BEGUN): State.CLOSING,
    (State.CLOSING, Signal.CLOSED): State.CLOSED,
}


def advance(state: State, signal: Signal) -> State:
    """The state after ``signal``.

    Raises: LocalProtocolError where the table has no such transition.
    """
    try:
        return TRANSITIONS[state, signal]
    except KeyError:
        raise LocalProtocolError(f"{signal.name} in state {state.name}") from None
