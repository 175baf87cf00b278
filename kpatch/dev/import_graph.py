# SPDX-License-Identifier: GPL-2.0-only
"""The picture of the imports in docs/architecture.md, made from the code.

    python -m kpatch.dev.import_graph

writes the part of the document between the markers anew. The order that the picture shows is held
by the contracts of import-linter in pyproject.toml.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Set

import grimp

from kpatch.tables.paths import PROJECT

DOCUMENT = PROJECT / "docs" / "architecture.md"
BEGIN, END = "<!-- imports: python -m kpatch.dev.import_graph -->", "<!-- end of imports -->"

PACKAGES = ("kconfig", "kpatch", "ktests", "uapi")

# What the host imports of the guest's side stands apart in the picture.
CONTRACT = "ktests.contract"

Graph = Mapping[str, Set[str]]
"""What each node imports."""


def node(module: str) -> str:
    """Return the node of the picture that ``module`` is part of: "run", "kconfig", ….

    Nodes are the packages and modules of kpatch, the other packages, and CONTRACT.
    """
    package, *rest = module.split(".")
    if package == "kpatch" and rest:
        return rest[0]
    return CONTRACT if module == CONTRACT else package


def imports() -> dict[str, set[str]]:
    """Return which nodes import which, from the source files of the project."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    nodes: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        nodes[node(module)] |= {
            node(imported) for imported in graph.find_modules_directly_imported_by(module)
        }
    del nodes["kpatch"]  # its __init__.py: the version alone
    return {name: imported - {name, "kpatch"} for name, imported in nodes.items()}


def reduced(graph: Graph) -> dict[str, set[str]]:
    """Return ``graph`` without the imports that a longer way leads to as well.

    It has no circle (a contract of import-linter).
    """
    return {
        name: {
            imported
            for imported in direct
            if not any(imported in _reached(graph, other) for other in direct - {imported})
        }
        for name, direct in graph.items()
    }


def _reached(graph: Graph, start: str) -> set[str]:
    """Return all that ``start`` imports, directly or not."""
    reached: set[str] = set()
    left = [start]
    while left:
        for imported in graph[left.pop()] - reached:
            reached.add(imported)
            left.append(imported)
    return reached


def mermaid(graph: Graph) -> str:
    """Return ``graph`` as a flowchart of Mermaid, importers above what they import."""
    lines = [
        f"    {name} --> {imported}"
        for name, direct in sorted(graph.items())
        for imported in sorted(direct)
    ]
    return "\n".join(["flowchart TD", *lines])


def render(document: str) -> str:
    """Return the text of the document with the picture of the code as it is."""
    picture = f"{BEGIN}\n```mermaid\n{mermaid(reduced(imports()))}\n```\n{END}"
    pattern = f"{re.escape(BEGIN)}.*{re.escape(END)}"
    made, count = re.subn(pattern, lambda _: picture, document, flags=re.DOTALL)
    assert count == 1, f"{DOCUMENT.name} has the markers once"
    return made


def main() -> None:
    """Write the document anew."""
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(render(document), encoding="utf-8")


if __name__ == "__main__":
    main()
