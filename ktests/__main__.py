# SPDX-License-Identifier: GPL-2.0-only
"""Entry point in the guest: import the slow modules while the system boots, then run the suite.

Without arguments the suite runs the tests that the host asks for over the channel. Arguments (given
in a shell of the test kernel) are passed to pytest, whose results then go to the terminal.
"""

from __future__ import annotations

import gc
import sys

# A garbage collection during the imports would find nothing to free: imported modules stay.
gc.disable()

# ktests/start.sh runs Python without the module site (-S), whose import would take a tenth of a
# second. So the folder site-packages, which that module would add, is added here.
sys.path[:0] = ["/mnt/suite", f"{sys.prefix}/lib/python3.{sys.version_info.minor}/site-packages"]

from ktests import bundle  # noqa: E402 - found by the path that is set above

sys.meta_path[:0] = map(bundle.Bundle, ("/mnt/suite/bundle", "/mnt/runtime/lib/bundle"))

from ktests import lazy_imports  # noqa: E402 - imported from the bundle

sys.meta_path.insert(0, lazy_imports.Later())
if len(sys.argv) == 1:
    sys.meta_path.insert(0, lazy_imports.Never())


def main() -> int:
    """Run the suite, for the host or (with arguments) by hand. Returns the exit status."""
    from ktests import session

    gc.freeze()
    gc.enable()
    if len(sys.argv) > 1:
        return session.by_hand(sys.argv[1:])
    return session.for_host()


if __name__ == "__main__":
    sys.exit(main())
