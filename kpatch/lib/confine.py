# SPDX-License-Identifier: GPL-2.0-only
"""Confinement of what a series can make run: builds, and QEMU with the kernel built of it.

bubblewrap (bwrap) gives the program namespaces of its own: no network, no processes but its own, a
file system of /usr, a few files of /etc and the folders that are named, of which only the writable
ones can be written to. There is no home, and nothing of the user's but what is named.

How many processes and how much memory it gets is bounded by a control group, which binds root as
well, where one can be made (cgroup v2 with its controllers delegated, or v1). A size is no
property of a folder: a watcher ends what fills the disk (`kpatch.lib.process.capture`).

Source: bwrap(1); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{pids,memory}.rst.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO

from kpatch.errors import HarnessError
from kpatch.lib import environment, process, system
from kpatch.tables.outcomes import ExitCode

PACKAGE = "bubblewrap"

NO_SPACE = os.strerror(errno.ENOSPC)
"""How every tool words a full disk in the C locale; as an OSError the cache explains it."""

# Of /etc: what the dynamic linker and Debian's alternatives need, and names of users.
ETC = ("alternatives", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "passwd")

# Folders at the top that lead into /usr where that is merged, and are folders where it is not.
TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

# What a build may take from elsewhere. No others: a rustc or pahole that needs files of the user's
# home would change the .config.
TOOLS = ("make", "gcc", "ld", "flex", "bison", "bc", "ccache")

# More than any build here uses (some 20 processes for each job), far less than a machine bears.
MOST_PROCESSES = 1000

# Of the machine's memory; what is left lets the harness say what happened.
SHARE_OF_MEMORY = 0.75

CGROUPS = Path("/sys/fs/cgroup")

# Of cgroup v2, and what is set where it is there: who is over the bound swaps nothing, and the
# whole group is ended, not one compiler of it.
CONTROLLERS = ("pids", "memory")
MORE_LIMITS = {"memory.swap.max": 0, "memory.oom.group": 1}

REMOVE_SECONDS = 2.0


@functools.cache
def fault() -> str:
    """Return why nothing can be confined here, "" if it can."""
    program = shutil.which("bwrap")
    if program is None:
        return f"bwrap is not in PATH; {system.install([PACKAGE])}"
    done = subprocess.run(
        command(["true"]),
        env=environment.clean(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return f"bwrap does not work here: {said[-1]}"


def require(*, asked: bool) -> None:
    """HarnessError (exit 2) if confinement is ``asked`` for and cannot be had."""
    if asked and fault():
        raise HarnessError(
            "--untrusted",
            f"the series cannot be confined: {fault()}",
            mend="make bwrap work, or run without --untrusted on a machine with nothing to lose",
        )


def wrap(
    argv: Sequence[str],
    *,
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
    devices: Sequence[Path] = (),
    empty: Sequence[Path] = (),
) -> list[str]:
    """Return ``argv`` confined, or as it is where nothing can be confined (see `fault`)."""
    if fault():
        return list(argv)
    return command(
        argv,
        readable=_same(readable),
        writable=_same(writable),
        devices=devices,
        empty=empty,
    )


def _same(paths: Sequence[Path]) -> dict[Path, Path | str]:
    """Map each path to itself: the confined program sees it where it is."""
    return {path: path for path in paths}


def command(
    argv: Sequence[str],
    *,
    readable: Mapping[Path, Path | str] = MappingProxyType({}),
    writable: Mapping[Path, Path | str] = MappingProxyType({}),
    devices: Sequence[Path] = (),
    empty: Sequence[Path] = (),
) -> list[str]:
    """Return bwrap's argv for ``argv``.

    ``readable`` and ``writable`` map files and folders to where the program sees them; a folder
    of the latter may lie inside one of the former. ``devices`` are nodes of /dev, ``empty`` folders
    that are there and hold nothing.
    """
    words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    # bwrap leaves root its capabilities, of the namespaces alone: enough to mount what is bound
    # read-only once more, writable.
    words += ["--cap-drop", "ALL"]
    words += ["--proc", "/proc", *_proc(), "--dev", "/dev"]
    words += ["--tmpfs", "/tmp"]  # noqa: S108 - its own
    words += ["--ro-bind", "/usr", "/usr", *_top(), *_etc(), *_tools()]
    words += [word for path in empty for word in ("--dir", str(path))]
    for option, paths in (
        ("--ro-bind", readable),
        ("--bind", writable),
        ("--dev-bind", _same(devices)),
    ):
        for path, seen in paths.items():
            words += [option, str(path), str(seen)]
    return [*words, "--", *argv]


def _proc() -> list[str]:
    """Bind what can be written to in /proc, processes apart, read-only.

    It is the whole machine's, and owned by its root, who needs no capability to write there: to
    sys/kernel/core_pattern (a program that the kernel runs, outside of all namespaces), or to
    sysrq-trigger.
    """
    paths = (path for path in sorted(Path("/proc").iterdir()) if not path.name.isdecimal())
    kept = (path for path in paths if not path.is_symlink() and _writable(path))
    return [word for path in kept for word in ("--ro-bind", str(path), str(path))]


def _writable(path: Path) -> bool:
    return path.is_dir() or bool(path.stat().st_mode & 0o222)


def _top() -> list[str]:
    words: list[str] = []
    for name in TOP:
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    return words


def _etc() -> list[str]:
    paths = (Path("/etc", name) for name in ETC)
    return [word for path in paths if path.exists() for word in ("--ro-bind", str(path), str(path))]


def _tools() -> list[str]:
    """Bind the folders of the tools of a build that are not in /usr: a compiler of the user's."""
    return [word for folder in _folders() for word in ("--ro-bind", str(folder), str(folder))]


def _folders() -> list[Path]:
    found = (shutil.which(tool) for tool in TOOLS)
    folders = dict.fromkeys(Path(path).parent for path in found if path is not None)
    return [folder for folder in folders if not _in_usr(folder)]


def _in_usr(folder: Path) -> bool:
    return f"{folder}/".startswith(tuple(f"/{name}/" for name in ("usr", *TOP)))


def path() -> str:
    """Return PATH for a confined program: that of the user, without the folders that it lacks."""
    there = set(_folders())
    folders = map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep))
    return os.pathsep.join(str(it) for it in folders if it in there or _in_usr(it))


# ---- builds --------------------------------------------------------------------------------------

# Where a build sees its source, wherever that is: objects whose commands hold absolute paths, those
# of objtool for one, are good for every copy of a tree then, and ccache finds them.
PLACE = "/build/source"

# A cold build of the largest flavor takes a tenth of each.
BUILD_SECONDS = 3600.0
BUILD_DISK = 20 << 30
BUILD_OUTPUT = 256 << 20

# Enters the control groups, then becomes the program. Only file names and argv are put in.
ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 125; shift; done; shift; exec "$@"'


def make(
    argv: Sequence[str],
    *,
    source: Path,
    out: Path,
    more: Mapping[str, str] = MappingProxyType({}),
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
    line: Callable[[str], None] | None = None,
    log: IO[bytes] | None = None,
) -> tuple[int, str]:
    """Run make on ``source``, which it can read, into ``out``; return its status and output.

    ``more`` is added to its environment. OSError (ENOSPC) if it failed for want of space;
    HarnessError (exit 4) if it had to be ended: it took too long, filled the disk, or printed
    without end.
    """
    env = environment.clean(**more)
    words = list(argv)
    if not fault():
        env = {name: value.replace(str(source), PLACE) for name, value in env.items()}
        env |= {"HOME": "/tmp", "TMPDIR": "/tmp", "PATH": path()}  # noqa: S108 - its own
        seen = [word.replace(str(source), PLACE) for word in argv]
        inside = PLACE + str(out).removeprefix(str(source)) if out.is_relative_to(source) else out
        words = command(
            seen,
            readable={source: PLACE, **_same(readable)},
            writable={out: inside, **_same(writable)},
        )
    with bounded() as groups:
        entered = ["sh", "-c", ENTER, "sh", *map(str, groups), "--", *words] if groups else words
        watch = _Watch(out)
        status, output = process.capture(entered, env=env, line=line, log=log, watch=watch)
    output = output.replace(PLACE, str(source))
    if watch.ended:
        raise HarnessError(
            f"make {argv[-1]}",
            f"was ended: it {watch.ended}",
            mend="look for what is abnormal in the series",
            code=ExitCode.BUILD,
            details=output[-2000:],
        )
    if status != 0 and NO_SPACE in output:
        raise OSError(errno.ENOSPC, NO_SPACE)
    return status, output


class _Watch:
    """Ends a program that takes too long, fills the disk of ``out``, or prints without end."""

    def __init__(self, out: Path) -> None:
        self.ended = ""
        self._out = out
        self._end = time.monotonic() + BUILD_SECONDS
        self._free = self._available()

    def __call__(self, printed: int) -> bool:
        """Whether it is to be ended now, after so many bytes of output."""
        if time.monotonic() > self._end:
            self.ended = f"took longer than {BUILD_SECONDS:.0f} s"
        elif self._free - self._available() > BUILD_DISK:
            self.ended = f"took more than {BUILD_DISK >> 30} GiB of disk"
        elif printed > BUILD_OUTPUT:
            self.ended = f"printed more than {BUILD_OUTPUT >> 20} MiB"
        return bool(self.ended)

    def _available(self) -> int:
        disk = os.statvfs(self._out)
        return disk.f_bavail * disk.f_frsize


def product(folder: Path, name: str | Path) -> Path:
    """Return the path of a file that a build has made, resolved.

    HarnessError (exit 4) if it is no regular file inside ``folder``: a symbolic link to a file of
    the user's, or a pipe that is never written to.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise HarnessError(
            f"build: {name}",
            "is not there as a regular file after the build",
            mend="look for what makes it in the series",
            code=ExitCode.BUILD,
        )
    return path


# ---- control groups ------------------------------------------------------------------------------


@contextmanager
def bounded() -> Iterator[list[Path]]:
    """Make control groups with bounds for processes and memory; yield their files of members.

    Write the process's number into each. There are none where no group can be made.
    """
    made: list[Path] = []
    try:
        for parent, limits in _groups():
            with suppress(OSError):
                made.append(_group(parent, limits))
        yield [group / "cgroup.procs" for group in made]
    finally:
        for group in made:
            _remove(group)


def _group(parent: Path, limits: Mapping[str, int]) -> Path:
    """Make a group with these limits; OSError, and no group, if one of them cannot be set."""
    group = Path(tempfile.mkdtemp(prefix="vfio-acpi-", dir=parent))
    try:
        for name, value in limits.items():
            (group / name).write_text(str(value))
        for name, value in MORE_LIMITS.items():
            if (group / name).exists():
                (group / name).write_text(str(value))
        _try_entering(group)
    except OSError:
        group.rmdir()
        raise
    return group


def _try_entering(group: Path) -> None:
    """OSError if no process can enter: who is delegated a group may not move into it from outside.

    cgroup-v2.rst, "Delegation Containment": that takes write access to the common ancestor.
    """
    argv = ["sh", "-c", ENTER, "sh", str(group / "cgroup.procs"), "--", "true"]
    if subprocess.run(argv, env=environment.clean(), capture_output=True, check=False).returncode:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(group))


def _remove(group: Path) -> None:
    """End what is left in a group, and remove it; what was killed takes a moment to go."""
    if (group / "cgroup.kill").exists():  # since v5.14, with cgroup v2 alone
        with suppress(OSError):
            (group / "cgroup.kill").write_text("1")
    end = time.monotonic() + REMOVE_SECONDS
    while time.monotonic() < end:
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.02)


def _groups() -> list[tuple[Path, dict[str, int]]]:
    """The groups to make: the parent, and the limits to write."""
    memory = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * SHARE_OF_MEMORY)
    if (CGROUPS / "cgroup.controllers").exists():
        return [(_parent(), {"pids.max": MOST_PROCESSES, "memory.max": memory})]
    return [
        (CGROUPS / "pids", {"pids.max": MOST_PROCESSES}),
        (CGROUPS / "memory", {"memory.limit_in_bytes": memory}),
    ]


def _parent() -> Path:
    """Return the group of cgroup v2 to make ours in: the nearest that hands out what we need.

    Our own holds processes, us for one, and such a group hands out no controllers ("No Internal
    Process Constraint"); a user's own slice does, and its parent, where systemd has delegated it.
    The root is exempt, and the last to try; it may have to be told to hand them out.
    """
    for folder in _ancestors():
        handed_out = (folder / "cgroup.subtree_control").read_text().split()
        if set(CONTROLLERS) <= set(handed_out) and os.access(folder, os.W_OK):
            return folder
    with suppress(OSError):
        wanted = " ".join(f"+{controller}" for controller in CONTROLLERS)
        (CGROUPS / "cgroup.subtree_control").write_text(wanted)
    return CGROUPS


def _ancestors() -> list[Path]:
    """The groups above our own, the nearest first; the root, if that is our own."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::/")), "/")
    names = [name for name in own.split("/") if name]
    if ".." in names:  # outside of what our name space shows
        return [CGROUPS]
    return [CGROUPS.joinpath(*names[:count]) for count in range(len(names) - 1, 0, -1)] + [CGROUPS]


def described() -> str:
    """Return how builds and VMs are confined here, in one line for a reader."""
    if fault():
        return f"none: {fault()}"
    return f"bubblewrap; processes and memory of a build are bounded by {_bound()}"


@functools.cache
def _bound() -> str:
    with bounded() as members:
        if len(members) == len(_groups()):
            return "a control group"
        part = ", ".join(member.parent.parent.name for member in members)
        return (
            f"a control group of {part} alone" if part else "nothing: no control group can be made"
        )
