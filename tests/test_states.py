# SPDX-License-Identifier: GPL-2.0-only
"""Findings of the builds of a series' states, and states that the cache keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kpatch.build.diagnostics import Diagnostic
from kpatch.checks import states
from kpatch.checks.states import Failure, State, Told
from kpatch.errors import HarnessError
from kpatch.model import Finding
from kpatch.tables.outcomes import CheckOutcome, ExitCode

WARN, FAIL = CheckOutcome.WARN, CheckOutcome.FAIL

OLD = Diagnostic("a.c", 1, "f", "-Wx", "odd")
NEW = Diagnostic("a.c", 7, "g", "-Wy", "unused x", details=("    7 | int x;",))
ERROR = Diagnostic("b.c", 3, "", "", "bad constant", error=True)


def state(*found: Diagnostic, failure: str | None = None) -> State:
    return State({"CC a.o": found}, None if failure is None else Failure(failure, ("log",)))


GOOD = state(OLD)
BROKEN = state(failure="drivers/a.c:12: error: no x")
# The same error, twelve lines further down.
MOVED = state(failure="'x' on line 24")
SAME = state(failure="'x' on line 12")


def found(
    *made: State, severity: CheckOutcome = WARN, told: Told = states.NOTHING
) -> list[Finding]:
    return list(states.findings(made, severity=severity, told=told))


@pytest.mark.parametrize("severity", [WARN, FAIL])
def test_a_new_warning(severity: CheckOutcome) -> None:
    assert found(GOOD, GOOD, state(OLD, NEW), severity=severity) == [
        Finding(
            "new warning in g(): unused x [-Wy]",
            severity,
            patch=2,
            file="a.c",
            line=7,
            details=NEW.details,
        )
    ]


@pytest.mark.parametrize(
    ("make", "file", "command"),
    [
        (("make",), "drivers/a.c", "make drivers/a.o"),
        (("make", "C=2", "CHECK=sparse -D x"), "a.c", "make C=2 'CHECK=sparse -D x' a.o"),
        (("make",), "a b;c.c", "make 'a b;c.o'"),
        (("make",), "include/linux/a.h", ""),
        (("make",), "", ""),
        ((), "a.c", ""),
    ],
)
def test_a_finding_in_a_source_is_repeated_by_its_object(
    make: tuple[str, ...], file: str, command: str
) -> None:
    warned = state(dataclasses.replace(NEW, file=file))
    [finding] = states.findings((GOOD, warned), severity=WARN, make=make)
    assert finding.command == command


def test_a_new_warning_that_a_later_patch_takes_away_is_a_remark() -> None:
    [finding] = found(GOOD, state(OLD, NEW), GOOD, severity=FAIL)
    assert (finding.outcome, finding.patch, finding.removed_by) == (WARN, 1, 2)


def test_a_new_error_of_a_checker_is_a_fault() -> None:
    [finding] = found(GOOD, state(OLD, ERROR))
    assert (finding.text, finding.outcome) == ("new error: bad constant", FAIL)
    [finding] = found(GOOD, state(OLD, ERROR), GOOD)
    assert (finding.outcome, finding.removed_by) == (WARN, 2)


@pytest.mark.parametrize(
    ("cause", "text", "file", "line"),
    [
        ("drivers/a.c:12: error: no x", "error: no x", "drivers/a.c", 12),
        ("Kconfig.debug: syntax error", "syntax error", "Kconfig.debug", None),
        ("ld: undefined reference to x", "ld: undefined reference to x", "", None),
    ],
)
def test_a_state_that_does_not_build(cause: str, text: str, file: str, line: int | None) -> None:
    assert found(GOOD, state(failure=cause)) == [
        Finding(f"does not build: {text}", patch=1, file=file, line=line, details=("log",))
    ]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        # Patch and the later patch that mends it, for every failure that is told.
        ((GOOD, BROKEN, BROKEN, GOOD), [(1, 3)]),
        ((GOOD, BROKEN, GOOD, BROKEN), [(1, 2), (3, 0)]),
        ((GOOD, BROKEN, SAME, GOOD, GOOD), [(1, 3), (2, 3)]),
        ((GOOD, SAME, MOVED), [(1, 0)]),
        # The base fails in the same way.
        ((SAME, MOVED, GOOD), []),
        ((SAME, BROKEN), [(1, 0)]),
        ((BROKEN,), []),
    ],
)
def test_a_failure_is_told_once(made: tuple[State, ...], expected: list[tuple[int, int]]) -> None:
    assert [(it.patch, it.removed_by) for it in found(*made)] == expected


def test_what_another_check_tells_is_left_out() -> None:
    plain = (GOOD, state(OLD, NEW), BROKEN)
    told = Told.of(plain)
    assert told == Told(
        frozenset({OLD.identity, NEW.identity}),
        frozenset({"drivers/a.c: error: no x"}),
        frozenset({2}),
    )
    other = dataclasses.replace(NEW, text="another")
    made = (GOOD, state(OLD, NEW, other), BROKEN)
    assert [(it.patch, it.text) for it in found(*made, told=told)] == [
        (1, "new warning in g(): another [-Wy]")
    ]
    assert len(found(*made)) == 3
    # An error of a checker is left out only where the build itself fails.
    made = (GOOD, state(OLD, other), state(OLD, other, ERROR))
    assert [it.text for it in found(*made, told=told)] == ["new warning in g(): another [-Wy]"]
    made = (GOOD, state(OLD, ERROR), state(OLD, ERROR))
    assert [it.patch for it in found(*made, told=told)] == [1]


def test_states_of_parts_are_joined() -> None:
    first = State({"CC a.o": (OLD,)}, None, ("a.o", "b.o"))
    second = State({"CC b.o": (NEW,)}, Failure("no rule"), ("b.o", "c.o"))
    third = dataclasses.replace(second, failure=Failure("no space"), record={})
    assert states.joined([first, second, third]) == State(
        {"CC a.o": (OLD,), "CC b.o": (NEW,)}, Failure("no rule"), ("a.o", "b.o", "c.o")
    )
    assert states.joined([first]).failure is None


def test_only_the_error_of_a_build_is_a_failure() -> None:
    error = HarnessError("kernel", "no rule", hint="", code=ExitCode.BUILD, details="one\ntwo")
    assert Failure.of(error) == Failure("no rule", ("one", "two"))
    other = HarnessError("kernel", "no rule", hint="", code=ExitCode.USAGE)
    with pytest.raises(HarnessError) as raised:
        Failure.of(other)
    assert raised.value is other


# ---- states that the cache keeps -----------------------------------------------------------------


class Kept:
    """A context that counts, and the state that the next call makes."""

    def __init__(self, made: State) -> None:
        self.context = SimpleNamespace(parts=0, reused=0)
        self.made = made
        self.calls = 0

    def __call__(self, name: tuple[str, ...] = ("x",), parts: tuple[str, ...] = ()) -> State:
        """Return the kept state."""
        return states.kept(cast(Any, self.context), name, parts, make=self._make)

    def _make(self) -> State:
        self.calls += 1
        return self.made


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty folder of the states in a cache of the test's own."""
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / states.KIND


@pytest.mark.parametrize(
    "made",
    [
        GOOD,
        State({"CC a.o": (NEW, ERROR), "CC b.o": ()}, None, ("b.o",)),
        State({}, Failure("no rule", ("one", "two"))),
    ],
)
def test_a_state_is_made_once(made: State, cache: Path) -> None:
    keeper = Kept(made)
    assert not states.has(("x",))
    assert [keeper(), keeper(), keeper()] == [made, made, made]
    assert states.has(("x",))
    assert (keeper.calls, vars(keeper.context)) == (1, {"parts": 3, "reused": 2})
    assert [path.suffix for path in cache.iterdir() if path.name != "CACHEDIR.TAG"] == [".json"]


def test_a_state_is_kept_under_its_name_and_parts() -> None:
    keeper = Kept(GOOD)
    for name, parts in ((("x",), ()), (("y",), ()), (("x",), ("1",)), (("x",), ("2",))):
        keeper(name, parts)
    assert keeper.calls == 4
    assert not states.has(("z",))


@pytest.mark.parametrize(("cause", "calls"), [("was ended after 60 s", 2), ("no rule", 1)])
def test_a_build_that_a_limit_ended_is_not_kept(cause: str, calls: int) -> None:
    keeper = Kept(state(failure=cause))
    keeper()
    keeper()
    assert keeper.calls == calls


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"failure": null, "record": 1}'])
def test_a_damaged_state_is_made_again(content: str, cache: Path) -> None:
    keeper = Kept(GOOD)
    keeper()
    [file] = cache.glob("*.json")
    file.write_text(content)
    assert not states.has(("x",))
    assert keeper() == GOOD
    assert keeper.calls == 2
