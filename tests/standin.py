# SPDX-License-Identifier: GPL-2.0-only
"""``python -m tests.standin test …``: kpatch with stand-ins for the slow parts of a run.

The kernel is a few files that take a second to make, QEMU a script on QEMU's channels, whose suite
has five tests. All else is real: the command, its processes and signals, the cache and its locks,
mkfs.erofs and iasl, OUT, and the verdict.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from kpatch import pipeline
from kpatch.lib import cache, erofs
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Config, Kernel
from kpatch.vm import acpid, guest_image, qemu
from kpatch.vm.guest_image import Images
from kpatch.vm.machine import Machine
from ktests.contract import PROTOCOL

FILES = ("bzImage", "System.map", "config", "build.log", "warnings.json", "meta.json")
BYTES = 100_000

# The program's name is QEMU's, so that tests find the process as they find a real one.
NAMED = 'exec -a qemu-system-x86_64 "$@"'

GUEST = """
import json, socket, sys, time
records, console, qmp, qtest = (socket.socket(fileno=int(word)) for word in sys.argv[1:5])

def tell(kind, **fields):
    records.sendall(json.dumps({"type": kind, **fields}).encode() + b"\\n")

def kernel(text):
    console.sendall(f"[    1.000000] {text}\\n".encode())

kernel("Linux version 9.9.1")
time.sleep(0.3)
tell("hello", protocol=int(sys.argv[5]), release="9.9.1", python="3.11")
job = json.loads(records.makefile().readline())
names = [f"test_standin.py::test_companion[{number}]" for number in range(5)]
tell("collected", tests=[{"id": name, "requirement": "REQ-INT-02"} for name in names])
for name in names:
    if name not in job["done"]:
        kernel("vfio_acpi: begin " + name)
        tell("begin", id=name, limit=60)
        time.sleep(0.2)
        kernel("vfio_acpi: end " + name)
        tell("end", id=name, outcome="pass", seconds=0.2)
tell("done")
kernel("vfio_acpi: through")
time.sleep(20)
"""


def build(self: pipeline.Pipeline, applied: Applied) -> Kernel:
    """Make a kernel entry in the cache, as `Pipeline.build` does."""

    def fill(partial: Path) -> None:
        for name in FILES:
            (partial / name).write_bytes(b"{}" if name.endswith(".json") else bytes(BYTES))
            time.sleep(0.15)

    name = cache.digest((applied.tree.tree_id, applied.delta_id))
    with self._stage("build", applied.series.name) as stage:
        path, stage.cached = cache.entry("kernels", name, fill)
    config = Config(self.request.flavor, "CONFIG_A=y\n", "c" * 16, stage.cached)
    kernel = Kernel(applied, config, "none", path, name, stage.cached)
    self.state.kernels[applied.series.name] = kernel
    return kernel


def images(machine: Machine, *_: object, stage: Stage) -> Images:
    """Make an image of the cache kind "suite", as `guest_image.images` does."""

    def fill(partial: Path) -> None:
        root = partial / "root"
        root.mkdir()
        (partial / "protocol").write_text(str(PROTOCOL))
        for number in range(20):
            (root / str(number)).write_bytes(os.urandom(50_000))
            time.sleep(0.05)
        erofs.pack(root, partial / "image.erofs", stage)

    key = guest_image.suite_key(json.dumps(machine.facts()))
    path, cached = cache.entry("suite", key, fill)
    return Images(path / "image.erofs", path / "image.erofs", cached)


def command(setup: qemu.Setup, fds: Mapping[str, int], stage: Stage) -> list[str]:
    """Return the command of the script in the place of QEMU. Its protocol is that of the image."""
    python = sys._base_executable  # type: ignore[attr-defined]
    protocol = (setup.images.suite.parent / "protocol").read_text()
    words = (*(str(fds[name]) for name in qemu.CHANNELS), protocol)
    return ["bash", "-c", NAMED, "bash", python, "-S", "-c", GUEST, *words]


def main() -> None:
    """Put the stand-ins in place and run kpatch."""
    pipeline.Pipeline.build = build  # type: ignore[method-assign]
    guest_image.images = images  # type: ignore[assignment]
    acpid.folder = lambda **_: None
    qemu.command = command
    qemu.confined = lambda _, argv: list(argv)  # type: ignore[assignment]
    runpy.run_module("kpatch", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
