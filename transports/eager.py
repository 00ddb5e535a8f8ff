"""``EagerStarter`` and ``Suspended``: compiled, or their twins in Python, which ``eager_twin`` documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .accelerator import accelerator

if TYPE_CHECKING or accelerator is None:
    from .eager_twin import EagerStarter, Suspended
else:
    EagerStarter, Suspended = accelerator.EagerStarter, accelerator.Suspended

__all__ = ["EagerStarter", "Suspended"]
