"""Alembic's environment and the versions of the ledger's tables."""
