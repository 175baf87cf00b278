# SPDX-License-Identifier: GPL-2.0-only
"""The command line as a process, with its own cache and OUT."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from kpatch import cli
from kpatch.abi import check
from kpatch.cli import request
from kpatch.dev import uapi_doc
from kpatch.lib import cache
from kpatch.model import Origin, Series
from kpatch.pipeline import RunRequest
from kpatch.series import catalog
from kpatch.tables.bases import BASES, DEFAULT_BASE
from kpatch.tables.flavors import DEFAULT_FLAVOR, FLAVORS
from kpatch.tables.limits import Limits
from kpatch.tables.outcomes import COMMAND_CODES, EXIT_MEANING, FAIL_MEANING, ExitCode, meanings
from kpatch.vm.accel import CHOICES
from tests import commandline, kerneltree

ROOT = Path(__file__).parent.parent
COMMANDS = sorted(cli.main.commands)


def kpatch(
    tmp_path: Path, *arguments: str, together: bool = False, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run kpatch. Of the caller's variables it gets only PATH.

    ``together``: stdout and stderr are one stream, in the order of printing.
    """
    env = {"PATH": os.environ["PATH"], "VFIO_ACPI_CACHE": str(tmp_path / "cache"), **variables}
    run = subprocess.run(
        [sys.executable, "-m", "kpatch", *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if together else subprocess.PIPE,
        text=True,
        check=False,
    )
    commandline.expect_known_code(arguments, run.returncode)
    return run


def test_commands() -> None:
    stages = {"source", "apply", "config", "build", "boot", "test", "shell", "clean"}
    assert stages <= set(COMMANDS)


def described(parameter: click.Parameter) -> bool:
    """Return whether the parameter has no default, or one that its help describes in words."""
    return parameter.required or isinstance(getattr(parameter, "show_default", None), str)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_default(tmp_path: Path, command: str) -> None:
    run = kpatch(tmp_path, command, "--help")
    assert run.returncode == 0
    shown = " ".join(run.stdout.split())
    options = {
        option
        for parameter in cli.main.commands[command].params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert all(option in shown for option in options)
    valued = [
        p for p in cli.main.commands[command].params if p.name in DEFAULTS and not described(p)
    ]
    for parameter in valued:
        assert parameter.name is not None
        own = f"--{parameter.name} "
        part = shown[shown.index(own) + len(own) :]
        part = re.split(r" --[a-z]", part)[0]
        assert f"default: {DEFAULTS[parameter.name]}" in part, (parameter.name, part)
    assert not (tmp_path / "cache").exists(), "help leaves nothing behind"


DEFAULTS = {
    "kernel": DEFAULT_BASE,
    "flavor": DEFAULT_FLAVOR,
    "accel": "auto",
    "out": "out",
    "jobs": os.cpu_count() or 1,
    "mechanism": "detected in the running kernel",
    "series": "base",
}


def test_help_names_what_there_is(tmp_path: Path) -> None:
    shown = " ".join(kpatch(tmp_path, "test", "--help").stdout.split())
    words = {word.strip(".") for word in re.split(r"[^\w.-]+", shown)}  # 6.1 is not in 6.12
    assert {*BASES, *FLAVORS, *CHOICES} <= words


def help_codes(tmp_path: Path, *arguments: str) -> dict[str, str]:
    """Return the exit codes in --help, with their meanings."""
    shown = " ".join(kpatch(tmp_path, *arguments, "--help").stdout.split())
    return dict(re.findall(r"(\d+) ([^;]+)(?:;|$)", shown.partition("Exit codes: ")[2]))


def test_exit_codes_are_the_table(tmp_path: Path) -> None:
    told = {str(code.value): meaning for code, meaning in EXIT_MEANING.items()}
    assert help_codes(tmp_path) == help_codes(tmp_path, "test") == told
    assert set(EXIT_MEANING) == set(ExitCode)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_its_exit_codes(tmp_path: Path, command: str) -> None:
    told = help_codes(tmp_path, command)
    assert told == {str(code.value): text for code, text in meanings(command).items()}
    assert set(COMMAND_CODES) == set(COMMANDS)
    # A command without a verdict must not list the meanings of verdicts.
    assert (told["0"] == EXIT_MEANING[ExitCode.PASS]) == (command == "test")
    assert ("1" in told) == (command in ("test", *FAIL_MEANING))


def test_findings_say_their_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = tuple(tmp_path / path.name for path in uapi_doc.DOCUMENTS)
    monkeypatch.setattr(uapi_doc, "DOCUMENTS", documents)

    def last_line(*arguments: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main.main([*arguments])
        return ended.value.code, capsys.readouterr().out.splitlines()[-1]

    assert last_line("reference", "--check") == (1, f"exit 1: {FAIL_MEANING['reference']}")
    assert last_line("reference") == (0, "exit 0: done")
    assert last_line("reference", "--check") == (0, "exit 0: done")
    documents[0].write_text("stale")
    assert last_line("reference", "--check") == (1, f"exit 1: {FAIL_MEANING['reference']}")
    assert documents[0].read_text() == "stale"
    for findings, code in ((["uapi has one too many"], 1), ([], 0)):
        outcome = check.Drift(kernels=1, differences=findings)
        monkeypatch.setattr(check, "compare_kernels", lambda *a, outcome=outcome, **k: outcome)
        line = f"exit {code}: {meanings('drift')[ExitCode(code)]}"
        assert last_line("drift") == (code, line)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("test", "--flavor", "nonsense"), "FLAVOR=nonsense: unknown flavor; choose from plain"),
        (("test", "--kernel", "9.9"), "KERNEL=9.9: "),
        (("source", "--kernel", "9.9"), "KERNEL=9.9: "),
        (("config", "--kernel", "/nonexistent"), "/nonexistent"),
        (("build", "--kernel", "9.9"), "KERNEL=9.9: "),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    run = kpatch(tmp_path, *arguments, OUT=str(tmp_path / "out"))
    assert run.returncode == ExitCode.USAGE
    assert said in run.stderr + run.stdout
    assert "Traceback" not in run.stderr + run.stdout
    assert len([line for line in run.stderr.splitlines() if line.startswith("vfio-acpi: ")]) <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("test", "--accel", "warp"), "'warp' is not one of 'auto', 'kvm', 'tcg'"),
        (("test", "--jobs", "0"), "0 is not in the range x>=1"),
        (("test", "--no-such"), "No such option"),
        (("explode",), "No such command 'explode'"),
        (("--no-such", "test"), "No such option"),
    ],
)
def test_usage(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    run = kpatch(tmp_path, *arguments)
    assert run.returncode == ExitCode.USAGE
    assert said in run.stderr
    assert run.stderr.splitlines()[-1] == f"exit 2: {EXIT_MEANING[ExitCode.USAGE]}"


def test_variables_are_options(tmp_path: Path) -> None:
    run = kpatch(tmp_path, "test", FLAVOR="nonsense", OUT=str(tmp_path / "out out"))
    assert run.returncode == ExitCode.USAGE
    result = json.loads((tmp_path / "out out" / "result.json").read_text())
    assert result["flavor"] == "nonsense"
    assert result["exit_code"] == ExitCode.USAGE
    lines = run.stdout.splitlines()
    assert lines[-2] == f"result: {tmp_path}/out out/result.json"
    assert lines[-1] == f"exit 2: {EXIT_MEANING[ExitCode.USAGE]}"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ((), "Missing option '--series'"),
        (("--series", "x.mbox"), "SERIES=x.mbox: no such file"),
        (("--series", "base", "--checks", "quick,bisekt"), "CHECKS=bisekt: no check of this name"),
        (("--series", "base", "--fail-on", "pass"), "'pass' is not one of 'warn', 'fail'"),
    ],
)
def test_check_refuses_bad_usage(tmp_path: Path, words: tuple[str, ...], cause: str) -> None:
    tree = str(kerneltree.make(tmp_path / "tree"))
    run = kpatch(tmp_path, "check", "--kernel", tree, "--out", str(tmp_path / "out"), *words)
    assert run.returncode == ExitCode.USAGE
    assert cause in run.stderr and "Traceback" not in run.stderr


def test_make_check_is_not_the_linters(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "VFIO_ACPI_CACHE": str(tmp_path / "cache")}

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        argv = ["make", "--no-print-directory", *words]
        return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    tree = kerneltree.make(tmp_path / "tree")
    run = make("check", "SERIES=x.mbox", f"KERNEL={tree}", f"OUT={tmp_path}/out")
    assert run.returncode != 0 and "SERIES=x.mbox: no such file" in run.stderr
    assert "exit 2: " in run.stderr, "and make's own last line follows"
    for target in ("lint", "test"):
        steps = make("--dry-run", target).stdout
        assert "ruff check" in steps and "mypy" in steps


def ends(folder: Path) -> dict[str, list[str]]:
    """Return a command for each way to end early."""
    (folder / "x.mbox").write_text(commandline.PATCH.replace("int vfio", "int other"))
    tree = str(kerneltree.make(folder / "tree"))
    (folder / "file").touch()
    return {
        "an error": ["apply", "--kernel", tree, "--series", str(folder / "x.mbox")],
        "bad input": ["source", "--kernel", "9.9"],
        "an OUT that is taken": ["test", "--out", str(folder / "file")],
        "bad usage": ["test", "--jobs", "0"],
        "no such command": ["explode"],
        "a verdict": ["test", "--kernel", "9.9", "--out", str(folder / "out")],
    }


@pytest.mark.parametrize(
    "name",
    [
        *("an error", "bad input", "an OUT that is taken", "bad usage", "no such command"),
        "a verdict",
    ],
)
def test_the_last_line_says_the_code(tmp_path: Path, name: str) -> None:
    run = kpatch(tmp_path, *ends(tmp_path)[name], together=True)
    assert run.returncode != ExitCode.PASS
    code = ExitCode(run.returncode)
    assert f"exit {code.value}: {EXIT_MEANING[code]}" in run.stdout.splitlines()[-1]


def test_a_fault_of_the_harness_says_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken() -> list[cache.Freed]:
        raise ValueError

    monkeypatch.setattr(cache, "clean", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main.main(["clean"])
    assert ended.value.code == ExitCode.LOST
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(f"please report it (exit 7: {EXIT_MEANING[ExitCode.LOST]})")
    )


X = "/a b/x.mbox"
FULL = RunRequest(
    kernel="6.12",
    series=(X,),
    flavor="debug",
    accel="tcg",
    tests="REQ-EVT and not burst",
    jobs=3,
    mechanism="netlink",
    control=False,
    untrusted=True,
    mutant="a.c:1: \tx ==> \ty",
    seed=7,
    limits=Limits(11, 12, 13),
)
FILE = Series("x", "x.mbox", "netlink", (Path(X),), Origin.MBOX)
NETLINK = Series("netlink", "", "netlink", (), Origin.CARRIED)


@pytest.mark.parametrize(
    ("asked", "one", "again"),
    [
        (FULL, FILE, FULL),
        (replace(FULL, control=True), FILE, replace(FULL, control=True)),
        (replace(FULL, series=("base", X)), FILE, replace(FULL, series=("base", X))),
        (replace(FULL, series=("netlink", X)), FILE, FULL),
        # The control comes first, so that its complaints are not blamed on the series.
        (RunRequest(), NETLINK, RunRequest(series=("base", "netlink"))),
        (RunRequest(), catalog.CONTROL, RunRequest(series=("base",))),
        (RunRequest(series=("netlink",)), NETLINK, RunRequest(series=("netlink",))),
        (RunRequest(series=("netlink", "base")), NETLINK, RunRequest(series=("netlink",))),
        (
            RunRequest("../linux@v7"),
            catalog.CONTROL,
            RunRequest(f"{Path.cwd()}/../linux@v7", ("base",)),
        ),
        (RunRequest("~/linux"), catalog.CONTROL, RunRequest("~/linux", ("base",))),
        (
            RunRequest("https://x/y#sha256=0"),
            catalog.CONTROL,
            RunRequest("https://x/y#sha256=0", ("base",)),
        ),
    ],
)
def test_the_repeat_command_asks_for_the_same(
    monkeypatch: pytest.MonkeyPatch, asked: RunRequest, one: Series, again: RunRequest
) -> None:
    for variable in commandline.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    program, *words = asked.command(one)
    assert (program, words[:3]) == (sys.executable, ["-m", "kpatch", "test"])
    parsed = cli.main.commands["test"].make_context("test", words[3:]).params
    [kernel] = parsed.pop("kernel")
    del parsed["out"], parsed["verbose"]
    assert request.test_request(kernel=kernel, **parsed) == again


def test_every_field_of_a_request_is_in_the_repeat_command() -> None:
    """FULL differs from the default in every field that an option of ``test`` sets, but one.

    ``refresh`` changes no result; ``negative`` is for reviews.
    """
    default = RunRequest()
    same = [name for name in vars(FULL) if getattr(FULL, name) == getattr(default, name)]
    assert same == ["negative", "refresh"]


def test_kernels_each_have_their_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    kernels = ("--kernel", "9.8", "--kernel", "9.9", "--kernel", "9.8")
    run = kpatch(tmp_path, "test", *kernels, "--out", str(out))
    assert run.returncode == ExitCode.USAGE
    assert sorted(path.name for path in out.iterdir()) == ["9.8", "9.9"]


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    run = kpatch(tmp_path, "test", "--out", str(tmp_path / "out"))
    assert run.returncode == ExitCode.USAGE
    assert run.stderr.startswith(f"vfio-acpi: OUT={tmp_path}/out: ")
    assert run.stderr.count("\n") == 1
    assert (tmp_path / "out").read_text() == "mine"


def test_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    run = kpatch(tmp_path, "source")
    assert run.returncode == ExitCode.USAGE
    assert run.stderr.startswith(f"vfio-acpi: cache {tmp_path}/cache: ")
    assert run.stderr.count("\n") == 1


def test_clean(tmp_path: Path) -> None:
    entry = tmp_path / "cache" / "kind" / "key"
    entry.mkdir(parents=True)
    (entry.parent / "CACHEDIR.TAG").touch()
    (entry / "file").write_bytes(b"x" * 3_000_000)
    run = kpatch(tmp_path, "clean")
    assert run.returncode == 0
    assert f"3.0 MB  {entry}" in run.stdout and "3.0 MB  freed" in run.stdout
    assert not entry.exists()


def test_output_that_nobody_reads(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as broken:
        status = subprocess.run(
            [sys.executable, "-m", "kpatch", "clean"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "VFIO_ACPI_CACHE": str(tmp_path)},
            stdout=broken,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert b"Traceback" not in status.stderr
