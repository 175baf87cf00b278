# SPDX-License-Identifier: GPL-2.0-only
"""Build kernels, headers and selftests from a tree with a series."""
