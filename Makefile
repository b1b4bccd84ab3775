# `make repro` and `make test` need git, make and Python 3.11 or newer; the rest is installed into .venv.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
PAGE := .dvc/plots/page.html
SEEDS ?= 3
SLICE := $(or $(NEXTREEL_REAL_DATA),../shared/data)/kuairand-pure-slice/data
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test lint types fresh download verify table worlds slice sasrec sasrec4sv sweep lock clean

repro: $(PAGE)  ## run the pipeline on params.yaml
	dvc repro

test: $(PAGE)  ## the whole suite, files shared out between two processes
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	ruff check .
	ruff format --check .

types: $(STAMP)
	mypy

fresh: $(STAMP)  ## dvc.lock agrees with the code and params.yaml
	@out=$$(dvc repro --dry --allow-missing 2>&1) && ! echo "$$out" | grep -q 'Running stage' \
	  && echo 'dvc.lock is fresh' \
	  || { echo "$$out"; echo 'dvc.lock is stale: run `make repro` and commit dvc.lock, metrics and plots'; exit 1; }

download: $(STAMP)  ## fetch, check and unpack a published data set: make download DATA=kuairand-1k
	PYTHONPATH=src python -m nextreel.raw.download $(DATA)

verify: $(STAMP)  ## run again in a clone, compare with what is committed; BYTES=1 on the machine that committed it
	PYTHONPATH=src python -m nextreel.reporting.verify $(if $(BYTES),bytes)

worlds: fresh  ## the committed pipeline in the worlds 42 to 46, into metrics/worlds.csv: make worlds SEEDS=3
	PYTHONPATH=src python -m nextreel.reporting.worlds $(SEEDS)

slice: fresh  ## the committed pipeline on real rows, into experiments/real-slice.md: make slice DATA=/path/to/its/data
	PYTHONPATH=src python -m nextreel.reporting.real_slice $(or $(DATA),$(SLICE))

sasrec: fresh  ## SASRec as published, on any log, into experiments/textbook.md: make sasrec DATA=/path LAYOUT=kuairand
	PYTHONPATH=src python -m nextreel.reporting.textbook '$(DATA)' '$(LAYOUT)' '$(or $(LOSS),bce)' '$(or $(RECALL),itemcf)' "$(SET)"

sasrec4sv: fresh  ## SASRec4SV as published, on any log, into experiments/sasrec4sv-published.md: make sasrec4sv DATA=/path
	PYTHONPATH=src python -m nextreel.reporting.published '$(DATA)' '$(LAYOUT)' '$(HEAD)' "$(SET)"

sweep: fresh  ## a grid of experiments/grids.yaml, the best by valid: make sweep GRID=optimiser MODEL=sasrec DATA=/path
	PYTHONPATH=src python -m nextreel.reporting.sweep '$(or $(GRID),optimiser)' '$(or $(MODEL),sasrec)' '$(DATA)' '$(LAYOUT)' "$(SET)"

table: $(STAMP)  ## write the committed metrics into README.md, and draw its picture
	PYTHONPATH=src python -m nextreel.reporting.readme
	PYTHONPATH=src python -m nextreel.reporting.results_picture

lock: $(STAMP)  ## pin what is installed; a local label such as +cpu is not on the public index
	pip freeze | sed 's/+cpu$$//' > requirements.lock

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Python 3.11 or newer is needed: make repro PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo 'Python lacks the venv module: install it (Debian: apt-get install python3-venv)'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -q -r requirements.lock
	@touch $@

# What `dvc plots` fills in. It holds the charts' library, which is no code of this repository.
$(PAGE): $(STAMP) src/nextreel/reporting/page.html src/nextreel/reporting/page.py
	PYTHONPATH=src python -m nextreel.reporting.page

clean:
	rm -rf $(VENV) $(PAGE) data dvc_plots logs .work
