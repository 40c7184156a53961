"""Who asks: bearer tokens, static ones and service accounts', and impersonation by those who may.

Client certificates are not read here: the HTTP server does not pass them on. Anonymous requests are people too, in the
group `system:unauthenticated`, for the few paths that need no credential.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import HTTPConnection

from headrace.clock import Clock
from headrace.engine.facade.refusals import Unauthorised
from headrace.engine.pipeline.request import Attributes, Authoriser, User
from headrace.engine.tokens import DEFAULT_AUDIENCE, AccountToken, AccountTokens, StaticTokens
from headrace.errors import Denied
from headrace.spec.kind import Kind, Ref
from headrace.spec.kinds import NODE, POD, SECRET, SERVICE_ACCOUNT

ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
UidOf = Callable[[Kind[Any], Ref], Awaitable[str]]
"""Returns the uid of an object that is there, an empty text for one that is not."""

_BOUND_KINDS: dict[str, Kind[Any]] = {"Pod": POD, "Node": NODE, "Secret": SECRET}
_KNOWN_AT_MOST = 1024


class Authenticator:
    """Turns credentials into users.

    Args:
        static: tokens of people and nodes.
        accounts: service accounts' tokens; None where there are none.
        uid_of: looks up the account, and the pod, node or secret that a token dies with.
        authoriser: says who may impersonate whom.
    """

    def __init__(
        self,
        *,
        static: StaticTokens,
        accounts: AccountTokens | None,
        uid_of: UidOf,
        authoriser: Authoriser,
        clock: Clock,
    ) -> None:
        self._static = static
        self._accounts = accounts
        self._uid_of = uid_of
        self._authoriser = authoriser
        self._clock = clock
        self._verified: dict[str, AccountToken] = {}

    async def user(self, connection: HTTPConnection) -> User:
        """Return who is at the other end; ANONYMOUS without credentials.

        Raises Unauthorised for a credential that is none, Denied for an impersonation that is not allowed.
        """
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if not token.strip():
            return ANONYMOUS
        if scheme.lower() != "bearer":
            raise Unauthorised(f"Credentials of type {scheme} are not read here.", hint="Send a bearer token.")
        user = await self.of_token(token.strip())
        if "impersonate-user" in connection.headers:
            return self._impersonated(user, connection)
        return user

    async def of_token(self, token: str, audiences: tuple[str, ...] = (DEFAULT_AUDIENCE,)) -> User:
        """Return whose token it is; raises Unauthorised when nobody's, or meant for other audiences."""
        user = self._static.user(token)
        if user is not None:
            return user
        if self._accounts is None or token.count(".") != 2:
            raise Unauthorised(
                "The token is not known here.", hint="Use the kubeconfig that `headrace up` has written."
            )
        found = self._verified.get(token)
        if found is None or found.expires_s <= self._clock.now().timestamp():
            found = self._verify(self._accounts, token)
        if not set(found.audiences) & set(audiences):
            raise Unauthorised("The token is meant for another audience.", hint="Ask for one without an audience.")
        await self._require_alive(found)
        return found.user

    def _verify(self, accounts: AccountTokens, token: str) -> AccountToken:
        self._verified.pop(token, None)
        try:
            found = accounts.verify(token)
        except Denied as error:
            raise Unauthorised(error.what, hint=error.hint) from error
        if len(self._verified) >= _KNOWN_AT_MOST:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = found
        return found

    async def _require_alive(self, token: AccountToken) -> None:
        account = Ref(token.namespace, token.name)
        if await self._uid_of(SERVICE_ACCOUNT, account) != token.uid:
            raise Unauthorised(f"The token's service account {account} is gone.", hint="Ask for a new token.")
        if token.bound is not None:
            kind = _BOUND_KINDS[token.bound[0]]
            bound = Ref(token.namespace if kind.namespaced else "", token.bound[1])
            if token.bound[2] and await self._uid_of(kind, bound) != token.bound[2]:
                raise Unauthorised(f"The token's {kind.name} {bound} is gone.", hint="Ask for a new token.")

    def _impersonated(self, user: User, connection: HTTPConnection) -> User:
        name = connection.headers["impersonate-user"]
        groups = tuple(connection.headers.getlist("impersonate-group"))
        for resource, wanted in (("users", (name,)), ("groups", groups)):
            for one in wanted:
                asked = Attributes(verb="impersonate", resource=resource, name=one)
                refusal = self._authoriser.refusal(user, asked)
                if refusal:
                    raise Denied(f"{user.name} cannot impersonate {resource[:-1]} {one}: {refusal}")
        return User(name, tuple(dict.fromkeys((*groups, "system:authenticated"))))
