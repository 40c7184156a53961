"""The whole agent over a fake cluster and a fake world, in make-believe time: pods' lives."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import anyio
import pytest

from headrace.cluster.protocol import MergePatch
from headrace.errors import Unavailable
from headrace.node.world import WorldRefused
from headrace.spec.kind import Ref
from headrace.spec.kinds import CONFIG_MAP, POD, SECRET, SERVICE

pytestmark = pytest.mark.anyio

PROBE = {"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 2}


@pytest.fixture
def anyio_backend(make_believe_time: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return make_believe_time


async def test_a_simple_pod_runs_to_its_end(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit({"name": "app", "command": ["train", "$(HOSTNAME)"]}, restartPolicy="Never")
        await bench.until_running()
        running = await bench.until_phase("Running")
        assert running["status"]["podIP"] == "127.64.0.1"
        order = bench.world.ops("container.start")[0]
        assert order["argv"] == ["train", "p"]
        assert order["uid"] == 0
        assert bench.place(pod.uid).hosts.read_text().count("127.64.0.1\tp\n") == 1
        bench.world.exits(pod.uid, "app", 0)
        ended = await bench.until_phase("Succeeded")
        assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
        await bench.until(lambda: bench.world.ops("pod.remove"))
        assert bench.notes.reasons() == ["Pulled", "Created", "Started"]


async def test_a_crashing_pod_is_restarted_with_back_off(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit("app")
        for attempt in range(4):
            await bench.until(lambda a=attempt: (bench.world.runs("app") or {}).get("attempt") == a)
            bench.world.exits(pod.uid, "app", 1)
        waiting = await bench.until(lambda: bench.entry("app")["state"].get("waiting"))
        assert waiting["reason"] == "CrashLoopBackOff"
        assert bench.entry("app")["restartCount"] == 3
        assert bench.notes.reasons().count("BackOff") == 3
        starts = [e["wall_ns"] / 1e9 for e in bench.world.written if e["type"] == "container-started"]
        pauses = [round(later - earlier) for earlier, later in itertools.pairwise(starts)]
        assert pauses == [0, 10, 20]


async def test_deletion_waits_for_grace_and_then_lets_the_object_go(bench: Any) -> None:
    bench.world.deaf.add("app")
    async with bench.running():
        pod = await bench.submit("app", terminationGracePeriodSeconds=7)
        await bench.until_phase("Running")
        began = bench.clock.monotonic_s()
        await bench.cluster.delete(POD, pod.ref)
        await bench.until(lambda: bench.pod() is None)
        assert 7 <= bench.clock.monotonic_s() - began < 8
        assert [o["signal"] for o in bench.world.ops("container.signal")] == [15, 9]
        await bench.until(lambda: not bench.place(pod.uid).root.exists())
        assert bench.world.pods == {}
        assert "Killing" in bench.notes.reasons()


async def test_a_finalizer_of_others_keeps_the_object_and_not_the_pod(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit("app", meta={"finalizers": ["headrace.io/metered"]})
        await bench.until_phase("Running")
        await bench.cluster.delete(POD, pod.ref)
        ended = await bench.until_phase("Failed")
        assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143
        await bench.until(lambda: bench.pod()["metadata"].get("deletionGracePeriodSeconds") == 0)
        deletes = bench.cluster.count("delete", POD)
        await bench.idle(120)
        assert bench.cluster.count("delete", POD) == deletes, "asked again and again"
        await bench.cluster.patch(POD, pod.ref, MergePatch({"metadata": {"finalizers": None}}))
        await bench.until(lambda: not bench.place(pod.uid).root.exists())


async def test_a_pod_forced_away_leaves_nothing(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit("app")
        await bench.until_phase("Running")
        await bench.cluster.delete(POD, pod.ref, grace_s=0)
        await bench.until(lambda: not bench.place(pod.uid).root.exists())
        assert bench.world.pods == {}


async def test_a_program_that_cannot_start_ends_the_pod(bench: Any) -> None:
    bench.world.refuses["container.start"] = WorldRefused("command not found: 'trian'", code="StartFailed")
    async with bench.running():
        await bench.submit("app", restartPolicy="Never")
        ended = (await bench.until_phase("Failed"))["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
        assert "trian" in ended["message"]


async def test_a_missing_secret_in_env_is_waited_for(bench: Any) -> None:
    env = [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}]
    async with bench.running():
        await bench.submit({"name": "app", "env": env})
        waiting = await bench.until(lambda: bench.entry("app")["state"].get("waiting"))
        waiting = await bench.until(
            lambda: (w := bench.entry("app")["state"]["waiting"])["reason"] == "CreateContainerConfigError" and w
        )
        assert 'secret "hf" not found' in waiting["message"]
        body = {"metadata": {"name": "hf", "namespace": "ns"}, "data": {"token": base64.b64encode(b"x").decode()}}
        await bench.cluster.create(SECRET, body)
        await bench.until_running()
        assert bench.world.ops("container.start")[0]["env"]["T"] == "x"


async def test_unsupported_fields_are_refused_or_told(bench: Any) -> None:
    async with bench.running():
        await bench.submit({"name": "app", "securityContext": {"privileged": True}})
        failed = await bench.until_phase("Failed")
        assert failed["status"]["reason"] == "Unsupported"
        assert "spec.containers[0].securityContext.privileged" in failed["status"]["message"]
        assert not bench.world.ops("container.start")
        await bench.submit({"name": "app", "tty": True}, name="q")
        running = await bench.until_phase("Running", "q")
        told = next(c for c in running["status"]["conditions"] if c["type"] == "Unsupported")
        assert "spec.containers[0].tty" in told["message"]


async def test_images(bench: Any) -> None:
    async with bench.running():
        await bench.submit({"name": "app", "image": "Nonsense:"})
        await bench.submit({"name": "app", "image": "reg/train:1", "imagePullPolicy": "Never"}, name="q")

        def waits_for(name: str) -> str:
            return str(bench.entry("app", name)["state"].get("waiting", {}).get("reason"))

        await bench.until(lambda: (waits_for("p"), waits_for("q")) == ("InvalidImageName", "ErrImageNeverPull"))
        said = [message for _, message in bench.notes.said]
        assert {"Error: InvalidImageName", "Error: ErrImageNeverPull"} <= set(said)


async def test_readiness_and_liveness(bench: Any) -> None:
    async with bench.running():
        app = {"name": "app", "readinessProbe": PROBE, "livenessProbe": {**PROBE, "exec": {"command": ["alive"]}}}
        await bench.submit(app)
        await bench.until(lambda: bench.condition("Ready") == "True")
        bench.world.commands["check"] = 1
        await bench.until(lambda: bench.condition("Ready") == "False")
        bench.world.commands["alive"] = 1
        await bench.until(lambda: (bench.world.runs("app") or {}).get("attempt") == 1)
        bench.world.commands.clear()
        await bench.until(lambda: bench.condition("Ready") == "True")
        assert bench.entry("app")["restartCount"] == 1
        assert {"Unhealthy", "Killing"} <= set(bench.notes.reasons())


async def test_a_startup_probe_gates_and_kills(bench: Any) -> None:
    bench.world.commands["served"] = 1
    sidecar = {
        "name": "fuse",
        "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["served"]}, "periodSeconds": 1, "failureThreshold": 3},
    }
    async with bench.running():
        await bench.submit("app", inits=(sidecar,))
        await bench.until(lambda: (bench.world.runs("fuse") or {}).get("attempt") == 1)
        assert bench.world.runs("app") is None
        bench.world.commands["served"] = 0
        await bench.until_running()
        assert bench.entry("fuse")["started"] is True


async def test_hooks(bench: Any) -> None:
    hooks = {"postStart": {"exec": {"command": ["begin"]}}, "preStop": {"exec": {"command": ["finish"]}}}
    async with bench.running():
        pod = await bench.submit({"name": "app", "lifecycle": hooks})
        await bench.until_phase("Running")
        await bench.cluster.delete(POD, pod.ref)
        await bench.until(lambda: bench.pod() is None)
        assert [e["argv"] for e in bench.world.executed] == [["begin"], ["finish"]]
        order = [o["op"] for o in bench.world.orders]
        assert order.index("container.signal") > len(order) - 1 - order[::-1].index("container_exec")


async def test_a_gang_finds_each_other_while_it_runs(bench: Any) -> None:
    spec = {"clusterIP": "None", "selector": {"job": "j"}, "publishNotReadyAddresses": True}
    await bench.cluster.create(SERVICE, {"metadata": {"name": "gang", "namespace": "ns"}, "spec": spec})
    async with bench.running():
        meta = {"labels": {"job": "j"}}
        first = await bench.submit("app", name="w-0", meta=meta, hostname="w-0", subdomain="gang")
        await bench.until_phase("Running", "w-0")
        hosts = bench.place(first.uid).hosts
        inode = hosts.stat().st_ino
        await bench.submit("app", name="w-1", meta=meta, hostname="w-1", subdomain="gang")
        await bench.until(lambda: "w-1.gang.ns.svc.cluster.local" in hosts.read_text())
        assert hosts.stat().st_ino == inode, "a running container has this very file bound"
        elsewhere = {
            "metadata": {"name": "w-2", "namespace": "ns", **meta},
            "spec": {"nodeName": "cloud", "hostname": "w-2", "subdomain": "gang", "containers": []},
            "status": {"phase": "Running", "podIP": "127.65.0.1"},
        }
        bench.cluster.seed(POD, elsewhere)
        await bench.until(lambda: "127.65.0.1\tw-2.gang" in hosts.read_text())
        await bench.cluster.delete(POD, Ref("ns", "w-2"), grace_s=0)
        await bench.until(lambda: "127.65.0.1" not in hosts.read_text())


async def test_configuration_is_kept_fresh(bench: Any) -> None:
    body = {"metadata": {"name": "c", "namespace": "ns"}, "data": {"k": "old"}}
    await bench.cluster.create(CONFIG_MAP, body)
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "d", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels['x']"}}]}},
    ]
    mounts = [{"name": "c", "mountPath": "/c"}, {"name": "d", "mountPath": "/d"}]
    async with bench.running():
        pod = await bench.submit({"name": "app", "volumeMounts": mounts}, volumes=volumes)
        await bench.until_running()
        root = bench.place(pod.uid)
        assert (root.volume("c") / "mount/k").read_text() == "old"
        await bench.cluster.patch(CONFIG_MAP, Ref("ns", "c"), MergePatch({"data": {"k": "new"}}))
        await bench.until(lambda: (root.volume("c") / "mount/k").read_text() == "new")
        await bench.cluster.patch(POD, pod.ref, MergePatch({"metadata": {"labels": {"x": "y"}}}))
        await bench.until(lambda: (root.volume("d") / "mount/l").read_text() == "y")


async def test_a_server_that_is_away_misses_no_attempt(bench: Any) -> None:
    versions: list[dict[str, Any]] = []
    async with bench.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(bench.versions, versions)
        pod = await bench.submit("app", restartPolicy="OnFailure")
        await bench.until_phase("Running")
        bench.cluster.fail_next("patch", Unavailable("away"), times=10, kind=POD)
        for attempt in range(3):
            await bench.until(lambda a=attempt: (bench.world.runs("app") or {}).get("attempt") == a)
            bench.world.exits(pod.uid, "app", attempt + 1)
        await bench.until(
            lambda: bench.entry("app")["restartCount"] == 3 and bench.entry("app")["state"].get("running")
        )
        tasks.cancel_scope.cancel()
    entries = [v["status"]["containerStatuses"][0] for v in versions if v["status"].get("containerStatuses")]
    ends = {e["lastState"]["terminated"]["exitCode"] for e in entries if e["lastState"]}
    starts = {e["restartCount"] for e in entries}
    assert (ends, starts) == ({1, 2, 3}, {0, 1, 2, 3})


async def test_a_world_without_namespaces_says_so(bench: Any) -> None:
    bench.world.features = {"userns": False}
    mounts = [{"name": "my-data", "mountPath": "/data"}]
    async with bench.running():
        await bench.submit({"name": "app", "volumeMounts": mounts}, volumes=[{"name": "my-data", "emptyDir": {}}])
        running = await bench.until_phase("Running")
        told = next(c for c in running["status"]["conditions"] if c["type"] == "PathsRelocated")
        assert "HEADRACE_MOUNT_" in told["message"]
        assert bench.world.ops("container.start")[0]["env"]["HEADRACE_MOUNT_MY_DATA"] == "/data"
        await bench.submit("app", name="q")
        running = await bench.until_phase("Running", "q")
        assert not [c for c in running["status"]["conditions"] if c["type"] == "PathsRelocated"]
