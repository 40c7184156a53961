"""Fields that are accepted and not carried out by this version: one table, meant to shrink.

An accepted field works or is reported here by its path, as a warning to whoever submits it and as the condition
`Unsupported` on the object. Silence would be a bug. A path ends at the field; `[*]` stands for every entry.
Of pods only what the server itself leaves out is here: what a node cannot do, the node says (`headrace.node.security`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from headrace.spec.kind import Json, Kind
from headrace.spec.names import FLUID_GROUP
from headrace.spec.validation.problem import Problem
from headrace.spec.validation.shape import examine


class Row(NamedTuple):
    """One field.

    Args:
        path: where, such as `spec.containers[*].tty`.
        instead: what happens, and what to do; continues the path in a sentence.
        fine: values that ask for nothing that is missing, besides absent and empty ones.
        holds: without it the object would do something else than was asked, so it is not begun.
    """

    path: str
    instead: str
    fine: tuple[Any, ...] = ()
    holds: bool = False


_WORKERS = "is ignored: cache workers are not run; the client caches for itself"
_CLIENT_NETWORK = "is ignored: clients run in the pod that reads, or beside the volume on own nodes"

UNSUPPORTED: Mapping[str, tuple[Row, ...]] = {
    "TrainJob": (
        Row("spec.framework", "is accepted, but its variables are not set; only pytorch's are", ("pytorch", "none")),
        Row("spec.code.git", "is not fetched yet; use code.directory with the SDK or CLI", holds=True),
        Row("spec.python", "is not made yet; use an image, or install what is needed on this machine", holds=True),
        Row(
            "spec.mounts[*].source",
            "is not mounted yet; make a Dataset and a ThinRuntime for it and mount the Dataset's claim",
            holds=True,
        ),
        Row("spec.outputs", "are kept, but nothing refers to them yet"),
    ),
    "Pool": (
        Row("spec.images.rewrite", "is ignored: image names stay as they are"),
        Row(
            "spec.dataAccess.mode",
            "is not carried out; use native, broker or materialise",
            ("native", "broker", "materialise"),
        ),
        Row("spec.line.trusted", "is ignored: storage traffic is not refused by its encryption yet", (False,)),
    ),
    "Queue": (
        Row("spec.quota", "is not enforced: jobs are limited by what the pools hold"),
        Row("spec.cohort", "is ignored: queues do not lend each other quota yet"),
        Row("spec.budget", "is not enforced: use burst.maxPrice, or burst.allow: false"),
    ),
    "Dataset": (
        Row("spec.owner", "is ignored: files belong to whom the client says"),
        Row("spec.nodeAffinity", _WORKERS),
        Row("spec.tolerations", _WORKERS),
        Row("spec.placement", _WORKERS),
        Row("spec.runtimes", "is ignored: a Dataset is bound to the runtime of its own name, as in Fluid"),
        Row("spec.dataRestoreLocation", "is ignored: backups are not restored"),
    ),
    "ThinRuntime": (
        Row("spec.worker", _WORKERS),
        Row("spec.replicas", _WORKERS),
        Row("spec.tieredstore.levels[*].volumeSource", "is ignored: caches are empty directories of the client's pod"),
        Row("spec.tieredstore.levels[*].high", "is ignored: the client cleans its own cache"),
        Row("spec.tieredstore.levels[*].low", "is ignored: the client cleans its own cache"),
        Row("spec.runAs", "is ignored, as in Fluid"),
        Row("spec.disablePrometheus", "is ignored, as in Fluid"),
        Row("spec.management", "is ignored: metadata is not read ahead"),
        *(
            Row(f"spec.fuse.{field}", _CLIENT_NETWORK)
            for field in ("networkMode", "nodeSelector", "cleanPolicy", "podMetadata")
        ),
    ),
    "ThinRuntimeProfile": (
        Row("spec.worker", _WORKERS),
        *(
            Row(f"spec.fuse.{field}", _CLIENT_NETWORK)
            for field in ("networkMode", "nodeSelector", "cleanPolicy", "podMetadata")
        ),
    ),
    "DataLoad": (Row("spec", "is accepted, but nothing is warmed yet"),),
    "DataProcess": (Row("spec", "is accepted, but nothing is processed yet"),),
    "Pod": (Row("spec.topologySpreadConstraints", "is ignored by the embedded pod scheduler"),),
}


def holding(kind: Kind[Any], raw: Json) -> list[Problem]:
    """Return the fields that are not carried out and without which the object must not be begun, by path."""
    return [problem for row in UNSUPPORTED.get(kind.name, ()) if row.holds for problem in _missing(row, raw)]


def unsupported(kind: Kind[Any], raw: Json) -> list[Problem]:
    """Return every field of an object that is accepted but not carried out, by path.

    Fluid's kinds keep fields nobody knows; those are reported here too, with the nearest name.
    """
    found = [problem for row in UNSUPPORTED.get(kind.name, ()) for problem in _missing(row, raw)]
    if kind.group == FLUID_GROUP:
        found += [finding.problem for finding in examine(kind, raw) if finding.unknown]
    return found


def _missing(row: Row, raw: Json) -> Iterator[Problem]:
    for path, value in _values(raw, row.path.split("."), ""):
        if value not in (None, "", [], {}, 0) and value not in row.fine:
            yield Problem(path, row.instead)


def _values(value: Any, parts: list[str], path: str) -> Iterator[tuple[str, Any]]:
    if not parts:
        yield path, value
        return
    key, is_list = parts[0].removesuffix("[*]"), parts[0].endswith("[*]")
    inner = value.get(key) if isinstance(value, Mapping) else None
    where = f"{path}.{key}" if path else key
    if is_list:
        for index, item in enumerate(inner if isinstance(inner, list) else ()):
            yield from _values(item, parts[1:], f"{where}[{index}]")
    elif inner is not None:
        yield from _values(inner, parts[1:], where)
