# SPDX-License-Identifier: GPL-2.0-only
"""Install the uAPI headers of a tree with a series, and extract declarations that they lack.

``headers/<key>`` in the cache holds ``include``, the headers that ``make headers`` makes for x86
(``make headers_install`` copies the same with rsync), make's output in build.log, and ``excerpts``:
declarations that user space depends on although no installed header has them, copied from the
kernel's own sources.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kpatch.build import compiler, make
from kpatch.build.worktree import Worktree, checkout
from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import Stage
from kpatch.model import Applied
from kpatch.series import apply
from kpatch.tables.outcomes import ExitCode

KIND = "headers"

RECIPE = "3"
"""Part of the cache key. Increase it if a change here alters the headers of the same input."""

MISSING = "missing.json"
"""File with the error of a missing declaration; `Installed.require_complete` raises it."""

WORKTREE = "headers"
"""Name, in place of a flavor, of the worktree to install from. No kernel is built in it."""


@dataclass(frozen=True)
class Piece:
    """Declarations in a kernel source: all matches of the regex ``pattern`` in ``path``."""

    path: str
    pattern: str

    def cut(self, source: Path) -> str:
        """Return the declarations as they are in the kernel tree ``source``, joined to one text.

        HarnessError (exit 1) if nothing matches.
        """
        path = source / self.path
        text = path.read_text(errors="replace") if path.is_file() else ""
        excerpts_ = re.findall(self.pattern, text, re.MULTILINE | re.DOTALL)
        if not excerpts_:
            raise HarnessError(
                self.path,
                f"nothing in it is like {self.pattern!r}",
                hint=f"find the declaration in this kernel, and adapt HEADERS in {__name__}",
                code=ExitCode.FAIL,
            )
        return "".join(excerpts_)


@dataclass(frozen=True)
class Header:
    """A header of the kernel that is compared with the cffi mirror of the uAPI (package `uapi`).

    The mirror has to have all constants and structures of the header whose full names match the
    regexes ``constants`` and ``structures``; an empty regex matches none. ``name`` is the header's
    path below the include path. A header with ``pieces`` is an excerpt: ``prelude`` followed by the
    pieces. If ``instead`` is given, the excerpt is made only for kernels without the header
    ``include/uapi/<instead>``.
    """

    name: str
    constants: str = ""
    structures: str = ""
    prelude: str = ""
    pieces: tuple[Piece, ...] = ()
    instead: str = ""


_EFD = r"EFD_(?!SHARED_FCNTL_FLAGS|FLAGS_SET)\w+"
_ACPI_EVENT = r"ACPI_GENL_\w+"

HEADERS: tuple[Header, ...] = (
    Header(
        "linux/vfio.h",
        constants=r"_*VFIO_\w*IOMMU"
        r"|VFIO_(?:API_VERSION|TYPE|BASE|EEH|UNMAP_ALL|UPDATE_VADDR)"
        r"|VFIO_(?:GET_API_VERSION|CHECK_EXTENSION)"
        r"|VFIO_GROUP_\w+|VFIO_IRQ_\w+"
        r"|VFIO_DEVICE_(?:GET_INFO|GET_IRQ_INFO|SET_IRQS|RESET)"
        r"|VFIO_DEVICE_(?:FLAGS|FEATURE|BIND|ATTACH|DETACH)(?:_\w+)?|VFIO_DEVICE_INFO_CAP_ACPI_\w+"
        r"|VFIO_PCI_(?:\w+_IRQ_INDEX|NUM_IRQS|ACPI_\w+)|VFIO_ACPI_\w+",
        structures=r"vfio_group_\w+|vfio_irq_\w+|vfio_(?:pci_)?acpi\w*|vfio_info_cap_header"
        r"|vfio_device_(?:info(?:_cap_acpi\w*)?|feature(?:_acpi\w*)?|(?:bind|attach|detach)\w*)",
    ),
    Header(
        "linux/iommufd.h",
        constants=r"IOMMUFD_(?:TYPE|CMD_(?:BASE|DESTROY|IOAS_ALLOC))|IOMMU_(?:DESTROY|IOAS_ALLOC)",
        structures=r"iommu_(?:destroy|ioas_alloc)",
    ),
    Header("linux/eventfd.h", constants=_EFD),
    # 6.1 does not have linux/eventfd.h; user space takes these numbers from its C library.
    Header(
        "excerpt/eventfd.h",
        constants=_EFD,
        instead="linux/eventfd.h",
        prelude="#include <linux/fcntl.h>\n",
        pieces=(Piece("include/linux/eventfd.h", r"^#define EFD_(?!SHARED|FLAGS)\w+ [^\n]*\n"),),
    ),
    Header("linux/netlink.h", structures=r"nlmsghdr|nlattr"),
    Header("linux/genetlink.h", structures=r"genlmsghdr"),
    Header("linux/acpi_event.h", constants=_ACPI_EVENT, structures=r"acpi_genl_\w+"),
    # Only the netlink series adds linux/acpi_event.h. The prelude defines u32, the only type in the
    # pieces that user space does not have.
    Header(
        "excerpt/acpi_event.h",
        constants=_ACPI_EVENT,
        structures=r"acpi_genl_\w+",
        instead="linux/acpi_event.h",
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

# Files that the installed headers or the excerpts can depend on.
_SOURCES = re.compile(
    r"(?:include/uapi|arch|usr|scripts)/.*|Makefile|Kbuild|"
    + "|".join(re.escape(piece.path) for header in HEADERS for piece in header.pieces)
)


@dataclass(frozen=True)
class Installed:
    """The installed uAPI headers of one kernel, and the excerpts, in the cache entry ``path``."""

    path: Path
    cached: bool

    def require_complete(self) -> None:
        """Raise HarnessError (exit 1) if a declaration of an excerpt was not found in the sources.

        `install` does not raise it: a kernel that has moved a declaration can be built and tested.
        """
        missing = self.path / MISSING
        if missing.exists():
            fields = json.loads(missing.read_text(encoding="utf-8"))
            raise HarnessError(**fields, code=ExitCode.FAIL)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return the folders of the include path, in the order in which to search them."""
        return self.path / "include", self.path / "excerpts"

    @property
    def headers(self) -> tuple[Header, ...]:
        """Return the rows of HEADERS of which this kernel has the header or the excerpt."""
        return tuple(
            header
            for header in HEADERS
            if any((folder / header.name).is_file() for folder in self.folders)
        )


def install(applied: Applied, *, jobs: int, stage: Stage) -> Installed:
    """Return the uAPI headers of ``applied``; install them with ``jobs`` jobs if not cached.

    HarnessError: exit 4 if make fails, exit 2 for a missing tool, exit 7 if the disk is full.
    """
    key = headers_id(applied)
    path = cache.root() / KIND / key
    cached = path.is_dir()
    if not cached:
        with checkout(applied, WORKTREE, stage=stage) as worktree:
            path, cached = cache.entry(
                KIND, key, lambda partial: _fill(partial, applied, worktree, jobs, stage)
            )
    return Installed(path, cached)


def headers_id(applied: Applied) -> str:
    """Return the cache key of the headers of ``applied``.

    A series that changes no source of the headers has the same key as the unpatched tree.
    """
    compiled = compiler.detect().identity  # make compiles the programs that install the headers
    sources = apply.selected_id(applied, _SOURCES)
    return cache.digest((RECIPE, repr(HEADERS), compiled, applied.tree.tree_id, sources))


def _fill(partial: Path, applied: Applied, worktree: Worktree, jobs: int, stage: Stage) -> None:
    stage.note("installing the headers")
    argv = [
        "make",
        "-s",
        "-C",
        str(worktree.src),
        f"O={worktree.obj}",
        f"-j{jobs}",
        "ARCH=x86",
        "headers",
    ]
    stage.command(argv)
    log_file = make.log_file("headers", headers_id(applied))
    what = f"headers of {applied.tree.version} {applied.series.name}"
    make.run(argv, what=what, log_file=log_file, source=worktree.src, out=worktree.obj)
    shutil.move(log_file, partial / "build.log")
    shutil.copytree(
        worktree.obj / "usr" / "include",
        partial / "include",
        ignore=lambda folder, names: [
            name
            for name in names
            # The build may have made a symlink to any file of the user.
            if Path(folder, name).is_symlink()
            or (Path(name).suffix != ".h" and not Path(folder, name).is_dir())
        ],
    )
    try:
        excerpts(worktree.src, partial / "excerpts")
    except HarnessError as error:
        fields = {"what": error.what, "cause": error.cause, "hint": error.hint}
        (partial / MISSING).write_text(json.dumps(fields), encoding="utf-8")


def excerpts(source: Path, folder: Path) -> None:
    """Cut the declarations of HEADERS from the kernel in ``source``; write them to ``folder``.

    Writes one file for each header with ``pieces``, except where the kernel has the header of
    ``instead``. HarnessError (exit 1) at the first declaration that is not found.
    """
    for header in HEADERS:
        superfluous = header.instead and (source / "include/uapi" / header.instead).is_file()
        if header.pieces and not superfluous:
            path = folder / header.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(header.prelude + "".join(p.cut(source) for p in header.pieces))
