"What a new user meets in the first week"

import re
from pathlib import Path

import pytest
from test_datasets import plan_of, toy

import astrid_data as ad
from astrid_data.cli import main
from astrid_data.storage.addresses import NotAllowed
from astrid_data.storage.resolve import resolve_uri, server_store

root = Path(__file__).parents[1]
OF_PYPLOT = re.compile(r'\b(plt|pyplot)\.(subplots|subplot|figure|subplot_mosaic)\b')


def test_no_page_draws_with_pyplot_which_a_notebook_shows_a_second_time():
    pages = sorted((root / 'astrid_data').rglob('*.py'))
    said = {page: OF_PYPLOT.findall(page.read_text(encoding='utf-8')) for page in pages}
    assert len(pages) > 100
    assert not [str(page.relative_to(root)) for page, found in said.items() if found]


def test_the_readme_scores_alerts_with_the_model_that_was_trained_on_alerts():
    readme = (root / 'README.md').read_text(encoding='utf-8')
    (name,) = re.findall(r'^ +astrid-data score (\S+) \S+\.avro', readme, re.M)
    assert f'save that model as `{name}`' in readme and f'.save("{name}")' not in readme


def test_a_gate_that_failed_is_named_wherever_a_version_is_shown(tmp_path, capsys):
    archive = toy(tmp_path)
    plan = plan_of(archive, negatives={})
    with pytest.warns(UserWarning, match='rarer_label is 0'):
        dataset = plan.build('gated', patch_size=16, progress=False, probe=False)
    words = 'gate failed: rarer_label is 0, asked for is 1e-09'
    assert words in repr(dataset) and words in repr(ad.open_dataset(archive, 'gated'))
    assert list(dataset.failed_gates) == ['rarer_label']
    assert ad.list_datasets(archive)['failed_gates'].tolist() == ['rarer_label']
    home = str(archive.datasets_dir.parent)
    for command in (['show', 'gated'], ['list']):
        assert main([*command, '--home', home]) == 0
        assert 'rarer_label' in capsys.readouterr().out


def test_the_threshold_says_that_it_is_of_the_whole_set(capsys):
    with pytest.raises(SystemExit):
        main(['build', '--help'])
    said = ' '.join(capsys.readouterr().out.split())
    assert 'Least score of the whole set; none: no gate on it (default: 0.8)' in said


def test_a_file_beside_the_store_is_refused_with_the_option_that_allows_it(tmp_path):
    store = server_store(ad.open_archive(home=tmp_path / 'home').store, ())
    with pytest.raises(NotAllowed, match='serve --allow or ASTRID_ALLOWED'):
        resolve_uri(str(tmp_path / 'a.fits'), store)
