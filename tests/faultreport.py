# SPDX-License-Identifier: GPL-2.0-only
"""pytest's plugin for the planted faults: the option for the whole suite, and the times.

A line for each fault when it is through, since each takes a while, and a table at the end.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import pytest

from tests.commandline import Ended

WHOLE = "--whole"
AIM_SECONDS = 20.0
PROPERTY = "fault"


@dataclass(frozen=True)
class FaultSeconds:
    """Seconds that a planted fault took: in all, for its kernel, for boot and tests."""

    name: str
    total: float
    build: float
    suite: float
    verdict: str

    @classmethod
    def of(cls, name: str, ended: Ended) -> FaultSeconds:
        """Return the seconds of a run of ``kpatch test``."""
        seconds = {stage.name: stage.seconds for stage in ended.result.stages}
        build, suite = seconds.get("build", 0.0), seconds.get("suite", 0.0)
        return cls(name, ended.seconds, build, suite, ended.verdict)

    def put(self, node: pytest.Item) -> None:
        """Put the seconds into the test's report."""
        node.user_properties.append((PROPERTY, astuple(self)))

    def __str__(self) -> str:
        return (
            f"{self.total:6.1f} s (build {self.build:5.1f}, suite {self.suite:5.1f})  "
            f"{self.name}: {self.verdict}"
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the option."""
    parser.addoption(
        WHOLE,
        action="store_true",
        help="run the whole suite on each planted fault, not only what its table selects",
    )


class Reporter:
    """Says on the terminal how long each fault took."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.seen: list[FaultSeconds] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the line of a fault that is through."""
        values = dict(report.user_properties).get(PROPERTY)
        if report.when != "call" or not isinstance(values, Sequence):
            return
        self.seen.append(FaultSeconds(*values))
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"{self.seen[-1]}, {report.outcome}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, the slowest fault first."""
        if not self.seen:
            return
        terminalreporter.section("planted faults")
        for fault in sorted(self.seen, key=lambda fault: -fault.total):
            terminalreporter.write_line(str(fault))
        terminalreporter.write_line(summary(self.seen))


def summary(faults: Sequence[FaultSeconds]) -> str:
    """Return the last line of the table: the median, the slowest, and the aim."""
    totals = [fault.total for fault in faults]
    within = sum(total <= AIM_SECONDS for total in totals)
    return (
        f"{len(totals)} faults, median {statistics.median(totals):.1f} s, slowest "
        f"{max(totals):.1f} s; {within} within the aim of {AIM_SECONDS:.0f} s"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start the reporter."""
    config.pluginmanager.register(Reporter(config))
