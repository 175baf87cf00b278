# SPDX-License-Identifier: GPL-2.0-only
"""kconfig: fragments, the three constructs and what they mean, explanations."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from kconfig import dotconfig, explain, fragment, remedy, selects, tree
from kconfig.errors import RequestError
from kconfig.fragment import SymbolRequest
from kconfig.release import release
from kconfig.tree import KernelKconfig
from kpatch.build import conf
from kpatch.tables.bases import BASES
from kpatch.tables.flavors import FLAVORS

DATA = Path(__file__).parent / "data" / "kconfig"


def parse(name: str, tmp_path: Path, *, version: str = "7.3") -> KernelKconfig:
    return tree.load(DATA / name, version=version, environment={}, cwd=tmp_path, shell=conf.shell)


def evaluate(
    name: str, asked: Mapping[str, str], tmp_path: Path, *, version: str = "7.3"
) -> dict[str, str]:
    kconfig = parse(name, tmp_path, version=version)
    tree.allnoconfig(kconfig, asked)
    return tree.values(kconfig)


def requests(*lines: str) -> dict[str, SymbolRequest]:
    asked = fragment.parse("\n".join(lines), name="test.config")
    return {it.symbol: it for it in fragment.settle(asked, "7.3")}


# Releases and fragments


@pytest.mark.parametrize(
    ("version", "expected"),
    [("6.12", (6, 12)), ("6.1.192", (6, 1)), ("7.4.0-rc2+", (7, 4)), ("7.10-rc1", (7, 10))],
)
def test_release_of_a_version(version: str, expected: tuple[int, int]) -> None:
    assert release(version) == expected


@pytest.mark.parametrize("version", ["", "7", "next", "v7.3", "7.x"])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(ValueError, match="no kernel version"):
        release(version)


DIRECTED = """\
CONFIG_ALWAYS=y
#: from 6.6
# why
CONFIG_NEW=y
#: before 6.2
CONFIG_OLD=y

# CONFIG_OFF is not set
#: from 6.2 before 7.0
CONFIG_BETWEEN=0x10
"""


@pytest.mark.parametrize(
    ("version", "symbols"),
    [
        ("6.1.192", {"ALWAYS", "OLD", "OFF"}),
        ("6.2.0-rc1", {"ALWAYS", "OFF", "BETWEEN"}),
        ("6.12", {"ALWAYS", "NEW", "OFF", "BETWEEN"}),
        ("7.3.4", {"ALWAYS", "NEW", "OFF"}),
    ],
)
def test_a_directive_holds_to_the_next_one_or_a_blank_line(version: str, symbols: set[str]) -> None:
    settled = fragment.settle(fragment.parse(DIRECTED, name="f"), version)
    assert {it.symbol for it in settled} == symbols


def test_the_last_request_for_a_symbol_counts_in_its_own_version_only() -> None:
    text = "CONFIG_X=y\n#: before 6.2\nCONFIG_X=n\n"
    for version, value in (("6.1", "n"), ("6.12", "y")):
        (request,) = fragment.settle(fragment.parse(text, name="f"), version)
        assert request.value == value


def test_a_request_knows_its_line_and_is_written_as_the_kernel_writes_it() -> None:
    text = '# a\nCONFIG_NAME="-a \\"b\\""\n# CONFIG_OFF is not set\nCONFIG_ALSO_OFF=n\n'
    asked = list(fragment.parse(text, name="f.config"))
    assert [it.where for it in asked] == ["f.config:2", "f.config:3", "f.config:4"]
    assert fragment.render(asked).splitlines() == [
        'CONFIG_NAME="-a \\"b\\""',
        "# CONFIG_OFF is not set",
        "# CONFIG_ALSO_OFF is not set",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "CONFIG_X",
        " CONFIG_X=y",
        "X=y",
        "CONFIG_X=yes",
        'CONFIG_X="open',
        "CONFIG_X=y # why",
        "CONFIG_X=$(shell,id)",
        "#: since 6.6",
        "#: from",
        "#: before six",
        "#:",
    ],
)
def test_a_line_outside_the_grammar_is_named(line: str) -> None:
    with pytest.raises(RequestError) as error:
        list(fragment.parse(f"# fine\n{line}\n", name="bad.config"))
    assert (error.value.what, error.value.cause) == ("bad.config:2", f"cannot read {line!r}")


def test_a_version_outside_the_grammar_is_named() -> None:
    with pytest.raises(RequestError, match="kernel version: 'six' is no kernel version"):
        fragment.settle([], "six")


@pytest.mark.parametrize(("content", "cause"), [(None, "No such file"), (b"\xff", "can't decode")])
def test_a_fragment_that_cannot_be_read(content: bytes | None, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "x.config"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=cause) as error:
        fragment.read(path)
    assert error.value.what == str(path)
    assert error.value.hint == "give a readable text file"


def test_an_unknown_fragment_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(
        RequestError, match=r"nonsense: there is no such file; .*acpi, acpi-off, core"
    ):
        fragment.stack(["nonsense"], "7.3")


@pytest.mark.parametrize("base", BASES)
def test_every_flavor_has_its_fragments_and_asks_for_vfio_pci(base: str) -> None:
    for flavor in FLAVORS.values():
        asked = {it.symbol: it.value for it in fragment.stack(flavor.fragments, base)}
        assert asked["VFIO_PCI"] == "y"
        assert ("VFIO_DEVICE_CDEV" in asked) == (release(base) >= (6, 6))


@pytest.mark.parametrize(
    ("asked", "got", "same"),
    [
        ("0x1", "0x01", True),
        ("0x1", "0x2", False),
        ("0x1f", "31", True),
        ("10", "0x10", False),
        ("8", "08", True),
        ("y", "n", False),
        ("8", '"8"', False),
        ("10", "1_0", False),
        ("-1", "-01", True),
    ],
)
def test_written_values_are_compared_by_meaning(asked: str, got: str, same: bool) -> None:
    assert dotconfig.same(asked, got) is same


def test_blanks_at_the_end_of_a_line_do_not_count() -> None:
    assert dotconfig.parse("CONFIG_A=y \r\n CONFIG_B=y\n") == {"A": "y"}


# The three constructs

# The values of PLAIN and similar symbols if y is requested, for each value of B. The three letters
# are for A=n, m and y. They are conf's answers; a test below asks conf for them.
LIMITS = {
    "PLAIN": {"n": "yyy", "m": "nmy", "y": "nmy"},
    "NEGATED": {"n": "nmy", "m": "yyy", "y": "yyy"},
    "GROUPED": {"n": "yyy", "m": "nmy", "y": "nmy"},
    "COMPARED": {"n": "yyy", "m": "yyy", "y": "nmy"},
}


@pytest.mark.parametrize("b", "nmy")
@pytest.mark.parametrize("symbol", LIMITS)
def test_depends_on_a_if_b_means_a_or_b_is_n(symbol: str, b: str, tmp_path: Path) -> None:
    got = ""
    for a in "nmy":
        asked = {"MODULES": "y", "A": a, "B": b, symbol: "y"}
        got += evaluate("conditional", asked, tmp_path).get(symbol, "n")
    assert got == LIMITS[symbol][b]


def test_a_condition_of_b_does_not_become_not_b(tmp_path: Path) -> None:
    """With A || !B, PLAIN could be m if A=n and B=m, because !m is m."""
    asked = {"MODULES": "y", "A": "n", "B": "m", "PLAIN": "m"}
    assert "PLAIN" not in evaluate("conditional", asked, tmp_path)


def test_parsing_keeps_the_line_numbers(tmp_path: Path) -> None:
    kconfig = parse("conditional", tmp_path)
    lines = (DATA / "conditional/Kconfig").read_text().splitlines()
    for symbol in kconfig.unique_defined_syms:
        (location,) = tree.locations(symbol)
        assert lines[int(location.removeprefix("Kconfig:")) - 1] == f"config {symbol.name}"


@pytest.mark.parametrize(("modules", "expected"), [("y", "m"), ("n", "y")])
def test_modules_marks_the_symbol_that_allows_m(
    modules: str, expected: str, tmp_path: Path
) -> None:
    asked = {"MODULES": modules, "DRIVER": "m", "ONLY_AS_MODULE": "m"}
    got = evaluate("modules", asked, tmp_path)
    assert got.get("ONLY_AS_MODULE", "n") == ("m" if modules == "y" else "n")
    assert got["DRIVER"] == expected


def test_an_old_config_counts_through_its_transitional_symbols(tmp_path: Path) -> None:
    kconfig = parse("transitional", tmp_path)
    tree.assign(kconfig, {"OLD_BOOL": "y", "OLD_INT": "7", "HIDDEN": "y"})
    assert tree.values(kconfig) == {"NEW_BOOL": "y", "NEW_INT": "7"}


def test_the_new_name_wins_over_the_transitional_one(tmp_path: Path) -> None:
    kconfig = parse("transitional", tmp_path)
    tree.assign(kconfig, {"OLD_BOOL": "y", "NEW_BOOL": "n", "OLD_INT": "7", "NEW_INT": "8"})
    assert tree.values(kconfig) == {"NEW_BOOL": "n", "NEW_INT": "8"}


def test_a_transitional_symbol_is_not_offered(tmp_path: Path) -> None:
    kconfig = parse("transitional", tmp_path)
    tree.assign(kconfig, {})
    told = explain.explanation(kconfig, "OLD_BOOL")
    assert "none, transitional" in told
    assert "no setting does it" in told


@pytest.mark.parametrize(("version", "expected"), [("7.3", "0"), ("6.11", "0"), ("6.10", "")])
def test_a_number_that_nothing_sets(version: str, expected: str, tmp_path: Path) -> None:
    kconfig = parse("transitional", tmp_path, version=version)
    tree.assign(kconfig, {})
    assert kconfig.syms["OLD_INT"].str_value == expected


@pytest.mark.parametrize(
    ("version", "picked"), [("7.3", "EVENTFD"), ("6.11", "EVENTFD"), ("6.10", "NETLINK")]
)
def test_whether_a_choice_honours_n(version: str, picked: str, tmp_path: Path) -> None:
    assert evaluate("stuck", {"NETLINK": "n"}, tmp_path, version=version)[picked] == "y"


# The requested values, and the members that are y.
CHOICES: tuple[tuple[dict[str, str], set[str]], ...] = (
    ({}, {"LEFT", "SECOND"}),
    ({"FIRST": "y"}, {"LEFT", "FIRST"}),
    ({"ON": "y"}, {"LEFT", "SECOND", "ALONE"}),
    ({"LEFT": "n"}, {"RIGHT", "SLOW", "SECOND"}),
    # The pick of the later choice makes the earlier one visible.
    ({"LEFT": "n", "SLOW": "n"}, {"RIGHT", "QUICK", "SECOND"}),
)


@pytest.mark.parametrize(("asked", "members"), CHOICES)
def test_members_of_choices(asked: dict[str, str], members: set[str], tmp_path: Path) -> None:
    got = evaluate("reasons", asked, tmp_path)
    kconfig = parse("reasons", tmp_path)
    assert {name for name in got if got[name] == "y" and kconfig.syms[name].choice} == members


def test_a_hex_number_that_nothing_sets(tmp_path: Path) -> None:
    assert evaluate("reasons", {}, tmp_path)["MASK"] == "0x0"


def test_quotes_in_a_string_are_kept(tmp_path: Path) -> None:
    text = '"say \\"b\\""'
    assert evaluate("mend", {"NAME": text}, tmp_path)["NAME"] == text


def test_loading_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    before = (dict(os.environ), Path.cwd())
    parse("stuck", tmp_path)
    assert (dict(os.environ), Path.cwd()) == before


# Explanations

STUCK = (
    "CONFIG_DRIVER=y",
    "CONFIG_LEGACY=y",
    "CONFIG_CORE=y",
    "CONFIG_QUEUE=32",
    "CONFIG_NOBODY_SELECTS=y",
    "CONFIG_NETLINK=y",
    "CONFIG_EVENTFD=y",
    "CONFIG_NOTIFI=y",
)


def stuck(lines: tuple[str, ...], tmp_path: Path, case: str = "stuck") -> str:
    """Return the explanation of every symbol of ``lines`` that did not stick in ``case``."""
    kconfig, asked = parse(case, tmp_path), requests(*lines)
    tree.allnoconfig(kconfig, {it.symbol: it.value for it in asked.values()})
    got = tree.values(kconfig)
    return "\n".join(
        explain.stuck(kconfig, it, got=got.get(it.symbol), requested=asked)
        for it in asked.values()
        if not dotconfig.same(it.value, got.get(it.symbol, "n"))
    )


def test_what_is_said_of_symbols_that_did_not_stick(tmp_path: Path) -> None:
    assert stuck(STUCK, tmp_path) == (DATA / "stuck/expected.txt").read_text()


def test_what_is_said_to_set_makes_it_stick(tmp_path: Path) -> None:
    mended = (
        "CONFIG_DRIVER=y",
        *("CONFIG_EXPERT=y", "CONFIG_BUS=y", "CONFIG_NOTIFY=y", "CONFIG_LEGACY=n"),
    )
    told = stuck(("CONFIG_DRIVER=y", "CONFIG_LEGACY=y"), tmp_path)
    assert f"set {', '.join(mended[1:])}\n" in told
    assert stuck(mended, tmp_path) == ""


@pytest.mark.parametrize(
    ("line", "cause", "hint"),
    [
        ("CONFIG_CORE=n", "selected by DRIVER", "set CONFIG_DRIVER=n"),
        ("CONFIG_HELPERS=n", "selected by DRIVER", "set CONFIG_DRIVER=n"),
        (
            "CONFIG_QUEUE=99",
            "the range is 1 to 64 (Kconfig:16)",
            "ask for a value that it can have",
        ),
        ("CONFIG_LEGACY=m", "a bool cannot be m", "ask for CONFIG_LEGACY=y"),
        ("CONFIG_EXPERT=5", "a bool cannot be 5", "ask for y or n"),
    ],
)
def test_the_cause_and_the_mend(line: str, cause: str, hint: str, tmp_path: Path) -> None:
    on = ("CONFIG_EXPERT=y", "CONFIG_BUS=y", "CONFIG_NOTIFY=y", "CONFIG_DRIVER=y")
    told = stuck((*on, line), tmp_path) if "EXPERT=5" not in line else stuck((line,), tmp_path)
    assert f"  cause       {cause}\n" in told
    assert f"  remedy      {hint}\n" in told


@pytest.mark.parametrize(
    ("line", "cause", "remedy"),
    [
        ("CONFIG_ALWAYS=n", "the default is y", "drop the request"),
        ("CONFIG_STAYS_OFF=y", "not met: ON [=n]", "set CONFIG_ON=y"),
        ('CONFIG_SIZE="many"', '"many" is no int', "ask for a value that it can have"),
        ("CONFIG_QUICK=y", 'not met: choice "How, on the right" [=n]', "set CONFIG_RIGHT=y"),
    ],
)
def test_the_cause_without_a_select(line: str, cause: str, remedy: str, tmp_path: Path) -> None:
    told = stuck((line,), tmp_path, "reasons")
    assert f"  cause       {cause}\n" in told
    assert f"  remedy      {remedy}" in told


@pytest.mark.parametrize(
    ("now", "symbol", "value"),
    [
        ("FRIEND=y", "POLITE", "y: implied by FRIEND"),
        ("FRIEND=y", "HUMBLE", "y: implied by FRIEND"),
        ("", "HUMBLE", "n: the default is n"),
        ("MODULES=y WEAK=m", "THREE", "m: selected by WEAK"),
        ("MODULES=y WEAK=m THREE=y", "THREE", "y: the .config has it"),
        ("MODULES=y WEAK=y THREE=m", "THREE", "y: selected by WEAK"),
        ("ON=y FRIEND=y", "BOTH", "y: the default is ON [=y] && FRIEND [=y]"),
        ("", "SECOND", "y: its choice has picked SECOND"),
        ("SECOND=y", "SECOND", "y: its choice has picked SECOND, the .config has it"),
        ("", "ALONE", "n: not met: ON [=n]"),
    ],
)
def test_where_a_value_comes_from(now: str, symbol: str, value: str, tmp_path: Path) -> None:
    kconfig = parse("reasons", tmp_path)
    tree.allnoconfig(kconfig, dict(word.split("=") for word in now.split()))
    assert f"  value       {value}\n" in explain.explanation(kconfig, symbol)


@pytest.mark.parametrize(
    ("now", "symbol", "value", "settings"),
    [
        ("", "IS_Y", "y", "A=y IS_Y=y"),
        ("", "IS_M", "y", "A=m IS_M=y"),
        ("A=y", "IS_M", "y", "A=m IS_M=y"),
        ("A=y", "IS_N", "y", "A=n IS_N=y"),
        ("", "IS_SET", "y", "A=m IS_SET=y"),
        # The user has to solve other comparisons.
        ("A=y", "IS_NOT_Y", "y", None),
        ("", "IS_NAMED", "y", None),
        ("A=y B=y", "NOT_BOTH", "y", "A=n NOT_BOTH=y"),
        ("A=y B=y", "NEITHER", "y", "A=n B=n NEITHER=y"),
        ("B=y", "NEITHER", "y", "B=n NEITHER=y"),
        ("", "UNLESS_NOT", "y", None),
        ("A=m", "UNLESS_NOT", "y", "B=y UNLESS_NOT=y"),
        ("", "BY_DEFAULT", "y", "B=y"),
        ("FIRST=y", "WITHOUT_FIRST", "y", "SECOND=y WITHOUT_FIRST=y"),
        ("FIRST=y", "FIRST", "n", "SECOND=y"),
        ("SECOND=y", "SECOND", "n", "FIRST=y"),
        ("FIRST=y", "THIRD", "y", "B=y THIRD=y"),
        ("", "NAME", "that", "NAME=that"),
        ("A=y", "A", "n", "A=n"),
        ("MODULES=n", "A", "m", "MODULES=y A=m"),
        ("NEEDS_FLOOR=y", "FLOOR", "m", "NEEDS_FLOOR=m FLOOR=m"),
        ("NEEDS_HIDDEN=y", "HIDDEN_FLOOR", "n", "NEEDS_HIDDEN=n A=m HIDDEN_FLOOR=n"),
        ("B=m WITH_B=m", "WITH_B", "n", "WITH_B=n"),
        ("", "ONLY_ONE", "y", "A=y ONLY_ONE=y"),
    ],
)
def test_what_there_is_to_set(
    now: str, symbol: str, value: str, settings: str | None, tmp_path: Path
) -> None:
    kconfig = parse("mend", tmp_path)
    given = {"MODULES": "y", **dict(word.split("=") for word in now.split())}
    tree.allnoconfig(kconfig, given)
    found = remedy.settings(kconfig, kconfig.syms[symbol], value)
    assert found == (settings and tuple(tuple(word.split("=")) for word in settings.split()))
    if found is not None:
        got = evaluate("mend", {**_but_choice(given), **dict(found)}, tmp_path)
        assert got.get(symbol, "n").strip('"') == value


def _but_choice(given: Mapping[str, str]) -> dict[str, str]:
    """Return the values that were set, without the choice (only one of its symbols can be y)."""
    return {name: value for name, value in given.items() if name not in ("FIRST", "SECOND")}


def test_what_a_command_prints_is_one_line(tmp_path: Path) -> None:
    """As in the kernel's conf (expand_string() in scripts/kconfig/preprocess.c)."""
    assert parse("mend", tmp_path).syms["VERSION_TEXT"].str_value == "one two"


def test_a_command_gets_the_source_and_keeps_its_blanks(tmp_path: Path) -> None:
    sources = []

    def shell(command: str, *, source: Path) -> str:
        sources.append(source)
        return "one\ntwo \n\n"

    kconfig = tree.load(DATA / "mend", version="7.3", environment={}, cwd=tmp_path, shell=shell)
    assert kconfig.syms["VERSION_TEXT"].str_value == "one two "
    assert sources == [DATA / "mend"]


def test_no_modules_is_a_cause(tmp_path: Path) -> None:
    kconfig, asked = parse("modules", tmp_path), requests("CONFIG_ONLY_AS_MODULE=m")
    tree.allnoconfig(kconfig, {"ONLY_AS_MODULE": "m"})
    told = explain.stuck(kconfig, asked["ONLY_AS_MODULE"], got=None, requested=asked)
    assert "there are no modules: MODULES [=n]" in told
    assert "set CONFIG_MODULES=y" in told


def test_an_explanation_shows_the_dependencies_with_their_values(tmp_path: Path) -> None:
    kconfig, asked = parse("stuck", tmp_path), requests("CONFIG_LEGACY=y")
    tree.allnoconfig(kconfig, {"LEGACY": "y"})
    told = explain.explanation(kconfig, "CONFIG_NOTIFY", requested=asked)
    assert told == (DATA / "stuck/explained.txt").read_text()


def test_explanations_of_all_kinds(tmp_path: Path) -> None:
    """Defaults, choices, comparisons, selections. A long list of unset symbols is cut."""
    kconfig, asked = parse("mend", tmp_path), requests("CONFIG_B=y", "CONFIG_EITHER=y")
    given = {"MODULES": "y", "FIRST": "y", **{it.symbol: it.value for it in asked.values()}}
    tree.allnoconfig(kconfig, given)
    told = (DATA / "mend/explained.txt").read_text()
    symbols = re.findall(r"^CONFIG_(\w+)$", told, re.MULTILINE)
    assert len(symbols) == 9
    assert "".join(explain.explanation(kconfig, name, requested=asked) for name in symbols) == told


def test_an_unknown_symbol_is_an_error_that_names_near_ones(tmp_path: Path) -> None:
    kconfig = parse("stuck", tmp_path)
    with pytest.raises(RequestError, match=r"CONFIG_NETLNK: .*NETLINK"):
        explain.explanation(kconfig, "CONFIG_NETLNK")
    with pytest.raises(RequestError, match="NOBODY_SELECTS"):
        explain.explanation(kconfig, "SELECTS")
    with pytest.raises(RequestError, match="no known one is near"):
        explain.explanation(kconfig, "COMPILE_TEST")
    kconfig = parse("mend", tmp_path)
    with pytest.raises(RequestError) as error:
        explain.explanation(kconfig, "OOR")
    assert error.value.hint.endswith(": FLOOR, NEEDS_FLOOR, HIDDEN_FLOOR"), "the shortest first"
    with pytest.raises(RequestError) as error:
        explain.explanation(kconfig, "USER")
    assert error.value.hint.count("USER") == 6, "three near ones, three that contain it"


# The requests, the symbol that is asked about, and the explanation of its value. The numbers are
# lines of the data file: line 6 defines INSIDE, and so on.
HELD = (
    ((), "INSIDE", "20: the default is 20"),
    ((), "ABOVE", "64: the default is 100; the range 1 to 64 (Kconfig:11) makes it 64"),
    ((), "BELOW", "0x10: the default is 0x1; the range 0x10 to 0xff (Kconfig:16) makes it 0x10"),
    ((), "NOTHING", "8: nothing gives it a value; the range 8 to 64 (Kconfig:21) makes it 8"),
    ((), "HIDDEN", "64: the default is 100; the range 1 to 64 (Kconfig:40) makes it 64"),
    ((), "FREE", "5: the default is 5"),
    ((), "CONDITIONAL", "64: the default is 500; the range 1 to 64 (Kconfig:25) makes it 64"),
    (("CONFIG_WIDE=y",), "CONDITIONAL", "500: the default is 500"),
    (("CONFIG_INSIDE=33",), "INSIDE", "33: asked for at test.config:1"),
    (
        ("CONFIG_INSIDE=99",),
        "INSIDE",
        "64: asked for at test.config:1 as 99; the range 1 to 64 (Kconfig:6) makes it 64",
    ),
    (
        ("CONFIG_BELOW=0xfff",),
        "BELOW",
        "0xff: asked for at test.config:1 as 0xfff; "
        "the range 0x10 to 0xff (Kconfig:16) makes it 0xff",
    ),
    (
        ("CONFIG_LIMITED=60",),
        "LIMITED",
        "50: asked for at test.config:1 as 60; the range 1 to LIMIT [=50] (Kconfig:35) makes it 50",
    ),
    (("CONFIG_LIMITED=60", "CONFIG_LIMIT=70"), "LIMITED", "60: asked for at test.config:1"),
    (
        ("CONFIG_WIDE=y", "CONFIG_INNER=-9"),
        "INNER",
        "-5: asked for at test.config:2 as -9; the range -5 to 5 (Kconfig:51) makes it -5",
    ),
    (("CONFIG_INNER=2",), "INNER", "not in the .config: not met: WIDE [=n]"),
    (("CONFIG_BELOW=0x010",), "BELOW", "0x010: asked for at test.config:1"),
    (("CONFIG_BELOW=0x0ff",), "BELOW", "0x0ff: asked for at test.config:1"),
    (("CONFIG_OUTER=0",), "OUTER", "0: asked for at test.config:1"),
    (
        ("CONFIG_OUTER=60", "CONFIG_LOWER=70"),
        "OUTER",
        "50: asked for at test.config:1 as 60; the range 0 to LOWER [=50] (Kconfig:58) makes it 50",
    ),
)


@pytest.mark.parametrize(("lines", "symbol", "value"), HELD)
def test_a_value_that_a_range_makes(
    lines: tuple[str, ...], symbol: str, value: str, tmp_path: Path
) -> None:
    kconfig, asked = parse("ranges", tmp_path), requests(*lines)
    tree.allnoconfig(kconfig, {it.symbol: it.value for it in asked.values()})
    assert f"  value       {value}\n" in explain.explanation(kconfig, symbol, requested=asked)


@pytest.mark.parametrize(("wide", "counting"), [("n", "1 to 64"), ("y", "1 to 1000")])
def test_which_range_counts(wide: str, counting: str, tmp_path: Path) -> None:
    kconfig, asked = parse("ranges", tmp_path), requests(f"CONFIG_WIDE={wide}")
    tree.allnoconfig(kconfig, {"WIDE": wide})
    told = explain.explanation(kconfig, "CONDITIONAL", requested=asked)
    first, second = ("counts", "does not count")[:: 1 if wide == "y" else -1]
    assert f"  range       1 to 1000 if WIDE [={wide}] (Kconfig:25): {first}\n" in told
    assert f"  range       1 to 64 (Kconfig:25): {second}\n" in told
    assert f"  to set      CONFIG_CONDITIONAL=…, from {counting}\n" in told


OLD = {
    "7.3": "64: the .config has it as 99; the range 1 to 64 (Kconfig:6) makes it 64",
    "6.11": "64: the .config has it as 99; the range 1 to 64 (Kconfig:6) makes it 64",
    "6.10": "20: the .config has it as 99, out of its range, which does not count; "
    "the default is 20",
}


@pytest.mark.parametrize("version", OLD)
def test_a_number_of_a_config_that_is_out_of_its_range(version: str, tmp_path: Path) -> None:
    kconfig = parse("ranges", tmp_path, version=version)
    tree.assign(kconfig, {"INSIDE": "99", "FREE": "7"})
    assert f"  value       {OLD[version]}\n" in explain.explanation(kconfig, "INSIDE")
    assert "  value       7: the .config has it\n" in explain.explanation(kconfig, "FREE")


def test_a_range_up_to_a_number_that_is_out_of_its_own_range(tmp_path: Path) -> None:
    kconfig = parse("ranges", tmp_path)
    tree.assign(kconfig, {"OUTER": "60", "LOWER": "70"})
    assert (kconfig.syms["OUTER"].str_value, kconfig.syms["LOWER"].str_value) == ("50", "50")


def test_a_file_in_latin_1_is_read_as_conf_does(tmp_path: Path) -> None:
    text = 'config A\n\tbool "Stra\xdfe und \u017b"\n\thelp\n\t  \xe4\n'
    raw = text.encode("utf-8").replace("\xdf".encode(), b"\xdf").replace("\xe4".encode(), b"\xe4")
    (tmp_path / "Kconfig").write_bytes(raw)
    kconfig = tree.load(tmp_path, version="7.3", environment={}, cwd=tmp_path, shell=conf.shell)
    tree.assign(kconfig, {"A": "y"})
    told = explain.explanation(kconfig, "A")
    assert '  prompt      "Stra\xdfe und \u017b"\n' in told


# Against the kernel's own conf


@dataclass(frozen=True)
class Parsed:
    """A kernel tree's Kconfig files, parsed once, and the folder in which its conf is built."""

    base: str
    source: Path
    out: Path
    kconfig: KernelKconfig

    def conf(self, asked: Mapping[str, str], *settings: str) -> dict[str, str]:
        """Return the .config that the tree's conf makes of the requests ``asked``."""
        file = self.out / "asked.config"
        file.write_text(dotconfig.render(asked.items()))
        settings = (*settings, f"KCONFIG_ALLCONFIG={file}")
        argv = conf.command("allnoconfig", *settings, source=self.source, out=self.out)
        conf.run(argv, source=self.source, out=self.out)
        return dotconfig.parse((self.out / ".config").read_text())

    def ours(self, asked: Mapping[str, str]) -> dict[str, str]:
        """Return the .config that the resolver makes of the same requests."""
        for item in (*self.kconfig.unique_defined_syms, *self.kconfig.unique_choices):
            item.unset_value()
        tree.allnoconfig(self.kconfig, asked)
        return tree.values(self.kconfig)


# Selects


@pytest.mark.parametrize(
    ("selecting", "selected", "missing"),
    [
        ("FREE", "S2IDLE", ("SUSPEND",)),
        ("FREE", "EITHER", ("SUSPEND || ARM64",)),
        ("FREE", "FULFILLED", ()),
        ("FREE", "HIDDEN", ("SUSPEND", "NET")),
        ("FREE", "X86", ()),
        ("CONDITION", "S2IDLE", ()),
        ("CONDITION", "EITHER", ()),
        ("DEPENDS", "S2IDLE", ()),
        ("DEPENDS", "HIDDEN", ()),
        ("SELECTS", "S2IDLE", ()),
        ("INSIDE", "S2IDLE", ()),
        ("OTHER", "S2IDLE", ()),
        ("FREE", "NEVER", ()),
    ],
)
def test_what_a_select_leaves_unmet(
    tmp_path: Path, selecting: str, selected: str, missing: tuple[str, ...]
) -> None:
    assert selects.unmet(parse("selects", tmp_path), selecting, selected) == missing


@pytest.fixture(scope="module")
def parsed(kernel_tree: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    base, source = kernel_tree
    out = tmp_path_factory.mktemp(f"conf-{base}")
    variables = conf.variables(source=source, out=out)
    kconfig = tree.load(source, version=base, environment=variables, cwd=out, shell=conf.shell)
    return Parsed(base, source, out, kconfig)


@pytest.mark.trees
def test_the_resolver_agrees_with_conf_on_every_symbol_of_every_flavor(parsed: Parsed) -> None:
    for flavor in FLAVORS.values():
        asked = {it.symbol: it.value for it in fragment.stack(flavor.fragments, parsed.base)}
        real = parsed.conf(asked)
        assert len(real) > 1000
        assert parsed.ours(asked) == real


@pytest.mark.trees
def test_the_resolver_agrees_with_conf_on_choices_and_modules(parsed: Parsed) -> None:
    """Cases that no flavor has: modules, members of choices that are n, another default."""
    asked = dotconfig.parse((DATA / "odd.config").read_text())
    assert parsed.ours(asked) == parsed.conf(asked)


@pytest.mark.trees
def test_no_request_of_a_flavor_is_for_an_unknown_symbol(parsed: Parsed) -> None:
    for flavor in FLAVORS.values():
        for request in fragment.stack(flavor.fragments, parsed.base):
            assert tree.defined(parsed.kconfig, request.symbol), request


@pytest.mark.trees
def test_the_environment_is_the_one_that_the_makefile_exports(parsed: Parsed) -> None:
    variables = conf.variables(source=parsed.source, out=parsed.out)
    assert {"CC", "LD", "HOSTCC", "RUSTC", "PAHOLE", "KERNELVERSION"} <= variables.keys()
    assert (variables["SRCARCH"], variables["srctree"]) == ("x86", str(parsed.source))
    assert variables["CC_VERSION_TEXT"] == parsed.kconfig.syms["CC_VERSION_TEXT"].str_value
    assert variables["KERNELVERSION"].startswith(parsed.base)


@pytest.mark.trees
def test_conf_itself_means_the_same_by_an_old_number(parsed: Parsed, tmp_path: Path) -> None:
    copy = parsed.out / "ranges.Kconfig"
    copy.write_text((DATA / "ranges/Kconfig").read_text())
    old = "CONFIG_INSIDE=99\nCONFIG_BELOW=0x1\nCONFIG_LIMITED=60\nCONFIG_FREE=7\n"
    old += "CONFIG_OUTER=60\nCONFIG_LOWER=70\n"
    (parsed.out / ".config").write_text(old)
    setting = f"KBUILD_KCONFIG={copy}"
    argv = conf.command("olddefconfig", setting, source=parsed.source, out=parsed.out)
    conf.run(argv, source=parsed.source, out=parsed.out)
    kconfig = parse("ranges", tmp_path, version=parsed.base)
    tree.assign(kconfig, dotconfig.parse(old))
    assert tree.values(kconfig) == dotconfig.parse((parsed.out / ".config").read_text())


CONDITIONAL = tuple(
    ("conditional", {"MODULES": "y", "A": a, "B": b} | dict.fromkeys([*LIMITS, "TWICE"], asked))
    for a in "nmy"
    for b in "nmy"
    for asked in "my"
)
TRANSITIONAL = (
    ("transitional", {"OLD_BOOL": "y", "OLD_INT": "7"}),
    ("transitional", {"OLD_BOOL": "y", "NEW_BOOL": "n", "NEW_INT": "8"}),
)
EVERYWHERE = (
    ("modules", {"MODULES": "y", "DRIVER": "m", "ONLY_AS_MODULE": "m"}),
    ("modules", {"MODULES": "n", "DRIVER": "m", "ONLY_AS_MODULE": "m"}),
    ("stuck", {"NETLINK": "n"}),
    ("stuck", {"NETLINK": "n", "EVENTFD": "n"}),
    ("stuck", {"EVENTFD": "n", "NETLINK": "n"}),
    ("stuck", {"EXPERT": "y", "BUS": "y", "NOTIFY": "y", "DRIVER": "y", "QUEUE": "9"}),
    *(("ranges", dict(line[7:].split("=") for line in lines)) for lines, _, _ in HELD),
    *(("reasons", asked) for asked, _ in CHOICES),
)


@pytest.mark.trees
def test_conf_itself_means_the_same_by_the_three_constructs(parsed: Parsed, tmp_path: Path) -> None:
    """Two constructs, and the order of n in a choice, are tested only if the release has them."""
    new = (*CONDITIONAL, *TRANSITIONAL) if release(parsed.base) >= (7, 3) else ()
    for name, asked in (*EVERYWHERE, *new):
        # Copy the file to a folder that the confined conf can read.
        copy = parsed.out / f"{name}.Kconfig"
        copy.write_text((DATA / name / "Kconfig").read_text())
        real = parsed.conf(asked, f"KBUILD_KCONFIG={copy}")
        assert evaluate(name, asked, tmp_path, version=parsed.base) == real, (name, asked)
