"""A finding as short as it gets: ``python -m tests.fuzz.shrink TARGET FILE [OUTPUT]``.

Prints the traceback. What is left fails at the same place, in the same way.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from .gateway_target import BREAK
from .targets import TARGETS, Target

Fault = tuple[str, str, int | None]


def fault(target: Target, data: bytes) -> Fault | None:
    """The kind of exception and where it was raised; None where there is none."""
    try:
        target.check(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        last = traceback.extract_tb(error.__traceback__)[-1]
        return type(error).__name__, last.filename, last.lineno
    return None


def shrink(data: bytes, fails: Callable[[bytes], bool], *, is_script: bool) -> bytes:
    """``data`` without whatever it needs not to fail: lines of a script first, then ever shorter pieces."""
    if is_script:
        data = _without_lines(data, fails)
    size = max(len(data) // 2, 1)
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _without_lines(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    lines, options = data[:-1].split(BREAK), data[-1:]
    at = len(lines)
    while at := at - 1 if at else 0:
        fewer = lines[:at] + lines[at + 1 :]
        if fails(BREAK.join(fewer) + options):
            lines = fewer
    return BREAK.join(lines) + options


def main() -> int:
    target, file = TARGETS[sys.argv[1]], Path(sys.argv[2])
    data = file.read_bytes()
    found = fault(target, data)
    if found is None:
        print("it does not fail")
        return 1
    data = shrink(data, lambda shorter: fault(target, shorter) == found, is_script=target.is_script)
    print(f"{len(data)} bytes: {data!r}")
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_bytes(data)
    try:
        target.check(data)
    except Exception:  # noqa: BLE001 - as above
        traceback.print_exc(file=sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
