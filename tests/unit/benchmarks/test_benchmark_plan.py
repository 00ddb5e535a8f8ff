"""Which cells there are, and what they ask of peers and load."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from benchmarks.peers import FLOOR, NODE, PEERS, TIDEGATE
from benchmarks.plan import CELLS, CONTROL, FULL, GROWTHS, OWN, QUICK, Cell, select

BROADCASTS = [cell for cell in CELLS if fnmatch(cell.name, "broadcast-*b-w*") and cell.clients <= 5000]


def limits(cell: Cell) -> dict[str, float]:
    return {target.against: target.limit for target in cell.targets}


def test_every_size_of_broadcast_is_aimed_at_node_and_at_the_floor() -> None:
    assert {(cell.clients, "1024b" in cell.name, cell.name[-1]) for cell in BROADCASTS} == {
        (clients, is_large, window) for clients in (100, 1000, 5000) for is_large in (False, True) for window in "41"
    }
    for cell in BROADCASTS:
        assert limits(cell) == ({NODE: 0.35, FLOOR: 1.0} if cell.name.endswith("w4") else {NODE: 0.5, FLOOR: 1.15})


@pytest.mark.parametrize(
    ("name", "against", "limit"),
    [
        ("echo-100", NODE, 0.75),
        ("echo-1000", NODE, 0.55),
        ("connect-websocket", NODE, 0.25),
        ("connect-polling", NODE, 0.8),
        ("broadcast-polling-1000", NODE, 0.9),
        ("broadcast-streaming-1000", CONTROL, 1.2),
        ("idle-10000", OWN, 6000),
        ("latency-1000", OWN, 12),
    ],
)
def test_other_targets(name: str, against: str, limit: float) -> None:
    (cell,) = (cell for cell in CELLS if cell.name == name)
    assert limits(cell) == {against: limit}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_target_is_against_something_that_is_run(cell: Cell) -> None:
    assert TIDEGATE in cell.peers
    for target in cell.targets:
        assert target.against in (*cell.peers, OWN, CONTROL)
        assert target.against != CONTROL or cell.control


def test_growths_are_made_of_cells_that_differ_in_clients_alone() -> None:
    cells = {cell.name: cell for cell in CELLS}
    for growth in GROWTHS:
        large, small = cells[growth.large], cells[growth.small]
        assert (large.clients, small.clients) == (10000, 100)
        assert (large.mode, large.options, large.server) == (small.mode, small.options, small.server)
        assert {TIDEGATE, NODE} <= set(large.peers) & set(small.peers)


def test_names_are_unique() -> None:
    names = [cell.name for cell in CELLS]
    assert len(set(names)) == len(names)


def test_floors_are_peers_and_bun_is_one_only_when_installed() -> None:
    assert {"c_floor", "c_floor_coalesce"} <= set(PEERS)
    assert "bun" not in PEERS or PEERS["bun"].command[0].endswith("/bin/bun")


def test_select_by_part_pattern_and_growth() -> None:
    assert [cell.name for cell in select("echo")] == ["echo-100", "echo-1000"]
    assert [cell.name for cell in select("echo-100")] == ["echo-100"]
    assert [cell.name for cell in select("connect-*")] == ["connect-websocket", "connect-polling"]
    assert [cell.name for cell in select("growth-w1")] == ["broadcast-100-64b-w1", "broadcast-10000-64b-w1"]
    assert select("nothing-like-it") == []


def test_a_cell_may_need_longer_than_a_quick_run() -> None:
    (latency,) = (cell for cell in CELLS if cell.name == "latency-1000")

    def seconds(timing: object) -> str:
        options = latency.load_options("websocket", timing)  # type: ignore[arg-type]
        return options[options.index("--seconds") + 1]

    assert (seconds(QUICK), seconds(FULL)) == ("4", "5")
