"""Namespaces, accounts, and the two kinds that hold settings (Kubernetes core/v1)."""

from __future__ import annotations

import base64
import binascii

from headrace.errors import InvalidSpec
from headrace.spec.core.meta import Condition, LocalObjectReference, ObjectMeta, ObjectReference
from headrace.spec.view import View


class NamespaceSpec(View, frozen=True, kw_only=True):
    """What must be done before a namespace is gone."""

    finalizers: tuple[str, ...] = ()


class NamespaceStatus(View, frozen=True, kw_only=True):
    """Active or Terminating."""

    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Namespace(View, frozen=True, kw_only=True):
    """A project: who shares it shares its secrets."""

    metadata: ObjectMeta = ObjectMeta()
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


class ServiceAccount(View, frozen=True, kw_only=True):
    """An identity for pods."""

    metadata: ObjectMeta = ObjectMeta()
    secrets: tuple[ObjectReference, ...] = ()
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    automount_service_account_token: bool | None = None


class Secret(View, frozen=True, kw_only=True):
    """Small confidential values, base64 in `data`."""

    metadata: ObjectMeta = ObjectMeta()
    type: str = "Opaque"
    data: dict[str, str] = {}
    immutable: bool = False

    def decoded(self) -> dict[str, bytes]:
        """Return the values themselves; raises InvalidSpec with the key whose value is not base64."""
        return {key: _decode(key, value) for key, value in self.data.items()}


class ConfigMap(View, frozen=True, kw_only=True):
    """Small settings: text in `data`, base64 in `binaryData`."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool = False

    def decoded(self) -> dict[str, bytes]:
        """Return all values as bytes; raises InvalidSpec with the key whose value is not base64."""
        text = {key: value.encode() for key, value in self.data.items()}
        return text | {key: _decode(key, value) for key, value in self.binary_data.items()}


def _decode(key: str, value: str) -> bytes:
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except binascii.Error as error:
        raise InvalidSpec(f"The value of key {key!r} is not base64.", hint="Use stringData for plain text.") from error
