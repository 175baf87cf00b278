# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Exceptions: a failed ioctl, a device that cannot be opened, bytes of a wrong format, and more."""

from __future__ import annotations

import errno
import os


class Error(Exception):
    """The base class of the exceptions of this library."""


class UapiError(Error, OSError):
    """A failed ioctl.

    ``ioctl`` is its name in the kernel's headers, ``errno`` the error number. ``rule`` says why the
    kernel refused the arguments, mostly in the words of `uapi.rules.RULES`; it is "" if that is
    unknown.
    """

    def __init__(self, ioctl: str, number: int, rule: str = "") -> None:
        reason = rule or os.strerror(number)
        super().__init__(number, f"{ioctl}: {errno.errorcode.get(number, number)}: {reason}")
        self.ioctl = ioctl
        self.rule = rule

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.ioctl, self.errno, self.rule)

    def __str__(self) -> str:
        return str(self.strerror)


class OpenError(Error, OSError):
    """A device, or the acpi_event family, that cannot be opened or used.

    ``what`` names it, ``cause`` is the reason, ``hint`` the remedy or "". ``errno`` is ENODEV if
    the device does not exist or is not bound to vfio-pci, ENOENT if its file or the open method is
    missing, EACCES or EPERM if the user lacks permission, EBUSY if it is in use, ENOTSUP if the
    kernel, or firmware, lacks what is needed; otherwise that of the failed system call.
    """

    def __init__(self, number: int, what: str, cause: str, hint: str = "") -> None:
        super().__init__(number, f"{what}: {cause}" + (f"; {hint}" if hint else ""))
        self.what = what
        self.cause = cause
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.what, self.cause, self.hint)

    def __str__(self) -> str:
        return str(self.strerror)


class FormatError(Error, ValueError):
    """Data that is not a notification or event, or cannot be encoded as one; the text says why."""


class ClosedError(Error, ValueError):
    """An object that is used after its ``close``."""
