"""Python's cyclic collector in a process that is ours alone."""

from __future__ import annotations

import gc
from typing import Final

#: Allocations between young collections, and how many of each generation make an older one. Thousands of
#: connections are long-lived objects that a collection walks and never frees; what is short-lived here dies by
#: reference counting.
THRESHOLDS: Final = (50_000, 20, 100)


def tune() -> None:
    """Set what has been allocated so far aside for good, and collect less often.

    For processes that only run a gateway: an application's own cycles also live longer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
