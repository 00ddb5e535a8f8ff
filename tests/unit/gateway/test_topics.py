"""Which topic stands for what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.brokers.base import MAX_TOPIC_BYTES, BrokerConfigError
from gateway.topics import SERVERS, may_be_sid, node_of, node_topic, room_topic, topic_of
from transports.session_ids import draw, draw_worker_id

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAMESPACES = NAMES.map(lambda name: "/" + name.replace(",", ""))


@given(NAMESPACES, st.one_of(st.none(), NAMES), NAMESPACES, st.one_of(st.none(), NAMES))
def test_no_two_rooms_share_a_topic(one: str, room: str | None, other: str, another: str | None) -> None:
    topics = {topic_of(one, room), topic_of(other, another), SERVERS, node_topic("n")}
    assert len(topics) == 2 + len({(one, room), (other, another)})


@pytest.mark.parametrize("room", ["x" * 10_000, "ü" * 1500, "x" * (MAX_TOPIC_BYTES - 2), "x" * (MAX_TOPIC_BYTES - 1)])
def test_topics_of_long_names_are_short_enough_and_different(room: str) -> None:
    topic = room_topic("/", room)
    assert 0 < len(topic.encode()) <= MAX_TOPIC_BYTES
    assert topic != room_topic("/", room + "x")
    assert topic != room_topic("/y", room)


def test_rooms_that_are_not_text_are_refused() -> None:
    with pytest.raises(TypeError, match="not by 5"):
        room_topic("/", 5)
    with pytest.raises(BrokerConfigError, match="surrogates"):
        room_topic("/", "\ud800")


def test_sid_tells_its_node() -> None:
    worker_id = draw_worker_id()
    sid = worker_id + draw()
    assert node_of(sid) == worker_id
    assert node_of("my-node_1" + draw()) == "my-node_1"
    assert node_of("lobby") == ""
    assert may_be_sid(sid)
    assert not may_be_sid("lobby")
