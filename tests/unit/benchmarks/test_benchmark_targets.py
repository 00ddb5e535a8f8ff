"""Targets beside what was reached, in the tables and in the JSON."""

from __future__ import annotations

import json

from benchmarks import document, table
from benchmarks.measure import CellResult, Faults, Run
from benchmarks.targets import Reached, reached
from tests.unit.benchmarks.results import cell, result


def by_figure(rows: list[Reached]) -> dict[tuple[str, str], Reached]:
    return {(row.name, row.figure): row for row in rows}


def test_a_broadcast_is_held_against_node_and_the_floor() -> None:
    rows = by_figure(reached([result("broadcast-1000-64b-w4", tidegate=[3.0, 2.0, 9.0], node=10.0, c_floor=2.5)]))
    of_node, of_floor = rows["broadcast-1000-64b-w4", "÷ node"], rows["broadcast-1000-64b-w4", "÷ c_floor"]
    assert (of_node.limit, of_node.value, of_node.met) == (0.35, 0.3, True)  # 3.0 is the median
    assert (of_floor.limit, of_floor.value, of_floor.met) == (1.0, 1.2, False)


def test_a_limit_itself_is_met() -> None:
    (row,) = reached([result("idle-10000", tidegate=6000, node=15000)])
    assert row.met


def test_own_figures_stand_beside_those_of_others_in_the_unit_of_the_cell() -> None:
    (row,) = reached([result("latency-1000", tidegate=9_000.0, node=20_000.0)])
    assert (row.figure, row.value, row.others, row.met) == ("ms p99", 9.0, {"node": 20.0}, True)


def test_a_control_is_tidegates_own_other_transport() -> None:
    (row,) = reached([result("broadcast-streaming-1000", tidegate=2.6, control=2.0)])
    assert (row.figure, row.value, row.met) == ("÷ own websocket", 1.3, False)


def test_growth_is_derived_from_two_cells_for_every_peer() -> None:
    small = result("broadcast-100-64b-w4", tidegate=3.0, node=8.0, python_socketio=25.0)
    large = result("broadcast-10000-64b-w4", tidegate=3.3, node=16.0)
    row = by_figure(reached([small, large]))["growth-w4", "÷ itself at 100"]
    assert row.value is not None
    assert round(row.value, 3) == 1.1
    assert (row.limit, row.met, row.others) == (1.2, True, {"node": 2.0})
    assert ("growth-w4", "÷ itself at 100") not in by_figure(reached([small]))


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    skipped = CellResult(cell("idle-10000"), skipped="needs 10,300 open files")
    without_node = result("echo-100", tidegate=20.0)
    rows = reached([skipped, without_node])
    assert [(row.value, row.met) for row in rows] == [(None, None), (None, None)]
    text = table.as_text(table.targets(rows))
    assert "NO" not in text
    assert "yes" not in text


def test_tables_show_target_and_figure() -> None:
    results = [result("echo-100", tidegate=15.0, node=20.0), result("echo-1000", tidegate=30.0, node=20.0)]
    lines = table.as_markdown(table.targets(reached(results))).splitlines()
    assert lines[0] == "| load | figure | at most | reached | met | others |"
    assert lines[2] == "| echo with ack, coroutine handler, 100 clients, 64 B | ÷ node | 0.75 | 0.75 | yes |  |"
    assert lines[3] == "| echo with ack, coroutine handler, 1,000 clients, 64 B | ÷ node | 0.55 | 1.50 | NO |  |"
    plain = table.as_text(table.figures(results, ["tidegate", "node", "c_floor"])).splitlines()
    assert plain[0].split() == ["load", "unit", "tidegate", "node", "c_floor", "÷", "node", "÷", "c_floor", "notes"]
    assert plain[1].split()[-5:] == ["15.0", "20.0", "-", "0.75", "-"]


def test_a_cell_of_several_measures_has_a_row_for_each() -> None:
    measured = result("rows-1000-deflate", tidegate=2.0, node=80.0, more={"received_bytes_per_delivery": 390.0})
    rows = table.figures([measured], ["tidegate", "node"]).rows
    assert [row[1:5] for row in rows] == [
        ["µs/delivery", "2.0", "80.0", "0.03"],
        ["wire bytes/delivery", "390", "390", "1.00"],
    ]


def test_faults_and_noise_are_noted() -> None:
    measured = result("echo-100", tidegate=15.0, node=20.0)
    measured.entries["node"].noisy_runs.append(Run({"missing": 2, "duplicate": 1, "stale": 4, "errors": 1}, noisy=True))
    measured.entries["tidegate"].runs.append(Run({"cpu_us_per_round_trip": 15.0}, noisy=True))
    assert measured.entries["node"].faults == Faults(missing=2, repeated=1, reordered=4, other=1)
    note = table.figures([measured], ["tidegate", "node"]).rows[0][-1]
    assert note == "tidegate: 1 of 2 runs NOISY; node: FAULTS 2/1/4; node: 1 other faults"


def test_the_document_holds_figures_growths_targets_and_every_run() -> None:
    results = [
        result("broadcast-100-64b-w4", tidegate=[3.0, 3.2], node=8.0),
        result("broadcast-10000-64b-w4", tidegate=3.1, node=16.0),
    ]
    whole = json.loads(json.dumps(document.of(results)))
    first = whole["cells"][0]
    assert first["figures"][0]["peers"] == {"tidegate": 3.1, "node": 8.0}
    assert first["figures"][0]["ratios"] == {"node": 3.1 / 8.0}
    assert [run["cpu_us_per_delivery"] for run in first["peers"]["tidegate"]["runs"]] == [3.0, 3.2]
    assert whole["growths"][0]["peers"] == {"tidegate": 1.0, "node": 2.0}
    assert [(row["name"], row["figure"], row["met"]) for row in whole["targets"]] == [
        ("broadcast-100-64b-w4", "÷ node", False),
        ("broadcast-100-64b-w4", "÷ c_floor", None),
        ("growth-w4", "÷ itself at 100", True),
    ]
