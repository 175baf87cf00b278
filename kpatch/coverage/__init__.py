# SPDX-License-Identifier: GPL-2.0-only
"""Measure which of the lines that a series adds are run by the suite (docs/coverage.md).

`run` goes from a request to the files in OUT. `history` has the series as commits, one for each
patch. `trace` has the VMs' counters merged (gcovr), `added` reduces them to the lines that the
series adds (diff-cover). `figures` is the result, `explained` the table of lines that no test can
run; `text` and `html` are for people.
"""
