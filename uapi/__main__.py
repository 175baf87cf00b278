# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Command line ``python -m uapi``: print notifications, check the running kernel.

Exit codes: 0 success or the reader of the output closed it, 1 a check failed, 2 wrong usage or the
command cannot run on this host, 130 stopped by Ctrl-C or SIGTERM. `listen` exits with 0 when
Ctrl-C or SIGTERM stops it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from uapi.streams import MECHANISMS

PASS, FAIL, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (None: that of the process) and return its exit code.

    Raises SystemExit if the usage is wrong, and for ``--help``.
    """
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        code = PASS if options.command == "listen" else INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has closed it. Redirect it, so that Python's flush at exit succeeds.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = PASS
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        code = REFUSED
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _listen(options: argparse.Namespace) -> int:
    from uapi.listen import listen

    listen(
        options.device,
        netlink=options.netlink or not options.device,
        as_json=options.json,
        open_method=options.open_method,
        mechanism=options.mechanism,
    )
    return PASS


def _conformance(options: argparse.Namespace) -> int:
    from uapi import conformance

    report = conformance.report(options.device, options.open_method)
    print(report.json() if options.json else report)
    return PASS if report.passed else FAIL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uapi", description="ACPI notifications of VFIO PCI devices."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listen = commands.add_parser(
        "listen",
        help="print notifications as they come",
        description="Print notifications as they come, a line each, until Ctrl-C or SIGTERM.",
    )
    listen.add_argument(
        "--device",
        metavar="BDF",
        action="append",
        default=[],
        help="open this device and listen to its queue or its eventfd (can be repeated)",
    )
    listen.add_argument(
        "--netlink",
        action="store_true",
        help="listen to acpi_event, all devices of the host (default if no device is given)",
    )
    listen.add_argument(
        "--mechanism",
        choices=tuple(MECHANISMS),
        help="how to listen to the devices (default: the first of these that the kernel has)",
    )
    listen.set_defaults(run=_listen)

    conformance = commands.add_parser(
        "conformance",
        help="check the running kernel with a device, by loopback",
        description="Check what the running kernel promises of ACPI notifications, with "
        "a device that is bound to vfio-pci and not in use. Loopback takes the place of "
        "firmware. Opening and closing resets the device, as any VMM's doing so does.",
    )
    conformance.add_argument("--device", metavar="BDF", required=True, help="the device")
    conformance.set_defaults(run=_conformance)

    for command in (listen, conformance):
        command.add_argument(
            "--open-method",
            choices=("cdev", "group"),
            help="how to open devices (default: cdev if the kernel has it)",
        )
        command.add_argument("--json", action="store_true", help="JSON instead of text")
    return parser


if __name__ == "__main__":
    sys.exit(main())
