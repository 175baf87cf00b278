# SPDX-License-Identifier: GPL-2.0-only
"""What a stage may tell while it works, whoever listens (a terminal, a log, a test)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Stage(Protocol):
    """The listener that every stage gets."""

    def note(self, text: str) -> None:
        """Say in a few words what is being done now."""

    def say(self, text: str) -> None:
        """Say it at once, also in a log, where a note may never be seen."""

    def advance(self, done: float, total: float | None) -> None:
        """Tell how much of the stage is done; ``total`` is None while unknown."""

    def command(self, argv: Sequence[str], *, cwd: Path | None = None) -> None:
        """Record a command that repeats (part of) this stage."""


class Silent:
    """A stage's listener that keeps the commands and drops the rest."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def note(self, text: str) -> None:
        """Drop it."""

    def say(self, text: str) -> None:
        """Take it for a note."""
        self.note(text)

    def advance(self, done: float, total: float | None) -> None:
        """Drop it."""

    def command(self, argv: Sequence[str], *, cwd: Path | None = None) -> None:
        """Keep the command as a line for a shell."""
        self.commands.append(shell_line(argv, cwd=cwd))


@dataclass(frozen=True)
class StageRecord:
    """A stage that is over; ``commands`` are lines for a shell that repeat it."""

    name: str
    series: str | None
    seconds: float
    cached: bool
    commands: tuple[str, ...] = ()


def shell_line(argv: Sequence[str], *, cwd: Path | None = None) -> str:
    """``argv`` quoted for a reader's shell; the harness itself never gives it to one."""
    line = shlex.join(argv)
    return line if cwd is None else f"cd {shlex.quote(str(cwd))} && {line}"
