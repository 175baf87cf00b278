# SPDX-License-Identifier: GPL-2.0-only
"""A mechanism of the user's own (MECHANISM=folder): what is refused, what runs, what is shown.

On a kernel: the example of docs/add-a-mechanism.md, and modules that raise or hang.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kpatch.checks import behaviour
from kpatch.errors import HarnessError
from kpatch.model import MechanismFolder
from kpatch.pipeline import Pipeline, RunRequest
from kpatch.report import junit, result, tables
from kpatch.run import protocol
from kpatch.run.protocol import Collected
from kpatch.run.vm_run import Ending, VmRun
from kpatch.series import catalog, mechanism_folder
from kpatch.tables.limits import Limits
from kpatch.tables.mechanisms import MECHANISMS
from kpatch.tables.outcomes import CheckOutcome, ExitCode, Outcome
from kpatch.tables.paths import PROJECT
from kpatch.verdict import judge, requirements
from kpatch.vm import guest_image
from ktests import detection
from ktests import mechanism_folder as guest
from ktests.contract import MECHANISM_FOLDER, MECHANISM_NAME, NONE, PROTOCOL, UNDETECTED
from ktests.mechanism import Mechanism, Sign, Site
from tests import commandline, test_report, test_suite
from tests.commandline import Ended

ANYTHING: Any = object()

EXAMPLE = PROJECT / "examples" / "mechanism-2023"
PROPOSAL = EXAMPLE / "proposal.mbox"

TABLE = """\
name = "lamp"
description = "a lamp that blinks"
requirements = ["REQ-EVT-07", "REQ-DEL-08"]
[limits]
REQ-DEL-08 = "a lamp cannot show 0"
"""

# A record whose methods all raise; each fault below changes a line of it.
MODULE = """\
from ktests.mechanism import Mechanism, Sign

class Lamp(Mechanism):
    sign = Sign(lambda site: "on", text="on", absent="no lamp", rank=1)
    registered_by_binding = False
    refusal = None

    def vmm(self, device, firmware, family=None, *, open_method=None):
        raise OSError(19, "no lamp")

    def burst_source(self, device, firmware, *, buffer=None):
        raise OSError(19, "no lamp")

    def register(self, fd, family):
        raise OSError(19, "no lamp")

    def received(self, confined_process, device, since):
        return []

    def heard(self, messages, bdf):
        return []

RECORD = Lamp()
"""


def made(at: Path, table: str = TABLE, **modules: str) -> Path:
    """Make the folder of a mechanism with these modules (by name without the suffix)."""
    at.mkdir(exist_ok=True)
    (at / "mechanism.toml").write_text(table)
    for name, text in {"mechanism": MODULE, **modules}.items():
        (at / f"{name}.py").write_text(text)
    return at


# ---- the host reads the folder -----------------------------------------------------------------


def table(before: str, after: str) -> Callable[[Path], object]:
    """Return a function that changes the text ``before`` of mechanism.toml."""
    assert before in TABLE
    return lambda folder: (folder / "mechanism.toml").write_text(TABLE.replace(before, after))


def link(name: str, to: str) -> Callable[[Path], object]:
    """Return a function that makes ``name`` a symbolic link."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(to)

    return change


def pipe(folder: Path) -> None:
    """Make mechanism.py a FIFO, which nobody writes to."""
    (folder / "mechanism.py").unlink()
    os.mkfifo(folder / "mechanism.py")


def modules(folder: Path) -> None:
    """Make more modules than there may be."""
    for number in range(mechanism_folder.MOST_MODULES):
        (folder / f"m{number}.py").write_text("")


GRAMMAR = "; docs/add-a-mechanism.md has the grammar"
NAME = (
    "name is not a word of lower-case letters, digits and single dashes, 40 at most, "
    "that begins with a letter"
)

# What is done to a sound folder, the file that the message names, and the rest of the message.
REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no table": (
        lambda folder: (folder / "mechanism.toml").unlink(),
        "/mechanism.toml",
        "is not there; docs/add-a-mechanism.md describes the folder",
    ),
    "no module": (
        lambda folder: (folder / "mechanism.py").unlink(),
        "/mechanism.py",
        "is not there; write the mechanism's record into it",
    ),
    "no TOML": (
        table("name =", "name"),
        "/mechanism.toml",
        "is no TOML: Expected '=' after a key in a key/value pair (at line 1, column 6); "
        "correct it",
    ),
    "unknown key": (
        table("[limits]", "limit = 1\n[limits]"),
        "/mechanism.toml",
        "has the unknown key 'limit'; known: name, description, requirements, limits" + GRAMMAR,
    ),
    "no name": (table('name = "lamp"\n', ""), "/mechanism.toml", "has no name" + GRAMMAR),
    "bad name": (
        table(
            "lamp",
            "Lamp",
        ),
        "/mechanism.toml",
        NAME + GRAMMAR,
    ),
    "name that is a path": (table('"lamp"', '"../lamp"'), "/mechanism.toml", NAME + GRAMMAR),
    "name of ours": (
        table('"lamp"', '"eventq"'),
        "/mechanism.toml",
        "name is 'eventq', a mechanism of the project; choose another one" + GRAMMAR,
    ),
    "reserved name": (
        table('"lamp"', '"none"'),
        "/mechanism.toml",
        "name is 'none', which has another meaning; choose another one" + GRAMMAR,
    ),
    "no description": (
        table('"a lamp that blinks"', '""'),
        "/mechanism.toml",
        "description is not one line of text" + GRAMMAR,
    ),
    "long description": (
        table("blinks", "blinks" * 100),
        "/mechanism.toml",
        "description has more than 300 characters" + GRAMMAR,
    ),
    "no list": (
        table('["REQ-EVT-07", "REQ-DEL-08"]', '"REQ-EVT-07"'),
        "/mechanism.toml",
        "requirements is no list of ids of requirements" + GRAMMAR,
    ),
    "claimed twice": (
        table('"REQ-DEL-08"]', '"REQ-DEL-08", "REQ-EVT-07"]'),
        "/mechanism.toml",
        "requirements names 'REQ-EVT-07' twice" + GRAMMAR,
    ),
    "limit of what is not claimed": (
        table("REQ-DEL-08 =", "REQ-DEL-09 ="),
        "/mechanism.toml",
        "limits 'REQ-DEL-09', which requirements does not claim" + GRAMMAR,
    ),
    "limit without a reason": (
        table('"a lamp cannot show 0"', '" "'),
        "/mechanism.toml",
        "limits of 'REQ-DEL-08' is not one line of text" + GRAMMAR,
    ),
    "unknown requirement": (
        table('"REQ-EVT-07", ', '"REQ-EVT-99", '),
        "/mechanism.toml",
        "claims REQ-EVT-99, which is no requirement; docs/evidence.md lists the requirements",
    ),
    "requirement of every kernel": (
        table('"REQ-EVT-07", ', '"REQ-INT-01", '),
        "/mechanism.toml",
        "claims REQ-INT-01, which every kernel has to meet; leave it out: its tests run in any "
        "case",
    ),
    "requirement of the relay": (
        table('"REQ-EVT-07", ', '"REQ-VMM-20", '),
        "/mechanism.toml",
        "claims REQ-VMM-20, which no kernel has to meet; leave it out: it is about the VMM's relay",
    ),
    "large table": (
        table("[limits]", "# " + "x" * (65 << 10) + "\n[limits]"),
        "/mechanism.toml",
        "is larger than 64 KiB; shorten it",
    ),
    "large module": (
        lambda folder: (folder / "mechanism.py").write_text("#" * (257 << 10)),
        "/mechanism.py",
        "is larger than 256 KiB; shorten it",
    ),
    "many modules": (modules, "", "has more than 16 modules; join some of them"),
    "module of the library": (
        lambda folder: (folder / "struct.py").write_text(""),
        "/struct.py",
        "has the name of a module that the guest has; rename it",
    ),
    "link that leads out": (
        link("mechanism.py", "/etc/passwd"),
        "/mechanism.py",
        "is a link that leads out of the folder; copy the file",
    ),
    "table that is a link": (
        link("mechanism.toml", "../other.toml"),
        "/mechanism.toml",
        "is a link that leads out of the folder; copy the file",
    ),
    "device": (
        link("lamp.py", "/dev/zero"),
        "/lamp.py",
        "is a link that leads out of the folder; copy the file",
    ),
    "pipe": (pipe, "/mechanism.py", "is no regular file; replace it"),
    "folder": (
        lambda folder: (folder / "lamp.py").mkdir(),
        "/lamp.py",
        "is no regular file; replace it",
    ),
    "not UTF-8": (
        lambda folder: (folder / "lamp.py").write_bytes(b"\xff"),
        "/lamp.py",
        "is not UTF-8; convert it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_folder_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    change, file, message = REFUSED[name]
    folder = made(tmp_path / "lamp")
    change(folder)
    with pytest.raises(HarnessError) as refused:
        requirements.load(folder=mechanism_folder.load(str(folder)))
    assert str(refused.value) == f"{folder}{file}: {message}"
    assert refused.value.code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("argument", "cause"),
    [("lammp", "is no known mechanism and no folder"), (__file__, "is no folder")],
)
@pytest.mark.parametrize("command", ["test", "check"])
def test_no_folder(tmp_path: Path, command: str, argument: str, cause: str) -> None:
    """The message comes before anything is downloaded."""
    (tmp_path / "x.mbox").write_text(commandline.PATCH)
    words = (command, "--series", str(tmp_path / "x.mbox"), "--mechanism", argument)
    place = str(tmp_path / "cache")
    ended = commandline.run(*words, out=tmp_path / "out", VFIO_ACPI_CACHE=place)
    assert ended.code == ExitCode.USAGE
    hint = f"choose from {', '.join(MECHANISMS)}, or give a folder with mechanism.toml and "
    assert f"MECHANISM={argument}: {cause}; {hint}mechanism.py" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert not (tmp_path / "cache" / "trees").exists()


def test_a_carried_series_has_its_own_mechanism(tmp_path: Path) -> None:
    folder = str(made(tmp_path / "lamp"))
    for series in ((), ("eventq",), ("base", "eventq")):
        with pytest.raises(HarnessError, match=r"MECHANISM=\S+: no series of the run has this"):
            _ = Pipeline(RunRequest(series=series, mechanism=folder), progress=ANYTHING).folder
    for series in (("base",), ("x.mbox",), ("eventq", "x.mbox")):
        found = Pipeline(RunRequest(series=series, mechanism=folder), progress=ANYTHING).folder
        assert found is not None and found.name == "lamp"


def loaded(folder: Path) -> MechanismFolder:
    found = mechanism_folder.load(str(folder))
    assert found is not None
    return found


def test_what_is_read(tmp_path: Path) -> None:
    folder = made(tmp_path / "lamp", bulb="WATTS = 5\n")
    (folder / "series.mbox").write_text("not a module")
    found = loaded(folder)
    assert found.modules == {"mechanism.py": MODULE, "bulb.py": "WATTS = 5\n"}
    assert found.limits == {"REQ-DEL-08": "a lamp cannot show 0"}
    assert mechanism_folder.load("eventq") is mechanism_folder.load(None) is None


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    """And the key of the suite's image follows the digest."""
    folder = made(tmp_path / "lamp")
    found = [loaded(folder)]
    (folder / "bulb.py").write_text("")
    found.append(loaded(folder))
    table("cannot show", "does not show")(folder)
    found.append(loaded(folder))
    assert len({it.digest for it in found}) == 3
    keys = {guest_image.suite_key("{}", guest_image.Extras(mechanism=it)) for it in found}
    assert len(keys | {guest_image.suite_key("{}")}) == 4


def test_claims_are_added_to_the_table(tmp_path: Path) -> None:
    found = requirements.load(folder=loaded(made(tmp_path / "lamp")))
    plain = requirements.load()
    assert found["REQ-EVT-07"].needs == (*plain["REQ-EVT-07"].needs, "lamp")
    assert found["REQ-EVT-07"].expected("lamp") is Outcome.PASS
    assert found["REQ-DEL-08"].expected("lamp") is Outcome.XFAIL
    assert found["REQ-DEL-08"].limits["lamp"] == "mechanism.toml declares: a lamp cannot show 0"
    changed = {name for name, entry in found.items() if entry != plain[name]}
    assert changed == {"REQ-EVT-07", "REQ-DEL-08"}
    asked = requirements.asked(found, "lamp")
    assert asked == changed | {name for name, entry in plain.items() if entry.needs == ("any",)}


def test_the_command_that_repeats_works_anywhere(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(made(tmp_path / "lamp").parent)
    request = RunRequest(series=("x.mbox",), mechanism="lamp")
    (tmp_path / "x.mbox").write_text(commandline.PATCH)
    series = catalog.load_file(tmp_path / "x.mbox", mechanism="lamp")
    assert f"--mechanism {tmp_path}/lamp " in " ".join(request.command(series))


# ---- the guest imports the module --------------------------------------------------------------


def installed(at: Path, name: str = "lamp", **modules: str) -> Path:
    """Make the folder as the guest has it in its image."""
    folder = made(at / MECHANISM_FOLDER, **modules)
    (folder / MECHANISM_NAME).write_text(name)
    return folder


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what an import leaves behind."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", sys.modules)
    for name in ("lamp", "counter-2023"):
        monkeypatch.delitem(sys.modules, f"{MECHANISM_FOLDER}.{name}", raising=False)


@pytest.mark.usefixtures("path")
def test_sound_module(tmp_path: Path) -> None:
    folder = installed(tmp_path, mechanism="import bulb_of_lamp\n" + MODULE, bulb_of_lamp="")
    record = guest.load(folder)
    assert isinstance(record, Mechanism)
    assert record.name == "lamp"
    assert guest.load(tmp_path / "elsewhere") is None


@pytest.mark.usefixtures("path")
def test_example_is_sound(tmp_path: Path) -> None:
    found = loaded(EXAMPLE)
    requirements.load(folder=found)
    folder = installed(tmp_path, found.name, mechanism=found.modules["mechanism.py"])
    record = guest.load(folder)
    assert record is not None
    assert record.name == "counter-2023"


METHOD = "\n    def heard(self, messages, bdf):\n        return []\n"

# What is changed in a sound module, and the message.
FAULTY = {
    "raises": (
        "\nRECORD",
        "\n1 / 0\nRECORD",
        "mechanism.py:N: ZeroDivisionError: division by zero",
    ),
    "exits": ("\nRECORD", "\nimport sys\nsys.exit(3)\nRECORD", "mechanism.py:N: SystemExit: 3"),
    "interrupts": (
        "\nRECORD",
        "\nraise KeyboardInterrupt\nRECORD",
        "mechanism.py:N: KeyboardInterrupt",
    ),
    "syntax": ("RECORD =", "RECORD = =", "mechanism.py:N: SyntaxError: invalid syntax"),
    "import": (
        "RECORD",
        "import there_is_none\nRECORD",
        "mechanism.py:N: ModuleNotFoundError: No module named 'there_is_none'",
    ),
    "no record": ("RECORD", "RECORDS", "mechanism.py: has no RECORD"),
    "no method": (
        METHOD,
        "",
        "mechanism.py:N: TypeError: Can't instantiate abstract class Lamp "
        f"with{'out an implementation for' if sys.version_info >= (3, 12) else ''} abstract method "
        f"{chr(39) * (sys.version_info >= (3, 12))}heard{chr(39) * (sys.version_info >= (3, 12))}",
    ),
    "other record": (
        "RECORD = Lamp()",
        "RECORD = 7",
        "mechanism.py: RECORD is no instance of ktests.mechanism.Mechanism: 7",
    ),
    "no attribute": ("    refusal = None\n", "", "mechanism.py: RECORD has no refusal"),
    "wrong attribute": (
        "refusal = None",
        "refusal = 'none'",
        "mechanism.py: RECORD.refusal has a wrong type: 'none'",
    ),
    "parameters": (
        "def register(self, fd, family)",
        "def register(self, fd)",
        "mechanism.py: RECORD.register() does not take the parameters fd, family",
    ),
    "keyword": (
        ", *, buffer=None",
        "",
        "mechanism.py: RECORD.burst_source() does not take the parameters device, firmware, buffer",
    ),
    "control characters": (
        "\nRECORD",
        "\nraise ValueError('a\\x1b[2Jb\\u202e')\nRECORD",
        "mechanism.py:N: ValueError: a?[2Jb?",
    ),
}


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", FAULTY)
def test_faulty_module_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    before, after, message = FAULTY[name]
    assert before in MODULE
    folder = installed(tmp_path, mechanism=MODULE.replace(before, after))
    with pytest.raises(guest.FaultyError) as faulty:
        guest.load(folder)
    assert re.sub(r"py:\d+:", "py:N:", str(faulty.value)) == message


@pytest.mark.usefixtures("path")
def test_record_from_elsewhere(tmp_path: Path) -> None:
    text = "from lamp_from_elsewhere import RECORD\n"
    folder = installed(tmp_path, mechanism=text, lamp_from_elsewhere=MODULE)
    with pytest.raises(guest.FaultyError, match="RECORD is not defined here, but in lamp_from_e"):
        guest.load(folder)


def signed(tmp_path: Path, look: str) -> Sign:
    """Return the sign of a mechanism whose function ``look`` has this body."""
    module = f"def look(site):\n    {look}\n\n" + MODULE.replace('lambda site: "on"', "look")
    record = guest.load(installed(tmp_path, mechanism=module))
    assert record is not None
    return record.sign


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("look", "message"),
    [
        ("raise SystemExit(1)", "mechanism.py:2: SystemExit: 1"),
        (
            "site.nothing",
            "mechanism.py:2: AttributeError: 'object' object has no attribute 'nothing'",
        ),
        ("raise NotImplementedError", "mechanism.py:2: NotImplementedError"),
        ("return None", "mechanism.py: Sign.look returns no text: None"),
    ],
)
def test_fault_of_look(tmp_path: Path, look: str, message: str) -> None:
    with pytest.raises(guest.FaultyError) as faulty:
        detection.detect(ANYTHING, UNDETECTED, {"lamp": signed(tmp_path, look)})
    assert str(faulty.value) == message


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("look", "index", "found"),
    [
        # Its own sign alone decides, although the kernel has something on the index of a known one.
        ('return "on"', "flags 0x9", ("lamp", "on", ["lamp"])),
        ('return ""', "", ("undetected", "no lamp; index 5 is not there", ["lamp", "eventfd"])),
        ('return "dim"', "", ("unknown", "dim", ["lamp", "eventfd"])),
        ('return ""', "flags 0x9", ("unknown", "flags 0x9", ["lamp", "eventfd"])),
        (
            'raise OSError(5, "dark")',
            "",
            (
                "unknown",
                "the look for lamp fails: mechanism.py:2: OSError: [Errno 5] dark",
                ["lamp", "eventfd"],
            ),
        ),
    ],
)
@pytest.mark.parametrize("declared", ["lamp", "undetected"])
def test_own_sign_comes_first(
    tmp_path: Path, declared: str, look: str, index: str, found: tuple[str, str, list[str]]
) -> None:
    own, known, looked = signed(tmp_path, look), detection.signs()["eventfd"], []

    def seeing(name: str, sign: Sign) -> Sign:
        def seen(site: Site) -> str:
            looked.append(name)
            return sign.look(site)

        return dataclasses.replace(sign, look=seen)

    table = {"eventfd": dataclasses.replace(known, look=lambda _: index), "lamp": own}
    ordered = sorted(table.items(), key=lambda item: item[1].rank)
    seen = detection.detect(ANYTHING, declared, {name: seeing(name, it) for name, it in ordered})
    assert (seen.mechanism, seen.how, looked) == found


# ---- the guest runs tests with it ----------------------------------------------------------------

# The guest's end of a run, but for the channel's device and the kernel's log.
GUEST = """
import json, sys
from pathlib import Path
import pytest
from ktests import mechanism_folder, session
from ktests.channel import Channel
from ktests.recorder import Job, Recorder
suite, records, kmsg, table, mechanism = sys.argv[1:]
assert session.add_own_mechanism()
session.SUITE = Path(suite)
requirements = json.loads(Path(table).read_text())
job = Job(mechanism, {}, "", frozenset(), requirements, 60.0)
plugins = [Recorder(job, Channel(Path(records)), kmsg=Path(kmsg))]
sys.exit(pytest.main(session.options("-p", "no:terminal"), plugins=plugins))
"""

SUITE = """
import pytest

@pytest.mark.requirement("REQ-EVT-07")
@pytest.mark.parametrize("value", [1, 2])
def test_value(mechanism, value):
    mechanism.vmm(None, None)

@pytest.mark.requirement("REQ-DEL-08")
def test_zero(mechanism):
    assert not mechanism.heard([], "")
    assert mechanism.name == "candle"
"""


def ran(tmp_path: Path, vmm: str, mechanism: str = "lamp") -> protocol.Transcript:
    """Run SUITE in a process with a mechanism whose method vmm() does ``vmm``."""
    root = tmp_path / "root"
    root.mkdir()
    for name in guest_image.SUITE:
        (root / name).symlink_to(PROJECT / name)
    text = MODULE.replace('raise OSError(19, "no lamp")', vmm, 1)
    found = loaded(installed(root, mechanism=text))
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_lamp.py").write_text(SUITE)
    for name in ("records", "kmsg"):
        (tmp_path / name).write_text("")
    entries = requirements.load(folder=found)
    (tmp_path / "table.json").write_text(
        json.dumps(
            {
                name: {"needs": ["lamp"], "limits": dict(entries[name].limits)}
                for name in found.requirements
            }
        )
    )
    files = [suite, *(tmp_path / name for name in ("records", "kmsg", "table.json"))]
    run = subprocess.run(
        [sys.executable, "-c", GUEST, *map(str, files), mechanism],
        env={"PYTHONPATH": str(root), "PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    told = protocol.Transcript().add(protocol.Hello(PROTOCOL, "7.3.4", "3.11"))
    for record in protocol.Decoder().feed((tmp_path / "records").read_bytes()):
        told = told.add(record)
    assert told.collected, run.stdout + run.stderr
    assert told.broken == ()
    return told


def test_tests_run_with_it(tmp_path: Path) -> None:
    told = ran(tmp_path, "return None")
    ended = {name.partition("::")[2]: end.outcome for name, end in told.ended.items()}
    # The limit is declared; assertions of the test fail.
    assert ended == {
        "test_value[lamp-1]": Outcome.PASS,
        "test_value[lamp-2]": Outcome.PASS,
        "test_zero[lamp]": Outcome.XFAIL,
    }
    [zero] = (end for end in told.ended.values() if end.outcome is Outcome.XFAIL)
    assert zero.message == "mechanism.toml declares: a lamp cannot show 0"
    assert told.faulty == ""


@pytest.mark.parametrize(
    ("vmm", "cause"),
    [
        ("raise OSError(19, 'no lamp')", ""),
        ("assert device", ""),
        ("sys.exit(1)", "mechanism.py:9: NameError: name 'sys' is not defined"),
        ("raise SystemExit('off')", "mechanism.py:9: SystemExit: off"),
        ("raise KeyboardInterrupt", "mechanism.py:9: KeyboardInterrupt"),
        (
            "return 1 + ''",
            "mechanism.py:9: TypeError: unsupported operand type(s) for +: 'int' and 'str'",
        ),
        ("import pytest; pytest.exit('bye')", "mechanism.py:9: _pytest.outcomes.Exit: bye"),
    ],
)
@pytest.mark.parametrize("mechanism", ["lamp", NONE])
def test_fault_in_a_test_ends_the_session(
    tmp_path: Path, mechanism: str, vmm: str, cause: str
) -> None:
    """On the control too: there, a failure by the module's fault would be the expected one."""
    told = ran(tmp_path, vmm, mechanism)
    assert told.faulty == cause
    assert (len(told.ended) < 3) == bool(cause)


# ---- the host runs the VM ------------------------------------------------------------------------


def played(tmp_path: Path, script: str, **selection: Any) -> HarnessError:
    """Play a guest with the mechanism "lamp", and return the error with which the run ends."""
    folder = loaded(made(tmp_path / "lamp"))
    wanted = {"mechanism": "lamp", "detect": True, "folder": folder, **selection}
    with pytest.raises(HarnessError) as refused:
        test_suite.play(tmp_path, script, **wanted)
    assert "\n" not in str(refused.value)
    return refused.value


HELLO = f'tell("hello", protocol={PROTOCOL}, release="7.3.4", python="3.11.2"); hear()\n'


def test_fault_ends_the_run(tmp_path: Path) -> None:
    error = played(tmp_path, HELLO + 'tell("faulty", cause="mechanism.py:7: E: x"); forever()')
    assert str(error) == (
        f"{tmp_path}/lamp/mechanism.py: has a fault: mechanism.py:7: E: x; "
        "correct it; the console log has the traceback"
    )
    assert error.code is ExitCode.USAGE


COLLECTED = 'tell("collected", tests=[{"id": "t::a[0x81-lamp]", "requirement": "R"}])\n'
BEGIN = 'begin("t::a[0x81-lamp]", 0.5)\n'


@pytest.mark.parametrize(
    ("script", "mechanism", "cause"),
    [
        ("", "lamp", "its import did not end within 1 s"),
        ("", NONE, "its import did not end within 1 s"),
        ('tell("loaded")\n', "lamp", "Sign.look did not return within 1 s"),
        (
            f'tell("loaded")\n{COLLECTED}{BEGIN}',
            NONE,
            "t::a[0x81-lamp] did not end within 0.5 s on the unpatched kernel",
        ),
    ],
)
def test_hang_ends_the_run(tmp_path: Path, script: str, mechanism: str, cause: str) -> None:
    limits = Limits(boot=1, test=1, run=30)
    detect = mechanism != NONE
    script = HELLO + script + "monitor()\nforever()"
    error = played(tmp_path, script, mechanism=mechanism, detect=detect, limits=limits)
    assert str(error) == (
        f"{tmp_path}/lamp/mechanism.py: {cause}; correct it; the console log has the stacks"
    )
    assert error.code is ExitCode.HANG


@pytest.mark.parametrize(
    ("mechanism", "test"),
    [("lamp", "t::a[0x81-lamp]"), (NONE, "t::a[0x81-netlink]"), (NONE, "t::a[lamps]")],
)
def test_hang_that_the_module_need_not_have_caused(
    tmp_path: Path, mechanism: str, test: str
) -> None:
    folder = loaded(made(tmp_path / "lamp"))
    script = f'tell("loaded")\n{COLLECTED}{BEGIN}'.replace("t::a[0x81-lamp]", test)
    runs, _ = test_suite.play(
        tmp_path,
        HELLO + script + "monitor()\nforever()",
        mechanism=mechanism,
        folder=folder,
        limits=Limits(boot=1, test=1, run=30),
    )
    assert [run.ending for run in runs] == [Ending.TEST_LIMIT]


def test_kernel_that_shows_another_mechanism(tmp_path: Path) -> None:
    script = HELLO + 'tell("loaded")\ntell("detected", mechanism="eventq", how="x")\nforever()'
    error = played(tmp_path, script)
    assert str(error).startswith("MECHANISM=lamp: the kernel shows eventq: x; leave MECHANISM out")


def test_guest_without_a_folder_cannot_end_the_run(tmp_path: Path) -> None:
    """No mechanism of the user's own is there to be blamed."""
    script = HELLO + 'tell("faulty", cause="x")\n' + COLLECTED + 'tell("done")\nforever()'
    runs, _ = test_suite.play(tmp_path, script)
    assert [run.ending for run in runs] == [Ending.DONE]
    assert runs[0].transcript.broken == ("faulty without a mechanism of the user's own",)


# ---- what is shown -------------------------------------------------------------------------------


def judged(mechanism: str, outcomes: dict[str, Outcome], tmp_path: Path) -> judge.Judgement:
    """Judge a run whose tests, one for each requirement, had these outcomes."""
    table = requirements.load(folder=loaded(made(tmp_path / "lamp")))
    tests = tuple(Collected.Test(f"t.py::{name}", name) for name in outcomes)
    ended = {
        f"t.py::{name}": protocol.End(f"t.py::{name}", it, 1.0) for name, it in outcomes.items()
    }
    told = protocol.Transcript(collected=tests, ended=ended, done=True)
    run = judge.SeriesRun("x", mechanism, (VmRun(told, (), Ending.DONE),))
    return judge.judge(table, [run], complete=False)


def test_what_passes_on_the_control_is_refused(tmp_path: Path) -> None:
    outcomes = {"REQ-EVT-07": Outcome.PASS, "REQ-DEL-08": Outcome.FAIL}
    judgement = judged(NONE, outcomes, tmp_path)
    assert judgement.exit_code is ExitCode.FAIL
    [bad] = (test for test in judgement.tests if not test.ok)
    assert (bad.requirement, bad.message) == ("REQ-EVT-07", "passes without the series")


def test_limit_that_is_none(tmp_path: Path) -> None:
    judgement = judged("lamp", {"REQ-DEL-08": Outcome.PASS}, tmp_path)
    assert judgement.exit_code is ExitCode.FAIL
    assert judgement.tests[0].message == (
        "passes although “mechanism.toml declares: a lamp cannot show 0” is documented as a limit"
    )


@pytest.fixture
def shown() -> result.RunResult:
    """A run with a declared limit that its test has shown."""
    good = test_report.GOOD
    folder = result.FolderInfo("lamps/lamp", "it blinks", "0" * 16, {"REQ-EVT-05": "dark"})
    series = dataclasses.replace(good.series[1], mechanism="lamp", folder=folder)
    return dataclasses.replace(good, series=(good.series[0], series))


def test_declared_limits_are_in_the_text(shown: result.RunResult) -> None:
    text = tables.render(shown)
    assert "netlink: mechanism lamp, of lamps/lamp: it blinks\n" in text
    line = "netlink: REQ-EVT-05 is a limit that the mechanism's author declares: dark\n"
    assert line in text
    assert text.splitlines()[-1] == (
        "pass, but for 1 declared limit: 7.3.4 (plain, tcg), 2 passed, 3 failed as expected, "
        "1 at a limit that the mechanism's author declares, 41s; exit 0: every requirement holds, "
        "and the negative control fails where it must"
    )


def test_known_limits_are_told_as_before() -> None:
    assert "pass: 7.3.4 (plain, tcg), 2 passed, 3 failed as expected, 1 at a known limit, 41s" in (
        tables.summary(test_report.GOOD)
    )


def test_declared_limits_are_in_the_files(shown: result.RunResult, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(result.dump(shown))
    assert result.load(tmp_path / "result.json") == shown
    assert b'name="declared limit of REQ-EVT-05" value="dark"' in junit.render(shown)


def test_declared_limits_are_findings_of_a_review() -> None:
    def test(requirement: str, outcome: Outcome) -> judge.TestResult:
        return judge.TestResult("t", requirement, "x", outcome, outcome, True)

    done: Any = SimpleNamespace(
        limits={"REQ-DEL-08": "dark", "REQ-EVT-07": "not run"},
        tests=[test("REQ-DEL-08", Outcome.XFAIL), test("REQ-EVT-08", Outcome.XFAIL)],
    )
    [finding] = behaviour._limits(done)
    assert finding.outcome is CheckOutcome.WARN
    assert finding.text == "REQ-DEL-08 is not met, a limit that mechanism.toml declares: dark"


# ---- on kernels ----------------------------------------------------------------------------------


def copied(tmp_path: Path, before: str, after: str) -> Path:
    """Copy the example's mechanism, with a change in its module."""
    folder = tmp_path / "mechanism"
    shutil.copytree(EXAMPLE, folder)
    text = (folder / "mechanism.py").read_text()
    assert before in text
    (folder / "mechanism.py").write_text(text.replace(before, after))
    return folder


def run_with(tmp_path: Path, folder: Path, series: str, tests: str, *more: str) -> Ended:
    words = ("--kernel", "6.1", "--series", series, "--mechanism", str(folder), "--tests", tests)
    return commandline.run("test", *words, *more, out=tmp_path / "out")


@pytest.mark.vm
def test_example(tmp_path: Path) -> None:
    """Its uAPI is index 5, as that of the eventfd series; it is judged by its own record."""
    ended = run_with(
        tmp_path, EXAMPLE, str(PROPOSAL), "counter-2023 and (0xd1 or EVT-16 or REQ-DEL-08)"
    )
    assert ended.code == ExitCode.FAIL
    outcomes = {(test.series, test.requirement): test.outcome for test in ended.result.tests}
    assert outcomes == {
        **{("base", name): "fail" for name in ("REQ-EVT-07", "REQ-EVT-16", "REQ-DEL-08")},
        ("proposal", "REQ-EVT-07"): "pass",
        ("proposal", "REQ-EVT-16"): "xfail",
        ("proposal", "REQ-DEL-08"): "fail",
    }
    assert {test.ok for test in ended.result.tests if test.series == "base"} == {True}
    assert "but for 1 declared limit: 6.1." in ended.stdout


@pytest.mark.vm
def test_module_that_raises(tmp_path: Path) -> None:
    folder = copied(tmp_path, "RECORD = Counter()", "RECORD = Counter(7)")
    ended = run_with(tmp_path, folder, "base", "REQ-INT-01")
    assert (ended.code, ended.verdict) == (ExitCode.USAGE, "usage")
    assert ended.told(
        rf"{folder}/mechanism\.py: has a fault: mechanism\.py:\d+: TypeError: Counter\(\) takes no "
        "arguments; correct it; the console log has the traceback"
    )
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "Traceback" in (tmp_path / "out" / "console-base-1.log").read_text(errors="replace")


@pytest.mark.vm
def test_module_that_hangs(tmp_path: Path) -> None:
    folder = copied(
        tmp_path,
        "    vmm_type = CounterVmm\n",
        "    def vmm(self, *_, **__):\n        while True:\n            pass\n\n",
    )
    ended = run_with(
        tmp_path, folder, "base", "test_value and counter-2023 and 0xd1", "--test-limit", "5"
    )
    assert (ended.code, ended.verdict) == (ExitCode.HANG, "hang")
    assert ended.told(
        rf"{folder}/mechanism\.py: test_format\.py::test_value\[counter-2023-0xd1\] did not end "
        "within 5 s on the unpatched kernel; correct it; the console log has the stacks"
    )
    assert "Traceback" not in ended.stdout + ended.stderr
