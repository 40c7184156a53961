"""Who asks, when an API server asks for them: the front-proxy authentication of Kubernetes' aggregated APIs. Pure.

Trust comes from the client certificate of the connection, which the server has checked before: only then do the
headers mean anything. What they are called, and who may send them, is in the ConfigMap
`kube-system/extension-apiserver-authentication`.

Source: Kubernetes documentation, "Configure the Aggregation Layer"; apiserver `authentication/request/headerrequest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from headrace.cluster.access import Caller
from headrace.errors import EngineFailed
from headrace.spec.kind import Json, Ref

CONFIGURATION = Ref("kube-system", "extension-apiserver-authentication")

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class FrontProxy(msgspec.Struct, frozen=True, kw_only=True):
    """What the API server says of itself.

    Args:
        authority: PEM certificates that sign the client certificate of whoever may speak for others.
        names: common names that certificate may have; empty for any.
        user_headers, group_headers, uid_headers: in order; the first user header that is there counts.
        extra_prefixes: what headers with more about the user begin with.
    """

    authority: str
    names: tuple[str, ...]
    user_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    uid_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]


def front_proxy(config_map: Json) -> FrontProxy:
    """Return what the ConfigMap says; raises EngineFailed where the cluster has no aggregation layer."""
    data: Json = config_map.get("data") or {}
    authority = str(data.get("requestheader-client-ca-file") or "")
    if not authority:
        raise EngineFailed(
            f"ConfigMap {CONFIGURATION} has no requestheader-client-ca-file, so nobody can ask for computed reads.",
            hint="Start the API server with its aggregation layer (--requestheader-client-ca-file).",
        )
    return FrontProxy(
        authority=authority,
        names=_words(data, "requestheader-allowed-names"),
        user_headers=_words(data, "requestheader-username-headers") or ("X-Remote-User",),
        group_headers=_words(data, "requestheader-group-headers") or ("X-Remote-Group",),
        uid_headers=_words(data, "requestheader-uid-headers") or ("X-Remote-Uid",),
        extra_prefixes=_words(data, "requestheader-extra-headers-prefix") or ("X-Remote-Extra-",),
    )


def _words(data: Json, key: str) -> tuple[str, ...]:
    try:
        found = msgspec.json.decode(str(data.get(key) or "[]"), type=list[str])
    except msgspec.DecodeError as error:
        raise EngineFailed(f"{key} of ConfigMap {CONFIGURATION} is no list: {error}.", hint="Mend it.") from error
    return tuple(found)


def caller(headers: Sequence[tuple[str, str]], proxy: FrontProxy) -> Caller | None:
    """Return whom a request is made for, None when it does not say. Names of headers have no case."""
    lower = [(name.lower(), value) for name, value in headers]

    def first(names: Sequence[str]) -> str:
        return next((value for wanted in names for name, value in lower if name == wanted.lower() and value), "")

    user = first(proxy.user_headers)
    if not user:
        return None
    groups = {name.lower() for name in proxy.group_headers}
    extra: dict[str, tuple[str, ...]] = {}
    for prefix in (prefix.lower() for prefix in proxy.extra_prefixes):
        for name, value in lower:
            if name.startswith(prefix):
                key = unquote(name.removeprefix(prefix))
                extra[key] = (*extra.get(key, ()), value)
    return Caller(
        name=user,
        groups=tuple(value for name, value in lower if name in groups),
        uid=first(proxy.uid_headers),
        extra=extra,
    )


def attributes(method: str, path: str) -> Json:
    """Return what a request does, for a SubjectAccessReview.

    It is what the API server itself finds in the path, so both decide alike.
    Source: Kubernetes API access control, "Determine the request verb"; apiserver `request.NewRequestInfo`.
    """
    verb = _VERBS.get(method, method.lower())
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if len(parts) < 4 or parts[0] != "apis":
        return {"nonResourceAttributes": {"verb": verb, "path": path}}
    found: dict[str, Any] = {"group": parts[1], "version": parts[2]}
    rest = parts[3:]
    if rest[0] == "namespaces" and len(rest) > 2:
        found["namespace"], rest = rest[1], rest[2:]
    found["resource"] = rest[0]
    if len(rest) > 1:
        found["name"] = rest[1]
    elif verb == "get":
        verb = "list"
    if len(rest) > 2:
        found["subresource"] = rest[2]
    return {"resourceAttributes": {**found, "verb": verb}}
