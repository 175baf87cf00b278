# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's changes of carried series (kpatch/dev/bench.py): each changes what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpatch.dev import bench
from kpatch.errors import HarnessError
from kpatch.series import catalog
from kpatch.tables import bases
from kpatch.tables.outcomes import ExitCode


@pytest.fixture
def measured(tmp_path: Path) -> bench.Bench:
    return bench.Bench(tmp_path, tmp_path, bases.DEFAULT_BASE, jobs=1, runs=1, say=print)


def changed_patches(before: str, after: str) -> list[int]:
    """Return the numbers, from 0, of the patches that differ."""
    pairs = zip(before.split("\nSubject: "), after.split("\nSubject: "), strict=True)
    return [number for number, (old, new) in enumerate(pairs) if old != new]


@pytest.mark.parametrize("series", bench.EDITED)
def test_later_edit_leaves_the_patches_before(measured: bench.Bench, series: str) -> None:
    as_it_is = measured._edit(series).read_text()
    first = changed_patches(as_it_is, measured._edit(series, first="_a").read_text())
    later = changed_patches(as_it_is, measured._edit(series, later="_a").read_text())
    assert first and later
    assert first[0] < later[0]


def test_name_that_is_gone(measured: bench.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.EDITED, bench.REVIEWED, ("vfio_pci_acpi_mutex", "no_such_name"))
    with pytest.raises(HarnessError, match="has no no_such_name") as caught:
        measured._edit(bench.REVIEWED, later="_a")
    assert caught.value.code is ExitCode.LOST


def test_reviewed_series_has_three_patches() -> None:
    assert len(catalog.load(bench.REVIEWED, bases.DEFAULT_BASE).mailboxes) == 3
