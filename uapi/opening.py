# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Open a VFIO device by one of two methods.

cdev    /dev/vfio/devices/vfioN, bound to an iommufd; since Linux v6.6
group   /dev/vfio/GROUP in a container of type 1; optional since Linux v6.2 (containers) and v6.6
        (groups)

The kernel gives access to a device only after its DMA is confined to an I/O address space. So both
methods make an empty address space and attach the device to it. The devices of an IOMMU group have
to share one; therefore this process keeps the address space of a group until the group's last
device is closed.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import causes, ioctl, mirror, pci
from .errors import OpenError
from .ioctl import Structure

CDEV = "cdev"
GROUP = "group"


@dataclass
class _Space:
    """The I/O address space that the open devices of one IOMMU group share.

    ``fds`` are the descriptors of the group and its container, or that of the iommufd. ``ioas`` is
    the id of the address space in the iommufd. ``users`` is the number of open devices.
    """

    fds: tuple[int, ...]
    ioas: int = 0
    users: int = 0

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


@dataclass
class _Spaces:
    """The address spaces in use, by open method and number of the group."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    used: dict[tuple[str, str], _Space] = field(default_factory=dict)

    def take(self, key: tuple[str, str], make: Callable[[], _Space]) -> _Space:
        with self.lock:
            space = self.used.get(key)
            if space is None:
                space = self.used[key] = make()
            space.users += 1
            return space

    def give_back(self, key: tuple[str, str]) -> None:
        with self.lock:
            space = self.used[key]
            space.users -= 1
            if not space.users:
                del self.used[key]
                space.close()


_spaces = _Spaces()


@dataclass(frozen=True)
class Opened:
    """An open device: its descriptor ``fd`` and the method by which it was opened.

    After closing ``fd``, the caller has to call ``release``, which closes the address space if no
    other device uses it.
    """

    fd: int
    open_method: str
    release: Callable[[], None]


def open_methods(bdf: str) -> tuple[str, ...]:
    """Return the open methods by which the device can be opened now, "cdev" before "group".

    "cdev" needs the device's file in /dev/vfio/devices, and /dev/iommu; "group" the file of its
    IOMMU group in /dev/vfio, and /dev/vfio/vfio. The tuple is empty if the device does not exist or
    is not bound to a VFIO driver. Raises OpenError if ``bdf`` is not a PCI address.
    """
    bdf = pci.canonical(bdf)
    # The file of a group is there as well if another device of the group is bound to vfio-pci.
    if not pci.is_vfio(pci.driver(bdf)):
        return ()
    nodes = {CDEV: pci.cdev_node(bdf), GROUP: pci.group_node(bdf)}
    return tuple(name for name, node in nodes.items() if node)


def open_device(bdf: str, open_method: str | None = None) -> Opened:
    """Open the device ``bdf``, a name in sysfs ("0000:00:10.0"), and return it.

    ``open_method`` is "cdev" or "group"; None takes the first one of `open_methods`. Raises
    OpenError if the device is not bound to a VFIO driver, the kernel does not offer the method, or
    a file cannot be opened; UapiError if an ioctl fails; ValueError if ``open_method`` is another
    word.
    """
    if open_method not in (None, CDEV, GROUP):
        raise ValueError(f"open_method {open_method!r} is neither {CDEV!r} nor {GROUP!r}")
    offered = open_methods(bdf)
    if not offered:
        raise causes.error(bdf)
    if open_method is not None and open_method not in offered:
        raise OpenError(
            errno.ENOENT,
            bdf,
            f"this kernel does not offer it through {open_method}",
            f"it does through {' and '.join(offered)}",
        )
    open_method = open_method or offered[0]
    key = (open_method, pci.group(bdf))
    make, get = _MAKERS[open_method], _GETTERS[open_method]
    space = _spaces.take(key, lambda: make(bdf))
    try:
        fd = get(bdf, space)
    except BaseException:
        _spaces.give_back(key)
        raise
    return Opened(fd, open_method, lambda: _spaces.give_back(key))


def space_fds(bdf: str, open_method: str) -> tuple[int, ...]:
    """Return the descriptors of the I/O address space that ``bdf`` was opened with.

    These are the iommufd, or the group and the container. Raises KeyError if this process has not
    opened the device by this method.
    """
    return _spaces.used[open_method, pci.group(bdf)].fds


def group_fd(bdf: str) -> int:
    """Return the descriptor of the IOMMU group through which this process has ``bdf`` open.

    Raises KeyError if it has not opened the device by the method "group".
    """
    return space_fds(bdf, GROUP)[0]


def _open(bdf: str, node: Path) -> int:
    try:
        return os.open(node, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        cause, hint = _OPEN_CAUSES.get(error.errno or 0, (error.strerror or "", ""))
        number = error.errno or 0
    raise OpenError(number, bdf, f"{node}: {cause}", hint)


_NOBODY_ELSE = "close the device in the VMM or tool that uses it"
_OPEN_CAUSES = {
    errno.EACCES: ("permission denied", "give your user read and write permission, or be root"),
    errno.EPERM: ("operation not permitted", "be root, or check the container's device rules"),
    errno.EBUSY: ("in use by somebody else", _NOBODY_ELSE),
    errno.ENOENT: ("no such file", "is the module loaded, and the file in this container?"),
    errno.ENODEV: ("the kernel has no driver for it", "load the module (vfio, iommufd)"),
}


def _node(path: Path | None, bdf: str) -> Path:
    if path is None:  # removed since it was found
        raise OpenError(errno.ENODEV, bdf, "the device went away")
    return path


# argsz of the first version of each structure (v6.6). Later kernels accept it: they only appended
# members.
_BIND_SIZE = 16
_ATTACH_SIZE = 12


def _make_iommufd(bdf: str) -> _Space:
    iommufd = _open(bdf, pci.IOMMUFD)
    try:
        alloc = mirror.ffi.new("struct iommu_ioas_alloc *", {"size": _IOAS_SIZE})
        buffer = bytearray(mirror.ffi.buffer(alloc))
        ioctl.call(iommufd, "IOMMU_IOAS_ALLOC", buffer)
    except BaseException:
        os.close(iommufd)
        raise
    answer = mirror.ffi.from_buffer("struct iommu_ioas_alloc *", buffer)
    return _Space((iommufd,), ioas=answer.out_ioas_id)


_IOAS_SIZE = mirror.sizeof("iommu_ioas_alloc")


def _get_cdev(bdf: str, space: _Space) -> int:
    fd = _open(bdf, _node(pci.cdev_node(bdf), bdf))
    try:
        bind = Structure("vfio_device_bind_iommufd", argsz=_BIND_SIZE)
        bind.view.iommufd = space.fds[0]
        bind.call(fd, "VFIO_DEVICE_BIND_IOMMUFD")
        attach = Structure("vfio_device_attach_iommufd_pt", argsz=_ATTACH_SIZE)
        attach.view.pt_id = space.ioas
        attach.call(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _make_group(bdf: str) -> _Space:
    group = _open(bdf, _node(pci.group_node(bdf), bdf))
    try:
        container = _open(bdf, pci.VFIO / "vfio")
    except BaseException:
        os.close(group)
        raise
    try:
        ioctl.call(group, "VFIO_GROUP_SET_CONTAINER", bytearray(struct.pack("=i", container)))
        ioctl.call(container, "VFIO_SET_IOMMU", mirror.VFIO_TYPE1v2_IOMMU)
    except BaseException:
        os.close(group)
        os.close(container)
        raise
    return _Space((group, container))


def _get_from_group(bdf: str, space: _Space) -> int:
    name = bytearray(bdf.encode() + b"\0")
    return ioctl.call(space.fds[0], "VFIO_GROUP_GET_DEVICE_FD", name)


_MAKERS = {CDEV: _make_iommufd, GROUP: _make_group}
_GETTERS = {CDEV: _get_cdev, GROUP: _get_from_group}
