# SPDX-License-Identifier: GPL-2.0-only
"""Compare the mirror of the uAPI in `uapi` with the headers of kernels."""
