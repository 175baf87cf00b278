# SPDX-License-Identifier: GPL-2.0-only
"""Read config fragments, and explain why a .config lacks a value that they request.

The kernel tree's own ``conf`` makes the .config (kpatch/build/conf.py runs it). This package reads
the fragments and writes their requests for ``conf`` (``fragment``), reads the resulting .config
(``dotconfig``), and explains the differences: ``tree`` parses the Kconfig files, ``remedy`` finds
the settings that give a symbol a value, ``explain`` writes the text. The package imports no other
package of the project, and has an exception of its own (``errors``).
"""
