"""Acks of a broadcast, gathered."""

from collections.abc import Callable
from typing import Any

import pytest

import gateway
from gateway.acks import BroadcastAnswers, Gathering, as_answer
from tests.unit.transports.engine_doubles import FakeLoop

Join = Callable[..., Any]


@pytest.mark.parametrize(
    ("values", "answer"), [((), None), (("a",), "a"), (("a", "b"), ("a", "b")), ((None,), None), (([],), [])]
)
def test_one_value_is_the_answer_and_several_are_a_tuple(values: tuple[Any, ...], answer: Any) -> None:
    assert as_answer(values) == answer


def test_gathering_ends_with_the_last_answer(loop: FakeLoop) -> None:
    gathering = Gathering(["a", "b"])
    task = loop.create_task(gathering.wait(60))
    gathering.pending("a").answered(1)
    loop.settle()
    assert not task.done()
    gathering.pending("b").answered()
    loop.settle()
    assert task.result() == BroadcastAnswers({"a": 1, "b": None}, [])


def test_gathering_lists_who_did_not_answer_in_time(loop: FakeLoop) -> None:
    gathering = Gathering(["a", "b", "c"])
    gathering.pending("b").answered(2)
    began = loop.time()
    answers = loop.run(gathering.wait(5))
    assert loop.time() == began + 5
    assert answers == BroadcastAnswers({"b": 2}, ["a", "c"])
    gathering.pending("a").answered("late")
    assert answers == BroadcastAnswers({"b": 2}, ["a", "c"]), "late answers change nothing"


def test_gathering_does_not_wait_for_those_who_left(loop: FakeLoop) -> None:
    gathering = Gathering(["a", "b"])
    first, second = gathering.pending("a"), gathering.pending("b")
    assert second.abandoned is not None
    second.abandoned()
    first.answered(1)
    began = loop.time()
    assert loop.run(gathering.wait(60)) == BroadcastAnswers({"a": 1}, ["b"])
    assert loop.time() == began


def test_gathering_of_nobody_is_complete(loop: FakeLoop) -> None:
    began = loop.time()
    assert loop.run(Gathering([]).wait(60)) == BroadcastAnswers({}, [])
    assert loop.time() == began


def test_call_all_asks_everybody_it_is_for(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    clients = [join(server) for _ in range(4)]
    sids = [client.member().sid for client in clients]
    task = loop.create_task(server.call_all("ask", (1, 2), skip_sid=sids[3], timeout=5))
    loop.settle()
    for client in clients[:3]:
        assert client.received() == ['21["ask",1,2]']
    assert clients[3].received() == []
    clients[0].send('31["yes",1]')
    clients[1].session.close("transport close")
    loop.advance(4)
    assert not task.done()
    loop.advance(2)
    assert task.result() == BroadcastAnswers({sids[0]: ("yes", 1)}, [sids[1], sids[2]])
    assert not any(client.member().acks for client in (clients[0], clients[2])), "nothing is kept of the given up"


def test_call_all_with_data_that_cannot_be_sent_leaves_no_ack_behind(
    server: gateway.Server, join: Join, loop: FakeLoop
) -> None:
    client = join(server)
    with pytest.raises(TypeError):
        loop.run(server.call_all("ask", object()))
    assert not client.member().acks


def test_call_answers_and_times_out(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    client = join(server)
    sid = client.member().sid
    task = loop.create_task(server.call("ask", to=sid))
    loop.settle()
    client.send('31["a","b"]')
    assert task.result() == ("a", "b")
    task = loop.create_task(server.call("ask", to=sid, timeout=3))
    loop.advance(4)
    with pytest.raises(gateway.TimeoutError):
        task.result()
    assert not client.member().acks, "the ack that was given up is not kept as long as the client stays"


def test_open_gathering_waits_for_those_that_are_added(loop: FakeLoop) -> None:
    gathering = Gathering(["a"], is_open=True)
    task = loop.create_task(gathering.wait(60))
    gathering.settle("a", (1,))
    gathering.settle("early", (2,))
    gathering.settle("gone", None)
    gathering.settle("stranger", (9,))
    loop.settle()
    assert not task.done()
    gathering.add(["early", "gone", "n1late", "n2never", "n2neither"])
    gathering.close()
    loop.settle()
    assert not task.done()
    gathering.give_up("n2")
    gathering.settle("n1late", ())
    loop.settle()
    assert task.result() == BroadcastAnswers({"a": 1, "early": 2, "n1late": None}, ["gone", "n2never", "n2neither"])


def test_gathering_of_nobody_ends_at_once_unless_it_is_open(loop: FakeLoop) -> None:
    assert loop.run(Gathering([]).wait(60)) == BroadcastAnswers({}, [])
    gathering = Gathering([], is_open=True)
    task = loop.create_task(gathering.wait(60, ("silent",)))
    loop.settle()
    assert not task.done()
    gathering.close()
    loop.settle()
    assert task.result() == BroadcastAnswers({}, [], ("silent",))
