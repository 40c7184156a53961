"""Which user names and passwords of a pod's pull secrets are meant for an image. Pure.

Source: kubernetes v1.36 `pkg/credentialprovider` (`keyring.go`, `config.go`, `secrets/secrets.go`), whose rules of
matching are documented in "Images: Interpretation of config.json".
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from headrace.node.images.reference import DOCKER_HUB
from headrace.spec.kind import Json

_DOCKER_HUB_KEY = "index.docker.io"
_DATA_KEYS = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}


@dataclass(frozen=True)
class Credential:
    """What a registry is shown. Never logged: its text has no password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credential({self.user!r})"


def fingerprint(credential: Credential) -> str:
    """Return what tells whether two are the same without keeping either; nobody gets a long password back from it.

    Takes some milliseconds on purpose.
    """
    salt = credential.user.encode()
    return hashlib.scrypt(credential.password.encode(), salt=salt, n=2**12, r=8, p=1, dklen=24).hex()


class Keyring:
    """The credentials of some Secrets, by where they are good."""

    def __init__(self) -> None:
        self._by_place: dict[str, list[Credential]] = {}

    def add(self, place: str, credential: Credential) -> None:
        """Add one for a registry as config files write it: `host`, `host/path`, `https://host/v1/`, `*.host`."""
        text = place.removeprefix("https://").removeprefix("http://")
        host, _, path = text.partition("/")
        for version in ("v1", "v2"):
            if path == version or path.startswith(f"{version}/"):
                path = path[len(version) + 1 :]
        key = f"{host}/{path}" if path else host
        self._by_place.setdefault(key, []).append(credential)

    def lookup(self, repository: str) -> list[Credential]:
        """Return what may be shown for `host/path`, the most specific first; several, so that they can be rotated."""
        found: list[Credential] = []
        for place in sorted(self._by_place, reverse=True):
            if _matches(place, repository):
                found += self._by_place[place]
        if not found and repository.partition("/")[0] == DOCKER_HUB:
            found = self._by_place.get(_DOCKER_HUB_KEY, [])
        return list(dict.fromkeys(found))


def keyring(secrets: Iterable[Json]) -> tuple[Keyring, list[str]]:
    """Return the keyring of raw Secrets, and a sentence for each that cannot be used."""
    ring, wrong = Keyring(), []
    for secret in secrets:
        name = str((secret.get("metadata") or {}).get("name"))
        key = _DATA_KEYS.get(str(secret.get("type")))
        if key is None:
            wrong.append(f"Secret {name} has type {secret.get('type')}, which is none of {', '.join(_DATA_KEYS)}.")
            continue
        try:
            config = msgspec.json.decode(base64.b64decode((secret.get("data") or {}).get(key) or ""))
            entries = config["auths"] if key == ".dockerconfigjson" else config
            for place, entry in entries.items():
                ring.add(place, _credential(entry))
        except (ValueError, KeyError, TypeError, AttributeError, msgspec.DecodeError):
            wrong.append(f"Secret {name} holds no {key.removeprefix('.')} that can be read; make it with kubectl.")
    return ring, wrong


def _credential(entry: Json) -> Credential:
    """`auth` (base64 of user:password) is stronger than the two apart, as kubelet has it."""
    if not entry.get("auth"):
        return Credential(str(entry.get("username") or ""), str(entry.get("password") or ""))
    text = str(entry["auth"]).strip()
    try:
        user, colon, password = base64.b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("auth is no base64") from error
    if not colon:
        raise ValueError("auth is no user:password")
    return Credential(user, password)


def _matches(place: str, repository: str) -> bool:
    """Ports must be equal, a path must be a beginning, and each label of the host matches for itself (`*.corp.example`)."""
    wanted_host, _, wanted_path = place.partition("/")
    host, _, path = repository.partition("/")
    wanted_labels, wanted_port = _labels(wanted_host)
    labels, port = _labels(host)
    if wanted_port != port or len(wanted_labels) != len(labels) or not path.startswith(wanted_path):
        return False
    return all(fnmatch.fnmatchcase(label, wanted) for wanted, label in zip(wanted_labels, labels, strict=True))


def _labels(host: str) -> tuple[list[str], str]:
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        return host.split("."), ""
    return name.split("."), port
