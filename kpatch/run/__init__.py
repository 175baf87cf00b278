# SPDX-License-Identifier: GPL-2.0-only
"""Run the suite in VMs, and parse the guest's records and its kernel's console."""
