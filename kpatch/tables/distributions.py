# SPDX-License-Identifier: GPL-2.0-only
"""Package names and install commands of Linux distributions: data, no logic.

Only Debian's row was tested. The names in the other rows are from the distributions' own package
lists (packages.fedoraproject.org, archlinux.org/packages); a message with such names says that they
were not tested. `kpatch.lib.system` finds a row by the fields ID and ID_LIKE of os-release(5).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Distribution:
    """One distribution: its IDs in os-release, its name, and the command that installs packages.

    ``packages`` maps Debian's name of a package to the distribution's own. ``signs`` maps Debian's
    name of a package to the command or file that shows that it is installed; it overrides
    `kpatch.bootstrap.PACKAGES`. ``tried`` is true if the row was tested.
    """

    ids: tuple[str, ...]
    name: str
    install: str
    packages: dict[str, str]
    signs: dict[str, str]
    tried: bool = False


# Packages that have the same name as in Debian.
_SAME = (
    *("acpid", "bc", "binutils", "bison", "bubblewrap", "bzip2", "ccache", "coreutils", "dpkg"),
    *("erofs-utils", "flex", "gcc", "git", "gzip", "kmod", "lz4", "make", "perl"),
    *("qemu-system-x86", "sparse", "tar", "util-linux", "zstd"),
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
        # Arch has one package for all of Perl. Its corelist is in a folder that only login shells
        # have in PATH, so corelist cannot be the sign.
        signs={"perl": "perl"},
    ),
)
