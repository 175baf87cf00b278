# SPDX-License-Identifier: GPL-2.0-only
"""Write the results of runs and reviews in all formats, and the cover letter of a series."""
