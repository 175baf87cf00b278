# SPDX-License-Identifier: GPL-2.0-only
"""Set up and start the virtual machine: devices, guest image, QEMU and its monitor."""
