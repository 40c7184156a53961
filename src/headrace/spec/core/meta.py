"""Metadata that all kinds share (Kubernetes meta/v1)."""

from __future__ import annotations

from headrace.spec.view import View


class OwnerReference(View, frozen=True, kw_only=True):
    """Names the object that owns this one; when all owners are gone, this one is collected."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(View, frozen=True, kw_only=True):
    """Standard object metadata."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class PodMetadata(View, frozen=True, kw_only=True):
    """Labels and annotations given to pods made from a template."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Condition(View, frozen=True, kw_only=True):
    """One observation about an object's state."""

    type: str = ""
    """What is observed, in CamelCase, such as Ready."""
    status: str = "Unknown"
    """True, False or Unknown."""
    reason: str = ""
    """Why, in one CamelCase word for programs."""
    message: str = ""
    """Why, in a sentence for people."""
    last_transition_time: str = ""
    """When status last changed (RFC 3339)."""
    observed_generation: int | None = None
    """The metadata.generation this was observed at."""


class LocalObjectReference(View, frozen=True, kw_only=True):
    """An object in the same namespace."""

    name: str = ""


class ObjectReference(View, frozen=True, kw_only=True):
    """An object anywhere."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


class SecretReference(View, frozen=True, kw_only=True):
    """A Secret in a named namespace."""

    name: str = ""
    namespace: str = ""


class LabelSelectorRequirement(View, frozen=True, kw_only=True):
    """One expression of a label selector: In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(View, frozen=True, kw_only=True):
    """Selects by labels; all parts must hold. An empty selector selects everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
