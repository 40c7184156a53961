"""Kinds that are asked and never stored: who am I, may I, whose token is this.

Source: Kubernetes `authentication.k8s.io/v1` and `authorization.k8s.io/v1`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from headrace.clock import Clock, format_time
from headrace.engine.facade import answers, bodies, media
from headrace.engine.facade.authentication import Authenticator
from headrace.engine.facade.authoriser import AUTHENTICATED, MASTERS
from headrace.engine.facade.discovery import REVIEWS
from headrace.engine.facade.refusals import Unauthorised
from headrace.engine.facade.target import Target
from headrace.engine.pipeline.refusals import MethodNotAllowed
from headrace.engine.pipeline.request import Attributes, Authoriser, User
from headrace.engine.tokens import DEFAULT_AUDIENCE
from headrace.errors import Denied, InvalidSpec
from headrace.spec.kind import Json

Review = Callable[[Json, User], Awaitable[Json]]
_KINDS = {(row.group, row.version, row.plural): row for row in REVIEWS}


class Reviews:
    """Answers POSTs to the review kinds."""

    def __init__(self, authenticator: Authenticator, authoriser: Authoriser, clock: Clock) -> None:
        self._authenticator = authenticator
        self._authoriser = authoriser
        self._clock = clock
        self._by_kind: dict[str, Review] = {
            "SelfSubjectReview": self._who_am_i,
            "TokenReview": self._token,
            "SelfSubjectAccessReview": self._may_i,
            "SelfSubjectRulesReview": self._rules,
            "SubjectAccessReview": self._may_they,
        }

    @staticmethod
    def serves(target: Target) -> bool:
        """Tell whether `target` is a review kind."""
        return (target.group, target.version, target.plural) in _KINDS

    async def serve(self, http: HttpRequest, target: Target, user: User) -> Response:
        """Return the review with its status; nothing is stored."""
        row = _KINDS[(target.group, target.version, target.plural)]
        if http.method != "POST":
            raise MethodNotAllowed(f"{row.plural} can only be created.", hint="POST one; it is answered, not kept.")
        asked = Attributes(verb="create", group=row.group, resource=row.plural)
        refusal = self._authoriser.refusal(user, asked)
        if refusal:
            raise Denied(f"{user.name} cannot create {row.plural}.{row.group}: {refusal}")
        body = await bodies.read_object(http)
        review = bodies.as_object(bodies.decoded_json(body) if isinstance(body, bytes) else body)
        status = await self._by_kind[row.kind[2]](review.get("spec") or {}, user)
        answer = {
            "kind": row.kind[2],
            "apiVersion": f"{row.group}/{row.version}",
            "metadata": {"creationTimestamp": format_time(self._clock.now())},
            "spec": review.get("spec") or {},
            "status": status,
        }
        return answers.respond(answer, media.form(http.headers.get("accept", "")), status=201)

    async def _who_am_i(self, spec: Json, user: User) -> Json:  # noqa: ARG002 every review is asked alike
        return {"userInfo": _user_info(user)}

    async def _token(self, spec: Json, user: User) -> Json:  # noqa: ARG002 every review is asked alike
        audiences = tuple(spec.get("audiences") or (DEFAULT_AUDIENCE,))
        try:
            found = await self._authenticator.of_token(str(spec.get("token", "")), audiences)
        except Unauthorised as error:
            return {"authenticated": False, "error": str(error)}
        return {"authenticated": True, "user": _user_info(found), "audiences": list(audiences)}

    async def _may_i(self, spec: Json, user: User) -> Json:
        return self._decide(spec, user)

    async def _may_they(self, spec: Json, user: User) -> Json:  # noqa: ARG002 every review is asked alike
        name, groups = spec.get("user") or "", tuple(spec.get("groups") or ())
        if not name and not groups:
            raise _invalid("spec.user", "at least one of user or group must be specified")
        return self._decide(spec, User(name, groups))

    async def _rules(self, spec: Json, user: User) -> Json:  # noqa: ARG002 every review is asked alike
        if MASTERS in user.groups:
            everything = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
            return {
                "resourceRules": everything,
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": False,
            }
        own = [{"verbs": ["create"], "apiGroups": [row.group], "resources": [row.plural]} for row in REVIEWS]
        is_known = AUTHENTICATED in user.groups
        return {
            "resourceRules": [rule for rule in own if rule["resources"][0].startswith("self")] if is_known else [],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version"]}],
            "incomplete": True,
            "evaluationError": "Rules come from a fixed policy; ask for one action with a SelfSubjectAccessReview.",
        }

    def _decide(self, spec: Json, user: User) -> Json:
        resource, path = spec.get("resourceAttributes") or {}, spec.get("nonResourceAttributes") or {}
        if bool(resource) == bool(path):
            sentence = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise _invalid("spec.resourceAttributes", sentence)
        if path:
            asked = Attributes(verb=path.get("verb") or "", path=path.get("path") or "")
        else:
            keys = ("verb", "group", "resource", "subresource", "namespace", "name")
            asked = Attributes(**{key: resource.get(key) or "" for key in keys})
        refusal = self._authoriser.refusal(user, asked)
        return {"allowed": not refusal, **({"reason": refusal} if refusal else {})}


def _invalid(field: str, sentence: str) -> InvalidSpec:
    return InvalidSpec(f"{field}: {sentence}", causes=((field, sentence),))


def _user_info(user: User) -> Json:
    info: Json = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info
