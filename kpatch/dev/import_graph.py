# SPDX-License-Identifier: GPL-2.0-only
"""Draw the graph of the project's imports in docs/architecture.md, from the code.

    python -m kpatch.dev.import_graph

rewrites the part of the document between the two markers. The contracts of import-linter in
pyproject.toml decide which imports are allowed.
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

# The only module of the guest's side that the host imports is a node of its own.
CONTRACT = "ktests.contract"

Graph = Mapping[str, Set[str]]
"""The names of the nodes that a node imports, by its name."""


def node(module: str) -> str:
    """Return the name of the node for ``module``, a dotted name.

    It is "run" for "kpatch.run.console", CONTRACT for that module, and the top package for others:
    "uapi" for "uapi.probe".
    """
    package, *rest = module.split(".")
    if package == "kpatch" and rest:
        return rest[0]
    return CONTRACT if module == CONTRACT else package


def imports() -> dict[str, set[str]]:
    """Return the nodes that each node imports, from the source files of the project."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    nodes: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        nodes[node(module)] |= {
            node(imported) for imported in graph.find_modules_directly_imported_by(module)
        }
    del nodes["kpatch"]  # its __init__.py: the version alone
    return {name: imported - {name, "kpatch"} for name, imported in nodes.items()}


def reduced(graph: Graph) -> dict[str, set[str]]:
    """Return the transitive reduction of ``graph``: without edges that a longer path replaces.

    ``graph`` must have no cycle; a contract of import-linter forbids them.
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
    """Return the nodes that ``start`` imports, directly or indirectly."""
    reached: set[str] = set()
    pending = [start]
    while pending:
        for imported in graph[pending.pop()] - reached:
            reached.add(imported)
            pending.append(imported)
    return reached


def mermaid(graph: Graph) -> str:
    """Return ``graph`` as a Mermaid flowchart; an arrow leads from the importer to the import."""
    lines = [
        f"    {name} --> {imported}"
        for name, direct in sorted(graph.items())
        for imported in sorted(direct)
    ]
    return "\n".join(["flowchart TD", *lines])


def render(document: str) -> str:
    """Return ``document`` with a new picture between BEGIN and END.

    AssertionError unless ``document`` has this pair of markers once.
    """
    picture = f"{BEGIN}\n```mermaid\n{mermaid(reduced(imports()))}\n```\n{END}"
    pattern = f"{re.escape(BEGIN)}.*{re.escape(END)}"
    made, count = re.subn(pattern, lambda _: picture, document, flags=re.DOTALL)
    assert count == 1, f"{DOCUMENT.name} has the markers once"
    return made


def main() -> None:
    """Rewrite the picture in docs/architecture.md."""
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(render(document), encoding="utf-8")


if __name__ == "__main__":
    main()
