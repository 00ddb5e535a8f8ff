"""A few seconds of the soak, on both listeners at once."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.servers import LISTENERS, ServerProcess
from tests.support.waiting import timeout_s

from .run import Report, soak


async def _soak(listener: str) -> Report:
    with ServerProcess(module="tests.soak.server", listener=listener) as server:
        return await soak(server, seconds=3, seed=1, warm_up_s=0)


@pytest.mark.timeout(timeout_s(300))
async def test_bystanders_lose_nothing_and_nothing_is_left() -> None:
    reports = await asyncio.gather(*map(_soak, LISTENERS))
    for report in reports:
        print(report)
    assert [report.problems for report in reports] == [[], []]
