"""Names of images, where they are looked for, and which credentials are meant for them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from headrace.errors import InvalidSpec
from headrace.node.images import reference
from headrace.node.images.credentials import Credential, fingerprint, keyring
from headrace.node.images.registries import Mirror, endpoints, is_loopback

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest"),
        ("grafana/loki:3", "docker.io/grafana/loki:3"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("localhost/busybox", "localhost/busybox:latest"),
        ("reg.corp:5000/a/b_c/d-e.f:V1", "reg.corp:5000/a/b_c/d-e.f:V1"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"reg.corp/a:1@{DIGEST}", f"reg.corp/a:1@{DIGEST}"),
        ("micr.cloud.cn/cloudml/starfs-eci-mount:v1.4.1", "micr.cloud.cn/cloudml/starfs-eci-mount:v1.4.1"),
    ],
)
def test_names_are_written_out(written: str, full: str) -> None:
    assert str(reference.parse(written)) == full


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "no repository"),
        ("Busybox", "lower case"),
        ("reg.corp/Team/x", "lower case"),
        ("busybox:", "tag is empty"),
        ("busybox:a b", "no tag"),
        ("busybox@sha256:abc", "digest"),
        ("reg.corp/", "no repository"),
        ("a//b", "no path"),
        ("a" * 64, "bare digest"),
        ("https://reg.corp/a", "no repository"),
        ("reg_corp.x/a:1", "no repository"),
        ("x" * 256, "no path"),
        ("../etc/passwd", "no repository"),
    ],
)
def test_what_is_no_name_is_told_why(written: str, why: str) -> None:
    with pytest.raises(InvalidSpec, match=why):
        reference.parse(written)


def places(image: str, *mirrors: str) -> list[str]:
    found = endpoints(reference.parse(image), [Mirror.parse(text) for text in mirrors])
    return [f"{one.server}/{one.path} as {one.known_as}" for one in found]


def test_registries_are_asked_by_https_and_this_machine_by_http() -> None:
    assert places("busybox") == ["https://registry-1.docker.io/library/busybox as docker.io/library/busybox"]
    assert places("reg.corp/a") == ["https://reg.corp/a as reg.corp/a"]
    assert places("127.0.0.1:5000/a") == ["http://127.0.0.1:5000/a as 127.0.0.1:5000/a"]
    assert [is_loopback(h) for h in ("localhost:5", "127.9.9.9", "[::1]:5", "localhost.corp", "10.0.0.1")] == [
        *(True, True, True, False, False)
    ]


def test_mirrors_come_first_and_never_get_the_registrys_credentials() -> None:
    assert places("micr.cloud.cn/cloudml/x:1", "micr.cloud.cn=http://127.0.0.1:5000") == [
        "http://127.0.0.1:5000/cloudml/x as 127.0.0.1:5000/cloudml/x",
        "https://micr.cloud.cn/cloudml/x as micr.cloud.cn/cloudml/x",
    ]
    both = ("reg.corp=https://a.example", "reg.corp/team=https://b.example/cache/", "reg.corp/team=http://c:1")
    assert [place.split(" ")[0] for place in places("reg.corp/team/x", *both)] == [
        "https://b.example/cache/x",
        "http://c:1/x",
        "https://reg.corp/team/x",
    ]
    assert places("reg.corp/teams/x", *both)[0].startswith("https://a.example/teams/x ")
    assert places("reg.corp:5000/x", *both) == ["https://reg.corp:5000/x as reg.corp:5000/x"]


@pytest.mark.parametrize(
    "text", ["reg.corp", "=http://x", "reg.corp=x:5000", "a=ftp://b", "a=http://u:p@b", "a b=http://c"]
)
def test_what_is_no_mirror_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="no mirror"):
        Mirror.parse(text)


def secret(kind: str, config: Any, name: str = "s") -> dict[str, Any]:
    key = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}[kind]
    data = base64.b64encode(json.dumps(config).encode()).decode()
    return {"metadata": {"name": name}, "type": kind, "data": {key: data}}


def config_json(**auths: Any) -> dict[str, Any]:
    return secret(
        "kubernetes.io/dockerconfigjson", {"auths": {k: {"username": v, "password": "p"} for k, v in auths.items()}}
    )


@pytest.mark.parametrize(
    ("place", "repository", "matches"),
    [  # kubernetes v1.36 pkg/credentialprovider/keyring_test.go, in spirit
        ("reg.corp", "reg.corp/a", True),
        ("https://reg.corp", "reg.corp/a", True),
        ("https://reg.corp/v1/", "reg.corp/a", True),
        ("reg.corp/v2/team", "reg.corp/team/a", True),
        ("reg.corp/team", "reg.corp/team/a", True),
        ("reg.corp/team", "reg.corp/other/a", False),
        ("reg.corp:5000", "reg.corp/a", False),
        ("reg.corp", "reg.corp:5000/a", False),
        ("*.corp", "reg.corp/a", True),
        ("*.corp", "a.reg.corp/a", False),
        ("*.*.corp", "a.reg.corp/a", True),
        ("r?g.corp:5000", "reg.corp:5000/a", True),
        ("https://index.docker.io/v1/", "docker.io/library/busybox", True),
        ("docker.io", "docker.io/library/busybox", True),
        ("index.docker.io", "reg.corp/a", False),
    ],
)
def test_credentials_are_for_who_they_say(place: str, repository: str, matches: bool) -> None:
    ring, wrong = keyring([config_json(**{place: "me"})])
    assert not wrong
    assert bool(ring.lookup(repository)) is matches


def test_several_credentials_the_most_specific_first() -> None:
    ring, _ = keyring([config_json(**{"reg.corp": "all"}), config_json(**{"reg.corp/team": "team"})])
    assert [one.user for one in ring.lookup("reg.corp/team/x")] == ["team", "all"]


def test_both_kinds_of_secrets_and_both_spellings_of_a_password() -> None:
    auth = base64.b64encode(b"me:a:b").decode().rstrip("=")
    old = secret("kubernetes.io/dockercfg", {"reg.corp": {"auth": auth, "username": "not me"}})
    ring, wrong = keyring([old])
    assert (ring.lookup("reg.corp/x"), wrong) == ([Credential("me", "a:b")], [])


def test_secrets_that_cannot_be_used_are_named_without_what_they_hold() -> None:
    broken = [
        {"metadata": {"name": "opaque"}, "type": "Opaque", "data": {}},
        secret("kubernetes.io/dockercfg", {"reg.corp": {"auth": "no colon!"}}, "bad"),
        secret("kubernetes.io/dockerconfigjson", ["x"], "list"),
    ]
    ring, wrong = keyring(broken)
    assert [sentence.split(" ")[1] for sentence in wrong] == ["opaque", "bad", "list"]
    assert not ring.lookup("reg.corp/x")
    assert "hush" not in repr(Credential("me", "hush"))


def test_fingerprints_tell_credentials_apart_and_hold_no_password() -> None:
    marks = {fingerprint(Credential(user, word)) for user, word in (("a", "x"), ("a", "y"), ("b", "x"), ("a", "x"))}
    assert len(marks) == 3
    assert not any("x" in mark for mark in marks)
