# SPDX-License-Identifier: GPL-2.0-only
"""The guest's records: every input is either accepted or refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from kpatch.run import protocol as grammar
from kpatch.run.protocol import (
    BROKEN_LIMIT,
    LINE_LIMIT,
    Begin,
    Broken,
    Collected,
    Counters,
    Decoder,
    Detected,
    Done,
    End,
    Hello,
    Interrupt,
    Record,
    RecordError,
    Request,
    Told,
    Transcript,
    parse,
)
from kpatch.tables.outcomes import Outcome
from ktests.contract import ENTRIES_LIMIT, PIECE, PROTOCOL

RUN = (Path(__file__).parent / "data" / "records" / "run.jsonl").read_bytes()


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


HELLO = line(type="hello", protocol=3, release="7.3.4", python="3.11.2")
COLLECTED = line(type="collected", tests=[{"id": "a", "requirement": "R"}])
BEGIN = line(type="begin", id="a", limit=1)
END = line(type="end", id="a", outcome="pass", seconds=0.5)
DONE = line(type="done")
COUNTERS = line(type="counters", name="build/a.gcda", data="AAH/")
DETECTED = line(type="detected", mechanism="netlink", how="by its sign")
WIDEST = (1 << 64) - 1


ENTRY = {"method": "N080", "value": 0x81, "step": 0, "count": 1}
TAKEN_ENTRY = Interrupt.Entry("N080", 0x81, 0, 1)
U32 = (1 << 32) - 1
WIDEST_ENTRY = {"method": "N080", "value": U32, "step": U32, "count": PIECE // ENTRIES_LIMIT}
BAD_ENTRIES: tuple[tuple[object, str], ...] = (
    ({}, "is no list"),
    ([], "has not 1 to 64 entries"),
    ([ENTRY] * (ENTRIES_LIMIT + 1), "has not 1 to 64 entries"),
    ([7], "is no object"),
    ([{"method": "N080"}], "no value"),
    ([ENTRY | {"address": 0}], "unknown key 'address'"),
    ([ENTRY | {"method": 0}], "method is no string"),
    ([ENTRY | {"method": ""}], "method is not 1 to"),
    ([ENTRY | {"value": -1}], "value is negative"),
    ([ENTRY | {"value": 1 << 32}], "value is beyond 32 bits"),
    ([ENTRY | {"step": True}], "step is no whole number"),
    ([ENTRY | {"step": 1 << 32}], "step is beyond 32 bits"),
    ([ENTRY | {"count": 1.5}], "count is no whole number"),
    ([ENTRY | {"count": PIECE + 1}], f"has more than {PIECE} notifications"),
    ([ENTRY | {"count": PIECE}, ENTRY], f"has more than {PIECE} notifications"),
)


def told(*lines: bytes) -> Transcript:
    state = Transcript()
    for record in Decoder().feed(b"".join(line + b"\n" for line in lines)):
        state = state.add(record)
    return state


@pytest.mark.parametrize(
    ("raw", "record"),
    [
        (HELLO, Hello(PROTOCOL, "7.3.4", "3.11.2")),
        (COLLECTED, Collected((Collected.Test("a", "R"),))),
        (BEGIN, Begin("a", 1.0)),
        (END, End("a", Outcome.PASS, 0.5)),
        (
            line(type="end", id="a", outcome="fail", seconds=1, message="m\n", values={"n": 1}),
            End("a", Outcome.FAIL, 1.0, "m\n", {"n": 1}),
        ),
        (
            line(type="end", id="a", outcome="pass", seconds=1, values={"s": 1.5, "n": WIDEST}),
            End("a", Outcome.PASS, 1.0, "", {"s": 1.5, "n": WIDEST}),
        ),
        (DETECTED, Detected("netlink", "by its sign")),
        (line(type="request", serial=3, action="plug"), Request(3, "plug")),
        (line(type="interrupt", serial=3, entries=[ENTRY]), Interrupt(3, (TAKEN_ENTRY,))),
        (
            line(type="interrupt", serial=0, entries=[WIDEST_ENTRY] * ENTRIES_LIMIT),
            Interrupt(
                0, (Interrupt.Entry("N080", U32, U32, PIECE // ENTRIES_LIMIT),) * ENTRIES_LIMIT
            ),
        ),
        (COUNTERS, Counters("build/a.gcda", b"\x00\x01\xff")),
        (line(type="told", text="0xd1: the driver has it"), Told("0xd1: the driver has it")),
        (DONE, Done()),
    ],
)
def test_taken(raw: bytes, record: Record) -> None:
    assert parse(raw) == record


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON object"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "no JSON"),
        (b"{}", "unknown type"),
        (b'{"type":["done"]}', "unknown type"),
        (b'{"type":"done","type":"done"}', "a key given twice"),
        (b'{"type":"done"} {"type":"done"}', "no JSON"),
        (line(type="broken", reason="x"), "unknown type"),
        (line(type="done", more=1), "unknown key 'more'"),
        (line(type="begin", id="a"), "no limit"),
        (line(type="begin", id="a", limit=0), "limit is 0"),
        (line(type="begin", id="a", limit=True), "limit is no number"),
        (line(type="begin", id="a", limit=float("nan")), "NaN"),
        (line(type="begin", id="a", limit=float("inf")), "Infinity"),
        (b'{"type":"begin","id":"a","limit":1e999}', "sensible"),
        (line(type="begin", id="a", limit=-1), "sensible"),
        (line(type="begin", id="", limit=1), "id is not 1 to"),
        (line(type="begin", id="x" * 2000, limit=1), "id is not 1 to"),
        (line(type="begin", id="a\x1b[2J", limit=1), "cannot be printed"),
        (line(type="begin", id="a\nb", limit=1), "cannot be printed"),
        (line(type="told", text="\x1b[2J"), "cannot be printed"),
        (line(type="begin", id="\ud800", limit=1), "surrogate"),
        (line(type="begin", id=7, limit=1), "id is no string"),
        (line(type="end", id="a", outcome="crash", seconds=1), "outcome is not one of"),
        (line(type="end", id="a", outcome=[], seconds=1), "outcome is not one of"),
        (line(type="end", id="a", outcome="pass", seconds="1"), "seconds is no number"),
        (line(type="end", id="a", outcome="pass", seconds=1, values=[1]), "values is no object"),
        (
            line(type="end", id="a", outcome="pass", seconds=1, values={"a": []}),
            "end: values is neither",
        ),
        (
            line(type="end", id="a", outcome="pass", seconds=1, values={"a": WIDEST + 1}),
            "end: values is beyond 64 bits$",
        ),
        (line(type="counters", name="a.gcno", data=""), "name does not end in .gcda"),
        (line(type="counters", name="a\n.gcda", data=""), "name holds characters"),
        (line(type="counters", name="a.gcda", data="AA=A"), "data is no base64"),
        (line(type="counters", name="a.gcda", data="AA\n=="), "data is no base64"),
        (line(type="counters", name="a.gcda", data="é"), "data is no base64"),
        (line(type="counters", name="a.gcda", data=[0]), "data is no string"),
        (line(type="counters", name="a.gcda"), "no data"),
        (line(type="collected", tests={}), "tests is no list"),
        (line(type="collected", tests=[1]), "is no object"),
        (line(type="collected", tests=[{"id": "a"}]), "no requirement"),
        (line(type="request", serial=-1, action="plug"), "negative"),
        (line(type="request", serial=1.5, action="plug"), "whole number"),
        *(
            (line(type="interrupt", serial=1, entries=entries), f"interrupt: entries {reason}")
            for entries, reason in BAD_ENTRIES
        ),
        (line(type="interrupt", serial=-1, entries=[ENTRY]), "negative"),
        (line(type="interrupt", serial=1), "no entries"),
        (line(type="interrupt", serial=1, entries=[ENTRY], address=0), "unknown key 'address'"),
        (line(type="end", id="a", outcome="pass", seconds=1, message="x" * LINE_LIMIT), "a line"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(RecordError, match=reason.replace("[", r"\[")):
        parse(raw)


def test_damage_never_raises_anything_else() -> None:
    chance = random.Random(2)  # noqa: S311
    good = [HELLO, COLLECTED, BEGIN, END, DONE]
    for _ in range(3000):
        raw = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 3)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        try:
            parse(bytes(raw))
        except RecordError as error:
            assert str(error).isprintable()


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
def test_pieces_of_any_size(size: int) -> None:
    decoder = Decoder()
    records = [
        record
        for start in range(0, len(RUN), size)
        for record in decoder.feed(RUN[start : start + size])
    ]
    assert records == Decoder().feed(RUN)
    assert len(records) == 8


def test_after_a_broken_line_reading_goes_on() -> None:
    records = Decoder().feed(b"rubbish\n" + DONE + b"\n")
    assert [type(record) for record in records] == [Broken, Done]


def test_a_line_without_end_is_reported_once_and_dropped() -> None:
    decoder, records = Decoder(), []
    for _ in range(50):
        records += decoder.feed(b"x" * 100_000)
    records += decoder.feed(b"\n" + DONE + b"\n")
    assert [type(record) for record in records] == [Broken, Done]


def test_half_a_line_at_the_end_is_nothing() -> None:
    assert Decoder().feed(END[:20]) == []


def test_golden_run() -> None:
    state = Transcript()
    for record in Decoder().feed(RUN):
        state = state.add(record)
    assert state.hello == Hello(PROTOCOL, "7.3.4-vfio-acpi", "3.11.2")
    assert state.ids == {
        "test_netlink.py::test_layout[0x81]",
        "test_netlink.py::test_wide",
        "test_netlink.py::test_unbind",
    }
    assert [end.outcome for end in state.ended.values()] == [Outcome.PASS, Outcome.XFAIL]
    assert state.running == Begin("test_netlink.py::test_unbind", 60.0)
    assert state.requests == (Request(1, "plug", {"port": "port"}),)
    assert not state.done
    assert state.broken == ()


@pytest.mark.parametrize(
    ("lines", "objection"),
    [
        ([COLLECTED], "collected before hello"),
        ([BEGIN], "begin before hello"),
        ([HELLO, HELLO], "hello twice"),
        ([DETECTED], "detected before hello"),
        ([HELLO, DETECTED, DETECTED], "detected twice, or after the tests were collected"),
        ([HELLO, COLLECTED, DETECTED], "detected twice, or after the tests were collected"),
        ([line(type="hello", protocol=4, release="x", python="x")], "protocol 4"),
        ([HELLO, COLLECTED, COLLECTED], "collected twice"),
        (
            [HELLO, line(type="collected", tests=[{"id": "a", "requirement": "R"}] * 2)],
            "a test collected twice",
        ),
        ([HELLO, BEGIN], "was not collected"),
        ([HELLO, COLLECTED, END], "not running"),
        ([HELLO, COLLECTED, BEGIN, BEGIN], "while a is running"),
        ([HELLO, COLLECTED, BEGIN, DONE], "done while a is running"),
        ([HELLO, COLLECTED, BEGIN, END, BEGIN], "has ended"),
        ([HELLO, COLLECTED, DONE, BEGIN], "begin after done"),
        ([COUNTERS], "counters before hello"),
        ([HELLO, COUNTERS], "counters before the end of the tests"),
        ([HELLO, COLLECTED, BEGIN, COUNTERS], "counters before the end of the tests"),
        ([HELLO, COLLECTED, COUNTERS, COUNTERS], "counters of build/a.gcda twice"),
        ([HELLO, COLLECTED, DONE, COUNTERS], "counters after done"),
        ([HELLO, b"rubbish"], "no JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_kept_as_such(lines: list[bytes], objection: str) -> None:
    before, after = told(*lines[:-1]), told(*lines)
    assert before.broken == ()
    assert len(after.broken) == 1
    assert objection in after.broken[0]
    assert after == Transcript(**{**vars(before), "broken": after.broken})


def test_what_was_detected_is_kept() -> None:
    state = told(HELLO, DETECTED, COLLECTED, DONE)
    assert (state.detected, state.broken) == (Detected("netlink", "by its sign"), ())
    assert state.done


def test_a_flood_of_rubbish_is_bounded() -> None:
    assert len(told(*[b"rubbish"] * 1000).broken) == BROKEN_LIMIT


def test_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host keeps requests and acts on them: without a limit they take all memory and time."""
    monkeypatch.setattr(grammar, "REQUESTS_LIMIT", 3)
    state = Transcript().add(Hello(PROTOCOL, "7.3.4", "3.11"))
    for serial in range(0, 20, 2):
        state = state.add(Request(serial, "plug"))
        state = state.add(Interrupt(serial + 1, (TAKEN_ENTRY,)))
    assert [request.serial for request in state.requests] == [0, 1, 2]
    assert state.broken == ("more than 3 requests",) * grammar.BROKEN_LIMIT


def test_the_memory_of_one_vm_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is small enough, but the host keeps all of them."""
    monkeypatch.setattr(grammar, "TOTAL_LIMIT", 100_000)
    tests = [{"id": str(number), "requirement": "R"} for number in range(100)]
    lines = [HELLO, line(type="collected", tests=tests)]
    for test in tests:
        lines.append(line(type="begin", id=test["id"], limit=1))
        message = "x" * 10_000
        lines.append(line(type="end", id=test["id"], outcome="pass", seconds=1, message=message))
    state = told(*lines, DONE)
    assert 8 <= len(state.ended) <= 10
    assert not state.done
    assert state.broken == ("more than 100000 bytes of records",) * BROKEN_LIMIT


def test_counters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "COUNTERS_LIMIT", 2)
    state = told(HELLO, COLLECTED, BEGIN, END)
    for number in range(4):
        state = state.add(Counters(f"{number}.gcda", b"x"))
    assert state.counters == {"0.gcda": b"x", "1.gcda": b"x"}
    assert state.broken == ("counters of more than 2 objects",) * 2


def test_lines_for_the_terminal_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "TOLD_LIMIT", 2)
    state = told(HELLO, *[line(type="told", text=str(number)) for number in range(4)])
    assert state.told == ("0", "1")
    assert state.broken == ("more than 2 lines for the terminal",) * 2
