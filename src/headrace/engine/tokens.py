"""Bearer tokens: a file of static ones, and signed ones for service accounts.

The file has Kubernetes' own format (`--token-auth-file`): `token,user,uid,"group1,group2"` a line. Service-account
tokens are JWTs with the claims of a real API server, so that clients which read them (for the namespace, for the
expiry) find what they look for. Whether the account still exists is for `facade.authentication` to ask.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from headrace import ids
from headrace.clock import Clock, format_time
from headrace.engine.pipeline.request import IssuedToken, User
from headrace.errors import Denied, EngineFailed
from headrace.keyfiles import private_directory, write_private
from headrace.spec.kind import Json

DEFAULT_AUDIENCE = "https://kubernetes.default.svc"
LEAST_LIFETIME_S = 600
MOST_LIFETIME_S = 365 * 24 * 3600
_ALGORITHM = "ES256"
_ACCOUNT_PREFIX = "system:serviceaccount:"


class StaticTokens:
    """Tokens that hold until their line is taken out of the file. Reads the file when made; a missing one is empty.

    Raises EngineFailed for a line that is no token.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[list[str]] = []
        self._users: dict[bytes, User] = {}
        self._read()

    def user(self, token: str) -> User | None:
        """Return whose token it is, None when nobody's."""
        # Looked up by digest, so that the time a lookup takes tells nothing about the tokens there are.
        return self._users.get(_digest(token))

    def ensure(self, user: str, groups: Sequence[str] = ()) -> str:
        """Return the token of `user`, making one when there is none or its groups differ. Idempotent, durable."""
        with private_directory(self._path.parent):
            self._read()
            for token, name, _uid, listed in self._rows:
                if name == user and listed == ",".join(groups):
                    return token
            token = secrets.token_urlsafe(32)
            rows = [row for row in self._rows if row[1] != user]
            rows.append([token, user, ids.short_hash(user), ",".join(groups)])
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            write_private(self._path, text.getvalue().encode())
            self._read()
        return token

    def _read(self) -> None:
        text = self._path.read_text() if self._path.exists() else ""
        self._rows = [[*row, ""][:4] for row in csv.reader(io.StringIO(text)) if row]
        for number, row in enumerate(self._rows, 1):
            if len(row) != 4 or not row[0] or not row[1]:
                raise EngineFailed(
                    f"Token {number} in {self._path} cannot be read.",
                    hint='Write it as token,user,uid,"group1,group2".',
                )
        self._users = {_digest(token): _static_user(name, uid, groups) for token, name, uid, groups in self._rows}


class AccountToken(msgspec.Struct, frozen=True):
    """What a valid service-account token says. `bound` names the pod, node or secret it dies with: kind, name, uid."""

    namespace: str
    name: str
    uid: str
    audiences: tuple[str, ...]
    expires_s: float
    token_id: str
    bound: tuple[str, str, str] | None = None

    @property
    def user(self) -> User:
        extra: dict[str, tuple[str, ...]] = {"authentication.kubernetes.io/credential-id": (f"JTI={self.token_id}",)}
        if self.bound is not None and self.bound[0] == "Pod":
            extra["authentication.kubernetes.io/pod-name"] = (self.bound[1],)
            extra["authentication.kubernetes.io/pod-uid"] = (self.bound[2],)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated")
        return User(f"{_ACCOUNT_PREFIX}{self.namespace}:{self.name}", groups, self.uid, extra)


class AccountTokens:
    """Signs and verifies service accounts' tokens with one key, made when missing. Satisfies `TokenIssuer`.

    Args:
        key: PEM file of the signing key; whoever has it can be any service account.
        issuer: the `iss` claim; tokens of other issuers are not ours.
    """

    def __init__(self, key: Path, clock: Clock, *, issuer: str = DEFAULT_AUDIENCE) -> None:
        self._clock = clock
        self._issuer = issuer
        with private_directory(key.parent):
            if not key.exists():
                write_private(key, ECKey.generate_key("P-256").as_pem(private=True))
        self._key = ECKey.import_key(key.read_bytes())
        self._key_id = self._key.thumbprint()

    def issue(
        self,
        *,
        namespace: str,
        service_account: str,
        uid: str,
        audiences: tuple[str, ...],
        lifetime_s: int,
        bound_to: Json | None,
    ) -> IssuedToken:
        """Return a token. No audience means this API server; the lifetime is held between 10 minutes and a year."""
        now = int(self._clock.now().timestamp())
        end = now + min(max(lifetime_s, LEAST_LIFETIME_S), MOST_LIFETIME_S)
        private: Json = {"namespace": namespace, "serviceaccount": {"name": service_account, "uid": uid}}
        if bound_to:
            private[bound_to["kind"].lower()] = {"name": bound_to["name"], "uid": bound_to.get("uid", "")}
        claims = {
            "iss": self._issuer,
            "sub": f"{_ACCOUNT_PREFIX}{namespace}:{service_account}",
            "aud": list(audiences or (DEFAULT_AUDIENCE,)),
            "exp": end,
            "iat": now,
            "nbf": now,
            "jti": ids.new_uid(),
            "kubernetes.io": private,
        }
        token = jwt.encode({"alg": _ALGORITHM, "kid": self._key_id}, claims, self._key)
        return IssuedToken(token, format_time(dt.datetime.fromtimestamp(end, dt.UTC)))

    def verify(self, token: str) -> AccountToken:
        """Return what a token says; raises Denied when it is not ours, has expired, or holds not yet."""
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
            found = _read_claims(claims)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise _unauthorised("The token is not one that this server signed.") from error
        now = self._clock.now().timestamp()
        if claims.get("iss") != self._issuer:
            raise _unauthorised("The token was signed by another issuer.")
        if not claims.get("nbf", 0) - 10 <= now < found.expires_s:
            raise _unauthorised("The token has expired or does not hold yet.")
        return found


def _read_claims(claims: dict[str, Any]) -> AccountToken:
    private = claims["kubernetes.io"]
    account = private["serviceaccount"]
    bound = next(((k.capitalize(), private[k]) for k in ("pod", "node", "secret") if k in private), None)
    return AccountToken(
        namespace=str(private["namespace"]),
        name=str(account["name"]),
        uid=str(account["uid"]),
        audiences=tuple(claims["aud"]),
        expires_s=float(claims["exp"]),
        token_id=str(claims["jti"]),
        bound=(bound[0], str(bound[1]["name"]), str(bound[1]["uid"])) if bound else None,
    )


def _unauthorised(what: str) -> Denied:
    return Denied(what, hint="Get a new one, such as with `kubectl create token`.", code="Unauthorized")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _static_user(name: str, uid: str, groups: str) -> User:
    return User(name, (*(g.strip() for g in groups.split(",") if g.strip()), "system:authenticated"), uid)
