# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A service that hands notifications to VMMs without privileges (docs/broker.md)."""
