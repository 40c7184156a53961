"""Other spellings of the same thing, brought into the one that is stored; each is told, none is silent.

Spellings seen in the field: `fileType` for `fileSystemType`, and the client's image and resources directly under
`spec` of a ThinRuntimeProfile. Of our own kinds: numbers as values of environment variables.
"""

from __future__ import annotations

from typing import Any

from headrace.spec.kind import Json, Kind
from headrace.spec.view import without_nulls

_PROFILE_SPELLINGS = {
    "fileType": ("fileSystemType",),
    "image": ("fuse", "image"),
    "imageTag": ("fuse", "imageTag"),
    "imagePullPolicy": ("fuse", "imagePullPolicy"),
    "resources": ("fuse", "resources"),
}


def normalise(kind: Kind[Any], raw: Json, old: Json | None = None) -> tuple[Json, list[str]]:
    """Return the object as it is to be stored, and a warning for each spelling that was changed.

    Keys whose value is null are dropped, as a real API server drops them. Nothing given is changed. Idempotent.

    Args:
        old: what is stored, where the object is changed. Whoever applies an edited file with another spelling again
            says something new in it, and what is stored comes along in the right one.
    """
    if kind.name == "CustomResourceDefinition":
        return raw, []
    result: Json = without_nulls(raw)
    match kind.name:
        case "ThinRuntimeProfile":
            return _profile(result, (old or {}).get("spec") or {})
        case "TrainJob":
            return _train_job(result), []
        case _:
            return result, []


def _profile(raw: Json, old: Json) -> tuple[Json, list[str]]:
    spec = raw.get("spec")
    if not isinstance(spec, dict) or not spec.keys() & _PROFILE_SPELLINGS.keys():
        return raw, []
    spec = dict(spec)
    warnings = []
    for spelling, place in _PROFILE_SPELLINGS.items():
        if spelling not in spec:
            continue
        value, path = spec.pop(spelling), ".".join(place)
        holder, before = spec, old
        if len(place) == 2:
            holder = spec[place[0]] = dict(spec.get(place[0]) or {})
            before = old.get(place[0]) or {}
        there = holder.get(place[-1])
        if there == value:
            warnings.append(f"spec.{spelling} is left out: spec.{path} says the same.")
        elif there is None or there == before.get(place[-1]):
            holder[place[-1]] = value
            warnings.append(f"spec.{spelling} is read as spec.{path}, which is how Fluid spells it.")
        else:
            warnings.append(f"spec.{spelling} is ignored: spec.{path} is set to something else.")
    return {**raw, "spec": spec}, warnings


def _train_job(raw: Json) -> Json:
    spec = raw.get("spec")
    if not isinstance(spec, dict):
        return raw
    spec = _with_text_env(spec)
    if isinstance(spec.get("roles"), dict):
        roles = spec["roles"]
        spec["roles"] = {name: _with_text_env(role) if isinstance(role, dict) else role for name, role in roles.items()}
    return {**raw, "spec": spec}


def _with_text_env(holder: Json) -> Json:
    env = holder.get("env")
    if not isinstance(env, dict):
        return dict(holder)
    return {**holder, "env": {name: _text(value) for name, value in env.items()}}


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
