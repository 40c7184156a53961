"""Computed reads for people and programs: why a job waits, what one would cost, what was used; and code archives.

Served as the aggregated API group `reads.headrace.io`, so SDK, CLI and console need one connection and one credential.
Nothing here is stored: every answer is computed from caches, the policy and the ledger when it is asked for.
"""
