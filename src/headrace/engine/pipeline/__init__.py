"""The one way into the store: authorise, decode, default, admit, validate, write. Never around it.

What the façade uses:

- `Pipeline(store, registry, *, clock, admitters=(), authoriser=None, tokens=None)`
- `await pipeline.handle(user, request) -> Answer`: every verb; errors are raised as `headrace.errors`
- `await pipeline.connect(user, request, options) -> Json`: authorises and admits (operation CONNECT) a `log`, `exec`,
  `attach`, `portforward` or `proxy` subresource, and returns the object (the pod) as it is now
- `pipeline.registry`, `pipeline.authoriser`, `pipeline.admitters`
- `pipeline.status.from_error(error, kind=None, name="") -> Json`: the Status object; its `code` is the HTTP status
"""

from headrace.engine.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
