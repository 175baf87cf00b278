# SPDX-License-Identifier: GPL-2.0-only
"""The headers that user space compiles against: those of a tree with a series, installed by make.

``headers/<key>`` in the cache holds ``include``, what ``make headers`` installs for x86 (which is
what ``make headers_install`` copies, with rsync), and ``excerpts``: declarations that user space
depends on although no installed header has them, cut out of the kernel's own sources.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kpatch.build import compiler, make, worktree
from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import Stage
from kpatch.model import Applied
from kpatch.series import apply
from kpatch.tables.outcomes import ExitCode

KIND = "headers"

RECIPE = "2"
"""To be counted up when a change here installs other headers from the same input."""

MISSING = "missing.json"
"""What of an excerpt was not found, for `Installed.check`."""

SLOT = "headers"
"""The slot to install from: not a flavor's, whose objects a change of series would make old."""


@dataclass(frozen=True)
class Piece:
    """Declarations in a kernel source: all that matches ``pattern`` in ``path``."""

    path: str
    pattern: str

    def cut(self, source: Path) -> str:
        """The text; HarnessError (exit 1) if there is none."""
        path = source / self.path
        text = path.read_text(errors="replace") if path.is_file() else ""
        found = re.findall(self.pattern, text, re.MULTILINE | re.DOTALL)
        if not found:
            raise HarnessError(
                self.path,
                f"nothing in it is like {self.pattern!r}",
                mend=f"see what became of the declaration, and adapt HEADERS in {__name__}",
                code=ExitCode.FAIL,
            )
        return "".join(found)


@dataclass(frozen=True)
class Header:
    """A header and what in it the mirror has to have: patterns for whole names.

    One with ``pieces`` is an excerpt that begins with ``prelude``, made for kernels that do not
    have ``include/uapi/`` ``instead`` of it.
    """

    name: str
    constants: str = ""
    structures: str = ""
    prelude: str = ""
    pieces: tuple[Piece, ...] = ()
    instead: str = ""


_EFD = r"EFD_(?!SHARED_FCNTL_FLAGS|FLAGS_SET)\w+"

HEADERS: tuple[Header, ...] = (
    Header(
        "linux/vfio.h",
        constants=r"_*VFIO_\w*IOMMU"
        r"|VFIO_(?:API_VERSION|TYPE|BASE|EEH|UNMAP_ALL|UPDATE_VADDR)"
        r"|VFIO_(?:GET_API_VERSION|CHECK_EXTENSION)"
        r"|VFIO_GROUP_\w+|VFIO_IRQ_\w+"
        r"|VFIO_DEVICE_(?:GET_INFO|GET_IRQ_INFO|SET_IRQS|RESET)"
        r"|VFIO_DEVICE_(?:FLAGS|FEATURE|BIND|ATTACH|DETACH)(?:_\w+)?"
        r"|VFIO_PCI_(?:\w+_IRQ_INDEX|NUM_IRQS|ACPI_\w+)",
        structures=r"vfio_group_\w+|vfio_irq_\w+|vfio_pci_acpi\w*"
        r"|vfio_device_(?:info|feature|(?:bind|attach|detach)\w*)",
    ),
    Header(
        "linux/iommufd.h",
        constants=r"IOMMUFD_(?:TYPE|CMD_(?:BASE|DESTROY|IOAS_ALLOC))|IOMMU_(?:DESTROY|IOAS_ALLOC)",
        structures=r"iommu_(?:destroy|ioas_alloc)",
    ),
    Header("linux/eventfd.h", constants=_EFD),
    # 6.1 has no such header: user space has these numbers from its C library.
    Header(
        "excerpt/eventfd.h",
        constants=_EFD,
        instead="linux/eventfd.h",
        prelude="#include <linux/fcntl.h>\n",
        pieces=(Piece("include/linux/eventfd.h", r"^#define EFD_(?!SHARED|FLAGS)\w+ [^\n]*\n"),),
    ),
    Header("linux/netlink.h", structures=r"nlmsghdr|nlattr"),
    Header("linux/genetlink.h", structures=r"genlmsghdr"),
    # No header declares what the acpi_event family sends. The kernel's u32 is the only word in
    # these lines that is not the kernel's own.
    Header(
        "excerpt/acpi_event.h",
        constants=r"ACPI_GENL_\w+",
        structures=r"acpi_genl_\w+",
        prelude="#include <linux/types.h>\ntypedef __u32 u32;\n",
        pieces=(
            Piece(
                "include/acpi/acpi_bus.h",
                r"^#define MAX_ACPI_CLASS_NAME_LEN[^\n]*\n"
                r"|^typedef char acpi_device_class\[\w+\];\n",
            ),
            Piece(
                "drivers/acpi/event.c",
                r"^struct acpi_genl_event \{.*?(?=^static const struct genl_multicast_group)",
            ),
        ),
    ),
)

# What the installation, or an excerpt, can depend on.
_SOURCES = re.compile(
    r"(?:include/uapi|arch|usr|scripts)/.*|Makefile|Kbuild|"
    + "|".join(re.escape(piece.path) for header in HEADERS for piece in header.pieces)
)


@dataclass(frozen=True)
class Installed:
    """The headers of one kernel: ``folders`` are to be searched in this order."""

    path: Path
    cached: bool

    def check(self) -> None:
        """HarnessError (exit 1) if a declaration for an excerpt is not where it was.

        A tree that has moved one can still be built and tested.
        """
        missing = self.path / MISSING
        if missing.exists():
            told = json.loads(missing.read_text(encoding="utf-8"))
            raise HarnessError(**told, code=ExitCode.FAIL)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The include path."""
        return self.path / "include", self.path / "excerpts"

    @property
    def headers(self) -> tuple[Header, ...]:
        """Those that this kernel has."""
        return tuple(
            header
            for header in HEADERS
            if any((folder / header.name).is_file() for folder in self.folders)
        )


def install(applied: Applied, *, jobs: int, stage: Stage) -> Installed:
    """The headers of ``applied``, from the cache or installed by ``jobs`` processes.

    HarnessError: exit 4 if make fails, exit 2 for a missing tool, exit 7 if the disk is full.
    """
    key = headers_id(applied)
    path = cache.root() / KIND / key
    cached = path.is_dir()
    if not cached:
        with worktree.hold(applied, SLOT, stage=stage) as held:
            path, cached = cache.entry(
                KIND, key, lambda partial: _fill(partial, applied, held, jobs, stage)
            )
    return Installed(path, cached)


def headers_id(applied: Applied) -> str:
    """The name of the headers that ``applied`` has.

    A series that changes nothing that they are made from shares them with the pristine tree.
    """
    compiled = compiler.detect().identity  # version.h and the like are none of ours
    sources = apply.selected_id(applied, _SOURCES)
    return cache.digest((RECIPE, repr(HEADERS), compiled, applied.tree.tree_id, sources))


def _fill(partial: Path, applied: Applied, held: worktree.Slot, jobs: int, stage: Stage) -> None:
    stage.note("installing the headers")
    argv = ["make", "-s", "-C", str(held.src), f"O={held.obj}", f"-j{jobs}", "ARCH=x86", "headers"]
    stage.command(argv)
    log_file = make.log_file("headers", headers_id(applied))
    what = f"headers of {applied.tree.version} {applied.series.name}"
    make.run(argv, what=what, log_file=log_file, source=held.src, out=held.obj)
    shutil.move(log_file, partial / "build.log")
    shutil.copytree(
        held.obj / "usr" / "include",
        partial / "include",
        ignore=lambda folder, names: [
            name
            for name in names
            # A link may lead to any file of the user's.
            if Path(folder, name).is_symlink()
            or (Path(name).suffix != ".h" and not Path(folder, name).is_dir())
        ],
    )
    try:
        excerpts(held.src, partial / "excerpts")
    except HarnessError as error:
        told = {"what": error.what, "cause": error.cause, "mend": error.mend}
        (partial / MISSING).write_text(json.dumps(told), encoding="utf-8")


def excerpts(source: Path, folder: Path) -> None:
    """Write the excerpts of the kernel in ``source``; HarnessError as `Piece.cut`."""
    for header in HEADERS:
        superfluous = header.instead and (source / "include/uapi" / header.instead).is_file()
        if header.pieces and not superfluous:
            path = folder / header.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(header.prelude + "".join(p.cut(source) for p in header.pieces))
