# SPDX-License-Identifier: GPL-2.0-only
"""Describe, start and control a VM: its devices and firmware, the guest's images, and QEMU."""
