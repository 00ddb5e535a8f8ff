"""``python -m tests.soak [--seconds 180] [--seed N] [--listener fast|aiohttp]``: exits with 1 for any problem."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys

from tests.support.servers import LISTENERS, ServerProcess

from .run import soak

#: Long enough for buffers and allocator to reach their usual size.
WARM_UP_S = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--listener", choices=LISTENERS, default="fast")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.seconds:g} s, listener {arguments.listener}", flush=True)
    with ServerProcess(module="tests.soak.server", listener=arguments.listener) as server:
        warm_up_s = min(WARM_UP_S, max(arguments.seconds / 3, 3.0))
        report = asyncio.run(soak(server, arguments.seconds, arguments.seed, warm_up_s))
        print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
