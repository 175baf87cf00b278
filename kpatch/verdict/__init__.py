# SPDX-License-Identifier: GPL-2.0-only
"""Read the table of requirements, and compute the verdict of a run."""
