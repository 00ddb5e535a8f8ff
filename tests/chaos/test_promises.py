"""That what clients tell is held against what was promised."""

from __future__ import annotations

from typing import Any

import pytest

from .promises import Done, Seen, judge

QUIET: dict[str, Any] = {
    "violations": [],
    "gaps": [],
    "losses": [],
    "returns": [],
    "again": 0,
    "heardAnew": 0,
    "heard": 9,
    "answered": 1,
    "refused": 0,
    "clients": [{"number": number, "node": "a", "isPlain": number % 3 != 0} for number in range(4)],
}
#: In a partition the nodes a and c stay together.
CUT = {"restart_redis": ("a", "b", "c"), "pause_redis": ("a", "b", "c"), "partition": ("b",)}
LOSS = {"client": 1, "why": "transport close"}
BACK = {"client": 1, "isRecovered": False, "isFirst": False}


def gap(room: str, *, node: str = "b") -> dict[str, Any]:
    return {"gaps": [{"client": 1, "at": "a", "room": room, "node": node, "from": 5, "to": 7}]}


@pytest.mark.parametrize(
    ("scenario", "told", "touched"),
    [
        ("restart_redis", {}, []),
        ("partition", gap("plain"), []),
        ("pause_redis", {"losses": [LOSS | {"client": 3}]}, []),
        ("kill_worker", {"losses": [LOSS], "returns": [BACK]}, [1]),
        ("kill_worker", {"losses": [LOSS, LOSS | {"client": 3}], "returns": [BACK]}, [1]),
        ("renew_clients", {"losses": [LOSS], "returns": [BACK | {"isRecovered": True}]}, [1]),
    ],
)
def test_what_was_promised_is_no_problem(scenario: str, told: dict[str, Any], touched: list[int]) -> None:
    cut = CUT.get(scenario, ())
    seen = Seen(scenario, "")
    judge(seen, QUIET | told, Done("", touched, cut))
    assert seen.problems == []
    assert seen.missed_plain == (3 if "gaps" in told else 0)


@pytest.mark.parametrize(
    ("scenario", "told", "touched"),
    [
        ("restart_redis", {"violations": ["client 1 heard a plain 5 after 5: twice"]}, []),
        ("restart_redis", {"problem": "never: all connected"}, []),
        ("restart_redis", gap("durable"), []),
        ("restart_redis", gap("plain", node="a"), []),
        ("kill_worker", gap("plain") | {"losses": [LOSS], "returns": [BACK]}, [1]),
        ("partition", gap("plain", node="c"), []),
        ("partition", {"losses": [LOSS]}, []),
        ("kill_host", {"losses": [LOSS], "returns": [BACK | {"isRecovered": True}]}, [1]),
        ("kill_host", {"losses": [LOSS], "returns": [BACK]}, [1, 2]),
    ],
)
def test_what_was_not_promised_is_one(scenario: str, told: dict[str, Any], touched: list[int]) -> None:
    cut = CUT.get(scenario, ())
    seen = Seen(scenario, "")
    judge(seen, QUIET | told, Done("", touched, cut))
    assert len(seen.problems) == 1
    assert "BROKEN" in str(seen)
