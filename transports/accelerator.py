"""The compiled parts of this package and of ``gateway``, where they were built and are not switched off.

Each has a twin in Python beside the code that uses it, which runs without it.
"""

from __future__ import annotations

from types import ModuleType

accelerator: ModuleType | None
try:
    from . import _accelerator as accelerator
except ImportError:
    accelerator = None
