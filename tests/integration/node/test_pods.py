"""Pods in a real world: they run, write, are asked, are stopped, and leave nothing."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import anyio
import pytest

from headrace.cluster.protocol import MergePatch
from headrace.spec.kind import Ref
from headrace.spec.kinds import CONFIG_MAP, POD, SECRET, SERVICE

pytestmark = pytest.mark.anyio

FOR_EVER = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"


def sh(script: str, name: str = "app", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "host", "command": ["/bin/sh", "-c", script], **fields}


def executing(command: str, **settings: Any) -> dict[str, Any]:
    return {"exec": {"command": ["/bin/sh", "-c", command]}, "periodSeconds": 1, **settings}


async def test_a_pod_runs_and_is_told_of_exactly(node: Any) -> None:
    async with node.running():
        env = [{"name": "GREETING", "value": "you"}]
        pod = await node.submit(sh("echo to $GREETING; echo oops >&2; exit 3", env=env), restartPolicy="Never")
        failed = await node.until_phase("Failed")
        ended = failed["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (3, "Error"), ended
        assert await node.output() == "to you\noops\n"
        assert await node.output(stream="stderr") == "oops\n"
        started = next(e for e in node.world.journal() if e["type"] == "container-started")
        assert started["pod"] == pod.uid
        await node.until(lambda: node.world.client.call("state")["pods"] == [])
        assert [reason for reason, _ in node.notes.said] == ["Pulled", "Created", "Started"]


async def test_init_containers_sidecars_and_their_order(node: Any) -> None:
    shared = [{"name": "v", "mountPath": "/shared"}]
    note = "echo {0} >> /shared/order"
    inits = [
        sh(
            "sleep 0.2; touch /shared/up; trap 'echo side-ends; exit 0' TERM; while :; do sleep 0.05; done",
            "side",
        )
        | {"restartPolicy": "Always", "volumeMounts": shared, "startupProbe": executing("test -e /shared/up")},
        sh("test -e /shared/up && " + note.format("init"), "init") | {"volumeMounts": shared},
    ]
    async with node.running():
        pod = await node.submit(
            sh(note.format("app") + "; cat /shared/order") | {"volumeMounts": shared},
            initContainers=inits,
            restartPolicy="Never",
            volumes=[{"name": "v", "emptyDir": {}}],
        )
        done = await node.until_phase("Succeeded")
        side = next(e for e in done["status"]["initContainerStatuses"] if e["name"] == "side")
        assert side["state"]["terminated"]["exitCode"] == 0
        assert (await node.output()).split() == ["init", "app"]
        assert await node.output("side") == "side-ends\n"
        await node.until(lambda: not node.place(pod.uid).volumes.exists())


async def test_volumes_of_files_and_their_updates(node: Any) -> None:
    node.cluster.seed(CONFIG_MAP, {"metadata": {"name": "c", "namespace": "ns"}, "data": {"k": "old"}})
    key = base64.b64encode(b"hush").decode()
    node.cluster.seed(SECRET, {"metadata": {"name": "s", "namespace": "ns"}, "data": {"key": key}})
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounts = [
        {"name": "c", "mountPath": "/c"},
        {"name": "c", "mountPath": "/one", "subPath": "k"},
        {"name": "s", "mountPath": "/s"},
        {"name": "m", "mountPath": "/m"},
    ]
    script = """
        cat /c/k /one /s/key; echo
        sh -c 'echo x > /c/k' 2>/dev/null || echo read-only
        dd if=/dev/zero of=/m/big bs=1M count=2 2>/dev/null || echo full
        until grep -q new /c/k; do sleep 0.02; done; cat /c/k
    """
    async with node.running():
        await node.submit(sh(script, volumeMounts=mounts), volumes=volumes, restartPolicy="Never")
        await node.until_said("full")
        await node.cluster.patch(CONFIG_MAP, Ref("ns", "c"), MergePatch({"data": {"k": "new"}}))
        await node.until_phase("Succeeded")
        assert (await node.output()).splitlines() == ["oldoldhush", "read-only", "full", "new"]


async def test_a_sub_path_cannot_lead_out_of_its_volume(node: Any, home: Path) -> None:
    mounts = [{"name": "v", "mountPath": "/v", "subPath": "link"}]
    async with node.running():
        pod = await node.submit(
            sh("ls /v", volumeMounts=mounts),
            initContainers=[
                sh(f"ln -s {home} /v/link", "plant") | {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
            ],
            volumes=[{"name": "v", "emptyDir": {}}],
            restartPolicy="Never",
        )
        failed = await node.until_phase("Failed")
        ended = failed["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["reason"] == "StartError"
        assert "leads out of the volume" in ended["message"]
        assert node.place(pod.uid).root.exists()


async def test_no_container_sees_the_installation(node: Any, home: Path) -> None:
    (home / "pki").mkdir()
    (home / "pki" / "ca.key").write_text("secret")
    mounts = [{"name": "h", "mountPath": "/h"}]
    volumes = [{"name": "h", "hostPath": {"path": str(home.parent)}}]
    script = f"cat {home}/pki/ca.key || cat /h/{home.name}/pki/ca.key || ls -d /h/{home.name}"
    async with node.running():
        await node.submit(sh(script, volumeMounts=mounts), volumes=volumes, restartPolicy="Never")
        await node.until_phase("Succeeded")
        assert (await node.output(stream="stdout")).strip() == f"/h/{home.name}"


async def test_logs_are_followed_as_they_are_written(node: Any) -> None:
    async with node.running():
        await node.submit(sh("echo one; sleep 0.3; printf 'two\\nthree'"), restartPolicy="Never")
        await node.until(lambda: node.entry("app")["state"].get("running"))
        assert await node.output(follow=True) == "one\ntwo\nthree\n"
        assert await node.output(tail_lines=2) == "two\nthree\n"
        stamped = (await node.output(timestamps=True)).splitlines()
        assert [line.split(" ", 1)[1] for line in stamped] == ["one", "two", "three"]
        since = stamped[1].split(" ")[0]
        assert await node.output(since=since) == "two\nthree\n"
        assert await node.output(limit_bytes=5) == "one\nt"


async def test_the_log_of_the_attempt_before(node: Any) -> None:
    async with node.running():
        volumes, mounts = [{"name": "v", "emptyDir": {}}], [{"name": "v", "mountPath": "/v"}]
        script = f"if test -e /v/again; then {FOR_EVER}; else touch /v/again; echo first; exit 1; fi"
        await node.submit(sh(script, volumeMounts=mounts), volumes=volumes)
        await node.until(lambda: node.entry("app")["restartCount"] == 1 and node.entry("app")["state"].get("running"))
        assert await node.output(previous=True) == "first\n"


async def test_probes_hooks_and_termination(node: Any) -> None:
    volumes, mounts = [{"name": "v", "emptyDir": {}}], [{"name": "v", "mountPath": "/v"}]
    app = sh(
        "trap 'echo term >> /v/order; exit 0' TERM; while :; do sleep 0.02; done",
        volumeMounts=mounts,
        readinessProbe=executing("test -e /v/ready"),
        lifecycle={"postStart": executing("echo post >> /v/order"), "preStop": executing("echo pre >> /v/order")},
    )
    async with node.running():
        pod = await node.submit(app, volumes=volumes)
        running = await node.until_phase("Running")
        assert running["status"]["containerStatuses"][0]["ready"] is False
        root = node.place(pod.uid).volume("v") / "mount"
        (root / "ready").touch()
        await node.until(lambda: node.entry("app").get("ready"))
        copy = root / "order"
        text = [""]

        def ended() -> bool:
            text[0] = copy.read_text() if copy.exists() else text[0]
            return node.pod() is None

        await node.cluster.delete(POD, pod.ref)
        await node.until(ended)
        assert text[0].split() == ["post", "pre", "term"]
        await node.until(lambda: not node.place(pod.uid).root.exists())


async def test_http_probe_at_the_pods_own_address(node: Any) -> None:
    server = """
import http.server, os, socket
http.server.HTTPServer((os.environ["POD_IP"], 18080), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
    env = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    app = {
        "name": "app",
        "command": ["python3", "-c", server],
        "env": env,
        "workingDir": "/tmp",
        "ports": [{"name": "web", "containerPort": 18080}],
        "readinessProbe": {"httpGet": {"port": "web", "path": "/"}, "periodSeconds": 1},
    }
    async with node.running():
        await node.submit(app)
        await node.until(lambda: node.entry("app").get("ready"))


async def test_pods_find_each_other_by_name(node: Any) -> None:
    spec = {"clusterIP": "None", "selector": {"job": "j"}, "publishNotReadyAddresses": True}
    node.cluster.seed(SERVICE, {"metadata": {"name": "gang", "namespace": "ns"}, "spec": spec})
    script = "until getent hosts w-0.gang && getent hosts w-1.gang; do sleep 0.05; done; echo I am $(hostname); exec sleep 100"
    async with node.running():
        for index in range(2):
            await node.submit(
                sh(script),
                name=f"w-{index}",
                meta={"labels": {"job": "j"}},
                hostname=f"w-{index}",
                subdomain="gang",
            )
        for index in range(2):
            await node.until_phase("Running", f"w-{index}")
            said = (await node.until_said(f"I am w-{index}\n", name=f"w-{index}")).splitlines()
            assert said[-3].split()[0] != said[-2].split()[0]


async def test_out_of_memory(node: Any) -> None:
    script = "import time\ndata = bytearray()\nwhile True: data += b'x' * 10**7; time.sleep(0.03)"
    app = {"name": "app", "command": ["python3", "-c", script], "resources": {"limits": {"memory": "64Mi"}}}
    async with node.running():
        await node.submit(app, restartPolicy="Never")
        failed = await node.until_phase("Failed")
        ended = failed["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


async def test_a_volume_over_tmp_is_no_memory(node: Any) -> None:
    app = sh("sleep 1.5; echo alive", volumeMounts=[{"name": "v", "mountPath": "/tmp"}])
    app["resources"] = {"limits": {"memory": "64Mi"}}
    async with node.running():
        await node.submit(app, volumes=[{"name": "v", "emptyDir": {}}], restartPolicy="Never")
        await node.until_phase("Succeeded")


async def test_last_words(node: Any) -> None:
    async with node.running():
        await node.submit(sh("echo because > /dev/termination-log; exit 4"), restartPolicy="Never")
        failed = await node.until_phase("Failed")
        assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "because\n"
        fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
        await node.submit(sh("echo it went wrong; exit 4", **fallback), name="q", restartPolicy="Never")
        failed = await node.until_phase("Failed", "q")
        assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "it went wrong\n"


async def test_the_program_has_no_privilege(node: Any) -> None:
    async with node.running():
        context = {"runAsUser": 1000, "runAsGroup": 1000}
        await node.submit(
            sh("grep -E 'CapEff|NoNewPrivs' /proc/self/status; id -u"), restartPolicy="Never", securityContext=context
        )
        await node.until_phase("Succeeded")
        said = (await node.output()).split()
        assert said == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1", "1000"]


async def test_an_agent_that_was_killed_takes_up_its_pods(node: Any) -> None:
    async with node.running():
        pod = await node.submit(sh(FOR_EVER))
        await node.until_phase("Running")
        await node.submit(sh("sleep 0.3; echo done; exit 7"), name="q", restartPolicy="Never")
        await node.until(lambda: node.entry("app", "q")["state"].get("running"))
        before = node.world.client.call("state")
    await anyio.sleep(0.6)
    async with node.running():
        failed = await node.until_phase("Failed", "q")
        assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
        assert await node.output(name="q") == "done\n"
        after = node.world.client.call("state")
        mine = [[c["pid"] for c in p["containers"]] for s in (before, after) for p in s["pods"] if p["pod"] == pod.uid]
        assert mine[0] == mine[1], "started anew"
        await node.cluster.delete(POD, pod.ref)
        await node.until(lambda: node.pod() is None)
    assert node.world.client.call("state")["pods"] == []
    starts = [e for e in node.world.journal() if e["type"] == "container-started" and e["pod"] == pod.uid]
    assert len(starts) <= 1
