# SPDX-License-Identifier: GPL-2.0-only
"""Kernel trees: from what KERNEL= names to an unpacked tree in the cache."""
