# SPDX-License-Identifier: GPL-2.0-only
"""Run the measurements for the host, and report each as a test is reported."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ktests import mechanisms
from ktests.channel import Channel
from ktests.contract import BEGIN, END, MEASURED
from ktests.measure.measurements import LIMIT, LIMITS, MEASUREMENTS, Parameters
from ktests.measure.stand import Stand
from ktests.recorder import KMSG, mark

MESSAGE_SIZE = 1000


def run(
    mechanism: str,
    machine: dict[str, Any],
    wanted: Mapping[str, int],
    done: Collection[str],
    port: Channel,
    *,
    kmsg: Path = KMSG,
) -> None:
    """Run every measurement except those in ``done``, and report them over ``port``.

    ``wanted`` has the fields of `Parameters`. A measurement that raises an exception has the
    outcome "fail", and the others are run all the same.
    """
    parameters = Parameters(**wanted)
    names = list(MEASUREMENTS)
    port.send("collected", tests=[{"id": name, "requirement": MEASURED} for name in names])
    with Stand(machine, mechanisms.RECORDS[mechanism], port) as stand:
        for name in names:
            if name not in done:
                _run(name, stand, parameters, port, kmsg)


def _run(name: str, stand: Stand, parameters: Parameters, port: Channel, kmsg: Path) -> None:
    limit = LIMITS[name](parameters) if name in LIMITS else LIMIT
    mark(kmsg, f"{BEGIN} {name}")
    port.send("begin", id=name, limit=limit)
    began = time.monotonic()
    outcome, message, values = "pass", "", {}
    try:
        values = MEASUREMENTS[name](stand, parameters)
    except Exception as error:
        outcome, message = "fail", f"{type(error).__name__}: {error}"[:MESSAGE_SIZE]
    mark(kmsg, f"{END} {name}")
    seconds = round(time.monotonic() - began, 3)
    port.send(
        "end", id=name, seconds=seconds, outcome=outcome, message=message, values=dict(values)
    )
