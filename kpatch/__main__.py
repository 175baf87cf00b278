# SPDX-License-Identifier: GPL-2.0-only
"""Run the command line when called as ``python -m kpatch``."""

import signal

if __name__ == "__main__":
    # Before a command runs there is nothing to clean up, so Ctrl-C ends Python without a traceback.
    # A shell makes its background jobs ignore Ctrl-C; that is not changed.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kpatch.cli import main

    main()
