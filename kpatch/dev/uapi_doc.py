# SPDX-License-Identifier: GPL-2.0-only
"""docs/uapi.md, made from what it is the reference of: the requirements and the suite.

The prose is the template's (docs/uapi.md.j2); sentences, mechanisms, limits, tests and faults come
from where they are used, so that the document cannot say what is not so.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kpatch.lib import template
from kpatch.tables import bases
from kpatch.tables.mechanisms import MECHANISMS
from kpatch.tables.paths import KTESTS, PROJECT
from kpatch.verdict import requirements
from kpatch.verdict.requirements import Requirement
from ktests.contract import ANY

TEMPLATE = PROJECT / "docs" / "uapi.md.j2"
DOCUMENT = PROJECT / "docs" / "uapi.md"
SUITE = KTESTS
FAULTS = PROJECT / "tests" / "data" / "faults" / "faults.toml"

# The middle of an id, and what the requirements under it are about; in the document's order.
AREAS: dict[str, str] = {
    "EVT": "Format",
    "INT": "Introspection",
    "ISO": "Isolation",
    "DEL": "Delivery",
    "LIF": "Life cycle",
    "ERR": "Errors",
}


@dataclass(frozen=True)
class Entry:
    """A requirement with the tests that show it, and how each was seen to fail."""

    requirement: Requirement
    tests: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def promised(self) -> str:
        """Who is held to it, in words."""
        if ANY in self.requirement.needs:
            return "every kernel"
        words = ["no mechanism" if name == "none" else name for name in self.requirement.needs]
        return " and ".join(words)

    @property
    def seen_failing(self) -> str:
        """The kernels that break it; "" if there is none, which no requirement may have."""
        kernels = [] if {ANY, "none"} & set(self.requirement.needs) else ["the unpatched kernel"]
        if "none" in self.requirement.needs:
            others = (name for name in MECHANISMS if name not in self.requirement.needs)
            kernels += [f"a kernel with the {name} series" for name in others]
        return ", ".join([*kernels, *(f"`{name}`" for name in self.faults)])


def entries(table: Mapping[str, Requirement] | None = None) -> dict[str, list[Entry]]:
    """The requirements by the title of their area."""
    table = table or requirements.load()
    shown, broken = tests(), faults()
    made: dict[str, list[Entry]] = {title: [] for title in AREAS.values()}
    for name, requirement in table.items():
        title = AREAS[name.split("-")[1]]
        made[title].append(
            Entry(requirement, tuple(shown.get(name, ())), tuple(broken.get(name, ())))
        )
    return made


def tests(suite: Path = SUITE) -> dict[str, list[str]]:
    """The tests by the requirement that they are marked with: "test_format.py::test_value"."""
    found: dict[str, list[str]] = {}
    for path in sorted(suite.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for name in _marked(node):
                    found.setdefault(name, []).append(f"{path.name}::{node.name}")
    return found


def faults(path: Path = FAULTS) -> dict[str, list[str]]:
    """The planted faults by the requirement that they break."""
    found: dict[str, list[str]] = {}
    for name, fault in tomllib.loads(path.read_text(encoding="utf-8")).items():
        for requirement in fault["breaks"]:
            found.setdefault(requirement, []).append(name)
    return found


def render() -> str:
    """The document; jinja2.TemplateError if the template is wrong."""
    *others, last = bases.BASES
    listed = f"{', '.join(others)} and {last}"
    return template.render(TEMPLATE, areas=entries(), bases=listed)


def _marked(test: ast.FunctionDef) -> Iterator[str]:
    """The ids in ``@pytest.mark.requirement("…")``."""
    for decorator in test.decorator_list:
        if not isinstance(decorator, ast.Call):
            continue
        if ast.unparse(decorator.func) == "pytest.mark.requirement":
            yield from (str(ast.literal_eval(word)) for word in decorator.args)
