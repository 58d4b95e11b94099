"What schemathesis makes of the description: every endpoint is asked at random, and answers as it is described"

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from starlette.testclient import TestClient

import astrid_data as ad
from astrid_data.keys import PERMISSIONS, create_api_key

schemathesis = pytest.importorskip('schemathesis', reason='schemathesis is not installed')

CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]
AT_RANDOM = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope='module')
def house(tmp_path_factory):
    "An archive with a version, its server, and a key that may do everything"
    archive = ad.synthetic_archive(home=tmp_path_factory.mktemp('openapi'), seed=3)
    plan = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=40))
    version = plan.build('look', patch_size=16, probe=False, allow_empty=True, progress=False)
    app = ad.create_app(archive, wait_s=0.1)
    key = {'X-API-Key': create_api_key(archive, 'all', list(PERMISSIONS))}
    with TestClient(app, raise_server_exceptions=False) as client:
        schema = schemathesis.openapi.from_dict(client.get('/openapi.json').json())
        found = {one.ok().label: one.ok() for one in schema.get_all_operations()}
        yield SimpleNamespace(version=version, operations=found, client=client, key=key)


def ask(house, case):
    "Send what schemathesis made up, with a good key"
    how = case.as_transport_kwargs(base_url='http://testserver')
    how = {name: how[name] for name in ('method', 'url', 'params', 'json', 'data') if name in how}
    headers = {**case.as_transport_kwargs()['headers'], **house.key}
    if 'data' in how:
        how['content'] = how.pop('data')
    return house.client.request(**how, headers=headers)


def names_of(house, operation):
    "Something that is there, for half of the questions"
    is_ours = '/training/datasets/{id}' in operation.label
    there = dict(id=house.version.address, row=0, file='manifest.json')
    return {one.name: there[one.name] for one in operation.path_parameters if is_ours}


@pytest.mark.parametrize('mode', schemathesis.GenerationMode)
def test_every_endpoint_answers_as_it_is_described(house, mode):
    said = set()
    for label, operation in house.operations.items():
        names = names_of(house, operation)
        strategies = [operation.as_strategy(mode)]
        strategies += [operation.as_strategy(mode, path_parameters=names)] if names else []
        for strategy in strategies:

            @AT_RANDOM
            @given(case=strategy)
            def ask_at_random(case):
                case.validate_response(ask(house, case), checks=CHECKS)
                said.add(label)

            ask_at_random()
    assert said == set(house.operations) and len(said) >= 35
