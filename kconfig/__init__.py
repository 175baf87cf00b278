# SPDX-License-Identifier: GPL-2.0-only
"""Read config fragments, make a .config of them, and explain symbols that it lacks.

The kernel tree's own ``conf`` makes a .config (kpatch/build/conf.py runs it). This package reads
and renders the requested symbols (``fragment``), reads the resulting .config (``dotconfig``), and
explains the differences: ``tree`` parses the Kconfig files, ``explain`` writes the text. It imports
no other package of the project, and has exceptions of its own (``errors``).
"""
