# SPDX-License-Identifier: GPL-2.0-only
"""Find, download and unpack the kernel tree that KERNEL= names; keep it in the cache."""
