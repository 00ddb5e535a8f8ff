"""Stacks as a profiler writes them: summed up, drawn, and written for speedscope."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks import flamegraph, stacks
from benchmarks.stacks import Line

SVG = "{http://www.w3.org/2000/svg}"
RAW = """\
main (app.py:1);loop (loop.c:9);receive (gateway/server.py:4) 6
main (app.py:1);loop (loop.c:9);receive (gateway/server.py:4);write (libc.so.6) 3
main (app.py:1);walk (app.py:7);walk (app.py:7) 1
"""


def test_own_samples_and_those_with_callees_are_counted_once_per_stack() -> None:
    top = stacks.top(stacks.parse(RAW))
    assert top[:3] == [
        Line("receive (gateway/server.py:4)", 6, 9),
        Line("write (libc.so.6)", 3, 3),
        Line("walk (app.py:7)", 1, 1),  # recursion does not count twice
    ]
    assert Line("main (app.py:1)", 0, 10) in top


def test_table_is_in_percent_of_all_samples() -> None:
    assert stacks.table(stacks.parse(RAW), rows=1).splitlines() == [
        "10 samples",
        "   own  with callees  frame",
        " 60.0%         90.0%  receive (gateway/server.py:4)",
    ]
    assert stacks.table(stacks.parse("")) == "no samples"


def test_equal_stacks_are_added() -> None:
    assert stacks.parse("a;b 1\na;b 2\n\n") == {("a", "b"): 3}


def test_what_is_no_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        stacks.parse("no count here")


def test_flame_graph_gives_each_frame_its_share() -> None:
    root = ET.fromstring(flamegraph.draw(stacks.parse(RAW), "a & b"))
    assert root.findtext(f"{SVG}title") == "a & b: 10 samples"
    boxes = {}
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        boxes[group.findtext(f"{SVG}title")] = (
            rect.get("class"),
            round(float(rect.get("width", "")) / flamegraph.WIDTH, 2),
        )
    assert boxes == {
        "main (app.py:1): 10 samples, 100.0%": ("python", 1.0),
        "loop (loop.c:9): 9 samples, 90.0%": ("native", 0.9),
        "receive (gateway/server.py:4): 9 samples, 90.0%": ("ours", 0.9),
        "write (libc.so.6): 3 samples, 30.0%": ("native", 0.3),
        "walk (app.py:7): 1 samples, 10.0%": ("python", 0.1),
    }


def test_frozen_modules_are_python() -> None:
    assert flamegraph.kind("run_path (<frozen runpy>:262)") == "python"


def test_speedscope_document_refers_to_every_frame_once() -> None:
    sampled = stacks.parse(RAW)
    written = stacks.speedscope(sampled, "echo")
    frames = [frame["name"] for frame in written["shared"]["frames"]]
    assert len(frames) == len(set(frames)) == 5
    (profile,) = written["profiles"]
    assert [tuple(frames[i] for i in sample) for sample in profile["samples"]] == list(sampled)
    assert (profile["weights"], profile["endValue"]) == ([6, 3, 1], 10)
