# SPDX-License-Identifier: GPL-2.0-only
"""Compare the mechanisms: by the requirements that they meet, by measurements, by their patches.

times.py        distributions of times, with intervals
outcomes.py     requirement × series × kernel, from the results of runs
measured.py     the measurements of one series on one kernel
patches.py      the size of a series
reachable.py    the functions that it adds
comparison.py   all of that as data, and its JSON form (comparison.schema.json)
figures.py      counts, ratios with intervals, ranks
criteria.py     by what a mechanism is recommended
findings.py     goals, failures, agreement of two comparisons, limits
conclusion.py   the sentences that follow
plots.py, html.py, text.py, markdown.py    the forms for a reader
run.py          runs what is missing, and makes the comparison
"""
