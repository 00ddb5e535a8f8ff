"""The table of states."""

from itertools import product

import pytest

from transports.errors import LocalProtocolError
from transports.protocol.lifecycle import TRANSITIONS, Signal, State, advance

ALLOWED = {
    (State.OPENING, Signal.OPENED): State.OPEN,
    (State.OPENING, Signal.CLOSE_BEGUN): State.CLOSING,
    (State.OPENING, Signal.CLOSED): State.CLOSED,
    (State.OPEN, Signal.UPGRADE_BEGUN): State.UPGRADING,
    (State.OPEN, Signal.CLOSE_BEGUN): State.CLOSING,
    (State.UPGRADING, Signal.UPGRADE_ENDED): State.OPEN,
    (State.UPGRADING, Signal.CLOSE_BEGUN): State.CLOSING,
    (State.CLOSING, Signal.CLOSED): State.CLOSED,
}


@pytest.mark.parametrize(("state", "signal"), list(product(State, Signal)))
def test_every_signal_in_every_state_is_in_the_table_or_refused(state: State, signal: Signal) -> None:
    if (state, signal) in ALLOWED:
        assert advance(state, signal) is ALLOWED[state, signal]
    else:
        with pytest.raises(LocalProtocolError, match=f"{signal.name} in state {state.name}"):
            advance(state, signal)


def test_closed_is_the_end() -> None:
    assert not [state for state, _ in TRANSITIONS if state is State.CLOSED]


def test_every_state_is_reached_and_leads_to_closed() -> None:
    assert {State.OPENING, *TRANSITIONS.values()} == set(State)
    for state in State:
        reached = {state}
        while True:
            more = reached | {after for (before, _), after in TRANSITIONS.items() if before in reached}
            if more == reached:
                break
            reached = more
        assert State.CLOSED in reached


def test_states_from_closing_on_refuse_packets() -> None:
    assert [state for state in State if state >= State.CLOSING] == [State.CLOSING, State.CLOSED]
