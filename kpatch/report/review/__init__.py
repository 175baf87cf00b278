# SPDX-License-Identifier: GPL-2.0-only
"""Write the result of a review (`make check`) as files in all formats, and as an answer to b4."""
