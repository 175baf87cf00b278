# SPDX-License-Identifier: GPL-2.0-only
"""Find and download packages of the Debian archives that this system's apt is configured for.

apt-get runs on a private directory in the cache: it changes nothing in the system's own apt
directories and needs no privilege. The archives and their trusted keys are taken from the
system's apt sources. apt verifies all signatures and checksums.
"""

from __future__ import annotations

import email
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.process import capture
from kpatch.lib.stage import Stage
from kpatch.source.download import public
from kpatch.tables.outcomes import ExitCode

# Has the keys of all current releases. With it apt can also verify a suite that is newer than the
# system.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

SECURITY = "-security"

# apt reads this after the system's configuration, so proxies and credentials of the system stay in
# force. These settings override the system's: unsigned data is refused, every failed download is
# an error, and the system's hooks do not run. Dir::State::status hides the installed packages: apt
# would otherwise ask for the installed version, which the archive may not have.
CONFIGURATION = """\
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::PDiffs "false";
APT::Update::Error-Mode "any";
APT::Status-Fd "1";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::State::lists "{folder}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
"""

# Names that apt sources may use for a suite of Debian instead of the system's code name.
ALIASES = ("stable", "oldstable", "oldoldstable", "testing", "unstable", "sid")

INDEX_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SOURCESENTRY)"

# dlstatus:<number of the file>:<percent>:<text>, see README.progress-reporting of apt.
STATUS = re.compile(r"dlstatus:\d+:(?P<percent>[\d.]+):")

# A line that `apt-get download --print-uris` prints: 'URI' file size SHA256:hex.
PRINTED = re.compile(
    r"^'(?P<uri>[^']+)' (?P<file>[^/\s]+\.deb) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$", re.M
)


@dataclass(frozen=True)
class Archive:
    """One Debian archive: its address, whether it is a security archive, and its keyrings.

    ``keyrings`` are paths of files. If it is empty, apt uses the keys that it trusts by default.
    """

    uri: str
    security: bool
    keyrings: tuple[str, ...]


@dataclass(frozen=True)
class Package:
    """One package in one suite of one archive.

    ``file`` is the name of its .deb, ``size`` that file's size in bytes, ``sha256`` its digest in
    the suite's signed index.
    """

    name: str
    version: str
    suite: str
    archive: Archive
    file: str
    size: int
    sha256: str


class _AbsentError(Exception):
    """A package was not found in one suite; the text is the reason.

    ``certain`` is true if the suite does not have the package, or does not exist. It is false if
    the suite could not be read or verified.
    """

    def __init__(self, reason: str, *, certain: bool) -> None:
        super().__init__(reason)
        self.certain = certain


def archives() -> tuple[Archive, ...]:
    """Return the Debian archives that the system's apt is configured for, each address once.

    An archive is Debian's if it has a suite of the system's code name; if none has, if it has one
    of ALIASES. Only archives with a component ``main`` count. The result is empty if there is none.
    HarnessError (exit 2) if apt's configuration is wrong.
    """
    # A private list folder: reading the system's package lists would only cost time here, and they
    # may be missing.
    lists = f"-oDir::State::lists={cache.folder('apt')}"
    status, output = capture(
        ("apt-get", lists, "indextargets", "--no-release-info", "--format", INDEX_FORMAT),
        env=os.environ,
    )
    if status != 0:
        raise HarnessError(
            "apt-get indextargets", _first_error(output), hint="correct the system's apt sources"
        )
    # An archive counts as Debian's if it names its suites as Debian does; archives of third
    # parties seldom do.
    targets = [target for line in output.splitlines() if len(target := line.split("|")) == 4]
    for names in ((_codename(),), ALIASES):
        by_uri: dict[str, Archive] = {}
        for uri, release, component, entry in targets:
            if component == "main" and re.split("[-/]", release)[0] in names:
                security = release.endswith((SECURITY, "/updates"))
                by_uri.setdefault(uri, Archive(uri, security, _keyrings(entry)))
        if by_uri:
            return tuple(by_uri.values())
    return ()


def find(name: str, suites: Sequence[str], *, what: str, stage: Stage) -> Package:
    """Return the package ``name`` of the first of ``suites`` that has it in one of `archives`.

    Security suites are looked for in security archives only, other suites in the others.
    HarnessError: exit 2 if no suite has it, the system has no apt-get, or its apt is configured
    wrongly or for none of these archives; exit 7 if it is not found, and a suite could not be read
    or verified. ``what`` names the input in the error.
    """
    if shutil.which("apt-get") is None:
        raise HarnessError(
            what,
            "this system has no apt-get to take it from Debian's archive with",
            hint="give KERNEL= the path of a kernel tree or tarball, or a tarball's URL#sha256=HEX",
        )
    known = archives()
    absences: list[tuple[str, _AbsentError]] = []
    for suite, archive in _places(suites, known):
        stage.note(f"looking for {name} in {suite}")
        try:
            return _locate(name, suite, archive, stage=stage)
        except _AbsentError as absent:
            absences.append((suite, absent))
    if not absences:
        raise HarnessError(
            what,
            f"the system's apt is configured for no archive that has {', '.join(suites)}",
            hint="add Debian's archive to the apt sources, or give KERNEL= a path or a tarball",
        )
    certain = all(absent.certain for _, absent in absences)
    reasons = "; ".join(f"{suite}: {absent}" for suite, absent in absences)
    raise HarnessError(
        what,
        f"no {name} could be had ({reasons})",
        hint="give KERNEL= a path or a tarball"
        if certain
        else "look at the network and at the system's apt sources, and try again",
        code=ExitCode.USAGE if certain else ExitCode.LOST,
    )


def download(package: Package, into: Path, *, what: str, stage: Stage) -> Path:
    """Download ``package`` into the folder ``into`` and return the path of the .deb.

    apt verifies the file. HarnessError (exit 7), in which ``what`` names the input, if the download
    fails. OSError (ENOSPC) if the disk is full.
    """
    stage.note(f"downloading {package.name} {package.version} from {package.suite}")

    def progress(percent: float) -> None:
        stage.advance(package.size * percent / 100, package.size)

    arguments = ("download", f"{package.name}={package.version}")
    folder = _folder(package.suite, package.archive)
    status, output = _apt(folder, arguments, stage=stage, cwd=into, progress=progress)
    deb = into / package.file
    if status != 0 or not deb.is_file():
        raise HarnessError(
            what,
            f"{package.name} {package.version} cannot be downloaded ({_first_error(output)})",
            hint="look at the network and try again",
            code=ExitCode.LOST,
            details=public(output),
        )
    return deb


def _places(suites: Sequence[str], known: Sequence[Archive]) -> Iterator[tuple[str, Archive]]:
    for suite in suites:
        for archive in known:
            if archive.security == suite.endswith(SECURITY):
                yield suite, archive


def _codename() -> str:
    """Return the code name of the system's release ("bookworm"), "" if os-release(5) has none."""
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def _locate(name: str, suite: str, archive: Archive, *, stage: Stage) -> Package:
    """Update the package list of ``suite`` and return the package ``name`` from it.

    _AbsentError if the suite cannot be read or does not have the package.
    """
    folder = _folder(suite, archive)

    def waiting() -> None:
        stage.say(f"waiting for another run that reads {suite}")

    with cache.locked(f"apt-{folder.name}", waiting=waiting), cache.translate_os_errors():
        _prepare(folder, suite, archive)
        status, output = _apt(folder, ("update",), stage=stage, cwd=folder)
        if status != 0:
            missing = "does not have a Release file" in output and "404" in output
            reason = "no such suite" if missing else _first_error(output)
            raise _AbsentError(reason, certain=missing)
        # Run in a folder without .deb files: apt prints no address for a file that is in its
        # working directory already.
        _, output = _apt(folder, ("--print-uris", "download", name), stage=stage, cwd=folder)
    printed = PRINTED.search(output)
    if printed is None:
        missing = "Unable to locate package" in output
        raise _AbsentError("not in it" if missing else _first_error(output), certain=missing)
    file = printed["file"]
    version = unquote(file.split("_")[1])
    return Package(name, version, suite, archive, file, int(printed["size"]), printed["sha256"])


def _folder(suite: str, archive: Archive) -> Path:
    """Return the path of the private apt directory for one suite of one archive."""
    return cache.folder("apt") / cache.digest((archive.uri, suite, *archive.keyrings))


def _prepare(folder: Path, suite: str, archive: Archive) -> None:
    """Write apt.conf and a sources.list to ``folder``, with ``suite`` of ``archive`` only."""
    options = ["target=Packages", "lang=none"]
    if archive.keyrings:
        options.append(f"signed-by={','.join(archive.keyrings)}")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    source = f"deb [{' '.join(options)}] {archive.uri} {suite} main\n"
    (folder / "sources.list").write_text(source)
    (folder / "apt.conf").write_text(CONFIGURATION.format(folder=folder))


def _apt(
    folder: Path,
    arguments: Sequence[str],
    *,
    stage: Stage,
    cwd: Path,
    progress: Callable[[float], None] = lambda percent: None,
) -> tuple[int, str]:
    """Run apt-get with ``arguments`` and the apt.conf of ``folder``; return exit status and output.

    The function ``progress`` is called with the percentage of a download. OSError (ENOSPC) if the
    disk is full.
    """

    def line(text: str) -> None:
        if status := STATUS.match(text):
            progress(float(status["percent"]))

    argv = ("apt-get", "--quiet", f"--config-file={folder / 'apt.conf'}", *arguments)
    stage.command(argv)
    status, output = capture(argv, cwd=cwd, env={**os.environ, "LC_ALL": "C"}, line=line)
    if status != 0:
        cache.raise_if_full(output)
    return status, output


def _first_error(output: str) -> str:
    errors = [line[3:] for line in output.splitlines() if line.startswith("E: ")]
    return public(errors[0].strip()) if errors else "apt-get gives no reason"


def _keyrings(entry: str) -> tuple[str, ...]:
    """Return the keyring files that the system trusts for the apt source ``entry``.

    ``entry`` is ``file:number``; the number counts lines in a .list file and paragraphs in a
    .sources file (apt-get(8), indextargets). The keyrings are the absolute paths in the entry's
    Signed-By, and Debian's own keyring if it is installed.
    """
    path, _, number = entry.rpartition(":")
    try:
        text = Path(path).read_text()
    except OSError:
        text = ""
    read = _signed_by_paragraph if path.endswith(".sources") else _signed_by_line
    named = read(text, int(number)) if text and number.isdecimal() else ""
    files = [word for word in named.replace(",", " ").split() if word.startswith("/")]
    if KEYRING.is_file():
        files.append(str(KEYRING))
    return tuple(dict.fromkeys(files))


def _signed_by_line(text: str, number: int) -> str:
    line = "".join(text.splitlines()[number - 1 : number])
    match = re.search(r"\[[^\]]*\bsigned-by=([^\s\]]+)", line)
    return match[1] if match else ""


def _signed_by_paragraph(text: str, number: int) -> str:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip())
    paragraph = "".join(paragraphs[number - 1 : number])
    return email.message_from_string(paragraph).get("Signed-By", "")
