"""Charts from a fixed document: what they tell, that they stand alone, and that they can be read."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import charts, document, svg
from tests.unit.benchmarks.results import result

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    wire = {"received_bytes_per_delivery": 391.1}
    return charts.draw(
        document.of(
            [
                result("broadcast-100-64b-w4", tidegate=3.5, node=8.0, c_floor=5.0, c_floor_coalesce=2.25),
                result("broadcast-10000-64b-w4", tidegate=2.6, node=18.2, c_floor=10.4),
                result("broadcast-1000-64b-w4", tidegate=2.9, node=9.4, python_socketio=64.4, bun=9.9, c_floor=4.9),
                result("broadcast-1000-1024b-w4", tidegate=77.7, node=9.0),
                result("echo-100", tidegate=22.0, node=20.0),
                result("idle-10000", tidegate=4575, node=15602, python_socketio=31016),
                result("latency-1000", tidegate=9000.0, node=20_000.0),
                result("latency-1000-large", tidegate=17_000.0, node=59_000.0),
                result("rows-1000", tidegate=4.2, node=13.1, more={"received_bytes_per_delivery": 1040.0}),
                result("rows-1000-deflate", tidegate=3.1, node=111.0, more=wire),
            ]
        )
    )


def bars(chart: str) -> list[tuple[str, float]]:
    """Class and length of each bar, from the top."""
    return [
        (rect.get("class", ""), float(rect.get("width", "")))
        for rect in ET.fromstring(chart).iter(f"{SVG}rect")
        if rect.get("class", "").startswith("s-")
    ]


def told(chart: str) -> str:
    return ET.fromstring(chart).findtext(f"{SVG}desc") or ""


def test_there_is_a_chart_for_everything_that_was_measured(drawn: dict[str, str]) -> None:
    assert set(drawn) == {
        "broadcast-four-in-flight",
        "targets",
        "latency",
        "memory",
        "compression-cpu",
        "compression-bytes",
    }
    assert charts.draw(document.of([])) == {}


def test_each_has_a_title_and_tells_its_numbers(drawn: dict[str, str]) -> None:
    for chart in drawn.values():
        root = ET.fromstring(chart)
        assert root.get("role") == "img"
        ids = {element.get("id"): element.text for element in root if element.get("id")}
        assert all(ids.get(name) for name in root.get("aria-labelledby", "").split())
    assert "tidegate: 3.50 at 100, 2.90 at 1,000, 2.60 at 10,000" in told(drawn["broadcast-four-in-flight"])
    assert "77.7" not in drawn["broadcast-four-in-flight"]  # another payload
    assert "tidegate 1.10 of at most 0.75" in told(drawn["targets"])
    assert "alone: tidegate 9.00, node 20.0" in told(drawn["latency"])
    assert "permessage-deflate: tidegate 391" in told(drawn["compression-bytes"])


def test_bars_are_as_long_as_their_values(drawn: dict[str, str]) -> None:
    memory = bars(drawn["memory"])
    assert [name for name, _ in memory] == ["s-tidegate", "s-node", "s-python-socketio"]
    scale = memory[0][1] / 4575
    assert [round(length / scale, -2) for _, length in memory] == [4600, 15600, 31000]


def test_labels_of_lines_do_not_cover_each_other() -> None:
    lines = [svg.Line(name, [(100, 5.0), (1000, 5.0 + i / 100)]) for i, name in enumerate(svg.COLOURS)]
    root = ET.fromstring(svg.lines("t", "u", "clients", lines))
    ys = sorted(float(t.get("y", "")) for t in root.iter(f"{SVG}text") if t.get("class") == "label")
    assert len(ys) == len(svg.COLOURS)
    assert all(below - above >= svg.LINE_HEIGHT - 0.1 for above, below in pairwise(ys))


def test_the_same_document_gives_the_same_files(drawn: dict[str, str], tmp_path: Path) -> None:
    fixed = document.of([result("idle-10000", tidegate=4575, node=15602)])
    (first,) = charts.write(fixed, tmp_path / "one")
    (second,) = charts.write(fixed, tmp_path / "two")
    assert first.name == "memory.svg"
    assert first.read_bytes() == second.read_bytes()


def test_files_stand_alone(drawn: dict[str, str]) -> None:
    for chart in drawn.values():
        assert re.findall(r"<script|<image|url\(|href|@import|<!--", chart) == []
        assert chart.count("http") == 1  # the name of the format


def test_names_are_escaped() -> None:
    root = ET.fromstring(svg.bars("a < b & c", "µs", [svg.Group("<g>", [svg.Bar("node", 1.0)])]))
    assert root.findtext(f"{SVG}title") == "a < b & c"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", [0, 1], ids=["light", "dark"])
def test_text_and_bars_can_be_told_from_their_ground(ground: int) -> None:
    assert contrast(svg.TEXT[ground], svg.GROUND[ground]) >= 7
    assert contrast(svg.FAINT[ground], svg.GROUND[ground]) >= 4.5
    for colours in svg.COLOURS.values():
        assert contrast(colours[ground], svg.GROUND[ground]) >= 3


def test_every_peer_has_a_colour_and_a_place() -> None:
    assert set(charts.SERIES) == set(svg.COLOURS)
