# SPDX-License-Identifier: GPL-2.0-only
"""The matrix: many runs of the harness, on several workers, with one merged report.

    cell.py        the cells of a matrix: bases × series × flavors × faults × seeds
    mutation.py    mutants of the lines that a series adds, made by universalmutator
    fault.py       planted faults: the series that they are planted in, and what they break
    job.py         a command and its result as data; knows nothing of kernels
    store.py       the store of results and artefacts, through fsspec
    worker.py      runs a job as a subprocess
    placing.py     decides which job a worker gets next
    cluster.py     runs jobs on the workers of Dask distributed
    simulation.py  the time that cells take on many workers, simulated
    merge.py       the outcomes of cells, and tests whose outcome changes
    text.py, html.py, kcidb.py   the merged report
    run.py         the actions of the command ``matrix``

Only cluster.py imports Dask, and only store.py fsspec: both are in requirements-matrix.lock. Only
mutation.py imports universalmutator (requirements-mutants.lock).
"""
