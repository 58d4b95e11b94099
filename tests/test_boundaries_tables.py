"Tables keep their meaning on the way in: verdicts, ids, units, times, and a ledger row for every row not stored."

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from astrid_data.core import BadInput
from astrid_data.registry.verdicts import WORD_COLUMNS, effective_labels
from astrid_data.registry.words import read_verdict, read_verdicts

SPELLINGS = {
    'postgres': ('t', 'f'),
    'words': ('True', 'FALSE'),
    'forms': ('Yes', 'no'),
    'letters': ('Y', 'N'),
    'switch': ('on', 'OFF'),
    'classifier': ('Real', 'bogus'),
    'digits': ('1', '0'),
    'floats': ('1.0', '0.0'),
    'numbers': (1, 0),
    'float numbers': (1.0, 0.0),
    'signs': (1, -1),
    'sign texts': ('+1', '-1'),
    'bytes': (b'T', b'F'),
    'padded bytes': (b'true \0', b'false'),
    'blanks': (' t ', 'f\n'),
    'numpy': (np.True_, np.False_),
    'decimal': (Decimal(1), Decimal(0)),
}
TRUTH = np.arange(12) % 3 == 0


@pytest.mark.parametrize('spelling', SPELLINGS)
def test_a_verdict_keeps_its_meaning_in_every_spelling(spelling):
    yes, no = SPELLINGS[spelling]
    cells = [yes if real else no for real in TRUTH]
    verdicts, is_known = read_verdicts([*cells, None, '', np.nan, pd.NA, pd.NaT, 'NaN', r'\N'])
    assert verdicts[:12].tolist() == TRUTH.tolist() and is_known.all()
    assert verdicts[12:].tolist() == [None] * 7
    series = pd.Series(cells, dtype=object)
    assert read_verdicts(series)[0].tolist() == TRUTH.tolist()
    if no not in (-1, '-1'):
        assert (read_verdict(yes), read_verdict(no)) == (True, False)


@pytest.mark.parametrize('kind', ['boolean', 'bool', 'Int64', 'Float64', 'string', 'category'])
def test_verdicts_of_every_pandas_type(kind):
    cells = pd.Series(np.where(TRUTH, 1, 0))
    if kind in ('string', 'category'):
        cells = cells.map({1: 't', 0: 'f'})
    assert read_verdicts(cells.astype(kind))[0].tolist() == TRUTH.tolist()
    if kind not in ('bool', 'category'):
        with_gap = cells.astype(kind)
        with_gap[3] = pd.NA
        assert read_verdicts(with_gap)[0][3] is None


def test_what_is_no_verdict_is_refused_and_never_guessed():
    for scores in ([0.97, 0.03], ['0.5', '1', '0'], [1.0, 0.0, 0.2], np.float32([0, 1, 0.5])):
        with pytest.raises(BadInput, match='threshold'):
            read_verdicts(scores, 'score')
    for cells in (['SN', 'AGN'], [2, 3], ['ok', 'bad'], [-1, -1], [[1], [0]]):
        with pytest.raises(BadInput, match='no verdict that is known'):
            read_verdicts(cells, 'kind')
    verdicts, is_known = read_verdicts([1, 0, -1, 2, 'maybe', 't', [1], '?'])
    assert verdicts.tolist() == [True, False, None, None, None, True, None, None]
    assert is_known.tolist() == [True, True, False, False, False, True, False, True]
    for cell in ('', None, np.nan, 0.5, -1, 2, 'maybe', b'x', [True]):
        with pytest.raises(BadInput, match='not a verdict'):
            read_verdict(cell)


def test_events_that_went_through_a_file_mean_the_same():
    events = pd.DataFrame(
        dict(
            detection_id=list('abcd'),
            is_valid=['t', 'f', 'yes', ''],
            label=[None] * 4,
            confidence_level=[None] * 4,
            validator_id='ann',
            created_at='2024-03-01T00:00:00+00:00',
        )
    )
    rows = [('PENDING', 'f', None, 'UNKNOWN')] * 4 + [('PENDING', 't', None, 'UNKNOWN')]
    detections = pd.DataFrame(rows, columns=WORD_COLUMNS).assign(detection_id=list('abcde'))
    assert list(effective_labels(detections, events)['label']) == [1, 0, 1, -1, 1]


def test_label_events_take_the_same_words(tmp_path):
    import astrid_data as ad
    from astrid_data.registry import Detection, ValidationEvent
    from astrid_data.registry.tables import add_validation_event
    from astrid_data.simulate.synthetic import synthetic_archive

    archive = synthetic_archive(tmp_path, n_observations=1, n_sources=4)
    assert ad.open_archive(str(tmp_path)) is not None
    with archive.session() as s:
        one = s.scalars(select(Detection.id)).first()
        for word in ('f', b'T', 'No', 1, np.False_):
            add_validation_event(s, one, 'ann', word)
        said = s.scalars(
            select(ValidationEvent.is_valid)
            .where(ValidationEvent.validator_id == 'ann')
            .order_by(ValidationEvent.created_at)
        ).all()
    assert said == [False, True, False, True, False]
