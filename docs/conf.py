"Sphinx settings of the docs site; tools/docs.py copies this beside the processed notebooks."

from configparser import ConfigParser
from pathlib import Path

ini = ConfigParser(delimiters=['='])
ini.read(Path(__file__).parents[2] / 'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
project, author, release = cfg['title'], cfg['author'], cfg['version']
copyright = f'2026, {author}'
extensions = ['myst_nb', 'sphinx_design', 'sphinx_copybutton']
myst_enable_extensions = [
    'attrs_inline',
    'attrs_block',
    'dollarmath',
    'amsmath',
    'colon_fence',
    'deflist',
]
myst_heading_anchors = 3
nb_execution_mode = 'off'
nb_render_markdown_format = 'myst'
nb_merge_streams = True
html_theme = 'pydata_sphinx_theme'
html_title = project
html_static_path = ['_static']
html_css_files = ['extra.css']
html_js_files = ['versions.js']
html_extra_path = ['versions.json', 'scripts']  # Beside the pages, as they are
templates_path = ['_templates']
html_sidebars = {'**': ['all-pages']}
html_show_sourcelink = False
html_theme_options = dict(
    github_url=cfg['git_url'],
    show_toc_level=1,
    navigation_with_keys=False,
    navbar_center=[],
    navbar_end=['versions', 'theme-switcher', 'navbar-icon-links'],
    footer_start=['copyright'],
    footer_end=[],
)
# From the site itself, not from another one
mathjax_path = 'vendor/mathjax/tex-mml-chtml.js'
nb_ipywidgets_js = {}
suppress_warnings = ['myst.header', 'mystnb.unknown_mime_type']
# What other pages include is no page
exclude_patterns = ['CHANGELOG.md', 'CONTRIBUTING.md', 'npm', 'scripts']
