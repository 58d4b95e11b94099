"Epochs of light curves, each with the time at which it became known."

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = '0005', '0004', None, None

TABLE = 'ad_epochs'


def column(name, kind, **more):
    "A column that may not be empty"
    return sa.Column(name, kind, nullable=False, **more)


def upgrade():
    op.create_table(
        TABLE,
        sa.Column('object_id', sa.String(255), primary_key=True),
        sa.Column('survey_id', sa.Uuid(), sa.ForeignKey('surveys.id'), primary_key=True),
        sa.Column('epoch_key', sa.String(100), primary_key=True),
        column('kind', sa.String(10)),
        column('mjd', sa.Double(53)),
        column('mjd_scale', sa.String(10)),
        sa.Column('mjd_meaning', sa.String(10)),
        column('band', sa.String(50)),
        sa.Column('mag', sa.Double(53)),
        sa.Column('mag_error', sa.Double(53)),
        sa.Column('flux', sa.Double(53)),
        sa.Column('flux_error', sa.Double(53)),
        sa.Column('limit_mag', sa.Double(53)),
        sa.Column('is_positive', sa.Boolean()),
        column('known_mjd', sa.Double(53)),
        column('packet', sa.String(255)),
        column('field', sa.String(50)),
        if_not_exists=True,
        sqlite_with_rowid=False,
    )


def downgrade():
    op.drop_table(TABLE)
