# SPDX-License-Identifier: GPL-2.0-only
"""Patch series: found, decoded, applied, exported."""
