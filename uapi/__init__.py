# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The uAPI of ACPI notifications: formats, devices, a probe. Used by host and guest.

Imports nothing else of this project.
"""
