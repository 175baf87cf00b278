# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The uAPI of ACPI notifications, for both sides: formats and a probe. Needs nothing else here."""
