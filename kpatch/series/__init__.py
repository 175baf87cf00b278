# SPDX-License-Identifier: GPL-2.0-only
"""Find patch series, decode their mailboxes, apply them to a tree, and export them as mails."""
