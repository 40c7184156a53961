"""`apply`: make the server's object what the file says, and leave alone what the file never said.

A three-way merge between the file as applied last time, the file now, and the live object, with the annotation that
kubectl uses, so `kubectl apply` and `headrace apply` can take turns on one object. Pure functions; the client acts.
Source: Kubernetes documentation, "Declarative management using configuration files", merge calculation. Lists are
replaced whole, as kubectl does for custom resources.
"""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

from headrace.spec.kind import Json

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def annotated(manifest: Json) -> Json:
    """Return a copy of `manifest` that carries itself in the last-applied annotation."""
    body = copy.deepcopy(_as_stored(manifest))
    annotations = body.setdefault("metadata", {}).setdefault("annotations", {})
    annotations.pop(LAST_APPLIED, None)
    if not annotations:
        del body["metadata"]["annotations"]
    text = json.dumps(body, sort_keys=True, separators=(",", ":")) + "\n"
    body["metadata"].setdefault("annotations", {})[LAST_APPLIED] = text
    return body


def merge_patch(manifest: Json, live: Json) -> Json:
    """Return the RFC 7386 patch that applies `manifest` to `live`; empty when there is nothing to change."""
    wanted = annotated(manifest)
    recorded = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    previous = _object(recorded)
    patch = _difference(previous, wanted, live)
    annotations = patch.get("metadata", {}).get("annotations", {})
    if set(patch) == {"metadata"} and set(patch["metadata"]) == {"annotations"} and set(annotations) == {LAST_APPLIED}:
        unchanged = _object(annotations[LAST_APPLIED]) == previous
        return {} if unchanged else patch
    return patch


def _as_stored(manifest: Json) -> Json:
    """Return a Secret as the server keeps it: `stringData` is write-only and comes back as `data`."""
    if manifest.get("kind") != "Secret" or not manifest.get("stringData"):
        return manifest
    encoded = {key: base64.b64encode(str(text).encode()).decode() for key, text in manifest["stringData"].items()}
    rest = {key: value for key, value in manifest.items() if key != "stringData"}
    return rest | {"data": {**(manifest.get("data") or {}), **encoded}}


def _object(text: str | None) -> Json:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _difference(previous: Json, wanted: Json, live: Json) -> Json:
    patch: Json = {}
    for key, value in wanted.items():
        have = live.get(key)
        if isinstance(value, dict) and isinstance(have, dict):
            before: Any = previous.get(key)
            inner = _difference(before if isinstance(before, dict) else {}, value, have)
            if inner:
                patch[key] = inner
        elif key not in live or value != have:
            patch[key] = value
    for key in previous:
        if key not in wanted and key in live:
            patch[key] = None
    return patch
