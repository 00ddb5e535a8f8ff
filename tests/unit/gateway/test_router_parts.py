"""The router's parts that need no socket: handlers by name, arguments, turns, settings, requests."""

import asyncio
import logging
from typing import Any, cast

import pytest

import gateway
from gateway.connection import (
    NOT_HANDLED,
    ConnectionInfo,
    EventArgumentsError,
    SocketConnection,
    Turns,
    approximate_nbytes,
    event,
)
from gateway.router import Router, RouterSession, server_settings
from transports.request import HttpRequest


class Base(SocketConnection):
    @event
    def ping(self, client: Any) -> Any:
        return "base", client

    @event("user joined")
    def user_joined(self, name: str, room: str = "lobby") -> Any:
        return name, room

    @event
    def fails(self) -> None:
        raise TypeError("from within")


class Child(Base):
    def ping(self, client: Any) -> Any:
        return "child", client

    @event("arrived")
    def user_joined(self, name: str, room: str = "hall") -> Any:
        return name, room

    @event
    async def later(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs


def made(connection_class: type[SocketConnection]) -> SocketConnection:
    return connection_class(cast("RouterSession", None))


# -- dispatch ------------------------------------------------------------------------------------------


def test_an_event_reaches_the_method_of_its_name() -> None:
    assert made(Base).on_event("ping", [1], {}) == ("base", 1)


def test_an_event_reaches_the_method_marked_with_its_name() -> None:
    assert made(Base).on_event("user joined", [], {"name": "ada"}) == ("ada", "lobby")
    assert made(Base).on_event("user_joined", [], {"name": "ada"}) is NOT_HANDLED


def test_an_override_keeps_the_event_of_what_it_overrides() -> None:
    assert made(Child).on_event("ping", [1], {}) == ("child", 1)


def test_an_override_that_is_marked_anew_leaves_its_old_event() -> None:
    assert made(Child).on_event("arrived", ["ada"], {}) == ("ada", "hall")
    assert made(Child).on_event("user joined", ["ada"], {}) is NOT_HANDLED
    assert made(Base).on_event("user joined", ["ada"], {}) == ("ada", "lobby")


async def test_keyword_and_positional_arguments_are_passed_as_they_come() -> None:
    assert await made(Child).on_event("later", [], {"a": 1}) == ((), {"a": 1})
    assert await made(Child).on_event("later", [1, {"a": 1}], {}) == ((1, {"a": 1}), {})
    assert await made(Child).on_event("later", [], {}) == ((), {})


def test_an_unknown_event_is_not_handled_and_logged_at_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tidegate.router"):
        assert made(Base).on_event("nope", [], {}) is NOT_HANDLED
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.INFO, "Base has no handler of event 'nope'")
    ]


@pytest.mark.parametrize(("args", "kwargs"), [([], {}), ([1, 2], {}), ([], {"other": 1}), ([], {"self": 1})])
def test_arguments_that_do_not_fit_are_told_apart_from_errors_within(args: list[Any], kwargs: dict[str, Any]) -> None:
    with pytest.raises(EventArgumentsError):
        made(Base).on_event("ping", args, kwargs)


def test_a_type_error_from_within_a_handler_is_its_own() -> None:
    with pytest.raises(TypeError, match="from within") as caught:
        made(Base).on_event("fails", [], {})
    assert not isinstance(caught.value, EventArgumentsError)


def test_two_handlers_of_one_event_are_refused() -> None:
    with pytest.raises(TypeError, match="two handlers of 'x': first and second"):

        class Twice(SocketConnection):
            @event("x")
            def first(self) -> None: ...

            @event("x")
            def second(self) -> None: ...


@pytest.mark.parametrize("name", ["connect", "disconnect"])
def test_events_that_no_client_can_send_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        event(name)


def test_positional_and_keyword_arguments_together_are_refused() -> None:
    with pytest.raises(TypeError, match="not with both"):
        made(Base).emit("x", 1, a=2)


# -- turns ---------------------------------------------------------------------------------------------


async def test_a_call_that_does_not_wait_is_made_at_once() -> None:
    assert Turns().run(lambda: 7) == 7


async def test_calls_wait_for_the_one_under_way_in_their_order() -> None:
    turns = Turns()
    gate = asyncio.Event()
    log: list[str] = []

    async def slow() -> str:
        log.append("slow begins")
        await gate.wait()
        log.append("slow ends")
        return "slow"

    first = asyncio.create_task(turns.run(slow))
    second = asyncio.create_task(turns.run(lambda: log.append("second"), nbytes=5))
    third = asyncio.create_task(turns.run(slow, nbytes=6))
    await asyncio.sleep(0)
    assert (log, len(turns), turns.nbytes) == (["slow begins"], 2, 11)
    gate.set()
    assert await asyncio.gather(first, second, third) == ["slow", None, "slow"]
    assert log == ["slow begins", "slow ends", "second", "slow begins", "slow ends"]
    assert (turns.is_busy, len(turns), turns.nbytes) == (False, 0, 0)


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_who_is_cancelled_keeps_nobody_from_their_turn(cancelled: int) -> None:
    turns = Turns()
    gate = asyncio.Event()
    log: list[int] = []

    def call(number: int) -> Any:
        async def wait() -> None:
            await gate.wait()
            log.append(number)

        return wait

    tasks = [asyncio.create_task(turns.run(call(number))) for number in range(3)]
    await asyncio.sleep(0)
    tasks[cancelled].cancel()
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert log == [number for number in range(3) if number != cancelled]
    assert not turns.is_busy


async def test_who_is_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    turns = Turns()
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await gate

    async def passes_on_and_cancels() -> None:
        await turns.run(wait)
        second.cancel()

    first = asyncio.create_task(passes_on_and_cancels())
    await asyncio.sleep(0)
    second = asyncio.create_task(turns.run(lambda: "second"))
    third = asyncio.create_task(turns.run(lambda: "third"))
    await asyncio.sleep(0)
    gate.set_result(None)
    await first
    assert await third == "third"
    assert second.cancelled()
    assert not turns.is_busy


def test_the_size_of_what_waits_grows_with_it() -> None:
    assert approximate_nbytes(["x" * 1000]) > 1000
    assert approximate_nbytes({"a": [b"y" * 1000, {"b": 1}]}) > 1000
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert approximate_nbytes(deep) > 100_000


# -- settings ------------------------------------------------------------------------------------------


def test_settings_of_tornadio2_become_ours() -> None:
    settings = server_settings(
        {
            "heartbeat_interval": 12,
            "client_timeout": 5,
            "enabled_protocols": ["websocket", "xhr-polling", "jsonp-polling", "xhr-streaming"],
            "session_check_interval": 15,
            "websocket_check": False,
            "global_heartbeats": True,
            "verify_remote_ip": False,
        }
    )
    assert settings == {
        "ping_interval": 12,
        "ping_timeout": 5,
        "transports": ["polling", "xhr-streaming", "websocket"],
        "max_pending_events": 1000,
    }


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"enabled_protocols": ["websocket", "flashsocket"]}, "'flashsocket' needs the Flash plug-in.*'websocket'"),
        ({"enabled_protocols": ["htmlfile"]}, "use 'xhr-streaming'"),
        ({"enabled_protocols": ["xhr-poling"]}, "no protocol 'xhr-poling'; did you mean 'xhr-polling'"),
        ({"enabled_protocols": []}, "at least one"),
        ({"enabled_protocols": None}, "enabled_protocols: "),
        ({"session_expiry": 30}, r"heartbeat_interval \+ client_timeout"),
        ({"xhr_polling_timeout": 20}, "set heartbeat_interval"),
        ({"global_heartbeats": False}, "cannot be off"),
        ({"verify_remote_ip": True}, "cannot be on"),
        ({"heartbeat_interval": 0}, "above 0"),
        ({"client_timeout": "5"}, "number of seconds"),
        ({"heartbeat_interval": 12, "ping_interval": 25}, "is given as ping_interval too"),
        ({"namespaces": "*"}, "__endpoints__"),
        ({"async_handlers": True}, "in order"),
        ({"max_pending_events": 0}, "max_pending_events"),
        ({"ping_interval": -1}, "ping_interval"),
    ],
)
def test_a_setting_that_cannot_be_had_says_what_to_use(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Router(Base, settings)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("heartbeat_intervall", "heartbeat_interval"), ("ping_intervals", "ping_interval"), ("transport", "transports")],
)
def test_an_unknown_setting_gets_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"no setting '{name}'; did you mean '{meant}'"):
        Router(Base, {name: 1})


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"session_expiry: .*; verify_remote_ip: "):
        Router(Base, {"session_expiry": 30, "verify_remote_ip": True})


def test_options_of_the_server_are_taken_and_can_be_read() -> None:
    router = Router(Base, {"ping_interval": 7, "max_buffered_bytes": 1000, "client_timeout": 3})
    assert isinstance(router.server, gateway.Server)
    assert (router.server.eio.ping_interval_s, router.server.eio.ping_timeout_s) == (7, 3)
    assert router.server.eio.max_buffered_bytes == 1000
    assert dict(router.settings) == {
        "ping_interval": 7,
        "max_buffered_bytes": 1000,
        "ping_timeout": 3,
        "max_pending_events": 1000,
    }


def test_a_router_serves_connection_classes_only() -> None:
    with pytest.raises(TypeError, match=r"subclass of gateway\.SocketConnection"):
        Router(cast("Any", object))


@pytest.mark.parametrize("name", ["chat", "/", "", "/a,b", "/a?b"])
def test_an_endpoint_that_no_client_could_reach_is_refused(name: str) -> None:
    class Root(SocketConnection):
        __endpoints__ = {name: Base}  # noqa: RUF012

    with pytest.raises(ValueError, match="endpoint"):
        Router(Root)


def test_an_endpoint_must_be_a_connection_class() -> None:
    class Root(SocketConnection):
        __endpoints__ = {"/chat": cast("Any", dict)}  # noqa: RUF012

    with pytest.raises(TypeError, match="'/chat' must be a subclass"):
        Router(Root)


# -- requests ------------------------------------------------------------------------------------------


def test_a_request_tells_its_arguments_cookies_and_headers() -> None:
    info = ConnectionInfo(
        HttpRequest(
            "GET",
            "/socket.io/?EIO=4&name=ada&tag=a&tag=b&empty=",
            {"cookie": 'session="s 1"; theme=dark; theme=light; odd', "x-forwarded-for": "10.0.0.1"},
            remote="127.0.0.1",
        ),
        {"token": "t"},
    )
    assert info.ip == "127.0.0.1"
    assert info.get_argument("name") == "ada"
    assert info.arguments["tag"] == ["a", "b"]
    assert (info.get_argument("empty"), info.get_argument("none"), info.get_argument("none", "x")) == ("", None, "x")
    assert info.cookies == {"session": "s 1", "theme": "dark"}
    assert (info.get_cookie("theme"), info.get_cookie("none")) == ("dark", None)
    assert info.headers["X-Forwarded-For"] == "10.0.0.1"
    assert info.auth == {"token": "t"}
