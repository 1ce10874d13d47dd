"""Compile the C++ kernels while the package is built or installed.

Without a compiler the install succeeds all the same and plain torch serves;
`services.inference.kernels.cpu.status()` tells. The wheel is then for any
machine, otherwise for this architecture.
"""

from __future__ import annotations

import importlib.util
import pathlib
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILD = pathlib.PurePosixPath("services/inference/kernels/cpu/build.py")


class CompileKernels(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own parameter
    """Hatchling's hook: for wheels, the one behind an editable install included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile into the tree and have the wheel take it along."""
        script = pathlib.Path(self.root, BUILD)
        if self.target_name != "wheel" or not script.is_file():
            return
        build = _loaded(script)
        try:
            library = build.build()
        except (build.BuildFailed, OSError) as error:
            self.app.display_warning(f"C++ kernels are not built, torch will serve: {error}")
            return
        build_data["artifacts"].append(str(BUILD.parent / library.name))
        build_data["pure_python"] = False
        # Bound by ctypes: any Python will do, but only this kind of machine.
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{system}"


def _loaded(script: pathlib.Path) -> Any:
    """Import a module by its path: its package needs torch, the build does not."""
    spec = importlib.util.spec_from_file_location("kernels_build", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
