# SPDX-License-Identifier: GPL-2.0-only
"""The options that several commands have, as decorators of click.

An option that `option` makes can also be set by an environment variable, which ``--help`` names.
The Makefile exports these variables, so ``make check SERIES=…`` sets ``--series``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kpatch.tables import bases, flavors
from kpatch.tables.limits import DEFAULTS
from kpatch.tables.mechanisms import MECHANISMS
from kpatch.tables.outcomes import CheckOutcome
from kpatch.vm.accel import CHOICES


def option(name: str, variable: str, **more: Any) -> Callable[[Any], Any]:
    """Return the click option ``name``, which the environment variable ``variable`` can set too.

    ``more`` are arguments of click.option. The default value is shown in ``--help``.
    """
    return click.option(name, envvar=variable, **{"show_default": True, **more}, show_envvar=True)


class Whole(click.ParamType[str, str]):
    """The type of a text option: its environment variable is one value, which may contain spaces.

    It is for options with ``multiple=True``, for which click would split the variable at spaces.
    """

    name = "text"

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return the value ``rv`` of the environment variable as the only value of the option."""
        return [rv]


KERNEL_HELP = (
    f"{', '.join(bases.BASES)}; a kernel tree; a git repository, or one with @REF; "
    "a tarball or its URL, with #sha256=HEX."
)
KERNEL = option(
    "--kernel", "KERNEL", default=bases.DEFAULT_BASE, metavar="KERNEL", help=KERNEL_HELP
)

KERNEL_OF_SERIES = option(
    "--kernel",
    "KERNEL",
    default="",
    metavar="KERNEL",
    show_default="the newest base that takes the series",
    help=KERNEL_HELP,
)


def _kernels(default: tuple[str, ...], more: str) -> Callable[[Any], Any]:
    return option(
        *("--kernel", "KERNEL"),
        default=default,
        multiple=True,
        type=Whole(),
        metavar="KERNEL",
        help=KERNEL_HELP + more,
    )


KERNELS = _kernels((bases.DEFAULT_BASE,), " Given more than once, each is run in turn.")
EVERY_KERNEL = _kernels(tuple(bases.BASES), " May be given more than once.")


def _several_series(default: str) -> Callable[[Any], Any]:
    return option(
        *("--series", "SERIES"),
        multiple=True,
        metavar="NAME|MAIL",
        help="Series to take: a name, an mbox, maildir or folder of patches, or - for standard "
        "input. 'base' is the unpatched kernel; 'all' is base and all carried series that have "
        f"patches for the kernel.  [default: {default}]",
    )


SERIES = _several_series("base and the carried series that run by default")
EVERY_SERIES = _several_series("base and all carried series, as for all")
ONE_SERIES = option(
    "--series", "SERIES", default="base", metavar="NAME|MAIL", help="The series to take."
)


def _unless_b4(ctx: click.Context, option: click.Parameter, series: str | None) -> str | None:
    """Return ``series``; click.MissingParameter if it is None and the option --b4 is not given.

    A click callback of ``option``.
    """
    if series is None and ctx.params.get("b4") is None:
        raise click.MissingParameter(ctx=ctx, param=option)
    return series


SERIES_TO_JUDGE = option(
    "--series",
    "SERIES",
    callback=_unless_b4,
    show_default="with --b4, what b4 hands over",
    metavar="NAME|MAIL",
    help="The series to judge: a name, an mbox, maildir or folder of patches, - for standard "
    "input, or BASE..TIP, commits of the git repository KERNEL.",
)
CHECKS = option(
    "--checks",
    "CHECKS",
    default="",
    metavar="NAME,…",
    show_default="plain",
    help="Checks to run, or quick, plain, all.",
)
FAIL_ON = option(
    "--fail-on",
    "FAIL_ON",
    default=CheckOutcome.FAIL.value,
    type=click.Choice((CheckOutcome.WARN.value, CheckOutcome.FAIL.value)),
    help="The mildest finding that makes the review fail.",
)
B4 = click.option(
    "--b4",
    type=click.Choice(("prep", "review")),
    is_eager=True,  # parsed before --series, whose callback reads the value
    help="Answer b4: review what it hands over on standard input, see docs/check.md.",
)
FLAVOR = option(
    "--flavor",
    "FLAVOR",
    default=flavors.DEFAULT_FLAVOR,
    metavar="NAME",
    help=f"The config: {', '.join(flavors.FLAVORS)}.",
)
ACCEL = option(
    "--accel", "ACCEL", default="auto", type=click.Choice(CHOICES), help="How VMs are run."
)
OUT = option(
    "--out", "OUT", default="out", type=click.Path(path_type=Path), help="Folder for the result."
)
TESTS = option(
    "--tests", "TESTS", default="", metavar="EXPRESSION", help="pytest's -k: tests to run."
)
JOBS = option(
    "--jobs",
    "JOBS",
    default=os.cpu_count() or 1,
    type=click.IntRange(min=1),
    help="Processes of a build.",
)
MECHANISM = option(
    "--mechanism",
    "MECHANISM",
    metavar="NAME|FOLDER",
    help=f"The mechanism of a series from a file: {', '.join(MECHANISMS)}, or a folder with one of "
    "your own (docs/add-a-mechanism.md).  [default: detected in the running kernel]",
)
KNOWN_MECHANISM = option(
    "--mechanism",
    "MECHANISM",
    type=click.Choice(tuple(MECHANISMS)),
    help="The mechanism of a series from a file.  [default: detected in the running kernel]",
)
UNTRUSTED = option(
    "--untrusted",
    "UNTRUSTED",
    is_flag=True,
    help="Refuse to run where builds and VMs cannot be confined.",
)
CONTROL = click.option(
    "--control/--no-control",
    default=True,
    show_default=True,
    help="Run the unpatched kernel too, as negative control, where a series comes from a file.",
)
MUTANT = click.option(
    "--mutant",
    default="",
    metavar="FILE:LINE: TEXT ==> TEXT",
    help="Replace a line of the series, and end with the first test that fails.",
)


def _limit(name: str, default: float, text: str) -> Callable[[Any], Any]:
    return option(
        f"--{name}-limit",
        f"{name.upper()}_LIMIT",
        default=default,
        type=click.IntRange(1, 24 * 60 * 60),
        metavar="SECONDS",
        help=text,
    )


BOOT_LIMIT = _limit("boot", DEFAULTS.boot, "A VM that runs no test for so long is hung.")
TEST_LIMIT = _limit("test", DEFAULTS.test, "A test that takes longer is hung.")
RUN_LIMIT = _limit("run", DEFAULTS.run, "For all VMs of one series together.")
SEED = option(
    "--seed",
    "SEED",
    default=1,
    type=click.IntRange(1),
    help="Decides the generated sequences of a stateful test.",
)
REFRESH = click.option(
    "--refresh", is_flag=True, help="Look for a newer kernel package than the cached one."
)
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Show each command that is run.")
