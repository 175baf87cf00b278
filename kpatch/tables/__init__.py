# SPDX-License-Identifier: GPL-2.0-only
"""Tables of data. Their modules import no module of the project from outside of this package."""
