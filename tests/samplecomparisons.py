# SPDX-License-Identifier: GPL-2.0-only
"""Comparisons made up for the tests of what is said of them."""

from __future__ import annotations

from dataclasses import replace

from kpatch.compare import times
from kpatch.compare.comparison import Comparison, Host
from kpatch.compare.measured import Measured
from kpatch.compare.outcomes import Held, Row
from kpatch.compare.patches import Size
from kpatch.run.protocol import Scalar
from kpatch.tables.mechanisms import RECOMMENDED
from kpatch.tables.outcomes import Outcome

KERNELS = ("7.3.4", "6.1.192")
# The recommended one, one that is slower, one without a loopback. None is carried.
SLOW, DEAF = "slow", "deaf"
HOSTILE = "<script>alert(1)</script>\x1b[31m | `x`\nsecond line"


def spread(median: int, *, width: int = 100) -> times.Times:
    """The times of samples around ``median``."""
    return times.times([median + width * (number - 500) // 500 for number in range(1000)])


def loopback(kernel: str, series: str, median: int, name: str = "loopback 1") -> Measured:
    return Measured(kernel, series, name, Outcome.PASS, "", 0.5, {}, spread(median), spread(2000))


def counted(kernel: str, series: str, name: str, **counts: int) -> Measured:
    values: dict[str, Scalar] = {
        "sent": 1000,
        **dict.fromkeys(("reported", "missing", "doubled", "merged", "reordered"), 0),
        "kept": "256 events",
        "pace": 192,
        **counts,
    }
    return Measured(kernel, series, name, Outcome.PASS, "", 9.5, values)


def asleep(kernel: str, series: str, woken: int) -> Measured:
    values: dict[str, Scalar] = {"events": 50, "woken": woken}
    made = (spread(31_000), spread(30_000))
    return Measured(kernel, series, "asleep", Outcome.PASS, "", 0.5, values, *made)


def costs(kernel: str, series: str) -> list[Measured]:
    wake = {
        "events": 100,
        "reference sleeps": 100,
        "reference cpu": 40_000,
        "mechanism sleeps": 99,
        "mechanism cpu": 50_000,
    }
    memory = {"devices": 16, "open": 2816.0, "registered": 4096.0, "pending": 0.0}
    return [
        Measured(kernel, series, "wake-ups", Outcome.PASS, "", 1.0, wake),
        Measured(kernel, series, "memory", Outcome.PASS, "", 1.0, memory),
        asleep(kernel, series, 0),
    ]


def of(kernel: str) -> Comparison:
    """The comparison on one kernel."""
    absent = Measured(
        kernel,
        DEAF,
        "loopback 1",
        Outcome.PASS,
        "",
        0.0,
        {"absent": "the mechanism has no loopback"},
    )
    return Comparison(
        started="2026-11-27T08:00:00Z",
        host=Host("AMD EPYC", 2, "tcg", "7.2.22"),
        recommended=RECOMMENDED,
        count=1000,
        samples=1000,
        selection="",
        requirements={
            "REQ-AAA-01": "A value arrives.",
            "REQ-AAA-02": f"Nothing is lost. {HOSTILE}",
        },
        outcomes=(
            Row(kernel, RECOMMENDED, "REQ-AAA-01", Held.PASS, 4),
            Row(kernel, RECOMMENDED, "REQ-AAA-02", Held.PASS, 2),
            Row(kernel, SLOW, "REQ-AAA-01", Held.PASS, 4),
            Row(kernel, SLOW, "REQ-AAA-02", Held.LIMIT, 2, f"it is one byte {HOSTILE}"),
            Row(kernel, DEAF, "REQ-AAA-01", Held.LIMIT, 4, "it hears nothing"),
            Row(kernel, DEAF, "REQ-AAA-02", Held.NOT_CLAIMED),
        ),
        measured=(
            *costs(kernel, RECOMMENDED),
            loopback(kernel, RECOMMENDED, 2100),
            loopback(kernel, SLOW, 5000),
            absent,
            loopback(kernel, RECOMMENDED, 4100, "interrupt 1"),
            loopback(kernel, SLOW, 4105, "interrupt 1"),
            counted(kernel, RECOMMENDED, "count"),
            counted(kernel, SLOW, "count", merged=3, missing=6),
            counted(kernel, RECOMMENDED, "overrun", missing=744, reported=744),
        ),
        sizes=tuple(
            Size(
                kernel,
                name,
                name,
                f"{name} and more",
                3,
                400,
                2,
                90,
                ("acpi_x",),
                (
                    "VFIO feature: VFIO_DEVICE_FEATURE_X",
                    "file operation: read",
                ),
                9,
                ("x_read",),
            )
            for name in (RECOMMENDED, SLOW, DEAF)
        ),
    )


def both() -> Comparison:
    """The comparison on both kernels."""
    one, other = map(of, KERNELS)
    return replace(
        one,
        outcomes=one.outcomes + other.outcomes,
        measured=one.measured + other.measured,
        sizes=one.sizes + other.sizes,
    )


FAILED = replace(
    of("7.3.4"),
    outcomes=(Row("7.3.4", RECOMMENDED, "REQ-AAA-01", Held.FAIL, 4, f"fail: 0x81 {HOSTILE}"),),
    measured=(
        Measured("7.3.4", RECOMMENDED, "loopback 1", Outcome.CRASH, f"KASAN: {HOSTILE}"),
        counted("7.3.4", RECOMMENDED, "count", doubled=1),
    ),
)

COMPARISONS = {"both": both(), "failed": FAILED, "unmeasured": replace(of("7.3.4"), measured=())}
