# make test | demo | bench | papers | lint | clean. Needs python3 >= 3.11 and pip's index; everything is put into .venv.

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TYPED := build/typed

.PHONY: test demo bench papers lint clean

test: $(VENV)/.test
	$(BIN)/python -m pytest -q $(ARGS)

demo: $(VENV)/.plain
	$(BIN)/python benchmarks/demo.py $(ARGS)

# make bench DATA="photo.png folder/" AUDIO=sound.wav CAPACITY=picture.jpg
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py $(DATA) $(if $(AUDIO),--audio $(AUDIO)) \
		$(if $(CAPACITY),--capacity $(CAPACITY))

# make papers DATA=folder ARGS="--quick enrp-table1": the experiments of the four works; docs/papers.md
papers: $(VENV)/.bench
	$(BIN)/python benchmarks/papers/run.py $(if $(DATA),--data $(DATA)) $(ARGS)

# mypy finds modules by their place on disk: links put formats/ and cli/ where they are imported from
lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(TYPED) && mkdir -p $(TYPED)/inrcodec
	for part in $(CURDIR)/inrcodec/* $(CURDIR)/formats $(CURDIR)/cli; do ln -s "$$part" $(TYPED)/inrcodec/; done
	MYPYPATH=$(TYPED) $(BIN)/mypy

clean:
	rm -rf $(VENV) build dist demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "python3 >= 3.11 is needed; make PYTHON=/path/to/it names one" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.plain: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

$(VENV)/.test: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(INSTALL) -e '.[test]'
	touch $@ $(VENV)/.plain

$(VENV)/.bench: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(INSTALL) -e '.[bench]'
	touch $@ $(VENV)/.plain
