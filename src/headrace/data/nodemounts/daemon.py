"""The clients of a Dataset on the nodes that mount it, as one DaemonSet a kind of access. Pure.

A DaemonSet and not pods, because nobody drains those: `kubectl drain` and autoscalers pass its pods by, so a client ends
when the last pod of its node that reads has ended, and holds back no drain (docs/volume-driver.md). The pod is the
sidecar of mode `broker` by itself, with the same two inline volumes: no privilege, Pod Security *restricted*.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from headrace.data.client import ResolvedDataset
from headrace.data.modes.broker import Broker
from headrace.data.modes.mode import Capabilities
from headrace.ids import dns_1035_name, short_hash
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import DAEMON_SET
from headrace.spec.names import DATASET_LABEL, NODE_CLIENT_LABEL, NODE_CLIENT_PRIORITY, SIDECAR_PREFIX

RENDERED_ANNOTATION = "headrace.io/rendered"
"""A digest of what we rendered: the API server's defaults make the object itself say more."""
CONTAINER = f"{SIDECAR_PREFIX}0"
_WRITER_GRACE_S = 30


def daemon_name(dataset: Ref, *, read_only: bool) -> str:
    """Return the DaemonSet's name. It begins as clients' containers do, so that the policies about those hold."""
    return dns_1035_name(f"{SIDECAR_PREFIX}{dataset.name}", access_of(read_only=read_only))


def access_of(*, read_only: bool) -> str:
    """Return the value of the label that tells the two kinds of clients apart."""
    return "reads" if read_only else "writes"


def daemon_body(
    dataset: Doc[Any], resolved: ResolvedDataset, nodes: Iterable[str], *, read_only: bool, capabilities: Capabilities
) -> Json:
    """Return the DaemonSet that runs the client on `nodes`, owned by its Dataset.

    Raises:
        InvalidSpec, Unsupported: the client cannot run without privilege, or there is none; with the cure.
    """
    mode = Broker()
    mode.check(resolved, read_only=read_only, capabilities=capabilities)
    labels = {DATASET_LABEL: dataset.name, NODE_CLIENT_LABEL: access_of(read_only=read_only)}
    spec = {
        "selector": {"matchLabels": labels},
        # What a client was started with changes with the next one, as for sidecars: its readers are in the middle.
        "updateStrategy": {"type": "OnDelete"},
        "template": {
            "metadata": {"labels": labels},
            "spec": _pod_spec(mode, resolved, nodes, read_only=read_only, capabilities=capabilities),
        },
    }
    digest = short_hash(json.dumps(spec, sort_keys=True), length=16)
    return {
        "apiVersion": DAEMON_SET.api_version,
        "kind": DAEMON_SET.name,
        "metadata": {
            "name": daemon_name(dataset.ref, read_only=read_only),
            "namespace": dataset.namespace,
            "labels": labels,
            "annotations": {RENDERED_ANNOTATION: digest},
            "ownerReferences": [dataset.owner_reference(block_deletion=False)],
        },
        "spec": spec,
    }


def nodes_of(daemon: Doc[Any]) -> frozenset[str]:
    """Return the nodes that a DaemonSet of ours is for."""
    template = (daemon.spec.get("template") or {}).get("spec") or {}
    affinity = (template.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or []
    fields = [field for term in terms for field in term.get("matchFields") or []]
    return frozenset(name for field in fields for name in field.get("values") or [])


def is_client_of(pod: Doc[Any], daemon: Doc[Any]) -> bool:
    """Tell whether a pod was made by this very DaemonSet. A label proves nothing."""
    return any(owner.get("controller") and owner.get("uid") == daemon.uid for owner in pod.owners)


def _pod_spec(
    mode: Broker, resolved: ResolvedDataset, nodes: Iterable[str], *, read_only: bool, capabilities: Capabilities
) -> Json:
    parts = mode.parts(resolved, 0, read_only=read_only, capabilities=capabilities)
    container = {key: value for key, value in parts.container.items() if key != "restartPolicy"}
    flush_s = capabilities.tools.flush_s
    spec: Json = {
        "affinity": {"nodeAffinity": _only_on(nodes)},
        # Its readers are on the node already, whatever taints that has.
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": NODE_CLIENT_PRIORITY,
        "terminationGracePeriodSeconds": flush_s if read_only else _WRITER_GRACE_S + flush_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": list(parts.volumes),
    }
    if parts.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in parts.pull_secrets]
    return spec


def _only_on(nodes: Iterable[str]) -> Json:
    """A term for each node, because a match on fields takes one value (core/v1, NodeSelectorRequirement)."""
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]} for node in sorted(nodes)]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
