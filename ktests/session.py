# SPDX-License-Identifier: GPL-2.0-only
"""Run the suite in this guest, for the host or by hand."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

# Not used here. It is imported early, while the rest of the system still boots.
import uapi.probe  # noqa: F401
from ktests import channel, detection, leaks
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
from ktests.recorder import KMSG, Job, Recorder, mark

SUITE = Path(__file__).parent
REQUIREMENTS = SUITE.parent / "requirements.json"
MACHINE = SUITE.parent / "machine.json"
READY = Path("/mnt/ready")

MECHANISM = re.compile(rf"{re.escape(MECHANISM_ARGUMENT)}=(\S+)")

# The exit status if a message of the host violates the contract.
REFUSED = 2

# Plugins of pytest that are switched off: a guest does not need them, and they take time to import.
WITHOUT = (
    *("cacheprovider", "doctest", "debugging", "faulthandler", "junitxml", "legacypath"),
    *("logging", "monkeypatch", "pastebin", "recwarn", "setuponly", "setupplan", "stepwise"),
    *("subtests", "threadexception", "unittest", "unraisableexception", "warnings"),
)
# Plugins that are also switched off if the results go to the host. The output goes to the kernel's
# console, where pytest's report would only be in the way. No test prints anything.
WITHOUT_FOR_HOST = ("capture", "terminal")


def options(*more: str, without: Sequence[str] = WITHOUT) -> list[str]:
    """Return the arguments with which pytest runs the suite.

    ``more`` are further arguments. ``without`` are the plugins to switch off.
    """
    return [
        *("--rootdir", str(SUITE), "-c", os.devnull, "--strict-markers"),
        *(part for name in without for part in ("-p", f"no:{name}")),
        *more,
        str(SUITE),
    ]


def for_host() -> int:
    """Run the tests that the host asks for, and report over the channel.

    Returns the exit status of pytest, or `REFUSED` if the host violates the contract.
    """
    wait_until_ready()
    port = channel.Channel(channel.find())
    port.send(
        "hello", protocol=PROTOCOL, release=platform.release(), python=platform.python_version()
    )
    try:
        request = JobMessage.read(port.receive())
        machine = json.loads(MACHINE.read_text())
        mechanism = request.mechanism
        if request.detect:
            detection = detected(machine, mechanism)
            port.send("detected", mechanism=detection.mechanism, how=detection.how)
            mechanism = detection.mechanism if mechanism == UNDETECTED else mechanism
        job = Job(
            mechanism=mechanism,
            machine=machine,
            expression=request.expression,
            done=frozenset(request.done),
            requirements=json.loads(REQUIREMENTS.read_text()),
            limit=request.limit,
        )
        arguments = options(without=(*WITHOUT, *WITHOUT_FOR_HOST))
        status = pytest.main(arguments, plugins=[Recorder(job, port)])
        leaks.look()
        return int(status)
    except ContractError as error:
        print(f"vfio-acpi: {error}", file=sys.stderr, flush=True)
        return REFUSED
    finally:
        # This is sent also after an error, so that the host does not wait in vain.
        mark(KMSG, THROUGH)
        port.send("done")


def detected(machine: dict[str, Any], declared: str) -> detection.Detection:
    """Return the result of the detection, `UNKNOWN` if no device can be bound.

    Markers in the kernel's log enclose the messages that the kernel logs meanwhile.
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
    """Run the suite in a shell of the test kernel, with pytest's report on the terminal.

    ``arguments`` are passed to pytest. Returns the exit status of pytest.
    """
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
    return int(pytest.main(options("-q", "--tb=short", *arguments), plugins=[Recorder(job, None)]))


def mechanism_of(command_line: str) -> str:
    """Return the mechanism in the last argument `MECHANISM_ARGUMENT` of a kernel's command line.

    IndexError if there is no such argument.
    """
    return str(MECHANISM.findall(command_line)[-1])


def wait_until_ready() -> None:
    """Wait for the line that virtme-ng's init writes to `READY` when the system is set up.

    Ends the process if the init ends without writing it.
    """
    if not READY.read_text():
        sys.exit("the system's init ended before the system was ready")
