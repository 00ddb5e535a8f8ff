"""``python -m tests.chaos [--seconds 60] [--seed N]``: exits with 1 where a promise was broken."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.support import netns

from .run import chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--keep", type=Path, help="an empty directory for the logs, which are removed otherwise")
    arguments = parser.parse_args()
    if netns.why_not():
        print(f"no network namespaces here: {netns.why_not()}", file=sys.stderr)
        return 2
    print(f"seed {arguments.seed}, {arguments.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="tidegate-chaos-") as folder:
        report = chaos(arguments.keep or Path(folder), arguments.seconds, arguments.seed, partial(print, flush=True))
    return 1 if report.all_problems() else 0


if __name__ == "__main__":
    sys.exit(main())
