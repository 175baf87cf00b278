# SPDX-License-Identifier: GPL-2.0-only
"""Requirements, and the verdict on what a run has shown."""
