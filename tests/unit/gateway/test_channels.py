"""Rooms, and who receives what."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import gateway
from gateway.channels import as_arguments, as_collection
from gateway.members import MemberState
from tests.unit.gateway.conftest import InMemoryClient
from tests.unit.transports.engine_doubles import FakeLoop

Join = Callable[..., Any]


@pytest.mark.parametrize(
    ("data", "arguments"),
    [(None, []), ((), []), ("a", ["a"]), ([1, 2], [[1, 2]]), ((1, 2), [1, 2]), ((None,), [None]), (0, [0])],
)
def test_tuple_is_several_arguments_and_none_is_none(data: Any, arguments: list[Any]) -> None:
    assert as_arguments(data) == arguments


def test_one_or_several_are_several() -> None:
    assert list(as_collection(None)) == []
    assert list(as_collection("room")) == ["room"]
    assert list(as_collection(0)) == [0]
    for several in (["a"], ("a",), {"a"}, frozenset("a")):
        assert as_collection(several) is several


@pytest.fixture
def trio(server: gateway.Server, join: Join) -> list[Any]:
    """Three clients: the first two in room x, the last two in room y."""
    clients = [join(server) for _ in range(3)]
    manager = server.manager
    for client in clients[:2]:
        manager.basic_enter_room(client.member().sid, "/", "x")
    for client in clients[1:]:
        manager.basic_enter_room(client.member().sid, "/", "y")
    return clients


def heard(clients: list[Any]) -> list[int]:
    """Which of the clients got exactly one event."""
    counts = [len(client.received()) for client in clients]
    assert set(counts) <= {0, 1}
    return [index for index, count in enumerate(counts) if count]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2]),
        ({"room": "x"}, [0, 1]),
        ({"to": "y"}, [1, 2]),
        ({"room": ["x", "y"]}, [0, 1, 2]),
        ({"room": ("x",)}, [0, 1]),
        ({"room": {"x", "y"}}, [0, 1, 2]),
        ({"room": []}, []),
        ({"room": "nowhere"}, []),
        ({"room": ["nowhere", "y"]}, [1, 2]),
        ({"except_rooms": "x"}, [2]),
        ({"except_rooms": ["x", "y"]}, []),
        ({"room": "y", "except_rooms": "x"}, [2]),
        ({"except_rooms": "nowhere"}, [0, 1, 2]),
        ({"room": "x", "skip": [0]}, [1]),
        ({"skip": [0, 2]}, [1]),
        ({"skip": 1}, [0, 2]),
        ({"sid": 2}, [2]),
        ({"sid": 2, "skip": 2}, []),
        ({"sid": 2, "except_rooms": "y"}, []),
        ({"except_sid": 0}, [1, 2]),
    ],
)
@pytest.mark.parametrize("volatile", [False, True])
@pytest.mark.parametrize("with_ack", [False, True])
def test_event_reaches_those_it_is_for(
    server: gateway.Server,
    loop: FakeLoop,
    trio: list[Any],
    options: dict[str, Any],
    expected: list[int],
    volatile: bool,
    with_ack: bool,
) -> None:
    sids = [client.member().sid for client in trio]
    options = dict(options)
    if "skip" in options:
        skip = options.pop("skip")
        options["skip_sid"] = sids[skip] if isinstance(skip, int) else [sids[index] for index in skip]
    if "sid" in options:
        options["to"] = sids[options.pop("sid")]
    if "except_sid" in options:
        options["except_rooms"] = sids[options.pop("except_sid")]
    if with_ack:
        options["callback"] = lambda *_: None
    loop.run(server.emit("event", "data", volatile=volatile, **options))
    assert heard(trio) == expected


def test_event_stays_in_its_namespace(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    server.on("connect", lambda sid, environ: None, namespace="/other")
    client = join(server)
    sid, other_sid = client.member().sid, client.connect("/other")
    loop.run(server.emit("a", namespace="/other"))
    assert client.received() == ['2/other,["a"]']
    loop.run(server.emit("a", to=sid, namespace="/other"))
    loop.run(server.emit("a", to=other_sid))
    assert client.received() == []


def test_rooms_may_be_named_by_anything_hashable(server: gateway.Server, trio: list[Any], loop: FakeLoop) -> None:
    for room in (0, 7, 1.5, b"room", frozenset(), ""):
        if isinstance(room, frozenset):
            continue
        server.manager.basic_enter_room(trio[0].member().sid, "/", room)
        loop.run(server.emit("a", room=room))
        assert heard(trio) == [0], room


def test_each_hears_what_is_sent_while_others_come_and_go(
    server: gateway.Server, trio: list[Any], join: Join, loop: FakeLoop
) -> None:
    def listeners(room: str | None, clients: list[Any]) -> list[int]:
        loop.run(server.emit("news", 1, room=room))
        return heard(clients)

    assert listeners(None, trio) == [0, 1, 2]
    assert listeners("x", trio) == [0, 1]
    clients = [*trio, join(server)]
    assert listeners(None, clients) == [0, 1, 2, 3]
    for _ in range(2):
        server.manager.basic_enter_room(clients[3].member().sid, "/", "x")
    assert listeners("x", clients) == [0, 1, 3]
    server.manager.basic_leave_room(clients[0].member().sid, "/", "x")
    assert listeners("x", clients) == [1, 3]
    clients[1].session.close("transport close")
    assert listeners("x", clients) == [3]
    assert listeners(None, clients) == [0, 2, 3]


def test_client_that_enters_a_room_while_connecting_hears_it_once_connected(
    server: gateway.Server, trio: list[Any], join: Join, loop: FakeLoop
) -> None:
    may_connect = asyncio.Event()

    async def connect(sid: str, environ: Any, auth: Any) -> None:
        await server.enter_room(sid, "x")
        await may_connect.wait()

    loop.run(server.emit("news", 1, room="x"))
    assert heard(trio) == [0, 1]
    server.on("connect", connect)
    late = InMemoryClient(server, loop)
    late.send("0")
    loop.run(server.emit("news", 2, room="x"))
    assert heard([*trio, late]) == [0, 1]
    may_connect.set()
    assert [part[:2] for part in late.received()] == ["0{", "2["]
    loop.run(server.emit("news", 3, room="x"))
    assert heard([*trio, late]) == [0, 1, 3]


def test_own_room_is_the_sid_and_nobody_elses(server: gateway.Server, trio: list[Any]) -> None:
    manager = server.manager
    sids = [client.member().sid for client in trio]
    assert set(manager.get_rooms(sids[1], "/")) == {sids[1], "x", "y"}
    manager.basic_enter_room(sids[0], "/", sids[0])
    manager.basic_enter_room(sids[0], "/", None)
    with pytest.raises(ValueError, match="sid room"):
        manager.basic_enter_room(sids[0], "/", sids[1])
    with pytest.raises(ValueError, match="sid room"):
        manager.basic_close_room(sids[1], "/")
    with pytest.raises(ValueError, match="not connected"):
        manager.basic_enter_room("nobody", "/", "x")
    assert set(manager.get_rooms(sids[0], "/")) == {sids[0], "x"}
    assert list(manager.get_rooms("nobody", "/")) == []


def test_leaving_and_closing_rooms_leaves_no_empty_room(server: gateway.Server, trio: list[Any]) -> None:
    manager = server.manager
    sid = trio[0].member().sid
    manager.basic_leave_room(sid, "/", "x")
    manager.basic_leave_room(sid, "/", "x")
    manager.basic_leave_room(sid, "/", sid)
    manager.basic_leave_room(sid, "/", None)
    manager.basic_leave_room("nobody", "/", "x")
    assert [member.sid for member in manager.select("/", "x")] == [trio[1].member().sid]
    manager.basic_close_room("x", "/")
    manager.basic_close_room("x", "/")
    assert set(manager.rooms["/"]) == {None, "y"}
    assert set(manager.get_rooms(trio[1].member().sid, "/")) == {trio[1].member().sid, "y"}


def test_last_client_leaves_nothing_behind(server: gateway.Server, trio: list[Any], loop: FakeLoop) -> None:
    for client in trio:
        client.session.close("transport close")
    loop.settle()
    assert server.manager.rooms == {}
    assert server.manager.members == {}
    assert server.manager._connecting == {}
    assert list(server.manager.get_namespaces()) == []


def test_participants_are_told_with_their_connection(server: gateway.Server, trio: list[Any]) -> None:
    found = list(server.manager.get_participants("/", "x"))
    assert found == [(client.member().sid, client.session.id) for client in trio[:2]]
    sid, eio_sid = found[0]
    assert server.manager.sid_from_eio_sid(eio_sid, "/") == sid
    assert server.manager.eio_sid_from_sid(sid, "/") == eio_sid
    assert server.manager.sid_from_eio_sid(eio_sid, "/other") is None
    assert server.manager.eio_sid_from_sid(sid, "/other") is None


# -- held back while connecting ------------------------------------------------------------------------------


@pytest.fixture
def connecting(server: gateway.Server, loop: FakeLoop, join: Join) -> Any:
    """A client whose connect handler waits for ``server.release()``."""
    gate = loop.create_future()

    async def connect(sid: str, environ: Any) -> Any:
        return await gate

    server.on("connect", connect, namespace="/slow")
    server.release = gate.set_result  # type: ignore[attr-defined]
    client = join(server)
    client.send("0/slow,")
    assert client.received() == []
    assert client.member("/slow").state is MemberState.CONNECTING
    return client


def test_messages_are_held_until_the_client_is_told_that_it_is_connected(
    server: Any, loop: FakeLoop, connecting: Any
) -> None:
    member = connecting.member("/slow")
    server.manager.basic_enter_room(member.sid, "/slow", "room")
    loop.run(server.emit("to all", namespace="/slow"))
    loop.run(server.emit("to room", room="room", namespace="/slow"))
    loop.run(server.emit("to sid", to=member.sid, namespace="/slow"))
    loop.run(server.emit("picked", room=["room"], namespace="/slow"))
    loop.run(server.emit("not this", namespace="/slow", skip_sid=member.sid))
    loop.run(server.emit("volatile", namespace="/slow", volatile=True))
    loop.run(server.emit("volatile", to=member.sid, namespace="/slow", volatile=True))
    assert connecting.received() == []
    server.release(None)
    assert connecting.received() == [
        f'0/slow,{{"sid":"{member.sid}"}}',
        '2/slow,["to all"]',
        '2/slow,["to room"]',
        '2/slow,["to sid"]',
        '2/slow,["picked"]',
    ]
    assert member.state is MemberState.CONNECTED


def test_messages_held_for_a_refused_client_are_never_sent(server: Any, loop: FakeLoop, connecting: Any) -> None:
    loop.run(server.emit("secret", namespace="/slow"))
    server.release(False)
    [refusal] = connecting.received()
    assert refusal.startswith("4/slow,")
    loop.run(server.emit("secret", namespace="/slow"))
    assert connecting.received() == []
    assert "/slow" not in server.manager.rooms


def test_what_is_held_is_bounded_like_what_waits(server: Any, loop: FakeLoop, connecting: Any) -> None:
    server.eio.max_buffered_bytes = 10_000
    for _ in range(4):
        loop.run(server.emit("a", "x" * 2000, namespace="/slow"))
    assert not connecting.session.closed
    loop.run(server.emit("a", "x" * 2000, namespace="/slow"))
    assert connecting.session.close_reason == "slow client"
    server.release(None)
    loop.settle()
    assert server.manager.members == {}


def test_held_messages_are_counted_once_they_are_handed_over(server: Any, loop: FakeLoop, connecting: Any) -> None:
    before = server.eio.counters.messages_out
    loop.run(server.emit("a", namespace="/slow"))
    server.release(None)
    loop.settle()
    assert server.eio.counters.messages_out - before == 2, "the confirmation and the event"


# -- volatile and bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("to_one", [False, True])
def test_volatile_is_dropped_and_counted_where_the_client_cannot_take_it(
    server: gateway.Server, trio: list[Any], loop: FakeLoop, to_one: bool
) -> None:
    trio[0].port.writable = False
    loop.run(server.emit("a", to=trio[0].member().sid if to_one else None, volatile=True))
    trio[0].port.writable = True
    trio[0].session.port_resumed(trio[0].port)
    assert heard(trio) == ([] if to_one else [1, 2])
    assert server.eio.counters.dropped_volatile == 1


def test_emit_to_one_waits_while_its_client_is_behind(
    make_server: Callable[..., gateway.Server], join: Join, loop: FakeLoop
) -> None:
    server = make_server(max_buffered_bytes=100_000)
    client = join(server)
    client.port.writable, client.port.buffered = False, 60_000
    client.session.port_paused(client.port)
    task = loop.create_task(server.emit("a", to=client.member().sid))
    loop.settle()
    assert not task.done()
    client.port.writable, client.port.buffered = True, 0
    client.session.port_resumed(client.port)
    loop.settle()
    assert task.done()
    assert client.received() == ['2["a"]']


def test_data_that_cannot_be_sent_reaches_nobody(server: gateway.Server, trio: list[Any], loop: FakeLoop) -> None:
    for options in ({}, {"to": trio[0].member().sid}, {"callback": print}):
        with pytest.raises(TypeError):
            loop.run(server.emit("a", object(), **options))
    assert heard(trio) == []
    assert not any(client.member().acks for client in trio)


# -- acks ----------------------------------------------------------------------------------------------------


def test_each_recipient_answers_for_itself(server: gateway.Server, trio: list[Any], loop: FakeLoop) -> None:
    answers: list[Any] = []
    loop.run(server.emit("a", callback=lambda *values: answers.append(values)))
    for client in trio:
        assert client.received() == ['21["a"]']
    trio[0].send('31["x",1]')
    trio[1].send("31[]")
    trio[0].send('31["again"]')
    trio[2].send('399["unknown"]')
    assert answers == [("x", 1), ()]


def test_callback_may_be_a_coroutine_function_and_may_fail(
    server: gateway.Server, trio: list[Any], loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = []

    async def callback(value: str) -> None:
        answers.append(value)
        raise RuntimeError("application")

    loop.run(server.emit("a", to=trio[0].member().sid, callback=callback))
    loop.run(server.emit("a", to=trio[0].member().sid, callback=lambda *_: answers[99]))
    trio[0].send('31["x"]', '32["y"]')
    assert answers == ["x"]
    assert loop.faults == []
    assert caplog.text.count("ack callback failed") == 2
    assert not trio[0].session.closed


def test_ack_that_does_not_come_in_time_is_given_up(server: gateway.Server, trio: list[Any], loop: FakeLoop) -> None:
    seen: list[Any] = []
    sid = trio[0].member().sid
    loop.run(server.emit("a", to=sid, callback=seen.append, timeout=5, on_timeout=lambda: seen.append("timeout")))
    loop.run(server.emit("b", to=sid, callback=seen.append, timeout=5, on_timeout=lambda: seen.append("timeout")))
    trio[0].send('31["answer"]')
    loop.advance(4.9)
    assert seen == ["answer"]
    loop.advance(0.2)
    assert seen == ["answer", "timeout"]
    trio[0].send('32["late"]')
    assert seen == ["answer", "timeout"]


def test_ack_timer_does_not_outlive_its_client(server: gateway.Server, trio: list[Any], loop: FakeLoop) -> None:
    seen: list[Any] = []
    sid = trio[0].member().sid
    loop.run(server.emit("a", to=sid, callback=seen.append, timeout=5, on_timeout=lambda: seen.append("timeout")))
    trio[0].session.close("transport close")
    loop.advance(10)
    assert seen == []
