"Models, packs, downloads and answers of others, and what is typed in a shell, broken on purpose: our errors only, nothing changed is accepted."

import os

import fuzz_models
import pytest
from fuzzing import fuzz

from astrid_data.core import BadInput
from astrid_data.inference.classifier import check_facts
from astrid_data.inference.load import load_classifier

N = int(os.environ.get('ASTRID_FUZZ_INPUTS', 0))


def test_nothing_odd_of_a_model_an_archive_or_a_shell_comes_through():
    found = fuzz(fuzz_models.TARGETS, N or 280, seed=2, budget=None if N else 40)
    print(f'\n{found}')
    assert not found.bad, str(found)
    assert found.counts['refused'] > 0


def facts_of(**changes):
    "Facts of a model, some of them others; a name may lead into the input, as input__crop"
    facts = fuzz_models._model()[0].facts | dict(version='0' * 16)
    for name, value in changes.items():
        *way, last = name.split('__')
        inner = facts
        for step in way:
            inner[step] = dict(inner[step])
            inner = inner[step]
        inner[last] = value
    return facts


ODD = [
    dict(input=[]),
    dict(input__channels='image'),
    dict(input__channels=[]),
    dict(input__crop=64),
    dict(input__patch_size=True),
    dict(input__prior='much'),
    dict(input__normaliser__method='other'),
    dict(input__normaliser__params__background=[1.0, 2.0]),
    dict(input__normaliser__params__noise='much'),
    dict(architecture=3),
    dict(threshold='high'),
    dict(threshold=10**400),
    dict(calibration=dict(slope=1.0)),
    dict(points=dict(auc='good')),
    dict(typical=[]),
    dict(threshold=None),
    dict(unknown=dict(points=3)),
]


@pytest.mark.parametrize('odd', ODD, ids=lambda odd: next(iter(odd)))
def test_facts_of_another_kind_are_refused_when_they_are_read(odd):
    check_facts(facts_of(), 'a')
    with pytest.raises(BadInput, match=next(iter(odd)).split('__')[-1].split('_')[0][:6]):
        check_facts(facts_of(**odd), 'a')


def test_a_file_of_onnx_with_such_facts_is_refused(tmp_path):
    import json

    whole = fuzz_models._model()[2]
    if whole is None:
        pytest.skip('files of ONNX need onnxruntime')
    path = tmp_path / 'a.onnx'
    changed = fuzz_models._with_facts(whole, json.dumps(facts_of(architecture=3)))
    path.write_bytes(fuzz_models._sealed_again(changed))
    with pytest.raises(BadInput, match='architecture'):
        load_classifier(path)
