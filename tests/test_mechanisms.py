# SPDX-License-Identifier: GPL-2.0-only
"""The two registries of mechanisms; a third mechanism, which is one file: tests/mechanisms/pipe.py.

The third is detected, runs tests of the real suite that ask a record, speaks to the host's decoder,
and is judged; neither host nor suite has a line for it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpatch.run import protocol
from kpatch.run.vm_run import Ending, VmRun
from kpatch.series import catalog
from kpatch.tables import bases
from kpatch.tables.mechanisms import MECHANISMS
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.tables.paths import KTESTS, PROJECT
from kpatch.verdict import requirements
from kpatch.verdict.judge import Judgement, SeriesRun, judge
from ktests import mechanisms
from ktests.contract import ANY, HOST, NONE, PROTOCOL, UNDETECTED, JobMessage
from ktests.detection import Detection, detect, signs
from ktests.mechanism import Mechanism, Site
from ktests.pci import PciDevice

FOLDER = Path(__file__).parent / "mechanisms"

DEVICES = {
    name: PciDevice(name, f"0000:00:{slot}.0", "", f"N{name[:3].upper()}")
    for name, slot in (("alpha", "10"), ("beta", "11"), ("carrier", "12"))
}


# ---- the registries ------------------------------------------------------------------------------


def test_host_and_guest_know_the_same_mechanisms() -> None:
    assert sorted(MECHANISMS) == sorted(mechanisms.RECORDS)


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_record_has_the_name_of_its_module(name: str) -> None:
    record = mechanisms.RECORDS[name]
    assert record.name == name
    assert record.sign.text != record.sign.absent


def test_every_mechanism_that_is_named_has_a_row() -> None:
    named = {word for entry in requirements.load().values() for word in entry.needs}
    carried = {catalog.load(name, bases.DEFAULT_BASE).mechanism for name in catalog.carried()}
    assert (named | carried) - {ANY, HOST, NONE} == set(MECHANISMS)


def test_nobody_asks_for_a_mechanism_by_its_name() -> None:
    """A branch on a name would have to be found and changed for the next mechanism."""
    names = "|".join(MECHANISMS)
    branch = re.compile(rf"[!=]= [\"'](?:{names})[\"']|isinstance\(.*\w+Vmm\)")
    found = [
        f"{path.relative_to(PROJECT)}: {line.strip()}"
        for folder in ("kpatch", "ktests", "uapi")
        for path in (PROJECT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if branch.search(line)
    ]
    assert found == []


# ---- a third mechanism ---------------------------------------------------------------------------


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mechanism]:
    """The third mechanism among the records, found by its file."""
    monkeypatch.setattr(mechanisms, "__path__", [*mechanisms.__path__, str(FOLDER)])
    monkeypatch.setattr(mechanisms, "RECORDS", mechanisms.find())
    yield mechanisms.RECORDS["pipe"]
    sys.modules.pop("ktests.mechanisms.pipe")


ABSENT = "; ".join(f"no {name}" for name in signs())


def machine_of(record: Mechanism, *, delivers: bool) -> Any:
    return sys.modules[type(record).__module__].Machine(delivers=delivers)


@pytest.mark.parametrize(
    ("delivers", "found"),
    [
        (True, Detection("pipe", "the pipe gives 0x81")),
        (False, Detection(UNDETECTED, f"{ABSENT}; the pipe gives nothing")),
    ],
    ids=["there", "absent"],
)
@pytest.mark.parametrize("declared", [UNDETECTED, "netlink"])
def test_detected(
    pipe: Mechanism,
    monkeypatch: pytest.MonkeyPatch,
    delivers: bool,
    found: Detection,
    declared: str,
) -> None:
    for name in MECHANISMS:  # what needs a kernel is absent
        sign = replace(mechanisms.RECORDS[name].sign, look=lambda site: "", absent=f"no {name}")
        monkeypatch.setattr(type(mechanisms.RECORDS[name]), "sign", sign)
    machine = machine_of(pipe, delivers=delivers)
    assert detect(Site(DEVICES["alpha"], lambda: machine), declared) == found


# The tests of the real suite that take a VMM of whichever mechanism is tested.
SUITE = """
from ktests.test_delivery import test_before, test_between, test_burst
from ktests.test_delivery import test_devices_in_turn
from ktests.test_delivery import test_several_readers, test_zero
from ktests.test_format import test_identity, test_system_value, test_value
from ktests.test_format import test_value_of_32_bits, test_wide_value
"""

CONFTEST = f"""
import pytest
from ktests.conftest import *
from ktests.pci import PciDevice
from ktests.mechanisms.pipe import Machine

@pytest.fixture
def devices():
    return {DEVICES!r}

@pytest.fixture
def bind(devices):
    return devices.__getitem__

@pytest.fixture
def firmware(job):
    return Machine(delivers=job.mechanism == "pipe")

@pytest.fixture
def family():
    return None
"""

# The guest's end of a run, but for the channel's device and the kernel's log.
GUEST = """
import json, sys
from pathlib import Path
import pytest
from ktests import contract, mechanisms
extra, suite, records, kmsg, table, message = sys.argv[1:]
mechanisms.__path__.append(extra)
mechanisms.RECORDS.update(mechanisms.find())
from ktests import session
from ktests.channel import Channel
from ktests.recorder import Job, Recorder
asked = contract.JobMessage.read(json.loads(message))
job = Job(
    mechanism=asked.mechanism,
    machine={},
    expression=asked.expression,
    done=frozenset(asked.done),
    requirements=json.loads(Path(table).read_text()),
    limit=asked.limit,
)
session.SUITE = Path(suite)
plugins = [Recorder(job, Channel(Path(records)), kmsg=Path(kmsg))]
sys.exit(pytest.main(session.options("-p", "no:terminal"), plugins=plugins))
"""

PROMISED = (
    *("REQ-EVT-07", "REQ-EVT-08", "REQ-EVT-09", "REQ-EVT-11", "REQ-EVT-12"),
    *("REQ-DEL-01", "REQ-DEL-03", "REQ-DEL-08", "REQ-DEL-09", "REQ-DEL-10"),
)


def table_of(tmp_path: Path) -> dict[str, requirements.Requirement]:
    """The section of a table that says what the third mechanism promises, in two forms."""
    known = requirements.load()
    (tmp_path / "requirements.toml").write_text(
        "".join(
            f"[{name}]\ntext = {json.dumps(known[name].text)}\nneeds = ['pipe']\n"
            for name in PROMISED
        )
    )
    (tmp_path / "requirements.json").write_text(
        json.dumps({name: {"text": known[name].text, "needs": ["pipe"]} for name in PROMISED})
    )
    return requirements.load(tmp_path / "requirements.toml")


def judged(tmp_path: Path, mechanism: str) -> Judgement:
    """Run the suite for a job of that mechanism, and judge what came of it."""
    suite = tmp_path / "suite"
    suite.mkdir(exist_ok=True)
    (suite / "conftest.py").write_text(CONFTEST)
    (suite / "test_pipe.py").write_text(SUITE)
    for name in ("records", "kmsg"):
        (tmp_path / name).write_text("")
    table = table_of(tmp_path)
    job = JobMessage(mechanism, detect=False, expression="", done=(), limit=60.0).message()
    files = [FOLDER, suite, *(tmp_path / name for name in ("records", "kmsg", "requirements.json"))]
    run = subprocess.run(
        [sys.executable, "-c", GUEST, *map(str, files), json.dumps(job)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = protocol.Transcript().add(protocol.Hello(PROTOCOL, "7.3.4", "3.11"))
    for record in protocol.Decoder().feed((tmp_path / "records").read_bytes()):
        told = told.add(record)
    assert told.collected, run.stdout + run.stderr
    done = told.add(protocol.Done())
    return judge(table, [SeriesRun("x", mechanism, (VmRun(done, (), Ending.DONE),))])


def test_runs_the_suite_and_is_judged(tmp_path: Path) -> None:
    judgement = judged(tmp_path, "pipe")
    assert [test for test in judgement.tests if not test.ok] == []
    assert judgement.exit_code is ExitCode.PASS, judgement
    assert {test.requirement for test in judgement.tests} == set(PROMISED)
    assert {test.outcome for test in judgement.tests} == {Outcome.PASS}
    assert "test_pipe.py::test_value[pipe-0x81]" in {test.id for test in judgement.tests}


def test_fails_on_the_kernel_without_it(tmp_path: Path) -> None:
    """The negative control runs all of its tests, and each has to fail."""
    judgement = judged(tmp_path, NONE)
    assert judgement.exit_code is ExitCode.PASS, judgement
    assert {test.outcome for test in judgement.tests} == {Outcome.FAIL}


def test_the_host_needs_nothing_of_the_suite_but_the_contract() -> None:
    program = "import sys, kpatch.run.runner, kpatch.verdict.judge; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    ours = {name for name in run.stdout.split() if name.partition(".")[0] == KTESTS.name}
    assert ours == {"ktests", "ktests.contract"}
