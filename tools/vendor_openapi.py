"""Make src/headrace/engine/openapi/kubernetes.json.gz from the published Kubernetes OpenAPI documents.

Core kinds' schemas are not written by hand (docs/design.md, section 7): this takes the v3 documents of one Kubernetes
release, keeps the kinds that the embedded engine serves and everything they refer to, with descriptions (for
`kubectl explain`) and patch merge keys (for strategic merge patches), and drops the rest. Needs Go, only to fetch the
module; run it again with another version to follow Kubernetes:

    python tools/vendor_openapi.py v1.36.3
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "src/headrace/engine/openapi/kubernetes.json.gz"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."

STORED = {
    ("", "v1"): (
        "ConfigMap",
        "Event",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "Pod",
        "Secret",
        "Service",
        "ServiceAccount",
    ),
    ("admissionregistration.k8s.io", "v1"): ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "v1"): ("CustomResourceDefinition",),
    ("coordination.k8s.io", "v1"): ("Lease",),
    ("scheduling.k8s.io", "v1"): ("PriorityClass",),
    ("storage.k8s.io", "v1"): ("CSIDriver", "CSINode", "StorageClass"),
}
POSTED = {
    ("", "v1"): ("Binding",),
    ("authentication.k8s.io", "v1"): ("SelfSubjectReview", "TokenRequest", "TokenReview"),
    ("authorization.k8s.io", "v1"): ("SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"),
    ("policy", "v1"): ("Eviction",),
}
SHARED = ("DeleteOptions", "Patch", "Status")


def main(version: str) -> None:
    published = read_published(module_directory(version))
    wanted = {(*group, kind + tail) for group, kinds in STORED.items() for kind in kinds for tail in ("", "List")}
    wanted |= {(*group, kind) for group, kinds in POSTED.items() for kind in kinds}
    roots = [name for name, schema in published.items() if wanted & set(kinds_of(schema))]
    missing = wanted - {kind for name in roots for kind in kinds_of(published[name])}
    if missing:
        sys.exit(f"Kubernetes {version} publishes no schema for {sorted(missing)}")
    groups = {group for group, _ in (*STORED, *POSTED)}
    kept = {name: trim(published[name], groups) for name in closure(published, [*roots, *(META + s for s in SHARED)])}
    text = json.dumps({"version": version, "schemas": kept}, separators=(",", ":"), sort_keys=True).encode()
    TARGET.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{TARGET}: {len(kept)} schemas, {len(text)} bytes, {TARGET.stat().st_size} compressed")  # noqa: T201


def module_directory(version: str) -> Path:
    """Return where the Go module of that release lies, fetching it when it is not there."""
    command = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@{version}"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, cwd="/").stdout)
    return Path(answer["Dir"])


def read_published(directory: Path) -> dict[str, Any]:
    """Return all schemas of the release by name; each document repeats those it uses."""
    schemas: dict[str, Any] = {}
    for path in sorted((directory / "api/openapi-spec/v3").glob("*.json")):
        schemas |= json.loads(path.read_text()).get("components", {}).get("schemas", {})
    return schemas


def kinds_of(schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(k["group"], k["version"], k["kind"]) for k in schema.get("x-kubernetes-group-version-kind", [])]


def closure(schemas: dict[str, Any], names: list[str]) -> list[str]:
    """Return `names` and every schema they lead to, sorted."""
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name not in seen:
            seen.add(name)
            names += references(schemas[name])
    return sorted(seen)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value.rpartition("/")[2]
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def trim(schema: dict[str, Any], groups: set[str]) -> dict[str, Any]:
    """Return the schema without the kinds of groups that are not served (DeleteOptions lists hundreds)."""
    listed = schema.get("x-kubernetes-group-version-kind")
    if not listed:
        return schema
    return schema | {"x-kubernetes-group-version-kind": [kind for kind in listed if kind["group"] in groups]}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else sys.exit("usage: vendor_openapi.py VERSION, such as v1.36.3"))
