# SPDX-License-Identifier: GPL-2.0-only
"""Kernel trees from folders, repositories and tarballs; they are small, but real."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import Silent
from kpatch.source import download, resolve, unpack
from kpatch.tables.outcomes import ExitCode
from tests import kerneltree


class Listener(Silent):
    """A stage that records all notes and progress."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.progress: list[tuple[float, float | None]] = []

    def note(self, text: str) -> None:
        """Record the note."""
        self.notes.append(text)

    def advance(self, done: float, total: float | None) -> None:
        """Record the progress."""
        self.progress.append((done, total))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "cache"


def refused(spec: str | Path, *, code: ExitCode = ExitCode.USAGE) -> str:
    """Resolve ``spec``, which has to fail. Returns the error's line; no file may be left."""
    with pytest.raises(HarnessError) as caught:
        resolve.resolve(str(spec), stage=Silent())
    assert caught.value.code is code
    line = str(caught.value)
    assert "\n" not in line
    assert kerneltree.leftovers(cache.root()) == []
    trees = cache.root() / "trees"
    assert not trees.exists() or [item.name for item in trees.iterdir()] == [cache.TAG]
    return line


def assert_whole(tree: Path) -> None:
    assert (tree / "drivers/vfio/vfio_main.c").read_text() == "int vfio;\n"
    assert os.access(tree / "scripts/run.sh", os.X_OK)
    assert str((tree / "include/scripts").readlink()) == "../scripts"


# Names that are not a kernel


@pytest.mark.parametrize("spec", ["7.4", "v6.13-rc1", "7.3.4"])
def test_unknown_version_names_the_known(spec: str) -> None:
    assert refused(spec).startswith(
        f"KERNEL={spec}: is no known kernel; give one of 7.3, 6.12, 6.1"
    )


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("", "names nothing"),
        ("~no-such-user/linux", "there is no such folder or tarball"),
        ("/no/such", "there is no such folder or tarball"),
        ("/no/such@HEAD", "there is no such folder or tarball"),
        ("/dev/null", "there is no such folder or tarball"),
        ("a\0b", "characters that cannot be printed, such as '\\x00'"),
        ("a\nb", "characters that cannot be printed, such as '\\n'"),
        ("a\udce4b", "characters that cannot be printed, such as '\\udce4'"),
        ("x" * 5000, "File name too long"),
        ("/no/such#sha256=12", "the sha256 is not 64 hex digits"),
        ("https://example.org/x.tar.xz", "a URL needs the sha256"),
        (f"ftp://example.org/x#sha256={'0' * 64}", "the scheme ftp is not supported"),
        (f"file:///no/such#sha256={'0' * 64}", "there is no such tarball"),
    ],
)
def test_what_is_nothing_is_refused(spec: str, cause: str) -> None:
    assert cause in refused(spec)


def test_password_in_a_url_is_not_printed() -> None:
    assert "secret" not in refused("https://me:secret@example.org/x.tar.xz")
    assert "secret" not in refused("https://[me:secret@example.org/x.tar.xz")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/~me/a@b.tar.xz", "https://example.org/~me/a@b.tar.xz"),
        ("https://example.org:8080/x#sha256=12", "https://example.org:8080/x#sha256=12"),
        ("https://[::1]:8080/a@b", "https://[::1]:8080/a@b"),
        ("file:///srv/a@b/x:y/z@1", "file:///srv/a@b/x:y/z@1"),
        ("https://me@example.org/x", "https://example.org/x"),
        ("https://me:secret@[::1]:80/x", "https://[::1]:80/x"),
        ("https://me:sec@ret@example.org/x", "https://example.org/x"),
        ("https://me:sec/ret@example.org/x", "https://example.org/x"),
        ("https://me:sec#ret@example.org/x#sha256=12", "https://example.org/x#sha256=12"),
        ("https://example.org/x?token=secret&n=1#sha256=12", "https://example.org/x?…#sha256=12"),
        ("/x.tar.xz?token=secret (Caused by …)", "/x.tar.xz?… (Caused by …)"),
        ("E: https://me:secret@a/x and http://b@c/y!", "E: https://a/x and http://c/y!"),
    ],
)
def test_secrets_of_urls_are_not_shown(text: str, shown: str) -> None:
    assert download.public(text) == shown


# Plain folders


def test_folder_is_copied(tmp_path: Path) -> None:
    original = kerneltree.make(tmp_path / "linux")
    stage = Listener()
    tree = resolve.resolve(str(original), stage=stage)
    assert (tree.version, tree.base, tree.provider, tree.cached) == (
        "9.9.1",
        "9.9",
        "folder",
        False,
    )
    assert tree.origin == {"folder": str(original)}
    assert_whole(tree.path)
    (original / "Kconfig").write_text("edited in place\n")
    assert (tree.path / "Kconfig").read_text() == 'mainmenu "Test"\n'
    assert any(command.startswith("cp ") for command in stage.commands)


def test_folder_is_named_by_its_content(tmp_path: Path) -> None:
    one = resolve.resolve(str(kerneltree.make(tmp_path / "one")), stage=Silent())
    again = resolve.resolve(str(kerneltree.make(tmp_path / "two")), stage=Silent())
    assert again.cached
    assert again.path == one.path
    assert again.origin == {"folder": str(tmp_path / "two")}
    (tmp_path / "two/scripts/run.sh").chmod(0o644)
    other = resolve.resolve(str(tmp_path / "two"), stage=Silent())
    assert other.tree_id != one.tree_id


def test_damaged_entry_says_what_to_remove(tmp_path: Path) -> None:
    original = kerneltree.make(tmp_path / "linux")
    entry = resolve.resolve(str(original), stage=Silent()).path.parent
    (entry / "origin.json").write_text("{")
    with pytest.raises(HarnessError, match=f"cache {entry}: damaged; remove that folder"):
        resolve.resolve(str(original), stage=Silent())


@pytest.mark.parametrize("missing", ["Makefile", "Kconfig", "drivers/vfio/vfio_main.c"])
def test_folder_that_is_no_kernel_tree(tmp_path: Path, missing: str) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    (tree / missing).unlink()
    if missing.startswith("drivers"):
        (tree / missing).parent.rmdir()
    assert f"is no kernel tree (it has no {missing.removesuffix('/vfio_main.c')})" in refused(tree)


def test_makefile_without_a_version(tmp_path: Path) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    (tree / "Makefile").write_text("all:\n\ttrue\n")
    assert "its Makefile states no VERSION" in refused(tree)


# The files and folders that three distributions install for building modules.
HEADERS = {
    "Debian, common": ("Makefile", "Kconfig", "include/linux/pci.h", "scripts/mod/modpost.c"),
    "Debian, amd64": ("Makefile", ".config", "Module.symvers", "include/generated/autoconf.h"),
    "Ubuntu": (
        "Makefile",
        "Kconfig",
        "drivers/vfio/Kconfig",
        "include/linux/pci.h",
        "init/Makefile",
        "scripts/basic/fixdep.c",
    ),
}


@pytest.mark.parametrize("package", HEADERS)
def test_a_package_of_headers_is_told_as_such(tmp_path: Path, package: str) -> None:
    tree = tmp_path / "linux-headers-9.9.1-common"
    for name in HEADERS[package]:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(kerneltree.MAKEFILE.format(9, 9, 1))
    assert f"KERNEL={tree}: is a package of kernel headers, without the sources; " in refused(tree)


def test_folder_built_in_place_is_refused(tmp_path: Path) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    (tree / ".config").touch()
    assert f"was built in place (it has .config); run: make -C {tree} mrproper" in refused(tree)


def test_folder_with_a_way_out_is_refused(tmp_path: Path) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    (tree / "out").symlink_to("../../etc")
    assert "out is a symlink that leads out of the tree" in refused(tree)
    (tree / "out").unlink()
    os.mkfifo(tree / "pipe")
    assert "pipe is neither a file nor a folder" in refused(tree)


def test_version_is_what_the_makefile_says(tmp_path: Path) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    text = (tree / "Makefile").read_text()
    (tree / "Makefile").write_text(text.replace("EXTRAVERSION =", "EXTRAVERSION = -rc3"))
    assert resolve.kernel_version(tree, what="x") == ("9.9.1-rc3", "9.9")


# Tarballs


@pytest.mark.parametrize("suffix", ["tar", "tar.xz", "tar.gz", "tar.bz2"])
def test_tarball_is_unpacked(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"linux.{suffix}"
    sha256 = kerneltree.pack(kerneltree.make(tmp_path / "linux"), archive)
    stage = Listener()
    tree = resolve.resolve(str(archive), stage=stage)
    assert (tree.provider, tree.version, tree.tree_id) == ("tarball", "9.9.1", sha256)
    assert tree.origin == {"file": str(archive), "sha256": sha256}
    assert_whole(tree.path)
    assert json.loads((tree.path.parent / "origin.json").read_text())["origin"] == tree.origin
    assert sorted(item.name for item in tree.path.parent.iterdir()) == ["origin.json", "tree"]
    assert resolve.resolve(f"{archive}#sha256={sha256.upper()}", stage=Silent()).cached
    (command,) = stage.commands
    assert str(archive) in command


def test_command_of_a_tarball_can_be_repeated(tmp_path: Path) -> None:
    archive = tmp_path / "it's.tar.xz"
    kerneltree.pack(kerneltree.make(tmp_path / "linux"), archive)
    stage = Listener()
    resolve.resolve(str(archive), stage=stage)
    (tmp_path / "again").mkdir()
    subprocess.run(["sh", "-c", stage.commands[0]], cwd=tmp_path / "again", check=True)
    assert_whole(tmp_path / "again/linux-9.9")


def test_tarball_without_a_top_folder(tmp_path: Path) -> None:
    kerneltree.pack(kerneltree.make(tmp_path / "linux"), tmp_path / "flat.tar", top=".")
    assert_whole(resolve.resolve(str(tmp_path / "flat.tar"), stage=Silent()).path)


def test_wrong_sha256_says_the_right_one(tmp_path: Path) -> None:
    sha256 = kerneltree.pack(kerneltree.make(tmp_path / "linux"), tmp_path / "linux.tar.xz")
    line = refused(f"{tmp_path}/linux.tar.xz#sha256={'0' * 64}")
    assert f"the sha256 is {sha256}; get the file again" in line


@pytest.mark.parametrize("suffix", ["tar", "tar.xz", "tar.gz", "tar.bz2"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_tarball(tmp_path: Path, suffix: str, share: float) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    (tree / "big").write_bytes(os.urandom(1 << 17))
    archive = tmp_path / f"linux.{suffix}"
    kerneltree.pack(tree, archive)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    assert "cannot be unpacked" in refused(archive)


def test_damaged_tarball(tmp_path: Path) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    (tree / "big").write_bytes(os.urandom(1 << 17))
    kerneltree.pack(tree, tmp_path / "linux.tar.xz")
    data = bytearray((tmp_path / "linux.tar.xz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "linux.tar.xz").write_bytes(data)
    assert "cannot be unpacked (xz:" in refused(tmp_path / "linux.tar.xz")


def test_file_that_is_no_tarball(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("notes")
    assert "is no tarball" in refused(tmp_path / "notes")
    (tmp_path / "empty").touch()
    assert "is no tarball" in refused(tmp_path / "empty")


def test_tarball_of_no_kernel(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    kerneltree.pack(tmp_path / "other", tmp_path / "other.tar.gz")
    assert "is no kernel tree" in refused(tmp_path / "other.tar.gz")


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755
    for key, value in more.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "evil",
    [
        [member("../escaped", size=4)],
        [member("linux-9.9/../../escaped", size=4)],
        [member("linux-9.9/out", tarfile.SYMTYPE, linkname="../../..")],
        [member("linux-9.9/out", tarfile.SYMTYPE, linkname="/etc")],
        [
            member("linux-9.9/out", tarfile.SYMTYPE, linkname="../../.."),
            member("linux-9.9/out/escaped", size=4),
        ],
        [
            member("linux-9.9/here", tarfile.SYMTYPE, linkname="."),
            member("linux-9.9/sub/up", tarfile.SYMTYPE, linkname="../here/.."),
        ],
        [member("linux-9.9/passwd", tarfile.LNKTYPE, linkname="/etc/passwd")],
        [member("linux-9.9/passwd", tarfile.LNKTYPE, linkname="../../../secret")],
        [member("linux-9.9/pipe", tarfile.FIFOTYPE)],
    ],
)
def test_hostile_tarball_lands_nowhere(tmp_path: Path, evil: list[tarfile.TarInfo]) -> None:
    (tmp_path / "secret").write_text("secret")
    archive = tmp_path / "linux.tar"
    kerneltree.pack(kerneltree.make(tmp_path / "linux"), archive)
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    with tarfile.open(archive, "a") as tar:
        for info in evil:
            tar.addfile(info, io.BytesIO(b"evil") if info.size else None)
    refused(archive)
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    assert [*tmp_path.rglob("escaped")] == []


def test_absolute_and_special_members_are_tamed(tmp_path: Path) -> None:
    archive = tmp_path / "linux.tar"
    kerneltree.pack(kerneltree.make(tmp_path / "linux"), archive)
    outside = tmp_path / "outside"
    with tarfile.open(archive, "a") as tar:
        setuid = member("linux-9.9/setuid", mode=0o6755, uid=12345, gid=12345)
        tar.addfile(setuid)
        inside = member("linux-9.9/absolute", tarfile.SYMTYPE, linkname="scripts/run.sh")
        tar.addfile(inside)
    tree = resolve.resolve(str(archive), stage=Silent())
    status = (tree.path / "setuid").stat()
    assert status.st_mode & 0o7777 == 0o755
    assert status.st_uid == os.getuid()
    assert not outside.exists()


def test_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_BYTES", 1 << 20)
    tree = kerneltree.make(tmp_path / "linux")
    (tree / "zeros").write_bytes(bytes(1 << 22))
    kerneltree.pack(tree, tmp_path / "bomb.tar.xz")
    assert "unpacks to more than" in refused(tmp_path / "bomb.tar.xz")


# Downloads


class Handler(SimpleHTTPRequestHandler):
    """An HTTP handler that serves files. /cut sends less than it announces, /slow never ends."""

    def do_GET(self) -> None:
        """Answer with a file, or fail as the path demands."""
        name = self.path.rpartition("/")[2]
        if name not in ("cut", "slow"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"x" * 300_000)
        self.wfile.flush()
        if name == "slow":
            time.sleep(60)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "www"))
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def test_url_is_downloaded_once(tmp_path: Path, server: str) -> None:
    tree = kerneltree.make(tmp_path / "linux")
    (tree / "big").write_bytes(os.urandom(1 << 20))
    sha256 = kerneltree.pack(tree, tmp_path / "www/linux.tar.gz")
    stage = Listener()
    spec = f"{server}/linux.tar.gz#sha256={sha256}"
    resolved = resolve.resolve(spec, stage=stage)
    assert resolved.origin == {"url": f"{server}/linux.tar.gz", "sha256": sha256}
    assert_whole(resolved.path)
    size = (tmp_path / "www/linux.tar.gz").stat().st_size
    assert stage.progress[0][1] == size
    assert sorted(item.name for item in resolved.path.parent.iterdir()) == ["origin.json", "tree"]
    (tmp_path / "www/linux.tar.gz").unlink()
    assert resolve.resolve(spec, stage=Silent()).cached


def test_file_url(tmp_path: Path) -> None:
    archive = tmp_path / "li nux.tar.gz"
    sha256 = kerneltree.pack(kerneltree.make(tmp_path / "linux"), archive)
    assert_whole(resolve.resolve(f"{archive.as_uri()}#sha256={sha256}", stage=Silent()).path)


def test_download_with_another_sha256(tmp_path: Path, server: str) -> None:
    (tmp_path / "www/linux.tar.gz").write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    assert f"the sha256 is {found}" in refused(f"{server}/linux.tar.gz#sha256={'0' * 64}")


def test_download_that_is_missing(server: str) -> None:
    assert "the server answers 404" in refused(f"{server}/none#sha256={'0' * 64}")


def test_download_that_is_cut_short(server: str) -> None:
    line = refused(f"{server}/cut#sha256={'0' * 64}", code=ExitCode.LOST)
    assert "the download failed" in line


def test_server_that_is_not_there() -> None:
    line = refused(f"http://127.0.0.1:9/x#sha256={'0' * 64}", code=ExitCode.LOST)
    assert "the download failed (ConnectionError); look at the network" in line


# Interruptions, a full disk, two runs


def start(spec: str, folder: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        kerneltree.resolver(spec),
        env=kerneltree.environment(folder, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: object, *, seconds: float = 20) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def slow_xz(tmp_path: Path) -> tuple[str, Path]:
    """Return a PATH whose xz stops half-way, and the file to which it then writes its pid."""
    tools = tmp_path / "tools"
    tools.mkdir()
    reached = tmp_path / "reached"
    (tools / "xz").write_text(
        f'#!/bin/sh\n/usr/bin/xz "$@" | head -c 20000\necho $$ > {reached}\nexec sleep 60\n'
    )
    (tools / "xz").chmod(0o755)
    return f"{tools}:{os.environ['PATH']}", reached


@pytest.mark.parametrize("action", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_unpacking_leaves_no_tree(
    tmp_path: Path, folder: Path, slow_xz: tuple[str, Path], action: signal.Signals
) -> None:
    path, reached = slow_xz
    tree = kerneltree.make(tmp_path / "linux")
    (tree / "big").write_bytes(os.urandom(1 << 17))
    kerneltree.pack(tree, tmp_path / "linux.tar.xz")
    run = start(str(tmp_path / "linux.tar.xz"), folder, PATH=path)
    wait_for(lambda: reached.exists() and reached.read_text().strip())
    assert kerneltree.leftovers(folder) != []
    run.send_signal(action)
    run.communicate(timeout=20)
    assert run.returncode != 0
    unpacker = Path("/proc", reached.read_text().strip())
    wait_for(lambda: not unpacker.exists() or "sleep" not in (unpacker / "cmdline").read_text())
    if action is signal.SIGINT:
        assert kerneltree.leftovers(folder) == []
    resolved = resolve.resolve(str(tmp_path / "linux.tar.xz"), stage=Silent())
    assert not resolved.cached
    assert_whole(resolved.path)
    assert (resolved.path / "big").read_bytes() == (tree / "big").read_bytes()
    assert kerneltree.leftovers(folder) == []


def test_interrupted_download_leaves_no_tree(folder: Path, server: str) -> None:
    run = start(f"{server}/slow#sha256={'0' * 64}", folder)
    wait_for(lambda: any((folder / "trees").glob(".*/tarball")))
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=20)
    assert run.returncode != 0
    assert [item.name for item in (folder / "trees").iterdir()] == [cache.TAG]


def test_two_runs_unpack_once(
    tmp_path: Path, folder: Path, slow_xz: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reached = slow_xz
    script = Path(path.partition(":")[0], "xz")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script.write_text(
        f'#!/bin/sh\necho x >> {reached}\nread line < {gate}\nexec /usr/bin/xz "$@"\n'
    )
    kerneltree.pack(kerneltree.make(tmp_path / "linux"), tmp_path / "linux.tar.xz")
    first = start(str(tmp_path / "linux.tar.xz"), folder, PATH=path)
    wait_for(reached.exists)
    second = start(str(tmp_path / "linux.tar.xz"), folder, PATH=path)
    assert second.stdout is not None
    assert "waiting for another run that unpacks the same tree" in second.stdout.readline()
    gate.write_text("go\n")
    one, two = first.communicate(timeout=20)[0], second.communicate(timeout=20)[0]
    assert (first.returncode, second.returncode) == (0, 0)
    assert one.splitlines()[-1] == two.splitlines()[-1]
    assert reached.read_text() == "x\n"


@pytest.mark.parametrize("kind", ["tarball", "git", "folder"])
def test_full_disk_is_one_clear_line(tmp_path: Path, folder: Path, kind: str) -> None:
    tree = kerneltree.repository(tmp_path / "linux")
    (tree / "big").write_bytes(bytes(1 << 22))
    kerneltree.git(tree, "add", ".")
    kerneltree.git(tree, "commit", "--quiet", "--message", "big")
    kerneltree.pack(tree, tmp_path / "linux.tar.xz")
    (tree / ".git").rename(tmp_path / "moved")
    spec = {"tarball": "linux.tar.xz", "folder": "linux", "git": "moved"}[kind]
    folder.mkdir()
    mount = (
        'mount -t tmpfs -o size=2m none "$1" && shift && "$@"; echo "status $?"; '
        f"ls -A {folder}/trees; df --output=avail -B1 {folder} | tail -1"
    )
    resolver = kerneltree.resolver(str(tmp_path / spec))
    run = subprocess.run(
        (*kerneltree.UNSHARE, "sh", "-c", mount, "sh", str(folder), *resolver),
        env=kerneltree.environment(folder),
        capture_output=True,
        text=True,
    )
    line = f"7 cache {folder}: No space left on device; free some space, or set VFIO_ACPI_CACHE"
    assert run.stderr.startswith(line)
    *_, status, left, available = run.stdout.splitlines()
    assert (status, left) == ("status 1", cache.TAG)
    assert int(available) > 1_900_000
