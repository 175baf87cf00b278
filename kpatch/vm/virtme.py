# SPDX-License-Identifier: GPL-2.0-only
"""Get the QEMU command of virtme-ng for a kernel, check it, and edit it.

virtme-ng knows the options by which a kernel has the host's file system as its read-only root, and
has the init program for that. ``vng --dry-run`` prints its QEMU command. The harness starts QEMU
itself, so that it can limit the time, kill the VM, and connect to its channels.
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

# Placeholder for the path of the kernel image in the cached command.
IMAGE = "@bzImage@"

# Part of the cache key. Increase it if a change of this module makes another command from the same
# input.
RECIPE = "2"

# The QEMU options that virtme-ng 1.42 uses: FLAGS may have any value, those in VALUES one with one
# of these beginnings. `check_argv` refuses all others.
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

# Words that virtme-ng's kernel command line must have: in every VM (WORDS), and also in a VM that
# runs the suite (WORDS_OF_A_RUN).
WORDS = ("ro", "rootfstype=9p")
WORDS_OF_A_RUN = ("console=ttyS0", "loglevel=7")

MEMORY = "1G"
CPUS = 2


def vng() -> str:
    """Return the path of vng: in the folder of the interpreter (virtual environment), else in PATH.

    HarnessError (exit 2) if it is missing.
    """
    beside = Path(sys.executable).parent / "vng"
    return str(beside) if beside.exists() else process.require_tool("vng", package="virtme-ng")


def environment(home: Path) -> dict[str, str]:
    """Return an environment for vng in which no configuration of the user or the system applies.

    vng reads the first configuration file that it finds, in HOME and then in /etc. This file may
    have default options such as ``"rw": true``. So an empty configuration file is written below the
    folder ``home``, and HOME is set to it. vng's folder comes first in PATH.
    """
    folder = home / ".config" / "virtme-ng"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "virtme-ng.conf").write_text("{}\n")
    path = os.pathsep.join([str(Path(vng()).parent), os.environ.get("PATH", os.defpath)])
    return clean(PATH=path, HOME=str(home), TERM=os.environ.get("TERM", "dumb"))


def vng_command(image: Path, *, kvm: bool, interactive: bool = False) -> list[str]:
    """Return the ``vng`` command that boots the kernel ``image``, under KVM if ``kvm`` is set.

    If ``interactive`` is set, the guest runs a shell on this terminal, otherwise the program
    ``true``; then it powers off.
    """
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
    """Return the QEMU command that virtme-ng uses to boot the kernel ``image``.

    ``kvm`` and ``interactive`` are as in `vng_command`. ``vng --dry-run`` takes half a second, so
    its answer is cached, with a placeholder for the image: the answer does not depend on the
    content of the image, since the kernel has no modules. HarnessError: exit 7 if vng fails or its
    command is not as expected (`check_argv`), exit 2 if vng or QEMU is not installed.
    """
    qemu = process.require_tool("qemu-system-x86_64", package="qemu-system-x86")
    words = vng_command(Path(IMAGE), kvm=kvm, interactive=interactive)
    version = importlib.metadata.version("virtme-ng")
    # virtme-ng puts TERM on the kernel's command line if the VM is interactive.
    terminal = os.environ.get("TERM", "") if interactive else ""
    # The command names the init program; `.venv` may be a link that leads elsewhere by now.
    init = str(guest_folder().resolve())
    key = cache.digest([RECIPE, version, qemu, *words, init, str(os.getuid()), terminal])

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
                hint="see its output above",
                code=ExitCode.LOST,
                details=output,
            )
        argv = [IMAGE if word == str(probe) else word for word in shlex.split(command)]
        check_argv(argv, interactive=interactive)
        (folder / "argv.json").write_text(json.dumps(argv))

    stage.command(vng_command(image, kvm=kvm, interactive=interactive))
    folder, _ = cache.entry("virtme", key, fill)
    words = json.loads((folder / "argv.json").read_text())
    return [str(image.absolute()) if word == IMAGE else word for word in words]


def guest_folder() -> Path:
    """Return the folder of the programs that virtme-ng runs in the guest, among them its init."""
    import virtme

    return Path(virtme.__file__).parent / "guest"


def check_argv(argv: Sequence[str], *, interactive: bool = False) -> None:
    """Raise HarnessError (exit 7) if virtme-ng's QEMU command ``argv`` is not as expected.

    The guest's view of the host's file system has to be read-only, CPUs and memory have to be CPUS
    and MEMORY, and every option has to be in FLAGS or VALUES. The kernel's command line has to have
    WORDS and, unless ``interactive`` is set, WORDS_OF_A_RUN; "rw", "quiet" and other log levels are
    refused.
    """
    objection = next(_objections(argv, interactive=interactive), None)
    if objection is not None:
        raise HarnessError(
            f"virtme-ng {importlib.metadata.version('virtme-ng')}",
            f"its QEMU command is not as asked for: {objection}",
            hint="install the version in the lock file",
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
            yield f"the kernel's command line lacks {word}"
    for word in kernel:
        if word in ("rw", "quiet") or (word.startswith("loglevel=") and word not in WORDS_OF_A_RUN):
            yield f"the kernel's command line has {word}"


def without_script_ports(argv: list[str]) -> list[str]:
    """Return ``argv`` without the virtio-serial ports by which virtme-ng runs a script.

    Their virtio-serial buses and character devices are left out, too. The harness has a channel of
    its own, and the kernel boots faster with five PCI devices less.
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
    """Return ``argv`` in which ``value`` replaces a value of the option ``flag``.

    It replaces the first value of ``flag`` that begins with ``start``. HarnessError (exit 7) if
    there is none: this version of virtme-ng is not supported.
    """
    for index, (word, following) in enumerate(pairwise(argv)):
        if word == flag and following.startswith(start):
            return [*argv[: index + 1], value, *argv[index + 2 :]]
    raise HarnessError(
        f"virtme-ng {importlib.metadata.version('virtme-ng')}",
        f"its QEMU command has no {flag} {start}…",
        hint="install the version in the lock file",
        code=ExitCode.LOST,
    )


def value_of(argv: list[str], flag: str) -> str:
    """Return the word after ``flag`` in ``argv``; ValueError if the flag is not there."""
    return argv[argv.index(flag) + 1]


def _pairs(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option of ``argv`` with its value, "" if it has none (``-no-reboot``)."""
    index = 0
    while index < len(argv):
        has_value = (
            argv[index].startswith("-")
            and index + 1 < len(argv)
            and not argv[index + 1].startswith("-")
        )
        yield argv[index], argv[index + 1] if has_value else ""
        index += 2 if has_value else 1
