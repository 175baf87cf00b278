# SPDX-License-Identifier: GPL-2.0-only
"""A run of the suite in this guest: for the host, or by hand."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

# Not used here: loaded while the rest of the system still comes up.
import uapi.probe  # noqa: F401
from ktests import channel, leaks
from ktests.recorder import KMSG, Job, Recorder, mark

SUITE = Path(__file__).parent
REQUIREMENTS = SUITE.parent / "requirements.json"
MACHINE = SUITE.parent / "machine.json"
READY = Path("/mnt/ready")

# On the kernel's command line of a shell, where no host tells what the kernel has.
MECHANISM = re.compile(r"vfio_acpi\.mechanism=(\S+)")

# Each of pytest's own plugins costs import time; these have no use in a guest.
WITHOUT = (
    *("cacheprovider", "doctest", "debugging", "faulthandler", "junitxml", "legacypath"),
    *("logging", "monkeypatch", "pastebin", "recwarn", "setuponly", "setupplan", "stepwise"),
    *("subtests", "threadexception", "unittest", "unraisableexception", "warnings"),
)
# Nor these where results go to the host. Output is the kernel's console: pytest's own report would
# only stand in its way, and what a test prints, which none does, may as well.
WITHOUT_FOR_HOST = ("capture", "terminal")


def options(*more: str, without: Sequence[str] = WITHOUT) -> list[str]:
    """pytest's arguments for the suite."""
    return [
        *("--rootdir", str(SUITE), "-c", os.devnull, "--strict-markers"),
        *(part for name in without for part in ("-p", f"no:{name}")),
        *more,
        str(SUITE),
    ]


def for_host() -> int:
    """Run what the host asks for, and tell it over the channel."""
    wait_until_ready()
    port = channel.Channel(channel.find())
    port.send("hello", protocol=1, release=platform.release(), python=platform.python_version())
    try:
        message = port.receive()
        job = Job(
            mechanism=message["mechanism"],
            machine=json.loads(MACHINE.read_text()),
            expression=message["expression"],
            done=frozenset(message["done"]),
            requirements=json.loads(REQUIREMENTS.read_text()),
            limit=message["limit"],
        )
        arguments = options(without=(*WITHOUT, *WITHOUT_FOR_HOST))
        status = pytest.main(arguments, plugins=[Recorder(job, port)])
        leaks.look()
        return int(status)
    finally:
        # Also when this fails: the host need not wait for what will not come.
        mark(KMSG, "through")
        port.send("done")


def by_hand(arguments: list[str]) -> int:
    """Run with pytest's own arguments and report, in a shell of the test kernel."""
    job = Job(
        mechanism=MECHANISM.findall(Path("/proc/cmdline").read_text())[-1],
        machine=json.loads(MACHINE.read_text()),
        expression="",
        done=frozenset(),
        requirements=json.loads(REQUIREMENTS.read_text()),
        limit=math.inf,  # nobody watches but whoever sits there
    )
    return int(pytest.main(options("-q", "--tb=short", *arguments), plugins=[Recorder(job, None)]))


def wait_until_ready() -> None:
    """Wait for the line that virtme-ng's init writes when the system is set up."""
    if not READY.read_text():
        sys.exit("the system's init ended without a word")
