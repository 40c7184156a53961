"""What Headrace was begun for, in the order in which it happened to its first users.

An organisation has a storage system, "starfs", with a CSI driver of its own on its nodes, and pods that use a claim.
Headrace comes; the claim is labelled before there is a profile; the profile that is applied has another name, and the
spelling of the field. In the end one pod manifest reads the same bytes on the own node and on a virtual one.

One test, because each step goes on where the one before it has stopped. On a cluster of its own, because it begins before
Headrace is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.images import entry as image_entry
from tests.kubernetes import objects, roles
from tests.kubernetes.access import Access
from tests.kubernetes.cluster import images, programs
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.cluster.temporary import temporary
from tests.kubernetes.fixtures import define, made_or_skipped, ready_nodes
from tests.kubernetes.roles import Role, until
from tests.kubernetes.starfs import driver
from tests.kubernetes.starfs import image as starfs
from tests.kubernetes.virtual_node.machine import joined
from tests.registry import Registry, running_registry
from tests.storage import Share, free_ports, small_files, webdav_share

from headrace.data.conditions import CLAIM_MOUNT_VERIFIED
from headrace.data.wrapper.objects import dataset_ref
from headrace.install.names import ADMISSION, CONTROLLER
from headrace.install.webhooks import at_url, webhook_configurations
from headrace.ledger.database import file_url
from headrace.spec.kind import Json, Ref
from headrace.spec.names import NODE_POOL_LABEL, POOL_CHOICE_ANNOTATION, VIRTUAL_NODE_TAINT
from headrace.units import parse_quantity

HOME, PROJECT, CLAIM = "headrace-system", "cloudml", "starfs-pvc"
FLUID = "apis/data.fluid.io/v1alpha1"
PROFILE = Path(__file__).parent / "starfs" / "profile.yaml"
FILES = small_files(40)
_FILES_ARE = "cd /data && find . -type f | sort | xargs busybox sha256sum | busybox sha256sum"


_LOOKED_AT = (
    ("describe", "dataset,pod", "-n", PROJECT),
    ("get", "events", "-A"),
    ("get", "pods,nodes", "-A", "-o", "wide"),
)


@dataclass
class Scene:
    """The cluster with one own node, and what has been started on it so far."""

    access: Access
    own: OwnCluster
    node: str
    share: Share
    directory: Path
    stack: ExitStack
    running: list[Role] = field(default_factory=list)
    said: str = ""
    registry: Registry = field(init=False)
    client: Path = field(init=False)

    def told(self) -> str:
        """Return what a person would look at."""
        return "\n".join(self.kubectl(*words).stdout for words in _LOOKED_AT)

    def kubectl(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Do what a person does, with what a person has."""
        program = Path(sysconfig.get_path("scripts"), "kubectl")
        environment = {**os.environ, "KUBECONFIG": str(self.access.kubeconfig)}
        done = subprocess.run(
            [program, *words], input=stdin, capture_output=True, text=True, env=environment, timeout=90
        )
        assert done.returncode == 0, f"kubectl {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done

    def get(self, plural: str, name: str, api: str = "api/v1") -> Json:
        """Read an object of the project."""
        return self.access.call("GET", f"/{api}/namespaces/{PROJECT}/{plural}/{name}")

    def until_claim_says(self, words: str, told: Callable[[], object] = str) -> Json:
        """Wait until a condition of the claim has these words, and return it."""

        def found() -> Json:
            conditions = self.get("persistentvolumeclaims", CLAIM)["status"].get("conditions") or ()
            return next((c for c in conditions if words in c.get("message", "")), {})

        def seen() -> str:
            return f"{self.kubectl('describe', 'pvc', '-n', PROJECT, CLAIM).stdout}{told()}"

        return until(found, f"the claim says {words!r}", seen)

    def run(self, pod: Json) -> tuple[Json, str, str]:
        """Apply a pod, and return it as it ended, what it printed, and the warnings; the pod is gone afterwards."""
        warnings = self.kubectl("apply", "-f", "-", stdin=json.dumps(pod)).stderr
        name = pod["metadata"]["name"]
        until(
            lambda: self.get("pods", name)["status"]["phase"] in {"Succeeded", "Failed"},
            f"{name} ends",
            self._about(name),
        )
        ended, said = self.get("pods", name), self.kubectl("logs", "-n", PROJECT, name).stdout
        assert ended["status"]["phase"] == "Succeeded", self._about(name)()
        self.kubectl("delete", "pod", "-n", PROJECT, name)
        return ended, said, warnings

    def _about(self, pod: str) -> Callable[[], str]:
        return lambda: self.kubectl("describe", "pod", "-n", PROJECT, pod).stdout


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("seed")
    directory.chmod(0o755)
    with ExitStack() as stack:
        own = stack.enter_context(temporary(directory / "cluster"))
        made_or_skipped(own.start)
        node = made_or_skipped(own.add_node)
        access = Access(own.kubeconfig)
        until(lambda: node in ready_nodes(access), "the node is Ready")
        share = stack.enter_context(webdav_share(directory, FILES, own.address))
        yield Scene(access, own, node, share, directory, stack)


def test_one_manifest_reads_the_same_bytes_at_home_and_beside_a_client(scene: Scene) -> None:
    step_1_the_own_node_has_the_storage_teams_driver(scene)
    step_2_a_plain_pod_uses_the_claim_through_the_driver(scene)
    step_3_the_claim_labelled_too_early_says_what_is_missing(scene)
    step_4_a_profile_of_another_name_is_accepted_with_warnings_and_found(scene)
    step_5_applied_again_under_the_labels_name_it_heals(scene)
    step_6_on_the_own_node_the_same_manifest_keeps_the_drivers_path(scene)
    join_a_virtual_node(scene)
    step_6_with_a_toleration_it_stays_on_the_own_node_while_there_is_room(scene)
    step_6_with_a_toleration_it_reads_the_same_bytes_through_a_sidecar_when_there_is_none(scene)
    step_7_the_client_is_pulled_anew_for_every_pod(scene)


# -- 1. an own node with a native CSI driver -----------------------------------------------------------------------------


def step_1_the_own_node_has_the_storage_teams_driver(scene: Scene) -> None:
    words = (sys.executable, "-m", driver.__name__, "--node", scene.node)
    said = scene.own.start_on_node(scene.node, "starfs-driver", *words, PYTHONPATH=str(Path(__file__).parents[2]))
    about = {"attachRequired": False, "fsGroupPolicy": "None"}
    roles.apply(
        scene.access,
        {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": driver.NAME}, "spec": about},
    )

    def there() -> bool:
        drivers = (
            scene.access.call("GET", f"/apis/storage.k8s.io/v1/csinodes/{scene.node}")["spec"].get("drivers") or ()
        )
        return driver.NAME in {each["name"] for each in drivers}

    until(there, "the kubelet has the driver", said)


# -- 2. PV and PVC, bound and used by a plain pod ------------------------------------------------------------------------


def claimed(share: Share) -> list[Json]:
    """What the storage team gave its users: a namespace's Secret, a volume, a claim."""
    csi = {
        "driver": driver.NAME,
        "volumeHandle": "starfs-train",
        "volumeAttributes": {"server": share.url, "path": "/"},
        "nodePublishSecretRef": {"name": "starfs-secret", "namespace": PROJECT},
    }
    size = {"storage": "1Ti"}
    volume = {
        "capacity": size,
        "accessModes": ["ReadWriteMany"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "csi": csi,
    }
    claim = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "volumeName": "starfs-pv",
        "resources": {"requests": size},
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PROJECT}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "starfs-secret", "namespace": PROJECT},
            "stringData": {"user": share.user, "password": share.password},
        },
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "starfs-pv"}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": PROJECT},
            "spec": claim,
        },
    ]


def train(**spec: Any) -> Json:
    """The manifest of the users' pod, which never changes, but for what is added to its spec here."""
    container = {
        "name": "train",
        "image": images.BUSYBOX,
        "command": ["sh", "-c", _FILES_ARE],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "train", "namespace": PROJECT},
        "spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes, **spec},
    }


def step_2_a_plain_pod_uses_the_claim_through_the_driver(scene: Scene) -> None:
    roles.apply(scene.access, *claimed(scene.share))
    until(lambda: scene.get("persistentvolumeclaims", CLAIM)["status"].get("phase") == "Bound", "the claim is bound")
    account = f"/api/v1/namespaces/{PROJECT}/serviceaccounts/default"
    until(lambda: not roles.missing(scene.access, account), "there is an account")
    ended, scene.said, _ = scene.run(train())
    assert scene.said == digest_of_files()
    assert ended["spec"]["nodeName"] == scene.node
    assert "initContainers" not in ended["spec"]


def digest_of_files() -> str:
    """Return what the pod prints where it reads the very files."""
    lines = [f"{hashlib.sha256(FILES[name]).hexdigest()}  ./{name}\n" for name in sorted(FILES)]
    return f"{hashlib.sha256(''.join(lines).encode()).hexdigest()}  -\n"


# -- Headrace comes ------------------------------------------------------------------------------------------------------


def install(scene: Scene) -> None:
    """Start controller and admission with the rights that they are installed with, and make the namespace a project."""
    access, place = scene.access, scene.directory / "headrace"
    place.mkdir()
    define(access)
    scene.stack.enter_context(roles.installed(access, HOME))
    (port,) = free_ports(1)
    hooks = webhook_configurations(HOME, at_url(f"https://127.0.0.1:{port}"))
    roles.apply(access, *hooks)  # before the controller, which looks for them when it begins, and then seldom
    ours, theirs = (roles.kubeconfig_of(access, name, HOME, place) for name in (CONTROLLER, ADMISSION))
    running = roles.controller(place, ours, file_url(place / "ledger.db"), "--image", images.BUSYBOX)
    scene.running.append(scene.stack.enter_context(running))
    listen = ("--kubeconfig", theirs, "--listen", f"127.0.0.1:{port}")
    scene.running.append(scene.stack.enter_context(roles.role("admission", place, *listen)))
    for each in scene.running:
        each.await_ready()

    def trusted() -> bool:
        found = [access.call("GET", roles.path_of(each)) for each in hooks]
        return all(hook["clientConfig"].get("caBundle") for each in found for hook in each["webhooks"])

    until(trusted, "the webhooks are trusted", scene.running[0].told)
    roles.project(access, PROJECT, HOME)


# -- 3. the claim is labelled before there is any profile ----------------------------------------------------------------


def step_3_the_claim_labelled_too_early_says_what_is_missing(scene: Scene) -> None:
    install(scene)
    scene.kubectl("label", "pvc", "-n", PROJECT, CLAIM, "fluid.io/runtime-profile=starfs-profile")
    said = scene.until_claim_says("no profile starfs-profile; found: none.")
    assert (said["status"], said["reason"]) == ("False", "ProfileNotFound")
    described = scene.kubectl("describe", "pvc", "-n", PROJECT, CLAIM).stdout
    assert "Warning  ProfileNotFound" in described


# -- 4. the profile is applied under its own name ------------------------------------------------------------------------


def step_4_a_profile_of_another_name_is_accepted_with_warnings_and_found(scene: Scene) -> None:
    warnings = scene.kubectl("apply", "-f", str(PROFILE)).stderr
    for spelling, place in (
        ("fileType", "fileSystemType"),
        ("image", "fuse.image"),
        ("imageTag", "fuse.imageTag"),
        ("imagePullPolicy", "fuse.imagePullPolicy"),
        ("resources", "fuse.resources"),
    ):
        assert f"Warning: spec.{spelling} is read as spec.{place}" in warnings
    stored = scene.access.call("GET", f"/{FLUID}/thinruntimeprofiles/ossfs-profile")["spec"]
    assert stored["fileSystemType"] == "starfs"
    assert stored["fuse"]["image"] == "micr.cloud.cn/cloudml/starfs-eci-mount"
    assert stored["fuse"]["imageTag"] == "v1.4.1"
    assert stored["fuse"]["imagePullPolicy"] == "Always"
    assert stored["fuse"]["resources"] == {"requests": {"cpu": "500m", "memory": "1Gi"}}
    assert stored["fuse"]["command"][-1].endswith("/mount-starfs.sh")
    assert not {"fileType", "image", "imageTag", "imagePullPolicy", "resources"} & set(stored)
    said = scene.until_claim_says("no profile starfs-profile; found: ossfs-profile")
    assert said["status"] == "False"
    described = scene.kubectl("describe", "pvc", "-n", PROJECT, CLAIM).stdout
    assert "no profile starfs-profile; found: ossfs-profile" in described.partition("Events:")[2]


# -- 5. applied again under the name that the label has, it heals --------------------------------------------------------


def step_5_applied_again_under_the_labels_name_it_heals(scene: Scene) -> None:
    renamed = PROFILE.read_text().replace("name: ossfs-profile", "name: starfs-profile")
    scene.kubectl("apply", "-f", "-", stdin=renamed)
    said = scene.until_claim_says("Configured with profile starfs-profile")
    assert said["status"] == "True"
    dataset = dataset_ref(Ref(PROJECT, CLAIM)).name
    assert scene.get("datasets", dataset, FLUID)["status"]["phase"] == "Bound"
    config = json.loads(scene.get("configmaps", f"{dataset}-fuse-conf")["data"]["config.json"])
    assert config["persistentVolumeAttrs"][CLAIM]["volumeAttributes"]["server"] == scene.share.url
    assert scene.share.password not in json.dumps(config)


# -- 6. the same manifest, here and there --------------------------------------------------------------------------------


def step_6_on_the_own_node_the_same_manifest_keeps_the_drivers_path(scene: Scene) -> None:
    ended, said, warnings = scene.run(train())
    assert said == scene.said
    assert "initContainers" not in ended["spec"]
    assert warnings == ""


VIRTUAL = "cloudml-eci"
TOLERANT = {"tolerations": [{"key": VIRTUAL_NODE_TAINT, "operator": "Exists"}]}


def join_a_virtual_node(scene: Scene) -> None:
    """Make the two pools, and let this machine join the rented one with a registry that has the images."""
    cloud = objects.pool(
        "cloud",
        kind="serverless",
        capacity={"cpu": "8", "memory": "16Gi"},
        nodes=TOLERANT,
        dataAccess={"mode": "broker"},
    )
    roles.apply(scene.access, objects.pool("own", dataAccess={"mode": "native"}), cloud)
    scene.kubectl("label", "node", scene.node, f"{NODE_POOL_LABEL}=own")
    images_at = scene.directory / "registry"
    images_at.mkdir()
    scene.registry = scene.stack.enter_context(running_registry(images_at))
    scene.client = starfs.client_image(scene.directory)
    starfs.pushed(scene.registry, scene.client, starfs.NAME)
    node_programs = programs.node_programs() / "bin"
    starfs.pushed(scene.registry, images.busybox(scene.directory, node_programs), images.BUSYBOX)
    mirrors = [f"--mirror={host}={scene.registry.url}" for host in ("micr.cloud.cn", "headrace.test")]
    home = scene.directory / "virtual" / "home"
    home.parent.mkdir(mode=0o755)
    offered = ("--cpu", "4", "--memory", "8Gi")
    machine = scene.stack.enter_context(joined(scene.access, home, VIRTUAL, "cloud", *offered, *mirrors))
    said = scene.until_claim_says("Listed in cloud, own.", lambda: f"{scene.told()}\n{machine.told()}")
    assert (said["type"], said["status"]) == (CLAIM_MOUNT_VERIFIED, "True")


def step_6_with_a_toleration_it_stays_on_the_own_node_while_there_is_room(scene: Scene) -> None:
    ended, said, warnings = scene.run(train(**TOLERANT))
    assert said == scene.said
    assert ended["spec"]["nodeName"] == scene.node
    assert "initContainers" not in ended["spec"]
    assert warnings == ""
    why = ended["metadata"]["annotations"][POOL_CHOICE_ANNOTATION]
    assert why == f"Stays on nodes with the claim's driver: {scene.node} has room for cpu 100m, memory 64Mi."


def step_6_with_a_toleration_it_reads_the_same_bytes_through_a_sidecar_when_there_is_none(scene: Scene) -> None:
    fill(scene)
    ended, said, warnings = scene.run(train(**TOLERANT))
    assert said == scene.said
    assert ended["spec"]["nodeName"] == VIRTUAL
    [sidecar] = ended["spec"]["initContainers"]
    assert (sidecar["name"], sidecar["image"], sidecar["imagePullPolicy"]) == ("fluid-fuse-0", starfs.NAME, "Always")
    assert sidecar["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    assert "Warning: Pod train: Goes to pool cloud: no node with the claim's driver has room" in warnings
    assert f"({scene.node} lacks cpu" in warnings
    # The others, which tolerate nothing, wait for the own node as ever.
    made = json.loads(
        scene.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(train())).stdout
    )
    assert "initContainers" not in made["spec"]


def fill(scene: Scene) -> None:
    """Have somebody else use all but a little of the own node."""
    node = scene.access.call("GET", f"/api/v1/nodes/{scene.node}")
    taken = int(parse_quantity(node["status"]["allocatable"]["cpu"]) * 1000) - 50
    main = {"name": "main", "image": images.PAUSE, "resources": {"requests": {"cpu": f"{taken}m"}}}
    spec = {"containers": [main], "terminationGracePeriodSeconds": 0}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filler", "namespace": "default"}, "spec": spec}
    roles.apply(scene.access, body)
    path = roles.path_of(body)
    until(lambda: scene.access.call("GET", path)["spec"].get("nodeName"), "the own node is full")


def step_7_the_client_is_pulled_anew_for_every_pod(scene: Scene) -> None:
    """Somebody pushes another client under the same tag: with `imagePullPolicy: Always` the next pod has it."""
    digest = starfs.pushed(scene.registry, scene.client, starfs.NAME, image_entry("release", b"2"))
    ended, said, _ = scene.run(train(**TOLERANT))
    assert said == scene.said
    [status] = ended["status"]["initContainerStatuses"]
    assert status["imageID"].endswith(digest)
