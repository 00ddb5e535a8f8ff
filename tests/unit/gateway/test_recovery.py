"""The log and the places. Histories of all kinds are in tests/model/test_recovery_model.py."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.message_log import ENTRY_BYTES, MessageLog
from gateway.recovery import MAX_STAYS, Cause, Forgotten, Place, Recovery, UnrecoverableError
from transports.outbound import OutboundMessage

WINDOW_S, NOTICE_S = 60.0, 20.0


def make(max_bytes: int = 1 << 20, max_places: int = 100) -> Recovery:
    return Recovery("epoch", WINDOW_S, NOTICE_S, max_bytes, max_places)


def send(recovery: Recovery, text: str, *rooms: Any, now: float = 0.0, namespace: str = "/", **options: Any) -> str:
    """The offset of the message."""
    offset = recovery.next_offset()
    recovery.append(now, OutboundMessage(text.encode()), namespace, rooms or (None,), **options)
    return offset


def come_back(recovery: Recovery, place: Place, offset: str | None, now: float = 1.0) -> Any:
    """What was missed, or why it cannot be told."""
    try:
        found = recovery.recover(place.pid, offset, place.namespace, "somebody", now)
    except UnrecoverableError as error:
        return error.cause
    assert found is place
    return [message.text.decode() for message in place.missed if message.text is not None]


def test_who_comes_back_gets_what_is_behind_its_offset() -> None:
    recovery = make()
    place = recovery.open("pid", "sid", "/", "somebody")
    send(recovery, "one")
    offset = send(recovery, "two")
    send(recovery, "three")
    recovery.depart(place, 0.0, 0.0)
    send(recovery, "four")
    assert come_back(recovery, place, offset) == ["three", "four"]
    assert (recovery.counters.recovered, recovery.counters.replayed) == (1, 2)
    assert (place.is_recovered, place.occupant, recovery.gone) == (True, "somebody", 0)


def test_who_never_saw_an_offset_gets_everything_from_its_beginning() -> None:
    recovery = make()
    send(recovery, "before")
    place = recovery.open("pid", "sid", "/")
    send(recovery, "one")
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, None) == ["one"]


def test_offset_from_before_the_place_is_that_of_an_earlier_one() -> None:
    recovery = make()
    stale = send(recovery, "before")
    send(recovery, "before too")
    place = recovery.open("pid", "sid", "/")
    send(recovery, "one")
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, stale) == ["one"]


def test_rooms_are_those_of_the_time_of_sending() -> None:
    recovery = make()
    place = recovery.open("pid", "sid", "/")
    send(recovery, "too early", "room")
    recovery.enter(place, "room")
    recovery.enter(place, "room")  # again: it was there all the time
    send(recovery, "in it", "room", "other")
    recovery.leave(place, "room")
    send(recovery, "between", "room")
    recovery.enter(place, "room")
    send(recovery, "in it again", "room")
    send(recovery, "elsewhere", "other")
    send(recovery, "to it", "sid")
    send(recovery, "skipped", skipped=("sid",))
    send(recovery, "excepted", excepted=("other", "room"))
    send(recovery, "not excepted", excepted=("other",))
    send(recovery, "of another namespace", namespace="/other")
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, None) == ["in it", "in it again", "to it", "not excepted"]


def test_of_conflated_messages_the_newest_of_each_key_is_replayed_at_its_place() -> None:
    recovery = make()
    place = recovery.open("pid", "sid", "/")
    for n, key in enumerate("abac"):
        send(recovery, f"{key}{n}", key=key)
        send(recovery, f"reliable{n}")
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, None) == ["reliable0", "b1", "reliable1", "a2", "reliable2", "c3", "reliable3"]


def test_conflated_message_that_was_overtaken_is_not_lost() -> None:
    recovery = make()
    place = recovery.open("pid", "sid", "/")
    send(recovery, "late", key="k")
    place.make_late(1)
    offset = send(recovery, "came first")
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, offset) == ["late"]
    # The connection is lost once more, right behind it: what came first does not come again.
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, recovery.log.offset(1)) == ["late"]


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_conflated_message_that_has_surely_come_does_not_come_again(is_confirmed: bool) -> None:
    recovery = make()
    place = recovery.open("pid", "sid", "/")
    send(recovery, "late", key="k")
    place.make_late(1)
    offset = send(recovery, "came first")
    place.end_late(2, 1.0)
    if not is_confirmed:
        offset = send(recovery, "came last")
    recovery.depart(place, 5.0, 3.0 if is_confirmed else 0.0)
    assert come_back(recovery, place, offset, now=6.0) == []


def test_stranger_and_foreign_offsets_are_refused() -> None:
    recovery = make()
    place = recovery.open("pid", "sid", "/")
    with pytest.raises(UnrecoverableError, match="unknown client"):
        recovery.recover("other", None, "/", None, 0.0)
    with pytest.raises(UnrecoverableError, match="unknown client"):
        recovery.recover("pid", None, "/other", None, 0.0)
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, "other-0") == Cause.UNKNOWN_OFFSET
    assert come_back(recovery, place, "epoch-0") == Cause.UNKNOWN_CLIENT, "there is only one try"
    assert recovery.counters.not_recovered == {Cause.UNKNOWN_CLIENT: 3, Cause.UNKNOWN_OFFSET: 1}
    assert recovery.counters.forgotten == {Forgotten.UNRECOVERABLE: 1}


@pytest.mark.parametrize(
    "offset", ["", "-", "epoch", "epoch-", "epoch-x", "epoch--1", "epoch-²", "epoch-2", "1", "epoch-" + "0" * 17]
)
def test_text_that_is_no_offset_of_this_log(offset: str) -> None:
    log = MessageLog("epoch", 60.0, 1000)
    log.append(0.0, OutboundMessage(b"1"), [("/", None)])
    assert log.position(offset) is None
    assert log.position("epoch-1") == 1
    assert log.position("epoch-0") == 0


def test_place_is_kept_for_its_time_and_no_longer() -> None:
    recovery = make()
    places = [recovery.open(f"pid{n}", f"sid{n}", "/") for n in range(3)]
    for n, place in enumerate(places):
        recovery.depart(place, float(n), 0.0)
    assert come_back(recovery, places[0], None, now=WINDOW_S) == []
    assert recovery.find("pid1", "/", now=1.5 + WINDOW_S) is None
    recovery.expire(2.5 + WINDOW_S)
    assert recovery.gone == 0
    assert recovery.of_sid("sid2", "/") is None
    assert recovery.counters.forgotten == {Forgotten.EXPIRED: 2}


def test_who_has_been_gone_for_longest_is_forgotten_first() -> None:
    recovery = make(max_places=2)
    places = [recovery.open(f"pid{n}", f"sid{n}", "/") for n in range(3)]
    for place in places:
        recovery.depart(place, 0.0, 0.0)
    assert [place.is_forgotten for place in places] == [True, False, False]
    assert recovery.counters.forgotten == {Forgotten.TOO_MANY: 1}


def test_message_is_kept_until_nobody_can_ask_for_it() -> None:
    """A client may lose its connection before the server notices, and come back after that within the time."""
    recovery = make()
    place = recovery.open("pid", "sid", "/")
    send(recovery, "lost at once", now=0.0)
    recovery.depart(place, NOTICE_S, 0.0)
    recovery.expire(NOTICE_S + WINDOW_S)
    assert come_back(recovery, place, None, now=NOTICE_S + WINDOW_S) == ["lost at once"]
    recovery.expire(NOTICE_S + WINDOW_S + 1.0)
    assert (len(recovery.log), recovery.log.nbytes, recovery.is_empty) == (0, 0, True)


def test_bytes_are_bounded_and_whoever_needs_what_was_dropped_is_told() -> None:
    recovery = make(max_bytes=10 * (ENTRY_BYTES + 10))
    place = recovery.open("pid", "sid", "/")
    for n in range(25):
        send(recovery, f"{n:010}")
        assert recovery.log.nbytes <= 10 * (ENTRY_BYTES + 10)
    assert (len(recovery.log), recovery.counters.dropped_early) == (10, 15)
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, recovery.log.offset(14)) == Cause.TOO_OLD
    place = recovery.open("pid", "sid", "/")
    place.began = place.known = 15
    recovery.depart(place, 0.0, 0.0)
    assert len(come_back(recovery, place, recovery.log.offset(15))) == 10


def test_single_message_above_the_bound_is_not_kept() -> None:
    recovery = make(max_bytes=1000)
    place = recovery.open("pid", "sid", "/")
    send(recovery, "x" * 1000)
    assert (len(recovery.log), recovery.log.nbytes) == (0, 0)
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, None) == Cause.TOO_OLD


def test_quiet_client_is_not_lost_because_the_log_moved_on() -> None:
    """What was sent before a heartbeat that was answered has come: there can have been nothing for it."""
    recovery = make(max_bytes=3 * (ENTRY_BYTES + 3))
    place = recovery.open("pid", "sid", "/")
    offset = send(recovery, "one", "sid", now=1.0)
    for n in range(9):
        send(recovery, f"n{n:02}", "elsewhere", now=2.0 + n)
    recovery.depart(place, 20.0, confirmed_at=9.0)
    assert come_back(recovery, place, offset, now=21.0) == []


def test_heartbeat_from_before_the_client_was_let_in_says_nothing() -> None:
    """What was sent meanwhile waited for that."""
    recovery = make(max_bytes=3 * (ENTRY_BYTES + 3))
    place = recovery.open("pid", "sid", "/")
    for n in range(9):
        send(recovery, f"n{n:02}", now=2.0 + n)
    place.admitted_at = 20.0
    recovery.depart(place, 21.0, confirmed_at=19.0)
    assert come_back(recovery, place, None, now=22.0) == Cause.TOO_OLD


def test_stays_are_bounded_and_whoever_needs_a_forgotten_one_is_told() -> None:
    recovery = make()
    place, other = recovery.open("pid", "sid", "/"), recovery.open("other", "other sid", "/")
    for _ in range(MAX_STAYS + 1):
        recovery.enter(place, "room")
        send(recovery, "in it", "room")
        recovery.leave(place, "room")
    for _ in range(1000):  # without a message in between nothing has to be remembered
        recovery.enter(other, "room")
        recovery.leave(other, "room")
    assert (len(place.stays), other.stays) == (MAX_STAYS, [])
    recovery.depart(place, 0.0, 0.0)
    assert come_back(recovery, place, recovery.log.offset(0)) == Cause.TOO_OLD


def test_room_that_is_closed_is_left_by_those_who_are_gone() -> None:
    recovery = make()
    place = recovery.open("pid", "sid", "/")
    recovery.enter(place, "room")
    send(recovery, "in it", "room")
    recovery.depart(place, 0.0, 0.0)
    recovery.close_room("/", "room")
    send(recovery, "in the next room of that name", "room")
    assert come_back(recovery, place, None) == ["in it"]
    assert place.rooms == {}


def test_all_who_missed_a_message_share_it_and_its_wire_forms_are_dropped_after() -> None:
    recovery = make()
    places = [recovery.open(f"pid{n}", f"sid{n}", "/") for n in range(2)]
    sent = OutboundMessage(b"4one", (b"attachment",))
    recovery.append(0.0, sent, "/", (None,))
    for place in places:
        recovery.depart(place, 0.0, 0.0)
    missed = [recovery.recover(place.pid, None, "/", None, 1.0).missed[0] for place in places]
    assert missed[0] is missed[1]
    assert missed[0] is not sent
    assert (missed[0].text, list(missed[0].attachments)) == (b"4one", [b"attachment"])
    recovery.expire(1.0)
    recovery.depart(places[0], 1.0, 0.0)
    assert recovery.recover("pid0", None, "/", None, 1.0).missed[0] is not missed[0]


def test_forgotten_place_is_forgotten_once_and_cannot_be_left() -> None:
    recovery = make()
    place = recovery.open("pid", "sid", "/")
    recovery.forget(place)
    recovery.forget(place)
    recovery.depart(place, 0.0, 0.0)
    assert (recovery.gone, recovery.counters.forgotten) == (0, {Forgotten.ENDED: 1})
