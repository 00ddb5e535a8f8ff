"""Half a minute of the chaos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import netns
from tests.support.waiting import timeout_s

from .run import chaos

SEED = 1
#: No scenario begins later.
SECONDS = 20.0


@pytest.mark.node
@pytest.mark.timeout(timeout_s(240))
@pytest.mark.skipif(bool(netns.why_not()), reason=f"no network namespaces here: {netns.why_not()}")
def test_whatever_fails_what_was_promised_is_kept(tmp_path: Path) -> None:
    report = chaos(tmp_path, SECONDS, SEED)
    assert report.all_problems() == []
    assert len(report.seen) > 2
    assert all(seen.heard for seen in report.seen)
