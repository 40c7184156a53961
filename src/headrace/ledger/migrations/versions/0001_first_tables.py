"""The first tables: events and spans.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SUBJECT = ("namespace", "job", "pod", "pool", "node", "user")


def _subject() -> list[sa.Column]:  # type: ignore[type-arg]
    columns = [sa.Column(name, sa.Text, nullable=False) for name in _SUBJECT]
    return [*columns, sa.Column("attempt", sa.Integer, nullable=False)]


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("pod_uid", sa.Text, nullable=False),
        sa.Column("container", sa.Text, nullable=False),
        sa.Column("restart", sa.Integer, nullable=False),
        sa.Column("edge", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("shape", sa.Text, nullable=False),
        sa.Column("card", sa.Text, nullable=False),
        *_subject(),
        sa.PrimaryKeyConstraint("pod_uid", "container", "restart", "edge"),
    )
    op.create_table(
        "spans",
        sa.Column("pod_uid", sa.Text, nullable=False),
        sa.Column("container", sa.Text, nullable=False),
        sa.Column("restart", sa.Integer, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("start", sa.Text, nullable=False),
        sa.Column("end", sa.Text, nullable=False),
        sa.Column("seconds", sa.Integer, nullable=False),
        sa.Column("cost", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("shape", sa.Text, nullable=False),
        *_subject(),
        sa.PrimaryKeyConstraint("pod_uid", "container", "restart", "part"),
    )
    op.create_index("spans_by_namespace", "spans", ["namespace", "job"])
    op.create_index("spans_by_start", "spans", ["start"])


def downgrade() -> None:
    op.drop_table("spans")
    op.drop_table("events")
