# SPDX-License-Identifier: GPL-2.0-only
"""Entry in the guest: load what takes long while the system comes up, then run the suite.

Without arguments the suite runs for the host, which tells over the channel what to run. With
arguments (in a shell of the test kernel) they are pytest's, and results go to the terminal.
"""

from __future__ import annotations

import gc
import sys

# What is loaded stays: looking for garbage among it would only take time.
gc.disable()

# Python was started without site (-S): it costs a tenth of a second and is not needed here.
sys.path[:0] = ["/mnt/suite", f"{sys.prefix}/lib/python3.{sys.version_info.minor}/site-packages"]

from ktests import bundle  # noqa: E402 - found by what is above

sys.meta_path[:0] = map(bundle.Bundle, ("/mnt/suite/bundle", "/mnt/runtime/lib/bundle"))

from ktests import lazy_imports  # noqa: E402 - imported from the bundle

sys.meta_path.insert(0, lazy_imports.Later())
if len(sys.argv) == 1:
    sys.meta_path.insert(0, lazy_imports.Never())


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
