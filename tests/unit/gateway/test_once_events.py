"""``tidegate:once`` on a server without sockets: every way in which a handler is found, runs and ends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

import gateway
from gateway.middleware import EventRefusedError
from gateway.once import MAX_OUTSTANDING, MAX_WAITING
from gateway.once_events import MAX_STREAMS_PER_CLIENT
from tests.unit.gateway.conftest import InMemoryClient
from tests.unit.transports.engine_doubles import FakeLoop

Join = Callable[..., InMemoryClient]
MakeServer = Callable[..., gateway.Server]

STREAM = "stream-0123456789"
FAILED = [1, {"message": "Internal server error"}]


def once(ack_id: int | str, number: Any, *event: Any, floor: Any = 1, stream: Any = STREAM, namespace: str = "") -> str:
    """The packet."""
    return f"2{namespace}{ack_id}" + json.dumps(["tidegate:once", stream, number, floor, *event])


def ack(client: InMemoryClient, ack_id: int, namespace: str = "") -> Any:
    """The one answer that has come, which is to this id."""
    [text] = client.received()
    head = f"3{namespace}{ack_id}["
    assert text.startswith(head), text
    return json.loads(text[len(head) - 1 :])


def gone(client: InMemoryClient) -> None:
    client.session.close("transport close")
    client.loop.settle()


class Calls:
    """What handlers were called with, and how they end."""

    def __init__(self, way: str, end: Callable[[], Any]) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.way = way
        self.end = end

    def handler(self) -> Callable[..., Any]:
        def plain(*args: Any) -> Any:
            self.seen.append(args)
            return self.end()

        async def coroutine(*args: Any) -> Any:
            self.seen.append(args)
            return self.end()

        async def waiting(*args: Any) -> Any:
            self.seen.append(args)
            await asyncio.sleep(0)
            return self.end()

        kinds: dict[str, Callable[..., Any]] = {
            "function": plain,
            "coroutine": coroutine,
            "waiting": waiting,
            "awaitable": lambda *args: waiting(*args),
        }
        return kinds[self.way]


WAYS = ("function", "coroutine", "waiting", "awaitable")


def raises(error: BaseException) -> Any:
    raise error


ENDS: dict[str, tuple[Callable[[], Any], Any]] = {
    "none": (lambda: None, [0]),
    "value": (lambda: {"a": [1]}, [0, {"a": [1]}]),
    "list": (lambda: [1, 2], [0, [1, 2]]),
    "tuple": (lambda: (1, "two"), [0, 1, "two"]),
    "refuses": (lambda: raises(EventRefusedError("no", 7)), [0, "no", 7]),
    "raises": (lambda: raises(RuntimeError("secret")), FAILED),
    "cancelled inside": (lambda: raises(asyncio.CancelledError()), FAILED),
    "not handled": (lambda: gateway.Server().not_handled, [2, {"message": "no handler for 'order'"}]),
    "unsendable": (object, FAILED),
}


@pytest.mark.parametrize("async_handlers", [True, False])
@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ENDS)
def test_handler_runs_once_however_it_runs_and_ends(
    make_server: MakeServer, join: Join, loop: FakeLoop, way: str, end: str, middleware: bool, async_handlers: bool
) -> None:
    result, answer = ENDS[end]
    server = make_server(async_handlers=async_handlers)
    calls = Calls(way, result)
    server.on("order", calls.handler())
    if middleware:
        server.use_event(lambda sid, event, args: None)
    client = join(server)
    client.send(once(1, 1, "order", "book", 2))
    assert ack(client, 1) == answer
    client.send(once(2, 1, "order", "book", 2))
    assert ack(client, 2) == answer
    gone(client)
    other = join(server)
    other.send(once(0, 1, "order", "book", 2))
    assert ack(other, 0) == answer
    assert [args[1:] for args in calls.seen] == [("book", 2)]
    counters = server.eio.counters
    assert (counters.once_handled, counters.once_copies) == (1, 2)
    assert (client.session.application.in_flight, server.handler_runner.in_flight) == (0, 0)
    assert counters.refused["event_failed"] == (answer == FAILED)
    assert loop.faults == []


REGISTERED = ("catch-all", "namespace", "class", "own trigger_event", "pattern", "class pattern", "instrumented")


@pytest.mark.parametrize("registered", REGISTERED)
def test_handler_is_found_wherever_it_is_registered(make_server: MakeServer, join: Join, registered: str) -> None:
    server = make_server()
    seen: list[Any] = []

    class Orders(gateway.Namespace):
        async def on_order(self, *args: Any) -> str:
            seen.append(args[-1])
            return "taken"

    class Own(Orders):
        async def trigger_event(self, event: str, *args: Any) -> Any:
            return await self.on_order(*args) if event == "order" else None

    async def order(*args: Any) -> str:
        seen.append(args[-1])
        return "taken"

    if registered == "catch-all":
        server.on("*", order, namespace="/shop")
    elif registered == "class":
        server.register_namespace(Orders("/shop"))
    elif registered == "own trigger_event":
        server.register_namespace(Own("/shop"))
    elif registered == "pattern":
        server.on("order", order, namespace=server.of(re.compile("/sh.p")))
    elif registered == "class pattern":
        server.register_namespace(Orders(re.compile("/sh.p")))
    else:
        server.on("order", order, namespace="/shop")
    if registered == "instrumented":
        server.instrument(auth=False)
    client = join(server, "/shop")
    for ack_id in (1, 2):
        client.send(once(ack_id, 1, "order", "book", namespace="/shop,"))
        assert ack(client, ack_id, "/shop,") == [0, "taken"]
    assert seen == ["book"]


def test_event_that_nobody_handles_is_settled(make_server: MakeServer, join: Join) -> None:
    server = make_server()
    client = join(server)
    for ack_id in (1, 2):
        client.send(once(ack_id, 1, "nobody"))
        assert ack(client, ack_id) == [2, {"message": "no handler for 'nobody'"}]
    assert server.eio.counters.refused == {"unhandled_event": 1}


def test_event_that_a_middleware_drops_is_settled(make_server: MakeServer, join: Join) -> None:
    server = make_server()
    asked: list[Any] = []

    @server.use_event
    def drop(sid: str, event: str, args: list[Any]) -> bool:
        asked.append((event, args))
        return False

    server.on("order", lambda sid: 1)
    client = join(server)
    for ack_id in (1, 2):
        client.send(once(ack_id, 1, "order"))
        assert ack(client, ack_id) == [2, {"message": "no handler for 'order'"}]
    assert asked == [("order", [])], "it is asked about the event itself, once"


def test_middleware_changes_the_arguments(make_server: MakeServer, join: Join) -> None:
    server = make_server()
    server.use_event(lambda sid, event, args: [args[0] * 2])
    server.on("order", lambda sid, count: count)
    client = join(server)
    client.send(once(1, 1, "order", 4))
    assert ack(client, 1) == [0, 8]


# -- copies ----------------------------------------------------------------------------------------------------


class Gate:
    """A handler that waits until it is let through."""

    def __init__(self) -> None:
        self.waits: list[asyncio.Future[Any]] = []

    async def __call__(self, sid: str, *args: Any) -> Any:
        gate: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waits.append(gate)
        return await gate


@pytest.fixture
def gate(server: gateway.Server) -> Gate:
    gate = Gate()
    server.on("work", gate.__call__)
    return gate


def test_copies_during_the_run_wait_on_their_own_connections(server: gateway.Server, join: Join, gate: Gate) -> None:
    first, second = join(server), join(server)
    first.send(once(7, 1, "work"))
    first.send(once(8, 1, "work"))
    second.send(once(3, 1, "work"))
    assert (first.received(), second.received()) == ([], [])
    assert len(gate.waits) == 1
    gate.waits[0].set_result("done")
    assert first.received() == ['37[0,"done"]', '38[0,"done"]']
    assert second.received() == ['33[0,"done"]']


def test_answer_goes_to_the_copy_where_the_first_connection_is_gone(
    server: gateway.Server, join: Join, gate: Gate
) -> None:
    first = join(server)
    first.send(once(7, 1, "work"))
    gone(first)
    second = join(server)
    second.send(once(0, 1, "work"))
    gate.waits[0].set_result("done")
    assert second.received() == ['30[0,"done"]']
    assert len(gate.waits) == 1


def test_answer_that_nobody_could_get_is_there_for_the_copy(server: gateway.Server, join: Join, gate: Gate) -> None:
    first = join(server)
    first.send(once(7, 1, "work"))
    gone(first)
    gate.waits[0].set_result("done")
    second = join(server)
    second.send(once(0, 1, "work"))
    assert ack(second, 0) == [0, "done"]


def test_copies_beyond_the_bound_are_given_up_oldest_first(server: gateway.Server, join: Join, gate: Gate) -> None:
    client, left = join(server), join(server)
    left.send(once(0, 1, "work"))
    gone(left)
    for ack_id in range(MAX_WAITING + 2):
        client.send(once(ack_id, 1, "work"))
    assert server.eio.counters.refused == {"copy_given_up": 2}, "nothing is lost to who has left"
    gate.waits[0].set_result("done")
    assert [text[:2] for text in client.received()] == [f"3{ack_id}" for ack_id in range(2, MAX_WAITING + 2)]


def test_answer_is_the_one_of_its_time(server: gateway.Server, join: Join) -> None:
    state = {"count": 1}
    server.on("order", lambda sid: state)
    client = join(server)
    client.send(once(1, 1, "order"))
    assert ack(client, 1) == [0, {"count": 1}]
    state["count"] = 2
    client.send(once(2, 1, "order"))
    assert ack(client, 2) == [0, {"count": 1}]


def test_task_that_is_cancelled_with_nobody_waiting_leaves_the_message_to_the_next_copy(
    server: gateway.Server, join: Join, gate: Gate, loop: FakeLoop
) -> None:
    first = join(server)
    first.send(once(1, 1, "work"))
    gone(first)
    [task] = [task for task in server.eio._tasks if not task.done()]
    task.cancel()
    loop.settle()
    second = join(server)
    second.send(once(1, 1, "work"))
    assert len(gate.waits) == 2
    gate.waits[1].set_result("done")
    assert ack(second, 1) == [0, "done"]


def test_task_that_is_cancelled_while_a_client_waits_has_failed(
    server: gateway.Server, join: Join, gate: Gate, loop: FakeLoop
) -> None:
    client = join(server)
    client.send(once(1, 1, "work"))
    [task] = [task for task in server.eio._tasks if not task.done()]
    task.cancel()
    assert ack(client, 1) == FAILED
    client.send(once(2, 1, "work"))
    assert ack(client, 2) == FAILED
    assert len(gate.waits) == 1


def test_shutdown_answers_nothing_and_forgets_what_ran(
    server: gateway.Server, join: Join, gate: Gate, loop: FakeLoop
) -> None:
    client = join(server)
    client.send(once(1, 1, "work"))
    loop.run(server.shutdown())
    loop.settle()
    assert not any(isinstance(text, str) and text.startswith("31") for text in client.received())
    again = join(server)
    again.send(once(1, 1, "work"))
    assert len(gate.waits) == 2


def test_floor_that_passes_lets_answers_go(server: gateway.Server, join: Join) -> None:
    server.on("order", lambda sid, number: number)
    client = join(server)
    client.send(once(1, 1, "order", 1))
    client.send(once(2, 2, "order", 2, floor=2))
    assert client.received() == ["31[0,1]", "32[0,2]"]
    client.send(once(3, 1, "order", 1))
    assert ack(client, 3) == [3, {"message": "message 1 was settled before, and its answer is forgotten"}]
    assert server.eio.counters.refused == {"once_settled": 1}


def test_order_of_arrival_is_kept_with_plain_events_between(make_server: MakeServer, join: Join) -> None:
    server = make_server(async_handlers=False)
    seen: list[int] = []

    @server.event
    async def order(sid: str, number: int) -> None:
        await asyncio.sleep(0)
        seen.append(number)

    client = join(server)
    client.send(once(1, 1, "order", 0), '2["order",1]', once(2, 2, "order", 2), once(3, 1, "order", 0), '2["order",3]')
    assert seen == [0, 1, 2, 3]
    assert sorted(text[:2] for text in client.received()) == ["31", "32", "33"]


def test_namespaces_have_streams_of_their_own(make_server: MakeServer, join: Join) -> None:
    server = make_server()
    seen: list[str] = []
    for namespace in ("/", "/other"):
        server.on("order", lambda sid, name=namespace: seen.append(name), namespace=namespace)
    client = join(server)
    client.connect("/other")
    client.send(once(1, 1, "order"), once(1, 1, "order", namespace="/other,"))
    assert seen == ["/", "/other"]
    assert client.received() == ["31[0]", "3/other,1[0]"]


# -- what an answer may hold -------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["/", "/übung"])
def test_binary_data_goes_in_and_comes_back_in_every_copy(make_server: MakeServer, join: Join, namespace: str) -> None:
    server = make_server()
    server.on("echo", lambda sid, *args: args, namespace=namespace)
    client = join(server, namespace)
    head = "" if namespace == "/" else namespace + ","
    for ack_id in (1, 23):
        data = ["tidegate:once", STREAM, 1, 1, "echo", {"_placeholder": True, "num": 0}, "text"]
        client.send(f"51-{head}{ack_id}{json.dumps(data)}", b"\x00\x01")
        assert client.received() == [f'61-{head}{ack_id}[0,{{"_placeholder":true,"num":0}},"text"]', b"\x00\x01"]
    assert server.eio.counters.once_copies == 1


def test_large_event_is_counted_while_its_handler_runs_and_not_after(
    server: gateway.Server, join: Join, gate: Gate
) -> None:
    client = join(server)
    client.send(once(1, 1, "work", "x" * 5000))
    assert client.session.application.in_flight_bytes > 5000
    client.send(once(2, 1, "work", "x" * 5000))
    assert client.session.application.in_flight == 1, "a copy is no handler"
    gate.waits[0].set_result(None)
    client.received()
    assert (client.session.application.in_flight_bytes, client.session.application_bytes) == (0, 0)


def test_msgpack_answers_hold_what_the_handler_returned_then(
    make_server: MakeServer, join: Join, loop: FakeLoop
) -> None:
    server = make_server(serializer="msgpack")
    state = {"blob": b"\x00", "count": [1]}
    server.on("order", lambda sid, blob: state)
    client = InMemoryClient(server, loop)
    client.send(msgpack.packb({"type": 0, "nsp": "/"}))
    client.received()
    for ack_id in (1, 2):
        data = ["tidegate:once", STREAM, 1, 1, "order", b"\x01"]
        client.send(msgpack.packb({"type": 2, "nsp": "/", "data": data, "id": ack_id}))
        [answer] = client.received()
        assert msgpack.unpackb(answer) == {
            "type": 3,
            "nsp": "/",
            "data": [0, {"blob": b"\x00", "count": [1]}],
            "id": ack_id,
        }
        state["count"] = [2]


def test_json_module_of_the_application_writes_the_answers(make_server: MakeServer, join: Join) -> None:
    class Shouting:
        loads = staticmethod(json.loads)

        @staticmethod
        def dumps(value: Any, **options: Any) -> str:
            return json.dumps(value, **options).upper()

    server = make_server(json=Shouting)
    server.on("order", lambda sid: "done")
    client = join(server)
    for ack_id in (1, 2):
        client.send(once(ack_id, 1, "order"))
        assert ack(client, ack_id) == [0, "DONE"]


# -- refusals ----------------------------------------------------------------------------------------------------

MALFORMED: dict[str, str] = {
    "nothing": '21["tidegate:once"]',
    "no floor": f'21["tidegate:once","{STREAM}",1]',
    "stream too short": once(1, 1, "order", stream="a" * 15),
    "stream too long": once(1, 1, "order", stream="a" * 65),
    "stream of other characters": once(1, 1, "order", stream="a" * 15 + "é"),
    "stream with a line end": once(1, 1, "order", stream="a" * 16 + "\n"),
    "stream is a number": once(1, 1, "order", stream=10**16),
    "number below 0": once(1, -1, "order"),
    "number is true": once(1, True, "order"),
    "number is text": once(1, "1", "order"),
    "number is a fraction": once(1, 1.0, "order"),
    "number too large": once(1, 2**53, "order"),
    "floor 0": once(1, 1, "order", floor=0),
    "floor above": once(1, 1, "order", floor=2),
    "floor is null": once(1, 1, "order", floor=None),
    "no event": once(1, 1),
    "event is null": once(1, 1, None),
    "event is a list": once(1, 1, ["order"]),
    "event is true": once(1, 1, True),
    "event is reserved": once(1, 1, "connect", {}),
    "event is itself": once(1, 1, "tidegate:once", STREAM, 1, 1, "order"),
    "question with an event": once(1, 0, "order"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_message_is_refused_and_the_session_goes_on(make_server: MakeServer, join: Join, what: str) -> None:
    server = make_server()
    server.on("*", lambda event, sid, *args: pytest.fail(f"{event} was handled"))
    client = join(server)
    client.send(MALFORMED[what])
    kind, told = ack(client, 1)
    assert kind == 4
    assert told["message"].startswith("malformed tidegate:once: ")
    assert server.eio.counters.refused == {"bad_once": 1}
    assert not client.session.closed


def test_message_without_an_ack_id_is_dropped(make_server: MakeServer, join: Join) -> None:
    server = make_server()
    server.on("order", lambda sid: pytest.fail("handled"))
    client = join(server)
    client.send(once("", 1, "order"))
    assert client.received() == []
    assert server.eio.counters.refused == {"bad_once": 1}


def test_number_0_is_answered_and_changes_nothing(server: gateway.Server, join: Join) -> None:
    client = join(server)
    for floor in (0, 1, 5):
        client.send(once(1, 0, floor=floor))
        assert ack(client, 1) == [0]
    assert client.member().once_streams == ()
    assert (server.eio.counters.once_handled, server.eio.counters.refused) == (0, {})


def test_stream_with_too_many_outstanding_is_refused(server: gateway.Server, join: Join) -> None:
    server.on("order", lambda sid: None)
    client = join(server)
    client.send(once(1, MAX_OUTSTANDING + 1, "order"))
    assert ack(client, 1) == [4, {"message": "1000 messages of the stream are not settled"}]
    client.send(once(2, MAX_OUTSTANDING, "order"))
    assert ack(client, 2) == [0]


def test_client_may_use_so_many_streams(server: gateway.Server, join: Join) -> None:
    server.on("order", lambda sid: None)
    client = join(server)
    for number in range(MAX_STREAMS_PER_CLIENT):
        client.send(once(1, 1, "order", stream=f"{number:016}"))
        assert ack(client, 1) == [0]
    client.send(once(2, 1, "order", stream="f" * 16))
    assert ack(client, 2) == [4, {"message": "16 streams of one client are allowed"}]
    client.send(once(3, 2, "order", stream=f"{0:016}"))
    assert ack(client, 3) == [0]


def test_server_that_is_full_of_busy_streams_refuses(make_server: MakeServer, join: Join) -> None:
    server = make_server(max_once_streams=1)
    gate = Gate()
    server.on("work", gate.__call__)
    client = join(server)
    client.send(once(1, 1, "work"))
    client.send(once(2, 1, "work", stream="f" * 16))
    assert ack(client, 2) == [4, {"message": "the server remembers as many messages as it may"}]
    gate.waits[0].set_result(None)
    assert ack(client, 1) == [0]
    client.send(once(3, 1, "work", stream="f" * 16))
    gate.waits[1].set_result(None)
    assert ack(client, 3) == [0]
    assert server.eio.counters.once_forgotten == 1


# -- forgetting ----------------------------------------------------------------------------------------------------


def test_streams_are_forgotten_after_the_window_by_one_timer(
    make_server: MakeServer, join: Join, loop: FakeLoop
) -> None:
    server = make_server(once_window_s=60.0, ping_interval=1e6)
    seen: list[str] = []
    server.on("order", lambda sid, name: seen.append(name))
    client = join(server)
    client.send(once(1, 1, "order", "a"), once(2, 1, "order", "b", stream="b" * 16))
    loop.advance(50)
    client.send(once(3, 1, "order", "a"))
    assert server.once is not None
    table = server.once._table
    loop.advance(11)
    assert len(table) == 1
    client.send(once(4, 1, "order", "a"), once(5, 1, "order", "b", stream="b" * 16))
    assert seen == ["a", "b", "b"], "the one that was used later is remembered"
    loop.advance(75)
    assert (len(table), table.nbytes) == (0, 0)


def test_window_of_0_makes_it_an_event_like_any_other(make_server: MakeServer, join: Join) -> None:
    server = make_server(once_window_s=0)
    seen: list[Any] = []
    server.on("tidegate:once", lambda sid, *args: seen.append(args))
    client = join(server)
    client.send(once(1, 1, "order"), once(2, 1, "order"))
    assert seen == [(STREAM, 1, 1, "order")] * 2
    assert client.received() == ["31[]", "32[]"]
