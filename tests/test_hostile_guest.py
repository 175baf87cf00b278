# SPDX-License-Identifier: GPL-2.0-only
"""A guest whose root attacks the host through file systems, disks, ports and devices.

The kernel, QEMU and its confinement are those of a normal run; only the suite's image is replaced
(data/hostile). The guest prints on its console what it could do; the test also checks the host.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpatch import pipeline
from kpatch.lib import cache, confine, environment, erofs
from kpatch.lib.progress import Progress
from kpatch.lib.stage import Silent
from kpatch.report import tables
from kpatch.tables.limits import Limits
from kpatch.tables.outcomes import EXIT_MEANING, ExitCode
from kpatch.tables.paths import KTESTS
from kpatch.vm import guest_image, qemu, virtme

HOSTILE = Path(__file__).parent / "data" / "hostile"

# Folders of the system with files of every type.
USR = ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/local", "/etc")


def state(folders: Iterable[Path]) -> dict[str, tuple[object, ...]]:
    """Return mode, owner, size and time of every file, and the hash of small files."""
    found: dict[str, tuple[object, ...]] = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            info = path.lstat()
            small = path.is_file() and not path.is_symlink() and info.st_size < 1 << 16
            content = hashlib.sha256(path.read_bytes()).hexdigest() if small else ""
            of = (info.st_mode, info.st_uid, info.st_size, info.st_mtime_ns, info.st_nlink)
            found[str(path)] = (*of, content)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and an environment with secrets. The cache stays where it is."""
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(cache.root()))
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh" / "id").write_text("secret\n")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("A_TOKEN_OF_MINE", "secret")
    return folder


def take_the_suites_place(parts: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the guest start tests/data/hostile instead of the suite."""
    root = folder / "suite"
    shutil.copytree(HOSTILE, root / "ktests", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "ktests" / "parts").write_text(parts)
    image = folder / "suite.erofs"
    erofs.pack(root, image, Silent())
    images = guest_image.images
    monkeypatch.setattr(
        guest_image, "images", lambda *a, **k: replace(images(*a, **k), suite=image)
    )


def warm(request: pipeline.RunRequest) -> list[Path]:
    """Fill the cache with everything that a run puts there, and return what QEMU gets of it.

    Of the rest of the cache nothing can be said: other runs write to it at the same time.
    """
    through = pipeline.Pipeline(request, Progress())
    kernel = through.build(through.apply("base"))
    setup = through.machine(kernel, through.selftests(kernel))
    qemu.command(setup, dict.fromkeys(qemu.CHANNELS, 0), Silent())
    images = (setup.images.runtime, setup.images.suite, setup.selftests)
    return [kernel.path, setup.firmware, *(image for image in images if image is not None)]


def lines(console: str) -> Mapping[str, list[dict[str, Any]]]:
    """Return the guest's lines by subject. A kernel message may have broken a line."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in re.findall(r"^hostile: (\{.*\})\s*$", console, re.MULTILINE):
        fact = json.loads(line)
        found[fact["what"]].append(fact)
    return found


# The guest's attacks, and the exit codes that a run may end with. Invalid values in device
# registers may end QEMU, make the guest hang, or start a DMA that the IOMMU refuses.
PARTS = {
    "what is shared": ("shares mounts disks records done", {ExitCode.LOST}),
    "devices": ("records devices", {ExitCode.CRASH, ExitCode.LOST, ExitCode.HANG}),
}


# The guest's attacks on a folder without a file. How many files there are depends on the system.
FOLDER_ATTACKS = 7


@pytest.mark.vm
@pytest.mark.skipif(bool(confine.fault()), reason=confine.fault() or "confined")
@pytest.mark.parametrize("name", PARTS)
def test_hostile_guest_changes_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    parts, codes = PARTS[name]
    take_the_suites_place(parts, tmp_path, monkeypatch)
    # Without cache=loose the guest can read files of size 0, such as those of /proc. A hostile
    # kernel can do that in any cache mode.
    monkeypatch.setattr(qemu, "CACHE", "")
    request = pipeline.RunRequest(
        series=("base",), tests="test_forged", jobs=os.cpu_count() or 1, limits=Limits(150, 60, 400)
    )
    roots = [*warm(request), *map(Path, USR), KTESTS, virtme.guest_folder(), home]
    before = state(roots)

    outcome = pipeline.run(request, tmp_path / "out", Progress())

    after = state(roots)
    both = before.keys() | after.keys()
    assert {path for path in both if before.get(path) != after.get(path)} == set()
    told = lines((tmp_path / "out" / "console-base-1.log").read_text(errors="replace"))
    assert told["records"], "the guest came that far"
    judged(name, told)

    # Forged passes among invalid records do not count as passes.
    assert outcome.exit_code in codes
    assert any("make no sense" in it.message for it in outcome.incidents)
    shown = io.StringIO()
    tables.show(outcome, shown)
    assert f"exit {outcome.exit_code.value}: {EXIT_MEANING[outcome.exit_code]}" in shown.getvalue()


def judged(name: str, told: Mapping[str, list[dict[str, Any]]]) -> None:
    """Compare the guest's lines with what it may see and do."""
    assert not told["broke"], told["broke"]
    if name == "devices":
        assert len(told["registers"]) + len(told["config"]) > 10
        return
    [sight] = told["sight"]
    assert sight["folders"]["home"] == []
    assert set(sight["folders"]["etc"]) <= set(confine.ETC)
    assert set(sight["variables"]) <= {*environment.VARIABLES, "LC_ALL", "PWD"}
    assert "PATH" in sight["variables"], "it could look"
    [share] = told["share"]
    assert share["tried"] > 100, share
    for place in (share, *told["mount"]):
        assert place["tried"] >= FOLDER_ATTACKS, place
        assert place["worked"] == [], place
    assert {disk["path"] for disk in told["disk"]} >= {"/dev/vda", "/dev/vdb"}
    assert not any(disk["worked"] for disk in told["disk"]), told["disk"]
