"""MAST and SkyView asked by astroquery, with a server of ours that answers as they do"""

import http.server
import json
import re
import shlex
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from servers import NoServer, https_server

import astrid_data as ad
from astrid_data.cli import main
from astrid_data.core import BadInput, NotFound
from astrid_data.ingest import fetch, mast
from astrid_data.ingest.fetch import MANIFEST, key_of
from astrid_data.storage.service import StoreUnreachable
from astrid_data.verbs import LOST

pytest.importorskip('astroquery')
answers = Path(__file__).parents[2] / 'shared' / 'data' / 'answers'

OBSERVATIONS = [  # obsid, collection, project, obs_id, instrument, filters, t_min, t_max, exposure
    ('11', 'HST', 'HST', 'hst_one', 'WFC3/UVIS', 'F814W', 58000.1, 58000.2, 1500.0),
    ('12', 'HST', 'HAP', 'hst_hap', 'WFC3/UVIS', 'F814W', 58000.1, 58000.2, 1500.0),
    ('13', 'HST', 'HST', 'hst_two', 'ACS/WFC', 'F606W', 58900.1, 58900.2, 500.0),
    ('21', 'JWST', 'JWST', 'jw_one', 'NIRCAM', 'F200W', 59900.1, 59900.2, 800.0),
    ('31', 'PS1', 'PS1', 'rings.v3.skycell.1', 'GPC1', 'r', 55000.0, 56900.0, 900.0),
    ('41', 'GALEX', 'AIS', 'ais_1', 'GALEX', 'NUV', 53000.0, 53000.1, 184.0),
    ('51', 'TESS', 'TESS', 'tess-s0001-1-3', 'Photometer', 'TESS', 58324.8, 58352.2, 1425.6),
]
PRODUCTS = [  # obsID, name, bytes, rights
    ('11', 'one_raw.fits', 900, 'PUBLIC'),
    ('11', 'one_drz.fits', 5000, 'PUBLIC'),
    ('11', 'one_drc.fits', 5000, 'PUBLIC'),
    ('11', 'one_drc.jpg', 50, 'PUBLIC'),
    ('12', 'hap_drc.fits', 9000, 'PUBLIC'),
    ('13', 'two_drz.fits', 6000, 'PUBLIC'),
    ('21', 'jw_one_i2d.fits', 7000, 'PUBLIC'),
    ('21', 'jw_one_o2_i2d.fits', 7000, 'EXCLUSIVE_ACCESS'),
    ('31', 'rings.v3.skycell.1.stk.r.unconv.fits', 8000, 'PUBLIC'),
    ('31', 'rings.v3.skycell.1.stk.r.unconv.mask.fits', 8000, 'PUBLIC'),
    ('41', 'AIS_1-nd-int.fits.gz', 4000, 'PUBLIC'),
    ('41', 'AIS_1-nd-cnt.fits.gz', 4000, 'PUBLIC'),
    ('51', 'tess2018206192942-s0001-1-3-0120-s_ffic.fits', 3000, 'PUBLIC'),
    ('51', 'tess2018216192942-s0001-1-3-0120-s_ffic.fits', 3000, 'PUBLIC'),
]
TEXT = 'dataproduct_type obs_collection project obs_id instrument_name filters target_name obsid'
NUMBERS = 's_ra s_dec t_min t_max t_exptime'
SURVEYS = {'Optical:DSS': ['DSS', 'DSS2 Red', 'DSS2 Blue'], 'IR:2MASS': ['2MASS-J']}


def mast_observations():
    names = 'obsid obs_collection project obs_id instrument_name filters t_min t_max t_exptime'
    rows = [dict(zip(names.split(), one)) for one in OBSERVATIONS]
    return [
        row | dict(s_ra=150.1, s_dec=2.2, dataproduct_type='image', target_name='ANY')
        for row in rows
    ]


def mast_products():
    rows = [dict(zip(('obsID', 'productFilename', 'size', 'dataRights'), p)) for p in PRODUCTS]
    return [row | dict(dataURI=f'mast:X/product/{row["productFilename"]}') for row in rows]


def table(rows, text, numbers):
    "A table as MAST writes it in JSON"
    fields = [dict(name=name, type='string') for name in text.split()]
    fields += [dict(name=name, type='float') for name in numbers.split()]
    paging = dict(page=1, pageSize=50000, pagesFiltered=1, rows=len(rows), rowsTotal=len(rows))
    return dict(status='COMPLETE', msg='', data=rows, fields=fields, paging=paging)


def fits_of(seed):
    "A small image of the sky at the place of the observations"
    rng = np.random.default_rng(seed)
    header = fits.Header(dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CRVAL1=150.1, CRVAL2=2.2))
    header.update(CRPIX1=50.5, CRPIX2=50.5, CD1_1=-1e-5, CD2_2=1e-5, CD1_2=0.0, CD2_1=0.0)
    header['DATE-OBS'] = '2020-01-01T00:00:00'
    image = fits.PrimaryHDU(rng.normal(100, 5, (100, 100)).astype('f4'), header)
    from io import BytesIO

    out = BytesIO()
    image.writeto(out)
    return out.getvalue()


class Services(http.server.BaseHTTPRequestHandler):
    "What MAST's portal, its downloads and SkyView answer, as far as astroquery asks"

    protocol_version = 'HTTP/1.1'
    asked, cuts, trouble, links = [], {}, {}, 1

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length'])).decode()
        if 'columnsconfig' in self.path:
            columns = {name: dict(type='string') for name in TEXT.split()}
            columns |= {
                name: {'type': 'float', 'vot.datatype': 'double'} for name in NUMBERS.split()
            }
            self._json(columns)
            return
        request = json.loads(unquote(body.replace('+', ' ')).removeprefix('request='))
        self.asked.append(request)
        if self.trouble.get('mast'):
            self._json(dict(status='ERROR', msg=self.trouble['mast']))
        elif request['service'] == 'Mast.Caom.Products':
            ids = request['params']['obsid'].split(',')
            rows = [row for row in mast_products() if row['obsID'] in ids]
            self._json(table(rows, 'obsID productFilename dataURI dataRights', 'size'))
        else:
            rows = [r for r in mast_observations() if self._fits(r, request['params']['filters'])]
            self._json(table(rows, TEXT, NUMBERS))

    @staticmethod
    def _fits(row, filters):
        for wanted in filters:
            value, values = row[wanted['paramName']], wanted['values']
            if values and isinstance(values[0], dict):
                if not values[0]['min'] <= value <= values[0]['max']:
                    return False
            elif 'freeText' in wanted:
                if not re.fullmatch(wanted['freeText'].replace('%', '.*'), value):
                    return False
            elif value not in values:
                return False
        return True

    def do_GET(self):
        parts = urlsplit(self.path)
        self.asked.append(self.path)
        if parts.path == '/download':
            self._file(parse_qs(parts.query)['uri'][0])
        elif parts.path == '/form':
            self._page(self._form())
        elif parts.path == '/runquery':
            host = self.headers['Host']
            link = f'<a href="http://{host}/temp/{len(self.asked)}.fits">FITS</a>'
            self._page(link * type(self).links)
        else:
            self._file(parts.path)

    def _form(self):
        lists = ''.join(
            f'<select name="survey" id="{name}">{"".join(f"<option>{s}</option>" for s in some)}</select>'
            for name, some in SURVEYS.items()
        )
        return f'<form action="/runquery"><input type="text" name="Position">{lists}</form>'

    def _endless(self):
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        try:
            while True:
                self.wfile.write(b'10000\r\nSIMPLE  =' + bytes(65527) + b'\r\n')
        except OSError:
            self.close_connection = True  # Nobody listens any more

    def _file(self, name):
        if self.trouble.get(name) == 'endless':
            self._endless()
            return
        if name in self.trouble:
            status, body = self.trouble[name]
        else:
            status, body = 200, fits_of(sum(name.encode()))
        start = 0
        if self.headers.get('Range'):
            start = int(self.headers['Range'].removeprefix('bytes=').rstrip('-'))
            status = 206
        self.send_response(status)
        self.send_header('ETag', '"same"')
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
        self.send_header('Content-Length', str(len(body) - start))
        self.end_headers()
        cut = self.cuts.get(name) or []
        end = start + cut.pop(0) if cut else len(body)
        self.wfile.write(body[start:end])
        self.close_connection = end < len(body)

    def _json(self, found):
        self._page(json.dumps(found))

    def _page(self, text):
        self.send_response(200)
        self.send_header('Content-Length', str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def services(tmp_path, monkeypatch):
    "MAST and SkyView on this machine, over TLS"
    from astroquery.mast import Observations
    from astroquery.skyview import SkyView

    handler = type('Here', (Services,), dict(asked=[], cuts={}, trouble={}))
    (tmp_path / 'tls').mkdir()
    try:
        with https_server(handler, tmp_path / 'tls') as (url, certificate):
            for name in ('SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE'):
                monkeypatch.setenv(name, str(certificate))
            portal = Observations._portal_api_connection
            monkeypatch.setattr(portal, 'MAST_REQUEST_URL', f'{url}/invoke')
            monkeypatch.setattr(portal, 'COLUMNS_CONFIG_URL', f'{url}/columnsconfig')
            monkeypatch.setattr(portal, '_column_configs', {})
            monkeypatch.setattr(mast, 'DOWNLOADS', f'{url}/download?uri=')
            monkeypatch.setattr(SkyView, 'URL', f'{url}/form')
            monkeypatch.setattr(SkyView, '_default_form_values', None)
            monkeypatch.delattr(SkyView, '_survey_dict', raising=False)
            yield handler
    except NoServer as why:
        pytest.skip(str(why))


@pytest.fixture
def archive(tmp_path):
    return ad.open_archive(tmp_path / 'home')


def test_each_mission_gives_the_image_made_for_measuring(services):
    found = ad.search_mast((150.1, 2.2), missions=['hst', 'jwst', 'ps1', 'galex', 'tess'])
    assert list(found['product']) == [
        'one_drc.fits',
        'two_drz.fits',
        'jw_one_i2d.fits',
        'rings.v3.skycell.1.stk.r.unconv.fits',
        'AIS_1-nd-int.fits.gz',
        'tess2018206192942-s0001-1-3-0120-s_ffic.fits',
        'tess2018216192942-s0001-1-3-0120-s_ffic.fits',
    ]
    assert list(found['survey']) == ['hst', 'hst', 'jwst', 'ps1', 'galex', 'tess', 'tess']
    assert found.attrs['not_public'] == 1
    assert found['size_bytes'].sum() == 36_000


def test_a_search_is_narrowed(services):
    def products(**how):
        return list(ad.search_mast((150.1, 2.2), **how)['product'])

    assert products(missions='hst', filters='F814W') == ['one_drc.fits']
    assert products(missions='hst', instruments='ACS*') == ['two_drz.fits']
    assert products(missions='hst', when=(58800, 59000)) == ['two_drz.fits']
    assert products(missions='hst', max_file_bytes=5500) == ['one_drc.fits']
    assert products(missions='tess', when=(58330, 58340))[0].startswith('tess2018216')
    assert products(missions='hst', products='_raw.fits') == ['one_raw.fits']
    all_endings = products(missions='hst', products=['_drc.fits', '_drz.fits'])
    assert all_endings == ['one_drz.fits', 'one_drc.fits', 'hap_drc.fits', 'two_drz.fits']


def test_the_circle_and_the_days_reach_the_service(services):
    ad.search_mast(SkyCoord(150.1, 2.2, unit='deg'), 0.5 * u.arcmin, 'hst', when=(58000, 58010))
    params = services.asked[0]['params']
    ra, dec, radius = map(float, params['position'].split(','))
    assert (ra, dec) == (150.1, 2.2) and radius == pytest.approx(30 / 3600)
    ranges = {
        f['paramName']: f['values'][0] for f in params['filters'] if f['paramName'][:2] == 't_'
    }
    assert ranges == dict(t_min=dict(min=0.0, max=58010.0), t_max=dict(min=58000.0, max=100000.0))


def test_events_are_asked_with_days_around_them(services):
    events = pd.DataFrame(dict(RA=['10:00:24'] * 2, DEC=['+02:12:00'] * 2, peak=[58100, 58905]))
    found = ad.search_mast(events, missions='hst', when='peak', days=(10, 1))
    assert list(found['product']) == ['two_drz.fits']
    assert list(found['asked']) == [1]


def test_nothing_found_is_an_empty_table(services):
    found = ad.search_mast((150.1, 2.2), missions='hst', when=(40_000, 40_001))
    assert len(found) == 0 and list(found) == list(fetch.FOUND)


def test_an_error_of_mast_is_no_empty_table(services):
    services.trouble['mast'] = 'the database is away'
    with pytest.raises(StoreUnreachable, match='MAST gave no answer.*database is away'):
        ad.search_mast((150.1, 2.2), missions='hst')


def test_a_place_that_cannot_be_asked_is_named(services):
    with pytest.raises(BadInput, match='no position on the sky: rows 1'):
        ad.search_mast(dict(ra=[1, np.nan], dec=[1, 2]))
    with pytest.raises(BadInput, match='no column ra'):
        ad.search_mast(dict(x=[1], dec=[1]))
    with pytest.raises(BadInput, match='no time that can be read: rows 1'):
        ad.search_mast(dict(ra=[1, 1], dec=[1, 1], t=[58000, np.nan]), when='t', days=(1, 1))
    assert services.asked == []


def test_what_is_found_is_added_once(services, archive):
    found = ad.search_mast((150.1, 2.2), missions=['hst', 'jwst'])
    report = archive.add(found, detect=False)
    assert (report.added, len(report.ledger)) == (3, 0)
    assert archive.store.has('observations/hst_one/one_drc.fits')
    assert set(archive.observations()['survey']) == {'hst', 'jwst'}
    n_asked = len(services.asked)
    again = archive.add(found, detect=False)
    assert (again.added, again.skipped) == (0, 3)
    assert len(services.asked) == n_asked


def test_a_slice_of_the_table_is_added(services, archive):
    found = ad.search_mast((150.1, 2.2), missions='hst')
    assert archive.add(found[found.band == 'F606W'], detect=False).added == 1


def test_one_file_that_cannot_be_had_costs_itself(services, archive):
    found = ad.search_mast((150.1, 2.2), missions=['hst', 'jwst'])
    services.trouble['mast:X/product/one_drc.fits'] = (404, b'')
    services.trouble['mast:X/product/two_drz.fits'] = (200, b'<html>Service unavailable</html>')
    report = archive.add(found, detect=False)
    assert report.added == 1
    assert list(report.ledger.reason) == ['missing_file', 'not_fits']
    services.trouble.clear()
    again = archive.add(found, detect=False)
    assert (again.added, again.skipped, len(again.ledger)) == (2, 1, 0)


def test_a_cut_file_goes_on_in_another_call(services, archive):
    found = ad.search_mast((150.1, 2.2), missions='jwst')
    name = 'mast:X/product/jw_one_i2d.fits'
    services.cuts[name] = [3000, 100, 100, 100]
    report = archive.add(found, detect=False)
    assert list(report.ledger.reason) == ['unreachable'] and report.added == 0
    services.asked.clear()
    assert archive.add(found, detect=False).added == 1
    assert len(services.asked) == 1
    key = 'observations/jw_one/jw_one_i2d.fits'
    assert archive.store.get(key) == fits_of(sum(name.encode()))
    assert not list((archive.home / 'downloads').glob('.tmp-*[0-9a-f]'))


def test_too_much_is_refused_before_anything_is_fetched(services, archive):
    found = ad.search_mast((150.1, 2.2), missions=['hst', 'jwst'])
    services.asked.clear()
    with pytest.raises(BadInput, match='3 files, 0.0 MB to fetch are more than max_bytes=10,000'):
        archive.add(found, max_bytes=10_000)
    assert services.asked == []


def test_a_file_without_end_costs_itself_and_what_was_to_spare(services, archive):
    found = ad.search_mast((150.1, 2.2), missions='HST')
    uris = found['uri'].tolist()
    found.loc[0, 'size_bytes'] = np.nan  # As chunked answers come
    services.trouble[uris[0]] = 'endless'
    found['size_bytes'] = found['size_bytes'].where(found['uri'] == uris[0], 43_200)
    found.loc[0, 'size_bytes'] = np.nan
    report = archive.add(found, max_bytes=43_200 * len(found) + 200_000, detect=False, show=False)
    assert report.ledger['reason'].tolist() == ['too_large']
    assert 'max_bytes' in report.ledger['detail'][0]
    assert report.added == len(found) - 1
    left = [
        path for path in (archive.home / 'downloads').glob('.tmp-*') if path.stat().st_size > 99
    ]
    assert not left


def test_more_than_was_told_comes_only_from_what_is_to_spare(services, archive):
    found = ad.search_mast((150.1, 2.2), missions='HST').iloc[:1].assign(size_bytes=1000)
    report = archive.add(found, max_bytes=2000, detect=False, show=False)
    assert report.ledger['reason'].tolist() == ['too_large'] and not report.added
    assert archive.add(found, max_bytes=100_000, detect=False, show=False).added == 1


def test_an_image_has_one_name_wherever_its_bucket_is(services, tmp_path, monkeypatch):
    "Not that of its copy in a cache, which has another beginning in every archive"
    keys = set()
    for name in ('one', 'other'):
        archive = ad.open_archive(tmp_path / name)
        uri = f'{mast.DOWNLOADS}mast:X/product/m13_drz.fits&try={name}'
        report = archive.add_fits(uri, detect=False, show=False)
        keys.add(report.images['observation_key'][0])
    assert keys == {'m13_drz'}


def test_several_machines_write_the_list_of_references_together(tmp_path):
    "Archives with homes of their own and one store: no line is lost"
    from threading import Barrier, Thread

    from astrid_data.storage.folder import FolderStore

    many, start = 6, Barrier(6)
    archives = [
        ad.open_archive(tmp_path / str(k), storage=str(tmp_path / 's')) for k in range(many)
    ]

    def write(k):
        start.wait()
        for n in range(5):
            fetch._list_references(archives[k], [dict(key=f'{k}-{n}')])

    threads = [Thread(target=write, args=(k,)) for k in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = FolderStore(tmp_path / 's').get(MANIFEST).splitlines()
    assert len(lines) == len(set(lines)) == many * 5


def test_skyview_makes_its_images_when_they_are_added(services, archive):
    found = ad.search_skyview((150.1, 2.2), ['DSS2 Red', '2MASS-J'], fov_deg=6 * u.arcmin)
    assert services.asked == []
    report = archive.add(found, detect=False)
    assert (report.added, len(report.ledger)) == (2, 0)
    key = 'references/skyview/DSS2_Red/150.100000_2.200000_0.1deg_300.fits'
    assert archive.store.has(key)
    lines = [json.loads(line) for line in archive.store.get(MANIFEST).decode().splitlines()]
    assert [line['key'] for line in lines][0] == key
    assert {'bucket', 'key', 'ra', 'dec', 'survey', 'created_at', 'meta'} == set(lines[0])
    again = archive.add(found, detect=False)
    assert (again.added, again.skipped) == (0, 2)
    assert len(archive.store.get(MANIFEST).decode().splitlines()) == 2


def test_a_survey_that_skyview_has_not_costs_itself(services, archive):
    found = ad.search_skyview((150.1, 2.2), ['DSS2 red', 'DSS'])
    report = archive.add(found, detect=False)
    assert report.added == 1
    assert 'nearest: DSS2 Red' in report.ledger.detail[0]


def test_a_place_without_an_image_costs_itself(services, archive):
    services.links = 0
    report = archive.add(ad.search_skyview((150.1, 2.2), 'DSS'), detect=False)
    assert list(report.ledger.reason) == ['missing_file']


def test_names_from_outside_stay_inside(archive):
    for obs_id, product in (
        ('..', '../a.fits'),
        ('/etc', 'passwd'),
        ('a/../../b', '\0x'),
        ('', ''),
    ):
        key = key_of('mast:x', obs_id, product)
        assert key.startswith('observations/') and '..' not in key.split('/')
        assert key.count('/') == 2 and '\0' not in key
    assert key_of('mast:x', 'a b', 'c') != key_of('mast:x', 'a_b', 'c')


def test_unknown_schemes_and_tables_are_refused(archive):
    with pytest.raises(BadInput, match='no column survey'):
        archive.add(pd.DataFrame(dict(ra=[1], dec=[2])))
    with pytest.raises(BadInput, match='change its column survey'):
        archive.add(ad.search_skyview((1, 2), 'DSS'), survey='x')


def real_answer(name):
    "A table of MAST as it was recorded"
    from astroquery.mast.discovery_portal import _json_to_table

    path = answers / name
    if not path.exists():
        pytest.skip('the recorded answers are not here')
    return _json_to_table(json.loads(path.read_text()))


def test_recorded_observations_and_products_are_understood():
    observations = real_answer('mast_caom.json')
    products = real_answer('mast_products.json')
    chosen = observations[observations['obs_collection'] == 'HST'][:1]
    chosen['obsid'] = products['obsID'][0]
    rows, hidden = mast._mission_rows(mast.MISSIONS['hst'], 'hst', chosen, products, None, 0)
    assert [row['product'] for row in rows] == ['u9o40504m_drz.fits']
    assert rows[0]['size_bytes'] == 27_227_520 and rows[0]['band'] == 'F814W' and hidden == 0
    assert rows[0]['mjd_start'] == pytest.approx(49756.25506)


def test_the_recorded_page_of_skyview_gives_links():
    from types import SimpleNamespace

    from astroquery.skyview import SkyView

    path = answers / 'skyview_results.html'
    if not path.exists():
        pytest.skip('the recorded answers are not here')
    page = SimpleNamespace(content=path.read_bytes(), url='https://skyview.org/current/cgi/x')
    assert all(link.endswith('.fits') for link in SkyView._parse_response(page))


def test_nothing_is_made_for_a_place_nobody_gave():
    with pytest.raises((BadInput, NotFound)):
        ad.search_skyview([], 'DSS')


@pytest.mark.parametrize(
    'words', ['mast "150.1 2.2" --mission hst', 'skyview "150.1 2.2" "DSS2 Red"']
)
def test_the_shell_begins_an_archive_with_what_it_found(services, tmp_path, capsys, words):
    home = tmp_path / 'new'
    assert main(['ingest', *shlex.split(words), '--add', '--home', str(home)]) in (0, LOST)
    said = capsys.readouterr()
    assert f'a new archive begins at {home}' in said.err
    assert len(ad.open_archive(home).observations()) >= 1
