# SPDX-License-Identifier: GPL-2.0-only
"""The result of a run, in every form that it is written in."""
