# SPDX-License-Identifier: GPL-2.0-only
"""Generate the documents of the uAPI: the contract, the mechanisms, and the evidence.

The prose is in the templates (docs/NAME.md.j2). Sentences, mechanisms, limits, tests, faults and
errnos are read from the files that the harness uses, so that the documents cannot differ from them.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kpatch.dev import errnos
from kpatch.lib import template
from kpatch.tables import bases
from kpatch.tables.mechanisms import MECHANISMS, RECOMMENDED
from kpatch.tables.paths import KTESTS, PROJECT
from kpatch.verdict import requirements
from kpatch.verdict.requirements import Requirement
from ktests.contract import ANY, HOST, NONE

DOCS = PROJECT / "docs"
DOCUMENTS = tuple(DOCS / f"{name}.md" for name in ("uapi", "mechanisms", "evidence"))
SUITE = KTESTS
HOST_SUITE = PROJECT / "tests"
FAULTS = PROJECT / "tests" / "data" / "faults" / "faults.toml"
VMM_FAULTS = PROJECT / "tests" / "data" / "vmm-faults.toml"

# The middle part of a requirement's id, and the title of its section, in the document's order.
AREAS: dict[str, str] = {
    "EVT": "Format",
    "INT": "Introspection",
    "ISO": "Isolation",
    "DEL": "Delivery",
    "LIF": "Life cycle",
    "ERR": "Errors",
    "VMM": "The VMM's side",
}


# The mechanisms in the order of the documents: the recommended one first.
ORDER = (RECOMMENDED, *(name for name in MECHANISMS if name != RECOMMENDED))


@dataclass(frozen=True)
class Entry:
    """A requirement, its tests ("test_f.py::test_g"), and the planted faults that break it.

    ``faults`` has the names of the faults by the series that they are planted in, "base" for the
    unpatched kernel, "the relay" for uapi/vmm/.
    """

    requirement: Requirement
    tests: tuple[str, ...]
    faults: Mapping[str, tuple[str, ...]]

    @property
    def on_host(self) -> bool:
        """Return whether the requirement is about the VMM's relay, and not about a kernel."""
        return HOST in self.requirement.needs

    @property
    def promised(self) -> str:
        """Return in words which kernels have to meet the requirement: "netlink and eventfd"."""
        if ANY in self.requirement.needs:
            return "every kernel"
        if self.on_host:
            return "the VMM's relay; tested on the host, without a kernel of its own"
        words = ["no mechanism" if name == NONE else name for name in self.requirement.needs]
        return " and ".join(words)

    @property
    def seen_failing(self) -> str:
        """Return in words on which kernels the requirement's tests fail; "" if there are none.

        These are the unpatched kernel or kernels with other mechanisms, and planted faults. Each
        requirement has to have at least one, as evidence that its tests can fail.
        """
        kernels = (
            [] if {ANY, HOST, NONE} & set(self.requirement.needs) else ["the unpatched kernel"]
        )
        if NONE in self.requirement.needs:
            others = (name for name in MECHANISMS if name not in self.requirement.needs)
            kernels += [f"a kernel with the {name} series" for name in others]
        planted = (
            f"{series} with {' or '.join(f'`{name}`' for name in names)}"
            for series, names in self.faults.items()
        )
        return "; ".join([*kernels, *planted])

    def cell(self, mechanism: str) -> str:
        """Return in a word whether the mechanism meets the requirement; "" if it does not apply."""
        if mechanism in self.requirement.limits:
            return "no"
        return "yes" if self.requirement.promised_by(mechanism) else ""


def entries(table: Mapping[str, Requirement] | None = None) -> dict[str, list[Entry]]:
    """Return the requirements, each as an Entry, by the title of their section of the document.

    ``table`` has the requirements by id; None means ktests/requirements.toml.
    """
    table = table or requirements.load()
    on_host = {name: [f"tests/{it}" for it in found] for name, found in tests(HOST_SUITE).items()}
    shown = tests() | on_host
    broken = faults() | faults(VMM_FAULTS)
    made: dict[str, list[Entry]] = {title: [] for title in AREAS.values()}
    for name, requirement in table.items():
        title = AREAS[name.split("-")[1]]
        made[title].append(Entry(requirement, tuple(shown.get(name, ())), broken.get(name, {})))
    return made


def tests(suite: Path = SUITE) -> dict[str, list[str]]:
    """Return the tests in the folder ``suite`` by the id of the requirement in their mark.

    A test is "test_format.py::test_value".
    """
    by_requirement: dict[str, list[str]] = {}
    for path in sorted(suite.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for name in _marked(node):
                    by_requirement.setdefault(name, []).append(f"{path.name}::{node.name}")
    return by_requirement


def faults(path: Path = FAULTS) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the planted faults in the file ``path``: requirement that they break, series, names.

    The file's table ``sample`` is not a fault and breaks nothing: it has tests that run with each
    fault. A fault without a series is one of the relay.
    """
    broken: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, fault in tomllib.loads(path.read_text(encoding="utf-8")).items():
        for requirement in fault.get("breaks", ()):
            planted = broken.setdefault(requirement, {})
            place = fault.get("series", "the relay")
            planted[place] = (*planted.get(place, ()), name)
    return broken


def linked(name: str) -> str:
    """Return the Markdown link to a requirement in the evidence, by the end of its id ("DEL-15").

    KeyError if there is no such requirement.
    """
    requirement = requirements.load()[f"REQ-{name}"]
    return f"[{name}](evidence.md#{requirement.id.lower()})"


def render(document: Path) -> str:
    """Return the new text of one of `DOCUMENTS`; jinja2.TemplateError if its template is wrong."""
    *others, last = bases.BASES
    return template.render(
        DOCS / f"{document.name}.j2",
        areas=entries(),
        bases=f"{', '.join(others)} and {last}",
        calls=errnos.load(),
        mechanisms=ORDER,
        req=linked,
    )


def _marked(test: ast.FunctionDef) -> Iterator[str]:
    """Yield the ids of requirements in the test's decorator ``@pytest.mark.requirement("…")``."""
    for decorator in test.decorator_list:
        if not isinstance(decorator, ast.Call):
            continue
        if ast.unparse(decorator.func) == "pytest.mark.requirement":
            yield from (str(ast.literal_eval(word)) for word in decorator.args)
