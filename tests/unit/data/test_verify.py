"""Probe mounts: the pod, the verdict, when to try again, and what the Dataset says."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from headrace.data.act import Action, Create, Delete, Patch, Tell
from headrace.data.client import ResolvedDataset
from headrace.data.modes.mode import Capabilities
from headrace.data.verify.outcome import Evidence, client_container, outcome, wants_evidence
from headrace.data.verify.plan import Observed, plan
from headrace.data.verify.pod import ProbeSettings, named, probe_pod
from headrace.data.verify.size import format_size, parse_size
from headrace.data.words import tail
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import POD

SETTINGS = ProbeSettings(deadline_s=60, first_retry_s=10, last_retry_s=40)


@pytest.fixture
def resolved(dataset_of: Any) -> ResolvedDataset:
    result: ResolvedDataset = dataset_of("demo", name="demo")
    return result


def later(make: Any, seconds: float) -> dt.datetime:
    moment: dt.datetime = make.now + dt.timedelta(seconds=seconds)
    return moment


# -- the pod ---------------------------------------------------------------------------------------------------------


def test_the_probe_is_an_injected_pod_of_the_pool(
    make: Any, resolved: ResolvedDataset, capabilities: Capabilities
) -> None:
    pool = make.pool("cloud")
    pool.raw["spec"]["nodes"] = {"tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]}
    pod = named(probe_pod(make.dataset(), resolved, pool, capabilities, SETTINGS), "key", 0)
    meta, spec = pod["metadata"], pod["spec"]
    assert meta["finalizers"] == ["headrace.io/metered"]
    assert (meta["labels"]["headrace.io/probe"], meta["labels"]["headrace.io/pool"]) == ("demo", "cloud")
    assert meta["ownerReferences"][0]["kind"] == "Dataset"
    assert spec["nodeSelector"] == {"node-restriction.kubernetes.io/headrace-pool": "cloud"}
    assert spec["tolerations"] == [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]
    assert spec["initContainers"][0]["name"] == "fluid-fuse-0"
    assert spec["containers"][0]["volumeMounts"][0]["subPath"] == "ds"
    assert spec["restartPolicy"] == "Never"
    assert len(meta["name"]) <= 63
    assert meta["name"] == named(pod, "key", 0)["metadata"]["name"]
    assert meta["name"] != named(pod, "key", 1)["metadata"]["name"]


def test_a_native_pools_probe_mounts_the_claim_itself(
    make: Any, resolved: ResolvedDataset, capabilities: Capabilities
) -> None:
    pod = probe_pod(make.dataset(), resolved, make.pool("own", "native"), capabilities, SETTINGS)
    assert "initContainers" not in pod["spec"]
    assert pod["spec"]["containers"][0]["volumeMounts"][0]["name"] == "data"


# -- the verdict -----------------------------------------------------------------------------------------------------


def probe(status: Json, **meta: Any) -> Doc[Any]:
    raw = {
        "metadata": {"name": "p", "namespace": "vision", "creationTimestamp": "2026-01-01T00:00:00Z", **meta},
        "spec": {"initContainers": [{"name": "fluid-fuse-0"}], "containers": [{"name": "probe"}]},
        "status": status,
    }
    return Doc(POD, raw)


def ended(name: str, code: int, message: str = "", restarts: int = 0) -> Json:
    return {"name": name, "restartCount": restarts, "state": {"terminated": {"exitCode": code, "message": message}}}


def crashed(message: str, restarts: int) -> Json:
    return {
        "name": "fluid-fuse-0",
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "message": message}},
    }


SUCCEEDED: Json = {"phase": "Succeeded", "containerStatuses": [ended("probe", 0, "4096 100 40 50 10")]}


def test_a_listing_is_proof_and_tells_the_size(make: Any) -> None:
    result = outcome(probe(SUCCEEDED), Evidence(), make.now, 60)
    assert result is not None
    assert (result.verified, result.used_bytes, result.files) == ("True", 60 * 4096, 40)


@pytest.mark.parametrize("message", ["", "nonsense", "4096 100 100 0 0", "1048576 1099511627776 0 0 0"])
def test_a_size_nobody_knows_is_unknown(make: Any, message: str) -> None:
    status = {"phase": "Succeeded", "containerStatuses": [ended("probe", 0, message)]}
    result = outcome(probe(status), Evidence(), make.now, 60)
    assert result is not None
    assert (result.used_bytes, result.files) == (None, None)


@pytest.mark.parametrize(
    ("status", "age_s", "reason", "says"),
    [
        ({"phase": "Pending", "initContainerStatuses": [crashed("no such volume", 1)]}, 5, None, ""),
        (
            {"phase": "Pending", "initContainerStatuses": [crashed("no such volume", 2)]},
            5,
            "ClientCrashes",
            "no such volume",
        ),
        (
            {"phase": "Failed", "containerStatuses": [ended("probe", 2, "ls: Input/output error")]},
            5,
            "ProbeFailed",
            "Input",
        ),
        (
            {
                "phase": "Failed",
                "initContainerStatuses": [ended("fluid-fuse-0", 1, "access denied")],
                "containerStatuses": [ended("probe", 2, "ls: no")],
            },
            5,
            "ProbeFailed",
            "access denied",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    {
                        "name": "fluid-fuse-0",
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
                    }
                ],
            },
            1,
            "ImagePullBackOff",
            "not found",
        ),
        ({"phase": "Pending"}, 59, None, ""),
        ({"phase": "Running", "initContainerStatuses": [{"name": "fluid-fuse-0"}]}, 61, "NotServed", "60 s"),
    ],
)
def test_verdicts(make: Any, status: Json, age_s: float, reason: str | None, says: str) -> None:
    result = outcome(probe(status), Evidence(), later(make, age_s), 60)
    if reason is None:
        assert result is None
        return
    assert result is not None
    assert (result.verified, result.reason) == ("False", reason)
    assert says in result.message


def test_no_room_is_no_verdict_about_the_mount(make: Any) -> None:
    status = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]}
    assert outcome(probe(status), Evidence(), later(make, 10), 60) is None
    result = outcome(probe(status), Evidence(), later(make, 40), 60)
    assert result is not None
    assert (result.verified, result.reason) == ("Unknown", "Unschedulable")
    assert "0/2 nodes" in result.message


def test_a_client_that_hangs_is_quoted_from_its_log(make: Any) -> None:
    hangs = probe({"phase": "Pending", "initContainerStatuses": [{"name": "fluid-fuse-0"}]})
    assert not wants_evidence(hangs, later(make, 10), 60)
    assert wants_evidence(hangs, later(make, 61), 60)
    assert client_container(hangs) == "fluid-fuse-0"
    result = outcome(hangs, Evidence(log="dial tcp: timeout\n\ntrying again\n"), later(make, 61), 60)
    assert result is not None
    assert "dial tcp: timeout | trying again" in result.message
    warned = outcome(hangs, Evidence(warning="MountVolume failed: no driver"), later(make, 61), 60)
    assert warned is not None
    assert "no driver" in warned.message


def test_counters_are_no_last_words(make: Any) -> None:
    status = {"phase": "Failed", "initContainerStatuses": [ended("fluid-fuse-0", 1, '{"bytes": 5}')]}
    assert wants_evidence(probe(status), make.now, 60)
    result = outcome(probe(status), Evidence(log="lost the server"), make.now, 60)
    assert result is not None
    assert "lost the server" in result.message


def test_what_is_said_again_and_again_is_quoted_once() -> None:
    log = "connecting\n22:43:32 error 403\n22:43:33 error 403\n22:43:34 error 403\n"
    assert tail(log) == "connecting | 22:43:34 error 403"


def test_a_node_that_cannot_mount_is_believed_after_some_tries(make: Any) -> None:
    said = {"type": "PodReadyToStartContainers", "status": "False", "message": 'secret "s" not found'}
    waits = probe({"phase": "Pending", "conditions": [said]})
    assert outcome(waits, Evidence(), later(make, 10), 60) is None
    result = outcome(waits, Evidence(warning='secret "s" not found'), later(make, 21), 60)
    assert result is not None
    assert (result.verified, result.reason) == ("False", "NotMounted")
    assert result.message.startswith('secret "s" not found. Mostly the storage')
    at_length = Doc(POD, {**waits.raw, "status": {"conditions": [{**said, "message": "x" * 900 + " wrong secret"}]}})
    result = outcome(at_length, Evidence(warning="y" * 900 + " wrong secret"), later(make, 21), 60)
    assert result is not None
    assert "wrong secret. Mostly the storage" in result.message
    assert len(result.message) < 1000, "an Event is cut there"


def test_last_words_are_bounded() -> None:
    assert len(tail("x" * 10_000)) < 700


# -- when ------------------------------------------------------------------------------------------------------------


class World:
    """A Dataset, its pools and its probes, moved on by the plan's own actions."""

    def __init__(self, make: Any, resolved: ResolvedDataset, capabilities: Capabilities) -> None:
        self.make = make
        self.capabilities = capabilities
        self.observed = Observed(dataset=make.dataset(), resolved=resolved, config="{}", pools=(make.pool("cloud"),))
        self.now = make.now
        self.actions: tuple[Action, ...] = ()
        self.again_after_s: float | None = None

    def step(self, seconds: float = 0) -> World:
        """Plan and carry out."""
        self.now += dt.timedelta(seconds=seconds)
        decided = plan(self.observed, self.now, SETTINGS, lambda _pool: self.capabilities)
        self.actions, self.again_after_s = decided.actions, decided.again_after_s
        pods = {pod.name: pod for pod in self.observed.pods}
        dataset = self.observed.dataset
        for action in self.actions:
            match action:
                case Create(_, body):
                    stamp = {"creationTimestamp": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"), "uid": "u"}
                    raw = {**body, "metadata": {**body["metadata"], **stamp}, "status": {"phase": "Pending"}}
                    pods[body["metadata"]["name"]] = Doc(POD, raw)
                case Delete(_, ref, _):
                    del pods[ref.name]
                case Patch(_, _, body, "status"):
                    assert dataset is not None
                    dataset = Doc(dataset.kind, {**dataset.raw, "status": {**dataset.status, **body["status"]}})
        self.observed = replace(self.observed, dataset=dataset, pods=tuple(pods.values()))
        return self

    def pod_says(self, status: Json) -> World:
        self.observed = replace(
            self.observed, pods=tuple(Doc(POD, {**pod.raw, "status": status}) for pod in self.observed.pods)
        )
        return self

    @property
    def condition(self) -> Json:
        assert self.observed.dataset is not None
        found = find_condition(self.observed.dataset, "MountVerified")
        assert found is not None
        return found

    @property
    def entry(self) -> Json:
        assert self.observed.dataset is not None
        entry: Json = self.observed.dataset.status["pools"][0]
        return entry


FAILED: Json = {"phase": "Failed", "containerStatuses": [ended("probe", 2, "wrong secret")]}


@pytest.fixture
def world(make: Any, resolved: ResolvedDataset, capabilities: Capabilities) -> World:
    return World(make, resolved, capabilities)


def test_a_mount_is_verified_once(world: World) -> None:
    world.step()
    assert len(world.observed.pods) == 1
    assert (world.condition["status"], world.condition["reason"]) == ("Unknown", "Verifying")
    assert not world.step(3).actions
    world.pod_says(SUCCEEDED).step(1)
    assert not world.observed.pods
    assert (world.condition["status"], world.condition["message"]) == ("True", "Listed in cloud.")
    assert world.observed.dataset is not None
    assert world.observed.dataset.status["ufsTotal"] == "240.00KiB"
    assert [a.reason for a in world.actions if isinstance(a, Tell)] == ["MountVerified"]
    world.step(1000)
    assert not world.actions
    assert world.again_after_s is None


def test_a_failure_quotes_the_client_and_is_tried_again_with_growing_pauses(world: World) -> None:
    pauses = []
    for _ in range(4):
        while not world.observed.pods:
            world.step(world.again_after_s or 0)
        world.pod_says(FAILED).step(1)
        assert "wrong secret" in world.condition["message"]
        pauses.append(world.again_after_s)
        assert not world.observed.pods
    assert pauses == [10, 20, 40, 40]
    assert world.entry["attempts"] == 4
    world.step(39)
    assert not world.observed.pods
    assert world.again_after_s == pytest.approx(1)


def test_a_changed_secret_is_tried_at_once(world: World) -> None:
    world.step().pod_says(FAILED).step(1)
    world.observed = replace(world.observed, secret_versions=("s3@8",))
    world.step(0)
    assert len(world.observed.pods) == 1
    assert (world.entry["verified"], world.entry["attempts"]) == ("Unknown", 0)


@pytest.mark.parametrize("change", ["config", "image", "mode", "capabilities"])
def test_whatever_the_mount_depends_on_is_verified_anew(world: World, change: str) -> None:
    world.step().pod_says(SUCCEEDED).step(1)
    if change == "config":
        world.observed = replace(world.observed, config='{"other": 1}')
    elif change == "image":
        assert world.observed.resolved is not None
        client = replace(world.observed.resolved.client, image="juicefs:1.5")
        world.observed = replace(world.observed, resolved=replace(world.observed.resolved, client=client))
    elif change == "mode":
        world.observed = replace(world.observed, pools=(world.make.pool("cloud", "materialise"),))
    else:
        world.capabilities = replace(world.capabilities, tools=replace(world.capabilities.tools, served=("other",)))
    world.step()
    assert len(world.observed.pods) == 1
    assert world.condition["status"] == "Unknown"


def test_a_probe_of_an_old_state_is_removed(world: World) -> None:
    world.step()
    old = world.observed.pods[0].name
    world.observed = replace(world.observed, config='{"other": 1}')
    world.step()
    assert [pod.name for pod in world.observed.pods] != [old]
    assert len(world.observed.pods) == 1


def test_a_lost_probe_is_made_again(world: World) -> None:
    world.step()
    name = world.observed.pods[0].name
    world.observed = replace(world.observed, pods=())
    world.step()
    assert [pod.name for pod in world.observed.pods] == [name]


def test_only_so_many_datasets_are_probed_in_a_pool_at_once(world: World) -> None:
    world.observed = replace(world.observed, others={"cloud": SETTINGS.at_once})
    world.step()
    assert not world.observed.pods
    assert (world.condition["status"], world.condition["reason"]) == ("Unknown", "Queued")
    assert world.condition["message"] == "cloud: its turn to be probed comes after those of other Datasets."
    assert not [a for a in world.actions if isinstance(a, Tell)]
    assert not world.step(world.again_after_s or 0).actions
    world.observed = replace(world.observed, others={"cloud": SETTINGS.at_once - 1})
    world.step(world.again_after_s or 0)
    assert len(world.observed.pods) == 1
    assert world.condition["reason"] == "Verifying"
    world.observed = replace(world.observed, others={"cloud": SETTINGS.at_once})
    world.pod_says(FAILED).step(1)  # its own probe is judged however many there are
    assert "wrong secret" in world.condition["message"]
    world.step(world.again_after_s or 0)
    assert not world.observed.pods
    assert "wrong secret" in world.condition["message"]  # which says more than that it waits
    world.observed = replace(world.observed, others={"cloud": SETTINGS.at_once // 2})
    assert not world.step(world.again_after_s or 0).actions  # the rest of the room is for those that are new
    world.observed = replace(world.observed, others={"cloud": SETTINGS.at_once // 2 - 1})
    world.step(world.again_after_s or 0)
    assert len(world.observed.pods) == 1


def test_a_crash_between_the_pod_and_the_status_makes_no_second_pod(world: World) -> None:
    world.step()
    assert world.observed.dataset is not None
    dataset = Doc(world.observed.dataset.kind, {**world.observed.dataset.raw, "status": {}})
    world.observed = replace(world.observed, dataset=dataset)
    world.step()
    assert not [a for a in world.actions if isinstance(a, Create)]
    assert len(world.observed.pods) == 1


def test_a_mode_that_cannot_serve_it_is_said_without_a_pod(world: World) -> None:
    world.observed = replace(world.observed, pools=(world.make.pool("cloud", "platform"),))
    world.step()
    assert not world.observed.pods
    assert (world.condition["status"], world.condition["reason"]) == ("False", "Unsupported")
    assert "platform" in world.condition["message"]
    assert not world.step(100).actions


def test_the_worst_pool_decides_and_all_are_named(world: World) -> None:
    world.observed = replace(world.observed, pools=(world.make.pool("cloud"), world.make.pool("own", "native")))
    world.step()
    for pod in world.observed.pods:
        pod.raw["status"] = SUCCEEDED if pod.labels["headrace.io/pool"] == "own" else FAILED
    world.step(1)
    assert world.condition["status"] == "False"
    assert "cloud:" in world.condition["message"]
    assert "Listed in own." in world.condition["message"]
    assert world.observed.dataset is not None
    assert [entry["pool"] for entry in world.observed.dataset.status["pools"]] == ["cloud", "own"]


def test_each_pools_failure_is_told_whole_and_once(world: World) -> None:
    world.observed = replace(world.observed, pools=(world.make.pool("cloud"), world.make.pool("own", "native")))
    world.step()
    words = {"cloud": "c" * 600, "own": "o" * 600}
    for pod in world.observed.pods:
        last = words[pod.labels["headrace.io/pool"]]
        pod.raw["status"] = {"phase": "Failed", "containerStatuses": [ended("probe", 2, last)]}
    told = [action for action in world.step(1).actions if isinstance(action, Tell)]
    assert [action.severity for action in told] == ["Warning", "Warning"]
    for action, (pool, last) in zip(told, words.items(), strict=True):
        assert action.message.startswith(f"{pool}: ")
        assert last in action.message
        assert len(action.message) < 1024, "an Event is cut there"
    while not world.observed.pods:
        world.step(world.again_after_s or 0)
    for pod in world.observed.pods:
        last = words[pod.labels["headrace.io/pool"]]
        pod.raw["status"] = {"phase": "Failed", "containerStatuses": [ended("probe", 2, last)]}
    assert not [action for action in world.step(1).actions if isinstance(action, Tell)]


def test_a_pool_that_is_gone_is_forgotten(world: World) -> None:
    world.step()
    world.observed = replace(world.observed, pools=())
    world.step()
    assert not world.observed.pods
    assert world.condition["reason"] == "NoPool"


def test_what_is_known_of_a_pool_that_rests_stays(world: World) -> None:
    world.step().pod_says(SUCCEEDED).step(1)
    ready = world.observed.pools
    world.observed = replace(world.observed, pools=(), resting=frozenset({"cloud"}))
    world.step(10)
    assert world.condition["status"] == "True"
    world.observed = replace(world.observed, pools=ready, resting=frozenset())
    world.step(10)
    assert not world.observed.pods


@pytest.mark.parametrize("state", ["gone", "deleting", "not bound"])
def test_probes_end_with_their_dataset(world: World, state: str) -> None:
    world.step()
    if state == "gone":
        world.observed = replace(world.observed, dataset=None)
    elif state == "deleting":
        going = world.make.dataset(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
        world.observed = replace(world.observed, dataset=going)
    else:
        world.observed = replace(world.observed, resolved=None)
    world.step()
    assert not world.observed.pods


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(1, "1.00B"), (1536, "1.50KiB"), (5 * 2**20, "5.00MiB"), (3 * 2**40, "3.00TiB")]
)
def test_sizes_are_fluids(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "N/A", None, "[Calculating]", 5])
def test_what_is_no_size_is_unknown(text: object) -> None:
    assert parse_size(text) is None
