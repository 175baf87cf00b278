# SPDX-License-Identifier: GPL-2.0-only
"""Modules that pytest imports, and that a run for the host uses late or never."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any


class Later:
    """A finder for sys.meta_path: a module of NAMES is loaded when it is first used."""

    NAMES = frozenset({"bdb", "importlib.metadata", "ipaddress", "platform", "uuid"})

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of NAMES as Python does, with a loader that waits."""
        if name not in self.NAMES:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (it.find_spec(name, path, target) for it in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


class Never:
    """A finder for sys.meta_path: the modules of NAMES, and those below them, are empty.

    What is imported from one is an empty class. They are pytest's plugins that are switched off
    (`ktests.session`), and what only these and its report on a terminal need: a fifth of the time
    that importing pytest takes.
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
        """Find one of NAMES, or what is below one."""
        if name not in self.NAMES and name.partition(".")[0] not in self.NAMES:
            return None
        loader: Any = self
        return ModuleSpec(name, loader, is_package=True)

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Make ``module`` return a new empty class for each name that is read from it.

        AttributeError for names that start with two underscores.
        """

        def anything(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__dict__["__getattr__"] = anything
