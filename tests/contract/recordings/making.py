"""Of what sequences are made: definitions of two kinds, objects, and requests about them."""

from __future__ import annotations

from typing import Any

from tests.contract.recordings.steps import APPLY, JSON, MERGE, NAMESPACE, Step

Json = dict[str, Any]
CORE = f"/api/v1/namespaces/{NAMESPACE}"
WIDGETS = f"/apis/example.org/v1/namespaces/{NAMESPACE}/widgets"
DATASETS = f"/apis/data.fluid.io/v1alpha1/namespaces/{NAMESPACE}/datasets"
JOBS = f"/apis/headrace.io/v1alpha1/namespaces/{NAMESPACE}/trainjobs"

_TEXT: Json = {"type": "string"}
_ITEM: Json = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": _TEXT,
        "zone": {"type": "string", "default": "a"},
        "value": {"x-kubernetes-int-or-string": True},
    },
}
_WIDGET: Json = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer"},
                "text": _TEXT,
                "defaulted": {"type": "string", "default": "yes"},
                "items": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "zone"],
                    "items": _ITEM,
                },
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": _TEXT},
                "list": {"type": "array", "items": _ITEM},
                "map": {"type": "object", "additionalProperties": _TEXT},
                "whole": {
                    "type": "object",
                    "x-kubernetes-map-type": "atomic",
                    "properties": {"a": _TEXT, "b": _TEXT},
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer"},
                "conditions": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                    "items": {
                        "type": "object",
                        "required": ["type"],
                        "properties": {"type": _TEXT, "status": _TEXT, "reason": _TEXT},
                    },
                },
            },
        },
    },
}
WIDGET_DEFINITION: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": _WIDGET},
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
            }
        ],
    },
}


GADGET_DEFINITION: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
        "versions": [
            {
                "name": version,
                "served": True,
                "storage": version == "v1",
                "schema": {"openAPIV3Schema": _WIDGET},
                "subresources": {"status": {}},
            }
            for version in ("v1", "v2")
        ],
    },
}


def made(kind: str, api_version: str, more: Json, metadata: Json | None) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", **(metadata or {})}, **more}


def config_map(metadata: Json | None = None, **data: str) -> Json:
    return made("ConfigMap", "v1", {"data": data} if data else {}, metadata)


def widget(metadata: Json | None = None, **spec: Any) -> Json:
    return made("Widget", "example.org/v1", {"spec": spec} if spec else {}, metadata)


def gadget(version: str, **spec: Any) -> Json:
    """A thing that is served in two versions, alike in all but their name."""
    return made("Gadget", f"example.org/{version}", {"spec": spec}, None)


def gadgets(version: str) -> str:
    return f"/apis/example.org/{version}/namespaces/{NAMESPACE}/gadgets/x"


def widget_status(*conditions: Json, **status: Any) -> Json:
    more = {"conditions": list(conditions)} if conditions else {}
    return made("Widget", "example.org/v1", {"status": {**more, **status}}, None)


def pod(*containers: Json, metadata: Json | None = None, **spec: Any) -> Json:
    """A pod that no scheduler takes and no admission changes more than it must."""
    quiet = {"schedulerName": "nobody", "automountServiceAccountToken": False}
    return made("Pod", "v1", {"spec": {"containers": list(containers), **quiet, **spec}}, metadata)


def service(*ports: Json, **spec: Any) -> Json:
    return made("Service", "v1", {"spec": {"clusterIP": "None", "ports": list(ports), **spec}}, None)


def dataset(*mounts: Json, **spec: Any) -> Json:
    return made("Dataset", "data.fluid.io/v1alpha1", {"spec": {"mounts": list(mounts), **spec}}, None)


def job(metadata: Json | None = None, **spec: Any) -> Json:
    return made("TrainJob", "headrace.io/v1alpha1", {"spec": {"command": ["true"], **spec}}, metadata)


MAIN: Json = {"name": "main", "image": "image:1"}
_PLURALS = {"ConfigMap": "configmaps", "Pod": "pods", "Service": "services", "Widget": "widgets"}


def path(body: Json, sub: str = "") -> str:
    """Return the path of an object, or of a subresource of it."""
    base = {"Widget": WIDGETS, "Dataset": DATASETS, "TrainJob": JOBS}.get(body["kind"])
    base = base or f"{CORE}/{_PLURALS.get(body['kind'], body['kind'].lower() + 's')}"
    return f"{base}/{body['metadata']['name']}" + (f"/{sub}" if sub else "")


def create(body: Json, query: str = "", agent: str = "creator/1.0") -> Step:
    return Step("POST", path(body).rpartition("/")[0] + (f"?{query}" if query else ""), body, agent=agent)


def apply(body: Any, manager: str = "one", query: str = "", sub: str = "", at: str = "") -> Step:
    options = "&".join(filter(None, [f"fieldManager={manager}" if manager else "", query]))
    return Step("PATCH", f"{at or path(body, sub)}?{options}", body, APPLY)


def force(body: Json, manager: str = "one", sub: str = "") -> Step:
    return apply(body, manager, "force=true", sub)


def patch(
    body: Json, change: Any, sub: str = "", sort: str = MERGE, agent: str = "patcher/1.0", query: str = ""
) -> Step:
    return Step("PATCH", path(body, sub) + (f"?{query}" if query else ""), change, sort, agent)


def update(body: Json, sub: str = "", agent: str = "updater/1.0", query: str = "") -> Step:
    return Step("PUT", path(body, sub) + (f"?{query}" if query else ""), body, JSON, agent)


def read(body: Json) -> Step:
    return Step("GET", path(body))


def condition(type_: str, status: str, **more: str) -> Json:
    return {"type": type_, "status": status, **more}


THEN = "2026-01-01T00:00:00Z"
CONFIG_MAP = config_map(a="1")
WIDGET = widget(text="a")
POD = pod(MAIN)
