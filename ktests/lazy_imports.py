# SPDX-License-Identifier: GPL-2.0-only
"""Import finders for modules that pytest imports, but a run for the host uses late or never."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any


class Later:
    """A finder for sys.meta_path that loads the modules NAMES only when they are first used."""

    NAMES = frozenset({"bdb", "importlib.metadata", "ipaddress", "platform", "uuid"})

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module of NAMES with a loader that defers the module's execution.

        The spec is that of the other finders. Returns None for any other module.
        """
        if name not in self.NAMES:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (it.find_spec(name, path, target) for it in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


class Never:
    """A finder for sys.meta_path that replaces the modules NAMES by stubs.

    It also replaces the submodules of pygments. Every name that is imported from a stub is an empty
    class. NAMES are plugins of pytest that `ktests.session` switches off, and other modules that a
    run for the host does not use. Importing them takes a fifth of the time of importing pytest.
    """

    NAMES = frozenset(
        {
            *("_pytest.approx", "_pytest.cacheprovider", "_pytest.capture"),
            *("_pytest.doctest", "_pytest.legacypath", "_pytest.logging", "_pytest.pytester"),
            *("_pytest.recwarn", "_pytest.subtests", "_pytest.terminal", "pygments"),
        }
    )

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a stub for a module of NAMES or a submodule of pygments, else None."""
        if name not in self.NAMES and name.partition(".")[0] not in self.NAMES:
            return None
        loader: Any = self
        return ModuleSpec(name, loader, is_package=True)

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None, which has Python create the module object itself."""

    def exec_module(self, module: ModuleType) -> None:
        """Make ``module`` a stub: it returns a new empty class for each name that is read from it.

        Reading a name that starts with two underscores raises AttributeError.
        """

        def anything(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__dict__["__getattr__"] = anything
