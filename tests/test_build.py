# SPDX-License-Identifier: GPL-2.0-only
"""Worktrees and builds on a small tree, with real make, gcc and ld."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kpatch.build import code, compiler, diagnostics, kernel, log, make, objects, worktree
from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import Silent
from kpatch.model import Applied, Change, Config, Kernel, Origin, Patch, Series, Tree
from kpatch.series import apply
from kpatch.tables.flavors import FLAVORS
from kpatch.tables.outcomes import ExitCode

# The parts of kbuild that the harness uses: O=, steps, .config, release, banner, time stamps.
MAKEFILE = """\
CC = gcc
objects := $(patsubst %.c,$(O)/%.o,$(wildcard drivers/*.c))
packed := $(O)/arch/x86/boot/compressed/vmlinux.bin.lz4
bzImage: $(O)/arch/x86/boot/bzImage

$(O)/arch/x86/boot/bzImage: $(objects) $(O)/.config
\t@mkdir -p $(O)/arch/x86/boot/compressed $(O)/include/config
\t@echo '  SYNC    include/config/auto.conf'
\t@touch $(O)/include/config/auto.conf
\t@[ ! -e rewrite ] || echo CONFIG_SURPRISE=y >> $(O)/.config
\t@echo '  LD      vmlinux'
\t@$(LD) -r -o $(packed) $(objects)
\t@[ -e stale ] || cp $(packed) $@
\t@echo '$(KBUILD_BUILD_VERSION) $(KBUILD_BUILD_USER)' >> $@
\t@nm $@ 2>/dev/null > $(O)/System.map
\t@echo 7.3.4 > $(O)/include/config/kernel.release

drivers/%.o: $(O)/drivers/%.o
\t@:

$(O)/%.o: %.c
\t@echo '  CC      $*.o'
\t@mkdir -p $(@D)
\t@[ ! -e $(O)/bomb ] || { rm $(O)/bomb; echo torn > $@; sleep 0.05; kill -KILL $$PPID; }
\t@[ ! -e $(O)/full ] || cp Makefile /dev/full
\t@[ ! -e $(O)/slow ] || { echo torn > $@; sleep 60; }
\t@$(CC) -Wall -c -o $@ $<
"""


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "ccache"))


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    root = tmp_path / "pristine"
    (root / "drivers").mkdir(parents=True)
    (root / "Makefile").write_text(MAKEFILE)
    (root / "drivers/Kconfig").write_text("config A\n")
    for name in ("a", "b", "c"):
        (root / f"drivers/{name}.c").write_text(f"int {name}(void) {{ return 1; }}\n")
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))
    before = fingerprint(root)
    yield Tree(root, "7.3.4", "7.3", "folder", {}, "f" * 16, cached=False)
    assert fingerprint(root) == before


def fingerprint(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return mode, mtime and content of every file under ``root``."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".obj" not in path.parts
    }


def contents(root: Path) -> dict[str, tuple[bool, str]]:
    """Return the executable bit and content of every file under ``root``."""
    found = fingerprint(root)
    return {path: (bool(mode & stat.S_IXUSR), sha) for path, (mode, _, sha) in found.items()}


def applied(tree: Tree, *changes: Change) -> Applied:
    series = Series("test", "a test", "none", (), Origin.CARRIED)
    patch = Patch(1, 1, "a: change", "", ("", ""), b"", tuple(c.path for c in changes))
    return Applied(tree, series, (patch,), changes, apply.delta_id(changes), (changes,))


def c_file(name: str, result: int) -> Change:
    return Change(f"drivers/{name}.c", f"int {name}(void) {{ return {result}; }}\n".encode())


CONFIG = Config("plain", "CONFIG_A=y\n# CONFIG_B is not set\n", "c" * 16, cached=False)


def built(what: Applied, config: Config = CONFIG, stage: Silent | None = None) -> Kernel:
    return kernel.build(what, config, jobs=2, stage=stage or Silent())


def rebuilt(what: Applied, config: Config = CONFIG) -> Kernel:
    """Build even if the cache has the kernel."""
    shutil.rmtree(cache.root() / kernel.KIND, ignore_errors=True)
    return built(what, config)


def kernels() -> list[Path]:
    """Return all kernels in the cache, incomplete ones too."""
    return [path for path in (cache.root() / kernel.KIND).iterdir() if path.is_dir()]


def compiled(kernel: Kernel) -> list[str]:
    steps = map(log.step, (kernel.path / "build.log").read_text().splitlines())
    return sorted(step[1] for step in steps if step is not None and step[0] == "CC")


# --- the worktree --------------------------------------------------------------------------------


def test_series_from_a_file_compiles_only_what_it_changes_if_there_are_objects(tree: Tree) -> None:
    first = applied(tree, c_file("a", 2))
    series = replace(first.series, mailboxes=(Path("/x.mbox"),), origin=Origin.MBOX)
    with worktree.checkout(first, "plain", stage=Silent()):
        assert not worktree.has_objects(tree, "plain"), "nothing is built"
    built(applied(tree))
    assert worktree.has_objects(tree, "plain")
    assert not worktree.has_objects(tree, "debug")
    assert compiled(built(replace(first, series=series))) == ["drivers/a.o"]
    worktree.locate(first, "plain").building.touch()
    assert not worktree.has_objects(tree, "plain"), "the last build was killed"


def test_series_take_turns_in_a_worktree(tree: Tree) -> None:
    one = applied(
        tree,
        c_file("a", 2),
        Change("drivers/b.c", None),
        Change("drivers/new/d.c", b"int d;\n", executable=True),
    )
    two = applied(tree, c_file("a", 3))
    pristine = contents(tree.path)
    for what in (one, two, applied(tree), one):
        expected = dict(pristine)
        for change in what.changes:
            expected.pop(change.path, None)
            if change.content is not None:
                sha = hashlib.sha256(change.content).hexdigest()
                expected[change.path] = (change.executable, sha)
        with worktree.checkout(what, "plain", stage=Silent()) as work:
            assert contents(work.src) == expected
            assert (work.src / "drivers/new").exists() == (what is one)


def test_a_change_of_series_touches_what_differs(tree: Tree) -> None:
    first = applied(tree, c_file("a", 2), c_file("b", 2))
    second = applied(tree, c_file("a", 3), c_file("b", 2))
    with worktree.checkout(first, "plain", stage=Silent()) as work:
        before = fingerprint(work.src)
    with worktree.checkout(second, "plain", stage=Silent()) as work:
        after = fingerprint(work.src)
    assert {path for path in after if after[path] != before[path]} == {"drivers/a.c"}


def test_pristine_files_are_shared_and_changed_ones_are_not(tree: Tree) -> None:
    with worktree.checkout(applied(tree, c_file("a", 2)), "plain", stage=Silent()) as work:
        assert (work.src / "drivers/b.c").samefile(tree.path / "drivers/b.c")
        assert not (work.src / "drivers/a.c").samefile(tree.path / "drivers/a.c")


def test_a_changed_mode_leaves_the_pristine_one(tree: Tree) -> None:
    content = (tree.path / "drivers/a.c").read_bytes()
    what = applied(tree, Change("drivers/a.c", content, executable=True))
    with worktree.checkout(what, "plain", stage=Silent()) as work:
        assert (work.src / "drivers/a.c").stat().st_mode & stat.S_IXUSR


def test_file_and_folder_of_one_name_follow_each_other(tree: Tree) -> None:
    file, folder = applied(tree, Change("x", b"1")), applied(tree, Change("x/y", b"2"))
    for what in (file, folder, file):
        with worktree.checkout(what, "plain", stage=Silent()) as work:
            change = what.changes[0]
            assert (work.src / change.path).read_bytes() == change.content


def test_an_interrupted_change_is_done_again(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    first = applied(tree, c_file("a", 2), c_file("b", 2))
    second = applied(tree, c_file("b", 3), c_file("c", 3))
    with worktree.checkout(first, "plain", stage=Silent()):
        pass
    put, count = worktree._put, 0

    def interrupted(src: Path, change: Change) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        put(src, change)

    monkeypatch.setattr(worktree, "_put", interrupted)
    with pytest.raises(KeyboardInterrupt), worktree.checkout(second, "plain", stage=Silent()):
        pass
    monkeypatch.setattr(worktree, "_put", put)
    with worktree.checkout(first, "plain", stage=Silent()) as work:
        assert (work.src / "drivers/a.c").read_bytes() == c_file("a", 2).content
        assert (work.src / "drivers/b.c").read_bytes() == c_file("b", 2).content
        assert (work.src / "drivers/c.c").samefile(tree.path / "drivers/c.c")


@pytest.mark.parametrize("record", ["", "{}", '{"delta_id": "x", "paths": 3}', None])
def test_a_worktree_with_a_damaged_record_is_made_anew(tree: Tree, record: str | None) -> None:
    with worktree.checkout(applied(tree, c_file("a", 2)), "plain", stage=Silent()) as work:
        pass
    work.delta.unlink()
    if record is not None:
        work.delta.write_text(record)
    with worktree.checkout(applied(tree), "plain", stage=Silent()) as work:
        assert contents(work.src) == contents(tree.path)


def test_folders_that_were_copied_read_only_can_be_changed(tree: Tree) -> None:
    (tree.path / "drivers").chmod(0o555)
    try:
        with worktree.checkout(applied(tree, c_file("a", 2)), "plain", stage=Silent()) as work:
            assert (work.src / "drivers").stat().st_mode & stat.S_IWUSR
            assert (work.src / "drivers/a.c").read_bytes() == c_file("a", 2).content
        assert not (tree.path / "drivers").stat().st_mode & stat.S_IWUSR
    finally:
        (tree.path / "drivers").chmod(0o755)


def test_a_worktree_is_one_runs_at_a_time(tree: Tree) -> None:
    entered, notes = threading.Event(), []

    class Listener(Silent):
        def note(self, text: str) -> None:
            notes.append(text)
            if text.startswith("waiting"):
                entered.set()

    def other() -> None:
        with worktree.checkout(applied(tree, c_file("a", 2)), "plain", stage=Listener()):
            pass

    with worktree.checkout(applied(tree), "plain", stage=Silent()) as work:
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
        assert contents(work.src) == contents(tree.path)
    thread.join()
    assert notes[0] == "waiting for another run that builds 7.3.4 plain"
    assert (work.src / "drivers/a.c").read_bytes() == c_file("a", 2).content


def test_the_config_depends_on_kconfig_alone(tree: Tree) -> None:
    code, kconfig = c_file("a", 2), Change("drivers/Kconfig", b"config B\n")
    assert worktree.config_id(applied(tree, code)) == tree.tree_id
    assert worktree.config_id(applied(tree, code, kconfig)) == worktree.config_id(
        applied(tree, kconfig)
    )
    assert worktree.config_id(applied(tree, kconfig)) != tree.tree_id
    with worktree.config_source(applied(tree, code), "plain", stage=Silent()) as source:
        assert source == tree.path
    with worktree.config_source(applied(tree, kconfig), "plain", stage=Silent()) as source:
        assert (source / "drivers/Kconfig").read_bytes() == b"config B\n"


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("Kconfig", True),
        ("drivers/vfio/pci/Kconfig", True),
        ("lib/Kconfig.debug", True),
        ("scripts/cc-version.sh", True),
        ("Makefile", True),
        ("arch/x86/Makefile", True),
        ("drivers/vfio/Makefile", False),
        ("drivers/vfio/pci/vfio_pci_core.c", False),
        ("Documentation/kbuild/kconfig.rst", False),
    ],
)
def test_what_counts_as_kconfig(tree: Tree, path: str, counts: bool) -> None:
    assert (worktree.config_id(applied(tree, Change(path, b""))) != tree.tree_id) is counts


# --- the build -------------------------------------------------------------------------------


def test_a_kernel_has_all_that_is_promised(tree: Tree) -> None:
    stage = Silent()
    made = built(applied(tree, c_file("a", 2)), stage=stage)
    assert not made.cached
    names = {path.name for path in made.path.iterdir()}
    assert names == {
        *("bzImage", "System.map", "config", "build.log", "meta.json"),
        *("warnings.json", "lines"),
    }
    assert compiled(made) == ["drivers/a.o", "drivers/b.o", "drivers/c.o"]
    assert (made.path / "config").read_text() == CONFIG.text
    assert made.image.read_bytes().endswith(f"{made.kernel_id[:12]} kpatch\n".encode())
    meta = json.loads((made.path / "meta.json").read_text())
    assert meta["kernelrelease"] == "7.3.4"
    assert (meta["tree_id"], meta["config_id"]) == (tree.tree_id, CONFIG.config_id)
    assert (meta["delta_id"], meta["subjects"]) == (made.applied.delta_id, ["a: change"])
    assert "gcc" in meta["compiler"] and "GNU ld" in meta["compiler"]
    assert kernel.warnings(made) == []
    (command,) = stage.commands
    assert "bzImage" in command and "'KBUILD_BUILD_TIMESTAMP=Thu Jan" in command


def test_a_second_build_needs_nothing(tree: Tree) -> None:
    first = built(applied(tree))
    shutil.rmtree(cache.root() / worktree.KIND)
    stage = Silent()
    begun = time.monotonic()
    second = built(applied(tree), stage=stage)
    assert time.monotonic() - begun < 0.5
    assert second.cached and second.path == first.path
    assert len(stage.commands) == 1
    assert not (cache.root() / worktree.KIND).exists()


def test_a_further_series_rebuilds_what_it_changes(tree: Tree) -> None:
    control, series = applied(tree), applied(tree, c_file("b", 2))
    first = built(control).image.read_bytes()
    changed = built(series)
    assert compiled(changed) == ["drivers/b.o"]
    assert changed.image.read_bytes() != first
    again = rebuilt(control)
    assert compiled(again) == ["drivers/b.o"]
    assert again.image.read_bytes() == first


def test_every_input_makes_another_kernel(tree: Tree) -> None:
    tools = compiler.Compiler("gcc 12", (), cached=False)
    other = Config("plain", CONFIG.text, "d" * 16, cached=False)
    ids = {
        kernel.kernel_id(applied(tree), CONFIG, tools),
        kernel.kernel_id(applied(tree, c_file("a", 2)), CONFIG, tools),
        kernel.kernel_id(applied(tree), other, tools),
        kernel.kernel_id(applied(tree), CONFIG, compiler.Compiler("gcc 13", (), cached=False)),
        kernel.kernel_id(
            applied(Tree(tree.path, "7.3.5", "7.3", "folder", {}, "e" * 16, cached=False)),
            CONFIG,
            tools,
        ),
    }
    assert len(ids) == 5
    cached = compiler.Compiler("gcc 12", ("CC=ccache gcc",), cached=True)
    assert kernel.kernel_id(applied(tree), CONFIG, cached) in ids


def test_the_settings_of_the_flavor_reach_make(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """And make another kernel: the same .config with other settings compiles other code."""
    tools = compiler.Compiler("gcc 12", (), cached=False)
    before = kernel.kernel_id(applied(tree), CONFIG, tools)
    setting = "WATCHED=$(if $(filter drivers/%,$@),y)"
    monkeypatch.setitem(FLAVORS, "plain", replace(FLAVORS["plain"], settings=(setting,)))
    assert kernel.kernel_id(applied(tree), CONFIG, tools) != before
    stage = Silent()
    built(applied(tree), stage=stage)
    assert setting in shlex.split(stage.commands[0])


def test_an_unchanged_config_keeps_its_time(tree: Tree) -> None:
    built(applied(tree))
    config = worktree.locate(applied(tree), "plain").obj / ".config"
    before = config.stat().st_mtime_ns
    built(applied(tree, c_file("a", 2)))
    assert config.stat().st_mtime_ns == before
    rebuilt(applied(tree), Config("plain", "CONFIG_A=n\n", "d" * 16, cached=False))
    assert config.read_text() == "CONFIG_A=n\n"


def test_progress_is_counted_against_the_last_build(tree: Tree) -> None:
    seen: list[tuple[float, float | None]] = []

    class Listener(Silent):
        def advance(self, done: float, total: float | None) -> None:
            seen.append((done, total))

    built(applied(tree), stage=Listener())
    assert seen[-1] == (5, objects.COLD_STEPS)
    built(applied(tree, c_file("a", 2)), stage=Listener())
    assert seen[-1] == (3, None)
    built(applied(tree, c_file("a", 3)), stage=Listener())
    assert seen[-1] == (3, 3)
    built(applied(tree, c_file("a", 4), c_file("b", 4)), stage=Listener())
    assert seen[-1] == (4, 4)
    known = json.loads((worktree.locate(applied(tree), "plain").folder / "steps.json").read_text())
    assert known == {"cold": 5, "again": 4}


@pytest.mark.parametrize("content", ["", "[]", '{"cold": null}', '{"cold": "x"}'])
def test_damaged_numbers_of_steps_cost_nothing_else(tree: Tree, content: str) -> None:
    built(applied(tree))
    file = worktree.locate(applied(tree), "plain").folder / "steps.json"
    file.write_text(content)
    built(applied(tree, c_file("a", 2)))
    assert json.loads(file.read_text()) == {"again": 3}


def test_a_compile_error_is_shown_and_mended(tree: Tree) -> None:
    broken = applied(tree, Change("drivers/b.c", b"int b(void)\n{\n\treturn c\n}\n"))
    with pytest.raises(HarnessError) as caught:
        built(broken)
    error = caught.value
    assert error.code is ExitCode.BUILD
    assert str(error).startswith("build: drivers/b.c:3: ")
    assert "return c" in error.details
    log = Path(error.hint.removeprefix("see "))
    assert "drivers/b.c" in log.read_text() and log.is_relative_to(cache.root() / make.LOGS)
    assert kernels() == []
    assert "drivers/b.o" in compiled(built(applied(tree, c_file("b", 2))))


def test_warnings_of_the_series_are_kept(tree: Tree) -> None:
    unused = b"int a(void)\n{\n\tint unused;\n\treturn 1;\n}\n"
    made = built(applied(tree, Change("drivers/a.c", unused)))
    (warning,) = map(str, kernel.warnings(made))
    assert warning.startswith("drivers/a.c:3: unused variable")
    # The next version does not change this file, so make does not compile it again.
    another = built(applied(tree, Change("drivers/a.c", unused), c_file("b", 2)))
    assert list(map(str, kernel.warnings(another))) == [warning]


@pytest.mark.parametrize(
    ("before", "compiled"),
    [([], {"drivers/a.c", "drivers/d.c"}), (["b"], {"drivers/d.c"})],
    ids=["from nothing", "after a series that leaves the file alone"],
)
def test_warnings_of_the_base_are_those_of_what_it_compiled(
    tree: Tree, tmp_path: Path, before: list[str], compiled: set[str]
) -> None:
    unused = b"int a(void)\n{\n\tint unused;\n\treturn 1;\n}\n"
    shutil.copytree(tree.path, tmp_path / "warns")
    (tmp_path / "warns/drivers/a.c").write_bytes(unused)
    warns = replace(tree, path=tmp_path / "warns", tree_id="e" * 16)
    for name in before:
        built(applied(warns, c_file(name, 2)))
    base = built(applied(warns))
    made = built(applied(warns, Change("drivers/a.c", b"\n" + unused), c_file("d", 4)))
    [text] = [found.text for found in kernel.warnings(made)]
    assert kernel.base_warnings(made, None) == {"drivers/d.c": []}, "it is the series' own"
    told = kernel.base_warnings(made, base)
    assert told.keys() == compiled
    assert told.get("drivers/a.c") in (None, [text])


def test_a_file_that_the_series_leaves_as_it_is_keeps_its_time(tree: Tree) -> None:
    """The file is a hard link to the pristine one; the fixture checks that file's time."""
    built(applied(tree, Change("drivers/a.c", (tree.path / "drivers/a.c").read_bytes())))


def test_a_killed_build_goes_on_with_whole_objects(tree: Tree) -> None:
    control = applied(tree)
    expected = built(control).image.read_bytes()
    series = applied(tree, c_file("a", 2))
    obj = worktree.locate(applied(tree), "plain").obj
    (obj / "bomb").touch()
    with pytest.raises(HarnessError, match="make was killed by signal 9") as caught:
        built(series)
    assert caught.value.code is ExitCode.BUILD
    assert (obj / "drivers/a.o").read_text() == "torn\n"
    assert rebuilt(control).image.read_bytes() == expected


def started(folder: Path, tree: Tree, result: int) -> subprocess.Popen[bytes]:
    """Start a process that builds the tree with ``c_file("a", result)``. Its stdout says when."""
    program = folder / "program.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from kpatch.build import kernel\nfrom kpatch.series import apply\n"
        "from kpatch.model import *\nfrom kpatch.lib.stage import Silent\n"
        f"tree = Tree(Path({str(tree.path)!r}), '7.3.4', '7.3', 'folder', {{}}, 'f' * 16, False)\n"
        "series = Series('test', 'a test', 'none', (), Origin.CARRIED)\n"
        f"changes = {(c_file('a', result),)!r}\n"
        "what = Applied(tree, series, (), changes, apply.delta_id(changes))\n"
        f"config = Config('plain', {CONFIG.text!r}, 'c' * 16, False)\n"
        "print('begins', flush=True)\n"
        "kernel.build(what, config, jobs=2, stage=Silent())\n"
    )
    return subprocess.Popen(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(Path(kernel.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_the_harness_is_killed_at_any_moment_of_a_build(tree: Tree, tmp_path: Path) -> None:
    """SIGKILL: nothing can clean up. No process is left, no kernel is half, the next is right."""
    expected = {n: rebuilt(applied(tree, c_file("a", n))).image.read_bytes() for n in (1, 2)}
    names = {path.name for path in kernels()[0].iterdir()}
    shutil.rmtree(cache.root())
    with started(tmp_path, tree, 1) as run:
        assert run.stdout is not None and run.stdout.readline()
        began = time.monotonic()
        assert run.wait() == 0
        seconds = time.monotonic() - began
    moments = random.Random(1)  # noqa: S311
    for number in range(20):
        shutil.rmtree(cache.root() / kernel.KIND)
        with started(tmp_path, tree, 1 + number % 2) as run:
            assert run.stdout is not None and run.stdout.readline()
            time.sleep(moments.uniform(0, seconds))
            run.kill()
        assert _soon(lambda: not processes_with(str(cache.root())))
        if (cache.root() / kernel.KIND).exists():
            whole = [path for path in kernels() if not path.name.startswith(".")]
            assert all({it.name for it in path.iterdir()} == names for path in whole)
        else:
            cache.folder(kernel.KIND)
        if number % 5 == 4:
            result = 1 + number // 5 % 2
            assert built(applied(tree, c_file("a", result))).image.read_bytes() == expected[result]


def test_ctrl_c_ends_make_and_the_next_run_succeeds(tree: Tree, tmp_path: Path) -> None:
    obj = worktree.locate(applied(tree), "plain").obj
    with worktree.checkout(applied(tree), "plain", stage=Silent()):
        (obj / "slow").touch()
    run = started(tmp_path, tree, 1)
    torn = obj / "drivers/a.o"
    assert _soon(torn.exists)
    run.send_signal(signal.SIGINT)
    _, stderr = run.communicate(timeout=20)
    assert b"KeyboardInterrupt" in stderr
    assert not processes_with(str(obj))
    assert kernels() == []
    (obj / "slow").unlink()
    made = built(applied(tree))
    assert b"torn" not in made.image.read_bytes()
    assert compiled(made) == ["drivers/a.o", "drivers/b.o", "drivers/c.o"]


def _soon(condition: object) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_a_full_disk_during_the_build(tree: Tree) -> None:
    with worktree.checkout(applied(tree), "plain", stage=Silent()) as work:
        (work.obj / "full").touch()
    with pytest.raises(HarnessError, match="No space left on device") as caught:
        built(applied(tree))
    assert caught.value.code is ExitCode.LOST
    (work.obj / "full").unlink()
    built(applied(tree))


def test_a_config_that_the_build_changes_is_an_error(tree: Tree) -> None:
    with pytest.raises(HarnessError, match="the build changed it") as caught:
        built(applied(tree, Change("rewrite", b"")))
    assert caught.value.code is ExitCode.BUILD
    assert caught.value.details == "CONFIG_SURPRISE=y"


def test_the_users_make_variables_do_not_count(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", "n --jobserver-auth=98,99")
    monkeypatch.setenv("LD", "/bin/false")
    monkeypatch.setenv("KBUILD_OUTPUT", "/nowhere")
    assert built(applied(tree)).image.is_file()


def test_two_runs_build_one_kernel_once(tree: Tree) -> None:
    found: list[Kernel] = []
    threads = [
        threading.Thread(target=lambda: found.append(built(applied(tree)))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kernel.cached for kernel in found) == [False, True]


def test_an_image_of_another_kernel_is_refused(tree: Tree) -> None:
    built(applied(tree))
    with pytest.raises(HarnessError, match=r"does not hold vmlinux\.bin\.lz4") as it:
        built(applied(tree, c_file("a", 2), Change("stale", b"")))
    assert it.value.code is ExitCode.LOST
    assert len(list((cache.root() / kernel.KIND).glob("[!.]*/bzImage"))) == 1


@pytest.mark.skipif(not shutil.which("ccache"), reason="without ccache there is nothing to go past")
def test_a_binary_that_assembler_includes_is_never_an_older_one(tmp_path: Path) -> None:
    """As piggy.S includes the compressed kernel. ccache's depend mode does not see the content."""
    tools = compiler.detect()
    (tmp_path / "Makefile").write_text(
        "piggy.o: piggy.S data\n\t$(CC) -Wp,-MMD,.piggy.o.d -c -o $@ $<\n"
        "object.o: object.c\n\t$(CC) -Wp,-MMD,.object.o.d -c -o $@ $<\n"
    )
    (tmp_path / "piggy.S").write_text('.incbin "data"\n')
    (tmp_path / "object.c").write_text("int object;\n")
    environment = {**os.environ, **compiler.environment(tmp_path, trusted=True)}
    for data in (b"one kernel", b"two kernel"):
        (tmp_path / "data").write_bytes(data)
        make = ["make", "-B", *tools.settings, "piggy.o", "object.o"]
        ran = subprocess.run(make, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert data in (tmp_path / "piggy.o").read_bytes()
    assert "ccache gcc -Wp,-MMD,.object.o.d" in ran.stdout, "what is not assembler goes through it"


@pytest.mark.skipif(not shutil.which("ccache"), reason="without ccache nothing is found again")
@pytest.mark.parametrize("derived", [False, True])
def test_a_derived_config_finds_the_objects_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, derived: bool
) -> None:
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "ccache"))
    (tmp_path / "object.c").write_text("#ifdef CONFIG_A\nint a;\n#endif\nint object;\n")
    compile_it = ["ccache", "gcc", "-include", "autoconf.h", "-Wp,-MMD,.object.o.d"]
    settings = compiler.environment(tmp_path, trusted=True, derived=derived)
    hits = []
    for symbols in ("B", "B C", "A B C"):
        lines = "".join(f"#define CONFIG_{symbol} 1\n" for symbol in symbols.split())
        (tmp_path / "autoconf.h").write_text(lines)
        subprocess.run(
            [*compile_it, "-c", "-o", "object.o", "object.c"],
            cwd=tmp_path,
            env={**os.environ, **settings},
            check=True,
        )
        shown = subprocess.run(
            ["ccache", "--print-stats"], env={**os.environ, **settings}, capture_output=True
        )
        stats = dict(line.split() for line in shown.stdout.decode().splitlines())
        hits.append(int(stats["preprocessed_cache_hit"]) + int(stats["direct_cache_hit"]))
    assert hits == ([0, 1, 1] if derived else [0, 0, 0])


def test_without_ccache_gcc_is_called_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("make", "gcc", "ld", "flex", "bison", "bc", "lz4", "setpriv"):
        path = shutil.which(tool)
        if path is None:
            pytest.skip(f"{tool} is not installed")
        (bare / tool).symlink_to(path)
    monkeypatch.setenv("PATH", str(bare))
    assert (compiler.detect().settings, compiler.detect().cached) == ((), False)
    (bare / "ccache").symlink_to("/bin/true")
    assert compiler.detect().settings[1:] == ("HOSTCC=ccache gcc",)
    (bare / "bison").unlink()
    with pytest.raises(HarnessError, match="bison: not found in PATH") as caught:
        compiler.detect()
    assert caught.value.code is ExitCode.USAGE


# --- warnings --------------------------------------------------------------------------------


def warns(name: str) -> Change:
    return Change(f"drivers/{name}.c", f"int {name}(void) {{ int unused; return 1; }}\n".encode())


def warned(made: Kernel) -> list[tuple[str, str, str]]:
    found = diagnostics.by_identity(kernel.record(made)).values()
    return sorted((one.file, one.function, one.flag) for one in found)


A_WARNS = ("drivers/a.c", "a", "-Wunused-variable")
B_WARNS = ("drivers/b.c", "b", "-Wunused-variable")


def test_warnings_of_a_kernel_are_those_of_all_its_objects(tree: Tree) -> None:
    assert warned(built(applied(tree, warns("a")))) == [A_WARNS]
    assert warned(built(applied(tree, warns("a"), warns("b")))) == [A_WARNS, B_WARNS]
    assert warned(rebuilt(applied(tree, warns("b")))) == [B_WARNS]


def test_warnings_of_objects_that_are_not_compiled_again(tree: Tree) -> None:
    other = tree.path.with_name("warning")
    shutil.copytree(tree.path, other)
    (other / "drivers/a.c").write_bytes(warns("a").content or b"")
    tree = replace(tree, path=other, tree_id="e" * 16)
    assert warned(built(applied(tree))) == [A_WARNS]
    again = rebuilt(applied(tree, c_file("b", 2)))
    assert compiled(again) == ["drivers/b.o"]
    assert warned(again) == [A_WARNS]


def test_new_worktree_starts_with_the_objects_of_another(tree: Tree) -> None:
    built(applied(tree, warns("a")))
    with worktree.checkout(applied(tree), "w1", like="plain", stage=Silent()) as like_plain:
        assert (like_plain.obj / "drivers/b.o").is_file()
        assert contents(like_plain.src) == contents(tree.path)
        assert diagnostics.read(like_plain.warnings).keys() == {"CC drivers/a.o"}
    with worktree.checkout(applied(tree), "i386", stage=Silent()) as empty:
        assert list(empty.obj.iterdir()) == []


def test_warnings_of_a_build_that_failed_are_kept(tree: Tree) -> None:
    broken = Change("drivers/b.c", b"int b(void) { return x; }\n")
    with pytest.raises(HarnessError):
        built(applied(tree, warns("a"), broken))
    assert warned(built(applied(tree, warns("a"), c_file("c", 2)))) == [A_WARNS]


# --- the code of one object ----------------------------------------------------------------------


def identity(what: Applied, path: str = "drivers/a.c") -> str:
    return code.identity(what, CONFIG, path, jobs=1, stage=Silent())


def test_code_is_equal_if_no_byte_of_it_differs(tree: Tree) -> None:
    text = b"int a(int x) { return x + 1; }\n"
    same = b"int a(int y) { /* a comment */ return 1 + y; }\n"
    other = b"int a(int x) { return x + 2; }\n"
    first, second, third = (
        identity(applied(tree, Change("drivers/a.c", it))) for it in (text, same, other)
    )
    assert first == second != third


def test_debug_information_is_no_code(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    ids = []
    for text, options in (("", ()), ("\n", ("-g",)), ("int more;", ("-g",))):
        source.write_text(f"{text}int a(void) {{ return 1; }}\n")
        made = tmp_path / "a.o"
        subprocess.run(["gcc", "-c", *options, "-o", str(made), str(source)], check=True)
        ids.append(code.of_object(made))
    assert ids[0] == ids[1] != ids[2]
    made.write_text("no object")
    with pytest.raises(HarnessError, match="is no object file") as refused:
        code.of_object(made)
    assert refused.value.code is ExitCode.BUILD


def test_code_of_a_source_that_does_not_compile_or_is_left_out(tree: Tree) -> None:
    with pytest.raises(HarnessError) as refused:
        identity(applied(tree, Change("drivers/a.c", b"int a(void) { return }\n")))
    assert refused.value.code is ExitCode.BUILD
    with pytest.raises(HarnessError, match="is not compiled with the flavor plain") as refused:
        identity(applied(tree), "drivers/d.c")
    assert refused.value.code is ExitCode.USAGE


def test_a_kernel_after_the_code_of_an_object_compiles_nothing_again(tree: Tree) -> None:
    """As for a mutant: the object is up to date, and the others are those of the series."""
    both = (c_file("a", 2), c_file("b", 2))
    built(applied(tree, *both))
    mutated = applied(tree, c_file("a", 3), both[1])
    identity(mutated)
    made = kernel.build(mutated, CONFIG, renew=False, jobs=1, stage=Silent())
    assert compiled(made) == []
    assert compiled(rebuilt(mutated)) == ["drivers/a.o", "drivers/b.o"]
