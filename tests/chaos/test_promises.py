"""That what clients tell is held against what was promised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from .promises import PROMISES, Done, Seen, judge
from .worlds import WORLDS

QUIET: dict[str, Any] = {
    "violations": [],
    "gaps": [],
    "losses": [],
    "returns": [],
    "again": 0,
    "heardAnew": 0,
    "gapsTold": {},
    "heard": 9,
    "answered": 1,
    "refused": 0,
    "clients": [{"number": number, "node": "a", "isPlain": number % 3 != 0} for number in range(4)],
}
#: In a partition the nodes a and c stay together.
GONE = {"kill_worker": ("b",)}
CUT = {"restart_redis": ("a", "b", "c"), "pause_redis": ("a", "b", "c"), "partition": ("b",)}
#: When another master took over; nodes that may have lost something are told.
WINDOW = (10.0, 20.0)
TOLD = {"gapsTold": {"a": [{"isComplete": False}], "b": [{"isComplete": True}]}}
LOSS = {"client": 1, "why": "transport close"}
BACK = {"client": 1, "isRecovered": False, "isFirst": False}


def gap(room: str, *, node: str = "b", published: Sequence[tuple[float, float] | None] = ()) -> dict[str, Any]:
    found = {"client": 1, "at": "a", "room": room, "node": node, "from": 5, "to": 7, "published": published}
    return {"gaps": [found]}


@pytest.mark.parametrize(
    ("scenario", "told", "touched"),
    [
        ("restart_redis", {}, []),
        ("partition", gap("plain"), []),
        ("pause_redis", {"losses": [LOSS | {"client": 3}]}, []),
        ("kill_worker", {"losses": [LOSS], "returns": [BACK]}, [1]),
        ("kill_worker", gap("plain") | {"losses": [LOSS], "returns": [BACK]}, [1]),
        ("kill_worker", {"losses": [LOSS, LOSS | {"client": 3}], "returns": [BACK]}, [1]),
        ("renew_clients", {"losses": [LOSS], "returns": [BACK | {"isRecovered": True}]}, [1]),
    ],
)
def test_what_was_promised_is_no_problem(scenario: str, told: dict[str, Any], touched: list[int]) -> None:
    cut = CUT.get(scenario, ())
    seen = Seen(scenario, "")
    judge(seen, QUIET | told, Done("", touched, cut, GONE.get(scenario, ())))
    assert seen.problems == []
    assert seen.missed_plain == (3 if "gaps" in told else 0)


@pytest.mark.parametrize(
    ("scenario", "told", "touched"),
    [
        ("restart_redis", {"violations": ["client 1 heard a plain 5 after 5: twice"]}, []),
        ("restart_redis", {"problem": "never: all connected"}, []),
        ("restart_redis", gap("durable"), []),
        ("restart_redis", gap("plain", node="a"), []),
        ("kill_worker", gap("plain", node="c") | {"losses": [LOSS], "returns": [BACK]}, [1]),
        ("kill_worker", gap("durable") | {"losses": [LOSS], "returns": [BACK]}, [1]),
        ("partition", gap("plain", node="c"), []),
        ("partition", {"losses": [LOSS]}, []),
        ("kill_host", {"losses": [LOSS], "returns": [BACK | {"isRecovered": True}]}, [1]),
        ("kill_host", {"losses": [LOSS], "returns": [BACK]}, [1, 2]),
    ],
)
def test_what_was_not_promised_is_one(scenario: str, told: dict[str, Any], touched: list[int]) -> None:
    cut = CUT.get(scenario, ())
    seen = Seen(scenario, "")
    judge(seen, QUIET | told, Done("", touched, cut, GONE.get(scenario, ())))
    assert len(seen.problems) == 1
    assert "BROKEN" in str(seen)


def judged(told: dict[str, Any]) -> Seen:
    seen = Seen("fail_over", "")
    judge(seen, QUIET | told, Done("", cut=("a", "b", "c"), window=WINDOW))
    return seen


@pytest.mark.parametrize("published", [[(9.0, 10.0)], [(12.0, 13.0), (20.0, 50.0)]])
def test_what_a_master_may_take_with_it_is_counted(published: list[tuple[float, float]]) -> None:
    seen = judged(gap("durable", published=published) | TOLD)
    assert seen.problems == []
    assert (seen.missed_durable, seen.gaps_told, seen.incomplete_told) == (3, 2, 1)
    assert judged(gap("plain")).problems == []


@pytest.mark.parametrize(
    "told",
    [
        gap("durable", published=[(12.0, 13.0), (20.1, 50.0)]) | TOLD,
        gap("durable", published=[(8.0, 9.9), (12.0, 13.0)]) | TOLD,
        gap("durable", published=[(12.0, 13.0), None]) | TOLD,
        gap("durable", node="a", published=[(12.0, 13.0)]) | TOLD,
        gap("durable", published=[(12.0, 13.0)]),
        gap("durable", published=[(12.0, 13.0)]) | {"gapsTold": {"b": [{"isComplete": False}]}},
    ],
    ids=["after", "before", "unanswered", "own", "nobody was told", "another was told"],
)
def test_what_no_master_can_have_taken_with_it_is_a_problem(told: dict[str, Any]) -> None:
    assert len(judged(told).problems) == 1


@pytest.mark.parametrize("scenario", ["partition", "restart_redis", "pause_redis", "pause_sentinel"])
def test_false_alarm_is_a_problem(scenario: str) -> None:
    seen = Seen(scenario, "")
    judge(seen, QUIET | TOLD, Done("", cut=("a", "b", "c")))
    assert len(seen.problems) == 1


def test_each_world_has_promises_and_a_way_for_all_that_can_happen() -> None:
    for world in WORLDS.values():
        for name in world.names:
            assert name in PROMISES
            assert callable(getattr(world.scenarios, name))
    assert {name for world in WORLDS.values() for name in world.names} == set(PROMISES)
