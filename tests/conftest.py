# SPDX-License-Identifier: GPL-2.0-only
"""Shared fixtures: signal handlers as they were, and the kernel trees for the tests ``trees``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpatch.lib.stage import Silent
from kpatch.source import resolve
from kpatch.tables.bases import BASES

pytest_plugins = ["pytester"]


def pytest_configure() -> None:
    """Restore SIGINT: a shell makes commands started with `&` ignore it, and children inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests marked ``vm``, which take minutes, to the end."""
    items.sort(key=lambda item: item.get_closest_marker("vm") is not None)


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Restore the handlers that a command replaces, which otherwise ends with its process.

    Programs that later tests start would inherit that a signal is ignored.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", params=BASES)
def kernel_tree(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """Return each base and its pristine tree. Fetches the tree into the cache if needed."""
    base = str(request.param)
    return base, resolve.resolve(base, stage=Silent()).path
