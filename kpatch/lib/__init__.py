# SPDX-License-Identifier: GPL-2.0-only
"""General helpers that do not depend on kernels: cache, processes, stages, confinement."""
