# SPDX-License-Identifier: GPL-2.0-only
"""Run the command line when called as ``python -m kpatch``."""

import signal

if __name__ == "__main__":
    # Until a command runs there is nothing to clean up, and Ctrl-C has no need of a traceback.
    # It stays ignored where it is, in the background of a shell.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kpatch.cli import main

    main()
