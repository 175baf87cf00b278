# SPDX-License-Identifier: GPL-2.0-only
"""kpatch.build.config: a flavor's .config, cached, and compared with the request."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from kconfig import dotconfig, fragment
from kpatch.build import conf, config
from kpatch.errors import HarnessError
from kpatch.lib.stage import Silent
from kpatch.model import Config
from kpatch.tables.flavors import FLAVORS, Flavor
from kpatch.tables.outcomes import ExitCode

DATA = Path(__file__).parent / "data" / "kconfig"
TEST = Flavor("test", "for the tests", ("test",))


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(folder))
    return folder


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fragment of the flavor ``TEST``, which each test writes."""
    folder = tmp_path / "fragments"
    folder.mkdir()
    monkeypatch.setattr(fragment, "FOLDER", folder)
    return folder / "test.config"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tree whose Makefile grants every symbol except DRIVER. Nothing may change the tree."""
    return Path(shutil.copytree(DATA / "stuck", tmp_path / "tiny"))


def resolve(source: Path, *, version: str = "7.3", source_id: str = "tree") -> Config:
    return config.resolve(
        source=source, source_id=source_id, version=version, flavor=TEST, stage=Silent()
    )


def test_a_config_is_made_once_for_what_it_depends_on(tiny: Path, asking: Path) -> None:
    asking.write_text("CONFIG_EXPERT=y\n")
    first = resolve(tiny)
    assert (first.cached, first.text, first.flavor) == (False, "CONFIG_EXPERT=y\n", "test")
    second = resolve(tiny)
    assert (second.cached, second.config_id) == (True, first.config_id)
    assert not resolve(tiny, source_id="another tree").cached
    asking.write_text("# another comment\nCONFIG_EXPERT=y\n")
    assert resolve(tiny).cached
    asking.write_text("CONFIG_EXPERT=y\nCONFIG_BUS=y\n")
    other = resolve(tiny)
    assert not other.cached
    assert other.config_id != first.config_id


def test_the_commands_repeat_the_stage(tiny: Path, asking: Path, tmp_path: Path) -> None:
    asking.write_text("CONFIG_EXPERT=y\n")
    for _ in ("made", "cached"):
        stage = Silent()
        config.resolve(source=tiny, source_id="t", version="7.3", flavor=TEST, stage=stage)
        allno, olddef = (line.split() for line in stage.commands)
        assert (allno[-1], olddef[-1]) == ("allnoconfig", "olddefconfig")
        (setting,) = (word for word in allno if word.startswith("KCONFIG_ALLCONFIG="))
        asked = Path(setting.partition("=")[2])
        assert asked.read_text() == "CONFIG_EXPERT=y\n"
        assert conf.resolve(asked, source=tiny, out=tmp_path) == "CONFIG_EXPERT=y\n"


def test_a_symbol_that_did_not_stick_stops_the_run_and_leaves_nothing(
    tiny: Path, asking: Path, private_cache: Path
) -> None:
    asking.write_text("CONFIG_EXPERT=y\nCONFIG_DRIVER=y\n")
    before = sorted(tiny.iterdir())
    with pytest.raises(HarnessError) as error:
        resolve(tiny)
    assert error.value.code is ExitCode.BUILD
    assert "\n" not in str(error.value)
    assert "flavor test for Linux 7.3: did not stick: CONFIG_DRIVER=y (test.config:2)" in str(
        error.value
    )
    assert "EXPERT" not in str(error.value)
    assert "cause       not met: NOTIFY [=n]\n" in error.value.details
    assert "remedy      set CONFIG_BUS=y, CONFIG_NOTIFY=y\n" in error.value.details
    assert list((private_cache / "config").glob("*/config")) == []
    assert sorted(tiny.iterdir()) == before


def test_off_is_not_granted_to_a_symbol_that_does_not_exist(tiny: Path, asking: Path) -> None:
    (tiny / "Makefile").write_text("%:\n\tcd $(O) && touch .config && env -0 >conf.environment\n")
    asking.write_text("# CONFIG_LEGACY is not set\n# CONFIG_LEGASY is not set\n")
    with pytest.raises(HarnessError) as error:
        resolve(tiny)
    assert "did not stick: CONFIG_LEGASY=n (test.config:2);" in str(error.value)
    assert "LEGACY" in error.value.details


def test_kconfig_files_that_kconfiglib_cannot_read_hide_nothing(tiny: Path, asking: Path) -> None:
    (tiny / "Kconfig").write_text("config DRIVER\n\tbool\n\tunheard-of\n")
    asking.write_text("CONFIG_DRIVER=y\n")
    with pytest.raises(HarnessError, match="did not stick: CONFIG_DRIVER=y") as error:
        resolve(tiny)
    assert "Kconfig:3" in error.value.details
    with pytest.raises(HarnessError, match="Kconfig:3") as error:
        explain(tiny, "DRIVER")
    assert error.value.code is ExitCode.BUILD


def test_a_folder_that_cannot_be_configured(tmp_path: Path, asking: Path) -> None:
    asking.write_text("CONFIG_EXPERT=y\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HarnessError, match="No rule to make target") as error:
        resolve(tmp_path / "empty")
    assert error.value.code is ExitCode.BUILD


MAKE = (
    "make[3]: *** [{source}/scripts/kconfig/Makefile:85: allnoconfig] Error 1\n"
    "make: *** [Makefile:260: __sub-make] Error 2"
)
LINE = "correct that line; the whole output is above"


@pytest.mark.parametrize(
    ("said", "told", "hint"),
    [
        (
            "drivers/vfio/Kconfig:12: syntax error\n"
            f"drivers/vfio/Kconfig:11: invalid statement\n{MAKE}",
            "drivers/vfio/Kconfig:12: syntax error",
            LINE,
        ),
        # A sourced file may have any name.
        (
            f'drivers/in.config:3: can\'t open file "x"\n{MAKE}',
            'drivers/in.config:3: can\'t open file "x"',
            LINE,
        ),
        (
            f"drivers/vfio/Kconfig:9: this needs more\n{MAKE}",
            "drivers/vfio/Kconfig:9: this needs more",
            LINE,
        ),
        (
            "init/Kconfig:2: careful\ndrivers/vfio/Kconfig:7:warning: prompt redefined\n"
            f"drivers/vfio/Kconfig:9: this needs more\n{MAKE}",
            "drivers/vfio/Kconfig:9: this needs more",
            LINE,
        ),
        (
            f"drivers/vfio/Kconfig:5: error: repeated inclusion of x\n"
            f"drivers/vfio/Kconfig:4: note: location of first inclusion of x\n{MAKE}",
            "drivers/vfio/Kconfig:5: error: repeated inclusion of x",
            LINE,
        ),
        # 6.1, 6.12 and 7.3
        (
            f"drivers/vfio/Kconfig:5:error: recursive dependency detected!\n"
            f"drivers/vfio/Kconfig:5:\tsymbol A depends on B\n{MAKE}",
            "drivers/vfio/Kconfig:5:error: recursive dependency detected!",
            LINE,
        ),
        (
            f"error: recursive dependency detected!\n\tsymbol A depends on B\n{MAKE}",
            "error: recursive dependency detected!",
            "correct the Kconfig files that the output above names",
        ),
        (
            f"{{source}}/scripts/kconfig/conf.c:12:5: error: expected ';'\n{MAKE}",
            "scripts/kconfig/conf.c:12:5: error: expected ';'",
            LINE,
        ),
        (
            f"/bin/sh: 1: flex: not found\n{MAKE}",
            "flex: not found",
            "install the Debian package flex",
        ),
        (
            f"sh: line 1: bison: command not found\n{MAKE}",
            "bison: command not found",
            "install the Debian package bison",
        ),
        (
            f"***\n*** The source tree is not clean, run mrproper\n*** in {{source}}\n{MAKE}",
            "The source tree is not clean, run mrproper",
            "take out of the tree what a build makes: .config, include/config, include/generated",
        ),
        (
            f"/bin/sh: 1: cp: not found\n{MAKE}",
            "/bin/sh: 1: cp: not found",
            "see the whole output above",
        ),
        (
            MAKE,
            "make: *** [Makefile:260: __sub-make] Error 2",
            "see the whole output above",
        ),
    ],
)
def test_the_cause_is_told_in_the_line(
    said: str, told: str, hint: str, tmp_path: Path, asking: Path
) -> None:
    asking.write_text("CONFIG_EXPERT=y\n")
    text = said.replace("{source}", str(tmp_path))
    (tmp_path / "said").write_text(f"  HOSTCC scripts/basic/fixdep\n{text}\n")
    (tmp_path / "Makefile").write_text("%onfig:\n\t@cat said; false\n")
    with pytest.raises(HarnessError) as error:
        resolve(tmp_path)
    # The last line is make's own: "make: *** [Makefile:2: allnoconfig] Error 1"
    if said == MAKE:
        told = "make: *** [Makefile:2: allnoconfig] Error 1"
    assert str(error.value) == f"make allnoconfig: exit status 2: {told}; {hint}"
    command, output = error.value.details.split("\n", 1)
    assert "KCONFIG_ALLCONFIG=" in command
    assert "  HOSTCC scripts/basic/fixdep\n" in output
    assert str(tmp_path / "s") not in output


BROKEN = {
    "a message of its own": (
        'config A\n\tbool "a"\n\tdefault $(error-if,y,a wants more)\n',
        "Kconfig:3: a wants more",
    ),
    "a file that is not there": (
        'source "no/such"\n',
        'Kconfig:1: can\'t open file "no/such"',
    ),
}


@pytest.mark.trees
@pytest.mark.parametrize("kind", BROKEN)
def test_what_the_kernels_own_conf_says_is_told(
    kind: str, kernel_tree: tuple[str, Path], asking: Path, tmp_path: Path
) -> None:
    _, source = kernel_tree
    text, told = BROKEN[kind]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/Kconfig").write_text(text)
    settings = f"KBUILD_KCONFIG={tmp_path}/out/Kconfig"
    argv = conf.command("allnoconfig", settings, source=source, out=tmp_path / "out")
    with pytest.raises(HarnessError) as error:
        conf.run(argv, source=source, out=tmp_path / "out")
    assert f"exit status 2: {tmp_path}/out/{told}; {LINE}" in str(error.value)


def test_a_value_that_is_no_utf_8_is_told_as_such(tmp_path: Path, asking: Path) -> None:
    asking.write_text("CONFIG_EXPERT=y\n")
    (tmp_path / "got").write_bytes(b'CONFIG_EXPERT=y\nCONFIG_NAME="Stra\xdfe"\n')
    (tmp_path / "Makefile").write_text("%onfig:\n\tcp got $(O)/.config\n")
    with pytest.raises(HarnessError, match="CONFIG_NAME: its value has letters that are no UTF-8"):
        resolve(tmp_path)


def test_want_of_space_is_not_the_kernels_fault(tmp_path: Path, asking: Path) -> None:
    asking.write_text("CONFIG_EXPERT=y\n")
    (tmp_path / "Makefile").write_text(
        "%onfig:\n\techo 'conf.o: No space left on device'; exit 1\n"
    )
    with pytest.raises(HarnessError, match="space") as error:
        resolve(tmp_path)
    assert error.value.code is ExitCode.LOST


def test_what_the_user_has_set_for_other_builds_does_not_count(
    tiny: Path, asking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ARCH", "KCONFIG_CONFIG", "MAKEFLAGS", "CROSS_COMPILE"):
        monkeypatch.setenv(name, "nonsense")
    asking.write_text("CONFIG_EXPERT=y\n")
    assert resolve(tiny).text == "CONFIG_EXPERT=y\n"


def explain(source: Path, *symbols: str, text: str | None = None) -> str:
    return config.explanations(
        symbols,
        source=source,
        source_id="tree",
        version="7.3",
        flavor=TEST,
        text=text,
        stage=Silent(),
    )


def test_an_explanation_is_of_the_flavor_or_of_a_given_config(tiny: Path, asking: Path) -> None:
    asking.write_text("CONFIG_EXPERT=y\n")
    assert "value       y: asked for at test.config:1\n" in explain(tiny, "EXPERT")
    assert "value       n: no fragment asks for it\n" in explain(tiny, "CONFIG_BUS")
    told = explain(tiny, "EXPERT", "BUS", text="CONFIG_BUS=y\n")
    assert "CONFIG_EXPERT\n" in told
    assert "value       y: the .config has it\n" in told


@pytest.mark.parametrize(
    ("wanted", "symbols", "values"),
    [
        ("", ["DRIVER"], {"BUS": "y", "EXPERT": "y", "NOTIFY": "y", "DRIVER": "y"}),
        ("CONFIG_BUS=y\n", ["NOTIFY"], {"EXPERT": "y", "NOTIFY": "y"}),
        (
            "CONFIG_LEGACY=y\nCONFIG_EXPERT=y\nCONFIG_BUS=y\n",
            ["DRIVER"],
            {"NOTIFY": "y", "LEGACY": "n", "DRIVER": "y"},
        ),
        # Settings that were found for one symbol count for the next.
        ("", ["BUS", "NOTIFY"], {"BUS": "y", "EXPERT": "y", "NOTIFY": "y"}),
        # What cannot be switched on, or is not defined, is asked for alone.
        ("", ["NOBODY_SELECTS", "UNKNOWN"], {"NOBODY_SELECTS": "y", "UNKNOWN": "y"}),
    ],
    ids=["dependencies", "only what is missing", "an opposite", "several", "impossible"],
)
def test_symbols_are_switched_on_with_what_they_need(
    tiny: Path, asking: Path, wanted: str, symbols: list[str], values: dict[str, str]
) -> None:
    asking.write_text(wanted)
    assert switched_on(tiny, symbols) == values


def test_symbols_that_are_kept_are_not_switched(tiny: Path, asking: Path) -> None:
    asking.write_text("CONFIG_BUS=y\n")
    kept = switched_on(tiny, ["NOTIFY"], kept=("EXPERT", "COMPILE_TEST"))
    assert kept == {"NOTIFY": "y"}


def switched_on(source: Path, symbols: list[str], kept: tuple[str, ...] = ()) -> dict[str, str]:
    return config.switched_on(
        symbols,
        kept=kept,
        source=source,
        source_id="tree",
        version="7.3",
        flavor=TEST,
        stage=Silent(),
    )


def test_an_unknown_symbol_exits_2(tiny: Path, asking: Path) -> None:
    asking.write_text("")
    with pytest.raises(HarnessError, match="LEGACY") as error:
        explain(tiny, "CONFIG_LEGASY")
    assert error.value.code is ExitCode.USAGE


def test_a_bad_fragment_exits_2(tiny: Path, asking: Path) -> None:
    asking.write_text("CONFIG_EXPERT\n")
    for call in (lambda: resolve(tiny), lambda: explain(tiny, "EXPERT")):
        with pytest.raises(HarnessError, match=r"^test\.config:1: cannot read .*; write ") as error:
            call()
        assert error.value.code is ExitCode.USAGE


@pytest.mark.trees
def test_the_plain_flavor_of_a_real_tree(kernel_tree: tuple[str, Path]) -> None:
    base, source = kernel_tree
    before = sorted(os.listdir(source))  # noqa: PTH208 # names are enough
    first = resolve_plain(base, source)
    begun = time.monotonic()
    second = resolve_plain(base, source)
    seconds = time.monotonic() - begun
    assert (first.cached, second.cached) == (False, True)
    assert first.text == second.text
    assert seconds < 0.1
    assert sorted(os.listdir(source)) == before  # noqa: PTH208
    got = dotconfig.parse(first.text)
    for symbol in ("VFIO_PCI", "ACPI_DEBUGGER_USER", "INTEL_IOMMU", "MAGIC_SYSRQ_SERIAL"):
        assert got[symbol] == "y"
    assert got["LOCALVERSION"] == '"-vfio-acpi"'
    assert got["LOCALVERSION_AUTO"] == "n"


def resolve_plain(base: str, source: Path) -> Config:
    return config.resolve(
        source=source, source_id="real", version=base, flavor=FLAVORS["plain"], stage=Silent()
    )


@pytest.mark.trees
def test_a_real_tree_says_why_a_symbol_did_not_stick(
    kernel_tree: tuple[str, Path], asking: Path
) -> None:
    base, source = kernel_tree
    asking.write_text("CONFIG_64BIT=y\nCONFIG_VFIO_PCI=y\n")
    with pytest.raises(HarnessError, match="did not stick: CONFIG_VFIO_PCI=y") as error:
        resolve(source, version=base)
    assert error.value.code is ExitCode.BUILD
    assert "defined     drivers/vfio/pci/Kconfig:" in error.value.details
    assert "PCI [=n]" in error.value.details
    assert "CONFIG_PCI=y" in error.value.details
