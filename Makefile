# make demo and make test are all that a fresh machine needs; both set up .venv first.
PYTHON ?= python3
BIN = .venv/bin
# Where torch comes from: TORCH_INDEX=https://download.pytorch.org/whl/cpu is the small build, without CUDA
TORCH_INDEX ?=

.PHONY: setup tools stubs demo test kills fuzz every_byte check wheel docs widgets readme bench bench-quick clean
setup: .venv/ready

.venv/ready: settings.ini setup.py pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt $(TORCH_INDEX:%=--index-url %) torch==2.13.0
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[all,dev]'
	$(BIN)/python tools/stubs.py
	touch $@

# What the docs and the browser check need besides
tools: .venv/tools

.venv/tools: .venv/ready
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[all,dev,docs,browser]'
	touch $@

# What editors complete and check; again after pages changed
stubs: setup
	$(BIN)/python tools/stubs.py

demo: setup
	$(BIN)/astrid-data demo --home demo

# Two processes, a file each and a thread each, as there are two cores; the slowest forty are named
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations 40

# N=60 kills at random moments (others with SEED=5), N=aimed before every change of a file, statement and commit
kills: setup
	$(BIN)/python tests/killing.py $(or $(N),60)

# Files of others, broken on purpose; make fuzz N=200000 for a long run
SEED ?= 0
fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python tools/fuzz.py $(or $(N),20000) --seed $(SEED)

# Each byte of a small version changed once; MOST=40 changes so many of each file, FOLDER=… those of another version
every_byte: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/every_byte.py $(FOLDER) $(if $(MOST),--most $(MOST)) --seed $(SEED)

CODE = nbs tests tools benchmarks docs setup.py astrid_data/__init__.py

check: setup
	$(BIN)/ruff format --check -q $(CODE)
	$(BIN)/ruff check -q $(CODE)
	$(BIN)/ruff check -q --isolated --select F821 astrid_data
	$(BIN)/python tools/check.py
	$(BIN)/python tools/doors.py --check
	$(BIN)/python tools/type_check.py
	$(BIN)/python tools/readme.py --check

wheel: setup
	$(BIN)/python tools/check_wheel.py

# The widgets in a real browser, where a Chromium is there or can be installed
widgets: tools
	bash tools/widgets.sh $(BIN)/python

readme: setup
	$(BIN)/python tools/readme.py

docs: tools
	$(BIN)/python tools/docs.py

# TABLE=name measures one table, else all are
bench: setup .peers/ready
	$(BIN)/python -m benchmarks $(TABLE)

# All tables small, in about ten minutes; nothing is kept
bench-quick: setup
	$(BIN)/python -m benchmarks --quick $(TABLE)

.peers/ready: benchmarks/peers.txt benchmarks/peers-alone.txt
	$(PYTHON) -m venv .peers
	grep -v '^#' benchmarks/peers.txt | xargs -n 1 .peers/bin/pip install --disable-pip-version-check -q
	grep -v '^#' benchmarks/peers-alone.txt | xargs -n 1 .peers/bin/pip install --disable-pip-version-check -q --no-deps
	touch $@

clean:
	rm -rf _proc _docs build dist *.egg-info .pytest_cache
