"The additional tables, as the first version of the library has them; constraints are named by the convention of the registry."
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision, down_revision, branch_labels, depends_on = '0001', None, None, None

json = sa.JSON().with_variant(JSONB, 'postgresql')
time = sa.DateTime(timezone=True)


def col(name, kind, null=False, **kw): return sa.Column(name, sa.String(kind) if isinstance(kind, int) else kind, nullable=null, **kw)
def maybe(name, kind): return col(name, kind, True)
def ref(name, table, null=False, **kw): return sa.Column(name, sa.Uuid(), sa.ForeignKey(f'{table}.id'), nullable=null, **kw)
def key(): return sa.Column('id', sa.Uuid(), primary_key=True)


def table(name, *columns, index=()):
    op.create_table(name, *columns, if_not_exists=True)
    for c in index: op.create_index(f'ix_{name}_{c}', name, [c], if_not_exists=True)


def upgrade():
    table('ad_images', key(), ref('observation_id', 'observations'), col('role', 20), col('uri', 1000), maybe('hdu_name', 80), maybe('hdu_ver', sa.Integer()),
        maybe('sha256', 64), maybe('size_bytes', sa.BigInteger()), maybe('etag', 100), maybe('unit', 50), maybe('zero_point', sa.Double(53)),
        maybe('mjd', sa.Double(53)), maybe('mjd_scale', 10), maybe('mjd_meaning', 10), maybe('ny', sa.Integer()), maybe('nx', sa.Integer()), col('wcs_state', 20),
        maybe('dq_policy', 50), col('origin', 20), maybe('facts', json), col('created_at', time),
        sa.UniqueConstraint('observation_id', 'role', 'uri', 'hdu_name', 'hdu_ver'), index=['observation_id'])
    table('ad_detection_index', ref('detection_id', 'detections', primary_key=True), col('healpix', sa.BigInteger()), maybe('object_id', 255),
        maybe('mag', sa.Double(53)), maybe('snr', sa.Double(53)), maybe('facts', json), index=['healpix', 'object_id'])
    table('ad_observation_index', ref('observation_id', 'observations', primary_key=True), col('healpix', sa.BigInteger()), maybe('radius_deg', sa.Double(53)),
        maybe('footprint', json), index=['healpix'])
    table('ad_label_events', key(), ref('detection_id', 'detections', True), ref('dataset_id', 'training_datasets', True), col('sample_key', 64), col('labeller', 100),
        maybe('is_real', sa.Boolean()), maybe('label', 50), maybe('confidence', sa.Double(53)), maybe('note', sa.Text()), col('created_at', time), index=['sample_key'])
    table('ad_dataset_versions', ref('dataset_id', 'training_datasets', primary_key=True), col('name', 255), col('version', sa.Integer()),
        ref('parent_id', 'training_datasets', True), maybe('content_hash', 64), col('plan_hash', 64), col('state', 20), col('origin', 20), col('uri', 1000),
        maybe('manifest', json), maybe('frozen_at', time), sa.UniqueConstraint('name', 'version'))
    table('ad_sample_details', ref('sample_id', 'training_samples', primary_key=True), col('row_index', sa.Integer()), col('sample_key', 64), col('split', 20),
        col('group_id', 255), col('kind', 20), col('origin', 20), index=['sample_key'])
    table('ad_quality_reports', key(), ref('dataset_id', 'training_datasets'), col('report', json), maybe('quality_score', sa.Double(53)), col('created_at', time),
        index=['dataset_id'])
    table('ad_ingest_jobs', key(), col('kind', 50), col('params', json), col('status', 20), col('progress', sa.Double(53)), maybe('message', sa.Text()),
        maybe('result', json), col('created_at', time), col('updated_at', time))


def downgrade():
    for name in ('ingest_jobs', 'quality_reports', 'sample_details', 'dataset_versions', 'label_events', 'observation_index', 'detection_index', 'images'):
        op.drop_table(f'ad_{name}')
