"Package metadata comes from settings.ini, so that requirements are written once."

import sys
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
sys.path.insert(0, str(here / 'tools'))
ini = ConfigParser(delimiters=['='])
ini.read(here / 'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']


def lines(key):
    return [line.strip() for line in cfg[key].splitlines() if line.strip()]


class BuildWithStubs(build_py):
    "Stubs for editors go into the wheel; nothing is imported to make them"

    def run(self):
        from stubs import write_stubs

        super().run()
        if not self.editable_mode:
            write_stubs(Path(self.build_lib) / cfg['lib_path'])


extras = {
    key.removesuffix('_requirements'): lines(key) for key in cfg if key.endswith('_requirements')
}
extras['all'] = sorted(
    {r for name, rs in extras.items() if name not in ('dev', 'docs', 'browser') for r in rs}
)

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    keywords=cfg['keywords'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='BSD-3-Clause',
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Framework :: Jupyter',
        'Intended Audience :: Science/Research',
        'Operating System :: MacOS',
        'Operating System :: POSIX :: Linux',  # Locks between processes are POSIX locks
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Astronomy',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    packages=find_packages(include=[cfg['lib_path'], f'{cfg["lib_path"]}.*']),
    include_package_data=True,
    python_requires=f'>={cfg["min_python"]}',
    install_requires=lines('requirements'),
    extras_require=extras,
    entry_points={'console_scripts': lines('console_scripts')},
    cmdclass={'build_py': BuildWithStubs},
    zip_safe=False,
)
