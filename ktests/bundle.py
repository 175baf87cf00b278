# SPDX-License-Identifier: GPL-2.0-only
"""Bundles: files with the byte code of many modules, and the finder that imports from them.

To import a module, Python searches several folders, and opens, checks and reads a file. Under
emulation that takes more than 2 ms for each module, and pytest imports about 200. A bundle is read
once. The ``__file__`` of a module from a bundle is still the path of its source.

Layout of a bundle: a marshalled dict that maps the name of each module to a tuple of the path of
its source, whether it is a package, and its marshalled code object. Each code object is marshalled
on its own, so that only those of imported modules have to be unmarshalled.

This module imports only modules that the interpreter has already loaded, since it runs before any
bundle can speed up imports.
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

# The size of a .pyc file's header in bytes: magic number, flags, and the hash or the time and size
# of the source (PEP 552).
PYC_HEADER = 16


class Bundle:
    """The modules of the bundle ``path``: a finder for sys.meta_path, and its loader.

    OSError if the file cannot be read.
    """

    def __init__(self, path: str) -> None:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib is to be found in it
            self._entries: dict[str, Entry] = marshal.loads(file.read())  # noqa: S302

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the module ``name``; None if the bundle does not contain it."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        file, package, _ = entry
        # The class is not derived from importlib.abc.Loader: importlib.abc imports many modules.
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=file, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [file.rpartition("/")[0]]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None, which has Python create the module object itself."""

    def exec_module(self, module: ModuleType) -> None:
        """Unmarshal the module's code object and execute it in the module's namespace."""
        exec(marshal.loads(self._entries[module.__name__][2]), module.__dict__)  # noqa: S102, S302


def write(path: str, root: str, seen_as: str) -> None:
    """Write the bundle ``path`` of all modules below ``root`` that this process has imported.

    ``seen_as`` is the path of the folder ``root`` in the guest. The code is taken from the modules'
    .pyc files; OSError if one is missing. Modules that were not imported by Python's loader for
    source files are left out: those that pytest has compiled, those from a bundle, and extensions.
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
