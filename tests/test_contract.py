# SPDX-License-Identifier: GPL-2.0-only
"""What host and guest agree upon, and what either says of a side that does not keep to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.tables import mechanisms
from kpatch.tables.outcomes import ExitCode
from ktests import channel, contract, recorder, session
from ktests.contract import PROTOCOL, ContractError, JobMessage
from tests import test_ktests, test_suite

JOB = JobMessage("netlink", detect=True, expression="burst", done=("b", "a"), limit=60.0)


def test_a_job_arrives_as_it_was_sent() -> None:
    sent = json.loads(json.dumps(JOB.message()))
    assert sent["done"] == ["a", "b"], "in an order that does not change from run to run"
    assert JobMessage.read(sent) == JobMessage(**{**vars(JOB), "done": ("a", "b")})
    assert sent["negative"] is None
    sent["negative"] = ["netlink"]
    assert JobMessage.read(sent).negative == ("netlink",)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"type": "answer"}, "the host sent 'answer' where a job comes next"),
        (
            {"protocol": PROTOCOL + 1, "more": 1},
            f"the host speaks protocol {PROTOCOL + 1}, the guest {PROTOCOL}",
        ),
        ({"protocol": None}, f"the host speaks protocol None, the guest {PROTOCOL}"),
        ({"more": 1}, "the host's job has not the fields of a job: more"),
        ({"limit": None}, "the host's job has a wrong limit: None"),
        ({"detect": 1}, "the host's job has a wrong detect: 1"),
        ({"mechanism": 7}, "the host's job has a wrong mechanism: 7"),
        ({"limit": True}, "the host's job has a wrong limit: True"),
        ({"done": "ab"}, "the host's job has a wrong done: 'ab'"),
        ({"done": [1]}, "the host's job has a wrong done: [1]"),
        ({"negative": [1]}, "the host's job has a wrong negative: [1]"),
        ({"negative": "none"}, "the host's job has a wrong negative: 'none'"),
        ({"order": "REQ"}, "the host's job has a wrong order: 'REQ'"),
    ],
)
def test_what_is_no_job(change: dict[str, object], cause: str) -> None:
    with pytest.raises(ContractError) as refused:
        JobMessage.read({**JOB.message(), **change})
    assert str(refused.value) == cause


def test_a_job_without_a_field_is_none() -> None:
    message = JOB.message()
    del message["limit"]
    with pytest.raises(ContractError, match="the host's job has not the fields of a job: limit"):
        JobMessage.read(message)


def test_the_guest_refuses_a_host_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "machine.json").write_text("{}")
    (tmp_path / "kmsg").touch()
    monkeypatch.setattr(session, "wait_until_ready", lambda: None)
    monkeypatch.setattr(session, "MACHINE", tmp_path / "machine.json")
    monkeypatch.setattr(session, "KMSG", tmp_path / "kmsg")
    with test_ktests.terminal() as (ours, path):
        monkeypatch.setattr(channel, "find", lambda: path)
        os.write(ours, json.dumps({**JOB.message(), "protocol": 9}).encode() + b"\n")
        assert session.for_host() == session.REFUSED
        told = [json.loads(line) for line in test_ktests.drain(ours).splitlines()]
    said = f"vfio-acpi: the host speaks protocol 9, the guest {PROTOCOL}\n"
    assert capsys.readouterr().err == said
    assert [record["type"] for record in told] == ["hello", "done"], "nothing was run"
    assert told[0]["protocol"] == PROTOCOL


def test_the_host_refuses_a_guest_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as refused:
        test_suite.play(
            tmp_path, 'tell("hello", protocol=9, release="7.3.4", python="3")\nforever()'
        )
    assert refused.value.code is ExitCode.LOST
    said = f"the suite in the guest: the guest speaks protocol 9, the host {PROTOCOL}; "
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_a_mechanism_is_a_row_to_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'hello("a", detected="pipe")\nrun("a")\ntell("done")'
    # Without the row it is none that could contradict.
    test_suite.play(tmp_path, script, mechanism="netlink", detect=True)
    monkeypatch.setitem(mechanisms.MECHANISMS, "pipe", "a pipe")
    with pytest.raises(HarnessError, match="MECHANISM=netlink: the kernel shows pipe: by its sign"):
        test_suite.play(tmp_path, script, mechanism="netlink", detect=True)


@pytest.mark.parametrize(
    ("needs", "mechanism", "first", "release", "applies"),
    [
        (["any"], "unknown", None, "6.1.0-rc1", True),
        (["eventfd"], "eventfd", None, "6.1", True),
        (["eventfd"], "netlink", None, "6.1", False),
        (["eventfd"], "none", None, "6.1", True),  # where its tests have to fail
        (["eventfd"], "undetected", None, "6.1", False),
        (["none"], "undetected", None, "6.1", True),
        (["none"], "unknown", None, "6.1", False),
        (["any"], "none", "6.12", "6.2.7", False),
        (["any"], "none", "6.12", "6.12.117+", True),
        (["any"], "none", "6.12", "7.3-rc2", True),
        (["any"], "none", "6.12", None, True),
        (["eventfd"], "netlink", "6.12", "7.3", False),
    ],
)
def test_applies(
    needs: list[str], mechanism: str, first: str | None, release: str | None, applies: bool
) -> None:
    assert contract.applies(needs, mechanism, first, release) is applies


@pytest.mark.parametrize(
    ("wanted", "flavor", "applies"),
    [
        ((), "plain", True),
        ((), None, True),
        (("debug",), "debug", True),
        (("lockdep", "debug"), "debug", True),
        (("debug",), "plain", False),
        (("debug",), None, True),
    ],
)
def test_flavor(wanted: tuple[str, ...], flavor: str | None, applies: bool) -> None:
    found = contract.applies(["any"], "none", None, "7.3", wanted=wanted, flavor=flavor)
    assert found is applies


@pytest.mark.parametrize(
    ("needs", "mechanism", "negative", "applies", "controlled"),
    [
        (["netlink", "eventfd"], "none", None, True, ["netlink", "eventfd"]),
        (["netlink", "eventfd"], "none", ("eventfd", "eventq"), True, ["eventfd"]),
        (["netlink"], "none", ("eventfd",), False, []),
        (["netlink"], "none", (), False, []),
        (["any"], "none", (), True, []),
        (["none"], "none", (), True, []),
        (["netlink"], "netlink", (), True, []),
        (["eventfd"], "undetected", ("eventfd",), False, ["eventfd"]),
    ],
)
def test_control_has_to_fail_what_the_series_promise(
    needs: list[str],
    mechanism: str,
    negative: tuple[str, ...] | None,
    applies: bool,
    controlled: list[str],
) -> None:
    assert contract.applies(needs, mechanism, None, "7.3", negative) is applies
    assert contract.controlled(needs, negative) == controlled


@pytest.mark.parametrize(
    ("file", "below"),
    [
        ("/mnt/suite/ktests/test_a.py", "test_a.py"),
        ("/mnt/suite/ktests/mechanisms/eventfd.py", "mechanisms/eventfd.py"),
        ("/mnt/suite/uapi/vfio.py", None),
        ("/mnt/runtime/lib/python3.13/ctypes/__init__.py", None),
    ],
)
def test_a_failure_is_placed_in_the_suite(file: str, below: str | None) -> None:
    assert recorder.of_suite(Path(file)) == (below and Path(below))
