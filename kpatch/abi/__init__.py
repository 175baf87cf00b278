# SPDX-License-Identifier: GPL-2.0-only
"""The mirror in uapi against the headers of kernels."""
