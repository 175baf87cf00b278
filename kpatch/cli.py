# SPDX-License-Identifier: GPL-2.0-only
"""The command line: one subcommand a stage. It parses and prints; the work is done elsewhere.

Every option can also be given as the environment variable that ``--help`` names, which is how
the Makefile hands its variables on.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.tables import bases, flavors
from kpatch.tables.limits import DEFAULTS, Limits
from kpatch.tables.mechanisms import MECHANISMS
from kpatch.tables.outcomes import EXIT_MEANING, ExitCode, meanings
from kpatch.vm.accel import CHOICES

if TYPE_CHECKING:
    from kpatch.pipeline import Request


def _epilog(command: str) -> str:
    """Say what a command can end with; of no command, what all can."""
    codes = "; ".join(f"{code.value} {meaning}" for code, meaning in meanings(command).items())
    return (
        "`make` itself ends with 2 whatever the code was: the last line says it, and "
        f"`.venv/bin/python -m kpatch {command or 'test'} …` ends with it. Exit codes: {codes}"
    )


def _option(name: str, variable: str, **more: Any) -> Callable[[Any], Any]:
    return click.option(name, envvar=variable, show_default=True, show_envvar=True, **more)


class Whole(click.ParamType[str, str]):
    """A word that an environment variable holds as a whole: a path may have spaces."""

    name = "text"

    def split_envvar_value(self, rv: str) -> list[str]:
        """Do not split it."""
        return [rv]


KERNEL_HELP = (
    f"{', '.join(bases.BASES)}; a kernel tree; a git repository, or one with @REF; "
    "a tarball or its URL, with #sha256=HEX."
)
KERNEL = _option(
    "--kernel",
    "KERNEL",
    default=bases.DEFAULT_BASE,
    metavar="KERNEL",
    help=KERNEL_HELP,
)
KERNELS = _option(
    "--kernel",
    "KERNEL",
    default=(bases.DEFAULT_BASE,),
    multiple=True,
    type=Whole(),
    metavar="KERNEL",
    help=KERNEL_HELP + " Given more than once, each is run in turn.",
)
SERIES = _option(
    "--series",
    "SERIES",
    multiple=True,
    metavar="NAME|MBOX",
    help="Series to take; the unpatched kernel is 'base'.  [default: base and all carried ones]",
)
ONE_SERIES = _option(
    "--series", "SERIES", default="base", metavar="NAME|MBOX", help="The series to take."
)
FLAVOR = _option(
    "--flavor",
    "FLAVOR",
    default=flavors.DEFAULT_FLAVOR,
    metavar="NAME",
    help=f"The config: {', '.join(flavors.FLAVORS)}.",
)
ACCEL = _option(
    "--accel", "ACCEL", default="auto", type=click.Choice(CHOICES), help="How VMs are run."
)
OUT = _option(
    "--out",
    "OUT",
    default="out",
    type=click.Path(path_type=Path),
    help="Folder for the result.",
)
TESTS = _option(
    "--tests", "TESTS", default="", metavar="EXPRESSION", help="pytest's -k: tests to run."
)
JOBS = _option(
    "--jobs",
    "JOBS",
    default=os.cpu_count() or 1,
    type=click.IntRange(min=1),
    help="Processes of a build.",
)
MECHANISM = _option(
    "--mechanism",
    "MECHANISM",
    type=click.Choice(tuple(MECHANISMS)),
    help="The mechanism of a series from a file.  [default: detected in the running kernel]",
)
UNTRUSTED = _option(
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


def _limit(name: str, default: float, text: str) -> Callable[[Any], Any]:
    return _option(
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
REFRESH = click.option(
    "--refresh", is_flag=True, help="Look for a newer kernel package than the cached one."
)
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Show each command that is run.")


def _guarded(command: Callable[..., int | None]) -> Callable[..., NoReturn]:
    """Turn what a command raises into one line and the documented exit code."""

    @wraps(command)
    def guarded(**arguments: Any) -> NoReturn:
        # A SIGTERM ends a run the way Ctrl-C does: children are taken down on the way out.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            # Ctrl-C too, but not in the background of a shell, where it is ignored.
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            # Nothing may empty the cache meanwhile, but for the command that does.
            with nullcontext() if command.__name__ == "clean" else cache.using():
                sys.exit(command(**arguments) or ExitCode.PASS)
        except HarnessError as error:
            if error.details:
                click.echo(error.details.rstrip(), err=True)
            _tell(str(error), error.code)
            sys.exit(error.code)
        except KeyboardInterrupt:
            _ignore_signals()  # a second one has nothing to add
            _tell("interrupted; run the same command again to go on", ExitCode.INTERRUPTED)
            sys.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # Whoever read the output is gone: nobody is left to be told.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(ExitCode.LOST)
        except Exception:
            traceback.print_exc()
            _tell("this is a fault of the harness itself; please report it", ExitCode.LOST)
            sys.exit(ExitCode.LOST)
        finally:
            # All that is left is Python's own end, which would complain.
            _ignore_signals()

    return guarded


def _tell(why: str, code: ExitCode) -> None:
    click.echo(f"vfio-acpi: {why} ({_ending(code)})", err=True)


def _ending(code: ExitCode) -> str:
    """The code and its meaning: of make's own 2 nobody can tell what it was."""
    context = click.get_current_context(silent=True)
    command = "" if context is None or context.info_name is None else context.info_name
    return f"exit {code.value}: {meanings(command).get(code, EXIT_MEANING[code])}"


class Commands(click.Group):
    """A group whose usage errors say the exit code too."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.show()
            click.echo(_ending(ExitCode.USAGE), err=True)
            ctx.exit(ExitCode.USAGE)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@click.group(cls=Commands, epilog=_epilog(""), context_settings={"max_content_width": 100})
@click.version_option(package_name=None, version=__import__("kpatch").__version__)
def main() -> None:
    """Test ACPI notifications of VFIO PCI devices: from a kernel patch series to a verdict."""


@main.command()
@KERNELS
@SERIES
@FLAVOR
@ACCEL
@TESTS
@JOBS
@OUT
@MECHANISM
@CONTROL
@UNTRUSTED
@BOOT_LIMIT
@TEST_LIMIT
@RUN_LIMIT
@REFRESH
@VERBOSE
@_guarded
def test(kernel: tuple[str, ...], out: Path, verbose: bool, **wanted: Any) -> int:
    """Build kernels, boot them, run the suite, and give a verdict."""
    from kpatch import pipeline
    from kpatch.lib.progress import Progress
    from kpatch.report import tables

    results = []
    for one in dict.fromkeys(kernel):
        request = test_request(kernel=one, **wanted)
        folder = out if len(kernel) == 1 else out / pipeline.folder_name(one)
        outcome = pipeline.run(request, folder, Progress(echo=verbose))
        if outcome.error is not None and outcome.error.details:
            click.echo(outcome.error.details.rstrip(), err=True)
        tables.show(outcome, sys.stdout)
        click.echo(f"result: {folder}/result.json")
        results.append(outcome)
    if len(results) > 1:
        tables.show_all(results, sys.stdout)
    failed = (outcome.exit_code for outcome in results if outcome.exit_code)
    code = next(failed, ExitCode.PASS)
    click.echo(_ending(code))
    return code


def test_request(
    *, boot_limit: float, test_limit: float, run_limit: float, **wanted: Any
) -> Request:
    """What the options of `test` ask for, of one kernel."""
    from kpatch.pipeline import Request

    return Request(limits=Limits(boot_limit, test_limit, run_limit), **wanted)


@main.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@_guarded
def check() -> None:
    """Judge a series by its form, patch by patch: to come; `test` judges what it does."""
    raise HarnessError(
        " ".join(["check", *click.get_current_context().args]),
        "judging a series patch by patch comes with a later release",
        mend="test what it does: make kernel-test SERIES=FILE (the linters are make lint)",
    )


@main.command()
@KERNEL
@REFRESH
@VERBOSE
@_guarded
def source(verbose: bool, **wanted: Any) -> None:
    """Get a kernel tree and print where it is."""
    click.echo(_pipeline(verbose, **wanted).source().path)


@main.command()
@KERNEL
@ONE_SERIES
@VERBOSE
@_guarded
def apply(series: str, verbose: bool, **wanted: Any) -> None:
    """Apply a series beside the tree and list the files that it changes."""
    applied = _pipeline(verbose, **wanted).apply(series)
    for subject in applied.subjects:
        click.echo(f"# {subject}")
    for change in applied.changes:
        click.echo(f"{'D' if change.content is None else 'M'} {change.path}")


@main.command()
@KERNEL
@ONE_SERIES
@FLAVOR
@click.option("--explain", metavar="SYMBOL", help="Tell why a symbol has the value it has.")
@VERBOSE
@_guarded
def config(series: str, explain: str | None, verbose: bool, **wanted: Any) -> None:
    """Print the .config of a flavor, or explain a symbol of it."""
    pipeline = _pipeline(verbose, **wanted)
    applied = pipeline.apply(series)
    if explain is None:
        click.echo(pipeline.config(applied).text, nl=False)
    else:
        click.echo(pipeline.explain(applied, explain))


@main.command()
@KERNEL
@ONE_SERIES
@FLAVOR
@JOBS
@VERBOSE
@_guarded
def build(series: str, verbose: bool, **wanted: Any) -> None:
    """Build a kernel and print where it is."""
    pipeline = _pipeline(verbose, **wanted)
    click.echo(pipeline.build(pipeline.apply(series)).image)


def _shell(series: str, verbose: bool, **wanted: Any) -> None:
    """Open a shell in a test kernel, with the devices present."""
    pipeline = _pipeline(verbose, **wanted)
    status: int = pipeline.shell(pipeline.build(pipeline.apply(series)))
    if status != 0:
        raise HarnessError(
            "shell", f"QEMU ended with status {status}", mend="see above", code=ExitCode.LOST
        )


for _name in ("boot", "shell"):
    _function = _guarded(_shell)
    for _decorate in (VERBOSE, ACCEL, JOBS, FLAVOR, ONE_SERIES, KERNEL):
        _function = _decorate(_function)
    main.command(name=_name)(_function)


@main.command()
@JOBS
@click.option("--runs", default=5, show_default=True, help="Runs of what takes seconds.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(("cold", "edit", "warm")),
    help="Measurements to make; without cold, the cache at hand is used.  [default: all]",
)
@_guarded
def bench(jobs: int, runs: int, only: tuple[str, ...]) -> None:
    """Measure what a run costs, as ratios to make and to virtme-ng alone."""
    from kpatch.dev import bench
    from kpatch.report import tables

    figures = bench.run(
        only or tuple(bench.MEASUREMENTS),
        jobs=jobs,
        runs=runs,
        say=lambda line: click.echo(line, err=True),
    )
    rows = [(f.name, f.seconds, f.against, f.ratio, f.aim) for f in figures]
    tables.print_grid(["figure", "seconds", "against", "ratio", "aim"], rows, sys.stdout)


@main.command()
@click.argument("name", metavar="SERIES")
@KERNEL
@click.option(
    "--out",
    default="outgoing",
    show_default=True,
    type=click.Path(path_type=Path),
    help="New or empty folder for the mails.",
)
@click.option(
    "--evidence",
    multiple=True,
    metavar="RESULT",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A run's result.json, told of in the cover letter; may be given more than once.",
)
@click.option(
    "--version",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Which posting this is: 2 for [PATCH v2 n/m].",
)
@click.option("--no-signoff", is_flag=True, help="Do not sign off in your name.")
@VERBOSE
@_guarded
def export(
    name: str,
    out: Path,
    evidence: tuple[Path, ...],
    version: int,
    no_signoff: bool,
    verbose: bool,
    **wanted: Any,
) -> None:
    """Write a series ready for git send-email, in your name."""
    from kpatch.report import cover_letter
    from kpatch.series import export

    person = export.exporter()
    export.refuse_taken(out)
    pipeline = _pipeline(verbose, **wanted)
    applied = pipeline.apply(name)
    shown = cover_letter.evidence(evidence, applied)
    cover = cover_letter.write(applied, shown, version=version)
    wish = export.Wish(person, version, not no_signoff)
    with pipeline.progress.stage("export", series=name) as stage:
        files = export.export(applied, wish, cover, stage=stage)
    export.write(files, out)
    for file in files:
        click.echo(out / file)
    click.echo(export.advice(files, applied.tree, out), err=True)


@main.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if it would change.")
@_guarded
def reference(check: bool) -> int:
    """Write docs/uapi.md from its template, the requirements and the suite."""
    from kpatch.dev import uapi_doc

    made, path = uapi_doc.render(), uapi_doc.DOCUMENT
    same = path.exists() and path.read_text(encoding="utf-8") == made
    if not same and not check:
        path.write_text(made, encoding="utf-8")
    changed = "would change" if check else "written"
    click.echo(f"{path}: {'up to date' if same else changed}")
    code = ExitCode.FAIL if check and not same else ExitCode.PASS
    click.echo(_ending(code))
    return code


@main.command()
@_option(
    "--kernel",
    "KERNEL",
    default=tuple(bases.BASES),
    multiple=True,
    type=Whole(),
    metavar="KERNEL",
    help=KERNEL_HELP + " May be given more than once.",
)
@SERIES
@MECHANISM
@JOBS
@click.option("--write", is_flag=True, help="Write the golden JSON instead of comparing it.")
@VERBOSE
@_guarded
def drift(kernel: tuple[str, ...], mechanism: str | None, verbose: bool, **wanted: Any) -> int:
    """Compare the mirror in uapi with the headers of kernels, by compiling assertions."""
    from kpatch.abi import check
    from kpatch.lib.progress import Progress
    from kpatch.model import Applied
    from kpatch.pipeline import Pipeline, Request

    progress = Progress(echo=verbose)

    def applier(kernel: str) -> Callable[[str], Applied]:
        return Pipeline(Request(kernel=kernel, mechanism=mechanism), progress).apply

    outcome = check.run(kernel, applier, **wanted, progress=progress)
    for path in outcome.written:
        click.echo(f"written: {path}")
    for line in outcome.findings:
        click.echo(f"drift: {line}")
    click.echo(f"kernels: {outcome.kernels}, differences: {len(outcome.findings)}")
    code = ExitCode.FAIL if outcome.findings else ExitCode.PASS
    click.echo(_ending(code))
    return code


@main.command()
@_guarded
def clean() -> None:
    """Empty the cache, saying what that frees."""
    freed = cache.clean()
    for item in freed:
        click.echo(f"{item.size / 1e6:9.1f} MB  {item.path}")
    click.echo(f"{sum(item.size for item in freed) / 1e6:9.1f} MB  freed in {cache.root()}")


def _pipeline(verbose: bool, **wanted: Any) -> Any:
    from kpatch.lib.progress import Progress
    from kpatch.pipeline import Pipeline, Request

    return Pipeline(Request(**wanted), Progress(echo=verbose))


for _name, _command in main.commands.items():
    _command.epilog = _epilog(_name)
