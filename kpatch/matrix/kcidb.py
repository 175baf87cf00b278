# SPDX-License-Identifier: GPL-2.0-only
"""The merged result of a matrix as one report for KCIDB (kernelci.org).

It has the checkouts, builds and tests of the cells of the kind ``test``. Planted faults and mutants
are left out: their failures say nothing about a series.
"""

from __future__ import annotations

from kpatch.matrix.merge import Merged
from kpatch.report import kcidb, kcidb_objects


def render(merged: Merged) -> str:
    """Return the report as JSON text. An object that several cells share is there once."""
    runs = [it.run for it in merged.cells if it.run and not it.cell.planted]
    kinds = zip(*map(kcidb.objects, runs), strict=True) if runs else ((), (), ())
    unique = ({it["id"]: it for made in kind for it in made}.values() for kind in kinds)
    return kcidb_objects.document(*unique)
