"""Pods from images: pulled from a real registry, unpacked without root, run in a real world."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.images import DOCKER, TestImage, busybox, digest, directory, entry, layer, link, manifest_of
from tests.integration.node.conftest import as_node_user
from tests.public_registry import public_registry
from tests.registry import PASSWORD, Registry, as_real_user, packages, programs, running_registry

from headrace.node.images.registries import Mirror
from headrace.spec.kinds import POD, SECRET

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with tempfile.TemporaryDirectory() as place, running_registry(Path(place)) as registry:
        yield registry


@pytest.fixture(scope="session")
def box() -> TestImage:
    return busybox((programs() / "busybox").read_bytes())


def app(image: str, *command: str, **fields: Any) -> dict[str, Any]:
    return {"name": "app", "image": image, **({"command": [*command]} if command else {}), **fields}


def sh(image: str, script: str, **fields: Any) -> dict[str, Any]:
    return app(image, "sh", "-c", script, **fields)


async def test_a_pod_of_an_image_runs_with_a_root_of_its_own(node: Any, registry: Registry, box: TestImage) -> None:
    digest = registry.push("lab/box", "1", box)
    image = f"{registry.host}/lab/box:1"
    async with node.running():
        script = "echo $FROM; hostname; cat /etc/hostname; echo mine > /bin/new && cat /bin/new; id -u; ls /"
        pod = await node.submit(sh(image, script), restartPolicy="Never")
        done = await node.until_phase("Succeeded")
        words = (await node.output()).split()
        assert words[:5] == ["image", "p", "p", "mine", "0"]
        assert set(words[5:]) == {"bin", "dev", "etc", "proc", "sys", "tmp"}
        told = done["status"]["containerStatuses"][0]
        assert (told["image"], told["imageID"]) == (image, f"{registry.host}/lab/box@{digest}")
        assert [reason for reason, _ in node.notes.said] == ["Pulling", "Pulled", "Created", "Started"]
        await node.until(lambda: not node.place(pod.uid).roots.exists())
        await node.submit(sh(image, "ls /bin/new"), name="q", restartPolicy="Never")
        await node.until_phase("Failed", name="q")  # what the first wrote was its own


async def test_the_images_own_words_user_and_directory(node: Any, registry: Registry, box: TestImage) -> None:
    script = "echo $0 $1; id -u; id -g; pwd; echo $HOME; cat /etc/hosts | wc -l > /tmp/lines; touch /srv/x && echo w"
    image = box.with_layer(directory("srv"), entry("srv/x", b"", uid=7)).saying(
        Entrypoint=["sh", "-c", script],
        Cmd=["zero", "one"],
        User="app:staff",
        WorkingDir="/srv/made/here",
        StopSignal="USR1",
    )
    registry.push("lab/words", "1", image)
    name = f"{registry.host}/lab/words:1"
    async with node.running():
        await node.submit(app(name), restartPolicy="Never")
        await node.until_phase("Succeeded")
        assert (await node.output()).split() == ["zero", "one", "1234", "50", "/srv/made/here", "/home/app", "w"]
        await node.submit(app(name, args=["uno", "due"]), name="args", restartPolicy="Never")
        await node.until_phase("Succeeded", name="args")
        assert (await node.output(name="args")).startswith("uno due\n")
        trap = "trap 'echo got USR1; exit 0' USR1; echo ready; while :; do sleep 0.05; done"
        pod = await node.submit(sh(name, trap), name="stop", restartPolicy="Never")
        await node.until_said("ready", name="stop")
        await node.cluster.delete(POD, pod.ref)
        await node.until_said("got USR1", name="stop")


async def test_who_may_not_run_is_told(node: Any, registry: Registry, box: TestImage) -> None:
    registry.push("lab/user", "named", box.saying(User="app"))
    registry.push("lab/user", "missing", box.saying(User="ghost"))
    nobody = {"securityContext": {"runAsNonRoot": True}}
    async with node.running():
        for tag, fields, why in (("named", nobody, "non-numeric user (app)"), ("missing", {}, "no user 'ghost'")):
            await node.submit(sh(f"{registry.host}/lab/user:{tag}", "true", **fields), name=tag)
            waiting = await node.until(
                lambda tag=tag: (
                    node.entry("app", tag)["state"].get("waiting", {}).get("message")
                    and node.entry("app", tag)["state"]["waiting"]
                )
            )
            assert waiting["reason"] == "CreateContainerConfigError"
            assert why in waiting["message"]


async def test_a_read_only_root_and_the_images_volumes(node: Any, registry: Registry, box: TestImage) -> None:
    registry.push(
        "lab/vol", "1", box.with_layer(directory("data"), entry("data/seed", b"seed\n")).saying(Volumes={"/data": {}})
    )
    read_only = {"securityContext": {"readOnlyRootFilesystem": True}}
    volumes = [{"name": "v", "emptyDir": {}}]
    mounts = [{"name": "v", "mountPath": "/made/for/it"}]
    script = "touch /x; touch /bin/x; touch /tmp/x; cat /data/seed; echo ok > /data/new; cat /data/new; touch /made/for/it/x && echo vol"
    async with node.running():
        await node.submit(
            sh(f"{registry.host}/lab/vol:1", script, volumeMounts=mounts, **read_only),
            volumes=volumes,
            restartPolicy="Never",
        )
        await node.until_phase("Succeeded")
        assert (await node.output(stream="stdout")).split() == ["seed", "ok", "vol"]
        assert (await node.output(stream="stderr")).count("Read-only file system") == 3


async def test_layers_hide_and_replace_what_is_beneath(node: Any, registry: Registry, box: TestImage) -> None:
    image = box.with_layer(
        directory("app"), entry("app/old", b"old"), entry("app/kept", b"kept"), directory("conf"), entry("conf/a", b"a")
    ).with_layer(
        entry("app/.wh.old"), directory("conf"), entry("conf/.wh..wh..opq"), entry("conf/b", b"b"), entry("dev/.wh.x"),
        link("proc", "/conf"), link("etc/resolv.conf", "../run/resolv.conf"),
    )  # fmt: skip
    for number in range(40):
        image = image.with_layer(directory("many"), entry(f"many/{number}", b"x"))
    registry.push("lab/layers", "1", image)
    script = "ls /app /conf; ls /many | wc -l; test -e /proc/self/stat && echo proc"
    async with node.running():
        for copies, name in ((False, "laid"), (True, "copied")):
            node.agent._images.copies = copies
            await node.submit(sh(f"{registry.host}/lab/layers:1", script), name=name, restartPolicy="Never")
            await node.until_phase("Succeeded", name=name)
            words = (await node.output(name=name)).split()
            assert words[:2] == ["/app:", "kept"], name
            assert "old" not in words, name
            assert "a" not in words, name
            assert words[-2:] == ["40", "proc"], name


async def test_always_asks_each_time_and_fetches_only_what_is_new(
    node: Any, registry: Registry, box: TestImage
) -> None:
    def at(number: int) -> TestImage:
        return box.with_layer(entry("version", f"v{number}\n".encode()))

    image = f"{registry.host}/lab/moving:latest"
    async with node.running():
        for number in (1, 2):
            registry.push("lab/moving", "latest", at(number))
            for policy in ("Always", "IfNotPresent", "Never"):
                name = f"{policy.lower()}-{number}"
                await node.submit(sh(image, "cat /version", imagePullPolicy=policy), name=name, restartPolicy="Never")
                await node.until_phase("Succeeded", name=name)
                assert await node.output(name=name) == f"v{number}\n"
        store = node.agent._images.store
        assert len(list((Path(node.config.images) / "layers").iterdir())) == 3
        assert [found.names for found in store.images if not found.names] == [{}]  # the first one has lost its name
        registry.push("lab/moving", "latest", at(3))
        await node.submit(sh(image, "cat /version", imagePullPolicy="IfNotPresent"), name="old", restartPolicy="Never")
        await node.until_phase("Succeeded", name="old")
        assert await node.output(name="old") == "v2\n"
        ready = [e for e in node.notes.said if e[0] == "Pulled" and "already present on machine" in e[1]]
        assert len(ready) == 5


async def test_digests_and_indexes(node: Any, registry: Registry, box: TestImage) -> None:
    foreign = TestImage(box.layers, box.config, architecture="s390x")
    index = registry.push("lab/multi", "1", foreign, box.with_layer(entry("mine", b"yes\n")))
    docker = registry.push("lab/multi", "docker", TestImage(box.layers, box.config, family=DOCKER))
    zstd = registry.push("lab/multi", "zstd", TestImage(box.layers, box.config, compress="zstd"))
    async with node.running():
        for name, image, digest in (
            ("index", f"{registry.host}/lab/multi:1", index),
            ("digest", f"{registry.host}/lab/multi@{index}", index),
            ("both", f"{registry.host}/lab/multi:wrong@{docker}", docker),
            ("zstd", f"{registry.host}/lab/multi:zstd", zstd),
        ):
            await node.submit(sh(image, "cat /mine || true"), name=name, restartPolicy="Never")
            done = await node.until_phase("Succeeded", name=name)
            assert done["status"]["containerStatuses"][0]["imageID"] == f"{registry.host}/lab/multi@{digest}"
        registry.push("lab/foreign", "1", foreign)
        await node.submit(sh(f"{registry.host}/lab/foreign:1", "true"), name="foreign")
        assert "made for linux/s390x" in await waiting_message(node, "foreign", "ErrImagePull")
        await node.submit(sh(f"{registry.host}/lab/multi@sha256:{'0' * 64}", "true"), name="absent")
        assert "has no manifest" in await waiting_message(node, "absent", "ErrImagePull")


async def waiting_message(node: Any, pod: str, reason: str) -> str:
    def waits() -> str:
        waiting = node.entry("app", pod)["state"].get("waiting", {})
        return str(waiting.get("message")) if waiting.get("reason") == reason else ""

    return str(await node.until(waits))


def pull_secret(name: str, host: str, user: str, word: str = PASSWORD) -> dict[str, Any]:
    config = {"auths": {f"http://{host}/v2/": {"username": user, "password": word}}}
    data = {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()}
    return {"metadata": {"name": name, "namespace": "ns"}, "type": "kubernetes.io/dockerconfigjson", "data": data}


async def test_a_private_registry_and_who_may_have_what_it_gave(tmp_path: Path, node: Any, box: TestImage) -> None:
    with as_real_user(), running_registry(tmp_path, users=("ann", "bob")) as private, as_node_user():
        private.push("secret/box", "1", box)
        image = f"{private.host}/secret/box:1"
        for name, user, word in (("good", "ann", PASSWORD), ("also", "bob", PASSWORD), ("bad", "ann", "guessed")):
            node.cluster.seed(SECRET, pull_secret(name, private.host, user, word))
        async with node.running():

            async def submit(name: str, *secrets: str, policy: str = "IfNotPresent") -> None:
                names = [{"name": secret} for secret in secrets]
                one = sh(image, "true", imagePullPolicy=policy)
                await node.submit(one, name=name, imagePullSecrets=names, restartPolicy="Never")

            await submit("none")
            assert "without a pull secret" in await waiting_message(node, "none", "ErrImagePull")
            await submit("wrong", "bad", "absent")
            assert "does not let user 'ann' pull" in await waiting_message(node, "wrong", "ErrImagePull")
            assert any(r == "FailedToRetrieveImagePullSecret" and "(absent)" in m for r, m in node.notes.said)
            await submit("first", "bad", "good")
            await node.until_phase("Succeeded", name="first")
            # The image is here now, but free for nobody who has no credential for it.
            await submit("thief")
            assert "without a pull secret" in await waiting_message(node, "thief", "ErrImagePull")
            await submit("never", policy="Never")
            await waiting_message(node, "never", "ErrImageNeverPull")
            await submit("other", "also")
            await node.until_phase("Succeeded", name="other")
            private.stop()  # who has shown his credential once may have it without asking again
            for name, policy in (("again", "IfNotPresent"), ("local", "Never")):
                await submit(name, "good", policy=policy)
                await node.until_phase("Succeeded", name=name)
            assert not any(PASSWORD in message for _, message in node.notes.said)
            for file in Path(node.config.images).rglob("*.json"):
                assert PASSWORD not in file.read_text()


async def test_a_registry_as_the_public_ones_are(node: Any, box: TestImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over https, whose authority this machine trusts, with tokens: anybody's for what is public."""
    images = {"library/box": box, "ann/box": box}
    with as_real_user(), public_registry(images) as (served, tokens, trusted), as_node_user():
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        node.config = replace(node.config, mirrors=[Mirror.parse(f"hub.example={served.url}")])
        for name, word in (("good", PASSWORD), ("bad", "guessed")):
            node.cluster.seed(SECRET, pull_secret(name, served.host, "ann", word))
        async with node.running():

            async def submit(name: str, repository: str, *secrets: str) -> None:
                names = [{"name": secret} for secret in secrets]
                one = sh(f"hub.example/{repository}:1", "true", imagePullPolicy="Always")
                await node.submit(one, name=name, imagePullSecrets=names, restartPolicy="Never")

            await submit("anybody", "library/box")
            await node.until_phase("Succeeded", name="anybody")
            assert tokens.asked == [("", "repository:library/box:pull")]  # once for all of its blobs
            await submit("none", "ann/box")
            assert "without a pull secret" in await waiting_message(node, "none", "ErrImagePull")
            await submit("guessed", "ann/box", "bad")
            assert "lets user ann not pull" in await waiting_message(node, "guessed", "ErrImagePull")
            await submit("ann", "ann/box", "good")
            await node.until_phase("Succeeded", name="ann")
            assert tokens.asked[-1] == ("ann", "repository:ann/box:pull")


async def test_a_registry_for_which_nobody_vouches_is_not_believed(node: Any, box: TestImage) -> None:
    with as_real_user(), public_registry({"library/box": box}) as (served, tokens, _), as_node_user():
        node.config = replace(node.config, mirrors=[Mirror.parse(f"hub.example={served.url}")])
        async with node.running():
            await node.submit(sh("hub.example/library/box:1", "true"), restartPolicy="Never")
            assert "does not trust: unable to get local issuer" in await waiting_message(node, "p", "ErrImagePull")
            assert not tokens.asked


async def test_a_mirror_gives_what_the_name_says(node: Any, registry: Registry, box: TestImage) -> None:
    registry.push("cloudml/starfs-eci-mount", "v1.4.1", box)
    node.config = replace(node.config, mirrors=[Mirror.parse(f"micr.cloud.cn={registry.url}")])
    image = "micr.cloud.cn/cloudml/starfs-eci-mount:v1.4.1"
    async with node.running():
        await node.submit(sh(image, "true", imagePullPolicy="Always"), restartPolicy="Never")
        done = await node.until_phase("Succeeded")
        told = done["status"]["containerStatuses"][0]
        assert told["image"] == image
        assert told["imageID"].startswith("micr.cloud.cn/cloudml/starfs-eci-mount@sha256:")
        shown = await node.until(lambda: node.node()["status"].get("images"))
        assert image in shown[0]["names"]


async def test_a_registry_that_is_away_and_comes_back(tmp_path: Path, node: Any, box: TestImage) -> None:
    with as_real_user(), running_registry(tmp_path) as away, as_node_user():
        away.push("lab/box", "1", box)
        away.stop()
        async with node.running():
            pod = await node.submit(sh(f"{away.host}/lab/box:1", "true"), restartPolicy="Never")
            assert "cannot be reached" in await waiting_message(node, "p", "ErrImagePull")
            backs_off = await waiting_message(node, "p", "ImagePullBackOff")
            assert backs_off.startswith(f'Back-off pulling image "{away.host}/lab/box:1": ErrImagePull: Registry')
            reasons = [reason for reason, _ in node.notes.said]
            assert reasons == ["Pulling", "Failed", "Failed", "BackOff", "Failed"]
            away.start()
            await node.until_phase("Succeeded")
            assert not list((Path(node.config.images) / "staging").iterdir())
            await node.cluster.delete(POD, pod.ref)


async def test_content_that_was_changed_is_never_run(node: Any, registry: Registry, box: TestImage) -> None:
    bad = box.with_layer(entry("unique", b"to this image"))
    registry.push("lab/tampered", "1", bad)
    registry.tamper(digest(manifest_of(bad)[2][2]))
    async with node.running():
        await node.submit(sh(f"{registry.host}/lab/tampered:1", "true"))
        assert "that are not sha256:" in await waiting_message(node, "p", "ErrImagePull")
        await node.until(lambda: not list((Path(node.config.images) / "staging").iterdir()))
        assert node.agent._images.store.images == []


async def test_many_pods_pull_an_image_once(node: Any, registry: Registry, box: TestImage) -> None:
    content = bytes(range(256)) * 8192
    registry.push("lab/shared", "1", box.with_layer(entry("big", content)))
    async with node.running():
        store, unpacked = node.agent._images.store, list[str]()
        unpack = store.unpack

        def counted(blob: Path, diff_id: str, check: Any) -> Any:
            unpacked.append(diff_id)
            return unpack(blob, diff_id, check)

        store.unpack = counted
        names = [f"p{number}" for number in range(5)]
        for name in names:
            await node.submit(sh(f"{registry.host}/lab/shared:1", "true"), name=name, restartPolicy="Never")
        for name in names:
            await node.until_phase("Succeeded", name=name)
        assert len(unpacked) == len(set(unpacked)) == 2


async def test_a_pod_that_is_deleted_while_it_pulls_leaves_nothing(
    node: Any, registry: Registry, box: TestImage
) -> None:
    files = [entry(f"f{number}", b"x") for number in range(20_000)]
    registry.push("lab/large", "1", box.with_layer(*files))
    async with node.running():
        pod = await node.submit(sh(f"{registry.host}/lab/large:1", "true"))
        staging = Path(node.config.images) / "staging"
        await node.until(lambda: any(staging.glob("*.layer")))
        await node.cluster.delete(POD, pod.ref, grace_s=0)
        await node.until(lambda: node.pod() is None and not node.place(pod.uid).root.exists())
        await node.until(lambda: not list(staging.iterdir()))
        assert node.agent._images.store.images == []


@pytest.fixture(scope="module")
def debian_python(registry: Registry) -> str:
    """An image of Debian's packages, each a layer."""
    tars = [
        subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
        for package in packages()
    ]
    last = layer(directory("tmp", 0o1777), directory("srv"), link("srv/sh", "/bin/dash"))
    registry.push("lab/python", "3", TestImage((*tars, last), {"Entrypoint": ["python3"], "WorkingDir": "/srv"}))
    return f"{registry.host}/lab/python:3"


async def test_a_python_of_debians_packages_each_a_layer(debian_python: str, node: Any) -> None:
    program = "import os; print(os.getuid(), flush=True); os.execv('./sh', ['sh', '-c', 'perl -e \"print 6*7\"'])"
    async with node.running():
        used = {"securityContext": {"runAsUser": 33, "readOnlyRootFilesystem": True}}
        await node.submit(app(debian_python, args=["-c", program], **used), restartPolicy="Never")
        await node.until(lambda: (node.pod() or {}).get("status", {}).get("phase") in {"Succeeded", "Failed"}, 60.0)
        assert await node.output() == "33\n42\n"
        assert len(node.agent._images.store.images[0].layers) > 15
