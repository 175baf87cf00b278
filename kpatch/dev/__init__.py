# SPDX-License-Identifier: GPL-2.0-only
"""For the project's own developers: benchmarks, and docs that are made."""
