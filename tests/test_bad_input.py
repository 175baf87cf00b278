# SPDX-License-Identifier: GPL-2.0-only
"""Bad input from end to end: each case gives one clear line, an exit code and a valid result.

Cheap cases run on tiny trees. Cases that need a kernel (marked ``vm``) use the planted faults of
``data/faults``, on 7.3.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kpatch.lib import cache
from kpatch.series import catalog as series_table
from kpatch.tables import bases, mechanisms
from kpatch.tables.outcomes import ExitCode
from ktests.mechanisms import RECORDS
from tests import commandline, kerneltree
from tests.commandline import FAULTS, HEAD, PATCH, Ended

BINARY = """\
diff --git a/drivers/vfio/x.bin b/drivers/vfio/x.bin
new file mode 100644
index 0000000000000000000000000000000000000000..f76dd238ade08917e6712764a16a22005a50573d
GIT binary patch
literal 1
IcmZPo000310RR91

literal 0
HcmV?d00001

"""


@dataclass(frozen=True)
class Bad:
    """Input of ``kpatch test``, and the expected message."""

    name: str
    arguments: Callable[[Path], list[str]]
    code: ExitCode
    line: str  # a pattern for the whole last line after "vfio-acpi: "


def tree(folder: Path) -> Path:
    """A tiny kernel tree."""
    return kerneltree.make(folder / "linux")


def kernel(make: Callable[[Path], str]) -> Callable[[Path], list[str]]:
    """Return input with the KERNEL= that ``make`` makes."""
    return lambda folder: ["--kernel", make(folder), "--series", "base"]


def series(content: str | bytes, name: str = "x.mbox") -> Callable[[Path], list[str]]:
    """Return input with SERIES= a mailbox of this content, for a tiny tree."""

    def arguments(folder: Path) -> list[str]:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return ["--kernel", str(tree(folder)), "--series", str(folder / name)]

    return arguments


def changed_repository(folder: Path) -> str:
    """Make a repository with an uncommitted change."""
    repository = kerneltree.repository(folder / "linux")
    (repository / "Kconfig").write_text("changed\n")
    return str(repository)


def truncated(folder: Path) -> str:
    """Make a truncated tarball."""
    archive = folder / "linux.tar.xz"
    kerneltree.pack(tree(folder), archive)
    archive.write_bytes(archive.read_bytes()[:-100])
    return str(archive)


def namesakes(folder: Path) -> list[str]:
    """Return input with SERIES= two mailboxes of the same name."""
    arguments = ["--kernel", str(tree(folder))]
    for version in ("v1", "v2"):
        (folder / version).mkdir()
        (folder / version / "x.mbox").write_text(PATCH)
        arguments += ["--series", str(folder / version / "x.mbox")]
    return arguments


def other_sum(folder: Path) -> str:
    """Make a tarball, and give the sha256 of another one."""
    kerneltree.pack(tree(folder), folder / "linux.tar.xz")
    return f"{folder}/linux.tar.xz#sha256={'0' * 64}"


BAD = (
    Bad(
        "unknown version",
        kernel(lambda folder: "7.4"),
        ExitCode.USAGE,
        "KERNEL=7.4: is no known kernel; give one of 7.3, 6.12, 6.1, or a path .*",
    ),
    Bad(
        "no kernel tree",
        kernel(str),
        ExitCode.USAGE,
        r"KERNEL=\S+: is no kernel tree \(it has no Makefile\); give the top of one",
    ),
    Bad(
        "uncommitted changes",
        kernel(changed_repository),
        ExitCode.USAGE,
        r"KERNEL=\S+: the tree has uncommitted changes: Kconfig; commit them, .*",
    ),
    Bad("truncated tarball", kernel(truncated), ExitCode.USAGE, r"KERNEL=\S+: .*; .*"),
    Bad(
        "wrong sha256",
        kernel(other_sum),
        ExitCode.USAGE,
        r"KERNEL=\S+: .*sha256.*; .*",
    ),
    Bad("empty mbox", series(""), ExitCode.USAGE, r"series x: .*empty.*; .*"),
    Bad("no mbox", series("hello\n"), ExitCode.USAGE, "series x.*; .*"),
    Bad(
        "binary patch",
        series(HEAD + BINARY),
        ExitCode.USAGE,
        "series x, patch 1/1 .*: .*binary.*; .*",
    ),
    Bad(
        "path that leaves the tree",
        series(PATCH.replace("drivers/vfio/vfio_main.c", "../outside")),
        ExitCode.USAGE,
        r"series x, .*\.\./outside.*; .*",
    ),
    Bad(
        "does not apply",
        series(PATCH.replace("int vfio", "int other")),
        ExitCode.APPLY,
        "series x, patch 1/1 .*: .*drivers/vfio/vfio_main.c.*hunk 1.*; .*",
    ),
    Bad(
        "one patch of three",
        series(PATCH.replace("[PATCH]", "[PATCH 1/3]")),
        ExitCode.USAGE,
        r"series x: is not whole: it lacks 2/3, 3/3; give all in one file: git format-patch "
        r"--stdout BASE\.\. > series\.mbox, or cat the files",
    ),
    Bad(
        "two series of one name",
        namesakes,
        ExitCode.USAGE,
        r"SERIES=\S+/v2/x\.mbox: has the same name, x, as \S+/v1/x\.mbox; rename one of .*",
    ),
    Bad(
        "unknown series",
        lambda folder: ["--kernel", str(tree(folder)), "--series", "nettlink"],
        ExitCode.USAGE,
        "SERIES=nettlink: no series of this name; choose from base, .*",
    ),
    Bad(
        "unknown flavor",
        lambda folder: ["--kernel", str(tree(folder)), "--flavor", "bitter"],
        ExitCode.USAGE,
        "FLAVOR=bitter: unknown flavor; choose from .*",
    ),
)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_one_clear_line(tmp_path: Path, bad: Bad) -> None:
    (tmp_path / "in").mkdir()
    place = str(tmp_path / "cache")
    arguments = bad.arguments(tmp_path / "in")
    ended = commandline.run("test", *arguments, out=tmp_path / "out", VFIO_ACPI_CACHE=place)
    assert ended.code == bad.code
    assert ended.verdict == bad.code.name.lower()
    assert ended.told(bad.line), ended.stdout
    error = ended.result.error
    assert error is not None and ended.told(re.escape(f"{error.what}: {error.cause}; {error.hint}"))


TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "gcc": "gcc",
    "iasl": "acpica-tools",
    "mkfs.erofs": "erofs-utils",
    "git": "git",
}


def test_secrets_of_a_url_are_kept_nowhere(tmp_path: Path) -> None:
    """Not in the result's files or their names, the cache, or the output."""
    sha256 = kerneltree.pack(tree(tmp_path), tmp_path / "linux.tar.gz")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{http.server_port}/linux.tar.gz"
        url = f"http://me:s3cret@{place}?token=s3cret#sha256={sha256}"
        words = ("test", "--kernel", url, "--kernel", url + "0", "--series", "base", "--verbose")
        more = {"VFIO_ACPI_CACHE": str(tmp_path / "cache")}
        ended = commandline.run(*words, out=tmp_path / "out", **more)
        again = commandline.run(*words[:3], *words[5:], out=tmp_path / "one", **more)
        http.shutdown()
    assert "s3cret" not in ended.stdout + ended.stderr
    assert f"http://{place}?…" in ended.stderr, "it is told what is downloaded"
    assert again.result.kernel is not None
    assert again.result.kernel.origin["url"] == f"http://{place}?…"
    assert f"http://{place}" in (tmp_path / "cache" / "timings.json").read_text()
    written = [*(tmp_path / "out").rglob("*"), *(tmp_path / "one").rglob("*")]
    for path in (*written, *(tmp_path / "cache").rglob("*")):
        assert "s3cret" not in str(path)
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


@pytest.mark.parametrize("tool", TOOLS)
def test_missing_tool(tmp_path: Path, tool: str) -> None:
    """The message comes before any work; the requested kernel is not resolved."""
    path = commandline.path_without(tmp_path / "bin", tool)
    place = str(tmp_path / "cache")
    ended = commandline.run("test", out=tmp_path / "out", PATH=path, VFIO_ACPI_CACHE=place)
    assert (ended.code, ended.verdict) == (ExitCode.USAGE, "usage")
    package = TOOLS[tool]
    assert ended.told(f"{tool}: not found in PATH; install the Debian package {package}")
    assert ended.result.stages == ()


UNFIT = {"a cache": "a space", "a:cache": "a colon", "a,cache": "a comma", "a$cache": r"'\$'"}


@pytest.mark.parametrize("command", ["source", "apply", "config", "build", "boot", "test", "drift"])
def test_cache_that_no_command_can_use(tmp_path: Path, command: str) -> None:
    """Every command prints one line; make is not run."""
    place = tmp_path / "my cache"
    ended = subprocess.run(
        [*commandline.KPATCH, command],
        cwd=commandline.ROOT,
        env=commandline.environment(VFIO_ACPI_CACHE=str(place)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == ExitCode.USAGE
    assert ended.stderr.startswith(f"vfio-acpi: cache {place}: has a space in its path, which ")
    assert "; set VFIO_ACPI_CACHE to a folder elsewhere (" in ended.stderr
    assert not place.exists()


@pytest.mark.parametrize("name", UNFIT)
def test_cache_that_make_and_qemu_cannot_use(tmp_path: Path, name: str) -> None:
    """The message comes before any work, and no file is written there."""
    place = tmp_path / name
    ended = commandline.run("test", out=tmp_path / "out", VFIO_ACPI_CACHE=str(place))
    assert ended.code == ExitCode.USAGE
    assert ended.told(
        rf"vfio-acpi: cache {re.escape(str(place))}: has {UNFIT[name]} in its path, .*; "
        r"set VFIO_ACPI_CACHE to a folder elsewhere \(exit 2: .*"
    )
    assert not place.exists()


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine\n")
    ended = commandline.run("test", out=tmp_path / "out")
    assert ended.code == ExitCode.USAGE
    assert ended.told(r"vfio-acpi: OUT=\S+/out: cannot be written: File exists; choose a folder .*")
    assert (tmp_path / "out").read_text() == "mine\n"


def test_out_that_is_read_only(tmp_path: Path) -> None:
    """A read-only mount, because root can write into a read-only folder."""
    (tmp_path / "out").mkdir()
    mount = 'mount -t tmpfs -o ro none "$1"; shift; exec "$@"'
    prefix = (*kerneltree.UNSHARE, "sh", "-c", mount, "sh", str(tmp_path / "out"))
    ended = commandline.run("test", out=tmp_path / "out", prefix=prefix)
    assert ended.code == ExitCode.USAGE
    assert ended.told(r"vfio-acpi: OUT=\S+/out: cannot be written: Read-only file system; .*")


def test_out_with_somebody_elses_result(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}\n")
    ended = commandline.run("test", out=tmp_path / "out")
    assert ended.code == ExitCode.USAGE
    assert ended.told(
        r"vfio-acpi: OUT=\S+: result.json is there and is not from a run of this harness; .*"
    )
    assert (tmp_path / "out" / "result.json").read_text() == "{}\n"


# Tests in a VM: 7.3 with one planted fault.

VALUES = "test_value and not of_32 and netlink and (0x80 or 0x81 or 0xbf)"


def fault(name: str, *arguments: str, out: Path) -> Ended:
    """Run ``kpatch test`` on a kernel with one planted fault, without the control."""
    mbox = str(FAULTS / f"{name}.patch")
    return commandline.run("test", "--no-control", "--series", mbox, *arguments, out=out)


@pytest.mark.vm
def test_patch_that_does_not_compile(tmp_path: Path) -> None:
    ended = fault("does-not-compile", out=tmp_path / "out")
    assert (ended.code, ended.verdict) == (ExitCode.BUILD, "build")
    where = r"drivers/vfio/pci/vfio_pci\.c:282: .*vfio_pci_register_everything.*"
    assert ended.told(rf"build: {where}; see \S+\.log")
    assert ended.result.tests == ()


@pytest.mark.vm
def test_patch_that_panics_at_boot(tmp_path: Path) -> None:
    ended = fault("panics-at-boot", "--tests", "test_family", out=tmp_path / "out")
    assert (ended.code, ended.verdict) == (ExitCode.CRASH, "crash")
    line = "Kernel panic - not syncing: vfio-pci: planted panic"
    source = "drivers/vfio/pci/vfio_pci.c:291"
    told = re.escape(f"{line} ({source})")
    assert ended.told(f"panics-at-boot VM 1: crash: before the first test: {told}")
    [found] = ended.result.faults
    assert (found.kind, found.line, found.source, found.test) == ("panic", line, source, None)
    assert line in ended.console("panics-at-boot")


@pytest.mark.vm
def test_patch_that_hangs_at_boot(tmp_path: Path) -> None:
    limits = ("--boot-limit", "10")
    ended = fault("hangs-at-boot", "--tests", "test_family", *limits, out=tmp_path / "out")
    assert (ended.code, ended.verdict) == (ExitCode.HANG, "hang")
    assert ended.told(
        "hangs-at-boot VM 1: hang: during the boot: the host ended it: "
        "the guest did not come up in time"
    )
    assert "Linux version" in ended.console("hangs-at-boot")
    # The log has two looks at the hang. Each has the registers of the only CPU that is up during
    # boot, and the local APIC state of both CPUs.
    for sign, count in {r"RIP=[0-9a-f]{16} \(\w+\+0x": 2, "local APIC state for CPU": 4}.items():
        assert len(re.findall(sign, ended.console("hangs-at-boot"))) == count, sign


@dataclass(frozen=True)
class Notified:
    """A fault in the Notify handler that appears with 0x81, in the second of three tests."""

    name: str
    code: ExitCode
    outcome: str
    line: str  # a pattern for the reason, in the report on stdout or stderr
    console: str  # a pattern for the console of the VM with the fault


NOTIFIED = (
    Notified(
        "warns-in-notify", ExitCode.CRASH, "crash", "WARNING: .*", "vfio_pci_acpi_netlink_notify"
    ),
    Notified(
        "oopses-in-notify",
        ExitCode.CRASH,
        "crash",
        "BUG: kernel NULL pointer dereference.*",
        "RIP: 0010:vfio_pci_acpi_netlink_notify",
    ),
    Notified(
        "hangs-in-notify",
        ExitCode.HANG,
        "hang",
        # If the VM itself stood still, the kernel reports a stall or lockup instead.
        "(did not end within 10 s|.*stall.*|.*lockup.*)",
        # The kernel's answer to SysRq over the serial line.
        r"sysrq: Show Blocked State[\s\S]*kacpi_notify[\s\S]*vfio_pci_acpi_notify",
    ),
)


@pytest.mark.vm
@pytest.mark.parametrize("case", NOTIFIED, ids=lambda case: case.name)
def test_patch_that_breaks_one_test(tmp_path: Path, case: Notified) -> None:
    mbox = commandline.on_netlink(tmp_path / f"{case.name}.mbox", case.name)
    options = ("--mechanism", "netlink", "--no-control", "--tests", VALUES, "--test-limit", "10")
    ended = commandline.run("test", "--series", str(mbox), *options, out=tmp_path / "out")
    assert (ended.code, ended.verdict) == (case.code, case.code.name.lower())
    assert ended.outcomes() == {
        "test_value[netlink-0x80]": "pass",
        "test_value[netlink-0x81]": case.outcome,
        "test_value[netlink-0xbf]": "pass",
    }
    broken = rf"{case.name}: \S+\[netlink-0x81\]: {case.outcome} \(REQ-EVT-07 expects pass\): "
    assert ended.told(broken + case.line)
    assert re.search(case.console, ended.console(case.name))
    assert "begin test_format.py::test_value[netlink-0xbf]" in ended.console(case.name, vm=2)
    assert ended.result.incidents == ()


# A base that already has the netlink series, so the control passes and proves nothing.
PATCHED_CONTROL = """
from dataclasses import replace
from kpatch import cli
from kpatch.series import catalog
from kpatch.tables import bases
patches = catalog.load("netlink", bases.DEFAULT_BASE).mailboxes
catalog.CONTROL = replace(catalog.CONTROL, mailboxes=patches)
cli.main()
"""


@pytest.mark.vm
def test_negative_control_that_passes(tmp_path: Path) -> None:
    tests = f"(({VALUES}) and 0x80 or test_family) and not device"
    options = ("--series", "base", "--tests", tests)
    patched = (sys.executable, "-c", PATCHED_CONTROL)
    ended = commandline.run("test", *options, out=tmp_path / "out", kpatch=patched)
    assert (ended.code, ended.verdict) == (ExitCode.FAIL, "fail")
    assert ended.outcomes() == {"test_family": "pass", "test_value[netlink-0x80]": "pass"}
    assert ended.told(
        r"base: \S+test_value\[netlink-0x80\]: pass \(REQ-EVT-07 expects fail\): "
        "passes without the series"
    )


@pytest.mark.vm
def test_series_that_does_nothing(tmp_path: Path) -> None:
    """Only the requirements on every kernel are tested. They pass, and there is no verdict."""
    mbox = tmp_path / "noop.mbox"
    mbox.write_text(HEAD + commandline.SOURCE.format("nothing"))
    tests = ("--tests", "REQ-EVT or REQ-INT-01")
    ended = commandline.run("test", "--series", str(mbox), *tests, out=tmp_path / "out")
    assert (ended.code, ended.verdict) == (ExitCode.NOT_JUDGED, "not-judged")
    of_series = [test for test in ended.result.tests if test.series == "noop"]
    assert of_series and {test.requirement for test in of_series} == {"REQ-INT-01"}
    assert {test.outcome for test in ended.result.tests if test.series == "base"} == {
        "pass",
        "fail",
    }
    seen = (
        "index 5 is not there; feature 14 is not there; no generic netlink family has the device's "
        "name; a Notify of 0x81 causes no event of the device"
    )
    assert ended.told(
        r"noop: not-judged: no mechanism was detected: "
        r"[0-9]{2,3} requirements of mechanisms are left out \(index 5 is not there; .*"
    )
    [_, info] = ended.result.series
    assert (info.mechanism, info.detected) == ("undetected", seen)


@pytest.mark.vm
@pytest.mark.parametrize("name", mechanisms.MECHANISMS)
def test_mechanism_is_detected(tmp_path: Path, name: str) -> None:
    patches = series_table.load(name, bases.DEFAULT_BASE).mailboxes
    mbox = commandline.mailbox(tmp_path / "x.mbox", *patches)
    options = ("--series", str(mbox), "--no-control", "--tests", "REQ-DEL-09")
    ended = commandline.run("test", *options, out=tmp_path / "out")
    assert (ended.code, ended.verdict) == (ExitCode.PASS, "pass")
    assert {test.outcome for test in ended.result.tests} == {"pass"}
    [info] = ended.result.series
    sign = RECORDS[name].sign
    assert (info.mechanism, info.detected) == (name, sign.text)
    other = next(other for other in mechanisms.MECHANISMS if other != name)
    refused = commandline.run("test", *options, "--mechanism", other, out=tmp_path / "out")
    assert (refused.code, refused.verdict) == (ExitCode.USAGE, "usage")
    assert refused.told(rf"MECHANISM={other}: the kernel shows {name}: .*; leave MECHANISM out, .*")
    assert refused.result.tests == ()


@pytest.mark.vm
def test_qemu_killed_from_outside(tmp_path: Path) -> None:
    options = ("--series", "base", "--tests", "test_companion")
    with commandline.running("test", *options, out=tmp_path / "out") as run:
        run.wait_for_console("Linux version", "base")
        qemu = commandline.qemu_of(run)
        assert qemu is not None
        os.kill(qemu, signal.SIGKILL)
        ended = run.end()
    assert (ended.code, ended.verdict) == (ExitCode.LOST, "lost")
    assert ended.told(
        "base VM 1: lost: during the boot: QEMU failed or was killed by somebody else "
        r"\(QEMU: killed by signal 9\)"
    )
    again = commandline.run("test", *options, out=tmp_path / "out")
    assert (again.code, again.verdict) == (ExitCode.PASS, "pass")


# Mounts a small disk as the cache, with links to the results of earlier stages in the real cache.
# Prints the files that are left, because the disk vanishes with its mount namespace.
SMALL_DISK = """mount -t tmpfs -o size="$1" none "$2" && cd "$2" || exit 99
for kind in $4; do ln -s "$3/$kind" "$kind"; done
shift 4
cd - >/dev/null
"$@"
status=$?
find "$VFIO_ACPI_CACHE" -mindepth 2 -maxdepth 2 -name ".*"
exit $status
"""


@pytest.mark.vm
@pytest.mark.parametrize(
    ("stage", "size", "kinds"),
    [
        ("config", "64k", "trees bases"),
        ("build", "16m", "trees bases config"),
        ("selftests", "16m", "trees bases config kernels"),
        ("machine", "16m", "trees bases config kernels selftests"),
    ],
)
def test_disk_full_in_the_cache(tmp_path: Path, stage: str, size: str, kinds: str) -> None:
    words = ("test", "--series", "base", "--tests", "test_family")
    assert commandline.run(*words, out=tmp_path / "before").code == ExitCode.PASS
    place = tmp_path / "cache"
    place.mkdir()
    disk = (size, str(place), str(cache.root()), kinds)
    ended = commandline.run(
        *words,
        out=tmp_path / "out",
        prefix=(*kerneltree.UNSHARE, "sh", "-c", SMALL_DISK, "sh", *disk),
        VFIO_ACPI_CACHE=str(place),
    )
    assert (ended.code, ended.verdict) == (ExitCode.LOST, "lost")
    line = f"cache {place}: No space left on device; free some space, or set VFIO_ACPI_CACHE .*"
    assert ended.told(line), ended.stdout
    assert ended.result.stages[-1].name == stage
    assert str(place) not in ended.stdout.replace(f"cache {place}", ""), "something half is left"
