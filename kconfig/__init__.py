# SPDX-License-Identifier: GPL-2.0-only
"""Read config fragments, make a .config of them, and explain symbols that it lacks.

The kernel tree's own ``conf`` decides a config (kpatch/build/conf.py runs it); this package reads
and renders what is asked for (``fragment``), reads what came out (``dotconfig``), and says why the
two differ (``tree`` parses the Kconfig files, ``explain`` words the answer). It stands alone: it
imports no other package of the project, and has exceptions of its own (``errors``).
"""
