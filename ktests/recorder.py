# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin that reports the begin and the result of each test to the host.

Every test names its requirement: ``@pytest.mark.requirement("REQ-EVT-01")``, on the test or on
its module (``pytestmark``). ``@pytest.mark.limit(seconds)`` changes the time after which the
host considers the test hung.
"""

from __future__ import annotations

import linecache
import os
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ktests import contract, mechanisms
from ktests.channel import Channel
from ktests.contract import BEGIN, END, MARKER
from ktests.mechanism import Mechanism
from ktests.selection import Selection

KMSG = Path("/dev/kmsg")
SUITE = Path(__file__).parent
MESSAGE_SIZE = 4000


@dataclass(frozen=True)
class Job:
    """The tests to run, and the facts about kernel and machine that they need.

    ``mechanism`` is the kernel's mechanism. ``machine`` describes the machine; the host generates
    it from ktests/machine.toml. ``requirements`` is the table of requirements by id. ``expression``
    is pytest's ``-k``. ``done`` are the ids of the tests that an earlier VM has run. ``limit`` is
    the time limit in seconds of each test that has no limit of its own. ``release`` is the version
    of the running kernel.
    """

    mechanism: str
    machine: dict[str, Any]
    expression: str
    done: frozenset[str]
    requirements: dict[str, dict[str, Any]]
    limit: float
    release: str = field(default_factory=lambda: os.uname().release)


class Recorder:
    """The plugin.

    Without a port (in a run by hand) it sends no reports, but still writes markers into the
    kernel's log, selects the tests and provides the job.
    """

    def __init__(self, job: Job, port: Channel | None, *, kmsg: Path = KMSG) -> None:
        self._job = job
        self._port = port
        self._kmsg = kmsg
        self._selection = Selection(job.expression)
        self._began = 0.0

    def pytest_configure(self, config: pytest.Config) -> None:
        """Declare the markers and pass the job's expression to pytest."""
        config.addinivalue_line("markers", "requirement(id): the requirement that is tested")
        config.addinivalue_line("markers", "limit(seconds): hung after that many seconds")
        if self._port is not None:
            # The terminal plugin, which a run for the host does without, would set this option.
            config.option.tbstyle = "short"
        if self._job.expression:
            config.option.keyword = self._job.expression

    @pytest.fixture(scope="session")
    def job(self) -> Job:
        """Return the job of this run."""
        return self._job

    @pytest.fixture(scope="session")
    def host(self) -> Channel:
        """Return the channel to the host, for actions on the machine.

        A run by hand has no host, and skips the tests that need one.
        """
        if self._port is None:
            pytest.skip("no host on the channel in a run by hand")
        return self._port

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(
        self, collector: pytest.Collector, name: str, obj: object
    ) -> list[Any] | None:
        """Return [] for a test function that does not apply to this kernel or is not selected.

        pytest then creates no tests of it, which would take a while under emulation. For any other
        object None is returned, and pytest goes on as usual.
        """
        if not name.startswith("test"):
            return None
        markers = marks(collector, obj)
        wanted = [mark.args[0] for mark in markers if mark.name == "requirement"][:1]
        keywords = {name, collector.name, *wanted, *(mark.name for mark in markers)}
        possible = self._selection.possible(keywords) and all(map(self._asked, wanted))
        return None if possible or not wanted else []

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Add the requirement's id to the names of a test by which ``-k`` selects.

        ``-k`` can then select by requirement (REQ-ERR-06) or area of requirements (REQ-DEL).
        """
        item.extra_keyword_matches.add(requirement(item))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize a test with the fixture ``mechanism`` by the records of `_mechanisms`."""
        if "mechanism" in metafunc.fixturenames:
            names = self._mechanisms(requirement(metafunc.definition))
            metafunc.parametrize("mechanism", [record(name) for name in names], ids=names)

    def _mechanisms(self, name: str) -> list[str]:
        """Return the names of the mechanisms with which the tests of a requirement run.

        If the requirement needs the kernel's mechanism, they run only with that mechanism.
        Otherwise they run with each mechanism that the requirement needs, and all have to fail.
        """
        needs = self._entry(name)["needs"]
        return [self._job.mechanism] if self._job.mechanism in needs else list(needs)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Raise UsageError if a test module fails to import, in a run for the host.

        That ends pytest with an error on the console.
        """
        if self._port is not None and report.failed:
            raise pytest.UsageError(f"{report.nodeid} cannot be collected\n{report.longreprtext}")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Drop tests that do not apply to this kernel, and send the list of the others to the host.

        Then drop the tests that an earlier VM has run.
        """
        self._keep(config, items, lambda item: self._asked(requirement(item)))
        for item in items:
            self._expect_limit(item)
        self._tell(
            "collected",
            tests=[{"id": item.nodeid, "requirement": requirement(item)} for item in items],
        )
        self._keep(config, items, lambda item: item.nodeid not in self._job.done)

    @staticmethod
    def _keep(
        config: pytest.Config, items: list[pytest.Item], wanted: Callable[[pytest.Item], bool]
    ) -> None:
        config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
        items[:] = filter(wanted, items)

    def _asked(self, name: str) -> bool:
        """Return whether the requirement with the id ``name`` is tested on this kernel."""
        entry = self._entry(name)
        job = self._job
        return contract.applies(entry["needs"], job.mechanism, entry.get("from"), job.release)

    def _expect_limit(self, item: pytest.Item) -> None:
        """Mark a test as expected to fail if the mechanism is known not to meet its requirement."""
        entry = self._entry(requirement(item))
        reason = entry.get("limits", {}).get(self._job.mechanism)
        if reason is not None:
            # Only an AssertionError is expected: a broken fixture is no limit of the mechanism.
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Mark the test's begin and end in the kernel's log, and send both to the host."""
        marker = item.get_closest_marker("limit")
        self._began = time.monotonic()
        mark(self._kmsg, f"{BEGIN} {item.nodeid}")
        self._tell("begin", id=item.nodeid, limit=marker.args[0] if marker else self._job.limit)
        # verdict() computes the outcome from the reports of setup, call and teardown.
        item.stash[REPORTS] = []
        if self._port is not None:
            item.repr_failure = failure_text  # type: ignore[method-assign,assignment]
        result = yield
        mark(self._kmsg, f"{END} {item.nodeid}")
        self._tell(
            "end",
            id=item.nodeid,
            seconds=round(time.monotonic() - self._began, 3),
            values=dict(item.user_properties),
            **verdict(item.stash[REPORTS]),
        )
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the report of each phase of the test for `verdict`."""
        report = yield
        item.stash[REPORTS].append(report)
        return report

    def _entry(self, name: str) -> dict[str, Any]:
        """Return the row of a requirement in the table; UsageError if there is none."""
        entry = self._job.requirements.get(name)
        if entry is None:
            raise pytest.UsageError(f"{name} is not in the table of requirements")
        return entry

    def _tell(self, kind: str, **fields: Any) -> None:
        if self._port is not None:
            self._port.send(kind, **fields)


def record(name: str) -> Mechanism:
    """Return the record of a mechanism; UsageError if the suite has none."""
    if name not in mechanisms.RECORDS:
        known = ", ".join(mechanisms.RECORDS)
        raise pytest.UsageError(f"{name} has no record in ktests/mechanisms; known: {known}")
    return mechanisms.RECORDS[name]


REPORTS = pytest.StashKey[list[pytest.TestReport]]()


def requirement(item: pytest.Item) -> str:
    """Return the id of the requirement that the test is marked with; UsageError if it has none."""
    marker = item.get_closest_marker("requirement")
    if marker is None or len(marker.args) != 1:
        raise pytest.UsageError(f"{item.nodeid} has no requirement")
    return str(marker.args[0])


def marks(collector: pytest.Collector, obj: object) -> list[pytest.Mark]:
    """Return the marks of a test function, followed by those of its module."""
    own = getattr(obj, "pytestmark", [])
    module = collector.getparent(pytest.Module)
    return [*own, *(module.iter_markers() if module is not None else ())]


def verdict(reports: list[pytest.TestReport]) -> dict[str, str]:
    """Return the outcome and the message of a test from the reports of its phases.

    A failure in any phase decides; otherwise a skip or an expected failure in any phase. The
    outcome of a failure in setup or teardown is "infra" and not "fail": on the negative control,
    where tests have to fail, a broken fixture must not count as such a failure.
    """
    for report in reports:
        if report.failed:
            outcome = "fail" if report.when == "call" else "infra"
            return {"outcome": outcome, "message": text(report)}
    for report in reports:
        if report.skipped:
            expected = hasattr(report, "wasxfail")
            return {
                "outcome": "xfail" if expected else "skip",
                "message": report.wasxfail if expected else text(report),
            }
    return {"outcome": "pass", "message": ""}


def failure_text(error: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
    """Return the error of a failed test, and below it the lines of the suite in its traceback.

    pytest would parse the whole module to quote a statement. Under emulation this takes a tenth of
    a second for each of the many tests that have to fail on the negative control.
    """
    # of_suite() goes by the name of the folder: the test modules were compiled in another place.
    places = [
        (file, number)
        for frame, number in traceback.walk_tb(error.tb)
        if (file := of_suite(Path(frame.f_code.co_filename)))
    ]
    lines = [
        f"{file}:{number}: {linecache.getline(str(SUITE / file), number).strip()}"
        for file, number in places
    ]
    return "\n".join([error.exconly(tryshort=True), *lines])


def of_suite(file: Path) -> Path | None:
    """Return the path of a file relative to the suite's folder; None if it is not in the suite.

    The folder is recognized by its name, wherever it was at the time of compilation.
    """
    for folder in file.parents[:2]:
        if folder.name == SUITE.name:
            return file.relative_to(folder)
    return None


def text(report: pytest.TestReport) -> str:
    """Return why the test failed or was skipped, in at most `MESSAGE_SIZE` characters.

    The message of the error comes first, the full report after it.
    """
    if isinstance(report.longrepr, tuple):  # of a skip: file, line, reason
        return report.longrepr[2].removeprefix("Skipped: ")[:MESSAGE_SIZE]
    crash = getattr(report.longrepr, "reprcrash", None)
    head = f"{crash.message}\n" if crash is not None else ""
    return (head + report.longreprtext)[:MESSAGE_SIZE]


def mark(kmsg: Path, what: str) -> None:
    """Write the marker ``what`` into the kernel's log.

    The host attributes the kernel's messages to tests by these markers.
    """
    file = os.open(kmsg, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(file, f"<5>{MARKER}{what}\n".encode())
    finally:
        os.close(file)
