# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin that selects the tests, and reports their begin and result to the host.

Every test names its requirement: ``@pytest.mark.requirement("REQ-EVT-01")``, on the test or on
its module (``pytestmark``). ``@pytest.mark.limit(seconds)`` changes the time after which the
host considers the test hung.
"""

from __future__ import annotations

import linecache
import os
import re
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ktests import contract, kernellog, leaks, mechanism_folder, mechanisms
from ktests.channel import Channel
from ktests.contract import BEGIN, END, FLAVOR_ARGUMENT, MARKER, SEED_ARGUMENT
from ktests.mechanism import Mechanism
from ktests.selection import Selection

KMSG = kernellog.FILE
COMMAND_LINE = Path("/proc/cmdline")
SUITE = Path(__file__).parent
MESSAGE_SIZE = 4000


@dataclass(frozen=True)
class Job:
    """The tests to run, and the facts about kernel and machine that they need.

    ``mechanism`` is the name of the kernel's mechanism, or NONE, UNDETECTED or UNKNOWN of
    `ktests.contract`. ``machine`` describes the test machine; the host generates it from
    ktests/machine.toml. ``expression`` is the argument of pytest's ``-k``. ``done`` are the ids of
    the tests that an earlier VM has begun. ``requirements`` is the table of
    ktests/requirements.toml by id. ``limit`` is the time limit in seconds of each test that has no
    limit of its own. ``release`` is the version of the running kernel, ``flavor`` its flavor, None
    if it is not known. ``seed`` decides what stateful tests generate. ``negative`` is as in
    `ktests.contract.applies`, ``order`` as in `ktests.contract.JobMessage`.
    """

    mechanism: str
    machine: dict[str, Any]
    expression: str
    done: frozenset[str]
    requirements: dict[str, dict[str, Any]]
    limit: float
    release: str = field(default_factory=lambda: os.uname().release)
    flavor: str | None = field(default_factory=lambda: argument(FLAVOR_ARGUMENT))
    seed: int = field(default_factory=lambda: int(argument(SEED_ARGUMENT) or 1))
    negative: tuple[str, ...] | None = None
    order: tuple[str, ...] = ()


def argument(name: str, command_line: Path = COMMAND_LINE) -> str | None:
    """Return the value of the first argument ``name`` of the kernel; None if it has none."""
    found = re.search(rf"{re.escape(name)}=(\S+)", command_line.read_text())
    return found and found[1]


class Recorder:
    """The pytest plugin. ``port`` is the channel to the host, ``kmsg`` the kernel log's file.

    Without a port (in a run by hand) it sends no reports, but still writes markers into the
    kernel's log, selects the tests and provides the fixture ``job``.
    """

    def __init__(self, job: Job, port: Channel | None, *, kmsg: Path = KMSG) -> None:
        self._job = job
        self._port = port
        self._kmsg = kmsg
        self._selection = Selection(job.expression)
        self._began = 0.0

    def pytest_configure(self, config: pytest.Config) -> None:
        """Declare the marks "requirement" and "limit", and set options of pytest.

        The job's expression becomes the argument of ``-k``, unless it is "". In a run for the host
        tracebacks are short.
        """
        config.addinivalue_line("markers", "requirement(id): the requirement that is tested")
        config.addinivalue_line("markers", "limit(seconds): hung after that many seconds")
        if self._port is not None:
            # The terminal plugin, which a run for the host does without, would set this option.
            config.option.tbstyle = "short"
        if self._job.expression:
            config.option.keyword = self._job.expression

    @pytest.fixture(scope="session")
    def job(self) -> Job:
        """Return the `Job`: the tests to run, and the facts about kernel and machine."""
        return self._job

    @pytest.fixture(scope="session")
    def host(self) -> Channel:
        """Return the channel to the host, by which a test requests actions on the machine.

        A run by hand has no host, and skips the tests that use this fixture.
        """
        if self._port is None:
            pytest.skip("a run by hand has no host that would plug a device or raise an interrupt")
        return self._port

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(
        self, collector: pytest.Collector, name: str, obj: object
    ) -> list[Any] | None:
        """Return [] for a test function that does not apply to this kernel or cannot be selected.

        pytest then creates no tests from ``obj``; creating them would take a while under emulation.
        Returns None for any other object, also for a test function without a requirement. pytest
        then goes on as usual. UsageError if the requirement is not in the table.
        """
        if not name.startswith("test"):
            return None
        markers = marks(collector, obj)
        wanted = [mark.args[0] for mark in markers if mark.name == "requirement"][:1]
        keywords = {name, collector.name, *wanted, *(mark.name for mark in markers)}
        possible = self._selection.possible(keywords) and all(map(self._asked, wanted))
        return None if possible or not wanted else []

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Add the id of the test's requirement to the names that pytest's ``-k`` matches.

        ``-k`` can then select by requirement (REQ-ERR-06) or by area of requirements (REQ-DEL).
        UsageError if the test has no requirement.
        """
        item.extra_keyword_matches.add(requirement(item))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test with the fixture ``mechanism`` once for each mechanism of `_mechanisms`.

        The value of the fixture is the mechanism's record.
        """
        if "mechanism" in metafunc.fixturenames:
            names = self._mechanisms(requirement(metafunc.definition))
            metafunc.parametrize("mechanism", [record(name) for name in names], ids=names)

    def _mechanisms(self, name: str) -> list[str]:
        """Return the names of the mechanisms with which the tests of the requirement ``name`` run.

        If the requirement's "needs" contains the kernel's mechanism, they run with that mechanism
        alone. Otherwise (on the negative control) they run with each mechanism in "needs" that the
        kernel is the control for, and all have to fail.
        """
        needs = self._entry(name)["needs"]
        if self._job.mechanism in needs:
            return [self._job.mechanism]
        return contract.controlled(needs, self._job.negative)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """In a run for the host, raise UsageError if a test module cannot be collected.

        pytest then ends, with the error on the console.
        """
        if self._port is not None and report.failed:
            raise pytest.UsageError(f"{report.nodeid} cannot be collected\n{report.longreprtext}")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Remove tests that do not apply to this kernel; send the list of the others to the host.

        They are in the job's order. Then remove the tests that an earlier VM has begun. ``items``
        is changed in place. Also mark the tests that are expected to fail (`_expect_limit`).
        """
        self._keep(config, items, lambda item: self._asked(requirement(item)))
        places = {name: place for place, name in enumerate(self._job.order)}
        items.sort(key=lambda item: places.get(requirement(item), -1))
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
        """Return whether the tests of the requirement ``name`` run on this kernel."""
        entry = self._entry(name)
        job = self._job
        return contract.applies(
            entry["needs"],
            job.mechanism,
            entry.get("from"),
            job.release,
            job.negative,
            wanted=entry.get("flavors", ()),
            flavor=job.flavor,
        )

    def _expect_limit(self, item: pytest.Item) -> None:
        """Mark a test as expected to fail if its requirement's "limits" has the job's mechanism.

        Only an AssertionError is expected.
        """
        entry = self._entry(requirement(item))
        reason = entry.get("limits", {}).get(self._job.mechanism)
        if reason is not None:
            # Only an AssertionError is expected: a broken fixture is no limit of the mechanism.
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Send the test's begin and its result to the host; mark both in the kernel's log.

        In the flavors `leaks.FLAVORS`, look for leaks after the last test of a file.
        """
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
        last = nextitem is None or nextitem.path != item.path
        if last and self._job.flavor in leaks.FLAVORS:
            leaks.look()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep pytest's report on each phase of the test (setup, call, teardown) for `verdict`.

        If the phase failed by a fault of the user's own mechanism, end the session after the test.
        """
        report = yield
        item.stash[REPORTS].append(report)
        if call.excinfo is not None and self._refused(call.excinfo.value):
            item.session.shouldstop = "the mechanism has a fault"
        return report

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell the host if code of the user's own mechanism has raised KeyboardInterrupt."""
        self._refused(excinfo.value)

    def _refused(self, error: BaseException) -> bool:
        """Tell the host if ``error`` is a fault of the user's own mechanism; return whether."""
        cause = mechanism_folder.fault(error)
        if cause:
            traceback.print_exception(error)
            self._tell("faulty", cause=cause)
        return bool(cause)

    def _entry(self, name: str) -> dict[str, Any]:
        """Return the entry of the requirement ``name``; UsageError if the table has none."""
        entry = self._job.requirements.get(name)
        if entry is None:
            raise pytest.UsageError(f"{name} is not in the table of requirements")
        return entry

    def _tell(self, kind: str, **fields: Any) -> None:
        if self._port is not None:
            self._port.send(kind, **fields)


def record(name: str) -> Mechanism:
    """Return the record of the mechanism ``name``; UsageError if the suite has none."""
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
    """Return the pytest marks of the test function ``obj``, followed by those of its module."""
    own = getattr(obj, "pytestmark", [])
    module = collector.getparent(pytest.Module)
    return [*own, *(module.iter_markers() if module is not None else ())]


def verdict(reports: list[pytest.TestReport]) -> dict[str, str]:
    """Return the outcome and the message of a test from the reports on its phases.

    The keys of the result are "outcome" and "message". The first failure decides; without one, the
    first skip or expected failure; without these, the outcome is "pass". A failure in setup or
    teardown has the outcome "infra" and not "fail": on the negative control, where tests have to
    fail, a broken fixture must not count as such a failure.
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

    Each of these lines has its file, its number and its text.
    This replaces pytest's own text, for which pytest parses the whole module to quote a statement.
    Under emulation that would take a tenth of a second for each of the many tests that have to fail
    on the negative control. ``style`` is not used.
    """
    # The test modules were compiled in another folder: of_suite() recognizes it by its name.
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
    """Return the path of a file relative to the folder ktests; None if it is not in the suite.

    The folder is recognized by its name, since it had another path when the file was compiled.
    """
    for folder in file.parents[:2]:
        if folder.name == SUITE.name:
            return file.relative_to(folder)
    return None


def text(report: pytest.TestReport) -> str:
    """Return the reason why a test failed or was skipped, cut to `MESSAGE_SIZE` characters.

    For a failure this is the text of the report. If pytest has made this text, and not
    `failure_text`, the error message stands in front of it.
    """
    if isinstance(report.longrepr, tuple):  # of a skip: file, line, reason
        return report.longrepr[2].removeprefix("Skipped: ")[:MESSAGE_SIZE]
    crash = getattr(report.longrepr, "reprcrash", None)
    head = f"{crash.message}\n" if crash is not None else ""
    return (head + report.longreprtext)[:MESSAGE_SIZE]


def mark(kmsg: Path, what: str) -> None:
    """Write the line `MARKER` and ``what`` into the kernel's log.

    ``kmsg`` is the log's device file. By these lines the host attributes the kernel's messages to
    tests.
    """
    kernellog.write(f"{MARKER}{what}", kmsg)
