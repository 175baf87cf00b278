# SPDX-License-Identifier: GPL-2.0-only
"""The virtual machine: its devices, its guest image, QEMU and its monitor."""
