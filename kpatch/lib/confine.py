# SPDX-License-Identifier: GPL-2.0-only
"""Confine the programs that run a series' code: builds, and QEMU with the built kernel.

bubblewrap (bwrap) runs a program in its own namespaces: without network, without access to other
processes, with a file system of /usr, a few files of /etc, the folders of TOOLS that are elsewhere,
and the files and folders that the caller names. It can write only to those named as writable or as
devices, and to a /tmp of its own. Other files, such as the user's home, are not visible. If bwrap
does not work, the program runs without it.

For builds a control group limits the number of processes and the memory, also for root, if one can
be made (cgroup v2 with delegated controllers, or v1). Disk use cannot be limited by folder, so a
watcher ends a build that fills the disk (`kpatch.lib.process.capture`).

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
"""The text by which tools report a full disk, in the C locale."""

# Visible files of /etc: for the dynamic linker, Debian's alternatives, and the names of users.
ETC = ("alternatives", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "passwd")

# Top folders that are symlinks into /usr on a system with merged /usr, and folders on others.
TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

# Tools of a build that may be outside of /usr. rustc and pahole are left out: they could need files
# of the user's home, and would change the .config.
TOOLS = ("make", "gcc", "ld", "flex", "bison", "bc", "ccache")

# A build has about 20 processes for each job, so this limit ends fork bombs only.
MOST_PROCESSES = 1000

# Share of the machine's memory for a build. The harness needs the rest to report a failure.
SHARE_OF_MEMORY = 0.75

CGROUPS = Path("/sys/fs/cgroup")

# Controllers of cgroup v2, and settings that are written if the file exists: no swap, and the OOM
# killer ends the whole group instead of one compiler.
CONTROLLERS = ("pids", "memory")
MORE_LIMITS = {"memory.swap.max": 0, "memory.oom.group": 1}

REMOVE_SECONDS = 2.0


@functools.cache
def fault() -> str:
    """Return why bwrap does not work on this system; "" if it works."""
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
    lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return f"bwrap does not work here: {lines[-1]}"


def require(*, demanded: bool) -> None:
    """Raise HarnessError (exit 2) if confinement is ``demanded`` and does not work here."""
    if demanded and fault():
        raise HarnessError(
            "--untrusted",
            f"the series cannot be confined: {fault()}",
            hint="make bwrap work, or run without --untrusted on a machine with nothing to lose",
        )


def wrap(
    argv: Sequence[str],
    *,
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
    devices: Sequence[Path] = (),
    empty: Sequence[Path] = (),
) -> list[str]:
    """Return the argv that runs ``argv`` confined; ``argv`` itself if bwrap does not work.

    The program sees the files and folders ``readable`` and ``writable`` at the same paths as the
    host. ``devices`` and ``empty`` are as in `command`.
    """
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
    """Map each path to itself: the confined program sees it at the same path."""
    return {path: path for path in paths}


def command(
    argv: Sequence[str],
    *,
    readable: Mapping[Path, Path | str] = MappingProxyType({}),
    writable: Mapping[Path, Path | str] = MappingProxyType({}),
    devices: Sequence[Path] = (),
    empty: Sequence[Path] = (),
) -> list[str]:
    """Return the argv of bwrap that runs ``argv`` confined.

    ``readable`` and ``writable`` map files and folders of the host to the paths at which the
    program sees them; a writable folder may be inside a readable one. ``devices`` are nodes of /dev
    that it may use. ``empty`` are paths at which it sees an empty folder.
    """
    words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    # bwrap leaves root its capabilities within the namespaces. With these a program could remount
    # a read-only bind mount writable.
    words += ["--cap-drop", "ALL"]
    words += ["--proc", "/proc", *_proc(), "--dev", "/dev"]
    words += ["--tmpfs", "/tmp"]  # noqa: S108 - private to the confined program
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
    """Return bwrap's options that make /proc read-only, except for the folders of processes.

    The other writable files belong to the whole machine. Root needs no capability to write to them,
    for example to sys/kernel/core_pattern (a program that the kernel runs outside of all
    namespaces) or to sysrq-trigger.
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
    """Return bwrap's options that make the folders of TOOLS visible if they are not in /usr."""
    return [word for folder in _folders() for word in ("--ro-bind", str(folder), str(folder))]


def _folders() -> list[Path]:
    programs = (shutil.which(tool) for tool in TOOLS)
    folders = dict.fromkeys(Path(path).parent for path in programs if path is not None)
    return [folder for folder in folders if not _in_usr(folder)]


def _in_usr(folder: Path) -> bool:
    return f"{folder}/".startswith(tuple(f"/{name}/" for name in ("usr", *TOP)))


def path() -> str:
    """Return PATH for a confined program: the user's, without folders that it does not see."""
    there = set(_folders())
    folders = map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep))
    return os.pathsep.join(str(it) for it in folders if it in there or _in_usr(it))


# ---- builds --------------------------------------------------------------------------------------

# Path of the source inside of a confined build, wherever it is on the host. Some commands have
# absolute paths (objtool's for one); with a fixed path their objects are the same for every copy
# of a tree, and ccache finds them.
PLACE = "/build/source"

# Limits of a build: time, disk space and output. A cold build of the largest flavor uses a tenth.
BUILD_SECONDS = 3600.0
BUILD_DISK = 20 << 30
BUILD_OUTPUT = 256 << 20

# Shell script: write the shell's pid to the cgroup.procs files given before "--", then exec the
# rest. Its arguments are file names and argv, so no text is interpreted by the shell.
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
    """Run the make command ``argv`` confined, if bwrap works; return its exit status and output.

    make can read ``source`` and the further paths ``readable``, and write to ``out`` and
    ``writable``. Its environment is that of `kpatch.lib.environment` with ``more``; confined, HOME,
    TMPDIR and PATH are others. ``line`` is called with each line of output; ``log``, an open file,
    gets the bytes of the output. Confined, make sees ``source`` as PLACE and prints that path; it
    is replaced by ``source`` in the returned output alone.

    OSError (ENOSPC) if make failed since the disk was full. HarnessError (exit 4) if make exceeded
    a limit (BUILD_SECONDS, BUILD_DISK, BUILD_OUTPUT) and was ended.
    """
    env = environment.clean(**more)
    words = list(argv)
    if not fault():
        env = {name: value.replace(str(source), PLACE) for name, value in env.items()}
        env |= {"HOME": "/tmp", "TMPDIR": "/tmp", "PATH": path()}  # noqa: S108 - private
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
            hint="look for what is abnormal in the series",
            code=ExitCode.BUILD,
            details=output[-2000:],
        )
    if status != 0 and NO_SPACE in output:
        raise OSError(errno.ENOSPC, NO_SPACE)
    return status, output


class _Watch:
    """Decides whether a build has exceeded BUILD_SECONDS, BUILD_DISK or BUILD_OUTPUT.

    Disk space is measured by what has become less free on the file system of ``out``. ``ended`` is
    the exceeded limit in words, "" as long as none is exceeded.
    """

    def __init__(self, out: Path) -> None:
        self.ended = ""
        self._out = out
        self._end = time.monotonic() + BUILD_SECONDS
        self._free = self._available()

    def __call__(self, printed: int) -> bool:
        """Return whether to end the program now; ``printed`` is its output so far in bytes."""
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
    """Return the resolved path of a file that a build has made in ``folder``.

    HarnessError (exit 4) if it is no regular file inside ``folder``. A hostile build could leave a
    symbolic link to a file of the user, or a pipe that blocks the reader.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise HarnessError(
            f"build: {name}",
            "is not there as a regular file after the build",
            hint="look for what makes it in the series",
            code=ExitCode.BUILD,
        )
    return path


# ---- control groups ------------------------------------------------------------------------------


@contextmanager
def bounded() -> Iterator[list[Path]]:
    """Make control groups that limit processes and memory; yield their cgroup.procs files.

    A process enters the groups by writing its pid to each file. Groups that cannot be made are left
    out; the list may be empty. At the end of the block `_remove` tries to remove them.
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
    """Make a group below ``parent``, set its ``limits`` (file: value), and return its folder.

    MORE_LIMITS are set, too, where the group has their files. OSError if that fails, or our
    processes cannot enter the group; the group is then removed.
    """
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
    """Raise OSError if our processes cannot enter ``group``.

    Moving a process needs write access to the common ancestor of both groups, which the owner of a
    delegated group may lack (cgroup-v2.rst, "Delegation Containment").
    """
    argv = ["sh", "-c", ENTER, "sh", str(group / "cgroup.procs"), "--", "true"]
    if subprocess.run(argv, env=environment.clean(), capture_output=True, check=False).returncode:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(group))


def _remove(group: Path) -> None:
    """Kill the processes left in ``group`` (cgroup v2 only); try REMOVE_SECONDS to remove it."""
    if (group / "cgroup.kill").exists():  # since v5.14, only in cgroup v2
        with suppress(OSError):
            (group / "cgroup.kill").write_text("1")
    end = time.monotonic() + REMOVE_SECONDS
    while time.monotonic() < end:
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.02)


def _groups() -> list[tuple[Path, dict[str, int]]]:
    """Return the groups to make, each as its parent folder and the limits to write (file: value).

    One group for cgroup v2, one for each controller of v1.
    """
    memory = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * SHARE_OF_MEMORY)
    if (CGROUPS / "cgroup.controllers").exists():
        return [(_parent(), {"pids.max": MOST_PROCESSES, "memory.max": memory})]
    return [
        (CGROUPS / "pids", {"pids.max": MOST_PROCESSES}),
        (CGROUPS / "memory", {"memory.limit_in_bytes": memory}),
    ]


def _parent() -> Path:
    """Return the cgroup v2 folder to make our group in: the nearest that enables CONTROLLERS.

    It must be above our own group, and writable. Our own group cannot be used: a group with
    processes cannot enable controllers for its children ("No Internal Process Constraint"). The
    user's slice and its parent can, if systemd has delegated them. The rule does not apply to the
    root group. The root is returned if no other group can be used; this function tries to enable
    the controllers there, and ignores a failure.
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
    """Return the groups above our own, the nearest first; only the root if our own is the root."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::/")), "/")
    names = [name for name in own.split("/") if name]
    if ".." in names:  # our group is outside of the cgroup namespace
        return [CGROUPS]
    return [CGROUPS.joinpath(*names[:count]) for count in range(len(names) - 1, 0, -1)] + [CGROUPS]


def described() -> str:
    """Return one line for reports: how builds and VMs are confined on this system."""
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
