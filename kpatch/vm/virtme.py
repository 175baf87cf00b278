# SPDX-License-Identifier: GPL-2.0-only
"""What virtme-ng would run: its QEMU command for a kernel, adapted to the harness.

virtme-ng knows how to give a kernel the host's file system as its root, read-only, and brings
the init for it. It is asked for its command (``vng --dry-run``); the harness then owns the
QEMU process itself, so that it can time, stop and talk to it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache, process
from kpatch.lib.environment import clean
from kpatch.lib.stage import Stage
from kpatch.tables.outcomes import ExitCode

# The image's name stands in the cached command until the real one is put in.
IMAGE = "@bzImage@"

# To be counted up when a change here makes another command of the same input.
RECIPE = "2"

# What virtme-ng 1.42 puts into the command, and how the values of some begin.
FLAGS = frozenset(
    {
        *("-accel", "-append", "-chardev", "-cpu", "-display", "-echr", "-enable-kvm", "-kernel"),
        *("-m", "-machine", "-mon", "-name", "-no-reboot", "-parallel", "-serial", "-smp", "-vga"),
    }
)
VALUES = {
    "-net": ("none",),
    "-fsdev": ("local,id=virtfs",),
    "-device": (
        "virtio-9p-pci,",
        "i6300esb,",
        "virtio-serial-pci",
        "virtserialport,",
        "virtconsole,",
    ),
}

# What the kernel has to be told: in every VM, and where its console is followed.
WORDS = ("ro", "rootfstype=9p")
WORDS_OF_A_RUN = ("console=ttyS0", "loglevel=7")

MEMORY = "1G"
CPUS = 2


def vng() -> str:
    """The path of vng: beside the interpreter in the project's environment, else in PATH."""
    beside = Path(sys.executable).parent / "vng"
    return str(beside) if beside.exists() else process.need("vng", package="virtme-ng")


def environment(home: Path) -> dict[str, str]:
    """Return vng's environment: its parts are in PATH, and ``home`` decides nothing.

    vng reads the first configuration that it finds: in the user's home, then in /etc. Its
    default_opts go before the options of its command line, ``"rw": true`` among them. So it gets a
    home of its own, with a configuration that says nothing.
    """
    folder = home / ".config" / "virtme-ng"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "virtme-ng.conf").write_text("{}\n")
    path = os.pathsep.join([str(Path(vng()).parent), os.environ.get("PATH", os.defpath)])
    return clean(PATH=path, HOME=str(home), TERM=os.environ.get("TERM", "dumb"))


def vng_command(image: Path, *, kvm: bool, interactive: bool = False) -> list[str]:
    """The ``vng`` command for ``image``; interactive: a shell on this terminal."""
    return [
        vng(),
        "--run",
        str(image),
        "--disable-microvm",
        *(() if kvm else ("--disable-kvm",)),
        "--force-9p",
        "--memory",
        MEMORY,
        "--cpus",
        str(CPUS),
        "--verbose",
        *(() if interactive else ("--exec", "true")),
    ]


def qemu_command(image: Path, *, kvm: bool, stage: Stage, interactive: bool = False) -> list[str]:
    """QEMU's argv as virtme-ng has it for ``image``.

    vng needs half a second to say so, the same every time: its answer is kept in the cache. It
    never depends on the image but for its name (the kernel has no modules to look for).
    """
    qemu = process.need("qemu-system-x86_64", package="qemu-system-x86")
    words = vng_command(Path(IMAGE), kvm=kvm, interactive=interactive)
    version = importlib.metadata.version("virtme-ng")
    # The terminal of an interactive VM is told to its kernel.
    terminal = os.environ.get("TERM", "") if interactive else ""
    key = cache.digest([RECIPE, version, qemu, *words, str(os.getuid()), terminal])

    def fill(folder: Path) -> None:
        probe = folder / "bzImage"
        probe.symlink_to(image.absolute())
        argv = [*vng_command(probe, kvm=kvm, interactive=interactive), "--dry-run"]
        home = folder / "home"
        status, output = process.capture(argv, cwd=Path("/"), env=environment(home))
        shutil.rmtree(home)
        command = next((line for line in output.splitlines() if " -append " in line), None)
        if status != 0 or command is None:
            raise HarnessError(
                "virtme-ng",
                f"vng --dry-run shows no QEMU command (status {status})",
                mend="see its output above",
                code=ExitCode.LOST,
                details=output,
            )
        argv = [IMAGE if word == str(probe) else word for word in shlex.split(command)]
        check(argv, interactive=interactive)
        (folder / "argv.json").write_text(json.dumps(argv))

    stage.command(vng_command(image, kvm=kvm, interactive=interactive))
    folder, _ = cache.entry("virtme", key, fill)
    words = json.loads((folder / "argv.json").read_text())
    return [str(image.absolute()) if word == IMAGE else word for word in words]


def guest_folder() -> Path:
    """Return the folder of the programs that virtme-ng runs in the guest, its init among them."""
    import virtme

    return Path(virtme.__file__).parent / "guest"


def check(argv: Sequence[str], *, interactive: bool = False) -> None:
    """HarnessError (exit 7) if QEMU's command is not what the harness asked for.

    Every file system of the host has to be read-only, the console ours and complete, CPUs and
    memory as asked for, and nothing there that is not known.
    """
    objection = next(_objections(argv, interactive=interactive), None)
    if objection is not None:
        raise HarnessError(
            f"virtme-ng {importlib.metadata.version('virtme-ng')}",
            f"its QEMU command is not as asked for: {objection}",
            mend="install the version in the lock file",
            code=ExitCode.LOST,
        )


def _objections(argv: Sequence[str], *, interactive: bool) -> Iterator[str]:
    options = list(_pairs(argv[1:]))
    for flag, value in options:
        known = value.startswith(VALUES[flag]) if flag in VALUES else flag in FLAGS
        if not known:
            yield f"{flag} {value} is not known"
        if flag == "-fsdev" and "readonly=on" not in value.split(","):
            yield f"the guest can write to the file system {value}"
    for flag, wanted in {"-m": MEMORY, "-smp": str(CPUS)}.items():
        if dict(options).get(flag) != wanted:
            yield f"{flag} is {dict(options).get(flag)}, not {wanted}"
    kernel = dict(options).get("-append", "").split()
    for word in WORDS if interactive else (*WORDS, *WORDS_OF_A_RUN):
        if word not in kernel:
            yield f"the kernel is not told {word}"
    for word in kernel:
        if word in ("rw", "quiet") or (word.startswith("loglevel=") and word not in WORDS_OF_A_RUN):
            yield f"the kernel is told {word}"


def without_script_ports(argv: list[str]) -> list[str]:
    """Drop the virtio-serial ports through which virtme-ng drives a script, with their buses.

    The harness brings a channel of its own, and five PCI devices less is a faster boot.
    """
    chardevs = {
        option.split("chardev=")[1]
        for option in argv
        if option.startswith("virtserialport,name=virtme.")
    }
    kept: list[str] = []
    for flag, value in _pairs(argv):
        identity = value.split("id=")[-1].split(",")[0] if flag == "-chardev" else None
        script_port = flag == "-device" and value.startswith(
            ("virtserialport,name=virtme.", "virtio-serial-pci")
        )
        if not script_port and identity not in chardevs:
            kept += [flag, value] if value else [flag]
    return kept


def replaced(argv: list[str], flag: str, start: str, value: str) -> list[str]:
    """``argv`` with the value of ``flag`` that begins with ``start`` replaced.

    Raises HarnessError (exit 7) when there is none: a virtme-ng that this does not know.
    """
    for index, (word, following) in enumerate(pairwise(argv)):
        if word == flag and following.startswith(start):
            return [*argv[: index + 1], value, *argv[index + 2 :]]
    raise HarnessError(
        f"virtme-ng {importlib.metadata.version('virtme-ng')}",
        f"its QEMU command has no {flag} {start}…",
        mend="install the version in the lock file",
        code=ExitCode.LOST,
    )


def value_of(argv: list[str], flag: str) -> str:
    """The value of ``flag`` in ``argv``; ValueError if it is not there."""
    return argv[argv.index(flag) + 1]


def _pairs(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each word with the value that follows it, or with nothing (``-no-reboot``)."""
    index = 0
    while index < len(argv):
        has_value = (
            argv[index].startswith("-")
            and index + 1 < len(argv)
            and not argv[index + 1].startswith("-")
        )
        yield argv[index], argv[index + 1] if has_value else ""
        index += 2 if has_value else 1
