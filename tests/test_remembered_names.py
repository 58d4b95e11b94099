"What is remembered of names, and how numbers are spelled"

import enum
import json

import numpy as np

from astrid_data.core import canonical_json
from astrid_data.ingest import packets
from astrid_data.ingest.packets import fields_left_out, flags_of_alert


def test_names_are_sorted_out_for_each_packet():
    "What is remembered is of names, and never of values"
    for value, kept in ((True, ['isDipole']), (3, ['isDipole']), (None, [])):
        assert list(flags_of_alert(dict(isDipole=value, ra=1.0))) == kept
    one, other = dict(scorr=3.5, chinr=None), dict(scorr=None, chinr=2.0)
    assert [fields_left_out([packet]) for packet in (one, other)] == [['scorr'], ['chinr']]


def test_one_spelling_of_numbers_of_any_type():
    "Kinds of numbers that are Python's own and of others"
    kind = enum.IntEnum('kind', 'ONE TWO')
    said = [True, None, 1, kind.TWO, 1.5, np.float64(1.5), np.float32(0.5), float('inf'), np.nan]
    spelled = canonical_json(dict(b=said, a=np.float64('nan')))
    assert spelled == '{"a":null,"b":[true,null,1,2,1.5,1.5,0.5,null,null]}'
    assert json.loads(spelled)['a'] is None


def test_names_are_sorted_out_once(monkeypatch):
    "A thousand packets of one kind, and each name is asked about once"
    asked = []
    goes_nowhere = packets._goes_nowhere
    packets._names_left_out.cache_clear()
    monkeypatch.setattr(packets, '_goes_nowhere', lambda n: asked.append(n) or goes_nowhere(n))
    kept = [fields_left_out([dict(scorr=float(k), ra=1.0)]) for k in range(1000)]
    assert kept == [['scorr']] * 1000 and asked == ['scorr', 'ra']
