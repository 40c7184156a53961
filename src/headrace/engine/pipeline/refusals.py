"""The sentences with which the server refuses, worded as a real API server words them where clients read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.engine.pipeline.request import Attributes, User
from headrace.errors import AlreadyExists, Conflict, Denied, InvalidSpec, NotFound, Unsupported
from headrace.spec.kind import Kind

Warn = Callable[[str], None]
"""Takes a sentence for the caller that refuses nothing."""


class BadRequest(InvalidSpec):
    """The call itself cannot be understood: its body, its selectors or its parameters. Mend it and send it again."""

    code = "BadRequest"
    http_status = 400


class MethodNotAllowed(Unsupported):
    """The resource has no such verb, here and in a real Kubernetes."""

    code = "MethodNotAllowed"
    http_status = 405


class UnsupportedMediaType(Unsupported):
    """The resource cannot be patched that way. Use another kind of patch."""

    code = "UnsupportedMediaType"
    http_status = 415


def not_found(kind: Kind[Any], name: str) -> NotFound:
    """There is no object of this name."""
    error = NotFound(f'{kind.resource} "{name}" not found')
    error.about = (kind.group, kind.plural, name)
    return error


def already_exists(kind: Kind[Any], name: str) -> AlreadyExists:
    """There is an object of this name."""
    error = AlreadyExists(f'{kind.resource} "{name}" already exists')
    error.about = (kind.group, kind.plural, name)
    return error


def conflict(kind: Kind[Any], name: str, why: str) -> Conflict:
    """The object is not as the caller believes."""
    return Conflict(f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}')


def modified(kind: Kind[Any], name: str) -> Conflict:
    """The object is at another resourceVersion."""
    return conflict(
        kind, name, "the object has been modified; please apply your changes to the latest version and try again"
    )


class UnfitConfiguration(InvalidSpec):
    """An applied configuration has fields or values that its kind has not. Mend it."""

    code = "UnfitConfiguration"
    http_status = 500  # as a real API server answers, which gives no reason either


class InvalidObject(InvalidSpec):
    """InvalidSpec that knows its object's name: of one that is being created, the request's path does not tell it."""

    name = ""


def invalid(kind: Kind[Any], name: str, *problems: tuple[str, str]) -> InvalidSpec:
    """What is asked cannot be right; `problems` are field paths and sentences."""
    found = "; ".join(f"{path}: {sentence}" for path, sentence in problems)
    error = InvalidObject(f'{kind.name} "{name}" is invalid: {found}', causes=problems)
    error.name = name
    return error


def invalid_options(verb: str, *problems: tuple[str, str]) -> InvalidSpec:
    """The parameters of a call cannot be right; `verb` is `Create`, `Update` or `Patch`."""
    found = ", ".join(f"{name}: {sentence}" for name, sentence in problems)
    error = InvalidSpec(f'{verb}Options.meta.k8s.io "" is invalid: {found}', causes=problems)
    error.about = ("meta.k8s.io", f"{verb}Options", "")
    return error


def forbidden(user: User, attributes: Attributes, why: str) -> Denied:
    """The user may not."""
    resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    full = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
    named = f' "{attributes.name}"' if attributes.name else ""
    where = f' in the namespace "{attributes.namespace}"' if attributes.namespace else " at the cluster scope"
    return Denied(
        f'{full}{named} is forbidden: User "{user.name}" cannot {attributes.verb} resource "{resource}" '
        f'in API group "{attributes.group}"{where}: {why}'
    )
