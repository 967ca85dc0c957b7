# make demo    a comparison of six methods on three tasks, offline, on the CPU
# make test    the tests
# Both make .venv and install petlbench into it first; nothing is needed but Python >= 3.11.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := linear,vpt,lora,adaptformer,hst,full
TASKS := digits,fields,count

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(BIN)/petlbench run --methods $(DEMO) --suite mini --tasks $(TASKS) --results demo
	@echo
	$(BIN)/petlbench table --results demo --methods $(DEMO) --tasks $(TASKS)
	@echo
	$(BIN)/petlbench table --results demo --methods $(DEMO) --cost
	@echo
	@echo "records: demo/mini/METHOD/TASK-*.json   costs: demo/cost/   as LaTeX: $(BIN)/petlbench table --results demo --format latex"
	@echo "a page and a figure: $(BIN)/petlbench report --results demo --tasks $(TASKS)   $(BIN)/petlbench figure --results demo --tasks $(TASKS) --out figure.pdf"

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'petlbench needs Python >= 3.11: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable . --group dev
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
