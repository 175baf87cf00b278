# SPDX-License-Identifier: GPL-2.0-only
"""Run the suite in this guest, for the host or by hand."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

# Not used here. It is imported here so that this happens while the rest of the system still boots.
import uapi.probe  # noqa: F401
from ktests import channel, counters, detection, kernellog, leaks, mechanism_folder, mechanisms
from ktests.contract import (
    BEGIN,
    DETECTION,
    END,
    MECHANISM_ARGUMENT,
    PROTOCOL,
    THROUGH,
    UNDETECTED,
    UNKNOWN,
    ContractError,
    JobMessage,
)
from ktests.mechanism_folder import FaultyError
from ktests.recorder import KMSG, Job, Recorder, mark

SUITE = Path(__file__).parent
REQUIREMENTS = SUITE.parent / "requirements.json"
MACHINE = SUITE.parent / "machine.json"
READY = Path("/mnt/ready")

MECHANISM = re.compile(rf"{re.escape(MECHANISM_ARGUMENT)}=(\S+)")

# The exit status if a message of the host violates the contract, or if the user's mechanism has a
# fault.
REFUSED = 2

# Plugins of pytest that are switched off: the suite does not need them, and importing takes time.
WITHOUT = (
    *("cacheprovider", "doctest", "debugging", "faulthandler", "junitxml", "legacypath"),
    *("logging", "monkeypatch", "pastebin", "recwarn", "setuponly", "setupplan", "stepwise"),
    *("subtests", "threadexception", "unittest", "unraisableexception", "warnings"),
)
# Plugins that are also switched off in a run for the host, where the output goes to the console of
# the kernel: pytest's report would stand between kernel messages. No test prints anything.
WITHOUT_FOR_HOST = ("capture", "terminal")


def options(*more: str, without: Sequence[str] = WITHOUT) -> list[str]:
    """Return the arguments with which pytest runs the suite.

    ``more`` are arguments to add. ``without`` are the names of the plugins to switch off.
    """
    return [
        *("--rootdir", str(SUITE), "-c", os.devnull, "--strict-markers"),
        *(part for name in without for part in ("-p", f"no:{name}")),
        *more,
        str(SUITE),
    ]


def for_host() -> int:
    """Run the tests or measurements that the host asks for, and report over the channel.

    Returns the exit status of pytest, 0 after measurements, or `REFUSED` if a message of the host
    violates the contract or the user's mechanism has a fault. Ends the process if the guest's init
    ends too early (`wait_until_ready`).
    """
    wait_until_ready()
    port = channel.Channel(channel.find())
    port.send(
        "hello", protocol=PROTOCOL, release=platform.release(), python=platform.python_version()
    )
    try:
        request = JobMessage.read(port.receive())
        if add_own_mechanism():
            port.send("loaded")
        machine = json.loads(MACHINE.read_text())
        mechanism = request.mechanism
        if request.detect:
            detection = detected(machine, mechanism)
            port.send("detected", mechanism=detection.mechanism, how=detection.how)
            mechanism = detection.mechanism if mechanism == UNDETECTED else mechanism
        if request.measure:
            # Imported here: a run of the tests does not need it.
            from ktests.measure import session as measuring

            measuring.run(mechanism, machine, request.measure, request.done, port)
            return 0
        job = Job(
            mechanism=mechanism,
            machine=machine,
            expression=request.expression,
            done=frozenset(request.done),
            requirements=json.loads(REQUIREMENTS.read_text()),
            limit=request.limit,
            negative=request.negative,
            order=request.order,
        )
        arguments = options(without=(*WITHOUT, *WITHOUT_FOR_HOST))
        status = pytest.main(arguments, plugins=[Recorder(job, port)])
        leaks.look()
        counters.send(port)
        return int(status)
    except ContractError as error:
        print(f"vfio-acpi: {error}", file=sys.stderr, flush=True)
        return REFUSED
    except FaultyError as error:
        # The host ends the run at the next record.
        kernellog.write("".join(traceback.format_exception(error)), KMSG)
        port.send("faulty", cause=str(error))
        return REFUSED
    finally:
        # Sent also after an error: otherwise the host would wait until its time limit.
        mark(KMSG, THROUGH)
        port.send("done")


def add_own_mechanism() -> bool:
    """Add the record of the user's own mechanism to `mechanisms.RECORDS`. Returns False if none.

    FaultyError if the mechanism has a fault.
    """
    record = mechanism_folder.load()
    if record is None:
        return False
    mechanisms.RECORDS[record.name] = record
    return True


def detected(machine: dict[str, Any], declared: str) -> detection.Detection:
    """Detect the kernel's mechanism; after an OSError or RuntimeError it is `UNKNOWN`.

    The result then contains the error. ``machine`` describes the test machine. ``declared`` is the
    mechanism that the host declares, or `UNDETECTED`. Two markers in the kernel's log enclose the
    messages that the kernel logs during the detection. FaultyError if the user's mechanism has a
    fault.
    """
    mark(KMSG, f"{BEGIN} {DETECTION}")
    try:
        with detection.site(machine) as site:
            return detection.detect(site, declared)
    except (OSError, RuntimeError) as error:
        return detection.Detection(UNKNOWN, f"no device can be looked at: {error}")
    finally:
        mark(KMSG, f"{END} {DETECTION}")


def by_hand(arguments: list[str]) -> int:
    """Run the suite from a shell of the test kernel, with pytest's report on the terminal.

    ``arguments`` are passed to pytest. The mechanism is that of `MECHANISM_ARGUMENT` on the
    kernel's command line, and is detected if that is `UNDETECTED`. Returns the exit status of
    pytest. IndexError if the command line has no `MECHANISM_ARGUMENT`. FaultyError if the user's
    mechanism has a fault.
    """
    add_own_mechanism()
    machine = json.loads(MACHINE.read_text())
    mechanism = mechanism_of(Path("/proc/cmdline").read_text())
    if mechanism == UNDETECTED:
        detection = detected(machine, mechanism)
        print(f"mechanism: {detection.mechanism} ({detection.how})")
        mechanism = detection.mechanism
    job = Job(
        mechanism=mechanism,
        machine=machine,
        expression="",
        done=frozenset(),
        requirements=json.loads(REQUIREMENTS.read_text()),
        limit=math.inf,  # no host watches: the user can interrupt the run
    )
    return int(
        pytest.main(options("-q", "-rs", "--tb=short", *arguments), plugins=[Recorder(job, None)])
    )


def mechanism_of(command_line: str) -> str:
    """Return the value of the last `MECHANISM_ARGUMENT` on a kernel's command line.

    IndexError if there is none.
    """
    return str(MECHANISM.findall(command_line)[-1])


def wait_until_ready() -> None:
    """Wait for the line that virtme-ng's init writes to the pipe `READY` when the system is set up.

    Raises SystemExit if the pipe is closed without a line.
    """
    if not READY.read_text():
        sys.exit("the system's init ended before the system was ready")
