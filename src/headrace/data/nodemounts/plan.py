"""What to do about the NodeMounts of one Dataset: which clients run on which nodes, and what the drivers are told. Pure.

A driver is believed no further than its node's pods: a client comes to a node that asks for it only while a pod there
mounts the Dataset. It stays as long as it is asked for: the pod may be gone before its volume is taken down.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.data.act import Action, Create, Delete, Patch, Plan
from headrace.data.client import ResolvedDataset
from headrace.data.conditions import READY, status_patch
from headrace.data.modes.mode import Capabilities
from headrace.data.nodemounts.client import NOTHING, STARTING, ClientState, Evidence, client_state
from headrace.data.nodemounts.daemon import RENDERED_ANNOTATION, access_of, daemon_body, is_client_of, nodes_of
from headrace.errors import HeadraceError
from headrace.spec.conditions import set_condition
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import DAEMON_SET, NODE_MOUNT
from headrace.spec.names import NODE_CLIENT_LABEL

LOOK_AGAIN_S = 5.0
"""While a client starts, for what changes no object: how long it takes."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The NodeMounts of one Dataset and what there is for them.

    Args:
        dataset, resolved: None where there is none, or it is not configured; `why_not` says it.
        mounts: of this Dataset, on all nodes.
        daemons: by `read_only`.
        pods: with the label of clients of this Dataset, whoever made them.
        nodes: names of all nodes.
        users: nodes on which a pod mounts the Dataset by a PersistentVolume.
        evidence: by node and `read_only`, where it was asked for.
    """

    ref: Ref
    dataset: Doc[Any] | None = None
    resolved: ResolvedDataset | None = None
    why_not: str = ""
    mounts: tuple[Doc[Any], ...] = ()
    daemons: Mapping[bool, Doc[Any]] = field(default_factory=dict)
    pods: tuple[Doc[Any], ...] = ()
    nodes: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    evidence: Mapping[tuple[str, bool], Evidence] = field(default_factory=dict)

    def asked(self, *, read_only: bool) -> tuple[Doc[Any], ...]:
        """Return the mounts of one kind of access that are still wanted."""
        return tuple(m for m in self.mounts if is_read_only(m) == read_only and not m.is_deleting)

    def client(self, node: str, *, read_only: bool) -> Doc[Any] | None:
        """Return the client's pod on a node, the one that the present DaemonSet made and that is not ending."""
        daemon = self.daemons.get(read_only)
        if daemon is None:
            return None
        ours = (pod for pod in self.pods if is_client_of(pod, daemon) and pod.spec.get("nodeName") == node)
        return next((pod for pod in ours if not pod.is_deleting), None)


def node_of(mount: Doc[Any]) -> str:
    """Return the node that a NodeMount is for."""
    return str(mount.spec.get("nodeName") or "")


def is_read_only(mount: Doc[Any]) -> bool:
    """Tell which of the two kinds of clients a NodeMount asks for."""
    return bool(mount.spec.get("readOnly"))


def dataset_of(mount: Doc[Any]) -> Ref:
    """Return the Dataset that a NodeMount asks for."""
    dataset = mount.spec.get("dataset") or {}
    return Ref(str(dataset.get("namespace") or ""), str(dataset.get("name") or ""))


def plan(observed: Observed, now: dt.datetime, capabilities: Capabilities) -> Plan:
    """Return what makes the clients those that are asked for, and the answers true."""
    lost = (mount for mount in observed.mounts if node_of(mount) not in observed.nodes and not mount.is_deleting)
    actions: list[Action] = [Delete(NODE_MOUNT, mount.ref, mount.uid) for mount in lost]
    waiting = False
    for read_only in (True, False):
        decided, why_not = _clients(observed, capabilities, read_only=read_only)
        actions += decided
        for mount in observed.asked(read_only=read_only):
            if node_of(mount) in observed.nodes:
                state = _state(observed, mount, why_not, now)
                waiting = waiting or state.status != "True"
                actions += _answer(observed, mount, state, now)
    return Plan(tuple(actions), LOOK_AGAIN_S if waiting else None)


def _clients(observed: Observed, capabilities: Capabilities, *, read_only: bool) -> tuple[list[Action], str]:
    """Return what to do about one DaemonSet, and the sentence why a client cannot be run, empty when it can."""
    daemon = observed.daemons.get(read_only)
    asked = {node_of(mount) for mount in observed.asked(read_only=read_only)} & observed.nodes
    served = nodes_of(daemon) if daemon is not None else frozenset()
    nodes = asked & (observed.users | served)
    if not nodes:
        gone = [Delete(DAEMON_SET, daemon.ref, daemon.uid)] if daemon is not None and not daemon.is_deleting else []
        return list(gone), ""
    if observed.dataset is None or observed.resolved is None:
        return [], observed.why_not or f"There is no Dataset {observed.ref}."
    try:
        body = daemon_body(observed.dataset, observed.resolved, nodes, read_only=read_only, capabilities=capabilities)
    except HeadraceError as error:
        return [], str(error)
    if daemon is None:
        # One client at a time: that of a DaemonSet before may still be writing out what it holds.
        return ([] if _are_ending(observed, read_only=read_only) else [Create(DAEMON_SET, body)]), ""
    if daemon.is_deleting or daemon.annotations.get(RENDERED_ANNOTATION) == _digest(body):
        return [], ""
    return [Patch(DAEMON_SET, daemon.ref, {"metadata": _version_and_digest(daemon, body), "spec": body["spec"]})], ""


def _are_ending(observed: Observed, *, read_only: bool) -> bool:
    access = access_of(read_only=read_only)
    return any(pod.labels.get(NODE_CLIENT_LABEL) == access for pod in observed.pods)


def _digest(body: Json) -> str:
    return str(body["metadata"]["annotations"][RENDERED_ANNOTATION])


def _version_and_digest(daemon: Doc[Any], body: Json) -> Json:
    return {"resourceVersion": daemon.version, "annotations": {RENDERED_ANNOTATION: _digest(body)}}


def _state(observed: Observed, mount: Doc[Any], why_not: str, now: dt.datetime) -> ClientState:
    node, read_only = node_of(mount), is_read_only(mount)
    pod = observed.client(node, read_only=read_only)
    if pod is None and why_not:
        return ClientState(status="False", reason="DatasetNotReady", message=why_not)
    daemon = observed.daemons.get(read_only)
    if pod is None and node not in observed.users and (daemon is None or node not in nodes_of(daemon)):
        message = f"No pod on {node} mounts Dataset {observed.ref} by a PersistentVolume."
        return ClientState(status="Unknown", reason="NotInUse", message=message)
    if pod is None and daemon is None and _are_ending(observed, read_only=read_only):
        return ClientState(status="Unknown", reason=STARTING, message="The client before is ending.")
    return client_state(pod, observed.evidence.get((node, read_only), NOTHING), now)


def _answer(observed: Observed, mount: Doc[Any], state: ClientState, now: dt.datetime) -> Iterator[Action]:
    pod = observed.client(node_of(mount), read_only=is_read_only(mount))
    conditions = set_condition(
        mount.status.get("conditions"), READY, state.status, state.reason, state.message, now, mount.generation
    )
    wanted: Json = {
        "client": {"name": pod.name, "uid": pod.uid} if pod is not None else None,
        "conditions": conditions,
        "observedGeneration": mount.generation,
    }
    patch = status_patch(mount, wanted)
    if patch is not None:
        yield patch
