"""Pods that are never begun: what their status says, and that they can be deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.node import lifecycle, status
from headrace.node.parking import parked
from headrace.node.podspec import PodSpec
from headrace.node.record import PodRecord

MakePod = Callable[..., dict[str, Any]]
DAEMON_SET = {"kind": "DaemonSet", "name": "agents", "controller": True}


def owned(make_pod: MakePod, *owners: dict[str, Any]) -> PodSpec:
    raw = make_pod("app")
    raw["metadata"]["ownerReferences"] = list(owners)
    return PodSpec(raw)


def test_only_pods_of_daemon_sets_are_parked(make_pod: MakePod) -> None:
    assert parked(owned(make_pod), "vm", "virtual-kubelet") == ""
    assert parked(owned(make_pod, {"kind": "ReplicaSet", "name": "r", "controller": True}), "vm", "t") == ""
    assert parked(owned(make_pod, {**DAEMON_SET, "controller": False}), "vm", "t") == ""
    told = parked(owned(make_pod, DAEMON_SET), "vm", "virtual-kubelet")
    assert "Keep DaemonSet agents away" in told
    assert "NotIn [virtual-kubelet]" in told


def test_a_parked_pod_is_pending_says_why_and_goes_when_it_is_deleted(make_pod: MakePod) -> None:
    pod = owned(make_pod, DAEMON_SET)
    record = PodRecord(namespace="ns", name="pod", uid=pod.uid, start_time=1.0, parked="Because.")
    assert lifecycle.plan(pod, record, 2.0) == lifecycle.Plan()
    told = status.compute(pod, record, status.Facts(host_ip="10.0.0.7"), 2.0, {})
    assert (told["phase"], told["reason"], told["message"]) == ("Pending", "Parked", "Because.")
    assert told["containerStatuses"][0]["state"] == {"waiting": {"reason": "Parked", "message": "Because."}}
    ready = next(each for each in told["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "Parked", "Because.")
    assert "podIP" not in told
    going = PodSpec({**pod.raw, "metadata": {**pod.meta, "deletionTimestamp": "now", "deletionGracePeriodSeconds": 30}})
    (end,) = lifecycle.plan(going, record, 3.0).actions
    assert isinstance(end, lifecycle.EndPod)
    record.note_ending(end.reason, end.message, 3.0, end.grace_s)
    assert lifecycle.plan(going, record, 3.0).actions == [lifecycle.Release()]
