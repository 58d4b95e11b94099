"What makes a build quick changes nothing: each short way beside the plain one"

import gc
import threading
import weakref

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from astrid_data.concurrency import old_objects_spared
from astrid_data.datasets.shards import ShardedArray
from astrid_data.patches import gather as gather_page
from astrid_data.quality import all_pixels
from astrid_data.quality import fingerprints as fingerprints_page
from astrid_data.quality import flags as flags_page
from astrid_data.registry.tables import json_texts, to_json
from astrid_data.splits import exposures as exposures_page
from astrid_data.splits import shared_stamps
from astrid_data.splits.groups import _id_sources, id_texts

needs_numba = pytest.mark.skipif(not all_pixels.compiled_loops(), reason='numba is not installed')
few = settings(max_examples=60, deadline=None)
NUMBERS = st.sampled_from([0, -0.0, 1, 2, 3, 7, 0.5, -1, 65535, np.nan, np.inf, -np.inf])


def images(n, side, elements, dtype):
    return hnp.arrays(dtype, (n, 1, side, side), elements=elements)


@needs_numba
@few
@given(images(3, 9, NUMBERS, 'f4'), images(3, 9, st.booleans(), bool), st.integers(1, 4))
def test_few_whole_numbers_are_told_as_by_numpy(data, good, n_kinds):
    kinds = np.array([0, 1, 255, 0.5], 'f4')[:n_kinds]
    data[0] = kinds[np.arange(81).reshape(1, 9, 9) % n_kinds]
    good[1] = True
    found = flags_page._may_be_masks(data, good)
    with np.errstate(all='ignore'):
        plain = flags_page._few_whole_numbers(data[..., ::8, :], good[..., ::8, :])
    assert_array_equal(found, plain)


@needs_numba
@few
@given(
    hnp.arrays('f4', (5, 4, 4), elements=NUMBERS),
    hnp.arrays('f4', (5, 4, 4), elements=NUMBERS),
    hnp.arrays(bool, (2, 5, 4, 4)),
)
def test_pixels_with_an_error_are_kept_as_by_numpy(pixels, error, fine):
    valid, known = fine
    wanted = valid & known & (error > 0)
    plain = np.where(wanted, pixels, np.float32(np.nan))
    share = np.empty(5)
    gather_page.compiled_measured()(pixels, valid, error, known, share)
    assert_array_equal(valid, wanted)
    assert_array_equal(pixels, plain)
    assert_array_equal(share, wanted.mean(axis=(1, 2)))


@needs_numba
@few
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_nearest_cells_are_those_of_numpy(seed, ties):
    score = np.random.default_rng(seed).normal(size=(40, 70)).astype('f4')
    if ties:
        score = np.round(score)
    found = fingerprints_page._best_cells(score)
    plain = fingerprints_page._best_with_numpy(score)
    assert_array_equal(np.sort(found), np.sort(plain))


def test_standardised_prints_may_take_the_place_of_the_prints():
    noise = np.random.default_rng(0).normal(size=(300, 2, 64, 64)).astype('f4')
    noise[7] = 0
    prints = fingerprints_page.fingerprints(noise, np.ones(noise.shape, bool))
    before = prints.copy()
    hints = fingerprints_page.likely_copies(prints, 64)
    assert_array_equal(fingerprints_page.likely_copies(prints, 64, overwrite=True), hints)
    assert not np.array_equal(prints, before)


@few
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.slices(12),
)
def test_a_slice_of_several_files_is_that_of_one(lengths, rows):
    whole = np.arange(2 * sum(lengths)).reshape(-1, 2)
    several = ShardedArray(np.split(whole, np.cumsum(lengths)[:-1]))
    assert_array_equal(several[rows], whole[rows])


def test_a_slice_inside_one_file_is_not_copied():
    parts = [np.zeros((4, 2)), np.zeros((4, 2))]
    assert np.shares_memory(ShardedArray(parts)[5:7], parts[1])
    assert not np.shares_memory(ShardedArray(parts)[3:7], parts[1])


WORDS = st.sampled_from(['catalogue:a', 'x catalogue:b\nc', 'user', '', None, np.nan, 'HST', 17])


@few
@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=12))
def test_sources_of_ids_are_those_read_row_by_row(rows):
    samples = pd.DataFrame(rows, columns=['object_source', 'label_source', 'survey'], dtype=object)
    plain = []
    for own, said, survey in rows:
        source = own if not pd.isna(own) and own != '' else None
        if source is None and 'catalogue:' in str(said):
            source = str(said)[str(said).index('catalogue:') :].partition('\n')[0]
        plain.append(str(survey).lower() if source is None else source)
    assert _id_sources(samples).tolist() == plain


def test_ids_of_any_kind_become_text():
    ids = [17, 17.0, '17', np.int64(17), True, 2.5, np.str_('a'), '', None, np.nan, 10**20, 1e20]
    plain = ['17'] * 4 + ['1', '2.5', 'a', None, None, None, str(10**20), str(10**20)]
    assert id_texts(pd.DataFrame(dict(object_id=pd.Series(ids, dtype=object)))).tolist() == plain


@few
@given(
    st.lists(
        st.tuples(st.sampled_from('abcd'), st.sampled_from(['train', 'val', 'test'])), min_size=1
    )
)
def test_identical_stamps_are_counted_as_with_sets(rows):
    hashes, split = zip(*rows)
    seen, late = set(), 0
    for name in ('train', 'val', 'test'):
        own = [one for one, of in rows if of == name]
        late += sum(one in seen for one in own)
        seen |= set(own)
    samples = pd.DataFrame(dict(pixel_sha256=hashes))
    assert shared_stamps._identical_stamps(samples, np.array(split, object)) == late


class Loop:
    def __init__(self):
        self.own = self


def test_old_objects_are_spared_until_the_last_work_has_ended():
    inside, done = threading.Event(), threading.Event()
    kept = Loop()
    old = weakref.ref(kept)

    def other():
        with old_objects_spared():
            inside.set()
            done.wait()

    thread = threading.Thread(target=other)
    with pytest.raises(KeyError), old_objects_spared():
        thread.start()
        inside.wait()
        new = weakref.ref(Loop())
        del kept
        gc.collect()
        assert new() is None and old() is not None
        raise KeyError
    assert gc.get_freeze_count()  # The other is still at work
    done.set()
    thread.join()
    assert not gc.get_freeze_count()
    gc.collect()
    assert old() is None


def test_what_others_froze_stays_frozen():
    gc.freeze()
    try:
        with old_objects_spared():
            pass
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def plain_names(samples):
    "The name of each sample's exposure by itself, made row by row"
    rows = samples.to_dict('records')
    for i, row in enumerate(rows):
        text = {k: '' if pd.isna(row[k]) else str(row[k]) for k in row}
        name = text['observation_key'] or f'sample {text["sample_key"] or i}'
        if text['image_wcs_state'] == 'stamp' and np.isfinite(row['mjd']):
            yield f'{text["survey"]}/{text["band"]} at {row["mjd"]:.6f}'
        else:
            yield f'{text["survey"]}/{name}'


CELLS = [['a', 'b', '', None], ['k', '', None], ['r', None], ['x', '', None], [1.25, np.nan]]


@few
@given(
    st.lists(st.tuples(*map(st.sampled_from, [*CELLS, ['stamp', 'celestial', None]])), min_size=1)
)
def test_exposures_are_named_as_row_by_row(rows):
    columns = ['survey', 'observation_key', 'band', 'sample_key', 'mjd', 'image_wcs_state']
    samples = pd.DataFrame(rows, columns=columns).astype(dict(mjd=float))
    assert exposures_page._own_names(samples).tolist() == list(plain_names(samples))


@few
@given(st.lists(st.text(), min_size=1))
def test_texts_are_written_as_json_writes_them(texts):
    assert json_texts(texts) == [to_json(text) for text in texts]
