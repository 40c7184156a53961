"""The `paths` part of an OpenAPI v3 document: which operations a resource has, made from its kind.

Only what clients look up is said: the group-version-kind and action of each operation, its content types and query
parameters. kubectl reads here whether it may send `fieldValidation` and strategic merge patches.
"""

from __future__ import annotations

from typing import Any

from headrace.engine.pipeline.registry import Resource
from headrace.spec.kind import Json, Kind

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_READ = ("pretty",)
_LIST = (
    *_READ,
    *("allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion"),
    *("resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch"),
)
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
_STREAMS = ("container", "stderr", "stdin", "stdout", "tty")
# What a subresource that is a connection is asked with: the kind of its options, and their fields.
_CONNECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "exec": ("PodExecOptions", ("command", *_STREAMS)),
    "attach": ("PodAttachOptions", _STREAMS),
    "portforward": ("PodPortForwardOptions", ("ports",)),
}
_TYPES = {
    **dict.fromkeys(("limit", "timeoutSeconds", "gracePeriodSeconds", "ports"), "integer"),
    **dict.fromkeys(("allowWatchBookmarks", "sendInitialEvents", "watch", "force", "orphanDependents"), "boolean"),
    **dict.fromkeys(_STREAMS[1:], "boolean"),
}
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_STRATEGIC_PATCH = "application/strategic-merge-patch+json"
# What a subresource takes that is not its own kind: the schema of its body.
_BODIES = {
    "binding": "io.k8s.api.core.v1.Binding",
    "eviction": "io.k8s.api.policy.v1.Eviction",
    "token": "io.k8s.api.authentication.v1.TokenRequest",
}


def resource_paths(resource: Resource, schema: str, *, is_patched_strategically: bool) -> Json:
    """Return the path items of a resource; `schema` is the name of its object's schema among the components."""
    kind = resource.kind
    maker = _Operations(kind, schema, is_patched_strategically)
    collection = kind.path("{namespace}" if kind.namespaced else "")
    item = kind.path("{namespace}" if kind.namespaced else "", "{name}")
    paths: Json = {collection: maker.collection(resource.verbs), item: maker.item(resource.verbs)}
    if kind.namespaced:
        paths[kind.path()] = maker.everywhere(resource.verbs)
    for name in kind.subresources:
        paths[f"{item}/{name}"] = maker.subresource(name)
    return paths


class _Operations:
    def __init__(self, kind: Kind[Any], schema: str, is_patched_strategically: bool) -> None:
        self._kind = kind
        self._schema = schema
        self._gvk = {"group": kind.group, "kind": kind.name, "version": kind.version}
        self._patches = (*_PATCHES, *((_STRATEGIC_PATCH,) if is_patched_strategically else ()))

    def everywhere(self, verbs: tuple[str, ...]) -> Json:
        return {"get": self._operation("list", f"{self._schema}List", _LIST)} if "list" in verbs else {}

    def collection(self, verbs: tuple[str, ...]) -> Json:
        item = self.everywhere(verbs)
        if "create" in verbs:
            item["post"] = self._operation("post", self._schema, _WRITE, body=self._schema)
        if "deletecollection" in verbs:
            item["delete"] = self._operation("deletecollection", f"{META}Status", (*_LIST, *_DELETE))
        return self._with_path_parameters(item, names=("namespace",) if self._kind.namespaced else ())

    def item(self, verbs: tuple[str, ...]) -> Json:
        item: Json = {"get": self._operation("get", self._schema, _READ)} if "get" in verbs else {}
        if "delete" in verbs:
            item["delete"] = self._operation("delete", f"{META}Status", _DELETE, body=f"{META}DeleteOptions")
        return self._with_path_parameters(item | self._writes(verbs))

    def subresource(self, name: str) -> Json:
        if name in _BODIES:
            item = {"post": self._operation("post", _BODIES[name], _WRITE, body=_BODIES[name])}
        elif name in {"status", "scale"}:
            item = {"get": self._operation("get", self._schema, _READ), **self._writes(("update", "patch"))}
        elif name == "log":
            item = {"get": self._operation("get", "", ())}
        else:
            options, parameters = _CONNECTIONS.get(name, (self._kind.name, ()))
            item = {verb: self._operation("connect", "", parameters, kind=options) for verb in ("get", "post")}
        return self._with_path_parameters(item)

    def _writes(self, verbs: tuple[str, ...]) -> Json:
        item = {}
        if "update" in verbs:
            item["put"] = self._operation("put", self._schema, _WRITE, body=self._schema)
        if "patch" in verbs:
            patch = self._operation("patch", self._schema, (*_WRITE, "force"))
            reference = _reference(f"{META}Patch")
            patch["requestBody"] = {"required": True, "content": {t: {"schema": reference} for t in self._patches}}
            item["patch"] = patch
        return item

    def _operation(
        self, action: str, answer: str, parameters: tuple[str, ...], *, body: str = "", kind: str = ""
    ) -> Json:
        content = {"application/json": {"schema": _reference(answer)}} if answer else {"*/*": {}}
        operation: Json = {
            "responses": {"200": {"description": "OK", "content": content}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self._gvk | {"kind": kind} if kind else self._gvk,
        }
        if parameters:
            operation["parameters"] = [_parameter(name, "query") for name in parameters]
        if body:
            operation["requestBody"] = {"content": {"application/json": {"schema": _reference(body)}}}
        return operation

    def _with_path_parameters(self, item: Json, *, names: tuple[str, ...] | None = None) -> Json:
        if names is None:
            names = ("namespace", "name") if self._kind.namespaced else ("name",)
        return item | ({"parameters": [_parameter(name, "path") for name in names]} if names else {})


def _parameter(name: str, place: str) -> Json:
    parameter: Json = {"name": name, "in": place, "schema": {"type": _TYPES.get(name, "string")}}
    return parameter | {"required": True} if place == "path" else parameter


def _reference(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
