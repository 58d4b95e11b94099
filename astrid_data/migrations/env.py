"What alembic runs: the registry hands over an open connection, and its transaction is the migration's."
from alembic import context

from astrid_data.registry.tables import Base

connection = context.config.attributes.get('connection')
if connection is None: raise SystemExit('migrations run from Python: astrid_data.connect(url), or astrid_data.Registry(url).upgrade()')


def is_ours(item, name, kind, reflected, compare_to): return kind != 'table' or name.startswith('ad_')


context.configure(connection=connection, target_metadata=Base.metadata, version_table='ad_alembic_version', include_object=is_ours)
with context.begin_transaction(): context.run_migrations()
