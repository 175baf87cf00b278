# SPDX-License-Identifier: GPL-2.0-only
"""Tables: pure data, and nothing but it. They import no other module of the project."""
