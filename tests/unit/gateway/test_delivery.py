"""Reliable, volatile, conflated: per emit and per room."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

import gateway
from gateway.delivery import RELIABLE, VOLATILE, Delivery, DeliveryPolicies, How, conflated
from gateway.members import MemberState
from tests.unit.gateway.conftest import InMemoryClient
from tests.unit.transports.engine_doubles import FakeLoop

Join = Callable[..., Any]


def jam(client: Any) -> None:
    client.received()
    client.port.writable = False


def resume(client: Any) -> list[Any]:
    """What comes once the client takes messages again."""
    client.port.writable = True
    client.session.port_resumed(client.port)
    received: list[Any] = client.received()
    return received


# -- what an emit asks for -----------------------------------------------------------------------------------


def chosen(policies: DeliveryPolicies | None = None, **arguments: Any) -> Delivery:
    options = {"volatile": None, "conflate": None, "has_callback": False, **arguments}
    return (policies or DeliveryPolicies()).choose("/", "room", "tick", **options)


def test_messages_are_reliable_unless_somebody_says_otherwise() -> None:
    assert chosen() is RELIABLE
    assert chosen(volatile=True) is VOLATILE
    assert chosen(conflate="ACME") == Delivery(How.CONFLATED, ("/", "ACME"))
    assert chosen(conflate=True) == Delivery(How.CONFLATED, ("/", "tick", "room"))


@pytest.mark.parametrize("key", [0, 1, "", (), frozenset("a"), None.__class__, ("tick", "room")])
def test_every_other_hashable_value_is_a_key_of_the_application(key: Any) -> None:
    assert chosen(conflate=key).key == ("/", key)


def test_key_that_cannot_be_hashed_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be True or a key that can be hashed, not \['ACME'\]"):
        chosen(conflate=["ACME"])


def test_arguments_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="volatile or conflated, not both"):
        chosen(volatile=True, conflate="k")
    with pytest.raises(ValueError, match="leave out callback or conflate"):
        chosen(conflate="k", has_callback=True)


def test_several_rooms_are_one_target_of_conflation_whatever_their_order() -> None:
    assert conflated(True, "/", "tick", ["a", "b"]) == conflated(True, "/", "tick", ("b", "a"))
    assert conflated(True, "/", "tick", ["a"]) != conflated(True, "/", "tick", "a")


# -- policies ------------------------------------------------------------------------------------------------


def test_policy_applies_where_the_emit_says_nothing() -> None:
    policies = DeliveryPolicies()
    policies.set("/", "room", None, "volatile")
    assert chosen(policies) is VOLATILE
    assert chosen(policies, volatile=True) is VOLATILE
    assert chosen(policies, conflate="k").how is How.CONFLATED
    assert chosen(policies, volatile=False) is RELIABLE
    assert chosen(policies, conflate=False) is RELIABLE
    assert chosen(policies, has_callback=True) is RELIABLE
    policies.set("/", "room", None, "conflated")
    assert chosen(policies) == chosen(conflate=True)
    assert chosen(policies, volatile=True) is VOLATILE
    assert policies.find("/", "other", "tick") is How.RELIABLE
    assert policies.find("/x", "room", "tick") is How.RELIABLE


def test_policy_of_an_event_comes_before_that_of_its_room() -> None:
    policies = DeliveryPolicies()
    policies.set("/", "room", None, "conflated")
    policies.set("/", "room", "news", "reliable")
    policies.set("/", "other", "news", "volatile")
    assert policies.find("/", "room", "tick") is How.CONFLATED
    assert policies.find("/", "room", "news") is How.RELIABLE
    assert policies.find("/", "other", "news") is How.VOLATILE
    assert policies.find("/", "other", "tick") is How.RELIABLE


def test_several_rooms_follow_what_they_agree_on() -> None:
    policies = DeliveryPolicies()
    policies.set("/", "a", None, "volatile")
    policies.set("/", "b", None, "volatile")
    policies.set("/", "c", None, "conflated")
    assert policies.find("/", ["a", "b"], "tick") is How.VOLATILE
    assert policies.find("/", ["a", "c"], "tick") is How.RELIABLE
    assert policies.find("/", ["a", "d"], "tick") is How.RELIABLE
    assert policies.find("/", [], "tick") is How.RELIABLE


def test_forgotten_policies_take_no_memory() -> None:
    policies = DeliveryPolicies()
    for room in range(100):
        policies.set("/", room, None, "volatile")
        policies.set("/", room, None, "conflated")
    assert len(policies) == 100
    for room in range(100):
        policies.set("/", room, None, None)
    policies.set("/", "unknown", "tick", None)
    assert len(policies) == 0


def test_what_is_no_policy_is_refused(server: gateway.Server) -> None:
    with pytest.raises(ValueError, match="delivery must be 'reliable', 'volatile', 'conflated' or None, not 'fast'"):
        server.set_delivery("room", "fast")
    with pytest.raises(TypeError, match="one room at a time"):
        server.set_delivery(["a", "b"], "volatile")


# -- through the server --------------------------------------------------------------------------------------


@pytest.mark.parametrize("to_one", [False, True])
def test_newest_of_each_key_follows_what_is_reliable(
    server: gateway.Server, join: Join, loop: FakeLoop, to_one: bool
) -> None:
    client, other = join(server), join(server)
    to = client.member().sid if to_one else None
    jam(client)
    for n in range(3):
        loop.run(server.emit("price", n, to=to, conflate="ACME"))
        loop.run(server.emit("price", 10 + n, to=to, conflate=("B", 1)))
        loop.run(server.emit("news", n, to=to))
    assert resume(client) == [f'2["news",{n}]' for n in range(3)] + ['2["price",2]', '2["price",12]']
    assert len(other.received()) == (0 if to_one else 9)
    assert server.eio.counters.conflated == 4


def test_conflating_by_event_and_room_keeps_rooms_and_events_apart(
    server: gateway.Server, join: Join, loop: FakeLoop
) -> None:
    client = join(server)
    for room in ("x", "y"):
        server.manager.basic_enter_room(client.member().sid, "/", room)
    jam(client)
    for n in range(2):
        for event in ("price", "volume"):
            for room in ("x", "y"):
                loop.run(server.emit(event, f"{room}{n}", room=room, conflate=True))
    assert resume(client) == [
        '2["price","x1"]',
        '2["price","y1"]',
        '2["volume","x1"]',
        '2["volume","y1"]',
    ]


def test_keys_belong_to_their_namespace(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    server.on("connect", lambda sid, environ: None, namespace="/other")
    client = join(server)
    client.connect("/other")
    jam(client)
    for n in range(2):
        loop.run(server.emit("price", n, conflate="k"))
        loop.run(server.emit("price", n, conflate="k", namespace="/other"))
    assert resume(client) == ['2["price",1]', '2/other,["price",1]']


def test_attachments_of_a_replaced_message_go_with_it(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    client = join(server)
    jam(client)
    for data in (b"old", b"new"):
        loop.run(server.emit("frame", data, conflate=True))
    assert resume(client) == ['51-["frame",{"_placeholder":true,"num":0}]', b"new"]


def test_policy_of_a_room_decides_and_the_emit_overrules_it(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    client = join(server)
    server.manager.basic_enter_room(client.member().sid, "/", "ticker")
    server.set_delivery("ticker", "conflated")
    server.set_delivery("ticker", "volatile", event="pulse")
    jam(client)
    for n in range(2):
        loop.run(server.emit("price", n, room="ticker"))
        loop.run(server.emit("pulse", n, room="ticker"))
        loop.run(server.emit("trade", n, room="ticker", volatile=False))
        loop.run(server.emit("price", n))
    assert resume(client) == [
        '2["trade",0]',
        '2["price",0]',
        '2["trade",1]',
        '2["price",1]',
        '2["price",1]',
    ]
    assert server.eio.counters.dropped_volatile == 2
    server.set_delivery("ticker", None)
    server.set_delivery("ticker", None, event="pulse")
    jam(client)
    for n in range(2):
        loop.run(server.emit("pulse", n, room="ticker"))
    assert resume(client) == ['2["pulse",0]', '2["pulse",1]']
    assert len(server.manager.policies) == 0


def test_policy_of_the_namespace_and_of_one_client(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    client = join(server)
    server.set_delivery(None, "volatile")
    server.set_delivery(client.member().sid, "conflated", namespace="/")
    jam(client)
    loop.run(server.emit("to all"))
    loop.run(server.emit("to one", 1, to=client.member().sid))
    loop.run(server.emit("to one", 2, to=client.member().sid))
    assert resume(client) == ['2["to one",2]']


def test_answered_messages_are_reliable_whatever_the_policy(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    client = join(server)
    server.set_delivery(None, "conflated")
    jam(client)
    for n in range(2):
        loop.run(server.emit("ask", n, callback=lambda *_: None))
    assert resume(client) == ['21["ask",0]', '22["ask",1]']


def test_fetched_client_takes_the_same_options(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    client = join(server)
    [remote] = loop.run(server.fetch_sockets())
    jam(client)
    for n in range(2):
        loop.run(remote.emit("price", n, conflate="k"))
        loop.run(remote.emit("pulse", n, volatile=True))
    assert resume(client) == ['2["price",1]']


def test_emit_conflated_to_one_client_waits_for_nobody(
    make_server: Callable[..., gateway.Server], join: Join, loop: FakeLoop
) -> None:
    server = make_server(max_buffered_bytes=100_000)
    client = join(server)
    jam(client)
    client.port.buffered = 60_000
    client.session.port_paused(client.port)
    before = loop.time()
    for n in range(5):
        loop.run(server.emit("price", n, to=client.member().sid, conflate="k"))
    assert loop.time() == before
    client.port.buffered = 0
    assert resume(client) == ['2["price",4]']


# -- coming and going ----------------------------------------------------------------------------------------


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


def test_newest_is_held_for_a_client_that_is_connecting(server: Any, loop: FakeLoop, connecting: Any) -> None:
    member = connecting.member("/slow")
    for n in range(3):
        loop.run(server.emit("price", n, namespace="/slow", conflate="k"))
        loop.run(server.emit("mine", n, to=member.sid, namespace="/slow", conflate="m"))
    loop.run(server.emit("reliable", namespace="/slow"))
    assert server.eio.counters.conflated == 4
    server.release(None)
    assert connecting.received() == [
        f'0/slow,{{"sid":"{member.sid}"}}',
        '2/slow,["reliable"]',
        '2/slow,["price",2]',
        '2/slow,["mine",2]',
    ]
    assert member.held_conflated is None


def test_what_is_held_goes_on_waiting_where_the_connection_takes_nothing(
    server: Any, loop: FakeLoop, connecting: Any
) -> None:
    loop.run(server.emit("price", 1, namespace="/slow", conflate="k"))
    jam(connecting)
    server.release(None)
    loop.settle()
    loop.run(server.emit("price", 2, namespace="/slow", conflate="k"))
    assert resume(connecting)[1:] == ['2/slow,["price",2]']


def test_what_is_held_conflated_is_bounded(server: Any, loop: FakeLoop, connecting: Any) -> None:
    server.eio.max_buffered_bytes = 10_000
    for n in range(40):
        loop.run(server.emit("price", "x" * 2000, namespace="/slow", conflate=n % 3))
    loop.run(server.emit("news", "x" * 2000, namespace="/slow"))
    assert not connecting.session.closed
    loop.run(server.emit("price", "x" * 2000, namespace="/slow", conflate="one more"))
    assert connecting.session.close_reason == "slow client"


def test_who_leaves_and_joins_again_gets_nothing_old(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    server.on("connect", lambda sid, environ: None, namespace="/other")
    client = join(server)
    client.connect("/other")
    jam(client)
    loop.run(server.emit("price", 1, conflate="k", namespace="/other"))
    loop.run(server.emit("price", 2, conflate="k"))
    client.send("1/other,", "0/other,")
    answer, price = resume(client)
    assert answer.startswith('0/other,{"sid"')
    assert price == '2["price",2]'
    assert server.eio.counters.dropped_closed == 1


def test_who_is_told_to_go_gets_the_newest_first(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    client = join(server)
    jam(client)
    for n in range(2):
        loop.run(server.emit("price", n, conflate="k"))
    loop.run(server.disconnect(client.member().sid))
    assert resume(client) == ['2["price",1]', "1"]
    assert server.eio.counters.dropped_closed == 0


# -- connection classes --------------------------------------------------------------------------------------


def routed(loop: FakeLoop, connection_class: type[gateway.SocketConnection]) -> tuple[gateway.Router, InMemoryClient]:
    router = gateway.Router(connection_class)
    return router, InMemoryClient(router.server, loop)


class Ticks(gateway.SocketConnection):
    made: ClassVar[list["Ticks"]] = []

    def on_open(self, request: Any) -> None:
        self.made.append(self)


def test_connection_emits_volatile_and_conflated(loop: FakeLoop) -> None:
    router, client = routed(loop, Ticks)
    client.connect()
    connection = Ticks.made.pop()
    connection.emit_volatile("pulse", 0)
    assert client.received() == ['2["pulse",0]']
    jam(client)
    for n in range(3):
        connection.emit_volatile("pulse", n)
        connection.emit_conflated("ACME", "price", n)
        connection.emit_conflated(True, "volume", n=n)
        connection.emit("news", n)
    assert resume(client) == [*(f'2["news",{n}]' for n in range(3)), '2["price",2]', '2["volume",{"n":2}]']
    assert router.server.eio.counters.dropped_volatile == 3
    with pytest.raises(TypeError, match="key that can be hashed"):
        connection.emit_conflated([], "price", 1)
    with pytest.raises(TypeError, match="not with both"):
        connection.emit_conflated("k", "price", 1, n=1)


def test_root_that_is_not_joined_yet_holds_the_newest(loop: FakeLoop) -> None:
    class Endpoint(gateway.SocketConnection):
        pass

    class Root(Ticks):
        __endpoints__: ClassVar[dict[str, Any]] = {"/endpoint": Endpoint}

    router, client = routed(loop, Root)
    client.connect("/endpoint")
    [root] = Ticks.made
    Ticks.made.clear()
    for n in range(2000):
        root.emit_conflated("k", "price", n)
        root.emit_volatile("pulse", n)
    root.emit("news")
    client.send("0")
    assert client.received()[1:] == ['2["news"]', '2["price",1999]']
    assert router.server.eio.counters.dropped_volatile == 2000


def test_rooms_of_connection_classes_have_policies_too(loop: FakeLoop) -> None:
    router, client = routed(loop, Ticks)
    client.connect()
    connection = Ticks.made.pop()
    connection.join("ticker")
    router.server.set_delivery("ticker", "conflated")
    jam(client)
    for n in range(3):
        loop.run(connection.emit_to("ticker", "price", n, include_self=True))
    assert resume(client) == ['2["price",2]']
