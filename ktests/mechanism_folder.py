# SPDX-License-Identifier: GPL-2.0-only
"""Load a mechanism of the user's own, which the host has put into the suite's image.

The folder `FOLDER` contains mechanism.py with the mechanism's record, RECORD, and the modules that
it imports. The host calls the folder MECHANISM=. Its code may have any fault, and a fault must not
pass for a failure of the kernel. On the negative control such a failure would be the expected one.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from ktests.contract import MECHANISM_FOLDER, MECHANISM_MODULE, MECHANISM_NAME
from ktests.mechanism import OWN_RANK, Mechanism, Sign, Site

FOLDER = Path(__file__).parents[1] / MECHANISM_FOLDER

CAUSE_SIZE = 500

# No answer of a kernel makes sound code raise one of these: they are faults of the module.
FAULTS = (
    *(AttributeError, ImportError, MemoryError, NameError, NotImplementedError, RecursionError),
    *(GeneratorExit, KeyboardInterrupt, SyntaxError, SystemExit, TypeError, pytest.exit.Exception),
)

# `Sign.look` may raise these, apart from FAULTS, on a kernel with a broken uAPI.
BROKEN_KERNEL = (AssertionError, OSError, RuntimeError, ValueError)

# The attributes of a record, and their types.
ATTRIBUTES = {
    "sign": Sign,
    "registered_by_binding": bool,
    "refusal": int | None,
    "selftest": str,
}


class FaultyError(Exception):
    """The user's mechanism has a fault. The text is one line with the place and the cause."""


def load(folder: Path = FOLDER) -> Mechanism | None:
    """Import mechanism.py in ``folder`` and return its record; None if there is no such folder.

    FaultyError if the import raises anything, or if the record is not as `Mechanism` wants it.
    """
    if not folder.is_dir():
        return None
    name = (folder / MECHANISM_NAME).read_text()
    # At the end, so that no module of the suite, or that it needs, can be replaced.
    sys.path.append(str(folder))
    spec = spec_from_file_location(f"{MECHANISM_FOLDER}.{name}", folder / MECHANISM_MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        complaint = _complaint(getattr(module, "RECORD", None), name)
    except BaseException as error:
        raise FaultyError(described(error, folder)) from error
    if complaint:
        raise FaultyError(f"{MECHANISM_MODULE}: {complaint}")
    record: Mechanism = module.RECORD
    type(record).sign = _guarded(record.sign, folder)
    return record


def fault(error: BaseException, folder: Path = FOLDER) -> str:
    """Return ``error`` in one line if it is a fault of the user's mechanism; otherwise "".

    It is one if its type is in `FAULTS`, and code of ``folder`` has raised it or called the code
    that has raised it.
    """
    return described(error, folder) if isinstance(error, FAULTS) and _place(error, folder) else ""


def described(error: BaseException, folder: Path = FOLDER) -> str:
    """Return ``error`` in one line, after the place in ``folder`` that it comes from.

    At most `CAUSE_SIZE` characters, all of them printable.
    """
    text = " ".join(traceback.format_exception_only(error)[-1].split())
    line = f"{_place(error, folder) or MECHANISM_MODULE}: {text}"
    return "".join(char if char.isprintable() else "?" for char in line)[:CAUSE_SIZE]


def _place(error: BaseException, folder: Path) -> str:
    """Return the innermost place in ``folder`` in the traceback, "mechanism.py:7"; "" if none."""
    places = [
        (frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno or 0))
    ours = [(Path(file).name, line) for file, line in places if Path(file).parent == folder]
    return "{}:{}".format(*ours[-1]) if ours else ""


def _complaint(record: object, name: str) -> str:
    """Return why ``record`` is no record of the mechanism ``name``; "" if it is one."""
    if record is None:
        return "has no RECORD"
    if not isinstance(record, Mechanism):
        return f"RECORD is no instance of {Mechanism.__module__}.{Mechanism.__name__}: {record!r}"
    if record.name != name:
        return f"the class of RECORD is not defined here, but in {type(record).__module__}"
    for attribute, kind in ATTRIBUTES.items():
        if not hasattr(record, attribute):
            return f"RECORD has no {attribute}"
        if not isinstance(getattr(record, attribute), kind):
            return f"RECORD.{attribute} has a wrong type: {getattr(record, attribute)!r}"
    methods = sorted(Mechanism.__abstractmethods__)
    return next(filter(None, (_method_complaint(record, method) for method in methods)), "")


def _method_complaint(record: Mechanism, name: str) -> str:
    """Return why the tests cannot call the method ``name`` of ``record``; "" if they can."""
    wanted = inspect.signature(getattr(Mechanism, name))
    parameters = [*wanted.parameters.values()][1:]  # without self
    keywords = {it.name: None for it in parameters if it.kind is it.KEYWORD_ONLY}
    try:
        inspect.signature(getattr(record, name)).bind(
            *(None for it in parameters if it.name not in keywords), **keywords
        )
    except TypeError:
        shown = ", ".join(it.name for it in parameters)
        return f"RECORD.{name}() does not take the parameters {shown}"
    return ""


def _guarded(sign: Sign, folder: Path) -> Sign:
    """Return ``sign`` so that it is looked for first, and `Sign.look` raises what it may raise.

    These are RuntimeError on a broken kernel, and FaultyError for a fault of the mechanism.
    """
    look: Callable[[Site], object] = sign.look

    def guarded(site: Site) -> str:
        try:
            text = look(site)
        except BaseException as error:
            cause = described(error, folder)
            if isinstance(error, BROKEN_KERNEL) and not isinstance(error, FAULTS):
                raise RuntimeError(cause) from error
            raise FaultyError(cause) from error
        if not isinstance(text, str):
            raise FaultyError(f"{MECHANISM_MODULE}: Sign.look returns no text: {text!r}")
        return text

    return replace(sign, look=guarded, rank=OWN_RANK)
