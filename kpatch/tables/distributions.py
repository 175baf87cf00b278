# SPDX-License-Identifier: GPL-2.0-only
"""How Linux distributions call the packages that a run needs, and how they install them: data.

The rows but Debian's are untried: their names are from the distributions' own lists of packages
(packages.fedoraproject.org, archlinux.org/packages), and what is said with them says so.

A row is found by the ID and ID_LIKE of os-release(5).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Distribution:
    """``packages`` maps Debian's name of a package to the distribution's own.

    ``signs`` are those of `kpatch.bootstrap.PACKAGES` that are others there, by Debian's name.
    """

    ids: tuple[str, ...]
    name: str
    install: str
    packages: dict[str, str]
    signs: dict[str, str]
    tried: bool = False


# What Debian calls the packages, in the one list that every row below is complete against.
_SAME = (
    *("acpid", "bc", "binutils", "bison", "bubblewrap", "bzip2", "ccache", "coreutils", "dpkg"),
    *("erofs-utils", "flex", "gcc", "git", "gzip", "kmod", "make", "perl", "qemu-system-x86"),
    *("sparse", "tar", "util-linux", "zstd"),
)

DISTRIBUTIONS = (
    Distribution(
        ids=("debian",),
        name="Debian",
        install="apt-get install -y --no-install-recommends",
        packages={},
        signs={},
        tried=True,
    ),
    Distribution(
        ids=("fedora",),
        name="Fedora",
        install="dnf install -y",
        packages={name: name for name in _SAME}
        | {
            "acpica-tools": "acpica-tools",
            "busybox-static": "busybox",  # statically linked there
            "gpg": "gnupg2",
            "gpg-agent": "gnupg2",
            "libc6-dev": "glibc-devel",
            "libelf-dev": "elfutils-libelf-devel",
            "python3-venv": "python3",
            "uuid-dev": "libuuid-devel",
            "xz-utils": "xz",
        },
        signs={},
    ),
    Distribution(
        ids=("arch",),
        name="Arch Linux",
        install="pacman -S --needed",
        packages={name: name for name in _SAME}
        | {
            "acpica-tools": "acpica",
            "busybox-static": "busybox",  # statically linked there
            "gpg": "gnupg",
            "gpg-agent": "gnupg",
            "libc6-dev": "glibc",
            "libelf-dev": "libelf",
            "python3-venv": "python",
            "uuid-dev": "util-linux-libs",
            "xz-utils": "xz",
        },
        # One package, whose corelist is in a folder that only login shells have in PATH.
        signs={"perl": "perl"},
    ),
)
