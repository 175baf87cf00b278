# SPDX-License-Identifier: GPL-2.0-only
"""Tables of pure data. They import no module of the project outside of this package."""
