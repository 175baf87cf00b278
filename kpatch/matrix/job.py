# SPDX-License-Identifier: GPL-2.0-only
"""A job, which is a command that a worker runs, and its record. Plain data, JSON on the way.

Nothing else goes through Dask: no object is pickled but text.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from kpatch.report import result
from kpatch.tables.outcomes import ExitCode

# Words of an argv that the worker replaces: its own Python, the folder of the job's output, and the
# folder with the job's input files.
PYTHON, OUT, INPUTS = "{python}", "{out}", "{inputs}"

# Exit codes of the harness that are results. The others say that the run itself failed.
FINAL = frozenset(ExitCode) - {ExitCode.USAGE, ExitCode.LOST, ExitCode.INTERRUPTED}

HOURS = 3600.0


class Ending(str, Enum):
    """How a job ended. Only DONE is kept in the store; a job that ended otherwise can run again."""

    DONE = "done"
    """Its command ended with an exit code that is a result (FINAL)."""
    REFUSED = "refused"
    """Its command ended with 2: usage, bad input, or a missing tool. It is not tried again."""
    FAILED = "failed"
    """Its command ended with another exit code or by a signal, or the worker could not run it."""
    TIMEOUT = "timeout"
    """It took longer than its limit, and was ended."""
    CANCELLED = "cancelled"
    """It was ended because its task was cancelled."""
    LOST = "lost"
    """The workers that ran it died, one after the other."""


@dataclass(frozen=True)
class Job:
    """A command, as data.

    ``key`` names its record in the store; jobs with the same key have the same result. ``name`` is
    for people. ``argv`` can contain PYTHON, OUT and INPUTS. ``inputs`` are input files: the file
    name, and the digest of its content in the store. ``env`` are variables for the command.
    Jobs with the same ``kernel`` share the kernel that a host builds once; "" if there is none.
    ``changed`` has another text for files of the project, by their path: the command runs in a copy
    of the project with these. ``limit`` is the time in seconds after which the job counts as hung,
    ``seconds`` the time that it is expected to take. If ``kept`` is false, its result is the state
    of the host (a kernel in the cache), and nothing of it is stored.
    """

    key: str
    name: str
    argv: tuple[str, ...]
    kernel: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)
    limit: float = 3 * HOURS
    seconds: float = 1.0
    kept: bool = True

    def dump(self) -> str:
        """Return the job as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def load(cls, text: str) -> Job:
        """Return the job of the JSON ``text``; ValueError if it is none."""
        return result.record(json.loads(text), cls)


@dataclass(frozen=True)
class Record:
    """The result of a job.

    ``code`` is the exit code of the command, -N after signal N, None if it did not end by itself.
    ``host`` is the name of the worker's host. ``files`` are the files that the command wrote to its
    output folder, and ``cell.log``, its own output: name and digest of the content in the store.
    ``left_out`` are names of files that were too large. ``why`` is a sentence for endings other
    than DONE.
    """

    key: str
    name: str
    ending: Ending
    code: int | None = None
    seconds: float = 0.0
    host: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    why: str = ""

    def dump(self) -> str:
        """Return the record as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def load(cls, text: str) -> Record:
        """Return the record of the JSON ``text``; ValueError if it is none."""
        return result.record(json.loads(text), cls)


def ending(code: int) -> Ending:
    """Return the ending of a command with the exit code ``code``, -N after signal N."""
    if code == ExitCode.USAGE:
        return Ending.REFUSED
    return Ending.DONE if code in FINAL else Ending.FAILED
