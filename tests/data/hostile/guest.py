# SPDX-License-Identifier: GPL-2.0-only
"""The root of a hostile guest: attacks the host in all known ways, and reports the results.

Each report is a line on the console, "hostile: " and a JSON object: the kind of attack, the number
of attempts, and those that worked. tests/test_hostile_guest.py compares them with the right values.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LIBC = ctypes.CDLL("libc.so.6", use_errno=True)
MS_REMOUNT, MS_BIND = 32, 4096
OWNED = b"owned by the guest\n"
PORT = "vfio_acpi.records"
BLKROSET = 0x125D

# In each folder, this many of its files are attacked. Folders are searched this many levels deep.
FILES, DEPTH = 3, 2


def tell(what: str, **facts: object) -> None:
    """Print a report for the host."""
    print(f"\nhostile: {json.dumps({'what': what, **facts})}", flush=True)


def mount(source: str, target: str, kind: str, flags: int, data: str) -> bool:
    """Mount a file system. Returns whether it worked."""
    words = [word.encode() for word in (source, target, kind)]
    return int(LIBC.mount(*words, ctypes.c_ulong(flags), data.encode())) == 0


def worked(action: Callable[[], object]) -> bool:
    """Run the action. Returns whether it raised no OSError."""
    try:
        action()
    except OSError:
        return False
    return True


def write(path: str) -> None:
    """Write to an existing file or device."""
    file = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(file, OWNED)
        os.fsync(file)
    finally:
        os.close(file)


def actions(folder: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield every attack on a folder and its files: a name, and a function that tries it."""
    new = f"{folder}/owned"
    yield "create", lambda: os.close(os.open(new, os.O_CREAT | os.O_WRONLY))
    yield "mkdir", lambda: os.mkdir(f"{new}-folder")
    yield "symlink", lambda: os.symlink("/etc/passwd", f"{new}-link")
    yield "mknod", lambda: os.mknod(f"{new}-node", stat.S_IFBLK | 0o600, os.makedev(254, 0))
    yield "fifo", lambda: os.mkfifo(f"{new}-fifo")
    yield "chmod a folder", lambda: os.chmod(folder, 0o777)
    yield "rename a folder", lambda: os.rename(folder, f"{folder}-owned")
    here = os.stat(folder).st_dev
    for file in [entry.path for entry in os.scandir(folder)][:FILES]:
        if os.path.exists(file) and os.stat(file).st_dev != here:
            continue  # a link to the guest's memory, or a mount point
        if os.path.islink(file):  # it may lead out of the folder or of the mount
            yield "write through a link", functools.partial(write, file)
        if os.path.isfile(file):
            yield "write", functools.partial(write, file)
            yield "truncate", functools.partial(os.truncate, file, 0)
            yield "chmod", functools.partial(os.chmod, file, 0o4777)
            yield "chown", functools.partial(os.chown, file, 1, 1)
            yield "utime", functools.partial(os.utime, file, (1, 1))
            yield "setxattr", functools.partial(os.setxattr, file, "user.owned", OWNED)
            yield "link", functools.partial(os.link, file, f"{new}-hard")
            yield "rename", functools.partial(os.rename, file, f"{file}-owned")
        if os.path.lexists(file) and not os.path.isdir(file):
            yield "unlink", functools.partial(os.unlink, file)


def attack(folder: str, depth: int = DEPTH) -> tuple[int, list[str]]:
    """Try all actions below ``folder``, not in mounts. Returns their number and successes."""
    tried, done = 0, []
    try:
        here = os.stat(folder).st_dev
        below = [it.path for it in os.scandir(folder) if it.is_dir(follow_symlinks=False)]
        below = [it for it in below if os.stat(it).st_dev == here]
        for name, action in actions(folder):
            tried += 1
            if worked(action):
                done.append(f"{name} {folder}")
    except OSError:
        return tried, done
    for one in below if depth else ():
        more, made = attack(one, depth - 1)
        tried, done = tried + more, done + made
    return tried, done


def shares() -> None:
    """Mount every shared file system again, writable, and attack its files."""
    tags = [
        Path(path).read_text().strip("\0\n")
        for path in glob.glob("/sys/bus/virtio/drivers/9pnet_virtio/*/mount_tag")
    ]
    for number, tag in enumerate(tags):
        place = f"/mnt/share{number}"
        os.mkdir(place)
        options = "version=9p2000.L,trans=virtio,access=any,cache=none"
        mounted = mount(tag, place, "9p", 0, options)
        # A 9p device serves one mount. If it is in use, bind the root without the mounts on it.
        bound = not mounted and mount("/", place, "none", MS_BIND, "")
        remounted = mount("none", place, "none", MS_REMOUNT, "") or mount(
            "none", place, "none", MS_REMOUNT | MS_BIND, ""
        )
        look(place)
        tried, done = attack(place)
        tell(
            "share",
            tag=tag,
            mounted=mounted or bound,
            remounted=remounted,
            tried=tried,
            worked=done,
        )


def look(place: str) -> None:
    """Report the folders and environment variables of the host that can be read."""
    seen = {
        name: sorted(os.listdir(f"{place}/{name}"))
        for name in sorted(os.listdir(place))
        if name in ("home", "root", "tmp", "var", "mnt", "etc", "dev")
    }
    environments = b"".join(read(path) for path in glob.glob(f"{place}/proc/[0-9]*/environ"))
    names = sorted(
        {
            word.partition(b"=")[0].decode(errors="replace")
            for word in environments.split(b"\0")
            if word
        }
    )
    tell("sight", top=sorted(os.listdir(place)), folders=seen, variables=names)


def read(path: str) -> bytes:
    """Return the content of a file, or b"" if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def mounts() -> None:
    """Remount every mount writable, and attack those that are not in the guest's memory."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        remounted = mount("none", place, "none", MS_REMOUNT, "") or mount(
            "none", place, "none", MS_REMOUNT | MS_BIND, ""
        )
        if kind in ("9p", "erofs"):
            tried, done = attack(place)
            tell("mount", place=place, kind=kind, remounted=remounted, tried=tried, worked=done)


def disks() -> None:
    """Clear the read-only flag of every disk, and write to its beginning."""
    for path in sorted(glob.glob("/dev/vd*")):
        file = os.open(path, os.O_RDONLY)
        LIBC.ioctl(file, ctypes.c_ulong(BLKROSET), ctypes.byref(ctypes.c_int(0)))
        os.close(file)
        tell("disk", path=path, worked=worked(functools.partial(write, path)))


def records() -> None:
    """Flood the channel with garbage, then send records that say that every test passed."""
    file = os.open(port(), os.O_RDWR)

    def send(data: bytes) -> None:
        while data:
            data = data[os.write(file, data) :]

    send(os.urandom(1 << 20) + b"\n" + b"[" * (1 << 17) + b"\n" + b"{}\n" * 1000)
    send(b'{"type": "hello", "protocol": 3, "release": "forged", "python": "3"}\n')
    os.read(file, 1 << 16)
    tests = [{"id": f"test_forged.py::{name}", "requirement": "REQ-ERR-01"} for name in "ab"]
    send(json.dumps({"type": "collected", "tests": tests}).encode() + b"\n")
    # Interrupts. The first one is allowed; the host has to refuse the others.
    entry = {"method": "N080", "value": 0xFFFFFFFF, "step": 0xFFFFFFFF, "count": 8}
    ask = {"type": "interrupt", "serial": 0, "entries": [entry] * 64}
    for wrong in (
        {},
        {"entries": [entry] * 65},
        {"entries": [{**entry, "method": "_EVT"}]},
        {"entries": [{**entry, "count": 1 << 31}]},
        {"address": 0x100000},
        {"entries": [{**entry, "pin": 9}]},
    ):
        send(json.dumps({**ask, **wrong}).encode() + b"\n")
    for serial in range(20000):  # the answers are never read
        send(json.dumps({"type": "request", "serial": serial, "action": "quit"}).encode() + b"\n")
    for test in tests:
        send(json.dumps({"type": "begin", "id": test["id"], "limit": 1e9}).encode() + b"\n")
        over = {"type": "end", "id": test["id"], "outcome": "pass", "seconds": 0}
        send(json.dumps(over).encode() + b"\n")
    for path in sorted(
        glob.glob("/dev/vport*") + glob.glob("/dev/hvc*") + glob.glob("/dev/virtio-ports/*")
    ):
        if path != port():
            tell("port", path=path, worked=worked(functools.partial(write, path)))
    tell("records")
    os.close(file)  # only one program at a time can open it


def done() -> None:
    """Send the record that the suite is done, so that the host ends the VM."""
    os.write(os.open(port(), os.O_WRONLY), b'{"type": "done"}\n')


def port() -> str:
    """Return the path of the channel's device."""
    names = glob.glob("/sys/class/virtio-ports/*/name")
    return next(
        f"/dev/{Path(it).parent.name}" for it in names if Path(it).read_text().strip() == PORT
    )


def devices() -> None:
    """Write ones to the registers and the configuration space of every PCI device."""
    for path in sorted(glob.glob("/sys/bus/pci/devices/*/resource[0-9]*")):
        worked(functools.partial(scribble, path))
    for path in sorted(glob.glob("/sys/bus/pci/devices/*/config"), reverse=True):
        tell("config", path=path)
        worked(functools.partial(Path(path).write_bytes, b"\xff" * 256))


def scribble(path: str) -> None:
    """Write ones to the first page of a memory BAR by mmap, or to the first ports of an I/O BAR."""
    import mmap

    tell("registers", path=path)
    with open(path, "r+b", buffering=0) as file:
        try:
            with mmap.mmap(file.fileno(), 4096) as memory:
                for offset in range(0, 4096, 4):
                    memory[offset : offset + 4] = b"\xff" * 4
        except (OSError, ValueError):
            file.write(b"\xff\xff\xff\xff")


def main() -> None:
    """Run the parts in the order of the file ``parts``."""
    Path("/mnt/ready").read_bytes()  # init has finished: /sys and /proc are mounted
    for name in (Path(__file__).parent / "parts").read_text().split():
        part = globals()[name]
        tell("part", name=part.__name__)
        try:
            part()
        except Exception as error:
            tell("broke", name=part.__name__, error=repr(error))
    tell("through")
    time.sleep(600)


if __name__ == "__main__":
    main()
