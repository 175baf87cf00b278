# SPDX-License-Identifier: GPL-2.0-only
r"""Parse the records that the guest sends to the host: one JSON object a line, on its own channel.

The dataclasses below are the grammar: ``{"type": NAME, FIELD: VALUE, …}\n`` in UTF-8. Every field
without a default has to be present; unknown fields are not allowed. The guest runs the kernel under
test and is not trusted: any other line, unless blank, becomes a `Broken` record, which is judged as
an incident (infra). `parse` raises no exception other than `RecordError`, whatever the input.

    hello      the first record: protocol, release (uname -r), python
    loaded     the user's own mechanism (MECHANISM=folder) is imported, if there is one
    faulty     this mechanism has a fault
    detected   the mechanism that the kernel shows, if the host has asked for detection
    collected  the selected tests that apply to the kernel, also those that an earlier VM has begun
    begin      a test starts; it counts as hung after ``limit`` seconds
    end        the test ended
    request    the guest asks the host for an action on the machine
    interrupt  the guest asks the host to have the firmware notify devices, by an interrupt
    counters   how often the lines of an object have run; after the tests, if the kernel counts that
    told       a line for the person who watches the run: it is printed at once
    done       the suite has ended; the VM will power off
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, TypeAlias

from kpatch.tables.outcomes import Outcome
from ktests.contract import COUNTERS_SUFFIX, ENTRIES_LIMIT, PIECE, PROTOCOL

LINE_LIMIT = 1 << 20
TOTAL_LIMIT = 64 << 20  # bytes of one VM's records: all are kept in memory
TEXT_LIMIT = 1000  # characters of an id or a name, which are printed in tables and files
TESTS_LIMIT = 100_000
BROKEN_LIMIT = 10
REQUESTS_LIMIT = (
    10_000  # requests and interrupts: all are kept in memory; a suite sends a tenth of this
)
TOLD_LIMIT = 200  # lines for the terminal

COUNTERS_LIMIT = 200
"""Records of counters: a series touches a few sources. Their size is bounded by that of a line."""

Scalar: TypeAlias = str | int | float | bool

# The outcomes that a guest may report. Only the host can find that a test crashed, hung or was
# lost.
REPORTABLE = (Outcome.PASS, Outcome.FAIL, Outcome.SKIP, Outcome.XFAIL, Outcome.INFRA)


class RecordError(ValueError):
    """Raised for a line that is no record; the text is the reason."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise RecordError("is no string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordError("holds half a surrogate pair") from None
    return value


def _name(value: object) -> str:
    text = _text(value)
    if not 0 < len(text) <= TEXT_LIMIT:
        raise RecordError(f"is not 1 to {TEXT_LIMIT} characters long")
    if not text.isprintable():
        raise RecordError("holds characters that cannot be printed")
    return text


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError("is no whole number")
    if not 0 <= value < 1 << 63:
        raise RecordError("is negative or beyond 63 bits")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError("is no number")
    if not 0 <= value <= 1e9:
        raise RecordError("is no sensible number of seconds")
    return float(value)


def _limit(value: object) -> float:
    seconds = _seconds(value)
    if seconds == 0:
        raise RecordError("is 0")
    return seconds


def _outcome(value: object) -> Outcome:
    if value not in REPORTABLE:
        raise RecordError(f"is not one of {', '.join(REPORTABLE)}")
    return Outcome(value)


def _scalar(value: object) -> Scalar:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | int):
        if abs(value) >= 1 << 64:
            raise RecordError("is beyond 64 bits")
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise RecordError("is neither string, number nor truth value")


def _scalars(value: object) -> dict[str, Scalar]:
    if not isinstance(value, dict):
        raise RecordError("is no object")
    return {_name(key): _scalar(item) for key, item in value.items()}


def _tests(value: object) -> tuple[Collected.Test, ...]:
    if not isinstance(value, list):
        raise RecordError("is no list")
    if len(value) > TESTS_LIMIT:
        raise RecordError(f"is longer than {TESTS_LIMIT}")
    return tuple(_build(Collected.Test, item) for item in value)


def _number(value: object) -> int:
    number = _count(value)
    if number >= 1 << 32:
        raise RecordError("is beyond 32 bits")
    return number


def _entries(value: object) -> tuple[Interrupt.Entry, ...]:
    if not isinstance(value, list):
        raise RecordError("is no list")
    if not 0 < len(value) <= ENTRIES_LIMIT:
        raise RecordError(f"has not 1 to {ENTRIES_LIMIT} entries")
    entries = tuple(_build(Interrupt.Entry, item) for item in value)
    if sum(entry.count for entry in entries) > PIECE:
        raise RecordError(f"has more than {PIECE} notifications")
    return entries


def _object_name(value: object) -> str:
    name = _name(value)
    if not name.endswith(COUNTERS_SUFFIX):
        raise RecordError(f"does not end in {COUNTERS_SUFFIX}")
    return name


def _bytes(value: object) -> bytes:
    text = _text(value)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or a character beyond ASCII
        raise RecordError("is no base64") from None


def _by(read: Callable[[object], object]) -> dict[str, object]:
    """Return metadata for a dataclass field: ``read`` converts the field's JSON value.

    ``read`` raises RecordError for a value of the wrong type or range.
    """
    return {"read": read}


@dataclass(frozen=True)
class Hello:
    """The guest has started.

    ``protocol`` is the version of the protocol that it uses, ``release`` is ``uname -r``,
    ``python`` its version of Python.
    """

    protocol: int = field(metadata=_by(_count))
    release: str = field(metadata=_by(_name))
    python: str = field(metadata=_by(_name))


@dataclass(frozen=True)
class Loaded:
    """The guest has imported the user's own mechanism (ktests/mechanism_folder.py)."""


@dataclass(frozen=True)
class Faulty:
    """The user's own mechanism has a fault, ``cause``. The guest runs no further test."""

    cause: str = field(metadata=_by(_name))


@dataclass(frozen=True)
class Detected:
    """The mechanism that the guest has detected in its kernel, and the sign of it (``how``).

    ktests/detection.py looks for the signs.
    """

    mechanism: str = field(metadata=_by(_name))
    how: str = field(metadata=_by(_name))


@dataclass(frozen=True)
class Collected:
    """The selected tests that apply to the kernel, in the order they run.

    They include those that an earlier VM has begun, which this VM does not run.
    """

    @dataclass(frozen=True)
    class Test:
        """A test's id and the id of the requirement that it tests."""

        id: str = field(metadata=_by(_name))
        requirement: str = field(metadata=_by(_name))

    tests: tuple[Test, ...] = field(metadata=_by(_tests))


@dataclass(frozen=True)
class Begin:
    """Test ``id`` starts; after ``limit`` seconds it counts as hung."""

    id: str = field(metadata=_by(_name))
    limit: float = field(metadata=_by(_limit))


@dataclass(frozen=True)
class End:
    """Test ``id`` ended after ``seconds`` with ``outcome``, one of REPORTABLE.

    ``message`` is the reason of the outcome, "" if there is none. ``values`` are measurements.
    """

    id: str = field(metadata=_by(_name))
    outcome: Outcome = field(metadata=_by(_outcome))
    seconds: float = field(metadata=_by(_seconds))
    message: str = field(metadata=_by(_text), default="")
    values: Mapping[str, Scalar] = field(metadata=_by(_scalars), default_factory=dict)


@dataclass(frozen=True)
class Request:
    """The guest asks the host for ``action`` on the VM; the answer has the same ``serial``."""

    serial: int = field(metadata=_by(_count))
    action: str = field(metadata=_by(_name))
    arguments: Mapping[str, Scalar] = field(metadata=_by(_scalars), default_factory=dict)


@dataclass(frozen=True)
class Interrupt:
    """The guest asks for one interrupt, on which the test firmware sends the notifications.

    The answer has the same ``serial``.
    """

    @dataclass(frozen=True)
    class Entry:
        """``count`` notifications with the values value, value + step and so on, of 32 bits each.

        ``method`` is the name of the test firmware's method that notifies the device.
        """

        method: str = field(metadata=_by(_name))
        value: int = field(metadata=_by(_number))
        step: int = field(metadata=_by(_number))
        count: int = field(metadata=_by(_number))

    serial: int = field(metadata=_by(_count))
    entries: tuple[Entry, ...] = field(metadata=_by(_entries))


@dataclass(frozen=True)
class Counters:
    """The kernel's file of the counters of one object, as gcov reads it.

    ``name`` is its path below /sys/kernel/debug/gcov, the absolute path of the object in the build
    with the suffix ".gcda", without the first slash. The host uses it only to look the object up.
    """

    name: str = field(metadata=_by(_object_name))
    data: bytes = field(metadata=_by(_bytes))


@dataclass(frozen=True)
class Told:
    """A line, ``text``, for the person who watches the run. It has no part in the verdict."""

    text: str = field(metadata=_by(_name))


@dataclass(frozen=True)
class Done:
    """The suite has ended, and the VM will power off."""


@dataclass(frozen=True)
class Broken:
    """A line that is no record; ``reason`` says why. `Decoder` makes it; no guest sends it."""

    reason: str


Demand: TypeAlias = Request | Interrupt
Record: TypeAlias = (
    Hello
    | Loaded
    | Faulty
    | Detected
    | Collected
    | Begin
    | End
    | Demand
    | Counters
    | Told
    | Done
    | Broken
)

TYPES: dict[str, type[Any]] = {
    "hello": Hello,
    "loaded": Loaded,
    "faulty": Faulty,
    "detected": Detected,
    "collected": Collected,
    "begin": Begin,
    "end": End,
    "request": Request,
    "interrupt": Interrupt,
    "counters": Counters,
    "told": Told,
    "done": Done,
}


def parse(line: bytes) -> Record:
    """Return the record in ``line`` (with or without newline); RecordError if it is no record."""
    if len(line) > LINE_LIMIT:
        raise RecordError(f"a line of {len(line)} bytes, more than {LINE_LIMIT}")
    value = _json(line)
    if not isinstance(value, dict):
        raise RecordError("no JSON object")
    kind = value.pop("type", None)
    if not isinstance(kind, str) or kind not in TYPES:
        raise RecordError(f"unknown type {_shown(kind)}")
    try:
        record: Record = _build(TYPES[kind], value)
    except RecordError as error:
        raise RecordError(f"{kind}: {error}") from None
    return record


def _json(line: bytes) -> object:
    try:
        return json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except RecordError:
        raise
    except RecursionError:
        raise RecordError("nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError, JSONDecodeError, a number of 5000 digits
        raise RecordError(f"no JSON: {error}") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise RecordError("a key given twice")
    return value


def _constant(name: str) -> object:
    raise RecordError(f"{name} is no JSON")


def _build(kind: type[Any], value: object) -> Any:
    if not isinstance(value, dict):
        raise RecordError("is no object")
    known = {item.name: item for item in fields(kind)}
    for key in value:
        if key not in known:
            raise RecordError(f"unknown key {_shown(key)}")
    return kind(
        **{name: _read(item, value[name]) for name, item in known.items() if _given(item, value)}
    )


def _given(item: Field[Any], value: Mapping[str, object]) -> bool:
    if item.name in value:
        return True
    if item.default is MISSING and item.default_factory is MISSING:
        raise RecordError(f"no {item.name}")
    return False


def _read(item: Field[Any], value: object) -> object:
    try:
        read: Callable[[object], object] = item.metadata["read"]
        return read(value)
    except RecordError as error:
        raise RecordError(f"{item.name} {error}") from None


def _shown(value: object) -> str:
    return ascii(value)[:60]


class Decoder:
    """Convert the bytes of the channel, in pieces of any size, to records.

    A line that is no record becomes `Broken`; decoding continues with the next line. Blank lines
    are ignored, and so is an unfinished line at the end: the VM ended while it was writing, and the
    missing records (end, done) show that. From TOTAL_LIMIT on, every line is `Broken`.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self._total = 0

    def feed(self, data: bytes) -> list[Record]:
        """Add ``data`` and return the records that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        records = [record for line in lines for record in self._line(line)]
        if len(self._rest) > LINE_LIMIT:
            if not self._skipping:
                records.append(Broken(f"a line of more than {LINE_LIMIT} bytes"))
            self._skipping = True
            self._rest = b""
        return records

    def _line(self, line: bytes) -> list[Record]:
        if self._skipping:  # this is the rest of a line that was too long
            self._skipping = False
            return []
        if not line.strip():
            return []
        self._total += len(line)
        if self._total > TOTAL_LIMIT:
            return [Broken(f"more than {TOTAL_LIMIT} bytes of records")]
        try:
            return [parse(line)]
        except RecordError as error:
            return [Broken(str(error))]


@dataclass(frozen=True)
class Transcript:
    """The state of one VM's suite according to the records received so far.

    Before its record has come, each field is None, empty or False. ``faulty`` is the fault of the
    user's own mechanism. ``collected`` are the tests of that record, ``running`` is the test that
    has begun and not ended; ``ended`` maps test ids to their end records, in order. ``counters``
    maps the names of objects to their counters, ``told`` are the lines for the terminal. ``broken``
    has the objections to lines that are no records, and to records that are not allowed
    (`_objection`); the first BROKEN_LIMIT are kept.
    """

    hello: Hello | None = None
    loaded: bool = False
    faulty: str = ""
    detected: Detected | None = None
    collected: tuple[Collected.Test, ...] | None = None
    running: Begin | None = None
    ended: Mapping[str, End] = field(default_factory=dict)
    requests: tuple[Demand, ...] = ()
    counters: Mapping[str, bytes] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    done: bool = False
    broken: tuple[str, ...] = ()

    def add(self, record: Record) -> Transcript:
        """Return the state after ``record``.

        A `Broken` record, or one that is not allowed (`_objection`), only adds to ``broken``.
        """
        objection = _objection(self, record)
        if objection:
            return replace(self, broken=(*self.broken, objection)[:BROKEN_LIMIT])
        match record:
            case Hello():
                return replace(self, hello=record)
            case Loaded():
                return replace(self, loaded=True)
            case Faulty(cause=cause):
                return replace(self, faulty=self.faulty or cause)
            case Detected():
                return replace(self, detected=record)
            case Collected():
                return replace(self, collected=record.tests)
            case Begin():
                return replace(self, running=record)
            case End():
                return replace(self, running=None, ended={**self.ended, record.id: record})
            case Request() | Interrupt():
                return replace(self, requests=(*self.requests, record))
            case Counters(name=name, data=data):
                return replace(self, counters={**self.counters, name: data})
            case Told(text=text):
                return replace(self, told=(*self.told, text))
            case Done() | Broken():
                return replace(self, done=True)

    def only(self, names: Collection[str]) -> Transcript:
        """Return the state as if only the tests with these ids had been collected."""
        if self.collected is None:
            return self
        return replace(self, collected=tuple(it for it in self.collected if it.id in names))

    @property
    def ids(self) -> frozenset[str]:
        """Return the ids of the collected tests."""
        return frozenset(test.id for test in self.collected or ())


def _objection(state: Transcript, record: Record) -> str:
    """Return why ``record`` is not allowed in ``state``; "" if it is allowed."""
    match record:
        case Broken(reason=reason):
            return reason
        case _ if state.done:
            return f"{type(record).__name__.lower()} after done"
        case Hello() if state.hello is not None:
            return "hello twice: the guest started again"
        case Hello(protocol=protocol) if protocol != PROTOCOL:
            return f"the guest speaks protocol {protocol}, the host {PROTOCOL}"
        case Hello():
            return ""
        case _ if state.hello is None:
            return f"{type(record).__name__.lower()} before hello"
        case Loaded() if state.loaded or state.detected is not None or state.collected is not None:
            return "loaded twice, or after the detection or the collection of the tests"
        case Detected() if state.detected is not None or state.collected is not None:
            return "detected twice, or after the tests were collected"
        case Collected() if state.collected is not None:
            return "collected twice"
        case Collected(tests=tests):
            ids = [test.id for test in tests]
            return "" if len(set(ids)) == len(ids) else "a test collected twice"
        case Begin(id=name):
            return _begin_objection(state, name)
        case Request() | Interrupt() if len(state.requests) >= REQUESTS_LIMIT:
            return f"more than {REQUESTS_LIMIT} requests"
        case Counters() if state.running is not None or state.collected is None:
            return "counters before the end of the tests"
        case Counters(name=name) if name in state.counters:
            return f"counters of {name} twice"
        case Counters() if len(state.counters) >= COUNTERS_LIMIT:
            return f"counters of more than {COUNTERS_LIMIT} objects"
        case Told() if len(state.told) >= TOLD_LIMIT:
            return f"more than {TOLD_LIMIT} lines for the terminal"
        case End(id=name) if state.running is None or state.running.id != name:
            return f"end of {name}, which is not running"
        case Done() if state.running is not None:
            return f"done while {state.running.id} is running"
    return ""


def _begin_objection(state: Transcript, name: str) -> str:
    if state.running is not None:
        return f"begin of {name} while {state.running.id} is running"
    if name in state.ended:
        return f"begin of {name}, which has ended"
    return "" if name in state.ids else f"begin of {name}, which was not collected"
