# SPDX-License-Identifier: GPL-2.0-only
"""Debian source packages, from a small archive that these tests make; apt is real."""

from __future__ import annotations

import functools
import hashlib
import lzma
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.lib import cache, process
from kpatch.lib.stage import Silent
from kpatch.source import debian, resolve
from kpatch.tables import bases
from kpatch.tables.bases import Base
from kpatch.tables.outcomes import ExitCode
from tests import kerneltree

CODENAME = platform.freedesktop_os_release()["VERSION_CODENAME"]
NAME = "linux-source-9.9"


class Keys:
    """Two signing keys: the tests' sources trust ``trusted`` and not ``other``."""

    def __init__(self, home: Path) -> None:
        process.require_tool("gpg", package="gnupg")
        self.home = home
        for user in ("trusted", "other"):
            self.gpg("--passphrase", "", "--quick-generate-key", f"{user}@example.org", "ed25519")
        self.keyring = home / "keyring.gpg"
        self.keyring.write_bytes(self.gpg("--export", "trusted@example.org"))

    def gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        """Run gpg with these keys."""
        argv = ("gpg", "--homedir", str(self.home), "--batch", "--quiet", *arguments)
        return subprocess.run(argv, input=data, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    # Not in pytest's folder, because the path of the agent's socket has to be short.
    with tempfile.TemporaryDirectory(prefix="keys-") as home:
        yield Keys(Path(home))
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


class Debian:
    """An archive on 127.0.0.1, and the apt configuration of a system that uses it."""

    def __init__(self, folder: Path, keys: Keys, url: str) -> None:
        self.folder = folder
        self.keys = keys
        self.url = url
        self.requests: list[str] = []
        self.clock = time.time() - 3600
        self.stall = threading.Event()
        self.stalled = threading.Event()
        self.asked: Callable[[str], None] = lambda _: None

    def deb(self, version: str, kernel: str, *, member: str = f"{NAME}.tar.xz") -> Path:
        """Add a source package to the pool. ``kernel`` is the version of the tree in it."""
        build = self.folder / "build"
        source = kerneltree.make(build / "tree", kernel)
        (source / "random").write_bytes(os.urandom(1 << 16))
        root = build / "root"
        (root / "usr/src").mkdir(parents=True)
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN/control").write_text(self.control(version))
        kerneltree.pack(source, root / "usr/src" / member, top=NAME)
        pool = self.folder / "www/pool"
        pool.mkdir(parents=True, exist_ok=True)
        deb = pool / f"{NAME}_{version}_all.deb"
        command = ("dpkg-deb", "--root-owner-group", "--build", str(root), str(deb))
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(build)
        return deb

    @staticmethod
    def control(version: str) -> str:
        """Return the control file of the package."""
        return (
            f"Package: {NAME}\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: T <t@example.org>\nDescription: test\n"
        )

    def suite(self, name: str, *debs: Path, signer: str = "trusted@example.org") -> Path:
        """Publish ``debs`` as the suite ``name``, signed by ``signer`` or not signed."""
        entries = [
            self.control(deb.name.split("_")[1])
            + f"Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\n"
            + f"SHA256: {hashlib.sha256(deb.read_bytes()).hexdigest()}\n"
            for deb in debs
        ]
        # Advance a minute: HTTP does not see a second change within one second.
        self.clock += 60
        plain = "\n".join(entries).encode()
        packages = lzma.compress(plain)
        arch = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
        path = f"main/binary-{arch}/Packages"
        suite = self.folder / "www/dists" / name
        (suite / path).parent.mkdir(parents=True, exist_ok=True)
        (suite / f"{path}.xz").write_bytes(packages)
        # apt needs the line of the uncompressed list even if only a compressed list exists.
        release = (
            f"Origin: Test\nSuite: {name}\nCodename: {name}\nComponents: main\n"
            f"Architectures: {arch}\nDate: {formatdate(self.clock, usegmt=True)}\nSHA256:\n"
            f" {hashlib.sha256(plain).hexdigest()} {len(plain)} {path}\n"
            f" {hashlib.sha256(packages).hexdigest()} {len(packages)} {path}.xz\n"
        ).encode()
        if signer:
            signed = self.keys.gpg("--local-user", signer, "--clearsign", data=release)
            (suite / "InRelease").write_bytes(signed)
        else:
            (suite / "Release").write_bytes(release)
        for file in suite.rglob("*Release"):
            os.utime(file, (self.clock, self.clock))
        return suite

    def downloads(self) -> int:
        """Return the number of requests for .deb files."""
        return sum(path.endswith(".deb") for path in self.requests)


class Handler(SimpleHTTPRequestHandler):
    """An HTTP handler that serves the archive. On request it sends only half of a .deb."""

    debian: Debian

    def do_GET(self) -> None:
        """Answer the request and count it."""
        self.debian.requests.append(self.path)
        self.debian.asked(self.path)
        if not (self.path.endswith(".deb") and self.debian.stall.is_set()):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 20))
        self.end_headers()
        self.wfile.write(b"x" * (1 << 10))
        self.wfile.flush()
        self.debian.stalled.set()
        time.sleep(30)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def debian_system(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Iterator[Debian]:
    """A system with a main and a security archive for apt, both empty."""
    www = tmp_path / "www"
    www.mkdir()

    class Bound(Handler):
        pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Bound, directory=str(www)))
    http.daemon_threads = True
    threading.Thread(target=functools.partial(http.serve_forever, 0.05), daemon=True).start()
    made = Debian(tmp_path, keys, f"http://127.0.0.1:{http.server_port}")
    Bound.debian = made
    (www / "security").symlink_to(".")
    entry = "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {}\n"
    system_apt(
        tmp_path,
        monkeypatch,
        {
            "debian.sources": "# The two archives of Debian\n"
            + entry.format(made.url, f"{CODENAME} {CODENAME}-updates", keys.keyring)
            + "\n# security\n"
            + entry.format(f"{made.url}/security", f"{CODENAME}-security", keys.keyring)
        },
    )
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(bases.BASES, "9.9", Base("9.9", ("next-backports", f"{CODENAME}-security")))
    yield made
    http.shutdown()
    http.server_close()


def system_apt(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sources: dict[str, str], more: str = ""
) -> None:
    """Configure apt with ``sources`` (file name and text) as the system's archives."""
    parts = folder / "sources.list.d"
    parts.mkdir(exist_ok=True)
    for name, text in sources.items():
        (parts / name).write_text(text)
    configuration = folder / "system.conf"
    configuration.write_text(
        f'Dir::Etc::sourceparts "{parts}";\nDir::Etc::sourcelist "/dev/null";\n{more}'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))


class Listener(Silent):
    """A listener that records the progress."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: list[tuple[float, float | None]] = []

    def advance(self, done: float, total: float | None) -> None:
        """Record the progress."""
        self.progress.append((done, total))


def refused(code: ExitCode) -> str:
    """Resolve KERNEL=9.9, which has to fail. Returns the error's line; no file may be left."""
    with pytest.raises(HarnessError) as caught:
        resolve.resolve("9.9", stage=Silent())
    assert caught.value.code is code, caught.value
    line = str(caught.value)
    assert "\n" not in line
    trees = cache.root() / "trees"
    assert not trees.exists() or [item.name for item in trees.iterdir()] == [cache.TAG]
    return line


# The choice of archives


def test_archives_of_the_system(debian_system: Debian, keys: Keys) -> None:
    main, security = debian.archives()
    assert (main.uri, main.security) == (f"{debian_system.url}/", False)
    assert (security.uri, security.security) == (f"{debian_system.url}/security/", True)
    assert main.keyrings[0] == security.keyrings[0] == str(keys.keyring)


def test_archives_in_the_one_line_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "# a comment\n\n"
        f"deb [arch=amd64 signed-by=/a/key.gpg,/b/key.gpg] http://one.example/d {CODENAME} main\n"
        f"deb http://two.example/d {CODENAME}-security main contrib\n"
        "deb [signed-by=/c.gpg] http://three.example/d nodistro main\n"
        f"deb http://four.example/d {CODENAME} stable\n"
    )
    system_apt(tmp_path, monkeypatch, {"a.list": text})
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    one, two = debian.archives()
    assert (one.uri, one.keyrings[:2]) == ("http://one.example/d/", ("/a/key.gpg", "/b/key.gpg"))
    assert (two.uri, two.security) == ("http://two.example/d/", True)


def test_suites_named_by_their_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "deb http://one.example/d stable main\ndeb http://one.example/s stable-security main\n"
    system_apt(tmp_path, monkeypatch, {"a.list": text})
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    assert [found.security for found in debian.archives()] == [False, True]


def test_system_without_an_archive(
    debian_system: Debian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_apt(tmp_path, monkeypatch, {"debian.sources": ""})
    assert "configured for no archive that has next-backports" in refused(ExitCode.USAGE)


def test_system_without_apt(debian_system: Debian, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such")
    assert refused(ExitCode.USAGE) == (
        "KERNEL=9.9: this system has no apt-get to take it from Debian's archive with; "
        "give KERNEL= the path of a kernel tree or tarball, or a tarball's URL#sha256=HEX"
    )


# From a package to a tree


def test_package_becomes_a_tree(debian_system: Debian) -> None:
    deb = debian_system.deb("9.9.4-1~bpo1+1", "9.9.4")
    debian_system.suite("next-backports", deb)
    stage = Listener()
    tree = resolve.resolve("9.9", stage=stage)
    sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
    assert (tree.version, tree.base, tree.provider, tree.cached) == (
        "9.9.4",
        "9.9",
        "debian",
        False,
    )
    assert tree.tree_id == sha256
    assert tree.origin == {
        "package": NAME,
        "version": "9.9.4-1~bpo1+1",
        "suite": "next-backports",
        "archive": f"{debian_system.url}/",
        "file": deb.name,
        "sha256": sha256,
    }
    assert (tree.path / "drivers/vfio/vfio_main.c").read_text() == "int vfio;\n"
    assert sorted(item.name for item in tree.path.parent.iterdir()) == ["origin.json", "tree"]
    assert (deb.stat().st_size, deb.stat().st_size) in stage.progress
    assert [command.split()[0] for command in stage.commands] == ["apt-get"] * 3 + ["sh"]


def test_commands_can_be_repeated(debian_system: Debian, tmp_path: Path) -> None:
    debian_system.suite("next-backports", debian_system.deb("9.9.4-1", "9.9.4"))
    stage = Silent()
    resolve.resolve("9.9", stage=stage)
    again = tmp_path / "again"
    again.mkdir()
    subprocess.run(["sh", "-ec", "\n".join(stage.commands)], cwd=again, check=True)
    assert (again / NAME / "drivers/vfio/vfio_main.c").is_file()


def test_cached_base_needs_no_network(
    debian_system: Debian, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian_system.suite("next-backports", debian_system.deb("9.9.4-1", "9.9.4"))
    first = resolve.resolve("9.9", stage=Silent())
    debian_system.requests.clear()
    monkeypatch.setenv("PATH", "/no/such")
    begin = time.monotonic()
    again = resolve.resolve("9.9", stage=Silent())
    assert time.monotonic() - begin < 0.1
    assert again.cached
    assert (again.path, again.origin) == (first.path, first.origin)
    assert debian_system.requests == []


def test_refresh_takes_a_newer_one_only(debian_system: Debian) -> None:
    old = debian_system.deb("9.9.4-1", "9.9.4")
    debian_system.suite("next-backports", old)
    first = resolve.resolve("9.9", stage=Silent())
    same = resolve.resolve("9.9", stage=Silent(), refresh=True)
    assert (same.path, same.cached, debian_system.downloads()) == (first.path, True, 1)
    debian_system.suite("next-backports", old, debian_system.deb("9.9.10-1", "9.9.10"))
    assert resolve.resolve("9.9", stage=Silent()).version == "9.9.4"
    assert resolve.resolve("9.9", stage=Silent(), refresh=True).version == "9.9.10"
    assert resolve.resolve("9.9", stage=Silent()).version == "9.9.10"


def test_first_suite_that_has_it_wins(debian_system: Debian) -> None:
    debian_system.suite("next-backports")
    debian_system.suite(f"{CODENAME}-security", debian_system.deb("9.9.3-1", "9.9.3"))
    tree = resolve.resolve("9.9", stage=Silent())
    assert tree.origin["suite"] == f"{CODENAME}-security"
    assert tree.origin["archive"] == f"{debian_system.url}/security/"


def test_damaged_index_is_made_again(debian_system: Debian) -> None:
    debian_system.suite("next-backports", debian_system.deb("9.9.4-1", "9.9.4"))
    first = resolve.resolve("9.9", stage=Silent())
    (cache.root() / "bases/9.9").unlink()
    (cache.root() / "bases/9.9").symlink_to("../trees/gone")
    again = resolve.resolve("9.9", stage=Silent())
    assert (again.path, again.cached) == (first.path, True)


# Faulty archives


def test_missing_package_names_the_suites(debian_system: Debian) -> None:
    debian_system.suite(f"{CODENAME}-security")
    line = refused(ExitCode.USAGE)
    assert (
        f"no {NAME} could be had (next-backports: no such suite; {CODENAME}-security: not in it); "
        "give KERNEL= a path or a tarball"
    ) in line


def test_archive_that_cannot_be_reached(
    debian_system: Debian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"deb http://127.0.0.1:9/debian {CODENAME} main\n"
    retries = 'Acquire::Retries "0";\n'
    system_apt(tmp_path, monkeypatch, {"debian.sources": "", "a.list": text}, retries)
    line = refused(ExitCode.LOST)
    assert "next-backports: Failed to fetch" in line
    assert "look at the network" in line


LAX = (
    'APT::Get::AllowUnauthenticated "true";\nAcquire::AllowInsecureRepositories "true";\n'
    'Acquire::AllowWeakRepositories "true";\n'
)


@pytest.mark.parametrize("signer", ["", "other@example.org"])
def test_unsigned_archive_is_refused(
    debian_system: Debian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signer: str
) -> None:
    system_apt(tmp_path, monkeypatch, {}, LAX)
    debian_system.suite("next-backports", debian_system.deb("9.9.4-1", "9.9.4"), signer=signer)
    line = refused(ExitCode.LOST)
    assert "is not signed" in line
    assert debian_system.downloads() == 0


def test_changed_list_is_refused(debian_system: Debian) -> None:
    suite = debian_system.suite("next-backports", debian_system.deb("9.9.4-1", "9.9.4"))
    (packages,) = suite.rglob("Packages.xz")
    packages.write_bytes(lzma.compress(b"Package: other\n"))
    assert "next-backports: Failed to fetch" in refused(ExitCode.LOST)


def test_changed_package_is_refused(debian_system: Debian) -> None:
    deb = debian_system.deb("9.9.4-1", "9.9.4")
    debian_system.suite("next-backports", deb)
    data = bytearray(deb.read_bytes())
    data[len(data) // 2] ^= 0xFF
    deb.write_bytes(data)
    assert "9.9.4-1 cannot be downloaded (" in refused(ExitCode.LOST)


def test_package_without_the_tarball(debian_system: Debian) -> None:
    debian_system.suite(
        "next-backports", debian_system.deb("9.9.4-1", "9.9.4", member="other.tar.xz")
    )
    assert f"{NAME}.tar.xz: Not found in archive" in refused(ExitCode.USAGE)


# Interruptions, a full disk, two runs


RESOLVE = f"""\
from kpatch.tables import bases
bases.BASES["9.9"] = bases.Base("9.9", ("next-backports",))
{kerneltree.RESOLVE}"""


def start(debian_system: Debian, *wrapper: str) -> subprocess.Popen[str]:
    argv = kerneltree.resolver("9.9")
    argv[argv.index(kerneltree.RESOLVE)] = RESOLVE
    return subprocess.Popen(
        (*wrapper, *argv),
        env=kerneltree.environment(debian_system.folder / "cache"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("action", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_download_is_begun_again(debian_system: Debian, action: signal.Signals) -> None:
    debian_system.suite("next-backports", debian_system.deb("9.9.4-1", "9.9.4"))
    debian_system.stall.set()
    run = start(debian_system)
    assert debian_system.stalled.wait(20)
    run.send_signal(action)
    run.communicate(timeout=20)
    assert run.returncode != 0
    debian_system.stall.clear()
    tree = resolve.resolve("9.9", stage=Silent())
    assert (tree.version, tree.cached) == ("9.9.4", False)
    assert kerneltree.leftovers(cache.root()) == []


def test_two_runs_download_once(debian_system: Debian) -> None:
    debian_system.suite("next-backports", debian_system.deb("9.9.4-1", "9.9.4"))
    runs = [start(debian_system), start(debian_system)]
    paths = [run.communicate(timeout=30)[0].splitlines()[-1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert paths[0] == paths[1]
    assert debian_system.downloads() == 1


# Free space of a cache, in bytes, when its run asks the archive for a file, and what fails then.
# The last is enough for the .deb (64 KiB of noise, and little else), and not for what is in it.
FULL = [
    ("/InRelease", 0, "looking"),
    (".deb", 0, "downloading"),
    (".deb", 88 << 10, "unpacking"),
]


def fill(folder: Path, room: int) -> None:
    """Take up the file system of ``folder`` but ``room`` bytes; there has to be more than that."""
    here = os.statvfs(folder)
    taken = here.f_bavail * here.f_frsize - room
    with (folder / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, taken)


@pytest.mark.parametrize(("file", "room", "doing"), FULL)
def test_full_disk_is_one_clear_line(
    debian_system: Debian, file: str, room: int, doing: str
) -> None:
    debian_system.suite("next-backports", debian_system.deb("9.9.4-1", "9.9.4"))
    folder = debian_system.folder / "cache"
    folder.mkdir()
    mount = 'mount -t tmpfs -o size=32m none "$1" && shift && exec "$@"'
    unshare = (*kerneltree.UNSHARE, "sh", "-c", mount, "sh", str(folder))
    # In a user namespace apt could not become its own user; and it would try again for seconds.
    with (debian_system.folder / "system.conf").open("a") as configuration:
        configuration.write('APT::Sandbox::User "root";\nAcquire::Retries "0";\n')
    run = start(debian_system, *unshare)

    def asked(path: str) -> None:
        # Only now: how much apt needs before that depends on its version.
        if path.endswith(file) and debian_system.requests.count(path) == 1:
            fill(Path(f"/proc/{run.pid}/root{folder}"), room)

    debian_system.asked = asked
    notes, errors = run.communicate(timeout=30)
    assert notes.splitlines()[-1].startswith(doing), errors
    assert errors.startswith(f"7 cache {folder}: No space left on device; free some space")
    assert len(errors.splitlines()) == 1
