"""How a registry wants to be convinced: reading `WWW-Authenticate`, and getting tokens where it says.

Source: RFC 9110 §11.6.1; distribution's "Token Authentication Specification" (`spec/auth/token.md`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2
import msgspec

from headrace.errors import Denied, Unavailable
from headrace.node.images.credentials import Credential
from headrace.node.images.registries import Endpoint, is_loopback

_SCHEME = re.compile(r"\s*(?:,\s*)?([A-Za-z]+)(?:\s+|$)")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MOST_TOKEN_BYTES = 2**20


@dataclass(frozen=True)
class Challenge:
    """One way to be convinced; `scheme` in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def read_challenges(headers: Sequence[str]) -> list[Challenge]:
    """Return what `WWW-Authenticate` headers ask for; what cannot be read is left out."""
    found: list[Challenge] = []
    for text in headers:
        at = 0
        while scheme := _SCHEME.match(text, at):
            at, parameters = scheme.end(), {}
            while parameter := _PARAMETER.match(text, at):
                quoted = re.sub(r"\\(.)", r"\1", parameter[2]) if parameter[2] is not None else parameter[3]
                parameters[parameter[1].lower()] = quoted
                at = parameter.end()
            found.append(Challenge(scheme[1].lower(), parameters))
    return found


async def authorization(
    http: httpx2.AsyncClient, endpoint: Endpoint, challenges: Sequence[Challenge], credential: Credential | None
) -> str:
    """Return the `Authorization` header that answers what a registry asked; empty where nothing we have could.

    Raises:
        Denied: the token server knows user or password not.
        Unavailable: it cannot be asked now.
    """
    by_scheme = {one.scheme: one for one in reversed(challenges)}
    if "bearer" in by_scheme:
        return await _token(http, endpoint, by_scheme["bearer"].parameters, credential)
    if "basic" in by_scheme and credential is not None:
        return basic(credential)
    return ""


def basic(credential: Credential) -> str:
    """Return a header of RFC 7617."""
    import base64

    return "Basic " + base64.b64encode(f"{credential.user}:{credential.password}".encode()).decode()


async def _token(
    http: httpx2.AsyncClient, endpoint: Endpoint, asked: dict[str, str], credential: Credential | None
) -> str:
    realm = urlsplit(asked.get("realm", ""))
    if realm.scheme not in {"http", "https"} or not realm.netloc:
        raise Denied(f"Registry {endpoint.host} asks for a token and does not say where it is given.")
    if realm.scheme == "http" and endpoint.is_encrypted and not is_loopback(realm.netloc):
        raise Denied(
            f"Registry {endpoint.host} sends its users to {realm.netloc} over plain http, where passwords could be read."
        )
    query = {name: asked[name] for name in ("service", "scope") if asked.get(name)}
    query.setdefault("scope", f"repository:{endpoint.path}:pull")
    headers = {"Authorization": basic(credential)} if credential else {}
    try:
        response = await http.get(asked["realm"], params=query, headers=headers)
    except httpx2.HTTPError as error:
        raise Unavailable(
            f"{realm.netloc}, which gives tokens for registry {endpoint.host}, cannot be reached: {error}."
        ) from error
    if response.status_code in {401, 403}:
        whom = f"user {credential.user}" if credential else "nobody without a pull secret"
        raise Denied(
            f"{realm.netloc}, which gives tokens for registry {endpoint.host}, lets {whom} not pull {endpoint.path}."
        )
    try:
        answer = msgspec.json.decode(response.content[:_MOST_TOKEN_BYTES])
        token = answer.get("token") or answer.get("access_token")
    except (msgspec.DecodeError, AttributeError):
        token = None
    if response.status_code >= 400 or not token:
        raise Unavailable(
            f"{realm.netloc}, which gives tokens for registry {endpoint.host}, answered {response.status_code}."
        )
    return f"Bearer {token}"
