# SPDX-License-Identifier: GPL-2.0-only
"""``python -m kpatch``."""

import signal


def main() -> None:
    """Run the command line. Ctrl-C is silent where there is nothing to clean up."""
    # Not in the background of a shell, where it is ignored.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kpatch import cli

    try:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.main()
    finally:
        # All that is left is Python's own end, which would complain.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
