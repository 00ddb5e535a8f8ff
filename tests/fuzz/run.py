"""One target under atheris: ``python -m tests.fuzz.run TARGET [argument of libFuzzer …]``."""

from __future__ import annotations

import gc
import random
import sys

import atheris

with atheris.instrument_imports(include=["transports", "gateway"]):
    from .mutation import mutate_script
    from .targets import TARGETS, Target


def mutator_of(target: Target) -> dict[str, object]:
    """For scripts, every second change is one of lines."""
    if not target.is_script:
        return {}
    seeds = list(target.seeds().values())

    def change(data: bytes, max_bytes: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return atheris.Mutate(data, max_bytes)
        return mutate_script(data, rng, seeds, max_bytes, lambda line: atheris.Mutate(line, len(line) + 64))

    return {"custom_mutator": change}


def main() -> None:
    target = TARGETS[sys.argv[1]]
    # What is there now is not looked at again: the collections that targets ask for become a hundred times as fast.
    gc.collect()
    gc.freeze()
    arguments = [sys.argv[0], *sys.argv[2:]]
    atheris.Setup(arguments, target.check, **mutator_of(target))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
