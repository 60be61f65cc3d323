# make demo: drums to a tapped rhythm, into output/.   make studio: a page to tap, hear and edit.
# make test: the tests.   make lint: format and names.
# All need Python 3.10 or later. They install into .venv first, and again when requirements.txt changes.
PYTHON ?= python3
ARGS ?=
VENV := .venv/bin/python
INSTALLED := .venv/installed

# Idle OpenMP threads that spin would take the cores from threads that work.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo studio pictures lint test notebook preprocess train drummer clean

DEMO := --rhythm examples/clave_taps.mid --controls examples/controls.yaml --seed 1 --keep-tracks
demo: $(INSTALLED)
	$(VENV) inference_bar_control.py $(DEMO) --wav --out output

# The pictures of the README.
SONG := play('examples/bass_line.mid', song='examples/song.yaml', seed=1)
pictures: $(INSTALLED)
	rm -rf output/pictures
	$(VENV) inference_bar_control.py $(DEMO) --out output/pictures
	cp output/pictures/clave_taps_1.png docs/images/demo.png
	$(VENV) -c "from inference_bar_control import play; $(SONG).plot('docs/images/song.png', overview=True)"

# A page in the browser, served on this machine alone. make studio ARGS="--port 9000 --no-browser"
studio: $(INSTALLED)
	$(VENV) studio.py $(ARGS)

lint: $(INSTALLED)
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .

test: $(INSTALLED)
	$(VENV) -m pytest $(ARGS)

# Runs the notebook and stores the outputs of its cells.
notebook: $(INSTALLED)
	$(VENV) examples/run_notebook.py

# More arguments for these two: make train ARGS="--set Training.steps=500"
preprocess: $(INSTALLED)
	$(VENV) preprocessing.py $(ARGS)

train: $(INSTALLED)
	$(VENV) training_script_causal_decoder.py $(ARGS)

# The shipped checkpoint from the beginning. First, some hours on a CPU: two teachers and a model that learns from both; two
# more runs teach it rhythms that people bring, and its weights before and after are averaged (before.pt). Then, a quarter of
# an hour on a large GPU or days on a CPU: three teachers for all kinds of rhythm and two models that learn from them, averaged
# with before.pt (without_pads.pt); four teachers that also hear on which pad hands tap, and three models that learn from them.
# The average of these three and of without_pads.pt is the shipped checkpoint. A run that was stopped is resumed.
FIRST := --set Model.Decoder.condition_params.film=false --set Training.late_onset_weight=1
LATER := --set Training.VAE_params.start_step=0 --set Training.late_onset_weight=1
TAUGHT := --init-from runs/second/drummer.pt --set 'Training.teachers=[runs/first/drummer.pt,runs/second/drummer.pt]' \
	--set Training.steps=1600 --set Training.plain_steps=300 --set Training.warmup_steps=100 --set Training.learning_rate=5e-4 \
	$(LATER) --set Training.VAE_params.cycle_steps=800 --set Training.validate_every=200
HEARS := --set Model.longest_bar=32 --set Model.rhythm_is=true --set 'Model.Decoder.history=[1,2,4]' \
	--set Model.Decoder.condition_params.steady=true --set Model.Decoder.condition_params.phrase=true \
	--set Data.clip_bar=8 --set Data.part.beats=1 --set Data.part.plain=.85 --set Data.part.repeat_bar=.45 \
	--set Data.drop.rhythm_is=.1 --set Data.drop.steady=.3 --set Data.augmentation.repeat_bar=.1 --set Data.augmentation.meter=.15 \
	--set Data.rhythm_source.kick_snare=.02 --set Data.rhythm_source.hats=.01 --set Data.rhythm_source.voice_subset=.03
BROUGHT := $(LATER) $(HEARS) --set Data.batch_size=32 --set Data.rhythm_source.loudest=.46 --set Data.rhythm_source.hands=.26 \
	--set Data.rhythm_source.part=.22 --set Data.augmentation.bar_shuffle=.1 --set Data.augmentation.voice_drop=.1 \
	--set Data.augmentation.voice_mix=.1 --set Data.augmentation.voice_shift=.1
ALL := --set Training.VAE_params.start_step=0 $(HEARS) --set Model.Decoder.condition_params.remaining_steady=true \
	--set Data.batch_size=128 --set Data.loader_workers=3 --set Data.rhythm_source.loudest=.42 --set Data.rhythm_source.hands=.28 \
	--set Data.rhythm_source.part=.24 --set Data.augmentation.bar_shuffle=.15 --set Data.augmentation.voice_drop=.2 \
	--set Data.augmentation.voice_mix=.2 --set Training.sample_every=100000 --set Training.checkpoint_every=100000
TEACHER := $(ALL) --set Training.steps=3200 --set Training.plain_steps=640 --set Training.validate_every=800
ANEW := $(TEACHER) --set Training.learning_rate=1.2e-3 --set Training.warmup_steps=150 --set Training.VAE_params.start_step=300
STUDENT := $(ALL) --init-from runs/one/drummer.pt --set Training.steps=1232 --set Training.plain_steps=492 \
	--set 'Training.teachers=[runs/one/drummer.pt,runs/two/drummer.pt,runs/three/drummer.pt]' --set Training.late_onset_weight=1 \
	--set Training.learning_rate=6e-4 --set Training.warmup_steps=50 --set Training.validate_every=308
PADS := $(HEARS) --set Model.pads=true --set Data.drop.pads=.25 --set Model.Decoder.condition_params.remaining_steady=true \
	--set Data.batch_size=128 --set Data.loader_workers=3 --set Data.augmentation.voice_drop=.2 --set Data.augmentation.voice_mix=.2 \
	--set Training.late_onset_weight=1 --set Training.plain_steps=0 --set Training.sample_every=100000 \
	--set Training.checkpoint_every=100000
SHARES = --set Data.rhythm_source.loudest=$(1) --set Data.rhythm_source.hands=$(2) --set Data.rhythm_source.part=$(3)
ON := --set Training.VAE_params.start_step=0 --set Training.learning_rate=6e-4 --set Training.warmup_steps=50
BEGUN := --set Training.VAE_params.start_step=300 --set Training.learning_rate=1.2e-3 --set Training.warmup_steps=150
TAPPED := $(PADS) $(call SHARES,.42,.28,.24) --set Training.steps=2000 --set Training.validate_every=400 \
	--set Data.augmentation.bar_shuffle=.15
HEARD := $(PADS) $(ON) --init-from runs/four/drummer.pt --set Training.steps=1483 --set Training.validate_every=296 \
	--set 'Training.teachers=[runs/four/drummer.pt,runs/five/drummer.pt,runs/six/drummer.pt,runs/seven/drummer.pt]' \
	--set Training.teachers_share=.7
# $(1): the name of the run; $(2): arguments of its first start
run = $(VENV) training_script_causal_decoder.py \
	$(if $(wildcard runs/$(1)/checkpoints/*.pt),--resume runs/$(1),--set Training.run_dir=runs/$(1) $(2)) $(ARGS)

drummer: $(INSTALLED)
	$(call run,first,$(FIRST))
	$(call run,second)
	$(call run,taught,$(TAUGHT))
	$(call run,wider,$(BROUGHT) --init-from runs/taught/drummer.pt --set Training.steps=1055 --set Training.plain_steps=0 \
		--set Training.learning_rate=5e-4 --set Training.warmup_steps=100)
	$(call run,brought,$(BROUGHT) --init-from runs/wider/checkpoints/step_00001055.pt --set Training.steps=1700 \
		--set Training.plain_steps=500 --set Training.learning_rate=4e-4 --set Training.warmup_steps=30 --set Training.ema_decay=.998 \
		--set Training.validate_every=340 --set Training.checkpoint_every=200 --set Training.sample_every=100000)
	$(VENV) -m utils.training.average runs/brought/checkpoints/step_00001700.pt runs/taught/drummer.pt .3 runs/before.pt
	$(call run,one,$(TEACHER) --init-from runs/before.pt --set Training.learning_rate=6e-4 --set Training.warmup_steps=50 \
		--set Training.late_onset_weight=.5 --set Training.seed=11)
	$(call run,two,$(ANEW) --set Model.Decoder.condition_params.film=false --set Training.late_onset_weight=.3 \
		--set Training.seed=12)
	$(call run,three,$(ANEW) --set Model.Decoder.dropout=.2 --set Training.late_onset_weight=.5 --set Training.seed=13)
	$(call run,taught_more,$(STUDENT) --set Training.seed=15 --set Data.rhythm_source.hands=.34 --set Data.rhythm_source.part=.28)
	$(call run,taught_anew,$(STUDENT) --set Training.seed=14)
	$(VENV) -m utils.training.average runs/taught_anew/drummer.pt runs/taught_more/drummer.pt .5 runs/both.pt
	$(VENV) -m utils.training.average runs/both.pt runs/before.pt .4 runs/without_pads.pt
	$(call run,four,$(TAPPED) $(ON) --init-from runs/without_pads.pt --set Training.late_onset_weight=.5 --set Training.seed=21)
	$(call run,five,$(TAPPED) $(BEGUN) --set Model.Decoder.condition_params.film=false --set Training.late_onset_weight=.3 \
		--set Training.seed=22)
	$(call run,six,$(TAPPED) $(BEGUN) --set Model.Decoder.dropout=.2 --set Training.late_onset_weight=.5 --set Training.seed=23)
	$(call run,seven,$(TAPPED) $(BEGUN) --set Model.Decoder.dropout=.25 --set Model.Encoder.dropout=.25 \
		--set Training.late_onset_weight=.5 --set Training.seed=24)
	$(call run,heard_all,$(HEARD) $(call SHARES,.42,.28,.24) --set Data.augmentation.bar_shuffle=0 --set Training.seed=26)
	$(call run,heard_loose,$(HEARD) $(call SHARES,.33,.34,.27) --set Data.augmentation.bar_shuffle=.15 --set Training.seed=27)
	$(call run,heard_own,$(HEARD) $(call SHARES,.52,.25,.17) --set Data.augmentation.bar_shuffle=0 --set Training.seed=25)
	$(VENV) -m utils.training.average runs/heard_all/drummer.pt runs/heard_loose/drummer.pt .5 runs/heard_both.pt
	$(VENV) -m utils.training.average runs/heard_own/drummer.pt runs/heard_both.pt .5 runs/heard.pt
	$(VENV) -m utils.training.average runs/heard.pt runs/without_pads.pt .4 runs/drummer.pt

$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --disable-pip-version-check -r requirements.txt
	@echo "One bar is played, so that numba compiles what reads MIDI files, draws and writes them for this machine"
	$(VENV) -c "from inference_bar_control import play; play('examples/clave_taps.mid', bars=1).save('.venv/bar.mid')"
	@touch $@

# data/ and runs/ stay, with corpus, cache and training runs; delete them yourself.
clean:
	rm -rf .venv .pytest_cache .hypothesis output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
