"""Builds the accelerator (``accelerator/``) with the package, where there is a C compiler.

Without one, or without Python's headers, the package is installed without it and runs on its twins in Python. With
TIDEGATE_REQUIRE_ACCELERATOR set, that is an error instead.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULE = "transports._accelerator"
FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"]


class AcceleratorBuildHook(BuildHookInterface[Any]):
    """Compiles into the source tree, where an editable install finds it, and marks the wheel as one of a platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or os.environ.get("TIDEGATE_PURE_PYTHON"):
            return
        built = self._compile()
        if built is None:
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(f"/{built}")

    def _compile(self) -> str | None:
        """Where the module was written, relative to the root; None where it could not be built."""
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext

        root = Path(self.root)
        sources = sorted(str(path.relative_to(root)) for path in (root / "accelerator").glob("*.c"))
        headers = sorted(str(path.relative_to(root)) for path in (root / "accelerator").glob("*.h"))
        flags = [] if sys.platform == "win32" else FLAGS
        extension = Extension(MODULE, sources, depends=headers, extra_compile_args=flags)
        before = Path.cwd()
        os.chdir(root)
        try:
            command = build_ext(Distribution({"name": "tidegate", "ext_modules": [extension]}))
            command.inplace = True
            command.build_temp = "build/accelerator"
            command.ensure_finalized()
            command.run()
            return Path(command.get_ext_fullpath(MODULE)).resolve().relative_to(root.resolve()).as_posix()
        except Exception as error:  # of the compiler, of any kind; the package works without
            if os.environ.get("TIDEGATE_REQUIRE_ACCELERATOR"):
                raise
            self.app.display_warning(f"tidegate is installed without its accelerator: {error}")
            return None
        finally:
            os.chdir(before)
