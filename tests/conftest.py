# SPDX-License-Identifier: GPL-2.0-only
"""What tests share: the unpacked kernel trees, for the tests marked ``trees``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kpatch.bases import BASES


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "trees: needs the unpacked kernel trees")


@pytest.fixture(scope="session", params=BASES)
def kernel_tree(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """Each base and its pristine tree, ``linux-source-X.Y`` in ``$VFIO_ACPI_TREES``."""
    base = str(request.param)
    folder = os.environ.get("VFIO_ACPI_TREES")
    if folder is None:
        pytest.skip("VFIO_ACPI_TREES names no folder with kernel trees")
    path = Path(folder) / f"linux-source-{base}"
    assert (path / "Kconfig").is_file(), path
    return base, path
