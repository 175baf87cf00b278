# SPDX-License-Identifier: GPL-2.0-only
"""The picture of the imports in docs/architecture.md, and that it is of the code as it is."""

from __future__ import annotations

import pytest

from kpatch.dev import import_graph


@pytest.mark.parametrize(
    ("module", "node"),
    [
        ("kpatch.run.console", "run"),
        ("kpatch.pipeline", "pipeline"),
        ("kconfig.tree", "kconfig"),
        ("ktests.pci", "ktests"),
        ("ktests.contract", "ktests.contract"),
    ],
)
def test_a_module_is_part_of_a_node(module: str, node: str) -> None:
    assert import_graph.node(module) == node


def test_imports_that_others_imply_are_left_out() -> None:
    graph = {"a": {"b", "c", "d", "e"}, "b": {"c"}, "c": {"d"}, "d": set[str](), "e": set[str]()}
    kept = {"a": {"b", "e"}, "b": {"c"}, "c": {"d"}, "d": set[str](), "e": set[str]()}
    assert import_graph.reduced(graph) == kept


def test_what_the_code_imports() -> None:
    found = import_graph.imports()
    assert {"verdict", "report", "run", "ktests.contract"} <= found["pipeline"]
    assert found["kconfig"] == found["uapi"] == found["tables"] == set()


def test_the_picture_is_of_the_code_as_it_is() -> None:
    document = import_graph.DOCUMENT.read_text(encoding="utf-8")
    picture = import_graph.mermaid(import_graph.reduced(import_graph.imports()))
    assert f"```mermaid\n{picture}\n```" in document, "run: python -m kpatch.dev.import_graph"
    assert import_graph.render(document) == document
    stale = document.replace("    verdict --> run\n", "")
    assert stale != document
    assert import_graph.render(stale) == document
