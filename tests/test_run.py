# SPDX-License-Identifier: GPL-2.0-only
"""The frame of a run: however it ends, result.json records it. No kernel is built."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kpatch import pipeline
from kpatch.build import kernel, worktree
from kpatch.errors import HarnessError
from kpatch.lib.progress import Progress
from kpatch.model import Applied, Origin, Series, Tree
from kpatch.report.result import SeriesInfo
from kpatch.run import runner
from kpatch.run.protocol import Detected, Hello, Transcript
from kpatch.run.vm_run import Ending, VmRun
from kpatch.series import catalog
from kpatch.source import resolve
from kpatch.tables.outcomes import ExitCode


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def progress() -> Progress:
    return Progress(file=io.StringIO())


def written(out: Path) -> dict[str, object]:
    data = json.loads((out / "result.json").read_text())
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        (pipeline.RunRequest(flavor="nonsense"), "FLAVOR=nonsense"),
        (pipeline.RunRequest(kernel="9.9"), "KERNEL=9.9"),
    ],
)
def test_failed_stage_is_a_result(
    tmp_path: Path, progress: Progress, request_: pipeline.RunRequest, what: str
) -> None:
    out = tmp_path / "out"
    outcome = pipeline.run(request_, out, progress)
    assert outcome.exit_code is ExitCode.USAGE
    assert outcome.error is not None and outcome.error.what == what
    data = written(out)
    assert (data["exit_code"], data["verdict"]) == (2, "usage")
    assert data["tests"] == [], "and no test passes"
    assert (out / "junit.xml").is_file()


def test_unknown_flavor_is_told_before_anything_is_fetched(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "resolve", lambda *a, **k: pytest.fail("fetched"))
    outcome = pipeline.run(pipeline.RunRequest(flavor="nonsense"), tmp_path / "out", progress)
    assert outcome.exit_code == ExitCode.USAGE
    assert "nonsense" in str(outcome.error)


def test_interrupted_run_leaves_a_result(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Tree:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resolve, "resolve", interrupted)
        pipeline.run(pipeline.RunRequest(), tmp_path / "out", progress)
    assert written(tmp_path / "out")["exit_code"] == ExitCode.INTERRUPTED
    # The folder is free for the next run.
    outcome = pipeline.run(pipeline.RunRequest(kernel="9.9"), tmp_path / "out", progress)
    assert written(tmp_path / "out")["exit_code"] == outcome.exit_code == ExitCode.USAGE


def test_foreign_file_in_out_is_left_alone(tmp_path: Path, progress: Progress) -> None:
    (tmp_path / "result.json").write_text("mine")
    with pytest.raises(HarnessError, match="not from a run of this harness") as refused:
        pipeline.run(pipeline.RunRequest(kernel="9.9"), tmp_path, progress)
    assert refused.value.code is ExitCode.USAGE
    assert (tmp_path / "result.json").read_text() == "mine"


def test_control_comes_first() -> None:
    names = pipeline.RunRequest().names()
    assert names == (catalog.BASE, "eventfd", "eventq", "netlink")
    chosen = pipeline.RunRequest(series=("netlink",)).names()
    assert chosen == ("netlink",)


def test_all_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those without patches for the kernel are left out, but not if they are named or default."""
    text = io.StringIO()
    progress = Progress(file=text)

    def names(*series: str) -> list[str]:
        return pipeline.Pipeline(pipeline.RunRequest(series=series), progress).names()

    monkeypatch.setattr(pipeline.Pipeline, "source", lambda self: SimpleNamespace(base="7.3"))
    monkeypatch.setattr(catalog, "default", lambda: ["eventq"])
    monkeypatch.setattr(catalog, "ready", lambda: ["eventq", "old", "new"])
    monkeypatch.setattr(catalog, "has_patches", lambda name, base: name not in ("eventq", "old"))
    assert names() == ["base", "eventq"]
    assert names("all") == ["base", "eventq", "new"]
    assert "left out, without patches for 7.3: old\n" in text.getvalue()
    assert names("all", "old") == ["base", "eventq", "old", "new"]
    assert names("netlink", "all") == ["netlink", "base", "eventq", "new"]
    assert names("all", "x.mbox") == ["base", "eventq", "new", "x.mbox"]
    assert names("old", "base") == ["old", "base"]


@pytest.mark.parametrize(
    ("series_", "control", "names"),
    [
        (("x.mbox",), True, ("base", "x.mbox")),
        (("netlink", "./x"), True, ("base", "netlink", "./x")),
        (("x.mbox", "base"), True, ("base", "x.mbox")),
        (("x.mbox",), False, ("x.mbox",)),
    ],
)
def test_a_series_from_a_file_is_held_against_the_control(
    series_: tuple[str, ...], control: bool, names: tuple[str, ...]
) -> None:
    assert pipeline.RunRequest(series=series_, control=control).names() == names


@pytest.mark.parametrize(
    ("origin", "there", "fails", "built"),
    [
        (Origin.MBOX, False, False, ["base", "x"]),
        (Origin.MBOX, False, True, ["base", "x"]),
        (Origin.MBOX, True, False, ["x"]),
        (Origin.CARRIED, False, False, ["x"]),
    ],
)
def test_series_from_a_file_starts_with_the_objects_of_the_base(
    monkeypatch: pytest.MonkeyPatch, origin: Origin, there: bool, fails: bool, built: list[str]
) -> None:
    done = []

    def build(applied: Applied, *_: Any, **__: Any) -> Any:
        done.append(applied.series.name)
        if fails and applied.series.name == "base":
            raise HarnessError("build", "a.c: error", hint="see", code=ExitCode.BUILD)
        return SimpleNamespace(cached=False)

    monkeypatch.setattr(worktree, "has_objects", lambda *_: there)
    monkeypatch.setattr(kernel, "build", build)
    monkeypatch.setattr(pipeline.Pipeline, "config", lambda *_: None)
    tree = Tree(Path("/tree"), "7.3.4", "7.3", "folder", {}, "0" * 16, cached=True)
    applied = Applied(tree, Series("x", "x", "netlink", (), origin), (), (), "")
    pipeline.Pipeline(pipeline.RunRequest(), Progress()).build(applied)
    assert done == built


@pytest.mark.parametrize(
    ("wanted", "others", "negative"),
    [
        (True, (), None),
        (True, ("netlink",), ("netlink",)),
        (True, ("netlink", "eventfd", "netlink"), ("eventfd", "netlink")),
        (True, ("netlink", "undetected"), None),
        (True, ("unknown",), None),
        (False, ("netlink",), ()),
        (False, (), ()),
    ],
)
def test_run_decides_what_the_control_has_to_fail(
    monkeypatch: pytest.MonkeyPatch,
    wanted: bool,
    others: tuple[str, ...],
    negative: tuple[str, ...] | None,
) -> None:
    selections: list[runner.Selection] = []

    def run(_: object, selection: runner.Selection, *__: object, **___: object) -> list[VmRun]:
        selections.append(selection)
        return []

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(pipeline.Pipeline, "selftests", lambda *_: None)
    monkeypatch.setattr(pipeline.Pipeline, "machine", lambda *_: None)
    steps = pipeline.Pipeline(pipeline.RunRequest(negative=wanted), Progress())
    steps.state.series = [SeriesInfo(name, name, name) for name in ("none", *others)]
    applied = SimpleNamespace(series=catalog.CONTROL)
    ran = steps.test(SimpleNamespace(applied=applied), None)  # type: ignore[arg-type]
    assert [selection.negative for selection in selections] == [negative]
    assert ran.negative == negative


def test_the_config_is_each_series_own_also_where_it_does_not_build() -> None:
    found = pipeline.RunState(configs={"a": "1" * 16, "b": "2" * 16})
    infos = [SeriesInfo(name, name, "none") for name in "abc"]
    told = [pipeline._as_built(info, found) for info in infos]
    assert [info.config_id for info in told] == ["1" * 16, "2" * 16, None]
    assert [info.kernel_id for info in told] == [None] * 3


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        ("7.3", "7.3"),
        ("/srv/my linux@v7.3-rc1", "srv-my-linux-v7.3-rc1"),
        ("../../etc", "etc"),
        ("..", "kernel"),
        ("", "kernel"),
        ("a\nb", "a-b"),
    ],
)
def test_folder_name(kernel: str, name: str) -> None:
    assert pipeline.folder_name(kernel) == name


def test_two_kernels_have_two_folders() -> None:
    names = pipeline.folder_names(["a/b", "a-b", "7.3", "a b", "a/b"])
    assert names == {"a/b": "a-b", "a-b": "a-b-2", "7.3": "7.3", "a b": "a-b-3"}


@pytest.mark.parametrize(
    ("declared", "found", "mechanism", "detected"),
    [
        ("undetected", Detected("eventfd", "by its sign"), "eventfd", "by its sign"),
        ("undetected", None, "unknown", "the guest did not report a mechanism"),
        # The guest only looked for contradictions, and found none.
        ("netlink", Detected("undetected", "index 5 is not there"), "netlink", ""),
    ],
)
def test_only_what_was_looked_for_is_called_detected(
    declared: str, found: Detected | None, mechanism: str, detected: str
) -> None:
    told = Transcript(hello=Hello(1, "7.3.4", "3.11.2"), detected=found)
    judged = pipeline.series_run("x", declared, [VmRun(told, (), Ending.DONE)])
    assert (judged.mechanism, judged.detected) == (mechanism, detected)


def test_the_command_that_repeats_tells_no_password() -> None:
    request = pipeline.RunRequest(kernel="https://me:s3cret@example.org/x.tar.xz#sha256=12")
    words = request.command(catalog.CONTROL)
    assert words[words.index("--kernel") + 1] == "https://example.org/x.tar.xz#sha256=12"
    assert pipeline.folder_name(request.kernel) == "https-example.org-x.tar.xz-sha256-12"
