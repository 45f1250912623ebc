# make study             runs the demo study and ends with the path of its report
# make study STUDY=name  runs params/name.yaml; a path to any YAML works as well
# make study ON=slurm    submits its jobs to a cluster (docs/cluster.md)
# make plan STUDY=name   says what a study would cost: hours, disk and memory; takes half a minute
# make publish STUDY=name  copies its report from reports/name, which git ignores, to reports/site/name
# make zip STUDY=name    writes reports/name/name.zip: measurements, forecasts, seals and the study, for others to check
# make verify STUDY=my.zip  says whether the forecasts of such a zip follow from its measurements
# make site              writes reports/site/index.html, which leads to every published study
# make test              runs the tests
# make fuzz MINUTES=5    tries random inputs, damage and kills for so long; an hour unless said
# make bench            times the package beside its alternatives and writes reports/benchmarks.md; an hour and a quarter
# make gpu-bundle        puts into build/gpu what `python -m benchmarks.gpu` needs where nothing can be installed
# make lab               opens JupyterLab with the notebooks ready
PYTHON ?= python3
STUDY ?= demo
MINUTES ?= 60
GPU_PYTHON ?= 3.12
GPU_PLATFORMS := manylinux_2_28_x86_64 manylinux2014_x86_64 manylinux_2_17_x86_64
GPU_PACKAGES := pydantic pydantic-core annotated-types typing-inspection typing-inspect mypy-extensions typeguard pandera
GPU_PACKAGES += ir-measures bm25s pystemmer tornado
SPACE := $(subst ,, )
BIN := .venv/bin
# Without an NVIDIA driver torch comes from its CPU index, which spares gigabytes of CUDA; that index is asked once, for
# torch alone, and where it cannot be reached pip goes on to the next place that has the pinned version. Each place has
# its own build of it, so torch is the one package that no hash is checked of.
TORCH_FROM := $(if $(shell command -v nvidia-smi),,--extra-index-url https://download.pytorch.org/whl/cpu --retries 0)

LOCK := uv pip compile requirements*.in --universal --python-version 3.11 --no-annotate --no-header

.PHONY: study plan zip verify publish site test fuzz bench gpu-bundle lab kernels lint lock clean
.DEFAULT_GOAL := study

.venv/ready: requirements.lock requirements.hashes pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rankscale needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.hashes
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH_FROM) $$(grep '^torch==' requirements.lock)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m rankscale_utils.pipeline.kernels
	@touch $@

study: .venv/ready
	@$(BIN)/python -m rankscale_utils.pipeline.batch "$(STUDY)" $(ON)

plan: .venv/ready
	@$(BIN)/python -m rankscale_utils.pipeline.plan "$(STUDY)"

zip: .venv/ready
	@$(BIN)/rankscale zip "$(STUDY)"

verify: .venv/ready
	@$(BIN)/rankscale verify "$(STUDY)"

publish: .venv/ready
	@$(BIN)/python -m rankscale_utils.report.publish "$(STUDY)"

site: .venv/ready
	@$(BIN)/python -m rankscale_utils.report.site

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

fuzz: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	$(BIN)/python -m tests.faults.fuzz $(MINUTES)

bench: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.scoring --pairs 50 --repeats 3 --shapes BERT-base Ettin-68M
	$(BIN)/python -m benchmarks.embedding
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.growth_of_laws
	$(BIN)/python -m benchmarks.growth_of_collections
	$(BIN)/python -m benchmarks.ed2lm --length 512
	$(BIN)/python -m benchmarks.ed2lm --length 128
	$(BIN)/python -m benchmarks.shared_queries

gpu-bundle: .venv/ready
	rm -rf build/gpu && mkdir -p build/gpu/arxiv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --target build/gpu/site \
		--implementation cp --python-version $(GPU_PYTHON) $(addprefix --platform ,$(GPU_PLATFORMS)) \
		$$(grep -iE '^($(subst $(SPACE),|,$(GPU_PACKAGES)))==' requirements.lock | cut -d' ' -f1)
	cp "$${RANKSCALE_DATA:-../shared/data}"/arxiv/pairs-00.jsonl.gz build/gpu/arxiv/
	@echo 'There: PYTHONPATH=build/gpu/site RANKSCALE_DATA=build/gpu python3 -m benchmarks.gpu --out "$$OUT"'

kernels: .venv/ready
	$(BIN)/python -m rankscale_utils.pipeline.kernels

lab: kernels
	$(BIN)/jupyter lab notebooks

lock:
	$(LOCK) --output-file requirements.lock
	$(LOCK) --generate-hashes --no-emit-package torch --output-file requirements.hashes

clean:
	$(if $(strip $(STUDY)),,$(error which study: make clean STUDY=name))
	rm -rf "runs/$(STUDY)"
