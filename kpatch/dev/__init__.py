# SPDX-License-Identifier: GPL-2.0-only
"""Tools for the project's own developers: benchmarks, and documents that are made from data."""
