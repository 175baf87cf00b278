# SPDX-License-Identifier: GPL-2.0-only
"""Checks of a series: its mails, code, builds, uAPI and behaviour (`kpatch.checks.table`)."""
