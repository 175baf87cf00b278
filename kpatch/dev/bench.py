# SPDX-License-Identifier: GPL-2.0-only
"""What a run costs, as ratios made in one go on one machine.

    cold      all stages on an empty cache, control and netlink, against `make bzImage` alone; from
              the kernel's tarball, since packages are not counted; then both whole suites again
    series    the build of a further series on a built base, in seconds
    edit      one line of a carried patch changed, to verdict, in seconds
    warm      nothing changed, to the verdict of one series, against a boot that runs `true`; the
              same with its whole suite, and with the whole suites of all series

They are measured on TURNAROUND, what somebody who writes a series runs again and again; the whole
suite, with its bursts of 32768 and its namespaces, is a figure of its own.
Every figure is a whole process as a user starts it. Nothing is asserted: figures of a shared
machine are for people to read.
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

# The 64 tests that the aims were set for: the message byte by byte, values, identity, companions,
# unrelated events, bursts, unbinding. Not those of the library's programs, which start Python anew.
TURNAROUND = (
    "(REQ-EVT or REQ-INT-01 or REQ-INT-02 or REQ-ISO-07 or REQ-ISO-08 or REQ-DEL-01 or REQ-DEL-02 "
    "or REQ-LIF-01 or REQ-LIF-02) and not test_tools"
)

# vng exits with 255 where no udev names the ports of its script; its init says how that ended.
VNG_DONE = "script exited with code 0"


@dataclass(frozen=True)
class Figure:
    """A measurement: the seconds of each run, of what it is held against (if any), and the aim."""

    name: str
    runs: tuple[float, ...]
    against: str = ""
    references: tuple[float, ...] = ()
    aim: str = ""

    @property
    def seconds(self) -> str:
        """The median; of several runs the least and the most as well."""
        median = f"{statistics.median(self.runs):.1f} s"
        if len(self.runs) == 1:
            return median
        return f"{median} ({min(self.runs):.1f}-{max(self.runs):.1f})"

    @property
    def ratio(self) -> str:
        """The median by that of the reference, or the median's seconds where there is none."""
        median = statistics.median(self.runs)
        if not self.references:
            return f"{median:.1f} s"
        return f"{median / statistics.median(self.references):.2f} ×"


@dataclass(frozen=True)
class Bench:
    """Where the measurements are made: a scratch folder, and a cache that may be empty.

    ``kernel`` is what every run is given as KERNEL=.
    """

    folder: Path
    cache: Path
    kernel: str
    jobs: int
    runs: int
    say: Callable[[str], None]

    @property
    def environment(self) -> dict[str, str]:
        """Ours, with the cache; an empty one has an empty ccache beside it."""
        ours = {**os.environ, cache.ENVIRONMENT: str(self.cache)}
        if self.cache.is_relative_to(self.folder):
            ours["CCACHE_DIR"] = str(self.folder / "ccache")
        return ours

    def kpatch(self, *words: str) -> float:
        """Seconds of ``python -m kpatch test …`` on the kernel."""
        argv = [sys.executable, "-m", "kpatch", "test", "--out", str(self.out), *words]
        common = ["--kernel", self.kernel, "--jobs", str(self.jobs)]
        return self._time([*argv, *common], environment=self.environment)

    @property
    def out(self) -> Path:
        """The folder of the latest result."""
        return self.folder / "out"

    def cold(self) -> list[Figure]:
        """Measure a run on an empty cache; also return the build time of its second series."""
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
        """Change one line of the series, each time to something new, and nothing else."""
        return [
            Figure(
                "one line changed, to verdict",
                tuple(self._edited(os.urandom(4).hex()) for _ in range(self.runs)),
                aim="45 s",
            )
        ]

    def _edited(self, word: str) -> float:
        """Seconds to the verdict on the series with ``word`` in one of its messages."""
        mailbox = self.folder / "edited.mbox"
        patches = catalog.load(SERIES, bases.DEFAULT_BASE).mailboxes
        text = "".join(path.read_text() for path in patches)
        changed = text.replace('pci_warn(pdev, "', f'pci_warn(pdev, "{word}', 1)
        if changed == text:
            raise HarnessError(
                f"series {SERIES}",
                "has no line that this benchmark knows to change",
                mend="name another one in kpatch/dev/bench.py",
                code=ExitCode.LOST,
            )
        mailbox.write_text(changed)
        options = ("--no-control", "--mechanism", SERIES, "--tests", TURNAROUND)
        return self.kpatch("--series", str(mailbox), *options)

    def warm(self) -> list[Figure]:
        """Nothing changed, in turn with the bare boot, so that both meet the same machine."""
        self.kpatch()
        result = json.loads((self.out / "result.json").read_text())
        kernels = {one["name"]: one["kernel_id"] for one in result["series"]}
        image = self.cache / "kernels" / kernels[SERIES] / "bzImage"
        bare = virtme.vng_command(image, kvm=False)
        rounds = [
            (
                self.kpatch("--series", SERIES, "--tests", TURNAROUND),
                self.kpatch("--series", SERIES),
                self.kpatch(),
                self._time(
                    bare, environment=virtme.environment(self.folder / "home"), said=VNG_DONE
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
        """Seconds of a plain build of the same config, without any cache."""
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
        self, argv: Sequence[str], *, environment: Mapping[str, str] | None = None, said: str = ""
    ) -> float:
        """Seconds of a command that has to succeed: by its status, or by what it ``said``."""
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
        if run.returncode != 0 and not (said and said in run.stdout + run.stderr):
            raise HarnessError(
                " ".join(argv[:5]),
                f"ended with status {run.returncode}",
                mend="see its output above",
                code=ExitCode.LOST,
                details=run.stdout[-4000:] + run.stderr[-4000:],
            )
        self.say(f"{seconds:7.1f} s  {' '.join(argv[-6:])}")
        return seconds


def tarball(folder: Path) -> Path:
    """The tarball in Debian's source package of the default base, put into ``folder``."""
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
            mend="see what tar says above, and whether the disk is full",
            code=ExitCode.LOST,
        )
    deb.unlink()
    return target


MEASUREMENTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "cold": Bench.cold,
    "edit": Bench.edit,
    "warm": Bench.warm,
}


def run(names: Sequence[str], *, jobs: int, runs: int, say: Callable[[str], None]) -> list[Figure]:
    """Make the measurements of MEASUREMENTS named, in a scratch folder that goes afterwards.

    With ``cold`` all are made in a cache of their own, else in the user's, where a kernel that
    is not built yet is built first and not counted.
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
