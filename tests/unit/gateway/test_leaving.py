"""What is left to do when a connection ends: nothing where nobody wants to know, a task where somebody does."""

from collections.abc import Callable
from typing import Any

import pytest

import gateway
from tests.unit.gateway.conftest import InMemoryClient
from tests.unit.transports.engine_doubles import FakeLoop

Join = Callable[..., InMemoryClient]


def test_without_a_handler_a_client_is_gone_at_once(server: gateway.Server, join: Join) -> None:
    client, other = join(server), join(server)
    member = client.member()
    server.manager.basic_enter_room(member.sid, "/", "x")
    client.session.close("transport close")
    assert list(server.manager.members) == [other.member().sid]
    assert list(server.manager.rooms["/"]) == [None]
    assert client.session.application.members == {}
    assert not server.eio._tasks


def test_with_a_handler_a_client_is_told_of_in_a_later_turn(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    seen: list[Any] = []
    server.on("disconnect", lambda sid, reason: seen.append((sid, reason)))
    client = join(server)
    sid = client.member().sid
    client.session.close("transport close")
    assert seen == []
    loop.settle()
    assert seen == [(sid, "transport close")]
    assert not server.manager.members


def test_replaced_trigger_is_told_without_a_handler(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    client = join(server)
    seen: list[Any] = []

    async def trigger(event: Any, namespace: str, *args: Any) -> None:
        seen.append((event, *args))

    server._trigger_event = trigger  # type: ignore[method-assign]
    sid = client.member().sid
    client.session.close("transport close")
    loop.settle()
    assert seen == [("disconnect", sid, "transport close")]


def test_event_sent_before_the_end_still_finds_its_client(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    rooms: list[Any] = []

    async def remember(sid: str, room: str) -> None:
        await server.enter_room(sid, room)
        rooms.extend(server.rooms(sid))

    server.on("remember", remember)
    client = join(server)
    sid = client.member().sid
    client.session.receive_message(client.port, '2["remember","x"]')  # type: ignore[arg-type]
    client.session.close("transport close")
    loop.settle()
    assert rooms == [sid, "x"]
    assert not server.manager.members


def test_namespace_function_that_fails_does_not_keep_a_session_from_ending(
    server: gateway.Server, loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter((True, True, True))
    server.of(lambda namespace: next(answers))  # StopIteration, once they are used up
    client = InMemoryClient(server, loop)
    client.connect("/any")
    for _ in answers:
        pass
    client.session.close("transport close")
    assert client.session.closed
    loop.settle()
    assert not server.manager.members
    assert "disconnect handler of /any failed" in caplog.text
