# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A library for the uAPI of ACPI notifications of VFIO PCI devices, used by host and guest.

It has the kernel's constants and structures, opens devices, and decodes what the kernel sends by an
eventfd, a queue or the acpi_event family. It imports nothing else of this project. Its name is
``vfio_acpi`` where it is installed, and ``uapi`` in a clone.
"""

from __future__ import annotations

TYPE_CHECKING = False  # of typing, whose import takes 5 ms
if TYPE_CHECKING:
    from types import ModuleType

__version__ = "0.2.0"


if not TYPE_CHECKING:  # a type checker would take every name for a module

    def __getattr__(name: str) -> ModuleType:
        """Import the module ``name`` of this package when it is first used: `uapi.vfio`."""
        from importlib import import_module

        path = f"{__name__}.{name}"
        if not name.startswith("__"):
            try:
                return import_module(path)
            except ModuleNotFoundError as error:
                if error.name != path:
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
