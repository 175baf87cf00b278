# SPDX-License-Identifier: GPL-2.0-only
"""The result of a run as dataclasses, and its JSON form (result.schema.json has every field)."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kpatch.build.log import CompilerMessage
from kpatch.errors import HarnessError
from kpatch.lib.stage import StageRecord
from kpatch.model import MechanismFolder
from kpatch.tables.outcomes import ExitCode
from kpatch.verdict.judge import Incident, SeenFault, TestResult
from kpatch.vm.accel import Accel

T = TypeVar("T")

SCHEMA_VERSION = 3
SCHEMA = Path(__file__).with_name("result.schema.json")


@dataclass(frozen=True)
class KernelInfo:
    """The tested kernel tree.

    ``release`` is ``uname -r`` in the guest, None if no guest has reported it. The other fields are
    those of `kpatch.model.Tree`.
    """

    version: str
    provider: str
    tree_id: str
    origin: Mapping[str, str] = field(default_factory=dict)
    release: str | None = None


@dataclass(frozen=True)
class WarningInfo:
    """A warning of a build: file ("" if unknown), line (None if unknown) and text.

    ``new`` is False if the build of the unpatched kernel prints the same warning, True if it does
    not, and None if the unpatched kernel was not built, or its build did not compile the file.
    """

    file: str
    line: int | None
    text: str
    new: bool | None = None

    def __str__(self) -> str:
        line = "" if self.line is None else f":{self.line}"
        return f"{_AGE[self.new]}: {self.file}{line}: {self.text}"


_AGE = {
    True: "new warning",
    False: "warning, of the base too",
    None: "warning, not compared with the base's build",
}


@dataclass(frozen=True)
class FolderInfo:
    """The declarations of a mechanism of the user's own, from its mechanism.toml.

    ``path`` is its folder as the user named it, ``digest`` a digest of the folder's content.
    ``limits`` has, by requirement, the reason why the mechanism is declared not to meet it.
    """

    path: str
    description: str
    digest: str
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SeriesInfo:
    """A tested series; ``patches`` are the titles of its patches, () for the negative control.

    ``delta_id``, ``config_id`` and ``kernel_id`` are the ids of its changes, its .config and its
    kernel (fields of Applied, Config and Kernel in `kpatch.model`), None if the run ended before
    they were known. ``detected`` is the sign by which its mechanism was detected, "" without
    detection. ``warnings`` are the warnings of its build in the files that the series changes.
    ``folder`` is None unless the mechanism is the user's own.
    """

    name: str
    title: str
    mechanism: str
    patches: tuple[str, ...] = ()
    kernel_id: str | None = None
    delta_id: str | None = None
    config_id: str | None = None
    detected: str = ""
    warnings: tuple[WarningInfo, ...] = ()
    folder: FolderInfo | None = None


@dataclass(frozen=True)
class ErrorInfo:
    """The error that ended a run before its verdict; its fields are those of HarnessError."""

    what: str
    cause: str
    hint: str
    details: str = ""


@dataclass(frozen=True)
class RunResult:
    """The complete result of one run of the harness.

    ``started`` is UTC in ISO 8601, to the second; ``seconds`` is the duration. ``kernel`` and
    ``accel`` are None if the run ended before they were known. ``confinement`` describes how builds
    and VMs were confined, or why they were not. ``tools`` maps names of programs to versions.
    ``selection`` is the expression that selected tests (pytest's -k), "" for the whole suite.
    ``requirements`` maps ids to their sentences; ``not_judged`` maps the ids of those that a series
    promises, and that can be tested with another flavor only, to this flavor. ``error`` is None if
    the run got to its verdict.
    """

    exit_code: ExitCode
    flavor: str
    started: str
    seconds: float
    kernel: KernelInfo | None = None
    series: tuple[SeriesInfo, ...] = ()
    accel: Accel | None = None
    confinement: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    selection: str = ""
    requirements: Mapping[str, str] = field(default_factory=dict)
    not_judged: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[StageRecord, ...] = ()
    tests: tuple[TestResult, ...] = ()
    incidents: tuple[Incident, ...] = ()
    faults: tuple[SeenFault, ...] = ()
    error: ErrorInfo | None = None

    @property
    def verdict(self) -> str:
        """Return the exit code as a word: "pass", "not-judged", …."""
        return self.exit_code.word


def folder_of(folder: MechanismFolder) -> FolderInfo:
    """Convert a mechanism of the user's own to its form in a result."""
    return FolderInfo(str(folder.path), folder.description, folder.digest, folder.limits)


def warnings_of(
    series: Sequence[CompilerMessage], base: Mapping[str, Sequence[str]]
) -> tuple[WarningInfo, ...]:
    """Convert ``series``, the warnings of a series' build, to their form in a result.

    ``base`` has the texts of the warnings of the unpatched kernel's build, by file; a file without
    an entry was not compiled in it (``new`` is None). Line numbers are not compared, since the
    series may have moved lines: if ``base`` has a text n times for a file, its first n occurrences
    in ``series`` are not new.
    """
    left = {file: Counter(texts) for file, texts in base.items()}
    return tuple(_warning(message, left.get(message.file or "")) for message in series)


def _warning(message: CompilerMessage, left: Counter[str] | None) -> WarningInfo:
    """Convert one warning of a series' build.

    ``left`` counts the base's warnings in the same file, by text, that no warning of the series has
    matched yet; a match is subtracted. It is None if the base's warnings are unknown.
    """
    old = left is not None and left[message.text] > 0
    if left is not None and old:
        left[message.text] -= 1
    return WarningInfo(
        message.file or "", message.line, message.text, new=None if left is None else not old
    )


def error_of(error: HarnessError) -> ErrorInfo:
    """Convert a HarnessError to its form in a result."""
    return ErrorInfo(error.what, error.cause, error.hint, error.details)


def dump(result: RunResult) -> str:
    """Return the result as JSON text: schema version, verdict, then the fields of RunResult.

    `Fault.stall` is left out.
    """
    data = {
        "schema_version": SCHEMA_VERSION,
        "verdict": result.verdict,
        **dataclasses.asdict(result),
    }
    for fault in data["faults"]:
        del fault["stall"]  # only the judge needs it, and it follows from the kind
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load(path: Path) -> RunResult:
    """Read a result from the JSON file ``path``.

    HarnessError (exit 7) if it cannot be read, or does not fit the schema of this version.
    """
    data = read(path, SCHEMA, again="run the tests again")
    del data["schema_version"], data["verdict"]
    return record(data, RunResult)


def record(data: object, kind: type[T]) -> T:
    """Return an instance of the dataclass ``kind``, made of ``data``, its decoded JSON form.

    ValueError (`msgspec.ValidationError`) if a field is missing or has another type.
    """
    import msgspec

    return msgspec.convert(data, kind)


def read(path: Path, schema: Path, *, again: str) -> dict[str, Any]:
    """Return the object in the JSON file ``path``, validated by the schema in the file ``schema``.

    HarnessError (exit 7, with the hint ``again``) if ``path`` cannot be read, is no JSON, or
    violates the schema.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cause = violation(data, schema)
    except OSError as error:
        cause = error.strerror or str(error)
    except ValueError as error:
        cause = f"is no JSON: {error}"
    if cause:
        raise HarnessError(str(path), cause, hint=again, code=ExitCode.LOST)
    return data


def violation(data: object, schema: Path = SCHEMA) -> str:
    """Return the most relevant violation by ``data`` of the JSON schema in the file ``schema``.

    The text has the path in ``data`` and the fault. Returns "" if ``data`` fits the schema.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    validator = Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    error = best_match(validator.iter_errors(data))
    if error is None:
        return ""
    return f"does not fit {schema.name}: {error.json_path}: {error.message[:200]}"
