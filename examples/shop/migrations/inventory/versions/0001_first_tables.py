"""first tables

Revision 9a1e383b2d6f, made on 2026-11-22.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "9a1e383b2d6f"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("note", sa.String(length=64), nullable=False),
        sa.Column("delivered_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("note", name=op.f("pk_deliveries")),
    )
    op.create_table(
        "holds",
        sa.Column("order_id", sa.String(length=36), nullable=False),
        sa.Column("goods", sa.LargeBinary(), nullable=False),
        sa.Column("sold", sa.Boolean(), nullable=False),
        sa.Column("held_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_holds")),
    )
    with op.batch_alter_table("holds", schema=None) as batch_op:
        batch_op.create_index("ix_holds_open", ["sold", "held_at"], unique=False)

    op.create_table(
        "stock",
        sa.Column("sku", sa.String(length=32), nullable=False),
        sa.Column("available", sa.Integer(), nullable=False),
        sa.CheckConstraint("available >= 0", name=op.f("ck_stock_available")),
        sa.PrimaryKeyConstraint("sku", name=op.f("pk_stock")),
    )


def downgrade() -> None:
    op.drop_table("stock")
    with op.batch_alter_table("holds", schema=None) as batch_op:
        batch_op.drop_index("ix_holds_open")

    op.drop_table("holds")
    op.drop_table("deliveries")
