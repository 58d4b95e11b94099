"help() of every public name says what every parameter is."

import enum
import inspect

import pytest
from test_layout import doors

from astrid_data.doors import describe, help_text, reference


def public_things():
    "Functions and classes at any door, and public methods of these classes, with a name to show"
    things = {}
    for door in doors():
        for name in door.__all__:
            thing = getattr(door, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                things[name] = thing
    for name, cls in [(n, t) for n, t in things.items() if inspect.isclass(t)]:
        for attribute, member in vars(cls).items():
            function = getattr(member, '__func__', member)
            if inspect.isfunction(function) and not attribute.startswith('_'):
                things[f'{name}.{attribute}'] = function
    return {n: t for n, t in things.items() if t.__module__.startswith('astrid_data.')}


def unsaid(name, thing):
    "What help() of one name does not say"
    for parameter, said in describe(thing).items():
        if parameter != 'return' and not said.docment:
            yield f'{name}: {parameter}'
    yield from (f'{name}: as for {other}?' for other in reference.findall(help_text(thing)))


@pytest.fixture(scope='module')
def missing():
    "What is unsaid, by module"
    found = {}
    for name, thing in public_things().items():
        module = thing.__module__.removeprefix('astrid_data.')
        found.setdefault(module, []).extend(unsaid(name, thing))
    return found


def test_every_parameter_is_described(missing):
    for module, lines in sorted(missing.items()):
        if lines:
            print(module, *lines, sep='\n    ')
    assert not {m: lines for m, lines in missing.items() if lines}


def test_help_is_made_when_it_is_read():
    import astrid_data as ad

    assert 'Parameters' not in ad.fit.__doc__[:]
    text = inspect.getdoc(ad.fit)
    assert 'epochs : int | None, default None\n    ' in text
    assert 'Returns\n-------\nHistory' in text
    assert 'patch_size : int' in inspect.getdoc(ad.SamplePlan.build)


def test_classes_that_no_one_named_have_help_too():
    import astrid_data as ad

    assert ad.open_dataset
    report = __import__('astrid_data.ingest', fromlist=['IngestReport']).IngestReport
    assert 'Parameters' in inspect.getdoc(report)


def test_members_of_an_enumeration_have_no_parameters():
    class Colour(enum.Enum):
        RED = 1

    assert describe(Colour) == {}
