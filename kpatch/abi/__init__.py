# SPDX-License-Identifier: GPL-2.0-only
"""Compare uAPI headers: of kernels with the mirror in `uapi`, of a series with the base's."""
