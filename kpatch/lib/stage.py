# SPDX-License-Identifier: GPL-2.0-only
"""The interface by which a stage reports its progress to a listener (terminal, log, test)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Stage(Protocol):
    """The listener that every stage gets as an argument and reports its progress to."""

    def note(self, text: str) -> None:
        """Set the description of the current step; it is shown only if the step takes long."""

    def say(self, text: str) -> None:
        """Print a line at once, on a terminal and in a log."""

    def advance(self, done: float, total: float | None) -> None:
        """Report that ``done`` of ``total`` units are finished; None if the total is unknown."""

    def command(self, argv: Sequence[str], *, cwd: Path | None = None) -> None:
        """Record a command that repeats this stage or a part of it."""


class Silent:
    """A listener that stores the commands and ignores everything else."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def note(self, text: str) -> None:
        """Ignore ``text``."""

    def say(self, text: str) -> None:
        """Pass ``text`` to `note`, so that a subclass that overrides `note` gets it too."""
        self.note(text)

    def advance(self, done: float, total: float | None) -> None:
        """Ignore the reported progress."""

    def command(self, argv: Sequence[str], *, cwd: Path | None = None) -> None:
        """Add ``argv`` as a shell line (`shell_line`) to the list ``commands``."""
        self.commands.append(shell_line(argv, cwd=cwd))


@dataclass(frozen=True)
class StageRecord:
    """A stage that has ended.

    ``series`` is the name of the series that it worked on, None if there is none; ``seconds`` is
    its duration; ``cached``: its result was in the cache. ``commands`` are shell lines that repeat
    the stage or parts of it.
    """

    name: str
    series: str | None
    seconds: float
    cached: bool
    commands: tuple[str, ...] = ()


def shell_line(argv: Sequence[str], *, cwd: Path | None = None) -> str:
    """Return the command ``argv``, run in ``cwd``, as a line that a user can paste into a shell.

    The harness itself never passes it to a shell.
    """
    line = shlex.join(argv)
    return line if cwd is None else f"cd {shlex.quote(str(cwd))} && {line}"
