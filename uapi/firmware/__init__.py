# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The inspector: which notifications a host's firmware can send to its PCI devices."""
