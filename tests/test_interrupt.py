# SPDX-License-Identifier: GPL-2.0-only
"""A run that is stopped in any stage, and runs in parallel: nothing is left, the next run works."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kpatch.lib import cache
from kpatch.tables.outcomes import ExitCode
from tests import commandline, kerneltree
from tests.commandline import Ended, Run

INTERRUPTED = (
    r"vfio-acpi: interrupted; run the same command again to go on "
    r"\(exit 130: stopped by Ctrl-C or SIGTERM\)"
)
SIGNALS = (signal.SIGINT, signal.SIGTERM)

# The end of a run of a series that only changes a comment.
NOTHING_JUDGED = (ExitCode.NOT_JUDGED, "not-judged")

# A script in place of a tool: it writes its pid to a file, then sleeps for 600 s.
SLOW = 'case "$*" in *{word}*) echo $$ > {reached}; exec sleep 600 ;; esac\nexec {tool} "$@"'

# Code that Python runs at its start: the import of one module takes for ever.
SLOW_IMPORT = """\
import pathlib, sys, time

class Slow:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {!r}:
            pathlib.Path({!r}).touch()
            time.sleep(600)

sys.meta_path.insert(0, Slow)
"""


def expect_interrupted(ended: Ended, stage: str) -> None:
    """Check the result of an interrupted ``kpatch test``. ``stage`` is the interrupted stage."""
    assert (ended.code, ended.verdict) == (ExitCode.INTERRUPTED, "interrupted"), ended.stderr
    assert ended.told(INTERRUPTED)
    assert ended.result.stages[-1].name == stage


def slow(folder: Path, tool: str, word: str) -> tuple[str, Path]:
    """Return a PATH whose ``tool`` hangs if an argument has ``word``, and the file it writes."""
    real = commandline.which(tool)
    script = SLOW.format(word=word, reached=folder / "reached", tool=real)
    return commandline.path_with(folder / "bin", tool, script), folder / "reached"


@pytest.mark.parametrize("number", SIGNALS)
def test_source(tmp_path: Path, number: signal.Signals) -> None:
    archive = tmp_path / "linux.tar.xz"
    kerneltree.pack(kerneltree.make(tmp_path / "linux"), archive)
    place = {"VFIO_ACPI_CACHE": str(tmp_path / "cache")}
    path, reached = slow(tmp_path, "xz", "")
    options = ("test", "--kernel", str(archive))
    with commandline.running(*options, out=tmp_path / "out", PATH=path, **place) as run:
        run.wait_for(reached.exists)
        run.signal(number)
        expect_interrupted(run.end(), "source")
    assert kerneltree.leftovers(tmp_path / "cache") == []
    again = commandline.run("source", "--kernel", str(archive), out=tmp_path, **place)
    assert again.code == ExitCode.PASS
    assert (Path(again.stdout.strip()) / "Makefile").is_file()


@pytest.mark.parametrize("number", SIGNALS)
def test_apply(tmp_path: Path, number: signal.Signals) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    (tmp_path / "x.mbox").write_text(commandline.PATCH)
    place = {"VFIO_ACPI_CACHE": str(tmp_path / "cache")}
    path, reached = slow(tmp_path, "git", "mailsplit")
    options = ("--kernel", str(tree), "--series", str(tmp_path / "x.mbox"))
    with commandline.running("test", *options, out=tmp_path / "out", PATH=path, **place) as run:
        run.wait_for(reached.exists)
        run.signal(number)
        expect_interrupted(run.end(), "apply")
    again = commandline.run("apply", *options, out=tmp_path, **place)
    assert again.code == ExitCode.PASS
    assert "M drivers/vfio/vfio_main.c" in again.stdout.splitlines()


@pytest.mark.parametrize(
    ("module", "code", "told"),
    [
        # No handler is set yet: the signal kills the process, which prints nothing.
        ("click", -signal.SIGINT, ""),
        ("kpatch.cli", -signal.SIGINT, ""),
        ("kpatch.source.resolve", ExitCode.INTERRUPTED, INTERRUPTED),
    ],
)
def test_start(tmp_path: Path, module: str, code: int, told: str) -> None:
    """The signal arrives before the run, during the import of a module, which hangs here."""
    reached = tmp_path / "reached"
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT.format(module, str(reached)))
    options = ("--kernel", str(tmp_path / "nothing"))
    env = {"PYTHONPATH": str(tmp_path), "VFIO_ACPI_CACHE": str(tmp_path / "cache")}
    with commandline.running("source", *options, out=tmp_path, **env) as run:
        run.wait_for(reached.exists)
        run.signal(signal.SIGINT)
        ended = run.end(seconds=commandline.PROMPT, clean=code == ExitCode.INTERRUPTED)
    assert (ended.code, ended.stdout) == (code, "")
    assert re.fullmatch(told, ended.stderr.strip())


@dataclass(frozen=True)
class Stop:
    """A stage in which to stop a run, and the signal."""

    stage: str
    number: signal.Signals
    reached: Callable[[Run], None]


def started(stage: str) -> Callable[[Run], None]:
    """Return a condition: the stage has begun and takes some time."""
    return lambda run: run.wait_for_line(f"^{stage} stop: started")


def printed(text: str) -> Callable[[Run], None]:
    """Return a condition: the first VM has printed the text."""
    return lambda run: run.wait_for_console(text, "stop")


# Each run continues from the cache of the one before, and gets further.
STOPS = (
    Stop("config", signal.SIGINT, started("config")),
    Stop("config", signal.SIGTERM, started("config")),
    Stop("build", signal.SIGTERM, started("build")),
    Stop("build", signal.SIGINT, lambda run: run.wait_for_program("cc1")),
    Stop("suite", signal.SIGINT, printed("Linux version")),
    Stop("suite", signal.SIGTERM, printed("vfio_acpi: begin")),
)


@pytest.mark.vm
def test_every_later_stage(tmp_path: Path) -> None:
    with commandline.unique(tmp_path / "stop.mbox", kconfig=True) as mbox:
        options = ("--series", str(mbox), "--no-control", "--tests", "test_companion")
        for stop in STOPS:
            with commandline.running("test", *options, out=tmp_path / "out") as run:
                stop.reached(run)
                run.signal(stop.number)
                expect_interrupted(run.end(seconds=commandline.PROMPT), stop.stage)
        ended = commandline.run("test", *options, out=tmp_path / "out")
    assert (ended.code, ended.verdict) == NOTHING_JUDGED
    assert set(ended.outcomes().values()) == {"pass"}


@pytest.mark.vm
def test_machine(tmp_path: Path) -> None:
    """Stop while the guest's image is made. The cache has everything else."""
    options = ("test", "--series", "base", "--tests", "test_family")
    assert commandline.run(*options, out=tmp_path / "before").code == ExitCode.PASS
    (tmp_path / "cache").mkdir()
    for kind in ("trees", "bases", "config", "kernels", "selftests"):
        (tmp_path / "cache" / kind).symlink_to(cache.root() / kind)
    place = {"VFIO_ACPI_CACHE": str(tmp_path / "cache")}
    path, reached = slow(tmp_path, "mkfs.erofs", "")
    with commandline.running(*options, out=tmp_path / "out", PATH=path, **place) as run:
        run.wait_for(reached.exists)
        run.signal(signal.SIGINT)
        expect_interrupted(run.end(), "machine")
    assert [item.name for item in (tmp_path / "cache" / "runtime").iterdir()] == [cache.TAG]
    again = commandline.run(*options, out=tmp_path / "out", **place)
    assert (again.code, again.verdict) == (ExitCode.PASS, "pass")


@pytest.mark.vm
def test_impatience(tmp_path: Path) -> None:
    """The user presses Ctrl-C again and again."""
    options = ("--series", "base", "--tests", "test_companion")
    with commandline.running("test", *options, out=tmp_path / "out") as run:
        run.wait_for_console("Linux version", "base")
        while run.process.poll() is None:
            run.signal(signal.SIGINT)
            time.sleep(0.02)
        ended = run.end()
    assert ended.code == ExitCode.INTERRUPTED


@pytest.mark.vm
def test_killed_outright(tmp_path: Path) -> None:
    """After SIGKILL nothing can clean up, but no process may be left."""
    with commandline.unique(tmp_path / "stop.mbox") as mbox:
        options = ("--series", str(mbox), "--no-control", "--tests", "test_companion")
        stops = (lambda run: run.wait_for_program("cc1"), printed("vfio_acpi: begin"))
        for reached in stops:
            with commandline.running("test", *options, out=tmp_path / "out") as run:
                reached(run)
                os.kill(run.process.pid, signal.SIGKILL)
                assert run.end(clean=False).code == -signal.SIGKILL
        ended = commandline.run("test", *options, out=tmp_path / "out")
    assert (ended.code, ended.verdict) == NOTHING_JUDGED


@pytest.mark.vm
def test_two_runs_at_once(tmp_path: Path) -> None:
    with commandline.unique(tmp_path / "stop.mbox") as mbox:
        options = ("--series", str(mbox), "--no-control", "--tests", "test_companion")
        with commandline.running("test", *options, out=tmp_path / "one") as one:
            one.wait_for_program("cc1")
            with commandline.running("test", *options, out=tmp_path / "two") as two:
                same = commandline.run("test", *options, out=tmp_path / "one")
                assert same.code == ExitCode.USAGE
                assert same.told(
                    r"vfio-acpi: OUT=\S+/one: another run is writing there; choose another folder"
                    r" \(exit 2: .*\)"
                )
                both = (one.end(), two.end())
    assert [(ended.code, ended.verdict) for ended in both] == [NOTHING_JUDGED] * 2
    assert "waiting for another run that builds 7.3" in both[1].stderr
    assert [stage.cached for stage in both[1].result.stages if stage.name == "build"] == [True]
