"""Waiting on conditions, with one factor for slow machines."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

#: Every timeout of the tests is multiplied by it.
TIMEOUT_FACTOR = float(os.environ.get("TEST_TIMEOUT_FACTOR", "1"))

_INTERVAL_S = 0.005


def timeout_s(seconds: float = 10.0) -> float:
    return seconds * TIMEOUT_FACTOR


def _never(condition: Callable[[], Any], what: str) -> AssertionError:
    return AssertionError(f"never: {what or getattr(condition, '__name__', condition)}")


async def eventually(condition: Callable[[], Any], what: str = "", seconds: float = 10.0) -> Any:
    """What ``condition`` returns once that is true.

    Raises: AssertionError after the time.
    """
    ends = time.monotonic() + timeout_s(seconds)
    while not (value := condition()):
        if time.monotonic() > ends:
            raise _never(condition, what)
        await asyncio.sleep(_INTERVAL_S)
    return value


def eventually_sync(condition: Callable[[], Any], what: str = "", seconds: float = 10.0) -> Any:
    """As ``eventually``, for tests without a loop."""
    ends = time.monotonic() + timeout_s(seconds)
    while not (value := condition()):
        if time.monotonic() > ends:
            raise _never(condition, what)
        time.sleep(_INTERVAL_S)
    return value
