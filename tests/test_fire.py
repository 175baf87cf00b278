# SPDX-License-Identifier: GPL-2.0-only
"""The harness under fire: killed, many at once, a full disk, the cache of another version.

First an entry of the cache alone, then whole runs. Each test of a whole run has two forms: with
stand-ins for kernel and QEMU (tests/standin.py), and, marked ``fire``, with real ones. ``make
fire`` runs both. The moments are drawn by a seed, so that ``make fire SEED=…`` draws them again.
What a guest does to the harness is in test_suite.py, test_record.py and test_hostile_guest.py.
"""

from __future__ import annotations

import functools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kpatch.lib import cache
from kpatch.tables.outcomes import ExitCode
from tests import commandline, kerneltree
from tests.commandline import Ended, Run

# How often whole runs are killed. `make fire` says 20.
N = int(os.environ.get("FIRE_N", "4"))
SEED = int(os.environ.get("FIRE_SEED", "1"))

# Tests that take seconds in the guest. The unpatched kernel has to pass them.
WORDS = ("test", "--series", "base", "--tests", "test_companion")

# Kinds of cache entries that take minutes to make. A test that needs a cache of its own links them;
# the locks have to come along.
SLOW = (
    "trees",
    "bases",
    "config",
    "kernels",
    "worktrees",
    "ccache",
    "selftests",
    "headers",
    "locks",
)

# An entry is filled in twenty steps, by the process itself and by others. It says when it begins.
FILL = """\
import shutil, subprocess, sys, time
from pathlib import Path
from kpatch.errors import HarnessError
from kpatch.lib import cache

def fill(partial):
    with Path(sys.argv[1]).open("a") as log:
        log.write("filled\\n")
    print("begins", flush=True)
    (partial / "own").mkdir()
    for number in range(10):
        (partial / "own" / str(number)).write_bytes(b"x" * 20_000)
        time.sleep(0.01)
    shutil.copytree(partial / "own", partial / "copied")
    subprocess.run(["sleep", "0.02"], check=True)

try:
    path, cached = cache.entry("things", "key", fill)
    print(sum(file.stat().st_size for file in path.rglob("*/*")), flush=True)
except HarnessError as error:
    print(int(error.code), error, flush=True)
"""
WHOLE = "400000"


def chance(name: str) -> random.Random:
    """Return the random numbers of a test: the same for the same seed."""
    return random.Random(f"{SEED} {name}")  # noqa: S311


def entries(root: Path) -> dict[str, frozenset[str]]:
    """Return the finished entries of a cache, and the names of each one's files."""
    folders = [at for at in root.glob("*/*") if at.is_dir() and not at.name.startswith(".")]
    return {
        str(at.relative_to(root)): frozenset(str(it.relative_to(at)) for it in at.rglob("*"))
        for at in folders
        if not (root / at.parent.name).is_symlink()
    }


# ---- an entry of the cache ----------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    return tmp_path / "cache"


def filler(log: Path) -> subprocess.Popen[str]:
    """Start a process that fills the entry, or finds it."""
    argv = [sys.executable, "-c", FILL, str(log)]
    return subprocess.Popen(argv, cwd=commandline.ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_while_an_entry_is_filled(tmp_path: Path, place: Path) -> None:
    moments, log = chance("fill"), tmp_path / "log"
    for _ in range(20):
        shutil.rmtree(place / "things", ignore_errors=True)
        with filler(log) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            time.sleep(moments.uniform(0, 0.15))
            process.kill()
        assert set(entries(place).values()) <= {frozenset()} or total(place) == WHOLE
    shutil.rmtree(place / "things", ignore_errors=True)
    with filler(log) as process:
        assert process.communicate()[0].splitlines() == ["begins", WHOLE]
    assert sorted(it.name for it in (place / "things").iterdir()) == [cache.TAG, "key"]


def total(place: Path) -> str:
    """Return the bytes in the entry, in the form in which FILL prints them."""
    return str(sum(it.stat().st_size for it in (place / "things" / "key").rglob("*/*")))


def test_ten_at_once_fill_an_entry_once(tmp_path: Path, place: Path) -> None:
    log = tmp_path / "log"
    with ExitStack() as stack:
        processes = [stack.enter_context(filler(log)) for _ in range(10)]
        said = [process.communicate()[0].splitlines() for process in processes]
    assert sorted(said) == [*[[WHOLE]] * 9, ["begins", WHOLE]]
    assert log.read_text() == "filled\n"


# Fills a disk of each size in turn, and then one that is large enough.
FULL = """mount -t tmpfs -o size=1m none "$1" && cd "$3" || exit 99
for size in $2 4m; do
    rm -rf "$1/things" && mount -o remount,size=$size "$1"
    "$4" -c "$5" /dev/null
    echo left: $(ls -A "$1/things")
done
"""


@pytest.mark.usefixtures("place")
def test_a_full_disk_at_ten_points(tmp_path: Path) -> None:
    """What FILL writes takes 480 KiB, the cache itself some pages more."""
    disk = tmp_path / "cache"
    disk.mkdir()
    sizes = sorted(chance("disk").sample(range(28, 440, 4), 10))
    argv = (
        *kerneltree.UNSHARE,
        "sh",
        "-c",
        FULL,
        "sh",
        str(disk),
        " ".join(f"{n}k" for n in sizes),
    )
    done = subprocess.run(
        (*argv, str(commandline.ROOT), sys.executable, FILL),
        env=kerneltree.environment(disk),
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if line != "begins"]
    full = rf"7 cache {disk}: No space left on device; free some space, or set VFIO_ACPI_CACHE .*"
    assert len(lines) == 2 * 11, done.stdout
    for told, left in zip(lines[:-2:2], lines[1:-2:2], strict=True):
        assert re.fullmatch(full, told), told
        assert left == f"left: {cache.TAG}"
    assert lines[-2:] == [WHOLE, f"left: {cache.TAG} key"]


def test_no_worker_of_a_killed_run_is_left(tmp_path: Path) -> None:
    """Byte code is compiled by workers; SIGKILL of the harness reaches none of its processes."""
    source = Path(os.__file__).read_bytes()
    for number in range(300):
        (tmp_path / f"module{number}.py").write_bytes(source)
    script = (
        "import sys; from pathlib import Path; from kpatch.lib.stage import Silent;"
        "from kpatch.vm import guest_image;"
        "guest_image._compile(Path(sys.argv[1]), Path('/mnt'), Silent())"
    )
    with (
        adopted(),
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], cwd=commandline.ROOT
        ) as process,
    ):
        while len(commandline.descendants(process.pid)) < 2:
            assert process.poll() is None, "ended before there was a worker"
        process.kill()
        process.wait()
        commandline.expect_no_children(seconds=5)


@contextmanager
def adopted() -> Iterator[None]:
    """Become the parent of processes that a killed command leaves, during the block."""
    commandline._adopt_orphans(True)
    try:
        yield
    finally:
        for pid in commandline.orphans():
            os.kill(pid, signal.SIGKILL)
        commandline._adopt_orphans(False)


# ---- whole runs ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ground:
    """What is run: the command, and the cache that has the slow kinds."""

    command: tuple[str, ...]
    words: tuple[str, ...]
    cache: Path

    def run(self, out: Path, *, place: Path | None = None, prefix: Sequence[str] = ()) -> Ended:
        """Run to the end."""
        with self.running(out, place=place, prefix=prefix) as run:
            return run.end()

    def running(
        self,
        out: Path,
        *words: str,
        place: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> AbstractContextManager[Run]:
        """Start a run with the cache ``place``, by default a cache that has all."""
        env = {cache.ENVIRONMENT: str(place or self.cache)}
        words = (*self.words, *words)
        return commandline.running(*words, out=out, prefix=prefix, kpatch=self.command, **env)

    def passed(self, out: Path, *, place: Path | None = None) -> Ended:
        """Run to the end, which has to be a pass."""
        ended = self.run(out, place=place)
        assert (ended.code, ended.verdict) == (ExitCode.PASS, "pass"), ended.stdout + ended.stderr
        return ended

    def linked(self, folder: Path, *, without: str = "") -> Path:
        """Return a new cache with links to the slow kinds of the ground's."""
        folder.mkdir()
        for kind in SLOW:
            if kind != without:
                (self.cache / kind).mkdir(exist_ok=True)
                (folder / kind).symlink_to(self.cache / kind)
        return folder


@pytest.fixture(params=["standin", pytest.param("real", marks=pytest.mark.fire)])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    """Stand-ins on a tiny tree with an empty cache, or the real things with the user's."""
    if request.param == "real":
        return Ground(commandline.KPATCH, WORDS, cache.root())
    (tmp_path / "filled").mkdir()
    words = ("--kernel", str(kerneltree.make(tmp_path / "linux")), "--accel", "tcg")
    command = (sys.executable, "-m", "tests.standin")
    return Ground(command, (*WORDS, *words), tmp_path / "filled")


def test_qemu_is_killed(tmp_path: Path, ground: Ground) -> None:
    """Whenever QEMU is killed, the run says so, and what was not tested has not passed."""
    good = ground.passed(tmp_path / "good")
    [suite] = [stage for stage in good.result.stages if stage.name == "suite"]
    moments = chance("qemu")
    for number in range(N):
        moment = moments.uniform(0, suite.seconds)
        with ground.running(tmp_path / "out") as run:
            run.wait_for(functools.partial(commandline.qemu_of, run))
            time.sleep(moment)
            qemu = commandline.qemu_of(run)
            if qemu is not None:
                with suppress(ProcessLookupError):
                    os.kill(qemu, signal.SIGKILL)
            ended = run.end()
        print(f"{number + 1}: after {moment:.1f} s: {ended.verdict}")
        assert set(ended.outcomes().values()) <= {"pass", "lost"}
        logs = "".join(log.read_text(errors="replace") for log in ended.out.glob("console-*"))
        for test in ended.result.tests:
            assert test.outcome == "lost" or f"vfio_acpi: end {test.id}" in logs, test.id
        if ended.code == ExitCode.PASS:
            # The host ends the VM itself after the last record.
            assert ended.outcomes() == good.outcomes()
        else:
            assert (ended.code, ended.verdict) == (ExitCode.LOST, "lost"), ended.stdout
            assert "killed by signal 9" in ended.stdout
    ground.passed(tmp_path / "out")


def test_the_harness_is_killed(tmp_path: Path, ground: Ground) -> None:
    """No process is left, no entry of the cache is half, and the same command then succeeds.

    The cache has the tree, and of real kernels the kernel: the rest is made, and booted.
    """
    ground.passed(tmp_path / "warm")
    place = ground.linked(tmp_path / "cache", without="" if ground.words == WORDS else "kernels")
    seconds = ground.passed(tmp_path / "good", place=place).seconds
    made = entries(place)
    kinds = {key.partition("/")[0] for key in made}
    assert kinds >= {"suite", "firmware"}
    moments = chance("host")
    for number in range(N):
        if number % 4 != 3:  # the fourth goes on where the third was killed
            for kind in kinds:
                shutil.rmtree(place / kind, ignore_errors=True)
        moment = moments.uniform(0, seconds)
        with ground.running(tmp_path / "out", place=place) as run:
            time.sleep(moment)
            os.kill(run.process.pid, signal.SIGKILL)
            code = run.end(clean=False).code
        found = entries(place)
        print(f"{number + 1}: after {moment:.1f} s: {len(found)} of {len(made)} entries")
        assert code in (-signal.SIGKILL, ExitCode.PASS)
        assert found.items() <= made.items(), "an entry is half"
        if number % 4 == 3:
            ground.passed(tmp_path / "out", place=place)
            assert entries(place) == made


def test_ten_runs_at_once(tmp_path: Path, ground: Ground) -> None:
    """One of them makes the kernel, and the others wait for it. Nothing is made twice."""
    ground.passed(tmp_path / "warm")
    place = ground.linked(tmp_path / "cache", without="kernels")
    limits = ("--boot-limit", "1800", "--test-limit", "600", "--run-limit", "3600")
    with ExitStack() as stack:
        runs = [
            stack.enter_context(ground.running(tmp_path / str(number), *limits, place=place))
            for number in range(10)
        ]
        ended = [run.end() for run in runs]
    assert {(one.code, one.verdict) for one in ended} == {(ExitCode.PASS, "pass")}
    builds = [stage for one in ended for stage in one.result.stages if stage.name == "build"]
    assert [stage.cached for stage in builds].count(False) == 1


# Mounts a small disk at $2, with links to the folders $4 of the cache $3. Runs the command twice:
# on the small disk, and when it has grown.
GROWING_DISK = """mount -t tmpfs -o size="$1" none "$2" || exit 99
disk=$2
for kind in $4; do ln -s "$3/$kind" "$2/$kind"; done
shift 4
"$@"
echo "first: $?"
find "$disk" -mindepth 2 -maxdepth 2 -name ".?*" | sed "s/^/half: /"
mount -o remount,size=1g "$disk"
exec "$@"
"""


def test_a_full_disk(tmp_path: Path, ground: Ground) -> None:
    """At most seven points at which the cache's disk is full, and three for that of the results."""
    ground.passed(tmp_path / "warm")
    place = ground.linked(tmp_path / "good")
    ground.passed(tmp_path / "results", place=place)
    made = sum(size(place / key) for key in entries(place))
    need = {"cache": made, "results": size(tmp_path / "results")}
    points = chance("full")
    for number in range(min(N, 10)):
        what = "results" if number % 3 == 2 else "cache"
        share = points.uniform(0.02, 0.85)
        disk = tmp_path / f"disk-{number}"
        disk.mkdir()
        links = " ".join(SLOW) if what == "cache" else ""
        small = (f"{int(need[what] * share) >> 10}k", str(disk), str(ground.cache), links)
        ended = ground.run(
            disk if what == "results" else tmp_path / "out",
            place=disk if what == "cache" else None,
            prefix=(*kerneltree.UNSHARE, "sh", "-c", GROWING_DISK, "sh", *small),
        )
        told = ended.stdout + ended.stderr
        print(f"{number + 1}: {what} full at {share:.0%}")
        assert ended.told(f"first: {int(ExitCode.LOST)}"), told
        assert re.search(rf"{disk}\S*: .*No space left on device; ", told), told
        assert "half: " not in ended.stdout
        assert ended.code == ExitCode.PASS, "the run on the larger disk"


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(it.lstat().st_size for it in folder.rglob("*"))


# Runs the command of the checkout in this folder; `python -m` takes the working directory.
AS_IN = """\
import os, runpy, sys
os.chdir({0!r})
sys.path[0] = {0!r}
runpy.run_module({1!r}, run_name="__main__", alter_sys=True)
"""


def test_the_cache_of_another_version(tmp_path: Path, ground: Ground) -> None:
    """A checkout with another protocol between host and guest, on the same cache."""
    other = tmp_path / "other"
    unneeded = shutil.ignore_patterns(".git", ".venv", "out", "__pycache__", ".*_cache")
    shutil.copytree(commandline.ROOT, other, ignore=unneeded)
    contract = other / "ktests" / "contract.py"
    changed = re.sub(r"^PROTOCOL = \d+$", "PROTOCOL = 1000", contract.read_text(), flags=re.M)
    assert changed != contract.read_text()
    contract.write_text(changed)
    ground.passed(tmp_path / "warm")
    place = ground.linked(tmp_path / "cache")
    for folder in (other, commandline.ROOT, other):
        script = AS_IN.format(str(folder), ground.command[-1])
        there = replace(ground, command=(sys.executable, "-c", script))
        there.passed(tmp_path / "out", place=place)
    assert len(list((place / "suite").glob("[0-9a-f]*"))) == 2


@pytest.mark.fire
def test_the_harness_is_killed_in_a_build(tmp_path: Path) -> None:
    """The next run goes on with the objects, and its kernel boots (a tiny one: test_build.py)."""
    moments = chance("build")
    with commandline.unique(tmp_path / "fire.mbox") as mbox:
        words = ("test", "--series", str(mbox), "--no-control", "--tests", "test_companion")
        for number in range(max(1, N // 4)):
            with commandline.running(*words, out=tmp_path / "out") as run:
                run.wait_for_program("make")
                moment = moments.uniform(0, 20)
                time.sleep(moment)
                os.kill(run.process.pid, signal.SIGKILL)
                run.end(clean=False)
            print(f"{number + 1}: {moment:.1f} s after make began")
            kernels = [at for at in (cache.root() / "kernels").iterdir() if at.name != cache.TAG]
            whole = [at for at in kernels if not at.name.startswith(".")]
            assert all((at / "build.log").is_file() for at in whole)
            if any(mbox.stem in (at / "meta.json").read_text() for at in whole):
                break  # the kernel was through before the kill
        ended = commandline.run(*words, out=tmp_path / "out")
    assert (ended.code, ended.verdict) == (ExitCode.NOT_JUDGED, "not-judged")
    assert set(ended.outcomes().values()) == {"pass"}
