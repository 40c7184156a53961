"""Events, leases and resource definitions (core/v1, coordination.k8s.io/v1, apiextensions.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from headrace.spec.core.meta import Condition, ObjectMeta, ObjectReference
from headrace.spec.view import View


class EventSource(View, frozen=True, kw_only=True):
    """Who reports."""

    component: str = ""
    host: str = ""


class EventSeries(View, frozen=True, kw_only=True):
    """The same event again and again."""

    count: int = 0
    last_observed_time: str = ""


class Event(View, frozen=True, kw_only=True):
    """Something that happened to an object."""

    metadata: ObjectMeta = ObjectMeta()
    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    """Normal or Warning."""
    source: EventSource = EventSource()
    first_timestamp: str = ""
    last_timestamp: str = ""
    event_time: str = ""
    count: int = 0
    series: EventSeries | None = None
    action: str = ""
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


class LeaseSpec(View, frozen=True, kw_only=True):
    """Who holds it and since when."""

    holder_identity: str = ""
    lease_duration_seconds: int | None = None
    acquire_time: str = ""
    renew_time: str = ""
    lease_transitions: int = 0


class Lease(View, frozen=True, kw_only=True):
    """A claim to lead, or a sign of life."""

    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()


class ResourceNames(View, frozen=True, kw_only=True):
    """What a custom resource is called."""

    kind: str
    plural: str
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


class ResourceVersion(View, frozen=True, kw_only=True):
    """One version of a custom resource."""

    name: str
    served: bool = True
    storage: bool = True
    schema: dict[str, Any] = {}
    subresources: dict[str, Any] = {}
    additional_printer_columns: tuple[dict[str, Any], ...] = ()


class CustomResourceDefinitionSpec(View, frozen=True, kw_only=True):
    """The definition of a custom resource."""

    group: str
    names: ResourceNames
    scope: str
    versions: tuple[ResourceVersion, ...] = ()


class CustomResourceDefinitionStatus(View, frozen=True, kw_only=True):
    """Whether it is served."""

    conditions: tuple[Condition, ...] = ()
    accepted_names: ResourceNames | None = None
    stored_versions: tuple[str, ...] = ()


class CustomResourceDefinition(View, frozen=True, kw_only=True):
    """A kind that the cluster learns."""

    metadata: ObjectMeta = ObjectMeta()
    spec: CustomResourceDefinitionSpec | None = None
    status: CustomResourceDefinitionStatus = CustomResourceDefinitionStatus()
