# SPDX-License-Identifier: GPL-2.0-only
"""The carried series apply to the trees in their ranges, and checkpatch accepts them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kpatch.lib.stage import Silent
from kpatch.series import apply, catalog
from kpatch.source import resolve
from tests.carried import CARRIED_KERNELS

# Nobody can certify the origin of a patch for another person, so there is no Signed-off-by.
# MAINTAINERS covers new files of drivers/vfio/ by its pattern for the folder.
IGNORED = "MISSING_SIGN_OFF,FILE_PATH_CHANGES"

pytestmark = pytest.mark.trees


@pytest.mark.parametrize(("kernel_tree", "name"), CARRIED_KERNELS, indirect=["kernel_tree"])
def test_applies(kernel_tree: tuple[str, Path], name: str) -> None:
    base, path = kernel_tree
    tree = resolve.resolve(base, stage=Silent())
    assert tree.path == path
    applied = apply.apply(tree, catalog.load(name, base), stage=Silent())
    assert len(applied.subjects) == len(catalog.load(name, base).mailboxes)
    assert applied.changes


# Within a base stable changes lines near those of a patch. 6.1.176, which is what Debian 12 has
# outside its security archive, asks for the module's parameter; 6.1.192 and 6.12.117 ask for the
# device's copy of it.
CORE = "drivers/vfio/pci/vfio_pci_core.c"
LATCH = ("(!disable_idle_d3)", "(!vdev->disable_idle_d3)")


@pytest.mark.parametrize("form", LATCH)
@pytest.mark.parametrize(
    ("base", "name"), [row for row in CARRIED_KERNELS if row[0] in ("6.1", "6.12")]
)
def test_applies_before_and_after_the_latch(
    base: str, name: str, form: str, tmp_path: Path
) -> None:
    tree = resolve.resolve(base, stage=Silent())
    series = catalog.load(name, base)
    files = {change.path for change in apply.apply(tree, series, stage=Silent()).changes}
    for file in filter(lambda file: (tree.path / file).is_file(), files):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree.path / file, tmp_path / file)
    text = (tmp_path / CORE).read_text()
    (has,) = (one for one in LATCH if one in text)
    (tmp_path / CORE).write_text(text.replace(has, form))
    other = apply.apply(replace(tree, path=tmp_path), series, stage=Silent())
    assert {change.path for change in other.changes} == files


@pytest.mark.parametrize(("kernel_tree", "name"), CARRIED_KERNELS, indirect=["kernel_tree"])
def test_checkpatch_is_content(kernel_tree: tuple[str, Path], name: str) -> None:
    base, path = kernel_tree
    patches = [str(patch) for patch in catalog.load(name, base).mailboxes]
    argv = ["perl", "scripts/checkpatch.pl", "--strict", "--ignore", IGNORED, *patches]
    checked = subprocess.run(argv, cwd=path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("0 errors, 0 warnings, 0 checks") == len(patches)


def test_checkpatch_can_disagree(kernel_tree: tuple[str, Path], tmp_path: Path) -> None:
    base, path = kernel_tree
    patch = catalog.load("netlink", base).mailboxes[0].read_text()
    worse = tmp_path / "worse.patch"
    worse.write_text(patch.replace("\n+\t", "\n+    ", 1))
    argv = ["perl", "scripts/checkpatch.pl", "--strict", "--ignore", IGNORED, str(worse)]
    checked = subprocess.run(argv, cwd=path, capture_output=True, text=True, check=False)
    assert checked.returncode != 0
