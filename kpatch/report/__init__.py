# SPDX-License-Identifier: GPL-2.0-only
"""Write the result of a run in all its formats."""
