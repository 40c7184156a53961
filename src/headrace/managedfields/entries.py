"""`metadata.managedFields`: from the list that is stored to who owns what, and back.

Source: Kubernetes API reference, ManagedFieldsEntry; apimachinery `pkg/util/managedfields`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from headrace.managedfields.elements import Malformed
from headrace.managedfields.fieldset import FieldSet, parsed
from headrace.managedfields.sharing import shared
from headrace.spec.kind import Json

Operation = Literal["Apply", "Update"]


class Manager(NamedTuple):
    """Who owns fields. One name is several managers: for each operation, subresource and, of updates, version."""

    name: str
    operation: Operation
    version: str = ""
    subresource: str = ""

    @classmethod
    def applier(cls, name: str, subresource: str) -> Manager:
        return cls(name, "Apply", "", subresource)

    @classmethod
    def updater(cls, name: str, version: str, subresource: str) -> Manager:
        return cls(name or "unknown", "Update", version, subresource)

    def __str__(self) -> str:
        """As a conflict names it: `"kubectl" with subresource "status" using v1`."""
        text = f'"{self.name}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.version}" if self.operation == "Update" else text


class Owned(NamedTuple):
    """What a manager owns: `fields` of the object in the version `version`. `entry` is as it is stored already."""

    version: str
    fields: FieldSet
    time: str = ""
    entry: Json | None = None

    def with_fields(self, fields: FieldSet) -> Owned:
        """Return the same with other fields; itself when they are the same."""
        return self if fields is self.fields else self._replace(fields=shared(fields), entry=None)


Managed = dict[Manager, Owned]


def read(entries: Sequence[Json] | None) -> Managed:
    """Return who owns what of a stored object."""
    found: Managed = {}
    for entry in entries or ():
        operation, version = entry["operation"], entry["apiVersion"]
        manager = Manager(
            entry.get("manager", ""), operation, "" if operation == "Apply" else version, entry.get("subresource", "")
        )
        found[manager] = Owned(version, entry.get("fieldsV1") or {}, entry.get("time", ""), entry)
    return found


def parse(entries: Any) -> Managed:
    """Return who owns what by what a client sent; raises Malformed for what is no list of valid entries."""
    if not isinstance(entries, list):
        raise Malformed("managedFields must be a list")
    checked = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise Malformed("an entry of managedFields must be an object")
        if entry.get("operation") not in {"Apply", "Update"}:
            raise Malformed("operation must be `Apply` or `Update`")
        if not entry.get("apiVersion"):
            raise Malformed("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise Malformed("fieldsType must be `FieldsV1`")
        told = {key: value for key, value in entry.items() if value not in (None, "")}
        checked.append(told | {"fieldsV1": parsed(entry.get("fieldsV1"))})
    return read(checked)


def is_reset(entries: Any) -> bool:
    """Tell whether a client forgets all owners: with an empty list, or a list of one empty entry."""
    return isinstance(entries, list) and (not entries or (len(entries) == 1 and not any(_told(entries[0]))))


def _told(entry: Any) -> list[Any]:
    return [value for value in entry.values() if value not in (None, "")] if isinstance(entry, dict) else [entry]


def written(managed: Managed) -> list[Json]:
    """Return the list that is stored: applied before updated, older before newer."""
    entries = [_entry(manager, owned) for manager, owned in managed.items()]
    return sorted(entries, key=_order)


def _entry(manager: Manager, owned: Owned) -> Json:
    if owned.entry is not None:
        return owned.entry
    entry: Json = {"manager": manager.name} if manager.name else {}
    entry |= {"operation": manager.operation, "apiVersion": owned.version}
    if owned.time:
        entry["time"] = owned.time
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": owned.fields}
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry


def _order(entry: Json) -> tuple[str, ...]:
    names = ("operation", "time", "manager", "apiVersion", "subresource")
    return tuple(entry.get(name, "") for name in names)
