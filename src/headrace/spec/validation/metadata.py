"""Names, labels and annotations (Kubernetes apimachinery `validation`, `api/validation/objectmeta.go`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headrace.ids import is_dns_1035_label, is_dns_label, is_dns_subdomain
from headrace.spec.kind import Json, Kind
from headrace.spec.names import FOREGROUND_FINALIZER, NAMESPACE_FINALIZER, ORPHAN_FINALIZER
from headrace.spec.validation.problem import Problem, Problems, member

_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUALIFIED_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_PATH_SEGMENT_NAMES = frozenset({"Event"})
_LABEL_NAMES = frozenset({"Namespace", "Service"})
_DNS_1035_NAMES = frozenset({"Dataset", "ThinRuntime"})
_CORE_GROUPS = frozenset({"", "coordination.k8s.io", "scheduling.k8s.io", "storage.k8s.io"})
_STANDARD_FINALIZERS = frozenset({FOREGROUND_FINALIZER, ORPHAN_FINALIZER, NAMESPACE_FINALIZER})
_ANNOTATIONS_MAX_BYTES = 256 * 1024

LABEL_RULE = "small letters, digits and dashes, beginning and ending with a letter or digit, at most 63 characters"
SUBDOMAIN_RULE = "small letters, digits, dashes and dots, beginning and ending with a letter or digit"
DNS_1035_RULE = "small letters, digits and dashes, beginning with a letter, at most 63 characters"


def check_metadata(kind: Kind[Any], raw: Json) -> Problems:
    """Report what is wrong with an object's metadata. A name still to be generated is checked by its beginning."""
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        yield Problem("metadata", "is required; give the object a name")
        return
    name = metadata.get("name") or ""
    if not isinstance(name, str):
        yield Problem("metadata.name", f"must be a text, not {name!r}; put it in quotes")
    elif name:
        yield from check_name(kind, "metadata.name", name)
    elif generated := metadata.get("generateName"):
        yield from check_name(kind, "metadata.generateName", f"{str(generated)[:58]}x")
    else:
        yield Problem("metadata.name", "is required: metadata.name or metadata.generateName")
    namespace = metadata.get("namespace") or ""
    if kind.namespaced and namespace and not is_dns_label(str(namespace)):
        yield Problem("metadata.namespace", f"is {namespace!r}; it must be {LABEL_RULE}")
    if not kind.namespaced and namespace:
        yield Problem("metadata.namespace", f"must not be given: {kind.name} belongs to no namespace")
    yield from check_labels("metadata.labels", metadata.get("labels"))
    yield from check_annotations("metadata.annotations", metadata.get("annotations"))
    for index, finalizer in enumerate(metadata.get("finalizers") or ()):
        if not isinstance(finalizer, str) or not _is_qualified(finalizer):
            yield Problem(f"metadata.finalizers[{index}]", f"is {finalizer!r}; it must be like example.org/name")
        elif kind.group in _CORE_GROUPS and "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            yield Problem(
                f"metadata.finalizers[{index}]", f"is {finalizer!r}; it must have a domain, such as example.org/name"
            )


def check_name(kind: Kind[Any], path: str, name: str) -> Problems:
    """Report a name that the kind does not allow."""
    if kind.name in _PATH_SEGMENT_NAMES:
        if "/" in name or "%" in name or name in {".", ".."}:
            yield Problem(path, f"is {name!r}; it must hold no '/' and no '%'")
    elif kind.name in _LABEL_NAMES:
        if not is_dns_label(name):
            yield Problem(path, f"is {name!r}; it must be {LABEL_RULE}")
    elif kind.name in _DNS_1035_NAMES:
        if not is_dns_1035_label(name):
            yield Problem(path, f"is {name!r}; it must be {DNS_1035_RULE}")
    elif not is_dns_subdomain(name):
        yield Problem(path, f"is {name!r}; it must be {SUBDOMAIN_RULE}, at most 253 characters")


def check_subdomain(path: str, name: str, *, what: str = "a name") -> Problems:
    """Report a reference to an object that no object could have as its name."""
    if not name:
        yield Problem(path, f"is required: {what}")
    elif not is_dns_subdomain(name):
        yield Problem(path, f"is {name!r}; it must be {what}: {SUBDOMAIN_RULE}")


def check_label(path: str, name: str) -> Problems:
    """Report what is not a DNS label, as the names of containers, volumes and roles must be."""
    if not name:
        yield Problem(path, "is required")
    elif not is_dns_label(name):
        yield Problem(path, f"is {name!r}; it must be {LABEL_RULE}")


def check_labels(path: str, labels: Any) -> Problems:
    """Report label keys and values that Kubernetes refuses."""
    if labels is None:
        return
    if not isinstance(labels, Mapping):
        yield Problem(path, "must be an object of texts")
        return
    for key, value in labels.items():
        where = member(path, str(key))
        if not isinstance(key, str) or not _is_qualified(key):
            yield Problem(where, f"{key!r} is no label key; write it like app or example.org/app")
        if not isinstance(value, str):
            yield Problem(where, f"must be a text, not {value!r}; put it in quotes")
        elif len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            yield Problem(
                where,
                f"is {value!r}; a label's value is at most 63 letters, digits, '-', '_' and '.', "
                "beginning and ending with a letter or digit",
            )


def check_annotations(path: str, annotations: Any) -> Problems:
    """Report annotation keys that Kubernetes refuses, and more than 256 KiB of annotations."""
    if annotations is None:
        return
    if not isinstance(annotations, Mapping):
        yield Problem(path, "must be an object of texts")
        return
    size = 0
    for key, value in annotations.items():
        where = member(path, str(key))
        if not isinstance(key, str) or not _is_qualified(key.lower()):
            yield Problem(where, f"{key!r} is no annotation key; write it like note or example.org/note")
        if not isinstance(value, str):
            yield Problem(where, f"must be a text, not {value!r}; put it in quotes")
        else:
            size += len(str(key)) + len(value.encode())
    if size > _ANNOTATIONS_MAX_BYTES:
        yield Problem(path, f"hold {size} bytes; {_ANNOTATIONS_MAX_BYTES} is the most")


def _is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and not is_dns_subdomain(prefix):
        return False
    return len(name) <= 63 and _QUALIFIED_NAME.fullmatch(name) is not None
