# SPDX-License-Identifier: GPL-2.0-only
"""What knows nothing of kernels: the cache, processes, stages, confinement."""
