# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The VMM's side: decide about notifications, hand them to the guest, describe them in AML."""
