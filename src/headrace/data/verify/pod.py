"""The probe pod of one dataset in one pool: an ordinary user's pod, injected like any other, that lists the mount.

It proves what a job will meet: the pool's nodes, images and pull secrets, the client, its credentials, the line. It is
metered like every pod we make.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from headrace.data.client import ResolvedDataset
from headrace.data.injection import inject
from headrace.data.modes.mode import Capabilities
from headrace.data.runtime.render import security_context
from headrace.ids import dns_1035_name, short_hash
from headrace.pools.capacity import node_selector, tolerations
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import POD
from headrace.spec.names import METERED_FINALIZER, POOL_LABEL, PROBE_LABEL

KEY_ANNOTATION = "headrace.io/probe-key"
ATTEMPT_ANNOTATION = "headrace.io/probe-attempt"
APP = "probe"
HOST_IMAGE = "host"
"""The embedded engine's own: the root of the machine it runs on."""
_PATH = "/data"

# Lists, then says what the file system knows of its size: block size, blocks, free blocks, inodes, free inodes.
# Both exist in every image with a shell, GNU or busybox.
_LIST = 'ls -A -- "$0" > /dev/null && { stat -f -c "%S %b %f %c %d" -- "$0" > /dev/termination-log || true; }'


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How probes are run.

    Args:
        image: any image with a shell.
        deadline_s: a mount that has not been listed by then is called unverified, with what is known.
        first_retry_s, last_retry_s: pause after the first failure, doubled each time, up to the last.
        at_once: how many Datasets are probed in a pool at the same time, about; the room is the jobs'.
    """

    image: str = HOST_IMAGE
    deadline_s: float = 90.0
    first_retry_s: float = 15.0
    last_retry_s: float = 900.0
    at_once: int = 8
    user: int = 65534

    def most_others(self, failures: int) -> int:
        """Return beside how many others a probe begins: those that failed before leave half the room to new ones."""
        return self.at_once // 2 if failures else self.at_once

    def retry_after_s(self, attempts: int) -> float:
        """Return the pause after so many failures."""
        return float(min(self.first_retry_s * 2 ** max(0, attempts - 1), self.last_retry_s))


def probe_pod(
    dataset: Doc[Any],
    resolved: ResolvedDataset,
    pool: Doc[Any],
    capabilities: Capabilities,
    settings: ProbeSettings,
) -> Json:
    """Return the pod, without name, key and attempt.

    Raises what `inject` raises: the pool's mode cannot serve this dataset.
    """
    access = pool.spec.get("dataAccess") or {}
    pod: Json = {
        "apiVersion": POD.api_version,
        "kind": POD.name,
        "metadata": {
            "namespace": dataset.namespace,
            "labels": {**(access.get("podLabels") or {}), PROBE_LABEL: dataset.name, POOL_LABEL: pool.name},
            "annotations": dict(access.get("podAnnotations") or {}),
            "finalizers": [METERED_FINALIZER],
            "ownerReferences": [dataset.owner_reference(block_deletion=False)],
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": int(settings.deadline_s) + 30,
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "nodeSelector": dict(node_selector(pool)),
            "tolerations": list(tolerations(pool)),
            "containers": [
                {
                    "name": APP,
                    "image": settings.image,
                    "command": ["sh", "-c", _LIST, _PATH],
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                    "securityContext": security_context(settings.user),
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "volumeMounts": [{"name": "data", "mountPath": _PATH, "readOnly": True}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": resolved.claim}}],
        },
    }
    return inject(pod, {resolved.claim: resolved}, mode_of(pool), capabilities)


def mode_of(pool: Doc[Any]) -> str:
    """Return a pool's mount mode; `native` where it says none."""
    return str((pool.spec.get("dataAccess") or {}).get("mode") or "native")


def probe_key(pod: Json, config: str, secret_versions: tuple[str, ...]) -> str:
    """Return a digest of everything the mount depends on: a mount with another digest has not been verified."""
    return short_hash(json.dumps(pod["spec"], sort_keys=True), config, *secret_versions, length=12)


def named(pod: Json, key: str, attempt: int) -> Json:
    """Return the pod under the name of this attempt; the same attempt has the same name."""
    meta = pod["metadata"]
    labels = meta["labels"]
    name = dns_1035_name(f"probe-{labels[PROBE_LABEL]}", labels[POOL_LABEL], key, str(attempt))
    annotations = {**meta["annotations"], KEY_ANNOTATION: key, ATTEMPT_ANNOTATION: str(attempt)}
    return {**pod, "metadata": {**meta, "name": name, "annotations": annotations}}
