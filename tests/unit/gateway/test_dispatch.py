"""Which function handles an event."""

import re
from collections.abc import Callable
from typing import Any

import pytest

import gateway
from gateway.dispatch import MAX_REMEMBERED, Dispatcher
from tests.unit.transports.engine_doubles import FakeLoop

Join = Callable[..., Any]


def call(server: gateway.Server, loop: FakeLoop, event: Any, namespace: str, *arguments: Any) -> Any:
    return loop.run(server._trigger_event(event, namespace, *arguments))


def record(name: str) -> Callable[..., Any]:
    return lambda *arguments: (name, *arguments)


class Recording(gateway.Namespace):
    def on_event(self, *arguments: Any) -> Any:
        return ("class", *arguments)

    async def on_async(self, *arguments: Any) -> Any:
        return ("async class", *arguments)


LEVELS: list[tuple[str, Callable[[gateway.Server], Any], tuple[Any, ...]]] = [
    ("event of the namespace", lambda s: s.on("event", record("1"), namespace="/a"), ("1", "sid", 5)),
    ("catch-all of the namespace", lambda s: s.on("*", record("2"), namespace="/a"), ("2", "event", "sid", 5)),
    ("event of any namespace", lambda s: s.on("event", record("3"), namespace="*"), ("3", "/a", "sid", 5)),
    ("anything of any namespace", lambda s: s.on("*", record("4"), namespace="*"), ("4", "event", "/a", "sid", 5)),
    (
        "event of a pattern",
        lambda s: s.on("event", record("5"), namespace=s.of(re.compile("/a"))),
        ("5", "/a", "sid", 5),
    ),
    (
        "anything of a pattern",
        lambda s: s.on("*", record("6"), namespace=s.of(re.compile("/a"))),
        ("6", "event", "/a", "sid", 5),
    ),
    ("class namespace", lambda s: s.register_namespace(Recording("/a")), ("class", "sid", 5)),
    ("class of any namespace", lambda s: s.register_namespace(Recording("*")), ("class", "/a", "sid", 5)),
]


@pytest.mark.parametrize("first", range(len(LEVELS)), ids=[level[0] for level in LEVELS])
def test_levels_take_precedence_in_this_order(server: gateway.Server, loop: FakeLoop, first: int) -> None:
    for _, register, _ in reversed(LEVELS[first:]):
        register(server)
    assert call(server, loop, "event", "/a", "sid", 5) == LEVELS[first][2]


def test_event_without_handler_is_not_handled(server: gateway.Server, loop: FakeLoop) -> None:
    server.on("event", record("1"), namespace="/a")
    server.register_namespace(Recording("/b"))
    assert call(server, loop, "other", "/a", "sid") is server.not_handled
    assert call(server, loop, "other", "/b", "sid") is server.not_handled
    assert call(server, loop, "event", "/c", "sid") is server.not_handled


@pytest.mark.parametrize("event", ["connect", "disconnect"])
def test_catch_alls_do_not_catch_connect_and_disconnect(server: gateway.Server, loop: FakeLoop, event: str) -> None:
    server.on("*", record("x"), namespace="/a")
    server.on("*", record("x"), namespace="*")
    server.on("*", record("x"), namespace=server.of(re.compile("/.*")))
    assert call(server, loop, event, "/a", "sid", "x", "y") is server.not_handled
    server.on(event, record("any"), namespace="*")
    assert call(server, loop, event, "/a", "sid", "x", "y")[:2] == ("any", "/a")


def test_events_may_be_numbers(server: gateway.Server, loop: FakeLoop) -> None:
    server.on(7, record("seven"))  # type: ignore[arg-type]
    server.register_namespace(Recording("/b"))
    assert call(server, loop, 7, "/", "sid") == ("seven", "sid")
    assert call(server, loop, 7, "/b", "sid") is server.not_handled


def test_registration_after_an_event_counts(server: gateway.Server, loop: FakeLoop) -> None:
    assert call(server, loop, "event", "/a", "sid") is server.not_handled
    server.register_namespace(Recording("/a"))
    assert call(server, loop, "event", "/a", "sid") == ("class", "sid")
    server.on("event", record("function"), namespace="/a")
    assert call(server, loop, "event", "/a", "sid") == ("function", "sid")


def test_class_methods_may_be_coroutines_and_see_what_triggers_them(server: gateway.Server, loop: FakeLoop) -> None:
    server.register_namespace(Recording("/a"))
    assert call(server, loop, "async", "/a", "sid", 1) == ("async class", "sid", 1)

    class Own(gateway.Namespace):
        async def trigger_event(self, event: str, *arguments: Any) -> Any:
            return ("own", event, *arguments)

    server.register_namespace(Own("/b"))
    assert call(server, loop, "event", "/b", "sid", 1) == ("own", "event", "sid", 1)
    assert call(server, loop, "connect", "/b", "sid", {}, None) == ("own", "connect", "sid", {}, None)


# -- older signatures ----------------------------------------------------------------------------------------

CONNECT_HANDLERS: dict[str, Callable[..., Any]] = {
    "with auth": lambda sid, environ, auth: (sid, environ, auth),
    "with default auth": lambda sid, environ, auth="none": (sid, environ, auth),
    "without auth": lambda sid, environ: (sid, environ),
    "any": lambda *arguments: arguments,
}


@pytest.mark.parametrize("name", CONNECT_HANDLERS)
@pytest.mark.parametrize("is_async", [False, True])
def test_connect_handlers_may_leave_out_auth(server: gateway.Server, loop: FakeLoop, name: str, is_async: bool) -> None:
    function = CONNECT_HANDLERS[name]
    expected = ("sid", "environ") if name == "without auth" else ("sid", "environ", "auth")
    if is_async and name == "without auth":

        async def connect(sid: str, environ: str) -> Any:
            return (sid, environ)

        function = connect
    server.on("connect", function)
    assert call(server, loop, "connect", "/", "sid", "environ", "auth") == expected


@pytest.mark.parametrize("is_async", [False, True])
def test_disconnect_handlers_may_leave_out_the_reason(server: gateway.Server, loop: FakeLoop, is_async: bool) -> None:
    async def later(sid: str) -> Any:
        return sid

    server.on("disconnect", later if is_async else lambda sid: sid)
    assert call(server, loop, "disconnect", "/", "sid", "reason") == "sid"
    server.on("disconnect", lambda sid, reason: (sid, reason))
    assert call(server, loop, "disconnect", "/", "sid", "reason") == ("sid", "reason")


def test_older_signatures_are_fitted_behind_the_namespace_too(server: gateway.Server, loop: FakeLoop) -> None:
    server.on("connect", lambda namespace, sid, environ: (namespace, sid, environ), namespace="*")
    server.on("disconnect", lambda namespace, sid: (namespace, sid), namespace="*")
    assert call(server, loop, "connect", "/a", "sid", "environ", "auth") == ("/a", "sid", "environ")
    assert call(server, loop, "disconnect", "/a", "sid", "reason") == ("/a", "sid")

    class Old(gateway.Namespace):
        def on_connect(self, sid: str, environ: Any) -> Any:
            return (sid, environ)

        async def on_disconnect(self, sid: str) -> Any:
            return sid

    server.register_namespace(Old("/b"))
    server.handlers.pop("*")
    server.dispatcher.forget()
    assert call(server, loop, "connect", "/b", "sid", "environ", "auth") == ("sid", "environ")
    assert call(server, loop, "disconnect", "/b", "sid", "reason") == "sid"


def test_type_error_inside_a_handler_is_its_own(server: gateway.Server, loop: FakeLoop) -> None:
    calls: list[Any] = []

    def connect(sid: str, environ: Any, auth: Any = None) -> None:
        calls.append(auth)
        raise TypeError("inside")

    server.on("connect", connect)
    with pytest.raises(TypeError, match="inside"):
        call(server, loop, "connect", "/", "sid", "environ", "auth")
    assert calls == ["auth"], "a handler is not called twice"


# -- patterns ------------------------------------------------------------------------------------------------


def test_patterns_match_the_whole_name(server: gateway.Server) -> None:
    server.of(re.compile(r"/board-\d+"))
    matches = server.dispatcher.matches
    assert matches("/board-12")
    for namespace in ("/board-", "/board-12x", "x/board-12", "/"):
        assert not matches(namespace)


def test_functions_of_the_name_match_too(server: gateway.Server, loop: FakeLoop) -> None:
    def short(name: str) -> bool:
        return len(name) < 4

    server.on("event", record("short"), namespace=short)
    assert call(server, loop, "event", "/ab", "sid") == ("short", "/ab", "sid")
    assert call(server, loop, "event", "/abcdef", "sid") is server.not_handled
    assert server.of(short) == server.of(short), "the same function is one namespace"
    assert server.of(re.compile("/x")) == server.of(re.compile("/x"))


def test_class_namespace_may_have_a_pattern(server: gateway.Server, loop: FakeLoop) -> None:
    server.register_namespace(Recording(re.compile("/b.*")))  # type: ignore[arg-type]
    assert call(server, loop, "event", "/board", "sid") == ("class", "/board", "sid")


def test_first_pattern_that_matches_is_the_one(server: gateway.Server, loop: FakeLoop) -> None:
    server.on("event", record("first"), namespace=re.compile("/a.*"))
    server.on("event", record("second"), namespace=re.compile("/.*"))
    assert call(server, loop, "event", "/ab", "sid")[0] == "first"
    assert call(server, loop, "event", "/b", "sid")[0] == "second"


# -- memory --------------------------------------------------------------------------------------------------


def test_names_are_remembered_up_to_a_number(server: gateway.Server) -> None:
    dispatcher = Dispatcher(server)
    server.on("known", record("1"))
    for number in range(MAX_REMEMBERED + 10):
        assert dispatcher.target(f"unknown {number}", "/") is None
    assert len(dispatcher._targets) <= MAX_REMEMBERED
    assert dispatcher.target("known", "/") is not None


def test_long_names_of_clients_are_not_remembered(server: gateway.Server) -> None:
    dispatcher = Dispatcher(server)
    for number in range(100):
        dispatcher.target(f"{number}" + "x" * 100_000, "/")
    kept = sum(len(event) for _, event in dispatcher._targets)
    assert kept < 1_000_000, f"{MAX_REMEMBERED} names of the longest kind would be {MAX_REMEMBERED} MB"


def test_integers_and_booleans_do_not_mix(server: gateway.Server, loop: FakeLoop, join: Join) -> None:
    server.on(1, record("one"))  # type: ignore[arg-type]
    client = join(server)
    client.send("25[1]")
    assert client.received() == ['35["one","' + client.member().sid + '"]']
