# SPDX-License-Identifier: GPL-2.0-only
"""The outputs of a review (`make check`): `kpatch.report.review.write` has a row for each."""
