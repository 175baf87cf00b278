# SPDX-License-Identifier: GPL-2.0-only
"""The byte code of many modules in one file, and the finder that imports them from it.

Python looks for a module in one folder after the other, and opens, checks and reads a file for
each. Under emulation that takes more than two milliseconds a module, and pytest imports some two
hundred. A bundle is read once. What is imported from one has its ``__file__`` and its source
where it always was.

Layout: a marshalled dict, for each module its file, whether it is a package, and its code,
marshalled once more, since most of what a bundle holds is not imported in every process.

Nothing is imported here that does not come with the interpreter: this is what makes the others
cheap.
"""

from __future__ import annotations

import marshal
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import SourceFileLoader
from collections.abc import Sequence
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Entry = tuple[str, bool, bytes]

# Of a .pyc: magic number, flags, and the hash of the source or what else it is told by (PEP 552).
PYC_HEADER = 16


class Bundle:
    """A finder for sys.meta_path, and the loader of what it finds; OSError if it has no file."""

    def __init__(self, path: str) -> None:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib is to be found in it
            self._entries: dict[str, Entry] = marshal.loads(file.read())  # noqa: S302

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of the bundle; None for every other."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        file, package, _ = entry
        # Not an importlib.abc.Loader: that module imports half of what is to be found here.
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=file, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [file.rpartition("/")[0]]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's body."""
        exec(marshal.loads(self._entries[module.__name__][2]), module.__dict__)  # noqa: S102, S302


def write(path: str, root: str, seen_as: str) -> None:
    """Bundle what this process has imported from below ``root``, which the guest has elsewhere.

    The byte code has to be there, compiled for the guest. What pytest has compiled is left out: it
    looks for that itself.
    """
    entries: dict[str, Entry] = {}
    for name, module in sys.modules.items():
        spec = getattr(module, "__spec__", None)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            continue
        if spec.cached is None or not str(spec.origin).startswith(f"{root}/"):
            continue
        with open(spec.cached, "rb") as file:  # noqa: PTH123
            code = file.read()[PYC_HEADER:]
        package = spec.submodule_search_locations is not None
        entries[name] = (seen_as + str(spec.origin).removeprefix(root), package, code)
    with open(path, "wb") as file:  # noqa: PTH123
        marshal.dump(entries, file)
