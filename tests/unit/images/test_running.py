"""What an image's configuration comes to: words, variables, users; and what a pull policy asks for."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from headrace.errors import InvalidSpec, NotFound, Unsupported
from headrace.node import security
from headrace.node.images import collecting, command, manifest, policy
from headrace.node.images.accounts import Account, account
from headrace.node.images.manifest import Descriptor, ImageConfig, Manifest, Platform
from headrace.node.images.store import Image
from headrace.node.podspec import PodSpec

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1235::/home/app:\nbroken\n#no:x:7:7::/:\n77:x:78:79::/n:\n"
GROUP = "root:x:0:\nstaff:x:50:app\n"
DIGEST = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("command_", "args", "found"),
    [  # Kubernetes, "Define a Command and Arguments": the table
        ([], [], ["/ep", "a"]),
        (["/c"], [], ["/c"]),
        ([], ["z"], ["/ep", "z"]),
        (["/c"], ["z"], ["/c", "z"]),
    ],
)
def test_command_and_args_replace_entrypoint_and_cmd(command_: list[str], args: list[str], found: list[str]) -> None:
    assert command.argv(ImageConfig(entrypoint=("/ep",), cmd=("a",)), command_, args) == found


def test_environment_directory_volumes_and_signals() -> None:
    config = ImageConfig(
        env=("A=b=c", "EMPTY=", "HOME=/h", "=x"), working_dir="srv/app/", volumes=("/data/", "data", "/")
    )
    assert command.environment(config, "/root") == {"HOME": "/h", "A": "b=c", "EMPTY": ""}
    assert command.environment(ImageConfig(), "/root") == {"HOME": "/root"}
    assert (command.working_directory(config), command.working_directory(ImageConfig())) == ("/srv/app", "/")
    assert command.volumes(config) == ["/data"]
    signals = [command.stop_signal(text) for text in ("SIGQUIT", "quit", "3", "SIGRTMIN+3", "", "SIGNONSENSE", "900")]
    assert signals == [signal.SIGQUIT, 3, 3, signal.SIGRTMIN + 3, 0, 0, 0]


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("", Account(0, 0, "/root")),
        ("root", Account(0, 0, "/root", is_named=True)),
        ("app", Account(1234, 1235, "/home/app", is_named=True)),
        ("1234", Account(1234, 1235, "/home/app")),
        ("4711", Account(4711, 0)),
        ("4711:12", Account(4711, 12)),
        ("app:staff", Account(1234, 50, "/home/app", is_named=True)),
        ("app:0", Account(1234, 0, "/home/app", is_named=True)),
        ("77", Account(78, 79, "/n")),
    ],
)
def test_users_are_looked_up_in_the_image(user: str, found: Account) -> None:
    assert account(user, PASSWD, GROUP) == found


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ("nobody", "no user 'nobody'"),
        ("app:wheel", "no group 'wheel'"),
        ("no", "no user"),
        ("4294967295", "no user or group of Linux"),
    ],
)
def test_users_that_cannot_be_had_are_named(user: str, why: str) -> None:
    with pytest.raises(InvalidSpec, match=why):
        account(user, PASSWD, GROUP)


def image(user: str = "") -> Image:
    return Image(id=DIGEST, config=ImageConfig(user=user), layers=[], passwd=PASSWD, group=GROUP)


def pod(**context: Any) -> PodSpec:
    return PodSpec({"spec": {"securityContext": context, "containers": [{"name": "app", "image": "x"}]}})


@pytest.mark.parametrize(
    ("user", "context", "found"),
    [
        ("app", {}, (1234, 1235)),
        ("app", {"runAsUser": 5}, (5, 0)),
        ("app", {"runAsUser": 1234}, (1234, 1235)),
        ("app", {"runAsGroup": 9}, (1234, 9)),
        ("", {"runAsUser": 0, "runAsGroup": 3}, (0, 3)),
        ("1234", {"runAsNonRoot": True}, (1234, 1235)),
        ("app", {"runAsNonRoot": True, "runAsUser": 6}, (6, 0)),
    ],
)
def test_who_runs(user: str, context: dict[str, Any], found: tuple[int, int]) -> None:
    one = pod(**context)
    who = security.identity(one, one.apps[0], image(user))
    assert (who.uid, who.gid) == found


@pytest.mark.parametrize(
    ("user", "why"),
    [("", "runs as root"), ("0", "runs as root"), ("app", "non-numeric user"), ("root", "non-numeric user")],
)
def test_run_as_non_root_is_verified(user: str, why: str) -> None:
    one = pod(runAsNonRoot=True)
    with pytest.raises(InvalidSpec, match=why):
        security.identity(one, one.apps[0], image(user))


@pytest.mark.parametrize(
    ("wanted", "present", "accessible", "decision"),
    [
        ("Always", False, False, "pull"),
        ("Always", True, True, "pull"),
        ("IfNotPresent", True, True, "use"),
        ("IfNotPresent", True, False, "pull"),
        ("IfNotPresent", False, False, "pull"),
        ("Never", True, True, "use"),
        ("Never", True, False, "refuse"),
        ("Never", False, False, "refuse"),
    ],
)
def test_policies(wanted: policy.PullPolicy, present: bool, accessible: bool, decision: str) -> None:
    assert policy.decide(wanted, is_present=present, is_accessible=accessible) == decision


def test_the_longest_unused_images_go_first() -> None:
    images = [
        Image(id=name, config=ImageConfig(), layers=[], used_at=at)
        for name, at in (("a", 30.0), ("b", 10), ("c", 20), ("new", 990))
    ]
    assert [one.id for one in collecting.order(images, {"c"}, 1000.0)] == ["b", "a"]


# -- manifests ---------------------------------------------------------------------------------------------------------

LAYER = {"mediaType": f"{manifest._LAYERS[0]}v1.tar+gzip", "digest": DIGEST, "size": 1}
CONFIG = {"mediaType": manifest._CONFIGS[0], "digest": DIGEST, "size": 1}


def said(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": CONFIG, "layers": [LAYER], **fields}).encode()


def test_the_manifest_of_this_platform_is_chosen() -> None:
    offered = [
        Descriptor(DIGEST, 1, platform=Platform("arm64", "linux", "v8")),
        Descriptor("sha256:" + "c" * 64, 1, platform=Platform("amd64", "linux", "v3")),
        Descriptor("sha256:" + "d" * 64, 1, platform=Platform("amd64", "linux")),
        Descriptor("sha256:" + "e" * 64, 1, platform=Platform("unknown", "unknown")),
    ]
    assert manifest.choose(offered, Platform("amd64", "linux")).digest.endswith("d")
    assert manifest.choose(offered, Platform("arm64", "linux")).digest.endswith("b")
    with pytest.raises(
        NotFound, match=r"not made for linux/riscv64, only for linux/amd64, linux/amd64/v3, linux/arm64/v8"
    ):
        manifest.choose(offered, Platform("riscv64", "linux"))


@pytest.mark.parametrize(
    ("body", "error", "why"),
    [
        (b"<html>", InvalidSpec, "cannot be read"),
        (b"[]", InvalidSpec, "cannot be read"),
        (said(schemaVersion=1), Unsupported, "schema 1"),
        (said(config=None), InvalidSpec, "no configuration"),
        (said(config={**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}), Unsupported, "artifact"),
        (said(layers=[{**LAYER, "mediaType": "application/x-tar"}]), Unsupported, "no file system"),
        (said(layers=[{**LAYER, "digest": "md5:1"}]), InvalidSpec, "no digest"),
        (said(layers=[{**LAYER, "digest": "sha256:../../../etc/passwd"}]), InvalidSpec, "no digest"),
        (said(layers=[LAYER] * 300), Unsupported, "300 layers"),
    ],
)
def test_what_is_no_image_is_refused(body: bytes, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        manifest.parse(body, "application/vnd.oci.image.manifest.v1+json")


def test_configurations() -> None:
    one = manifest.parse(said(), "")
    assert isinstance(one, Manifest)
    here = Platform("amd64", "linux")
    raw: dict[str, Any] = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [DIGEST]}}
    raw["config"] = {
        "Env": None,
        "Cmd": ["x"],
        "Entrypoint": None,
        "Volumes": {"/v": {}},
        "User": "a",
        "Labels": {"b": "c"},
    }
    found = manifest.parse_config(json.dumps(raw).encode(), one, here)
    assert found.config == ImageConfig(user="a", cmd=("x",), volumes=("/v",))
    for wrong, why in (
        ({"rootfs": {}}, "names 0 layers"),
        ({"config": {"Cmd": "x"}}, "cannot be read"),
        ({"architecture": "arm64"}, "made for linux/arm64"),
    ):
        with pytest.raises((InvalidSpec, NotFound), match=why):
            manifest.parse_config(json.dumps({**raw, **wrong}).encode(), one, here)
