"""Makes namespaces into projects: what Headrace needs to work in one, and then the label that has it begin."""

from __future__ import annotations

from headrace.install.rbac import project_objects
from headrace.spec.kind import Json
from headrace.spec.names import PROJECT_LABEL


def project(name: str, home: str) -> list[Json]:
    """Return the objects of a project whose namespace is there: the right to work in it before the label that asks to."""
    labelled: Json = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {PROJECT_LABEL: ""}},
    }
    return [*project_objects(name, home), labelled]
