# SPDX-License-Identifier: GPL-2.0-only
"""Checks of a series, patch by patch: `kpatch.checks.table` has a row for each."""
