# SPDX-License-Identifier: GPL-2.0-only
"""``python -m kpatch``."""

from kpatch.cli import main

if __name__ == "__main__":
    main()
