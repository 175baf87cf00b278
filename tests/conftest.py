# SPDX-License-Identifier: GPL-2.0-only
"""What tests share: the pristine kernel trees, for the tests marked ``trees``."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kpatch.lib.stage import Silent
from kpatch.source import resolve
from kpatch.tables.bases import BASES

pytest_plugins = ["pytester", "tests.faultreport"]


def pytest_configure() -> None:
    """Let Ctrl-C through: a shell has what it starts with `&` ignore it, and that is inherited."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes minutes last: what is cheap to find should show first."""
    items.sort(key=lambda item: item.get_closest_marker("vm") is not None)


@pytest.fixture(scope="session", params=BASES)
def kernel_tree(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """Each base and its pristine tree, fetched into the cache if it is not there."""
    base = str(request.param)
    return base, resolve.resolve(base, stage=Silent()).path
