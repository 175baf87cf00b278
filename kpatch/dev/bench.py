# SPDX-License-Identifier: GPL-2.0-only
"""Measure how long runs and reviews take, in seconds or as ratios to a reference command.

    cold      all stages for control and netlink on an empty cache, compared with `make bzImage`
              alone; the kernel comes from a tarball, so that downloads are not counted. Also gives
              the build time of the second series, in seconds
    edit      a run after one line of a carried patch was changed, in seconds
    warm      a run of one series after no change, compared with a boot that runs `true`; the same
              with its whole suite, and with the whole suites of control and all series
    check     reviews (`make check`) of the doorbell series, three patches on drivers/vfio, from a
              file: the quick checks, all checks of the plain flavor, and these again after the last
              patch was changed. A first review, not counted, builds what reviews need of the base

Unless "whole suite" is mentioned, the tests are those of TURNAROUND, which the author of a series
runs again and again. Each figure is the time of a complete command as a user starts it, except the
build time in cold. A reference is measured on the same machine. Nothing is asserted, since figures
of a shared machine vary.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache, process
from kpatch.lib.stage import Silent
from kpatch.series import catalog
from kpatch.source import debian, resolve
from kpatch.tables import bases
from kpatch.tables.outcomes import ExitCode
from kpatch.vm import acpid, virtme

SERIES = "netlink"
REVIEWED = "doorbell"

# Names that a patch of the series adds, the first patch and a later one. A run or a review that
# must not find its results in the cache gets the series with one of the names changed.
EDITED = {
    SERIES: ("vfio_pci_acpi_mutex", "vfio_pci_acpi_netlink_path"),
    REVIEWED: ("vfio_pci_acpi_mutex", "vfio_pci_acpi_fetch"),
}

# The tests to which the aims apply: bytes of a message, values, identity, companions, unrelated
# events, bursts, unbinding. Tests of the library's programs are excluded: each starts a Python.
TURNAROUND = (
    "(REQ-EVT or REQ-INT-01 or REQ-INT-02 or REQ-ISO-07 or REQ-ISO-08 or REQ-DEL-01 or REQ-DEL-02 "
    "or REQ-LIF-01 or REQ-LIF-02) and not test_tools"
)

# The init of virtme-ng prints this line if the script succeeded. Without udev, vng does not find
# the script's ports, and exits with 255 all the same.
VNG_DONE = "script exited with code 0"


@dataclass(frozen=True)
class Figure:
    """A measurement: ``runs`` has the duration of each run in seconds.

    ``against`` is the name of the reference and ``references`` has the duration of its runs; both
    are empty if there is none. ``aim`` is the wanted ratio ("2.5 ×") or duration ("45 s"), "" if
    there is none.
    """

    name: str
    runs: tuple[float, ...]
    against: str = ""
    references: tuple[float, ...] = ()
    aim: str = ""

    @property
    def seconds(self) -> str:
        """Return the median of ``runs``, "1.2 s"; for several runs also the range (MIN-MAX)."""
        median = f"{statistics.median(self.runs):.1f} s"
        if len(self.runs) == 1:
            return median
        return f"{median} ({min(self.runs):.1f}-{max(self.runs):.1f})"

    @property
    def ratio(self) -> str:
        """Return the median of ``runs`` divided by that of ``references``, "2.50 ×".

        Without a reference, return the median in seconds, "1.2 s".
        """
        median = statistics.median(self.runs)
        if not self.references:
            return f"{median:.1f} s"
        return f"{median / statistics.median(self.references):.2f} ×"


@dataclass(frozen=True)
class Bench:
    """The settings of the measurements, and a method for each measurement.

    ``folder`` is temporary, ``cache`` is the harness's cache, which may be empty. ``kernel`` is the
    value of KERNEL= for every run, ``jobs`` that of make's -j, ``runs`` the number of repetitions
    of short measurements. ``say`` prints a line.
    """

    folder: Path
    cache: Path
    kernel: str
    jobs: int
    runs: int
    say: Callable[[str], None]

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables for a run: those of this process, and the cache's path.

        If the cache is in the temporary folder, ccache's is too, so that both start empty.
        """
        ours = {**os.environ, cache.ENVIRONMENT: str(self.cache)}
        if self.cache.is_relative_to(self.folder):
            ours["CCACHE_DIR"] = str(self.folder / "ccache")
        return ours

    def kpatch(self, *words: str) -> float:
        """Run ``python -m kpatch test`` with ``words`` on the kernel; return the time in seconds.

        HarnessError (exit 7) if it fails.
        """
        return self._time(self._argv("test", *words), environment=self.environment)

    def _argv(self, command: str, *words: str) -> list[str]:
        common = ("--kernel", self.kernel, "--jobs", str(self.jobs), "--out", str(self.out))
        return [sys.executable, "-m", "kpatch", command, *words, *common]

    @property
    def out(self) -> Path:
        """Return the output folder of every run; it has the files of the latest one."""
        return self.folder / "out"

    def cold(self) -> list[Figure]:
        """Measure a run of control and SERIES, and the build of SERIES in it, on an empty cache."""
        self.say("cold run of control and netlink, then `make bzImage` alone: a quarter of an hour")
        both = ("--series", catalog.BASE, "--series", SERIES)
        seconds = self.kpatch(*both, "--tests", TURNAROUND)
        result = json.loads((self.out / "result.json").read_text())
        build = next(s for s in result["stages"] if (s["name"], s["series"]) == ("build", SERIES))
        make = self._make()
        return [
            Figure("cold, to verdict", (seconds,), "make bzImage", (make,), "1.3 ×"),
            Figure("further series: its build", (build["seconds"],), aim="60 s"),
        ]

    def edit(self) -> list[Figure]:
        """Measure runs of SERIES, each after another change of the same line."""
        return [
            Figure(
                "one line changed, to verdict",
                tuple(self._edited(_word()) for _ in range(self.runs)),
                aim="45 s",
            )
        ]

    def _edited(self, word: str) -> float:
        """Run SERIES with ``word`` as the argument ``later`` of `_edit`; return the seconds."""
        options = ("--no-control", "--mechanism", SERIES, "--tests", TURNAROUND)
        return self.kpatch("--series", str(self._edit(SERIES, later=word)), *options)

    def _edit(self, series: str, *, first: str = "", later: str = "") -> Path:
        """Write ``series`` to a file, with words appended to its names of EDITED; return the path.

        HarnessError (exit 7) if the series has no such name.
        """
        mailbox = self.folder / "edited.mbox"
        text = "".join(path.read_text() for path in _patches(series))
        for name, word in zip(EDITED[series], (first, later), strict=True):
            if name not in text:
                raise HarnessError(
                    f"series {series}",
                    f"has no {name}, which this benchmark changes",
                    hint="name another one in kpatch/dev/bench.py",
                    code=ExitCode.LOST,
                )
            text = text.replace(name, name + word)
        mailbox.write_text(text)
        return mailbox

    def check(self) -> list[Figure]:
        """Measure reviews of REVIEWED; each gets a version of it that no earlier review has seen.

        The last review has the same patches as the one before it, except for the last patch.
        """
        self.say("a review in the plain flavor, which builds the base of each variant")
        self._review("plain", first=_word())
        quick = tuple(self._review("quick", first=_word()) for _ in range(self.runs))
        word = _word()
        plain = self._review("plain", first=word)
        changed = self._review("plain", first=word, later=_word())
        name = f"review of {len(_patches(REVIEWED))} patches"
        return [
            Figure(f"{name}: form, uAPI, builds", quick, aim="90 s"),
            Figure(f"{name}: all of the plain flavor", (plain,), aim="480 s"),
            Figure(
                "the same, the last patch changed", (changed,), "the one before", (plain,), "0.5 ×"
            ),
        ]

    def _review(self, checks: str, *, first: str, later: str = "") -> float:
        """Review REVIEWED, changed by `_edit`, with the ``checks``; return the time in seconds."""
        mailbox = str(self._edit(REVIEWED, first=first, later=later))
        argv = self._argv("check", "--series", mailbox, "--checks", checks)
        # The review fails, because the carried patches have no Signed-off-by.
        done = f"Tested: {len(_patches(REVIEWED))} patches"
        return self._time(argv, environment=self.environment, done_text=done)

    def warm(self) -> list[Figure]:
        """Measure runs for which everything is in the cache.

        The runs alternate with a bare boot, the reference, so that the machine's load affects both.
        """
        self.kpatch()
        result = json.loads((self.out / "result.json").read_text())
        kernels = {series["name"]: series["kernel_id"] for series in result["series"]}
        image = self.cache / "kernels" / kernels[SERIES] / "bzImage"
        bare = virtme.vng_command(image, kvm=False)
        rounds = [
            (
                self.kpatch("--series", SERIES, "--tests", TURNAROUND),
                self.kpatch("--series", SERIES),
                self.kpatch(),
                self._time(
                    bare, environment=virtme.environment(self.folder / "home"), done_text=VNG_DONE
                ),
            )
            for _ in range(self.runs)
        ]
        selection, whole, every, boots = zip(*rounds, strict=True)
        against = "vng --exec true"
        return [
            Figure("nothing changed, to verdict", selection, against, boots, "2.5 ×"),
            Figure(f"whole suite of {SERIES}, to verdict", whole, against, boots, "5 ×"),
            Figure(f"whole suites of {', '.join(kernels)}", every, against, boots),
        ]

    def _make(self) -> float:
        """Return the time in seconds of ``make bzImage``, without ccache.

        The config is that of the first series in the latest run.
        """
        result = json.loads((self.out / "result.json").read_text())
        kernel = self.cache / "kernels" / result["series"][0]["kernel_id"]
        objects = self.folder / "make"
        objects.mkdir()
        shutil.copyfile(kernel / "config", objects / ".config")
        tree = resolve.resolve(self.kernel, stage=Silent()).path
        make = ["make", "-s", "-C", str(tree), f"O={objects}", f"-j{self.jobs}"]
        self._time([*make, "olddefconfig"])
        return self._time([*make, "bzImage"])

    def _time(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        done_text: str = "",
    ) -> float:
        """Run the command ``argv``, and return its time in seconds.

        ``environment`` has the command's environment variables; None means those of this process.
        HarnessError (exit 7) unless the exit status is 0, or ``done_text`` is not "" and the output
        contains it.
        """
        begin = time.monotonic()
        run = subprocess.run(
            argv,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - begin
        if run.returncode != 0 and not (done_text and done_text in run.stdout + run.stderr):
            raise HarnessError(
                " ".join(argv[:5]),
                f"ended with status {run.returncode}",
                hint="see its output above",
                code=ExitCode.LOST,
                details=run.stdout[-4000:] + run.stderr[-4000:],
            )
        self.say(f"{seconds:7.1f} s  {' '.join(argv[-6:])}")
        return seconds


def _patches(series: str) -> tuple[Path, ...]:
    """Return the patch files of ``series`` for the default base."""
    return catalog.load(series, bases.DEFAULT_BASE).mailboxes


def _word() -> str:
    """Return "_" and 8 random hexadecimal digits, which no earlier run has used."""
    return f"_{os.urandom(4).hex()}"


def tarball(folder: Path) -> Path:
    """Download Debian's source package of the default base to ``folder``; return its tarball.

    HarnessError: exit 2 if no suite has the package; exit 7 if the download fails, or the tarball
    cannot be extracted from the package.
    """
    base = bases.BASES[bases.DEFAULT_BASE]
    name, what = f"linux-source-{base.name}", f"KERNEL={base.name}"
    package = debian.find(name, base.suites, what=what, stage=Silent())
    deb = debian.download(package, folder, what=what, stage=Silent())
    target = folder / f"{name}.tar.xz"
    with process.child(["dpkg-deb", "--fsys-tarfile", str(deb)], stderr=None) as files:
        member = ["tar", "--extract", "--to-stdout", resolve.MEMBER.format(name=name)]
        with target.open("wb") as file:
            status = subprocess.run(member, stdin=files.stdout, stdout=file, check=False).returncode
    if status != 0:
        raise HarnessError(
            deb.name,
            f"its {member[-1]} cannot be taken out (tar: status {status})",
            hint="see what tar says above, and whether the disk is full",
            code=ExitCode.LOST,
        )
    deb.unlink()
    return target


MEASUREMENTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "cold": Bench.cold,
    "edit": Bench.edit,
    "warm": Bench.warm,
    "check": Bench.check,
}


def measure(
    names: Sequence[str], *, jobs: int, runs: int, say: Callable[[str], None]
) -> list[Figure]:
    """Run the measurements ``names`` (keys of MEASUREMENTS), and return their figures.

    If "cold" is among them, all use a new cache. Otherwise they use the user's cache; a kernel that
    is missing there is built first, and that time is not counted. ``jobs`` and ``runs`` as in
    `Bench`; ``say`` prints a line of progress.
    """
    with tempfile.TemporaryDirectory(prefix="run-", dir=cache.folder("bench")) as scratch:
        folder = Path(scratch)
        if "cold" in names:
            kernel = str(tarball(folder))
            os.environ[cache.ENVIRONMENT] = str(folder / "cache")
            acpid.folder(stage=Silent())
        else:
            kernel = bases.DEFAULT_BASE
        bench = Bench(folder, cache.root(), kernel, jobs, runs, say)
        if "cold" not in names:
            bench.kpatch("--series", catalog.BASE, "--series", SERIES, "--tests", "test_family")
        return [figure for name in names for figure in MEASUREMENTS[name](bench)]
