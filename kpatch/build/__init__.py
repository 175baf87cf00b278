# SPDX-License-Identifier: GPL-2.0-only
"""Kernels, headers and selftests, built from a tree with a series."""
