"""What Headrace puts into a cluster, as plain objects, and how they get there. One source for `headrace install` and
`deploy/`. Pure but for `apply`, which knows only the `Cluster` protocol.
"""
