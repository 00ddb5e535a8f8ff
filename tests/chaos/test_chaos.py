"""Some of the chaos, in each of its worlds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import netns
from tests.support.waiting import timeout_s

from .run import chaos

#: Each begins with what is hardest on its Redis.
SEEDS = {"disk": 13, "memory": 20, "sentinel": 12}
#: No scenario begins later.
SECONDS = 15.0


@pytest.mark.node
@pytest.mark.timeout(timeout_s(240))
@pytest.mark.skipif(bool(netns.why_not()), reason=f"no network namespaces here: {netns.why_not()}")
@pytest.mark.parametrize("world", SEEDS)
def test_whatever_fails_what_was_promised_is_kept(tmp_path: Path, world: str) -> None:
    report = chaos(tmp_path, world, SECONDS, SEEDS[world])
    assert report.all_problems() == []
    assert len(report.seen) > 1
    assert all(seen.heard for seen in report.seen)
