# SPDX-License-Identifier: GPL-2.0-only
"""What `make faults` says of each fault, and at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faultreport import FaultSeconds, summary

QUICK = FaultSeconds("value-is-cut", 18.0, 9.0, 7.5, "fail")
SLOW = FaultSeconds("zero-stalls", 53.25, 44.5, 7.0, "crash")


def test_line() -> None:
    assert str(QUICK) == "  18.0 s (build   9.0, suite   7.5)  value-is-cut: fail"


def test_summary() -> None:
    said = "2 faults, median 35.6 s, slowest 53.2 s; 1 within the aim of 20 s"
    assert summary([QUICK, SLOW]) == said


def test_lines_and_table(pytester: pytest.Pytester) -> None:
    """A line as soon as a fault is through, failed or not; then all, the slowest first."""
    pytester.makeconftest("from tests.faultreport import *")
    pytester.makepyfile(
        """
        import pytest
        from tests.faultreport import FaultSeconds

        @pytest.mark.parametrize("seconds", [18.0, 53.0])
        def test_fault(request, seconds):
            FaultSeconds(f"fault-{seconds:.0f}", seconds, 9.0, 7.0, "fail").put(request.node)
            assert seconds < 20
        """
    )
    pytester.syspathinsert(Path(__file__).parent.parent)
    done = pytester.runpytest("-q", "--tb=no")
    done.stdout.fnmatch_lines(
        [
            "*18.0 s*fault-18: fail, passed",
            "*53.0 s*fault-53: fail, failed",
            "*planted faults*",
            "*53.0 s*fault-53: fail",
            "*18.0 s*fault-18: fail",
            "2 faults, median 35.5 s, slowest 53.0 s; 1 within the aim of 20 s",
        ]
    )


def test_nothing_to_tell(pytester: pytest.Pytester) -> None:
    """Other tests have no such lines."""
    pytester.makeconftest("from tests.faultreport import *")
    pytester.makepyfile("def test_other(): pass")
    pytester.syspathinsert(Path(__file__).parent.parent)
    pytester.runpytest("-q").stdout.no_fnmatch_line("*planted faults*")
