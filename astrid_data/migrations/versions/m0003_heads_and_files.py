"What a list of versions shows beside their manifests; files as they were when they were taken in; images by address and by checksum."

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision, down_revision, branch_labels, depends_on = '0003', '0002', None, None

json = sa.JSON().with_variant(JSONB, 'postgresql')


NEEDED = {'n_samples', 'splits', 'created_at'}
HEAD_COLUMNS = (
    sa.column('dataset_id', sa.Uuid()),
    sa.column('n_samples'),
    sa.column('splits', json),
    sa.column('quality_score'),
    sa.column('audit'),
    sa.column('created_at'),
)


def head(dataset_id, manifest):
    "The row of a version whose manifest is known"
    audit = manifest.get('audit') or {}
    return dict(
        dataset_id=dataset_id,
        n_samples=manifest['n_samples'],
        splits=manifest['splits'],
        quality_score=manifest.get('quality_score'),
        audit=audit.get('verdict'),
        created_at=manifest['created_at'],
    )


def fill(heads):
    "A head for each version that has none, a hundred at a time"
    versions = sa.table(
        'ad_dataset_versions', sa.column('dataset_id', sa.Uuid()), sa.column('manifest', json)
    )
    c = op.get_bind()
    known = set(c.scalars(sa.select(heads.c.dataset_id)))
    frozen = sa.select(versions.c.dataset_id).where(versions.c.manifest.is_not(None))
    missing = [i for i in c.scalars(frozen) if i not in known]
    for start in range(0, len(missing), 100):
        some = versions.c.dataset_id.in_(missing[start : start + 100])
        rows = [
            head(i, manifest)
            for i, manifest in c.execute(sa.select(versions).where(some))
            if manifest and NEEDED <= manifest.keys()  # Others are listed by nobody
        ]
        if rows:
            c.execute(heads.insert(), rows)


def upgrade():
    op.create_table(
        'ad_version_heads',
        sa.Column('dataset_id', sa.Uuid(), sa.ForeignKey('training_datasets.id'), primary_key=True),
        sa.Column('n_samples', sa.Integer(), nullable=False),
        sa.Column('splits', json, nullable=False),
        sa.Column('quality_score', sa.Double(53)),
        sa.Column('audit', sa.String(20)),
        sa.Column('created_at', sa.Text(), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        'ad_files',
        sa.Column('uri', sa.String(1000), primary_key=True),
        sa.Column('asked', sa.Text(), nullable=False),
        sa.Column('mark', sa.Text(), nullable=False),
        sa.Column('sha256', sa.String(64), nullable=False),
        sa.Column('n_images', sa.Integer(), nullable=False),
        sa.Column('noted_at', sa.DateTime(timezone=True), nullable=False),
        if_not_exists=True,
    )
    for name in ('uri', 'sha256'):
        op.create_index(f'ix_ad_images_{name}', 'ad_images', [name], if_not_exists=True)
    fill(sa.table('ad_version_heads', *HEAD_COLUMNS))


def downgrade():
    for name in ('uri', 'sha256'):
        op.drop_index(f'ix_ad_images_{name}', 'ad_images')
    for name in ('ad_files', 'ad_version_heads'):
        op.drop_table(name)
