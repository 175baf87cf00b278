# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What goes wrong: an ioctl, a device that cannot be opened, a word that is no notification."""

from __future__ import annotations

import errno
import os


class UapiError(OSError):
    """An ioctl that failed.

    ``ioctl`` is its name as in the kernel's headers, ``errno`` the number, ``rule`` the rule that
    was broken, as far as the arguments show it, else "".
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


class OpenError(OSError):
    """A device that cannot be opened, or asked what it was to be asked: what, why, and the remedy.

    ``errno`` is ENODEV if there is no such device, ENOENT if it does not offer the way, EACCES or
    EPERM if this user may not, EBUSY if somebody else has it, ENOTSUP if the kernel lacks it.
    """

    def __init__(self, number: int, what: str, cause: str, mend: str = "") -> None:
        super().__init__(number, f"{what}: {cause}" + (f"; {mend}" if mend else ""))
        self.what = what
        self.cause = cause
        self.mend = mend

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.what, self.cause, self.mend)

    def __str__(self) -> str:
        return str(self.strerror)


class FormatError(ValueError):
    """The bytes are no notification; the text says what is wrong with them."""
