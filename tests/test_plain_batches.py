"Batches of others: taken where their meaning is plain, refused in words where it is not"

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from astrid_data.core import BadInput
from astrid_data.inference.classifier import classifier_of
from astrid_data.loading.loader import RealDataLoader
from astrid_data.loading.model_input import AlreadyNormalised, normaliser_of, origin_of
from astrid_data.loading.patch_dataset import PatchDataset
from astrid_data.training.baseline import evaluate_baseline
from astrid_data.training.fit import fit
from astrid_data.training.models import SmallCNN, pretend_dataset
from astrid_data.training.predict import evaluate, predict

torch.set_num_threads(1)

N = 24
rng = np.random.default_rng(0)
images = torch.tensor(rng.normal(size=(N, 1, 32, 32)), dtype=torch.float32)
truth = torch.arange(N) % 2
tensors = TensorDataset(images, truth)


def dicts(label=truth, image=images, **more):
    half = N // 2
    parts = [slice(0, half), slice(half, N)]
    return [dict(image=image[part], label=label[part], **more) for part in parts]


TAKEN = dict(
    dicts=dicts(),
    pairs=[(images[:10], truth[:10]), (images[10:], truth[10:])],
    lists=[[images, truth]],
    loader_of_tensors=DataLoader(tensors, batch_size=7),
    arrays=[dict(image=images.numpy(), label=truth.numpy())],
    other_byte_order=[(images.numpy().astype('>f4'), truth.numpy().astype('>i2'))],
    bools=dicts(truth == 1),
    unsigned=[(images, truth.numpy().astype('u2'))],
    fractions=dicts(truth.double()),
    column=dicts(truth[:, None]),
    a_list=[(images, truth.tolist())],
    objects=[(images, truth.numpy().astype(object))],
)


@pytest.mark.parametrize('how', TAKEN)
def test_what_is_plain_is_taken_and_scored_the_same(how):
    expected = predict(SmallCNN(), dicts())
    found = predict(SmallCNN(), TAKEN[how])
    np.testing.assert_allclose(found['score'], expected['score'], atol=1e-6)
    assert found['label'].tolist() == truth.tolist()
    assert found['index'].tolist() == list(range(N)) and found['group'].nunique() == N
    assert evaluate(SmallCNN(), TAKEN[how], n_boot=10).origin == 'unknown'
    assert len(fit(SmallCNN(), TAKEN[how], TAKEN[how], epochs=1, show=False)) == 1
    assert evaluate_baseline(TAKEN[how], TAKEN[how], n_boot=10).n == N


NO_BATCHES = dict(
    none=(None, 'give a loader of one split'),
    number=(3, 'give a loader of one split'),
    name=('test', 'give a loader of one split'),
    tensors=(tensors, 'it is a data set: give a loader of it'),
    array=(images.numpy(), r'it is an array of shape \(24, 1, 32, 32\)'),
    tensor=(images, r'it is an array of shape \(24, 1, 32, 32\)'),
    one_batch=(dicts()[0], r'it is one batch: give a list of batches, \[batch\]'),
)
WRONG = dict(
    one_of_a_pair=([(images,)], 'this one is a tuple of 1'),
    three=([(images, truth, truth)], 'this one is a tuple of 3'),
    images=([images], r'this one is Tensor \(24, 1, 32, 32\)'),
    no_label=([dict(image=images)], "has no label, only .'image'."),
    no_image=([dict(label=truth)], "has no image, only .'label'."),
    too_few=([(images, truth[:5])], r'24 images come with labels of the shape \(5,\)'),
    one_hot=([(images, torch.eye(2)[truth])], r'labels of the shape \(24, 2\)'),
    no_channel=([(images[:, 0], truth)], r'give image\[:, None\]'),
    flat=([(images.flatten(1), truth)], r'patches are \(B, C, s, s\)'),
    counts=([((images * 9).int(), truth)], 'normalise it'),
    words=([dict(image=images, label=['real', 'bogus'] * 12)], "no numbers .'bogus', 'real'."),
    no_number=(dicts(torch.where(truth == 1, torch.nan, 0.0)), '6 of 12 labels are no number'),
    minus_one=(dicts(2 * truth - 1), r'labels are -1 and 1.*give \(label \+ 1\) / 2'),
    two=(dicts(2 * truth), 'labels .*1 is real and 0 is bogus'),
    index_of_fractions=(dicts(index=torch.zeros(12)), 'index has the shape'),
    index_of_words=(dicts(index=['a', 'b'] * 6), 'index holds no numbers .*row of each sample'),
    complex_image=([(images + 0j, truth)], 'image holds complex numbers: patches'),
    complex_array=([(images.numpy() + 0j, truth)], 'image holds complex numbers: patches'),
    ragged=([(images, [[0], [0, 1]])], 'label has rows of different lengths'),
    empty=([(images, truth), (images[:0], truth[:0])], 'batch 2.*it is empty'),
    index_too_short=(dicts(index=torch.arange(5)), 'index has the shape'),
)


def refused(words, *calls):
    for call in calls:
        with pytest.raises(BadInput, match=words):
            call()


@pytest.mark.parametrize('how', [*NO_BATCHES, *WRONG])
def test_what_is_wrong_is_refused_in_words_everywhere(how):
    given, words = (NO_BATCHES | WRONG)[how]
    refused(
        words,
        lambda: predict(SmallCNN(), given),
        lambda: evaluate(SmallCNN(), given, n_boot=10),
        lambda: fit(SmallCNN(), given, epochs=1, show=False),
        lambda: fit(SmallCNN(), dicts(), 3 if given is None else given, epochs=1, show=False),
        lambda: evaluate_baseline(given, dicts()),
        lambda: evaluate_baseline(dicts(), given),
    )


def test_an_error_says_which_batch_it_is():
    refused('batch 2: ', lambda: predict(SmallCNN(), [*dicts()[:1], 3]))
    refused('batch 2 of val: ', lambda: fit(SmallCNN(), dicts(), [*dicts()[:1], 3], epochs=1))


def test_shares_of_real_teach_and_do_not_judge():
    shares = dicts(truth * 0.7)
    assert len(fit(SmallCNN(), shares, epochs=1, show=False)) == 1
    refused('labels are shares, as 0.7', lambda: evaluate(SmallCNN(), shares))


@pytest.mark.parametrize('label', [truth * 5.0, truth * 2, torch.arange(N) % 3])
def test_a_loader_has_the_labels_that_a_list_may_have(label):
    loader = DataLoader(TensorDataset(images, label), batch_size=8)
    for given in (loader, list(loader)):
        words = 'labels .*1 is real and 0 is bogus'
        refused(words, lambda given=given: fit(SmallCNN(), given, epochs=1, show=False))


def test_a_label_of_no_class_is_told_what_a_label_is():
    for given in (dicts(2 * truth - 1), dicts(torch.where(truth == 1, torch.nan, 0.0))):
        model = SmallCNN(classes=('a', 'b'))
        words = 'a label is the number of its class, from 0 on'
        refused(words, lambda given=given, model=model: predict(model, given))


def test_nothing_and_one_class_are_not_dressed_up():
    empty = evaluate(SmallCNN(), [], n_boot=10)
    assert (empty.n, empty.auc_pr, empty.fpr_at_fnr) == (0, None, None)
    refused('nothing to train on', lambda: fit(SmallCNN(), [], epochs=1))
    refused('test is empty', lambda: evaluate_baseline(dicts(), []))
    one = evaluate(SmallCNN(), dicts(truth * 0), n_boot=10)
    assert (one.n, one.auc_pr, one.auc_roc) == (N, None, None)
    refused('one class only', lambda: evaluate_baseline(dicts(truth * 0), dicts()))
    with pytest.warns(UserWarning, match='all labels of train are 0'):
        fit(SmallCNN(), dicts(truth * 0), epochs=1, show=False)


def test_a_generator_is_scored_once_and_not_trained_on():
    assert predict(SmallCNN(), (batch for batch in dicts()))['label'].tolist() == truth.tolist()
    refused('does not say how many batches', lambda: fit(SmallCNN(), iter(dicts()), epochs=1))
    refused('once only', lambda: AlreadyNormalised(iter(dicts()), None))


def test_rows_that_count_from_0_in_each_batch_are_told():
    with pytest.warns(UserWarning, match='12 of 24 samples have an index that another one has'):
        predict(SmallCNN(), dicts(index=torch.arange(12)))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        predict(SmallCNN(), dicts())


class Net(torch.nn.Module):
    "A network whose answers are what they should not be"

    def __init__(self, change, channels=1):
        super().__init__()
        self.convolution = torch.nn.Conv2d(channels, 1, 3)
        self.change = change

    def forward(self, x):
        return self.change(self.convolution(x).mean((1, 2, 3)))


def test_answers_in_either_shape_are_the_same():
    torch.manual_seed(0)
    flat = Net(lambda z: z)
    column = Net(lambda z: z[:, None])
    column.load_state_dict(flat.state_dict())
    assert predict(flat, dicts())['score'].tolist() == predict(column, dicts())['score'].tolist()


def test_infinite_logits_are_certainties():
    score = predict(Net(lambda z: torch.where(z > 0, torch.inf, -torch.inf)), dicts())['score']
    assert set(score) <= {0.0, 1.0}


@pytest.mark.parametrize(
    'model, words',
    [
        (SmallCNN(channels=3), r'make it as SmallCNN\(channels=1\)'),
        (Net(lambda z: z, channels=3), r'Net does not take patches of the shape \(12, 1, 32, 32\)'),
        (Net(lambda z: torch.stack([z, z], 1)), 'give the difference of their logits'),
        (Net(lambda z: None), 'with NoneType'),
    ],
)
def test_models_that_do_not_fit_are_told_by_what_they_were_given(model, words):
    refused(
        words,
        lambda: evaluate(model, dicts(), n_boot=10),
        lambda: fit(model, dicts(), epochs=1, show=False),
    )


def test_a_model_that_says_nothing_is_refused():
    refused(
        '24 of 24 scores are no finite', lambda: evaluate(Net(lambda z: z * torch.nan), dicts())
    )


@pytest.fixture(scope='module')
def version(tmp_path_factory):
    return pretend_dataset(tmp_path_factory.mktemp('plain') / 'v1', n=120)


@pytest.fixture(scope='module')
def trained(version):
    train, val, _ = RealDataLoader(version).loaders(batch_size=32)
    net = SmallCNN()
    fit(net, train, val, epochs=1, show=False)
    return net


def test_numbers_are_stated_as_they_are_kept(trained):
    numbers = normaliser_of(trained)
    for given in (numbers, numbers.to_dict()):
        for batches in (dicts(), TAKEN['pairs'], TAKEN['loader_of_tensors']):
            said = AlreadyNormalised(batches, given)
            assert evaluate(trained, said, n_boot=10).origin == 'unknown'
    for wrong in (None, 'asinh', dict(scale=1.0), 2.5):
        refused('give normaliser_of', lambda: AlreadyNormalised(dicts(), wrong))
    for wrong, words in NO_BATCHES.values():
        refused(words, lambda: AlreadyNormalised(wrong, numbers))
    refused('do not say how they were normalised', lambda: evaluate(trained, TAKEN['pairs']))


def test_a_classifier_is_made_of_versions(trained, version):
    train, val, _ = RealDataLoader(version).loaders(batch_size=32)
    said = AlreadyNormalised(dicts(), normaliser_of(trained))
    for wrong in (said, dicts(), TAKEN['loader_of_tensors']):
        refused('train is .*, of no version', lambda: classifier_of(trained, wrong))
        refused('val is .*, of no version', lambda: classifier_of(trained, train, wrong))
    assert classifier_of(trained, train).facts['unknown']['threshold'] == 'no val loader was given'


def test_data_that_nobody_says_are_sky_are_not_called_a_survey(trained, version):
    of_torch = DataLoader(PatchDataset(version, 'test'), batch_size=8)
    assert evaluate(trained, of_torch, n_boot=10).origin == 'synthetic'
    assert evaluate_baseline(of_torch, of_torch, n_boot=10).origin == 'synthetic'
    assert fit(SmallCNN(), of_torch, epochs=1, show=False).origin == 'synthetic'
    assert fit(SmallCNN(), dicts(), epochs=1, show=False).origin == 'unknown'
    report = evaluate(SmallCNN(), dicts(), n_boot=10)
    assert report.origin == 'unknown'
    assert 'data: unknown, as the batches do not say' in repr(report)
    assert report.plot().get_suptitle() == 'unknown data'
    some = [dicts()[0] | dict(origin=['survey'] * 12), dicts()[1]]
    assert [origin_of(some), origin_of(some[:1])] == ['unknown', 'survey']
