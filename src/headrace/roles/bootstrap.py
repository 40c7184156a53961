"""The objects that a fresh embedded engine begins with. Applied at every start; what people changed in them stays."""

from __future__ import annotations

from typing import Any

from headrace.engine.builtin.volume_plan import PROVISIONER
from headrace.roles.settings_file import CLOUD, OWN, UpSettings
from headrace.spec import kinds
from headrace.spec.kind import Json, Kind
from headrace.spec.names import (
    CSI_DRIVER,
    DEFAULT_STORAGE_CLASS_ANNOTATION,
    NODE_POOL_LABEL,
    VIRTUAL_NODE_TAINT,
)

LOCAL_PATH_CLASS = "local-path"

CLOUD_TAINT = {"key": VIRTUAL_NODE_TAINT, "value": "headrace", "effect": "NoSchedule"}

# List prices of Alibaba ECI by the second, as a card people can compare with; change them with kubectl edit pool cloud.
CLOUD_PRICE = {
    "currency": "USD",
    "startsAt": "Pull",
    "granularity": "1s",
    "rates": {"cpu": "0.0000077/s", "memory": "0.00000096/GiB-s"},
}


def objects(settings: UpSettings, mode: str) -> list[tuple[Kind[Any], Json]]:
    """Return storage class, CSI driver, the two pools and the default queue, each with its kind.

    `mode` is how data is reached in the cloud pool here: broker, or materialise where nothing can mount; then the own
    pool's driver cannot mount either, and copies too.
    """
    at_home = "materialise" if mode == "materialise" else "native"
    return [
        (
            kinds.STORAGE_CLASS,
            {
                "metadata": {"name": LOCAL_PATH_CLASS, "annotations": {DEFAULT_STORAGE_CLASS_ANNOTATION: "true"}},
                "provisioner": PROVISIONER,
                "reclaimPolicy": "Delete",
                "volumeBindingMode": "WaitForFirstConsumer",
            },
        ),
        (
            kinds.CSI_DRIVER,
            {
                "metadata": {"name": CSI_DRIVER},
                "spec": {
                    "attachRequired": False,
                    "podInfoOnMount": True,
                    "fsGroupPolicy": "None",
                    "volumeLifecycleModes": ["Persistent", "Ephemeral"],
                },
            },
        ),
        (kinds.POOL, _pool(OWN, {"kind": "own", "dataAccess": {"mode": at_home}})),
        (kinds.POOL, _pool(CLOUD, _cloud(settings, mode))),
        (kinds.QUEUE, {"metadata": {"name": "default"}, "spec": {"burst": {"allow": True, "waitPrice": "1.00/h"}}}),
    ]


def _pool(name: str, spec: Json) -> Json:
    nodes = {"selector": {NODE_POOL_LABEL: name}, **spec.pop("nodes", {})}
    return {"metadata": {"name": name}, "spec": {**spec, "nodes": nodes}}


def _cloud(settings: UpSettings, mode: str) -> Json:
    capacity = {"cpu": settings.cloud.cpu or "16", "memory": settings.cloud.memory or "64Gi"}
    return {
        "kind": "serverless",
        "capacity": capacity,
        "nodes": {"tolerations": [{"key": VIRTUAL_NODE_TAINT, "operator": "Exists"}]},
        "dataAccess": {"mode": mode},
        "price": dict(CLOUD_PRICE),
        "line": {"bandwidth": "1Gbit/s", "pricePerGB": "0.05"},
    }
