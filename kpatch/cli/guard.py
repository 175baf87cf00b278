# SPDX-License-Identifier: GPL-2.0-only
"""Make every command end with a documented exit code, and explain a failure in its last line."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, NoReturn

import click

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.tables.outcomes import EXIT_MEANING, ExitCode, meanings


def epilog(command: str) -> str:
    """Return the last paragraph of ``--help``: the exit codes of ``command``, "" for all codes."""
    codes = "; ".join(f"{code.value} {meaning}" for code, meaning in meanings(command).items())
    return (
        "`make` itself ends with 2 whatever the code was: the last line says it, and "
        f"`.venv/bin/python -m kpatch {command or 'test'} …` ends with it. Exit codes: {codes}"
    )


def guarded(command: Callable[..., ExitCode | None]) -> Callable[..., NoReturn]:
    """Wrap the function of a command: the wrapper calls it and ends the process.

    The exit code is the one that ``command`` returns, which is also printed (`exit_line`); 0 if it
    returns None; the code of a HarnessError; 130 after Ctrl-C or SIGTERM; 7 after any other
    exception. An exception is reported by one line on stderr, below the details of a HarnessError
    or a traceback; only a closed pipe on stdout is not reported. A shared lock on the cache is held
    while the command runs, so that no other process empties the cache.
    """
    return _guarded(command, cache.using)


def guarded_without_cache(command: Callable[..., ExitCode | None]) -> Callable[..., NoReturn]:
    """Wrap ``command`` like `guarded`, but without the lock: ``clean`` takes it exclusively."""
    return _guarded(command, nullcontext)


def _guarded(
    command: Callable[..., ExitCode | None], lock: Callable[[], AbstractContextManager[None]]
) -> Callable[..., NoReturn]:
    @wraps(command)
    def guarded(**arguments: Any) -> NoReturn:
        # SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that child processes are killed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            # A shell makes its background jobs ignore SIGINT; that is not changed.
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            with lock():
                code = command(**arguments)
                if code is not None:
                    click.echo(exit_line(code))
                sys.exit(ExitCode.PASS if code is None else code)
        except HarnessError as error:
            if error.details:
                click.echo(error.details.rstrip(), err=True)
            _tell(str(error), error.code)
            sys.exit(error.code)
        except KeyboardInterrupt:
            _ignore_signals()  # a second Ctrl-C would interrupt the message
            _tell("interrupted; run the same command again to go on", ExitCode.INTERRUPTED)
            sys.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # The reader has closed the pipe. Python flushes stdout again when it exits: that must
            # not fail, so stdout now leads to /dev/null.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(ExitCode.LOST)
        except Exception:
            traceback.print_exc()
            _tell("this is a fault of the harness itself; please report it", ExitCode.LOST)
            sys.exit(ExitCode.LOST)
        finally:
            # A signal during the interpreter's exit would print a traceback.
            _ignore_signals()

    return guarded


def _tell(why: str, code: ExitCode) -> None:
    click.echo(f"vfio-acpi: {why} ({exit_line(code)})", err=True)


def exit_line(code: ExitCode) -> str:
    """Return the exit code and its meaning for the running command, "exit 4: the kernel …".

    Commands print it because ``make`` ends with 2, whatever the exit code of its command was.
    """
    context = click.get_current_context(silent=True)
    command = "" if context is None or context.info_name is None else context.info_name
    return f"exit {code.value}: {meanings(command).get(code, EXIT_MEANING[code])}"


class Commands(click.Group):
    """A group of commands that, after a usage error, prints the `exit_line` and ends with code 2.

    The usage error may be in the options of the group, or in the name or options of a command.
    """

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the options of the group, and return the context that click makes of them."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            _refuse(error)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments of ``ctx`` name, and return its result."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _refuse(error)


def _refuse(error: click.UsageError) -> NoReturn:
    error.show()
    click.echo(exit_line(ExitCode.USAGE), err=True)
    sys.exit(ExitCode.USAGE)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
