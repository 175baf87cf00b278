# SPDX-License-Identifier: GPL-2.0-only
"""Host side of vfio-acpi: a kernel tree, a series, a build, a VM, a verdict."""

__version__ = "0.1.0"
