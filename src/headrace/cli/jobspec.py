"""The TrainJob that the options of `run` describe, alone or on top of a file. Reads files; sends nothing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from headrace.errors import InvalidSpec
from headrace.sdk import manifests
from headrace.sdk.jobs import section
from headrace.spec.kind import Json
from headrace.spec.kinds import TRAIN_JOB

_FIELDS = ("workers", "framework", "image", "queue", "priority")


def described(source: str | None, given: Mapping[str, Any]) -> tuple[Json, Path]:
    """Return the TrainJob, and the directory its relative paths start from. Raises InvalidSpec."""
    job, base = _from_file(source) if source is not None else (_empty(), Path.cwd())
    spec = section(job, "spec")
    if given["command"]:
        spec["command"] = list(given["command"])
    if not spec.get("command") and not spec.get("roles"):
        raise InvalidSpec("There is nothing to run.", hint="Give a command after --, or a file with -f.")
    if given["name"]:
        section(job, "metadata")["name"] = given["name"]
    spec |= {field: given[field] for field in _FIELDS if given[field] is not None}
    if given["duration"]:
        spec["expectedDuration"] = given["duration"]
    resources = {key: given[key] for key in ("cpu", "memory", "gpu") if given[key] is not None}
    if resources:
        section(spec, "resources").update(resources)
    if given["pools"]:
        spec["pools"] = list(given["pools"])
    if given["code"]:
        spec["code"] = {"directory": str(Path(given["code"]).resolve())}
    elif source is None and _names_a_file(spec["command"]):
        spec["code"] = {"directory": "."}  # `python train.py` then just works
    if given["mounts"]:
        spec["mounts"] = [*(spec.get("mounts") or []), *map(_mount, given["mounts"])]
    if given["variables"]:
        section(spec, "env").update(map(_variable, given["variables"]))
    return job, base


def _empty() -> Json:
    return {"apiVersion": TRAIN_JOB.api_version, "kind": TRAIN_JOB.name, "metadata": {}, "spec": {}}


def _from_file(source: str) -> tuple[Json, Path]:
    found = manifests.load([source])
    if len(found) != 1:
        raise InvalidSpec(
            f"{found[0].source} holds {len(found)} objects; run takes one TrainJob.",
            hint="Use: headrace apply -f FILE",
        )
    return found[0].body, found[0].base


def _names_a_file(command: Sequence[str]) -> bool:
    """Tell whether a word of the command is a file here, or a module for `python -m`."""
    here = Path.cwd()
    words = [word for word in command if word and not Path(word).is_absolute()]
    modules = [after for before, after in pairwise(words) if before == "-m"]
    candidates = [*words, *(f"{m.replace('.', '/')}{tail}" for m in modules for tail in (".py", "/__main__.py"))]
    return any(len(word) < 256 and "\0" not in word and (here / word).is_file() for word in candidates)


def _mount(text: str) -> Json:
    """Read `CLAIM:PATH[:ro]` or `SCHEME://…:PATH[:ro]`."""
    rest, mode = (text[:-3], text[-2:]) if text.endswith((":ro", ":rw")) else (text, "")
    what, _, path = rest.rpartition(":")
    if not what or not path.startswith("/") or path.startswith("//"):
        raise InvalidSpec(f"--mount {text!r} is not CLAIM:PATH.", hint="Write for example --mount starfs-pvc:/data:ro")
    place = {"source": what} if "://" in what else {"claim": what}
    return {**place, "path": path, **({"readOnly": True} if mode == "ro" else {})}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidSpec(f"--env {shlex.quote(text)} is not NAME=VALUE.", hint="Write for example --env EPOCHS=5")
    return name, value
