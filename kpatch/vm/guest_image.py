# SPDX-License-Identifier: GPL-2.0-only
"""Put the guest's Python and the test suite into read-only images that the test kernel mounts.

Under software emulation, importing pytest from the host's file system over 9p takes longer than the
boot. So the interpreter, its library, the packages and the suite are put into EROFS images, with
byte code that Python loads without looking at the source (unchecked-hash pycs, PEP 552), and with
bundles of that byte code (ktests/bundle.py).

The runtime image contains

    bin/python3                   the interpreter
    lib/*.so*                     its shared libraries
    lib/python3.N/                the standard library
    lib/python3.N/site-packages/  PACKAGES and their dependencies
    lib/bundle                    the modules of both that the suite imports

The suite's image contains

    ktests/, uapi/                the suite
    bundle                        its modules, except the test modules
    clock.so                      ktests/measure/clock.c, compiled
    machine.json                  the facts about the test machine (`kpatch.vm.machine`)
    later.aml                     ktests/firmware/later.asl.j2, compiled
    requirements.json             ktests/requirements.toml, in a format that is read faster
    mechanism/                    the modules of a mechanism of the user's own, if there is one
    clients/                      programs from outside the project that use the uAPI, if available
    loops/                        examples/vmm-loop: the programs in C, Rust (if there is rustc) and
                                  Python
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kpatch.errors import HarnessError
from kpatch.lib import cache, environment, erofs, process
from kpatch.lib.stage import Stage
from kpatch.model import MechanismFolder
from kpatch.series import mechanism_folder
from kpatch.tables.outcomes import ExitCode
from kpatch.tables.paths import PROJECT, REQUIREMENTS
from kpatch.vm.machine import Machine, later_aml
from ktests.contract import INNER_FOLDER, MECHANISM_FOLDER, MECHANISM_NAME

SUITE = ("ktests", "uapi")

# The packages that the suite imports. The image has them and the packages that they require.
PACKAGES = ("pytest", "pyroute2", "cffi", "hypothesis")

# Parts of the standard library that no test needs; without them the image is half the size.
UNUSED = frozenset(
    {
        "__pycache__",
        "site-packages",
        "dist-packages",
        "test",
        "idlelib",
        "tkinter",
        "turtledemo",
        "ensurepip",
        "lib2to3",
        "config-3*",
        "pydoc_data",
        "distutils",
        # Loading a shared library takes long, and no module needs these: hashlib has algorithms of
        # its own, shutil and zipfile work without compression, pytest uses readline on macOS only.
        "_bz2.*",
        "_hashlib.*",
        "_lzma.*",
        "_ssl.*",
        "_uuid.*",
        "readline.*",
    }
)

# Modules that are empty in the image. pyroute2/__init__.py imports every protocol that pyroute2
# knows, which takes seconds under emulation; its modules do not need these imports.
EMPTIED = ("pyroute2/__init__.py",)

# The program that writes the bundles of both images.
MAKE_BUNDLES = PROJECT / "ktests" / "make_bundles.py"

# Runs compileall. If the harness is killed, this process gets SIGTERM, and nobody ends its workers,
# which wait for work for ever: so it kills its process group, of which it is the leader.
COMPILE_ALL = """\
import compileall, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
sys.exit(not compileall.main())
"""

# The C functions of the measurements.
CLOCK = PROJECT / "ktests" / "measure" / "clock.c"

# The examples of a VMM's loop, and how each is compiled to a program without shared libraries.
LOOPS = PROJECT / "examples" / "vmm-loop"
COMPILERS = {
    "c": ("gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror"),
    "rs": (
        "rustc",
        "--edition=2021",
        "-Dwarnings",
        "-Copt-level=1",
        "-Ctarget-feature=+crt-static",
    ),
}

# Where ktests/init.sh mounts the images.
MOUNT = Path("/mnt")


@dataclass(frozen=True)
class Images:
    """The paths of the two EROFS images; ``cached`` is true if both were in the cache."""

    runtime: Path
    suite: Path
    cached: bool


@dataclass(frozen=True)
class Extras:
    """What a run adds to the suite's image: programs, and a mechanism of the user's own.

    ``clients`` is a folder of programs, None for no programs. ``mechanism`` is None if the user has
    no mechanism of their own. ``inner`` is the folder of the inner guest (`kpatch.vm.inner.files`),
    None for no inner guest.
    """

    clients: Path | None = None
    mechanism: MechanismFolder | None = None
    inner: Path | None = None


def images(machine: Machine, extras: Extras | None = None, *, stage: Stage) -> Images:
    """Return the runtime image and the suite's image for ``machine``, from the cache or made now.

    HarnessError: exit 7 if an image cannot be made; exit 2 if mkfs.erofs is not installed, or if
    the mechanism in ``extras`` claims a requirement that it cannot claim.
    """
    extras = extras or Extras()
    facts = json.dumps(machine.facts(), indent=1)
    runtime, had_runtime = cache.entry("runtime", runtime_key(), lambda at: _runtime(at, stage))

    def fill(folder: Path) -> None:
        _suite(folder, facts, later_aml(machine, stage=stage), extras, stage)

    suite, had_suite = cache.entry("suite", suite_key(facts, extras), fill)
    return Images(
        runtime=runtime / "image.erofs",
        suite=suite / "image.erofs",
        cached=had_runtime and had_suite,
    )


def runtime_key() -> str:
    """Return the cache key of the runtime image.

    It is a digest of the interpreter's version and path, the versions of PACKAGES and of all that
    the virtual environment is made of, and the source of this module, ktests/bundle.py and
    MAKE_BUNDLES.
    """
    versions = (f"{name}={importlib.metadata.version(name)}" for name in PACKAGES)
    lock = PROJECT / "requirements.lock"
    makers = (lock, Path(__file__), PROJECT / "ktests" / "bundle.py", MAKE_BUNDLES)
    texts = (path.read_text() for path in makers)
    return cache.digest([sys.version, str(_interpreter()), *versions, *texts])


def suite_key(facts: str, extras: Extras | None = None) -> str:
    """Return the cache key of the suite's image.

    It is a digest of the suite's files, ``facts`` (the content of machine.json), ``extras``, the
    interpreter's version, and the source of this module.
    """
    extras = extras or Extras()
    parts = [facts, sys.version, Path(__file__).read_text(), str(shutil.which("rustc"))]
    parts += [path.read_text() for path in sorted(LOOPS.iterdir())]
    for name in SUITE:
        for path in sorted((PROJECT / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                parts += [str(path.relative_to(PROJECT)), path.read_text()]
    for path in sorted(extras.clients.iterdir()) if extras.clients else ():
        parts += [path.name, hashlib.sha256(path.read_bytes()).hexdigest()]
    if extras.inner is not None:
        parts.append(str(extras.inner))
    if extras.mechanism is not None:
        parts += [extras.mechanism.digest, _requirements(extras.mechanism)]
    return cache.digest(parts)


def _runtime(folder: Path, stage: Stage) -> None:
    stage.note("collecting the guest's Python")
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    interpreter = _interpreter()
    shutil.copy2(interpreter, root / "bin" / "python3")
    library = root / "lib" / f"python3.{sys.version_info.minor}"
    shutil.copytree(
        sysconfig.get_path("stdlib"), library, ignore=shutil.ignore_patterns(*UNUSED), symlinks=True
    )
    site = library / "site-packages"
    site.mkdir()
    for name in sorted(_closure(PACKAGES)):
        _install(name, site)
    for module in EMPTIED:
        (site / module).write_text("")
    for shared in _shared_libraries(interpreter, root):
        shutil.copy2(shared, root / "lib" / shared.name)
    _compile(root, MOUNT / "runtime", stage)
    _bundle(root, site, stage)
    erofs.pack(root, folder / "image.erofs", stage)
    shutil.rmtree(root)


def _suite(folder: Path, facts: str, later: Path, extras: Extras, stage: Stage) -> None:
    stage.note("packing the suite")
    root = folder / "root"
    root.mkdir()
    (root / "machine.json").write_text(facts)
    shutil.copyfile(later, root / "later.aml")
    (root / "requirements.json").write_text(_requirements(extras.mechanism))
    for name in SUITE:
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    if extras.clients is not None:
        shutil.copytree(extras.clients, root / "clients")
    _compile_clock(root, stage)
    _compile_loops(root / "loops", stage)
    # The modules other than tests are compiled first: otherwise pytest would compile them, into
    # pycs that are checked by time stamp and would count as stale in the image.
    _compile(root, MOUNT / "suite", stage, skip=r"/(test_[^/]*|conftest)\.py$")
    _compile_tests(root, stage)
    if extras.inner is not None:
        shutil.copytree(extras.inner, root / INNER_FOLDER)
    if extras.mechanism is not None:
        _add_mechanism(root / MECHANISM_FOLDER, extras.mechanism)
    erofs.pack(root, folder / "image.erofs", stage)
    shutil.rmtree(root)


def _requirements(mechanism: MechanismFolder | None) -> str:
    """Return ktests/requirements.toml as JSON, with the claims of the user's ``mechanism``."""
    table = tomllib.loads(REQUIREMENTS.read_text())
    return json.dumps(table if mechanism is None else mechanism_folder.claimed(table, mechanism))


def _add_mechanism(folder: Path, mechanism: MechanismFolder) -> None:
    """Write the modules of the user's ``mechanism`` into the new ``folder``, as source.

    They are neither compiled nor imported here: the user's code runs in the guest only.
    """
    folder.mkdir()
    (folder / MECHANISM_NAME).write_text(mechanism.name)
    for name, text in mechanism.modules.items():
        (folder / name).write_text(text, newline="")


def _interpreter() -> Path:
    return Path(sys._base_executable).resolve()  # type: ignore[attr-defined]


def _closure(names: tuple[str, ...]) -> set[str]:
    """Return ``names`` and the names of all distributions that they require, also indirectly.

    Requirements whose marker is false for this interpreter are left out.
    """
    # Imported here: the import takes long, and a run with cached images does not need it.
    from packaging.requirements import Requirement

    closure: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in closure:
            continue
        closure.add(name)
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return closure


def _install(name: str, site: Path) -> None:
    """Copy the installed files of the distribution ``name`` to the folder ``site``.

    Byte code, and files outside of site-packages (scripts), are left out.
    """
    for file in importlib.metadata.files(name) or ():
        if file.suffix == ".pyc" or ".." in file.parts:
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(str(file.locate())), target)


def _shared_libraries(interpreter: Path, root: Path) -> Iterator[Path]:
    """Yield the shared libraries that ldd lists for ``interpreter`` and each .so below ``root``.

    Of libraries with the same file name, only the first is yielded.
    """
    seen: set[str] = set()
    for binary in (interpreter, *sorted(root.rglob("*.so"))):
        listing = subprocess.run(
            ["ldd", str(binary)], capture_output=True, text=True, check=False
        ).stdout
        for match in re.finditer(r"(?:=> )?(/\S+) \(0x", listing):
            path = Path(match[1])
            if path.name not in seen:
                seen.add(path.name)
                yield path


def _compile(root: Path, seen_as: Path, stage: Stage, *, skip: str | None = None) -> None:
    """Compile all modules below ``root`` to byte code in ``__pycache__`` (unchecked-hash pycs).

    Paths that the regular expression ``skip`` matches are left out. ``seen_as`` is the path of
    ``root`` in the guest, which the byte code contains. HarnessError (exit 7) if a module does not
    compile.

    compileall runs in another process: the server of its workers (multiprocessing's forkserver,
    since Python 3.13) would stay until this process ends. In older versions the workers are forks
    of the caller.
    """
    argv = [sys.executable, "-I", "-c", COMPILE_ALL, "-q", "-j", str(os.cpu_count() or 1)]
    argv += ["-s", str(root), "-p", str(seen_as), "--invalidation-mode", "unchecked-hash"]
    argv += [*(("-x", skip) if skip is not None else ()), str(root)]
    _run(argv, "the guest's Python", "cannot be compiled", stage=stage)


def _compile_tests(root: Path, stage: Stage) -> None:
    """Run pytest's collection on the suite in ``root``: it stores byte code of the test modules.

    pytest rewrites the assertions of these modules, which would take a second in the guest. The
    other modules of the suite are put into ``root``/bundle. HarnessError (exit 7) if that fails.
    """
    words = ["--collect-only", "-q", "-c", os.devnull, "-p", "no:cacheprovider"]
    argv = [sys.executable, "-P", str(MAKE_BUNDLES), "suite"]
    argv += [str(root), str(MOUNT / "suite"), *words]
    ours = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": ""}
    _run(argv, "ktests", "pytest cannot collect the suite", stage=stage, cwd=root, env=ours)


def _compile_clock(root: Path, stage: Stage) -> None:
    """Compile ktests/measure/clock.c to ``root``/clock.so; HarnessError if that fails."""
    gcc = process.require_tool("gcc", package="gcc")
    options = ("-std=gnu11", "-O2", "-shared", "-fPIC")
    argv = [gcc, *options, "-o", str(root / CLOCK.with_suffix(".so").name), str(CLOCK)]
    _run(argv, str(CLOCK), "does not compile", stage=stage)


def _compile_loops(folder: Path, stage: Stage) -> None:
    """Put the programs of LOOPS into the new ``folder``; HarnessError if one does not compile.

    The one in Rust is left out, and this is said, if rustc is not installed.
    """
    folder.mkdir()
    shutil.copy(LOOPS / "loop.py", folder)
    for language, (compiler, *options) in COMPILERS.items():
        tool = shutil.which(compiler)
        if tool is None:
            stage.say(f"{compiler} is not installed: loop.{language} is not tested")
            continue
        source = LOOPS / f"loop.{language}"
        argv = [tool, *options, "-o", str(folder / f"loop-{language}"), str(source)]
        _run(argv, str(source), "does not compile", stage=stage, cwd=folder)


def _bundle(root: Path, site: Path, stage: Stage) -> None:
    """Import the suite's dependencies with the image's interpreter, and bundle their modules.

    The bundle is ``root``/lib/bundle. ``root`` is the folder that becomes the runtime image,
    ``site`` is its site-packages. HarnessError (exit 7) if that fails.
    """
    argv = [str(root / "bin" / "python3"), "-S", "-s", "-P", str(MAKE_BUNDLES), "runtime"]
    argv += [str(root), str(MOUNT / "runtime"), str(PROJECT), str(site)]
    ours = {"PYTHONHOME": str(root), "LD_LIBRARY_PATH": str(root / "lib")}
    ours["PYTHONDONTWRITEBYTECODE"] = "1"
    cause = "cannot import what the suite needs"
    _run(argv, "the guest's Python", cause, stage=stage, cwd=root, env=ours)


def _run(
    argv: Sequence[str],
    what: str,
    cause: str,
    *,
    stage: Stage,
    cwd: Path | None = None,
    env: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run the command ``argv`` in the folder ``cwd``, with ``env`` added to `environment.clean`.

    If the command fails: OSError (ENOSPC) if its output reports a full disk, else HarnessError
    (exit 7), about ``what`` and with the text ``cause``.
    """
    stage.command(argv, cwd=cwd)
    status, output = process.capture(argv, cwd=cwd, env=environment.clean(**env))
    if status != 0:
        cache.raise_if_full(output)
        raise HarnessError(
            what,
            f"{cause} (status {status})",
            hint="see its messages above",
            code=ExitCode.LOST,
            details=output,
        )
