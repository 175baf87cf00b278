# SPDX-License-Identifier: GPL-2.0-only
"""Modules that pytest imports and never uses here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import LazyLoader
from types import ModuleType


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
