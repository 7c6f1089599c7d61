"""Dangerous steps are named with their line; harmless ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenfold.db.lint import lint


def judged(tmp_path: Path, body: str) -> list[tuple[str, str]]:
    script = tmp_path / "0001_step.py"
    script.write_text(
        f"from alembic import op\nimport sqlalchemy as sa\ndef upgrade():\n    {body}\ndef downgrade():\n    op.drop_table('t')\n"
    )
    return [(f.step, f.danger) for f in lint(script)]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("op.create_table('t', sa.Column('id', sa.Integer, nullable=False))", []),
        ("op.add_column('t', sa.Column('a', sa.Integer))", []),
        ("op.add_column('t', sa.Column('a', sa.Integer, nullable=False, server_default='0'))", []),
        (
            "op.add_column('t', sa.Column('a', sa.Integer, nullable=False))",
            [("add_column(nullable=False)", "breaks running code")],
        ),
        ("op.drop_table('t')", [("drop_table", "loses data")]),
        ("op.drop_column('t', 'a')", [("drop_column", "loses data")]),
        ("op.alter_column('t', 'a', type_=sa.Text())", [("alter_column(type_=…)", "locks")]),
        ("op.alter_column('t', 'a', nullable=False)", [("alter_column(nullable=False)", "locks")]),
        ("op.alter_column('t', 'a', nullable=True)", []),
        ("op.alter_column('t', 'a', new_column_name='b')", [("alter_column", "breaks running code")]),
        ("op.rename_table('t', 'u')", [("rename_table", "breaks running code")]),
        ("op.create_index('i', 't', ['a'])", [("create_index", "locks")]),
        ("op.create_index('i', 't', ['a'], postgresql_concurrently=True)", []),
        ("op.create_unique_constraint('u', 't', ['a'])", [("create_unique_constraint", "locks")]),
        ("op.execute('  delete from t')", [("execute(DELETE …)", "locks")]),
        ("op.execute(sa.text('TRUNCATE t'))", [("execute(TRUNCATE …)", "loses data")]),
        ("op.execute('INSERT INTO t VALUES (1)')", []),
        ("with op.batch_alter_table('t') as b:\n        b.drop_column('a')", [("drop_column", "loses data")]),
    ],
)
def test_steps_are_judged(tmp_path: Path, body: str, found: list[tuple[str, str]]) -> None:
    assert judged(tmp_path, body) == found


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("op.create_index('i', 't', ['a'])", []),
        ("op.create_index('i', table_name='t', columns=['a'])", []),
        ("op.create_unique_constraint('u', 't', ['a'])", []),
        ("op.create_foreign_key('f', 't', 'old', ['a'], ['id'])", []),
        ("op.create_foreign_key('f', 'old', 't', ['a'], ['id'])", ["create_foreign_key"]),
        ("op.create_index('i', 'old', ['a'])", ["create_index"]),
        ("op.add_column('t', sa.Column('b', sa.Integer, nullable=False))", []),
        ("op.drop_column('t', 'a')", ["drop_column"]),
        ("with op.batch_alter_table('t') as b:\n        b.create_index('i', ['t'])", []),
        ("with op.batch_alter_table('old') as b:\n        b.create_index('i', ['t'])", ["create_index"]),
    ],
)
def test_a_table_that_the_script_makes_itself_keeps_nobody_waiting(
    tmp_path: Path, step: str, found: list[str]
) -> None:
    body = f"op.create_table('t', sa.Column('a', sa.Integer))\n    {step}"
    assert [name for name, _ in judged(tmp_path, body)] == found


def test_a_finding_reads_as_a_line_with_its_place(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("def upgrade():\n    pass\n    op.drop_table('t')\n")
    (finding,) = lint(script)
    assert str(finding).startswith(f"{script}:3: drop_table loses data: its rows are gone")
