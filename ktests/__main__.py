# SPDX-License-Identifier: GPL-2.0-only
"""Entry in the guest: load what takes long while the system comes up, then run the suite.

Without arguments the suite runs for the host, which tells over the channel what to run. With
arguments (in a shell of the test kernel) they are pytest's, and results go to the terminal.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

# What is loaded stays: looking for garbage among it would only take time.
gc.disable()

# Python was started without site (-S): it costs a tenth of a second and is not needed here.
sys.path[:0] = ["/mnt/suite", f"{sys.prefix}/lib/python3.{sys.version_info.minor}/site-packages"]


class Later(MetaPathFinder):
    """Loads a module when it is first used: pytest imports some that it never uses here."""

    NAMES = frozenset({"bdb", "importlib.metadata", "ipaddress", "platform", "uuid"})

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of NAMES as Python does, with a loader that waits."""
        spec = PathFinder.find_spec(name, path) if name in self.NAMES else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


sys.meta_path.insert(0, Later())


def main() -> int:
    """Run; the exit status is pytest's."""
    from ktests import session

    gc.freeze()
    gc.enable()
    if len(sys.argv) > 1:
        return session.by_hand(sys.argv[1:])
    return session.for_host()


if __name__ == "__main__":
    sys.exit(main())
