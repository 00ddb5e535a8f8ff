"""Clients in namespaces, their pending acks, and rooms."""

from typing import Any

import pytest

from gateway.members import Member, MemberState, PendingAck, Room


class Timer:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


def member(sid: str = "a", state: MemberState = MemberState.CONNECTED) -> Member:
    made = Member(sid, object(), "/")  # type: ignore[arg-type]
    made.state = state
    return made


def test_ack_ids_count_from_one_for_each_member() -> None:
    first, second = member("a"), member("b")
    assert [first.expect_ack(PendingAck(print)) for _ in range(3)] == [1, 2, 3]
    assert second.expect_ack(PendingAck(print)) == 1


def test_ack_is_taken_once() -> None:
    made, pending = member(), PendingAck(print)
    timer: Any = Timer()
    pending.timer = timer
    ack_id = made.expect_ack(pending)
    assert made.take_ack(ack_id) is pending
    assert timer.is_cancelled
    assert made.take_ack(ack_id) is None
    assert made.take_ack(99) is None
    assert member().take_ack(1) is None


def test_abandoned_acks_are_told_so_once_and_their_timers_stop() -> None:
    made = member()
    told: list[int] = []
    timers: list[Any] = [Timer(), Timer()]
    for number, timer in enumerate(timers):
        pending = PendingAck(lambda *_: pytest.fail("nobody answered"), lambda number=number: told.append(number))
        pending.timer = timer
        made.expect_ack(pending)
    made.expect_ack(PendingAck(lambda *_: pytest.fail("nobody answered")))
    made.abandon_acks()
    made.abandon_acks()
    assert told == [0, 1]
    assert all(timer.is_cancelled for timer in timers)
    assert made.take_ack(1) is None


def test_room_lists_the_sessions_of_connected_members() -> None:
    room = Room()
    members = {state: member(state.name, state) for state in MemberState}
    for made in members.values():
        room.add(made)
    assert room.sessions() == [members[MemberState.CONNECTED].session]
    assert room.sessions() is room.sessions(), "the list is made once"


def test_list_of_a_room_is_made_anew_after_each_change() -> None:
    room = Room()
    first, second = member("a"), member("b", MemberState.CONNECTING)
    room.add(first)
    room.add(second)
    assert room.sessions() == [first.session]
    second.state = MemberState.CONNECTED
    room.changed()
    assert room.sessions() == [first.session, second.session]
    room.remove(first)
    assert room.sessions() == [second.session]
    room.remove(first)
    room.add(first)
    assert room.sessions() == [second.session, first.session]
