"""NodeMounts: whose clients run where, what the drivers are told, and in whose namespace."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from headrace.clock import format_time
from headrace.data.act import Action, Create, Delete, Patch
from headrace.data.client import ResolvedDataset
from headrace.data.modes.mode import Capabilities
from headrace.data.nodemounts.client import NOTHING, Evidence, client_state
from headrace.data.nodemounts.daemon import daemon_body, nodes_of
from headrace.data.nodemounts.plan import Observed, plan
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import DAEMON_SET, NODE_MOUNT, POD

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
REF = Ref("vision", "demo")


def mount(node: str = "n1", *, read_only: bool = True, **meta: Any) -> Doc[Any]:
    spec = {"nodeName": node, "dataset": {"namespace": "vision", "name": "demo"}, "readOnly": read_only}
    name = f"demo-{node}-{read_only}"
    return Doc(NODE_MOUNT, {"metadata": {"name": name, "uid": name, "resourceVersion": "1", **meta}, "spec": spec})


def pod(
    node: str = "n1", *, of: str = "daemon", access: str = "reads", status: Json | None = None, **meta: Any
) -> Doc[Any]:
    labels = {"headrace.io/dataset": "demo", "headrace.io/node-client": access}
    owners = [{"kind": "DaemonSet", "name": "x", "uid": of, "controller": True}]
    body = {
        "metadata": {
            "name": f"client-{node}",
            "namespace": "vision",
            "uid": f"pod-{node}",
            "labels": labels,
            "ownerReferences": owners,
            "creationTimestamp": format_time(NOW - dt.timedelta(seconds=5)),
            **meta,
        },
        "spec": {"nodeName": node},
        "status": status or {},
    }
    return Doc(POD, body)


def container(**status: Any) -> Json:
    return {"containerStatuses": [{"name": "fluid-fuse-0", "restartCount": 0, **status}]}


READY = container(ready=True, started=True)


class Bench:
    """Observations of Dataset `vision/demo`, which is configured."""

    def __init__(self, make: Any, resolved: ResolvedDataset, capabilities: Capabilities) -> None:
        self.dataset = make.dataset()
        self.resolved = resolved
        self.capabilities = capabilities

    def daemon(self, *nodes: str, read_only: bool = True, **meta: Any) -> Doc[Any]:
        body = daemon_body(self.dataset, self.resolved, nodes, read_only=read_only, capabilities=self.capabilities)
        body["metadata"] |= {"uid": "daemon", "resourceVersion": "7", **meta}
        return Doc(DAEMON_SET, body)

    def plan(self, *mounts: Doc[Any], users: str = "n1", **more: Any) -> list[Action]:
        settings = {"dataset": self.dataset, "resolved": self.resolved, "nodes": frozenset({"n1", "n2"}), **more}
        observed = Observed(ref=REF, mounts=mounts, users=frozenset(users.split()), **settings)
        return list(plan(observed, NOW, self.capabilities).actions)


@pytest.fixture
def bench(make: Any, dataset_of: Any, capabilities: Capabilities) -> Bench:
    return Bench(make, dataset_of("demo", name="demo"), capabilities)


def told(actions: list[Action]) -> tuple[str, str, str]:
    """Return status, reason and client's uid of the one answer among the actions."""
    [answer] = [action for action in actions if isinstance(action, Patch) and action.kind is NODE_MOUNT]
    status = answer.body["status"]
    ready = find_condition(status["conditions"], "Ready") or {}
    return ready["status"], ready["reason"], (status.get("client") or {}).get("uid", "")


def test_the_client_is_the_sidecar_by_itself_and_without_privilege(bench: Bench) -> None:
    [create, _] = bench.plan(mount())
    assert isinstance(create, Create)
    template = create.body["spec"]["template"]
    spec, [client] = template["spec"], template["spec"]["containers"]
    assert template["metadata"]["labels"] == create.body["spec"]["selector"]["matchLabels"]
    assert create.body["metadata"]["name"].startswith("fluid-fuse-")
    assert create.body["metadata"]["ownerReferences"][0]["uid"] == bench.dataset.uid
    assert "restartPolicy" not in client
    assert client["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not client["securityContext"]["privileged"]
    assert client["startupProbe"]
    assert not spec["automountServiceAccountToken"]
    assert not any("hostPath" in volume for volume in spec["volumes"])
    attributes = [volume["csi"]["volumeAttributes"] for volume in spec["volumes"] if "csi" in volume]
    assert attributes == [
        {"dataset": "demo", "role": "data", "readOnly": "true"},
        {"dataset": "demo", "role": "socket"},
    ]
    assert nodes_of(Doc(DAEMON_SET, create.body)) == {"n1"}
    assert create.body["spec"]["updateStrategy"] == {"type": "OnDelete"}


def test_readers_and_writers_of_all_nodes_have_a_set_each(bench: Bench) -> None:
    actions = bench.plan(mount("n1"), mount("n2"), mount("n2", read_only=False), users="n1 n2")
    made = [action for action in actions if isinstance(action, Create)]
    assert [nodes_of(Doc(DAEMON_SET, action.body)) for action in made] == [{"n1", "n2"}, {"n2"}]
    assert made[0].body["metadata"]["name"] != made[1].body["metadata"]["name"]


def test_a_driver_is_not_believed_where_no_pod_of_its_node_uses_the_dataset(bench: Bench) -> None:
    actions = bench.plan(mount("n2"), users="n1")
    assert told(actions) == ("Unknown", "NotInUse", "")
    assert len(actions) == 1
    actions = bench.plan(mount("n1"), mount("n2"), users="n1", daemons={True: bench.daemon("n1")})
    assert all(isinstance(action, Patch) and action.kind is NODE_MOUNT for action in actions)


def test_a_client_stays_for_as_long_as_it_is_asked_for(bench: Bench) -> None:
    actions = bench.plan(mount(), users="", daemons={True: bench.daemon("n1")}, pods=(pod(status=READY),))
    assert told(actions) == ("True", "Serving", "pod-n1")
    assert len(actions) == 1


def test_a_node_comes_and_goes_by_a_changed_set_and_the_last_takes_it_along(bench: Bench) -> None:
    daemon = bench.daemon("n1")
    [change, *_] = bench.plan(mount("n1"), mount("n2"), users="n1 n2", daemons={True: daemon})
    assert isinstance(change, Patch)
    assert change.body["metadata"]["resourceVersion"] == "7"
    assert nodes_of(Doc(DAEMON_SET, change.body)) == {"n1", "n2"}
    assert bench.plan(users="n1", daemons={True: daemon}) == [Delete(DAEMON_SET, daemon.ref, "daemon")]
    going = bench.daemon("n1", deletionTimestamp="2026-01-01T00:00:00Z")
    assert bench.plan(users="n1", daemons={True: going}) == []
    ending = mount(deletionTimestamp="2026-01-01T00:00:00Z")
    assert bench.plan(ending, daemons={True: daemon}) == [Delete(DAEMON_SET, daemon.ref, "daemon")]


def test_what_has_not_changed_is_not_written_again(bench: Bench) -> None:
    daemons, pods = {True: bench.daemon("n1")}, (pod(status=READY),)
    [answer] = bench.plan(mount(), daemons=daemons, pods=pods)
    assert isinstance(answer, Patch)
    known = mount()
    known.raw["status"] = answer.body["status"]
    assert bench.plan(known, daemons=daemons, pods=pods) == []


def test_one_client_at_a_time(bench: Bench) -> None:
    actions = bench.plan(mount(), pods=(pod(of="before"),))
    assert told(actions) == ("Unknown", "Starting", "")
    assert len(actions) == 1
    assert isinstance(bench.plan(mount(), pods=(pod(of="before", access="writes"),))[0], Create)


def test_only_the_sets_own_pod_that_is_not_ending_is_the_client(bench: Bench) -> None:
    daemons = {True: bench.daemon("n1")}
    for other in (
        pod(of="forged", status=READY),
        pod("n2", status=READY),
        pod(status=READY, deletionTimestamp="2026-01-01T00:00:00Z"),
    ):
        assert told(bench.plan(mount(), daemons=daemons, pods=(other,)))[2] == ""


def test_what_a_node_that_is_gone_asked_for_goes(bench: Bench) -> None:
    gone = mount("n9")
    assert bench.plan(gone) == [Delete(NODE_MOUNT, gone.ref, gone.uid)]


def test_a_dataset_that_cannot_be_mounted_is_answered_with_its_own_sentence(bench: Bench) -> None:
    [answer] = bench.plan(mount(), resolved=None, why_not="Dataset vision/demo cannot be mounted: no profile.")
    assert isinstance(answer, Patch)
    assert told([answer]) == ("False", "DatasetNotReady", "")
    assert "no profile" in str(answer.body)
    [answer] = bench.plan(mount(), dataset=None, resolved=None)
    assert "There is no Dataset vision/demo" in str(getattr(answer, "body", ""))


@pytest.mark.parametrize(
    ("client", "evidence", "says"),
    [
        (None, NOTHING, ("Unknown", "Starting", "being made")),
        (None, Evidence(warning="exceeded quota: pods"), ("False", "ClientNotMade", "exceeded quota: pods.")),
        (pod(), NOTHING, ("Unknown", "Starting", "starts in pod vision/client-n1")),
        (pod(status=READY), NOTHING, ("True", "Serving", "vision/client-n1 serves it")),
        (
            pod(status=container(state={"waiting": {"reason": "ErrImagePull", "message": "no such image"}})),
            NOTHING,
            ("False", "ErrImagePull", "no such image"),
        ),
        (
            pod(status=container(lastState={"terminated": {"exitCode": 3, "message": "no such bucket"}}, state={})),
            NOTHING,
            ("False", "ClientCrashes", "It said: no such bucket."),
        ),
        # It has served before: it is being healed, and not hopeless.
        (
            pod(status=container(started=True, lastState={"terminated": {"exitCode": 137}}, state={"running": {}})),
            NOTHING,
            ("Unknown", "Starting", "starts"),
        ),
        (
            pod(status={"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}]}),
            NOTHING,
            ("False", "Unschedulable", "Insufficient cpu"),
        ),
        (
            pod(creationTimestamp="2025-12-31T23:59:00Z", status=container(state={"running": {}})),
            Evidence(log="dialing storage\n"),
            ("Unknown", "Starting", "serves nothing yet. It said: dialing storage."),
        ),
    ],
)
def test_how_a_client_is(client: Doc[Any] | None, evidence: Evidence, says: tuple[str, str, str]) -> None:
    state = client_state(client, evidence, NOW)
    assert (state.status, state.reason) == says[:2]
    assert says[2] in state.message
