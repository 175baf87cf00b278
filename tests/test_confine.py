# SPDX-License-Identifier: GPL-2.0-only
"""Hostile series: their Makefiles attack the machine that builds them.

The trees are tiny, make and bubblewrap are real. Each series is built like a series from a file.
Nothing outside its own objects may change, and the build has to end with its exit code.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kpatch.build import kernel, worktree
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine
from kpatch.lib.stage import Silent
from kpatch.model import Applied, Change, Origin, Tree
from kpatch.tables.outcomes import ExitCode
from tests import test_build
from tests.test_build import CONFIG, private_cache, tree  # noqa: F401 - fixtures

pytestmark = pytest.mark.skipif(bool(confine.fault()), reason=confine.fault() or "confined")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a secret. Checks afterwards that nothing in it has changed."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh" / "id").write_text("secret\n")
    monkeypatch.setenv("HOME", str(folder))
    yield folder
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert found == [".ssh", ".ssh/id"]
    assert (folder / ".ssh" / "id").read_text() == "secret\n"


def stranger(tree: Tree, recipe: str) -> Applied:  # noqa: F811
    """Return a series from a file whose Makefile runs ``recipe`` before it builds."""
    makefile = test_build.MAKEFILE.replace("\t@echo '  SYNC", f"\t{recipe}\n\t@echo '  SYNC", 1)
    assert recipe in makefile
    series = replace(
        test_build.applied(tree).series, mailboxes=(Path("/x.mbox"),), origin=Origin.MBOX
    )
    changes = (Change("Makefile", makefile.encode()),)
    return replace(test_build.applied(tree, *changes), series=series)


def refused(applied: Applied) -> HarnessError:
    with pytest.raises(HarnessError) as error:
        kernel.build(applied, CONFIG, jobs=2, stage=Silent())
    assert error.value.code is ExitCode.BUILD
    return error.value


HOSTILE = {
    "home": "echo owned > {home}/owned",
    "ssh": "cat {home}/.ssh/id",
    "pristine tree": "echo '#' >> drivers/b.c",
    "ccache": "echo owned > {ccache}/owned",
    "another worktree": "echo owned > {worktrees}/owned",
    "socket": "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)'",
    "root": "echo owned > /usr/owned",
    "mounted again": "mount -o remount,bind,rw /usr && echo owned > /usr/owned",
    "source mounted again": "mount -o remount,bind,rw . && echo '#' >> drivers/b.c",
    # Write the file's own value. The file belongs to root, who needs no capability to write it.
    "kernel's settings": "cat {pattern} > {pattern}",
}


OPENING = """
import os
from pathlib import Path
tops = [path for path in Path("/proc").iterdir() if not path.name.isdecimal()]
tops = [path for path in tops if not path.is_symlink()]
files = [file for path in tops for file in (path, *path.rglob("*"))]
files = [file for file in files if file.is_file() and file.stat().st_mode & 0o222]
print(len(files))
for file in files:
    try:
        os.close(os.open(file, os.O_WRONLY))
        print(file)
    except OSError:
        pass
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_there_cannot_be_reached(tree: Tree, home: Path, name: str) -> None:  # noqa: F811
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        places = {
            "home": home,
            "ccache": os.environ["CCACHE_DIR"],
            "worktrees": cache.folder(worktree.KIND),
            "port": server.getsockname()[1],
            "pattern": "/proc/sys/kernel/core_pattern",
        }
        refused(stranger(tree, HOSTILE[name].format(**places)))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not list(cache.folder(worktree.KIND).glob("owned"))
    assert not Path("/usr/owned").exists()


def test_nothing_of_the_kernel_can_be_opened_for_writing() -> None:
    """The files are only opened: writing to sysrq-trigger would act on the host."""
    argv = confine.command(["python3", "-S", "-c", OPENING])
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    tried, *opened = done.stdout.splitlines()
    assert int(tried) > 100, done.stdout
    assert opened == []


def test_the_pristine_tree_is_not_written_to_by_a_hard_link(tree: Tree) -> None:  # noqa: F811
    """The Makefile makes a hard link to a source file and writes to it."""
    before = (tree.path / "drivers/b.c").stat()
    assert before.st_nlink == 1
    refused(stranger(tree, "ln drivers/b.c $(O)/b.c && echo '#' >> $(O)/b.c"))


def test_objects_of_the_project_are_not_those_of_a_stranger(tree: Tree) -> None:  # noqa: F811
    """A poisoned object of a series from a file reaches neither control nor another series."""
    control = test_build.applied(tree)
    clean = test_build.built(control).image.read_bytes()
    poison = "mkdir -p $(O)/drivers; echo 'int evil;' | gcc -x c -c -o $(O)/drivers/b.o -"
    kernel.build(stranger(tree, poison), CONFIG, jobs=2, stage=Silent())
    again = test_build.applied(tree, test_build.c_file("a", 1))
    assert b"evil" not in test_build.built(again).image.read_bytes()
    assert test_build.built(control).image.read_bytes() == clean


def test_a_link_in_the_place_of_the_image_is_no_image(tree: Tree, home: Path) -> None:  # noqa: F811
    recipe = f"mkdir -p $(O)/arch/x86/boot; ln -sf {home}/.ssh/id $(O)/System.map"
    error = refused(stranger(tree, recipe))
    assert "secret" not in str(error) + error.details


def test_forks_are_bounded(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with confine.bounded() as groups:
        if not groups:
            pytest.skip("no control group can be made here")
    monkeypatch.setattr(confine, "MOST_PROCESSES", 50)
    monkeypatch.setattr(confine, "BUILD_SECONDS", 30.0)
    error = refused(stranger(tree, "for i in $$(seq 1 200); do sleep 20 & done; wait"))
    assert re.search(r"annot fork|fork: |vfork: ", error.details), "the fork that was refused"


def test_time_is_bounded(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(confine, "BUILD_SECONDS", 1.0)
    # A sleep time that no other process on this machine uses.
    seconds = f"600.{os.getpid()}"
    assert "took longer than 1 s" in str(refused(stranger(tree, f"sleep {seconds}")))
    assert test_build.processes_with(f"sleep {seconds}") == []


def test_disk_is_bounded(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(confine, "BUILD_DISK", 1 << 28)
    recipe = "while :; do head -c 64M /dev/zero >> $(O)/full; sleep 0.1; done"
    assert "of disk" in str(refused(stranger(tree, recipe)))


def test_output_is_bounded(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(confine, "BUILD_OUTPUT", 1 << 20)
    assert "printed more than 1 MiB" in str(refused(stranger(tree, "yes")))


def test_untrusted_needs_confinement(monkeypatch: pytest.MonkeyPatch) -> None:
    confine.require(demanded=True)
    monkeypatch.setattr(confine, "fault", lambda: "bwrap is not in PATH")
    confine.require(demanded=False)
    with pytest.raises(HarnessError, match=r"--untrusted: .*bwrap is not in PATH") as error:
        confine.require(demanded=True)
    assert error.value.code is ExitCode.USAGE
    assert confine.wrap(["true"]) == ["true"]
    assert confine.described() == "none: bwrap is not in PATH"


def test_a_group_whose_limits_cannot_be_set_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with cgroup v2 without delegated controllers: such a group would limit nothing."""
    parent = tmp_path / "groups"
    parent.mkdir()
    monkeypatch.setattr(confine, "_groups", lambda: [(parent, {"no/such/limit": 1})])
    with confine.bounded() as members:
        assert members == []
    assert list(parent.iterdir()) == []


UNIFIED = next(
    (
        Path(line.split()[1])
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[2] == "cgroup2" and os.access(line.split()[1], os.W_OK)
    ),
    None,
)


@pytest.mark.skipif(UNIFIED is None, reason="no cgroup v2 to write to")
def test_a_group_of_v2_is_entered_and_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets cgroup.max.depth of the group, because all controllers may belong to cgroup v1."""
    assert UNIFIED is not None
    monkeypatch.setattr(confine, "_groups", lambda: [(UNIFIED, {"cgroup.max.depth": 0})])
    with confine.bounded() as members:
        [group] = [member.parent for member in members]
        assert (group / "cgroup.max.depth").read_text() == "0\n"
        argv = ["sh", "-c", confine.ENTER, "sh", str(members[0]), "--", "setsid", "sleep", "60"]
        sleeping = subprocess.Popen(argv)
        while not members[0].read_text().split():
            assert sleeping.poll() is None
    assert sleeping.wait(5) == -signal.SIGKILL, "what hides from its parent is ended with the group"
    assert not group.exists()


def tree_of_v2(root: Path, **handed_out: str) -> None:
    """Make groups as systemd does, by path (_ for /), with the controllers that each delegates."""
    for name, controllers in {"": "", **handed_out}.items():
        folder = root / name.replace("_", "/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.subtree_control").write_text(controllers)


@pytest.mark.parametrize(
    ("own", "handed_out", "parent"),
    [
        # In a scope of the user's service manager: the group is made in the parent of the scope.
        (
            "user/me/app/run",
            {"user": "memory pids", "user_me": "pids", "user_me_app": "memory pids cpu"},
            "user/me/app",
        ),
        # One of the controllers is not delegated down to here.
        (
            "user/me/app/run",
            {"user": "memory pids", "user_me": "pids", "user_me_app": "pids"},
            "user",
        ),
        # Only the root group delegates the controllers; the run may be in the root group.
        ("system/sshd", {"system": "", "": "memory pids"}, ""),
        ("", {"": "memory pids"}, ""),
        # A group of another cgroup namespace.
        ("../../x", {"": "memory pids"}, ""),
    ],
)
def test_the_nearest_group_that_hands_out_the_controllers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    handed_out: dict[str, str],
    parent: str,
) -> None:
    tree_of_v2(tmp_path, **handed_out)
    monkeypatch.setattr(confine, "CGROUPS", tmp_path)
    read = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, *a, **k: (
            f"1:name=systemd:/x\n0::/{own}\n"
            if str(path) == "/proc/self/cgroup"
            else read(path, *a, **k)
        ),
    )
    assert confine._parent() == tmp_path / parent


def test_the_root_is_told_to_hand_them_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree_of_v2(tmp_path)
    monkeypatch.setattr(confine, "CGROUPS", tmp_path)
    monkeypatch.setattr(confine, "_ancestors", lambda: [tmp_path])
    assert confine._parent() == tmp_path
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+pids +memory"


def test_a_group_that_nobody_can_enter_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a process that tries to enter a delegated subtree from outside."""
    monkeypatch.setattr(confine, "_groups", lambda: [(tmp_path, {})])
    monkeypatch.setattr(confine, "ENTER", "exit 125")
    with confine.bounded() as members:
        assert members == []
    assert list(tmp_path.glob("vfio-acpi-*")) == []
