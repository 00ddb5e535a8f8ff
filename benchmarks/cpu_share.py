"""Hold processes to a share of a core each, by control groups of the kernel (version 1 or 2; as root).

So a machine shows what more workers bring although the load needs its cores too: each worker has, in small, a core of
its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.peers import PeerError

_ROOT: Final = Path("/sys/fs/cgroup")
#: Short, so that a process that has used up its share is not away for long.
_PERIOD_US: Final = 10_000


@contextlib.contextmanager
def held(pids: Iterable[int], share: float) -> Iterator[None]:
    """share: of a core, for each of the processes. Raises: PeerError where there are no groups to be made."""
    is_unified = (_ROOT / "cgroup.controllers").exists()
    parent = _ROOT if is_unified else _ROOT / "cpu"
    quota_us = int(share * _PERIOD_US)
    groups = []
    try:
        for pid in pids:
            group = parent / f"tidegate-benchmark-{os.getpid()}-{pid}"
            group.mkdir()
            groups.append((group, pid))
            if is_unified:
                (group / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
            else:
                (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota_us))
            (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        _dissolve(groups, parent)
        raise PeerError(f"no control group for the CPU can be made, which takes root: {error}") from None
    try:
        yield
    finally:
        _dissolve(groups, parent)


def _dissolve(groups: list[tuple[Path, int]], parent: Path) -> None:
    for group, pid in groups:
        with contextlib.suppress(ProcessLookupError):
            (parent / "cgroup.procs").write_text(str(pid))
        group.rmdir()
