"""The engine over HTTPS: a Kubernetes API that kubectl and ordinary clients cannot tell from a real one.

It knows verbs and resources, never a client. Every call becomes a `User` and a `Request` and enters the pipeline; what
the façade adds is the wire: discovery, OpenAPI, Tables, watch streams, authentication, and the way to a pod's logs and
commands through its node's agent. Use `app.build_app`.
"""
