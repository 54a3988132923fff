# Everything one does with a checkout of infogeo, each thing by one command; "make help" lists them.
# Needs make, Python 3.11 or newer and a package index that pip can reach. Python packages go into .venv only.

VENV ?= .venv
BIN := $(VENV)/bin
LATEST := .venv-latest
PYTHON ?=
PYTEST_ARGS ?=
# One process for each core, four at most, and one thread of linear algebra in each.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
TEXT ?= The old woman gave the hungry dog a bone, and it carried the bone to the river.
OUT ?= report
HELDOUT ?=

FRAME := setup.cfg pyproject.toml constraints.txt
# setuptools warns of every editable install; errors of pip still show.
SITE := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# No command here may depend on a model hub.
export HF_HUB_OFFLINE := 1
export OUT HELDOUT
# As given, so that a dollar sign in the text stays one.
export SENTENCE := $(value TEXT)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help report test exhaustive lint docs bench check wheel check-latest constraints clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

report: $(VENV)/.installed-report ## analyse one sentence (TEXT="...") and write a page to open in a browser (OUT=report)
	@$(BIN)/infogeo report "$$SENTENCE" --out "$$OUT"
	@echo "Open $$OUT/index.html in a browser."

test: $(VENV)/.installed-all ## run the test suite (PYTEST_ARGS="-k word" for a part of it)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

exhaustive: $(VENV)/.installed-all ## run the long checks in extended precision that "make test" leaves out (minutes)
	$(BIN)/python -m pytest -m exhaustive tests

lint: $(VENV)/.installed-all ## check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs ## run the tutorial and build the documentation in docs/_build/html; a warning is an error
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet tests/test_docs.py -k training_tutorial
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html in a browser."

bench: $(VENV)/.installed-all ## measure speed, and with HELDOUT=text.txt also the bundled model on a text it has not seen
	@missed=""; for script in benchmarks/[a-z]*.py; do \
		case "$$script:$$HELDOUT" in \
			*/bundled_model.py:) echo "== $$script left out: it needs a text, make bench HELDOUT=text.txt"; continue;; \
			*/bundled_model.py:*) set -- "$$HELDOUT";; \
			*/entropy_lens.py:?*) set -- --heldout "$$HELDOUT";; \
			*/tuned_lens.py:*) echo "== $$script left out: it needs a text to fit on, see --help"; continue;; \
			*/influence_log.py:*|*/word_graphs.py:*) echo "== $$script left out: it needs a treebank, see --help"; continue;; \
			*/training_faults.py:*|*/blind_faults.py:*) echo "== $$script left out: it trains for many minutes, see --help"; continue;; \
			*/lens_speed.py:*) set -- --skip-recipe;; \
			*) set --;; \
		esac; \
		echo "== $$script"; $(BIN)/python "$$script" "$$@" || missed="$$missed $$script"; \
	done; \
	if [ -n "$$missed" ]; then echo "== failed, or missed a target:$$missed"; exit 1; fi

wheel: $(VENV)/.installed-all ## build the wheel, install it outside the checkout and test it there
	$(BIN)/python .ci/check_wheel.py

check: lint test wheel ## everything a change must pass

check-latest: ## run the tests with the newest numpy, scipy and networkx (without geomstats, which holds numpy back)
	@$(call make_venv,$(LATEST))
	grep -v -i -E '^(numpy|numpy-typing-compat|optype|scipy|scipy-stubs|networkx|geomstats)==' constraints.txt > $(LATEST)/constraints.txt
	PYTHONWARNINGS=ignore $(LATEST)/bin/python -m pip install --quiet --upgrade numpy scipy networkx --constraint $(LATEST)/constraints.txt \
		--editable '.[transformers,graphs,plots,dask,minilm,test]'
	$(LATEST)/bin/python -m pip list | grep -i -E '^(numpy|scipy|networkx|geomstats) '
	OMP_NUM_THREADS=1 $(LATEST)/bin/python -m pytest $(PARALLEL) --ignore adapters/infogeo_adapters/geomstats.py $(PYTEST_ARGS)

constraints: $(VENV)/.installed-all $(VENV)/.installed-docs ## write constraints.txt anew from what is installed in .venv
	{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//'; } > constraints.tmp
	mv constraints.tmp constraints.txt

clean: ## remove what was built or written; .venv stays
	rm -rf build dist docs/_build docs/api/generated report *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find infogeo adapters tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Make an environment unless it is there and whole. PYTHON=... names the interpreter; otherwise the first that is new enough.
define make_venv
set -e; if ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
	found=; for python in $(or $(PYTHON),python3.11 python3 python); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "infogeo needs Python 3.11 or newer; tried: $(or $(PYTHON),python3.11 python3 python)." >&2; \
		echo "Install one, or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Creating $(1) with $$("$$found" --version)"; "$$found" -m venv $(1); \
fi
endef

# Stamps: installed again only when the metadata or the pins change.
$(VENV)/.created:
	@$(call make_venv,$(VENV))
	@touch $@

$(VENV)/.installed-report: $(FRAME) | $(VENV)/.created
	@echo "Installing infogeo and what the report needs into $(VENV) (some minutes the first time)"
	@$(SITE) '.[transformers,graphs,plots]'
	@touch $@

$(VENV)/.installed-all: $(FRAME) | $(VENV)/.created
	@echo "Installing infogeo with all extras and the test tools into $(VENV) (some minutes the first time)"
	@$(SITE) '.[all,test]'
	@touch $(VENV)/.installed-report $@

$(VENV)/.installed-docs: $(FRAME) | $(VENV)/.created
	@echo "Installing infogeo and the documentation tools into $(VENV)"
	@$(SITE) '.[transformers,graphs,plots,docs,test]'
	@touch $(VENV)/.installed-report $@
