# SPDX-License-Identifier: GPL-2.0-only
"""The cache: entries are complete, one process fills each, cleaning waits for users."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.tables.outcomes import ExitCode
from tests.kerneltree import ROOT, UNSHARE, environment


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(partial: Path) -> None:
    (partial / "file").write_bytes(b"x" * 10_000)


def test_root_is_the_xdg_folder_unless_overridden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.root() == tmp_path / "cache"
    monkeypatch.delenv(cache.ENVIRONMENT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.root() == tmp_path / "xdg" / "vfio-acpi"


def test_digest_tells_where_one_part_ends() -> None:
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])
    assert cache.digest(["ab", "c"]) == cache.digest(["ab", "c"])


def test_entry_is_filled_once() -> None:
    path, cached = cache.entry("things", "key", write)
    assert not cached
    again, cached = cache.entry("things", "key", lambda _: pytest.fail("filled twice"))
    assert cached
    assert again == path
    assert (path / "file").stat().st_size == 10_000


def test_failed_fill_leaves_nothing(folder: Path) -> None:
    def fill(partial: Path) -> None:
        write(partial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.entry("things", "key", fill)
    assert [item.name for item in (folder / "things").iterdir()] == [cache.TAG]


def test_file_is_written_as_a_whole_and_alone(folder: Path) -> None:
    file = cache.folder("things") / "x.json"
    cache.write(file, b"old, and longer")
    other = file.open("rb")
    cache.write(file, b"new")
    with other:
        assert other.read() == b"old, and longer", "a reader had the file open"
    assert file.read_bytes() == b"new"
    assert {path.name for path in file.parent.iterdir()} == {"x.json", cache.TAG}


def test_file_that_cannot_be_written_is_an_error_of_the_cache(folder: Path) -> None:
    with pytest.raises(cache.CacheError, match="No such file or directory"):
        cache.write(folder / "nowhere" / "x.json", b"")


def test_what_a_killed_run_left_is_removed(folder: Path) -> None:
    stale = folder / "things" / ".key.killed"
    stale.mkdir(parents=True)
    (stale / "file").touch()
    cache.entry("things", "key", write)
    assert not stale.exists()


def test_two_fills_of_one_entry_end_with_one() -> None:
    inside, go = threading.Event(), threading.Event()
    waited: list[str] = []
    results: list[bool] = []

    def slow(partial: Path) -> None:
        inside.set()
        assert go.wait(10)
        write(partial)

    def second() -> None:
        def waiting() -> None:
            waited.append("waiting")
            go.set()

        results.append(cache.entry("things", "key", write, waiting=waiting)[1])

    first = threading.Thread(target=lambda: results.append(cache.entry("things", "key", slow)[1]))
    first.start()
    assert inside.wait(10)
    other = threading.Thread(target=second)
    other.start()
    other.join(10)
    first.join(10)
    assert sorted(results) == [False, True]
    assert waited == ["waiting"]


WAITER = """
from kpatch.lib import cache
with cache.locked("one", waiting=lambda: print("waiting", flush=True)):
    print("got it")
"""


@pytest.mark.parametrize("stop", [True, False])
def test_a_lock_is_waited_for_and_the_wait_can_be_stopped(folder: Path, stop: bool) -> None:
    argv = [sys.executable, "-c", WAITER]
    with cache.locked("one"):
        waiter = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "waiting\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiter.wait(1)
        if stop:
            waiter.send_signal(signal.SIGINT)
            _, said = waiter.communicate(timeout=20)
            assert "KeyboardInterrupt" in said
    if not stop:
        assert waiter.communicate(timeout=20)[0] == "got it\n"


def test_clean_says_what_it_frees(folder: Path) -> None:
    path, _ = cache.entry("things", "key", write)
    freed = cache.clean()
    assert [item.path for item in freed] == [folder / "locks" / "things-key.lock", path]
    assert 10_000 <= sum(item.size for item in freed) < 30_000
    assert not path.exists()
    assert cache.clean() == ()
    assert cache.entry("things", "key", write)[1] is False


def test_clean_touches_nothing_that_the_cache_did_not_make(folder: Path) -> None:
    cache.entry("things", "key", write)
    mine = folder / "holiday" / "photo"
    mine.parent.mkdir()
    mine.touch()
    cache.clean()
    assert mine.exists()


def test_clean_follows_no_symlink(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (cache.folder("things") / "link").symlink_to(outside)
    cache.clean()
    assert (outside / "file").exists()
    assert not (folder / "things").exists()


def test_clean_of_no_cache_is_nothing(folder: Path) -> None:
    assert cache.clean() == ()
    assert not folder.exists()


@pytest.mark.parametrize("held", [cache.using, lambda: cache.locked("one")])
def test_clean_refuses_while_another_run_uses_the_cache(held: object) -> None:
    path, _ = cache.entry("things", "key", write)
    assert callable(held)
    with held(), pytest.raises(HarnessError, match="in use by another run"):
        cache.clean()
    assert (path / "file").exists()


def in_tmpfs(folder: Path, options: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program with a private tmpfs mounted at ``folder``."""
    mount = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    argv = (*UNSHARE, "sh", "-c", mount, "sh", options, str(folder))
    return subprocess.run(
        (*argv, sys.executable, "-c", program),
        env=environment(folder),
        capture_output=True,
        text=True,
    )


FILL = """\
import sys
from kpatch.lib import cache
from kpatch.errors import HarnessError
try:
    cache.entry("things", "key", lambda partial: (partial / "f").write_bytes(b"x" * (1 << 21)))
except HarnessError as error:
    print(int(error.code), error)
    print(*(item.name for item in cache.root().glob("things/*")))
"""


def test_full_disk_is_one_clear_line(folder: Path) -> None:
    folder.mkdir()
    done = in_tmpfs(folder, "size=1m", FILL)
    line, left = done.stdout.splitlines()
    assert line.startswith(f"{int(ExitCode.LOST)} cache {folder}: No space left on device; free")
    assert left == cache.TAG
    assert done.stderr == ""


def test_read_only_cache_is_one_clear_line(folder: Path) -> None:
    folder.mkdir()
    done = in_tmpfs(folder, "ro", FILL)
    line = done.stdout.splitlines()[0]
    assert line.startswith(f"{int(ExitCode.USAGE)} cache {folder}: Read-only file system; make it")
    assert done.stderr == ""


def test_cache_that_is_a_file_is_one_clear_line(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(HarnessError, match=r"cache .*; make it writable, or set VFIO_ACPI_CACHE"):
        cache.entry("things", "key", write)
    assert folder.read_text() == "a file"
