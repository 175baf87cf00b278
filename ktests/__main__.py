# SPDX-License-Identifier: GPL-2.0-only
"""Entry in the guest: load what takes long while the system comes up, then run the suite.

Without arguments the suite runs for the host, which tells over the channel what to run. With
arguments (in a shell of the test kernel) they are pytest's, and results go to the terminal.
"""

from __future__ import annotations

import sys
import sysconfig

# Python was started without site (-S): it costs a tenth of a second and is not needed here.
sys.path[:0] = ["/mnt/suite", sysconfig.get_path("stdlib") + "/site-packages"]


def main() -> int:
    """Run; the exit status is pytest's."""
    from ktests import session

    if len(sys.argv) > 1:
        return session.by_hand(sys.argv[1:])
    return session.for_host()


if __name__ == "__main__":
    sys.exit(main())
