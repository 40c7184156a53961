"""Injection, case by case: what a pod looks like afterwards, and every refusal."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from headrace.data.client import ClientTools, ResolvedDataset
from headrace.data.injection import inject
from headrace.data.modes.mode import Capabilities
from headrace.spec.kind import Json

Datasets = dict[str, ResolvedDataset]


def volume_of(pod: Json, name: str) -> Json:
    volumes: list[Json] = pod["spec"]["volumes"]
    return next(volume for volume in volumes if volume["name"] == name)


def mount_at(container: Json, path: str) -> Json:
    mounts: list[Json] = container["volumeMounts"]
    return next(mount for mount in mounts if mount["mountPath"] == path)


def env_of(container: Json) -> dict[str, Any]:
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def test_the_app_mounts_the_subdirectory_of_the_data_volume(
    pod: Json, datasets: Datasets, capabilities: Capabilities
) -> None:
    result = inject(pod, datasets, "broker", capabilities)
    assert result["spec"]["containers"][0]["volumeMounts"] == [
        {
            "name": "fluid-fuse-0-data",
            "mountPath": "/data",
            "subPath": "ds",
            "readOnly": True,
            "mountPropagation": "HostToContainer",
        }
    ]


def test_the_claim_stays_as_an_unmounted_volume(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    result = inject(pod, datasets, "broker", capabilities)
    assert volume_of(result, "data") == {"name": "data", "persistentVolumeClaim": {"claimName": "starfs"}}
    mounted = {
        m["name"] for c in result["spec"]["initContainers"] + result["spec"]["containers"] for m in c["volumeMounts"]
    }
    assert "data" not in mounted


def test_the_sidecar_is_the_first_init_container_and_nothing_starts_before_it_serves(
    pod: Json, datasets: Datasets, capabilities: Capabilities
) -> None:
    pod["spec"]["initContainers"] = [{"name": "prepare", "image": "x"}]
    result = inject(pod, datasets, "broker", capabilities)
    names = [container["name"] for container in result["spec"]["initContainers"]]
    assert names == ["fluid-fuse-0", "prepare"]
    sidecar = result["spec"]["initContainers"][0]
    assert sidecar["restartPolicy"] == "Always"
    target = "/runtime-mnt/thin/vision/starfs-ds/thin-fuse/ds"
    assert sidecar["startupProbe"]["exec"]["command"] == ["served", target]
    assert sidecar["startupProbe"]["failureThreshold"] * sidecar["startupProbe"]["periodSeconds"] == 60
    assert sidecar["livenessProbe"]["exec"]["command"] == ["served", "--alive", target]
    assert env_of(sidecar)["MOUNT_POINT"] == target
    assert mount_at(sidecar, "/runtime-mnt/thin/vision/starfs-ds/thin-fuse")["name"] == "fluid-fuse-0-data"


def test_the_sidecar_passes_pod_security_restricted(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    sidecar = inject(pod, datasets, "broker", capabilities)["spec"]["initContainers"][0]
    assert sidecar["securityContext"] == {
        "runAsUser": 65534,
        "runAsGroup": 65534,
        "runAsNonRoot": True,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@pytest.mark.parametrize("read_only", [True, False])
def test_the_inline_volumes_say_dataset_and_role_and_whether_nobody_writes(
    pod: Json, datasets: Datasets, capabilities: Capabilities, *, read_only: bool
) -> None:
    pod["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = read_only
    result = inject(pod, datasets, "broker", capabilities)
    for role in ("data", "socket"):
        attributes = {"dataset": "starfs-ds", "role": role}
        if role == "data" and read_only:
            attributes["readOnly"] = "true"
        assert volume_of(result, f"fluid-fuse-0-{role}") == {
            "name": f"fluid-fuse-0-{role}",
            "csi": {"driver": "fuse.headrace.io", "volumeAttributes": attributes},
        }
    app = result["spec"]["containers"][0]
    assert all("socket" not in mount["name"] for mount in app["volumeMounts"])


def test_config_secrets_cache_and_tmp_are_volumes_of_the_sidecar(
    pod: Json, datasets: Datasets, capabilities: Capabilities
) -> None:
    result = inject(pod, datasets, "broker", capabilities)
    sidecar = result["spec"]["initContainers"][0]
    config = mount_at(sidecar, "/etc/fluid/config")
    assert volume_of(result, config["name"])["configMap"] == {"name": "starfs-ds-fuse-conf"}
    secret = mount_at(sidecar, "/etc/fluid/secrets/credentials")
    assert secret["readOnly"]
    assert volume_of(result, secret["name"])["secret"] == {"secretName": "credentials"}
    assert "emptyDir" in volume_of(result, mount_at(sidecar, "/tmp")["name"])


def test_the_users_token_is_not_the_clients_unless_its_profile_mounts_one(
    pod: Json, dataset: ResolvedDataset, capabilities: Capabilities
) -> None:
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    sidecar = inject(pod, {"starfs": dataset}, "broker", capabilities)["spec"]["initContainers"][0]
    assert mount_at(sidecar, place) == {
        "name": "fluid-fuse-0-tmp",
        "mountPath": place,
        "subPath": "no-token",
        "readOnly": True,
    }
    token = {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    mount = {"name": "token", "mountPath": place}
    asking = replace(dataset, client=replace(dataset.client, volumes=(token,), volume_mounts=(mount,)))
    sidecar = inject(pod, {"starfs": asking}, "broker", capabilities)["spec"]["initContainers"][0]
    assert mount_at(sidecar, place)["name"] == "fluid-fuse-0-own-token"


def test_labels_and_annotation_are_fluids(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    meta = inject(pod, datasets, "broker", capabilities)["metadata"]
    assert meta["labels"] == {
        "app": "train",
        "done.sidecar.fluid.io/inject": "true",
        "fluid.io/managed-by": "fluid",
        "dataset-name.sidecar.fluid.io/fluid-fuse-0": "starfs-ds",
        "dataset-namespace.sidecar.fluid.io/fluid-fuse-0": "vision",
    }
    assert meta["annotations"] == {"fluid.io/datasets-in-use": "starfs-ds"}


def test_a_done_label_of_the_users_proves_nothing(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    pod["metadata"]["labels"]["done.sidecar.fluid.io/inject"] = "true"
    result = inject(pod, datasets, "broker", capabilities)
    assert result["spec"]["initContainers"][0]["name"] == "fluid-fuse-0"


def test_sub_paths_go_below_the_mount(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    pod["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "data", "mountPath": "/a", "subPath": "train/images"},
        {"name": "data", "mountPath": "/b", "subPathExpr": "logs/$(POD_NAME)"},
        {"name": "data", "mountPath": "/c"},
    ]
    mounts = inject(pod, datasets, "broker", capabilities)["spec"]["containers"][0]["volumeMounts"]
    assert [mount.get("subPath") for mount in mounts] == ["ds/train/images", None, "ds"]
    assert mounts[1]["subPathExpr"] == "ds/logs/$(POD_NAME)"


def test_one_dataset_in_two_volumes_and_three_containers_has_one_sidecar(
    pod: Json, datasets: Datasets, capabilities: Capabilities
) -> None:
    spec = pod["spec"]
    spec["volumes"].append({"name": "again", "persistentVolumeClaim": {"claimName": "starfs", "readOnly": True}})
    spec["initContainers"] = [{"name": "look", "volumeMounts": [{"name": "again", "mountPath": "/x"}]}]
    spec["containers"].append({"name": "second", "volumeMounts": [{"name": "again", "mountPath": "/y"}]})
    result = inject(pod, datasets, "broker", capabilities)
    assert [c["name"] for c in result["spec"]["initContainers"]] == ["fluid-fuse-0", "look"]
    for container, path in ((1, "/x"),):
        mount = mount_at(result["spec"]["initContainers"][container], path)
        assert (mount["name"], mount["readOnly"]) == ("fluid-fuse-0-data", True)
    assert mount_at(result["spec"]["containers"][1], "/y")["readOnly"] is True
    assert volume_of(result, "again")


def test_two_datasets_have_two_sidecars(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    pod["spec"]["volumes"].append({"name": "pictures", "persistentVolumeClaim": {"claimName": "images"}})
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "pictures", "mountPath": "/images"})
    result = inject(pod, datasets, "broker", capabilities)
    assert [c["name"] for c in result["spec"]["initContainers"]] == ["fluid-fuse-0", "fluid-fuse-1"]
    assert mount_at(result["spec"]["containers"][0], "/images")["name"] == "fluid-fuse-1-data"
    assert result["metadata"]["annotations"]["fluid.io/datasets-in-use"] == "starfs-ds,images-ds"
    names = [volume["name"] for volume in result["spec"]["volumes"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("app_reads_only", "dataset_read_only", "options"),
    [(True, False, "ro"), (False, False, None), (False, True, "ro"), (True, True, "ro")],
)
def test_the_client_mounts_read_only_when_nobody_may_write(
    pod: Json,
    dataset: ResolvedDataset,
    capabilities: Capabilities,
    app_reads_only: bool,
    dataset_read_only: bool,
    options: str | None,
) -> None:
    pod["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = app_reads_only
    chosen = replace(dataset, read_only=dataset_read_only)
    result = inject(pod, {"starfs": chosen}, "broker", capabilities)
    assert env_of(result["spec"]["initContainers"][0]).get("MOUNT_OPTIONS") == options
    assert mount_at(result["spec"]["containers"][0], "/data").get("readOnly", False) is (options == "ro")


def test_options_come_sorted_and_keep_ro(pod: Json, dataset: ResolvedDataset, capabilities: Capabilities) -> None:
    client = replace(dataset.client, options={"z": "1", "allow_other": "", "cache": "2"})
    result = inject(pod, {"starfs": replace(dataset, client=client)}, "broker", capabilities)
    assert env_of(result["spec"]["initContainers"][0])["MOUNT_OPTIONS"] == "allow_other,cache=2,ro,z=1"


def test_pull_secrets_travel_once(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    pod["spec"]["imagePullSecrets"] = [{"name": "mine"}, {"name": "registry"}]
    assert inject(pod, datasets, "broker", capabilities)["spec"]["imagePullSecrets"] == [
        {"name": "mine"},
        {"name": "registry"},
    ]
    del pod["spec"]["imagePullSecrets"]
    assert inject(pod, datasets, "broker", capabilities)["spec"]["imagePullSecrets"] == [{"name": "registry"}]


@pytest.mark.parametrize(
    ("read_only", "before", "after"),
    [(False, None, 45), (False, 60, 75), (False, 0, 0), (True, None, None), (True, 60, 60)],
)
def test_a_client_that_writes_gets_time_to_flush(
    pod: Json, datasets: Datasets, capabilities: Capabilities, read_only: bool, before: int | None, after: int | None
) -> None:
    pod["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = read_only
    if before is not None:
        pod["spec"]["terminationGracePeriodSeconds"] = before
    result = inject(pod, datasets, "broker", capabilities)
    assert result["spec"].get("terminationGracePeriodSeconds") == after


def test_the_profiles_own_volumes_ports_and_hooks_are_there(
    pod: Json, dataset: ResolvedDataset, capabilities: Capabilities
) -> None:
    client = replace(
        dataset.client,
        volumes=({"name": "data", "emptyDir": {}}, {"name": "x" * 60, "emptyDir": {}}),
        volume_mounts=({"name": "data", "mountPath": "/opt/d"}, {"name": "x" * 60, "mountPath": "/tmp"}),
        ports=({"containerPort": 9567, "hostPort": 9567},),
        args=("--verbose",),
        pre_stop={"exec": {"command": ["umount", "/x"]}},
        liveness_probe={"exec": {"command": ["true"]}},
        readiness_probe={"exec": {"command": ["false"]}},
        image_pull_policy="Always",
    )
    result = inject(pod, {"starfs": replace(dataset, client=client)}, "broker", capabilities)
    sidecar = result["spec"]["initContainers"][0]
    assert mount_at(sidecar, "/opt/d")["name"] == "fluid-fuse-0-own-data"
    assert mount_at(sidecar, "/tmp")["name"] == "fluid-fuse-0-own-1"
    assert [m["mountPath"] for m in sidecar["volumeMounts"]].count("/tmp") == 1
    assert sidecar["ports"] == [{"containerPort": 9567}]
    assert sidecar["args"] == ["--verbose"]
    assert sidecar["lifecycle"] == {"preStop": {"exec": {"command": ["umount", "/x"]}}}
    assert sidecar["livenessProbe"]
    assert sidecar["readinessProbe"]
    assert sidecar["imagePullPolicy"] == "Always"
    assert all(len(volume["name"]) <= 63 for volume in result["spec"]["volumes"])


def test_tools_say_where_the_stand_in_goes(pod: Json, datasets: Datasets) -> None:
    tools = ClientTools(path="/venv/bin:/usr/bin", stand_in_places=("/bin/fusermount",), device_place="dev-fuse")
    sidecar = inject(pod, datasets, "broker", Capabilities(tools=tools))["spec"]["initContainers"][0]
    assert env_of(sidecar)["PATH"] == "/run/headrace/bin:/venv/bin:/usr/bin"
    assert mount_at(sidecar, "/run/headrace/bin")["subPath"] == "bin"
    assert mount_at(sidecar, "/bin/fusermount")["subPath"] == "bin/fusermount"
    assert mount_at(sidecar, "/dev/fuse")["subPath"] == "dev-fuse"
    assert mount_at(sidecar, "/run/headrace/fuse") == {
        "name": "fluid-fuse-0-socket",
        "mountPath": "/run/headrace/fuse",
        "readOnly": True,
    }


def test_the_contracts_variables_win_over_the_profiles(
    pod: Json, dataset: ResolvedDataset, capabilities: Capabilities
) -> None:
    env = (
        {"name": "MOUNT_POINT", "value": "/elsewhere"},
        {"name": "HOME", "value": "/root"},
        {"name": "PATH", "value": "/p"},
    )
    client = replace(dataset.client, env=env)
    result = inject(pod, {"starfs": replace(dataset, client=client)}, "broker", capabilities)
    got = env_of(result["spec"]["initContainers"][0])
    assert got["MOUNT_POINT"].endswith("/starfs-ds/thin-fuse/ds")
    assert got["HOME"] == "/root"
    assert got["PATH"] == "/run/headrace/bin:/p"
    assert (got["FLUID_RUNTIME_TYPE"], got["FLUID_RUNTIME_NS"], got["FLUID_RUNTIME_NAME"]) == (
        "thin",
        "vision",
        "starfs-ds",
    )


@pytest.mark.parametrize("mode", ["native", "broker", "materialise", "platform", "nonsense"])
def test_pods_without_datasets_come_back_themselves(pod: Json, capabilities: Capabilities, mode: str) -> None:
    assert inject(pod, {}, mode, capabilities) is pod


def test_a_claim_that_nobody_mounts_is_no_use(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    pod["spec"]["containers"][0]["volumeMounts"] = []
    assert inject(pod, datasets, "broker", capabilities) is pod


# -- native and materialise ------------------------------------------------------------------------------------------

OWN_ONLY: Json = {"key": "node-restriction.kubernetes.io/headrace-pool", "operator": "NotIn", "values": ["cloud"]}


def terms_of(pod: Json) -> list[Json]:
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    terms: list[Json] = required["nodeSelectorTerms"]
    return terms


def test_native_leaves_the_pod_but_pins_it(pod: Json, datasets: Datasets) -> None:
    result = inject(pod, datasets, "native", Capabilities(native_nodes=(OWN_ONLY,)))
    assert terms_of(result) == [{"matchExpressions": [OWN_ONLY]}]
    del result["spec"]["affinity"]
    assert result == pod


def test_native_lets_pods_see_what_heals_of_a_plain_dataset(pod: Json, datasets: Datasets, dataset_of: Any) -> None:
    plain = {"starfs": dataset_of("starfs", name="starfs")}
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "data", "mountPath": "/x", "mountPropagation": "None"})
    result = inject(pod, plain, "native", Capabilities())
    mounts = result["spec"]["containers"][0]["volumeMounts"]
    assert [mount["mountPropagation"] for mount in mounts] == ["HostToContainer", "None"]
    assert "mountPropagation" not in pod["spec"]["containers"][0]["volumeMounts"][0], "the pod itself is not changed"
    assert inject(result, plain, "native", Capabilities()) is result
    assert inject(pod, datasets, "native", Capabilities()) is pod, "another driver's claim is its own business"


def test_native_pins_every_alternative_once(pod: Json, datasets: Datasets) -> None:
    zone: Json = {"key": "zone", "operator": "In", "values": ["a"]}
    pod["spec"]["affinity"] = {
        "podAffinity": {},
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [zone]}, {"matchFields": [], "matchExpressions": [OWN_ONLY]}]
            }
        },
    }
    before = copy.deepcopy(pod)
    capabilities = Capabilities(native_nodes=(OWN_ONLY,))
    result = inject(pod, datasets, "native", capabilities)
    assert [term["matchExpressions"] for term in terms_of(result)] == [[zone, OWN_ONLY], [OWN_ONLY]]
    assert "podAffinity" in result["spec"]["affinity"]
    assert pod == before
    assert inject(result, datasets, "native", capabilities) is result


def test_native_leaves_a_pod_that_names_its_node(pod: Json, datasets: Datasets) -> None:
    pod["spec"]["nodeName"] = "own-1"
    assert inject(pod, datasets, "native", Capabilities(native_nodes=(OWN_ONLY,))) is pod


def test_materialise_copies_before_anything_starts(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    result = inject(pod, datasets, "materialise", capabilities)
    copier = result["spec"]["initContainers"][0]
    assert copier["name"] == "fluid-materialise-0"
    assert copier["command"] == ["copy.sh", "--all"]
    assert "restartPolicy" not in copier
    assert volume_of(result, "fluid-materialise-0-data") == {"name": "fluid-materialise-0-data", "emptyDir": {}}
    assert mount_at(result["spec"]["containers"][0], "/data") == {
        "name": "fluid-materialise-0-data",
        "mountPath": "/data",
        "subPath": "ds",
        "readOnly": True,
    }
    assert all("csi" not in volume for volume in result["spec"]["volumes"])


def test_materialise_can_fill_a_shared_directory(pod: Json, datasets: Datasets) -> None:
    shared = {"csi": {"driver": "fuse.headrace.io", "volumeAttributes": {"role": "copy"}}}
    result = inject(pod, datasets, "materialise", Capabilities(copy_source=shared))
    assert "csi" in volume_of(result, "fluid-materialise-0-data")


# -- being called again ----------------------------------------------------------------------------------------------


def defaulted(pod: Json) -> Json:
    """The pod as an API server and other webhooks hand it back: more of everything, quantities rewritten."""
    result = copy.deepcopy(pod)
    for container in result["spec"]["initContainers"] + result["spec"]["containers"]:
        container["terminationMessagePath"] = "/dev/termination-log"
        container.setdefault("volumeMounts", []).append({"name": "token", "mountPath": "/var/run/secrets"})
        container.setdefault("env", []).append({"name": "ADDED", "value": "1"})
        if "resources" in container:
            container["resources"] = {"requests": {"cpu": "0.5", "memory": "1024Mi"}}
        container.get("startupProbe", {}).update({"successThreshold": 1})
    for volume in result["spec"]["volumes"]:
        volume.get("configMap", {}).update({"defaultMode": 420})
    result["spec"]["volumes"].insert(0, {"name": "token", "emptyDir": {}})
    result["spec"]["dnsPolicy"] = "ClusterFirst"
    return result


@pytest.mark.parametrize("mode", ["broker", "materialise"])
def test_a_container_added_later_uses_the_client_that_is_there(
    pod: Json, datasets: Datasets, capabilities: Capabilities, mode: str
) -> None:
    first = defaulted(inject(pod, datasets, mode, capabilities))
    mount = {"name": "data", "mountPath": "/late", "readOnly": True}
    first["spec"]["containers"].append({"name": "late", "image": "late:1", "volumeMounts": [mount]})
    second = inject(first, datasets, mode, capabilities)
    assert len(second["spec"]["initContainers"]) == len(first["spec"]["initContainers"])
    assert second["spec"]["volumes"] == first["spec"]["volumes"]
    late = mount_at(second["spec"]["containers"][-1], "/late")
    assert late["subPath"] == "ds"
    assert late["name"] == first["spec"]["containers"][0]["volumeMounts"][0]["name"]


def test_a_writer_added_later_gets_a_client_of_its_own(
    pod: Json, datasets: Datasets, capabilities: Capabilities
) -> None:
    first = inject(pod, datasets, "broker", capabilities)
    first["spec"]["containers"].append({"name": "w", "volumeMounts": [{"name": "data", "mountPath": "/w"}]})
    second = inject(first, datasets, "broker", capabilities)
    assert [c["name"] for c in second["spec"]["initContainers"]] == ["fluid-fuse-1", "fluid-fuse-0"]
    assert mount_at(second["spec"]["containers"][1], "/w")["name"] == "fluid-fuse-1-data"
    assert inject(second, datasets, "broker", capabilities) is second


def test_a_changed_sidecar_is_not_taken_for_ours(pod: Json, datasets: Datasets, capabilities: Capabilities) -> None:
    first = inject(pod, datasets, "broker", capabilities)
    first["spec"]["initContainers"][0]["image"] = "evil:1"
    first["spec"]["containers"].append({"name": "late", "volumeMounts": [{"name": "data", "mountPath": "/late"}]})
    second = inject(first, datasets, "broker", capabilities)
    assert mount_at(second["spec"]["containers"][1], "/late")["name"] == "fluid-fuse-1-data"
