# SPDX-License-Identifier: GPL-2.0-only
"""The matrix without Dask: its cells, store, placing, simulation and merged report. No kernels."""

from __future__ import annotations

import ast
import itertools
import json
import shlex
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kcidb_io.schema import V5_3

from kpatch import cli
from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.matrix import cell, fault, html, kcidb, merge, simulation, text, worker
from kpatch.matrix import run as matrix_run
from kpatch.matrix.cell import KINDS, Axes, Cell
from kpatch.matrix.job import INPUTS, OUT, PYTHON, Ending, Job, Record, ending
from kpatch.matrix.merge import CellResult, Flaky
from kpatch.matrix.placing import TRIES, Placing
from kpatch.matrix.run import MatrixRequest
from kpatch.matrix.store import Store
from kpatch.report import result
from kpatch.report.result import KernelInfo, RunResult, SeriesInfo
from kpatch.series import catalog
from kpatch.tables import bases, flavors
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.verdict.judge import TestResult as Judged
from kpatch.vm import guest_image

ROOT = Path(__file__).parent.parent
KEY = "0123456789abcdef"


def job(name: str, kernel: str = "", seconds: float = 1, **more: Any) -> Job:
    return replace(Job(cache.digest([name]), name, (), kernel, seconds=seconds), **more)


def shell(script: str, *words: str, **more: Any) -> Job:
    return job("job", argv=("sh", "-c", script, "sh", *words), **more)


def run(job: Job, store: Store) -> Record:
    return Record.load(worker.run(job.dump(), job.name, store.url))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


# ---- make test-vmm ------------------------------------------------------------------------------


def test_make_test_vmm_has_the_relay_with_each_mechanism_on_each_base() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "test-vmm-guest"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    command = done.stdout.replace("\\\n", " ").rpartition(" kpatch matrix run ")[2]
    ended = CliRunner().invoke(cli.main, ["matrix", "list", "--list-json", *shlex.split(command)])
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.output)
    assert {(it["flavor"], it["tests"]) for it in found} == {("relay", "REQ-VMM")}
    series = (catalog.BASE, "eventq", "eventfd", "ack")
    assert {(it["kernel"], it["series"]) for it in found} == {
        (kernel, name)
        for kernel, name in itertools.product(bases.BASES, series)
        if name == catalog.BASE or catalog.has_patches(name, kernel)
    }


def test_a_result_counts_for_the_programs_that_run_in_the_guest() -> None:
    assert any(guest_image.LOOPS.is_relative_to(ROOT / name) for name in cell.SOURCES)


# ---- only three modules need more than the others -----------------------------------------------


OPTIONAL = {"dask", "distributed", "fsspec", "universalmutator"}


def test_optional_packages_are_imported_in_three_modules() -> None:
    """People who never run a matrix need not install them."""
    found = set()
    for path in sorted((ROOT / "kpatch").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [it.name for it in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.split(".")[0] for name in names} & OPTIONAL:
                found.add(path.name)
    assert found == {"cluster.py", "store.py", "mutation.py"}


# ---- cells --------------------------------------------------------------------------------------


def test_cells_are_the_product_of_the_axes() -> None:
    axes = Axes(kernels=("7.3", "6.1"), series=("base", "netlink", "ack"), seeds=2)
    made = cell.matrix(axes)
    assert [(it.kernel, it.series, it.seed) for it in made.cells] == [
        *(("7.3", name, seed) for name in ("base", "netlink", "ack") for seed in (1, 2)),
        *(("6.1", name, seed) for name in ("base", "netlink") for seed in (1, 2)),
    ]
    assert made.left_out == ("ack has no patches for 6.1",)


def test_all_bases_and_flavors() -> None:
    made = cell.matrix(Axes(kernels=("all",), series=("base",), flavors=("all",)))
    pairs = itertools.product(bases.BASES, flavors.FLAVORS)
    assert [(it.kernel, it.flavor) for it in made.cells] == list(pairs)


def test_series_that_run_by_default() -> None:
    assert {it.series for it in cell.matrix(Axes()).cells} == {"base", *catalog.default()}
    every = {it.series for it in cell.matrix(Axes(series=("all",))).cells}
    assert every == {"base", *catalog.ready()}


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (Axes(whole=True), "--whole: needs --fault"),
        (Axes(faults=("all",), kernels=("6.1",)), "--kernel (KERNEL): its row says that of"),
        (Axes(faults=("all",), series=("eventq",)), "--series (SERIES): its row says that of"),
        (Axes(faults=("all",), flavors=("debug",)), "--flavor (FLAVOR): its row says that of"),
        (Axes(faults=("all",), tests="burst"), "--tests (TESTS): its row says that of"),
        (Axes(faults=("all",), mechanism="ack"), "--mechanism (MECHANISM): its row says that of"),
        (Axes(faults=("all",), mutants=3), "--mutants: its row says that of a planted fault"),
        (Axes(kernels=("9.9",)), "KERNEL=9.9: unknown to the matrix; choose from 7.3"),
        (Axes(flavors=("x",)), "FLAVOR=x: unknown to the matrix; choose from plain"),
        (Axes(faults=("x",)), "--fault=x: unknown to the matrix; choose from "),
        (Axes(series=("nope",)), "SERIES=nope: no series of this name"),
        (Axes(series=("./nope.mbox",)), "SERIES=./nope.mbox: cannot be read: No such file"),
    ],
)
def test_unknown_values_are_refused(axes: Axes, said: str) -> None:
    with pytest.raises(HarnessError) as refused:
        cell.matrix(axes)
    assert str(refused.value).startswith(said) and refused.value.code is ExitCode.USAGE


def test_the_job_of_a_cell_is_a_command() -> None:
    made = Cell(series="netlink", tests="burst", accel="tcg", seed=3).job("p", jobs=2, limit=60)
    assert made.argv == (
        *(PYTHON, "-m", "kpatch", "test", "--kernel", "7.3", "--series", "netlink"),
        *("--flavor", "plain", "--tests", "burst", "--accel", "tcg", "--jobs", "2", "--out", OUT),
    )
    assert (made.env, made.limit) == ({"SEED": "3"}, 60)


@pytest.mark.parametrize("kind", KINDS)
def test_commands_of_cells_have_these_options(kind: str) -> None:
    words = list(Cell(kind, mechanism="netlink", tests="x").job("p", jobs=1).argv[4:])
    parsed = cli.main.commands[kind].make_context(kind, words).params
    assert parsed["out"] == Path(OUT)
    assert "7.3" in parsed["kernel"]


def test_jobs_survive_the_way_as_text(tmp_path: Path) -> None:
    mail = tmp_path / "v2.mbox"
    mail.write_text("From x\n")
    made = cell.matrix(Axes(series=(str(mail),), mechanism="netlink"))
    [one] = made.cells
    sent = one.job("p", jobs=1)
    assert Job.load(sent.dump()) == sent
    assert sent.inputs == {"v2.mbox": one.mail} and made.mails == {one.mail: b"From x\n"}
    assert f"{INPUTS}/v2.mbox" in sent.argv
    mail.write_text("From y\n")
    [other] = cell.matrix(Axes(series=(str(mail),), mechanism="netlink")).cells
    assert other.key("p") != one.key("p"), "the content counts, not the name"


def test_keys_differ_in_every_field() -> None:
    other = Cell("check", "6.1", "x", "debug", "f", 2, "t", "m", "kvm", "d", "a.c:1: a ==> b")
    keys = {replace(Cell(), **{name: value}).key("p") for name, value in vars(other).items()}
    assert len(keys | {Cell().key("p"), Cell().key("q")}) == len(vars(other)) + 2


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_shards_are_a_partition(count: int) -> None:
    cells = cell.matrix(Axes(series=("all",), seeds=4)).cells
    shards = [cell.shard(cells, number, count) for number in range(1, count + 1)]
    assert [it for shard in shards for it in shard] == list(cells)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    kernels = sum(len({it.shared_kernel for it in shard}) for shard in shards)
    assert kernels <= len({it.shared_kernel for it in cells}) + count - 1


def test_planted_faults_are_cells() -> None:
    _, table = fault.load()
    made = cell.matrix(Axes(faults=("all",)))
    assert sorted(it.fault for it in made.cells) == sorted(row.name for row in table)
    assert {it.mail for it in made.cells} == set(made.mails)
    [one] = cell.matrix(Axes(faults=("value-is-saturated",), seeds=1)).cells
    words = one.job("p", jobs=1).argv
    assert f"{INPUTS}/faults-in-netlink.mbox" in words and "--no-control" in words
    assert words[words.index("--mechanism") + 1] == "netlink"
    assert one.build(jobs=1).argv[4:8] == ("--kernel", "7.3", "--series", "base")
    [whole] = cell.matrix(Axes(faults=("value-is-saturated",), whole=True)).cells
    assert one.tests and whole == replace(one, tests="")


def test_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path))
    words = ["matrix", "--list-json", "--seeds", "3", "--series", "base", "--shard", "2/3"]
    ended = CliRunner().invoke(cli.main, words)
    assert ended.exit_code == 0
    [row] = json.loads(ended.stdout)
    assert (row["seed"], row["series"], row["argv"][3]) == (2, "base", "test")


@pytest.mark.parametrize("shard", ["0/2", "3/2", "x", "1/", "1/2/3", "-1/2", "१/२"])
def test_bad_shard(shard: str) -> None:
    ended = CliRunner().invoke(cli.main, ["matrix", "--shard", shard])
    assert ended.exit_code == ExitCode.USAGE and "is not I/N" in ended.output


# ---- store --------------------------------------------------------------------------------------


def test_objects_are_found_by_content(store: Store) -> None:
    digest = store.put(b"content")
    assert store.put(b"content") == digest
    assert store.get(digest) == b"content"


def test_a_damaged_object_is_refused(store: Store) -> None:
    digest = store.put(b"content")
    [path] = Path(store.url).glob(f"objects/*/{digest}")
    path.write_bytes(b"other")
    with pytest.raises(HarnessError, match="is damaged"):
        store.get(digest)
    path.unlink()
    with pytest.raises(HarnessError, match="is missing"):
        store.get(digest)
    with pytest.raises(HarnessError, match="is no digest"):
        store.get("../../etc/passwd")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record, folder: (folder / f"cells/{KEY}.json").write_text("{"),
        lambda record, folder: (folder / f"cells/{KEY}.json").write_text(
            replace(record, key="f" * 16).dump()
        ),
        lambda record, folder: (folder / f"cells/{KEY}.json").write_text(
            replace(record, ending=Ending.TIMEOUT).dump()
        ),
        lambda record, folder: (folder / f"cells/{KEY}.json").write_text(
            replace(record, code=7).dump()
        ),
        lambda record, folder: next(folder.glob("objects/*/*")).unlink(),
    ],
    ids=["cut", "of another cell", "not done", "no result", "without a file"],
)
def test_a_damaged_record_is_none(store: Store, spoil: Any) -> None:
    record = Record(KEY, "x", Ending.DONE, 0, files={"x": store.put(b"x")})
    store.finish(record)
    assert store.record(KEY) == record
    spoil(record, Path(store.url))
    assert store.record(KEY) is None


def test_a_store_of_no_known_kind() -> None:
    with pytest.raises(HarnessError, match="no place that fsspec can use") as refused:
        Store("nonsense://x")
    assert refused.value.code is ExitCode.USAGE


# ---- jobs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *((code, Ending.DONE) for code in (0, 1, 3, 4, 5, 6, 8)),
        *((2, Ending.REFUSED), (7, Ending.FAILED), (130, Ending.FAILED), (-9, Ending.FAILED)),
    ],
)
def test_only_results_are_kept(store: Store, code: int, expected: Ending) -> None:
    script = f"exit {code}" if code >= 0 else f"kill {code} $$"
    found = run(shell(f"echo x > $1/x; echo the end; {script}", OUT), store)
    assert (found.ending, found.code) == (expected, code) and ending(code) is expected
    assert (store.record(found.key) is not None) == (expected is Ending.DONE)
    assert store.get(found.files["x"]) == b"x\n"
    assert store.get(found.files["cell.log"]) == b"the end\n"
    assert found.why == ("" if expected is Ending.DONE else "the end")


def test_what_is_in_the_store_is_not_run(store: Store, tmp_path: Path) -> None:
    once = shell("echo run >> $1", str(tmp_path / "count"))
    assert run(once, store) == run(once, store)
    assert (tmp_path / "count").read_text() == "run\n"


def test_no_shell_and_no_second_look(store: Store) -> None:
    """A placeholder is replaced once in a word; what looks like another one is left alone."""
    words = ("$(id)", "{out", f"{PYTHON}{PYTHON}")
    found = run(job("x", argv=("printf", "%s|", *words)), store)
    expected = f"$(id)|{{out|{sys.executable}{PYTHON}|"
    assert store.get(found.files["cell.log"]).decode() == expected


def test_the_environment_is_clean(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv(cache.ENVIRONMENT, "/cache")
    found = run(job("x", argv=("env",), env={"SEED": "7"}), store)
    lines = store.get(found.files["cell.log"]).decode().splitlines()
    assert {"SEED=7", "VFIO_ACPI_CACHE=/cache", "LC_ALL=C"} <= set(lines)
    assert not any(line.startswith("SECRET") for line in lines)


def test_a_changed_file_is_in_a_copy_of_the_project(store: Store) -> None:
    text = (ROOT / "uapi" / "eventq.py").read_text().replace("\nDEPTH = 256\n", "\nDEPTH = 4\n")
    script = "import uapi.eventq, kpatch.matrix; print(uapi.eventq.DEPTH)"
    copied = job("x", argv=(PYTHON, "-c", script), changed={"uapi/eventq.py": text})
    assert store.get(run(copied, store).files["cell.log"]) == b"4\n"
    assert "DEPTH = 256" in (ROOT / "uapi" / "eventq.py").read_text()


def test_links_and_large_files_are_not_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LARGEST", 10)
    script = "cd $1; mkdir a; echo 1 > a/b; ln -s /etc/passwd link; mkfifo pipe; seq 99 > large"
    found = run(shell(script, OUT), store)
    assert set(found.files) == {"cell.log", "a/b"} and found.left_out == ("large",)


def test_a_command_that_is_not_there(store: Store) -> None:
    found = run(job("x", argv=("/no/such/program",)), store)
    assert found.ending is Ending.FAILED and "/no/such/program" in found.why


def test_input_files_have_the_same_path(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a mailbox has the worktree of the one before; unless two run at a time."""
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))

    def path_of(content: bytes) -> str:
        inputs = {"x.mbox": store.put(content)}
        found = run(
            shell(
                "echo $1; cat $1",
                f"{INPUTS}/x.mbox",
                inputs=inputs,
                kept=True,
                key=cache.digest([content.decode()]),
            ),
            store,
        )
        path, _, rest = store.get(found.files["cell.log"]).decode().partition("\n")
        assert rest.encode() == content
        return path

    first = path_of(b"1")
    assert path_of(b"2") == first
    with cache.locked("matrix-0"):
        assert path_of(b"3") != first


@pytest.mark.parametrize("script", ["sleep 60 & wait", "trap '' TERM; sleep 60; sleep 60"])
def test_a_stopped_job_leaves_no_process(
    store: Store, tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kpatch.lib.process.GRACE_SECONDS", 0.3)
    pids = tmp_path / "pid"
    long = shell(f"echo $$ > {pids}; {script}")
    found: list[Record] = []
    thread = threading.Thread(target=lambda: found.append(run(long, store)))
    thread.start()
    while not (pids.exists() and pids.read_text()):
        time.sleep(0.01)
    worker.RUNNING.stop("other")
    worker.RUNNING.stop("job")
    thread.join(20)
    assert found[0].ending is Ending.CANCELLED
    assert in_group(int(pids.read_text())) == []


def in_group(group: int) -> list[int]:
    """Return the processes of a process group, without those that have ended (zombies)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, pgrp = path.read_text().rsplit(")", 1)[1].split()[:3]
            if int(pgrp) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


# ---- placing ------------------------------------------------------------------------------------


def test_a_kernel_is_built_once_and_its_jobs_run_there() -> None:
    builds = {name: job(f"build {name}", name, 100, kept=False) for name in ("a", "b")}
    jobs = [job(f"{name}{number}", name, 10) for name in ("a", "b") for number in range(3)]
    placing = Placing(jobs, builds)
    taken = [placing.take("one"), placing.take("two")]
    assert {it.name for it in taken if it} == {"build a", "build b"}
    assert placing.take("one") is None, "it had better wait for the kernel than build another"
    for host, built in zip(("one", "two"), taken, strict=True):
        assert built is not None
        placing.ended(built, host)
        for _ in range(3):
            ran = placing.take(host)
            assert ran is not None and ran.kernel == built.kernel
    assert not placing


def test_a_kernel_for_one_job_is_built_by_it() -> None:
    only = job("a1", "a")
    assert Placing([only], {"a": job("build", "a", kept=False)}).take("one") == only


def test_a_busy_kernel_is_built_on_another_host_too() -> None:
    build = job("build", "a", 10, kept=False)
    placing = Placing([job(str(number), "a", 10) for number in range(9)], {"a": build})
    assert placing.take("one") == placing.take("two") == build


def test_a_lost_host_has_no_kernels() -> None:
    build = job("build", "a", 10, kept=False)
    placing = Placing([job("1", "a"), job("2", "a")], {"a": build})
    assert placing.take("one") == build
    placing.ended(build, "one")
    placing.lost("one")
    assert placing.take("two") == build


def test_a_job_is_tried_a_limited_number_of_times() -> None:
    only = job("1")
    placing = Placing([only], {})
    for _ in range(TRIES - 1):
        assert placing.take("one") == only
        assert placing.again(only)
    assert placing.take("one") == only
    assert not placing.again(only)
    assert placing.take("one") is None


# ---- simulation ---------------------------------------------------------------------------------


def test_a_thousand_cells_on_many_workers() -> None:
    jobs, builds = simulation.recorded_jobs()
    assert len(jobs) == 1000
    rows = simulation.table(jobs, builds)
    assert [it.workers for it in rows] == [1, 2, 4, 8, 16, 32]
    assert all(it.efficiency >= 0.85 for it in rows), rows
    work = sum(it.seconds for it in jobs) + sum(it.seconds for it in builds.values())
    assert rows[0].seconds == pytest.approx(work), "one worker does all, and builds each once"
    assert all(it.efficiency <= 1.0001 for it in rows)


def test_simulated_times_can_be_computed_by_hand() -> None:
    """Two kernels of 10 s, four cells of 5 s each: 60 s alone; two hosts, one kernel each: 30 s."""
    builds = {name: job(name, name, 10, kept=False) for name in "ab"}
    jobs = [job(f"{name}{number}", name, 5) for name in "ab" for number in range(4)]
    assert simulation.simulate(jobs, builds, 1) == (60, 2)
    assert simulation.simulate(jobs, builds, 2) == (30, 2)


def test_the_command_prints_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path))
    ended = CliRunner().invoke(cli.main, ["matrix", "simulate"])
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("simulated: 1000 cells")
    assert lines[-1].split()[0] == "32" and float(lines[-1].split()[-1]) >= 0.85


# ---- merged report ------------------------------------------------------------------------------


def outcome(seed: int, tests: dict[str, str], **more: Any) -> CellResult:
    made = CellResult(Cell(seed=seed), f"{seed:016}", "pass", ok=True, tests=tests)
    return replace(made, **more)


def test_flaky_tests_are_named_with_their_outcomes() -> None:
    runs = [outcome(seed, {"base a": "pass", "base b": "pass"}) for seed in (1, 2, 3)]
    runs[1] = outcome(2, {"base a": "fail"})
    runs.append(outcome(4, {}, outcome="lost", ok=False))
    found = merge.flaky(runs[::-1])
    assert [(it.test, it.outcomes) for it in found] == [
        ("base a", ("pass", "fail", "pass")),
        ("base b", ("pass", "not run", "pass")),
    ]
    assert text.flaky_line(found[0]) == "test 7.3 base plain: base a: pass 2x, fail 1x (seed 2)"
    assert merge.flaky(runs[:1]) == [], "one run says nothing"


def test_cells_of_different_groups_are_not_compared() -> None:
    other = replace(outcome(1, {"a": "fail"}), cell=Cell(flavor="debug"))
    assert merge.flaky([outcome(1, {"a": "pass"}), other]) == []


@pytest.mark.parametrize(
    ("cells", "flaky", "code"),
    [
        ([("pass", True, Ending.DONE)], False, ExitCode.PASS),
        ([("pass", True, Ending.DONE)], True, ExitCode.FAIL),
        ([("pass", True, Ending.DONE), ("fail", False, Ending.DONE)], False, ExitCode.FAIL),
        ([("fail", False, Ending.DONE), ("timeout", False, Ending.TIMEOUT)], False, ExitCode.LOST),
        ([("pass", True, Ending.DONE), ("not run", False, None)], False, ExitCode.LOST),
    ],
)
def test_exit_code(
    cells: list[tuple[str, bool, Ending | None]], flaky: bool, code: ExitCode
) -> None:
    made = [
        CellResult(Cell(), KEY, word, ok, Record(KEY, "x", end) if end else None)
        for word, ok, end in cells
    ]
    found = (Flaky("g", "t", (1, 2), ("pass", "fail")),) if flaky else ()
    assert merge.Merged(tuple(made), found).exit_code is code


def stored(store: Store, it: Cell, *tests: tuple[str, Outcome], code: int = 0) -> str:
    """Put the result of a cell into the store; return its key."""
    judged = tuple(
        Judged(name, "REQ-EVT-10", it.series, found, Outcome.PASS, ok=found is Outcome.PASS)
        for name, found in tests
    )
    made = RunResult(
        ExitCode(code),
        it.flavor,
        "2026-01-01T00:00:00Z",
        1.0,
        KernelInfo("7.3.4", "debian", "t" * 16),
        (SeriesInfo(it.series, it.series, "", kernel_id="k"),),
        tests=judged,
    )
    digest = store.put(result.dump(made).encode())
    key = it.key("p")
    store.finish(Record(key, it.name, Ending.DONE, code, files={"result.json": digest}))
    return key


def test_merged_result_of_two_stores(store: Store, tmp_path: Path) -> None:
    """As of two shards; one cell has hung, and one has not run."""
    second = Store(str(tmp_path / "second"))
    cells = [Cell(seed=seed) for seed in (1, 2, 3, 4)]
    keyed = {it.key("p"): it for it in cells}
    stored(store, cells[0], ("t.py::a", Outcome.PASS), ("t.py::b", Outcome.PASS))
    stored(second, cells[1], ("t.py::a", Outcome.FAIL), ("t.py::b", Outcome.PASS), code=1)
    hung = Record(cells[2].key("p"), "x", Ending.TIMEOUT, why="took longer than 5 s")
    made = merge.merged(keyed, [store, second], {hung.key: hung})
    assert [(it.outcome, it.ok) for it in made.cells] == [
        *(("pass", True), ("fail", False), ("timeout", False), ("not run", False)),
    ]
    assert made.cells[1].bad == ("base t.py::a: fail",)
    assert [it.test for it in made.flaky] == ["base t.py::a"]
    assert made.exit_code is ExitCode.LOST
    told = text.render(made)
    assert "TIMEOUT test 7.3 base plain seed 3: took longer than 5 s" in told
    assert "FLAKY test 7.3 base plain: base t.py::a: pass 1x, fail 1x (seed 2)" in told
    page = html.render(made)
    assert "base t.py::a: fail" in page and "took longer than 5 s" in page
    assert "<script" not in page
    written = json.loads(merge.dump(made))
    assert [it["outcome"] for it in written["cells"]] == ["pass", "fail", "timeout", "not run"]


def test_a_planted_fault_has_to_show(store: Store) -> None:
    planted = Cell(fault="value-is-saturated")
    for tests, code, ok in (
        ([("a", Outcome.PASS), ("b", Outcome.FAIL)], 1, False),  # one requirement has both
        ([("b", Outcome.FAIL)], 1, False),  # and nothing holds
        ([("a", Outcome.PASS)], 0, False),
    ):
        stored(store, planted, *tests, code=code)
        [found] = merge.merged({planted.key("p"): planted}, [store], {}).cells
        assert found.ok is ok
    row = next(it for it in fault.load()[1] if it.name == "value-is-saturated")
    good = [Judged("a", "REQ-EVT-07", "x", Outcome.PASS, Outcome.PASS, ok=True)]
    bad = [Judged(it, it, "x", Outcome.FAIL, Outcome.PASS, ok=False) for it in row.breaks]
    ended = RunResult(ExitCode.FAIL, "plain", "", 0.0, tests=(*good, *bad))
    assert fault.shown(row, ended)
    assert not fault.shown(row, replace(ended, tests=tuple(bad)))
    assert not fault.shown(row, replace(ended, exit_code=ExitCode.CRASH))
    more = Judged("c", "REQ-INT-01", "x", Outcome.FAIL, Outcome.PASS, ok=False)
    assert not fault.shown(row, replace(ended, tests=(*ended.tests, more)))
    assert not fault.shown(row, replace(ended, tests=(*ended.tests, more)), whole=True)
    whole = replace(row, also=("REQ-INT-01",))
    assert fault.shown(whole, replace(ended, tests=(*ended.tests, more)), whole=True)
    assert not fault.shown(whole, ended, whole=True)


def test_seconds_of_planted_faults_are_told() -> None:
    cells = tuple(
        CellResult(
            Cell(fault=name), name, "fail", True, Record(name, name, Ending.DONE, 1, seconds)
        )
        for name, seconds in (("a", 12.5), ("b", 20.0), ("c", 44.25))
    )
    [line, _] = text.render(merge.Merged(cells, ())).splitlines()
    assert line == ("planted faults: median 20.0 s, slowest 44.2 s; 2 of 3 within the aim of 20 s")
    assert "median" not in text.render(merge.Merged((), ()))


def test_one_report_for_kcidb(store: Store) -> None:
    """Of all cells that judge a series; what a planted fault breaks is left out."""
    cells = [Cell(series=name) for name in ("base", "netlink")]
    cells += [Cell(series="netlink", seed=2), Cell(series="netlink", fault="value-is-saturated")]
    for it in cells:
        stored(store, it, ("t.py::a", Outcome.FAIL), code=1)
    keyed = {it.key("p"): it for it in cells}
    report = json.loads(kcidb.render(merge.merged(keyed, [store], {})))
    V5_3.validate(report)
    # The second seed began in the same second, so that its objects are the same ones.
    assert len(report["checkouts"]) == len(report["builds"]) == len(report["tests"]) == 2
    assert {it["status"] for it in report["tests"]} == {"FAIL"}
    assert json.loads(kcidb.render(merge.Merged((), ())))["tests"] == []


def test_what_a_guest_says_is_no_markup(store: Store) -> None:
    key = stored(store, Cell(), ("<b>\x1b[1m", Outcome.FAIL), code=1)
    made = merge.merged({key: Cell()}, [store], {})
    assert "<b>" not in html.render(made) and "\x1b" not in html.render(made) + text.render(made)


def test_a_complete_store_needs_no_cluster(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell, "project_id", lambda: "p")
    axes = Axes(series=("base",))
    stored(store, cell.matrix(axes).cells[0], ("t.py::a", Outcome.PASS))
    request = MatrixRequest(axes, stores=(store.url,))
    made = matrix_run.merged(request, tmp_path / "out")
    assert made.exit_code is ExitCode.PASS
    names = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert names == set(matrix_run.FORMATS)
