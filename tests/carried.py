# SPDX-License-Identifier: GPL-2.0-only
"""The bases that each carried series has patches for."""

from __future__ import annotations

from kpatch.series import catalog
from kpatch.tables.bases import BASES

CARRIED_KERNELS = [
    (base, name) for base in BASES for name in catalog.carried() if catalog.has_patches(name, base)
]
"""Each base with each carried series that has patches for it."""
