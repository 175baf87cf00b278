# SPDX-License-Identifier: GPL-2.0-only
"""The inner guest: a VM whose QEMU runs in the test VM (ktests/inner_guest.py)."""
