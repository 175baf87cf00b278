# SPDX-License-Identifier: GPL-2.0-only
"""The host's side of vfio-acpi: the stages from a kernel tree and a series to a verdict."""

__version__ = "0.1.0"
