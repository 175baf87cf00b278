# SPDX-License-Identifier: GPL-2.0-only OR MIT
# PYTHON_ARGCOMPLETE_OK
"""Command line ``vfio-acpi`` or ``python -m uapi``: a subcommand for each use.

Exit codes: 0 success or the reader of the output closed it, 1 a check failed, 2 wrong usage or the
command cannot run on this host, 130 stopped by Ctrl-C or SIGTERM. `listen`, `relay` and `broker`
exit with 0 when Ctrl-C or SIGTERM stops them.

Modules are imported when they are needed: the start takes long in an emulated machine, and Ctrl-C
has to end the program without a traceback while they are imported.
"""

from __future__ import annotations

import os
import signal
import sys

from . import __version__

TYPE_CHECKING = False  # of typing, whose import takes 5 ms
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from types import FrameType

PASS, FAIL, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None, program: str = f"python -m {__package__}") -> int:
    """Run the command line ``arguments`` (None: that of the process) and return its exit code.

    ``program`` is the name of the program in its usage. Raises SystemExit if the usage is wrong,
    and for ``--help`` and ``--version``.
    """
    if sys.stderr is None:
        # It was closed. print() would write messages to stdout instead, and a file that is opened
        # would get the descriptor 2.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    command = ""
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        parser = _parser(program)
        if "_ARGCOMPLETE" in os.environ:
            _complete(parser)
        options = parser.parse_args(arguments)
        command = options.command
        code: int = options.run(options)
    except KeyboardInterrupt:
        code = PASS if command in ("listen", "relay", "broker") else INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has closed it. Redirect it, so that Python's flush at exit succeeds.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = PASS
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        code = REFUSED
    return code


def script() -> int:
    """Run the program ``vfio-acpi`` and return its exit code."""
    return main(program="vfio-acpi")


def manual() -> argparse.ArgumentParser:
    """Return the parser of ``vfio-acpi``, from which argparse-manpage makes the man page."""
    return _parser("vfio-acpi")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _listen(options: argparse.Namespace) -> int:
    from .listen import listen

    listen(
        options.device,
        netlink=options.netlink or not options.device,
        as_json=options.json,
        open_method=options.open_method,
        mechanism=options.mechanism,
    )
    return PASS


def _conformance(options: argparse.Namespace) -> int:
    from . import conformance

    report = conformance.report(options.device, options.open_method)
    print(report.json() if options.json else report)
    return PASS if report.passed else FAIL


def _guest_table(options: argparse.Namespace) -> int:
    from pathlib import Path

    from .vmm import guest_table

    try:
        table = guest_table.from_text(
            options.slot, options.mailbox, options.access, options.doorbell, options.resync
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    if options.output is None:
        print(table.asl(), end="")
    else:
        Path(options.output).write_bytes(table.aml())
    return PASS


def _relay(options: argparse.Namespace) -> int:
    from pathlib import Path

    from .vmm import stock_qemu
    from .vmm.guest_table import SLOTS_MAX

    try:
        mailbox = _number("mailbox", options.mailbox)
        slots: dict[int, str] = {}
        for text in options.slot:
            number, _, bdf = text.partition("=")
            slot = _number("slot", number)
            if slot >= SLOTS_MAX:
                raise ValueError(f"slot {text!a}: a guest's table has slots 0 to {SLOTS_MAX - 1}")
            if slot in slots or bdf in slots.values():
                given = number if slot in slots else bdf
                raise ValueError(f"slot {text!a}: {given} is given twice")
            slots[slot] = bdf
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    where = options.pid, slots, Path(options.qtest), mailbox
    for line in stock_qemu.relay(*where, pin=options.pin, mechanism=options.mechanism):
        print(line.json() if options.json else line, flush=True)
    return PASS


def _number(what: str, text: str) -> int:
    """Return the number ``text``, decimal or with 0x hexadecimal. ValueError if it is none."""
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if number < 0:
        raise ValueError(f"{what} {text!a}: not a number")
    return number


def _inspect(options: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from .firmware import report

    found = report.inspect(Path(options.tables) if options.tables else None)
    if options.device:
        found = report.select(found, options.device)
    print(json.dumps(report.as_data(found), indent=1) if options.json else report.as_text(found))
    return PASS


def _broker(options: argparse.Namespace) -> int:
    from .broker.policy import PolicyError
    from .broker.run import run

    try:
        run(options.policy, options.socket, options.user)
    except PolicyError as error:
        print(f"error: {error}", file=sys.stderr)
    return REFUSED


class _Mechanisms:
    """The names of the mechanisms, as the choices of an option that are read when it is used."""

    def __iter__(self) -> Iterator[str]:
        from .streams import MECHANISMS

        return iter(MECHANISMS)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions that a shell asks for, and exit. Returns without argcomplete."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)


def _bound(**_: object) -> list[str]:
    """Return the devices that are bound to vfio-pci, to complete their names."""
    from pathlib import Path

    return [path.name for path in Path("/sys/bus/pci/drivers/vfio-pci").glob("*:*")]


def _parser(program: str = f"python -m {__package__}") -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog=program,
        description="ACPI notifications of VFIO PCI devices.",
        epilog="Exit codes: 0 success, 1 a check failed, 2 wrong usage or the command cannot run "
        "on this host, 130 stopped by Ctrl-C or SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=f"vfio-acpi {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listen = commands.add_parser(
        "listen",
        help="print notifications as they come",
        description="Print notifications as they come, a line each, until Ctrl-C or SIGTERM.",
    )
    devices = [
        listen.add_argument(
            "--device",
            metavar="BDF",
            action="append",
            default=[],
            help="open this device and listen to its notifications (can be repeated)",
        )
    ]
    listen.add_argument(
        "--netlink",
        action="store_true",
        help="listen to acpi_event, all devices of the host (default if no device is given)",
    )
    listen.add_argument(
        "--mechanism",
        choices=_Mechanisms(),
        metavar="NAME",
        help="how to listen to the devices: %(choices)s (default: the first that the kernel has)",
    )
    listen.set_defaults(run=_listen)

    conformance = commands.add_parser(
        "conformance",
        help="check the running kernel with a device, by loopback",
        description="Check what the running kernel promises of ACPI notifications, with "
        "a device that is bound to vfio-pci and not in use. Loopback takes the place of "
        "firmware. Opening and closing resets the device, as any VMM's doing so does.",
    )
    devices.append(
        conformance.add_argument("--device", metavar="BDF", required=True, help="the device")
    )
    conformance.set_defaults(run=_conformance)

    table = commands.add_parser(
        "guest-table",
        help="make the guest's ACPI table for notifications",
        description="Make an SSDT for a guest: a mailbox for each passed-through device or empty "
        "hot-plug slot, and a method that notifies the device of what the VMM puts into it. Prints "
        "its source (ASL).",
    )
    table.add_argument(
        "--slot",
        metavar="PATH[=ADR]",
        action="append",
        required=True,
        help=r"the device's ACPI path in the guest, as '\_SB.PCI0.S80'; with ADR the table "
        "declares the device with this _ADR (can be repeated)",
    )
    table.add_argument(
        "--mailbox", metavar="ADDRESS", required=True, help="guest's address of the first mailbox"
    )
    table.add_argument(
        "--access",
        choices=("register", "ring"),
        default="register",
        help="registers whose read pops, or a ring in memory (default: register)",
    )
    table.add_argument(
        "--doorbell",
        metavar="KIND:NUMBER",
        default="gpe:7",
        help="gpe:NUMBER or ged:INTERRUPT (default: gpe:7)",
    )
    table.add_argument(
        "--resync", metavar="VALUE", help="notify this value after a loss (default: none)"
    )
    table.add_argument("--output", metavar="FILE", help="compile it by iasl, and write the AML")
    table.set_defaults(run=_guest_table)

    relay = commands.add_parser(
        "relay",
        help="relay notifications to the guest of a running QEMU (a demonstration)",
        description="Relay the notifications of devices that an unmodified QEMU passes through to "
        "its guest, which needs the table of guest-table (--access ring, --doorbell ged:PIN). "
        "QEMU's socket for qtest has full control over the guest: for tests only. Needs the right "
        "to attach to QEMU (ptrace). Runs until QEMU ends, Ctrl-C or SIGTERM.",
    )
    relay.add_argument("--pid", metavar="PID", type=int, required=True, help="QEMU's process")
    relay.add_argument(
        "--slot",
        metavar="NUMBER=BDF",
        action="append",
        required=True,
        help="the device on the host that is in this slot of the table, from 0 (can be repeated)",
    )
    relay.add_argument(
        "--qtest", metavar="SOCKET", required=True, help="QEMU's -qtest unix:SOCKET,server=on"
    )
    relay.add_argument(
        "--mailbox", metavar="ADDRESS", required=True, help="the table's address of the first ring"
    )
    relay.add_argument(
        "--pin",
        metavar="PIN",
        type=int,
        default=7,
        choices=range(24),
        help="input of the guest's I/O APIC (default: 7)",
    )
    relay.add_argument(
        "--mechanism",
        choices=_Mechanisms(),
        metavar="NAME",
        help="how to receive: %(choices)s (default: the first that the kernel has)",
    )
    relay.add_argument("--json", action="store_true", help="JSON instead of text")
    relay.set_defaults(run=_relay)

    inspect = commands.add_parser(
        "inspect",
        help="print the notifications that firmware can send to PCI devices",
        description="Print the notifications that this host's firmware, or that of a dump, can "
        "send to PCI devices. No AML is executed. Needs iasl, and root unless a dump is given.",
    )
    inspect.add_argument(
        "device",
        metavar="DEVICE",
        nargs="?",
        help="a BDF, or a location or companion as the list shows it (default: all)",
    )
    inspect.add_argument(
        "--tables",
        metavar="PATH",
        help="a folder of .aml or .dat, or the output of acpidump, also as .xz "
        "(default: /sys/firmware/acpi/tables)",
    )
    inspect.add_argument("--json", action="store_true", help="JSON instead of text")
    inspect.set_defaults(run=_inspect)

    broker = commands.add_parser(
        "broker",
        help="hand devices and their notifications to VMMs without privileges",
        description="Hand devices, or their notifications by netlink, to the VMMs that connect to "
        "a socket, as a policy grants them to users. Runs until Ctrl-C or SIGTERM, without any "
        "capability.",
    )
    broker.add_argument(
        "--policy", metavar="FILE", required=True, help="who gets which device, in TOML"
    )
    broker.add_argument(
        "--socket", metavar="PATH", default="", help="the socket (default: that of systemd)"
    )
    broker.add_argument("--user", metavar="NAME", help="become this user after the start")
    broker.set_defaults(run=_broker)

    for device in devices:
        device.completer = _bound  # type: ignore[attr-defined]  # argcomplete reads it
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
