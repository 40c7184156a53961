"""Where an image's repository is found: the mirrors of this node, then the registry that the name says. Pure.

A mirror is written `PREFIX=URL`, such as `micr.cloud.cn=http://127.0.0.1:5000`. PREFIX is a registry or the beginning of
a repository (`docker.io/library`), whole parts only; the longest that fits counts, and of one prefix several mirrors are
asked in the order in which they are given. URL replaces PREFIX, its path included, as `location` of containers'
registries.conf does; images keep their names. Plain http is for loopback, and for mirrors that say `http://`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace.errors import InvalidSpec
from headrace.node.images.reference import DOCKER_HUB, Reference

_DOCKER_HUB_HOST = "registry-1.docker.io"
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?(?:/[a-z0-9._/-]+)?")
_EXAMPLE = "Write for example docker.io=https://mirror.example or reg.corp/team=http://127.0.0.1:5000."


@dataclass(frozen=True)
class Endpoint:
    """One place of a repository.

    Attributes:
        server: scheme, host and port.
        path: the repository's path there.
        known_as: by which name credentials for it are looked up: never those of the registry for a mirror.
    """

    server: str
    path: str
    known_as: str

    @property
    def host(self) -> str:
        return self.server.partition("://")[2]

    @property
    def is_encrypted(self) -> bool:
        return self.server.startswith("https://")


@dataclass(frozen=True)
class Mirror:
    """A place to look at first for what begins with `prefix`."""

    prefix: str
    url: str

    @classmethod
    def parse(cls, text: str) -> Mirror:
        """Read `PREFIX=URL`; raises InvalidSpec."""
        prefix, equals, url = text.partition("=")
        parts = urlsplit(url)
        try:
            is_place = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_place = False
        if not equals or not _PREFIX.fullmatch(prefix.rstrip("/")):
            raise InvalidSpec(f"{text!r} is no mirror: it does not begin with a registry's name.", hint=_EXAMPLE)
        if not is_place or parts.query or parts.fragment or parts.username:
            raise InvalidSpec(f"{text!r} is no mirror: {url!r} is no plain http or https URL.", hint=_EXAMPLE)
        return cls(prefix.rstrip("/"), url.rstrip("/"))

    def rest_of(self, repository: str) -> str | None:
        """Return what follows the prefix, None where it is not one."""
        if repository == self.prefix or repository.startswith(f"{self.prefix}/"):
            return repository[len(self.prefix) :].lstrip("/")
        return None


def endpoints(reference: Reference, mirrors: Sequence[Mirror]) -> list[Endpoint]:
    """Return where to ask for an image, in order; the registry itself comes last."""
    fitting = [mirror for mirror in mirrors if mirror.rest_of(reference.repository) is not None]
    longest = max((len(mirror.prefix) for mirror in fitting), default=0)
    found = [_at(mirror, reference) for mirror in fitting if len(mirror.prefix) == longest]
    host = _DOCKER_HUB_HOST if reference.host == DOCKER_HUB else reference.host
    scheme = "http" if is_loopback(reference.host) else "https"
    return [*found, Endpoint(f"{scheme}://{host}", reference.path, reference.repository)]


def _at(mirror: Mirror, reference: Reference) -> Endpoint:
    parts = urlsplit(mirror.url)
    path = "/".join(part for part in (parts.path.strip("/"), mirror.rest_of(reference.repository)) if part)
    return Endpoint(f"{parts.scheme}://{parts.netloc}", path, f"{parts.netloc}/{path}")


def is_loopback(host: str) -> bool:
    """Whether a host with or without port is this machine, to which nobody can listen in."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
