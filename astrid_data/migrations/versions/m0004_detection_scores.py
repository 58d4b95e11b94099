"What a trained model said of detections that are there already."

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = '0004', '0003', None, None

TABLE = 'ad_detection_scores'


def column(name, kind, **more):
    "A column that may not be empty"
    return sa.Column(name, kind, nullable=False, **more)


def upgrade():
    op.create_table(
        TABLE,
        sa.Column('id', sa.Uuid(), primary_key=True),
        column('model_run_id', sa.Uuid()),
        column('detection_id', sa.Uuid()),
        sa.Column('score', sa.Double(53)),
        sa.Column('probability', sa.Double(53)),
        sa.Column('prior', sa.Double(53)),
        sa.Column('called_real', sa.Boolean()),
        sa.Column('distance', sa.Double(53)),
        sa.Column('as_far', sa.Double(53)),
        column('flags', sa.Text()),
        column('reason', sa.String(50)),
        column('detail', sa.Text()),
        column('created_at', sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(['model_run_id'], ['model_runs.id']),
        sa.ForeignKeyConstraint(['detection_id'], ['detections.id']),
        sa.UniqueConstraint('model_run_id', 'detection_id'),
        if_not_exists=True,
    )
    op.create_index(f'ix_{TABLE}_detection_id', TABLE, ['detection_id'], if_not_exists=True)


def downgrade():
    op.drop_table(TABLE)
