"Every look at the labels of a locked split."
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = '0002', '0001', None, None


def upgrade():
    op.create_table('ad_split_openings', sa.Column('id', sa.Uuid(), primary_key=True), sa.Column('dataset_id', sa.Uuid(), sa.ForeignKey('training_datasets.id'), nullable=False),
        sa.Column('split', sa.String(20), nullable=False), sa.Column('who', sa.String(255), nullable=False), sa.Column('purpose', sa.Text()),
        sa.Column('created_at', sa.DateTime(timezone=True), nullable=False), if_not_exists=True)
    op.create_index('ix_ad_split_openings_dataset_id', 'ad_split_openings', ['dataset_id'], if_not_exists=True)


def downgrade(): op.drop_table('ad_split_openings')
