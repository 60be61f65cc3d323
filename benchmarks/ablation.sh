#!/usr/bin/env bash
# What each lever of the design gives: six short runs of a small model, one lever more in each, and the
# validation figures of all. Run it from the repository's root; about fifteen minutes on two cores.
#     benchmarks/ablation.sh runs/ablation
set -euo pipefail
if [[ ${1:-} == -* ]]; then
  sed -n 's/^# //p' "$0"
  exit
fi
runs=${1:-runs/ablation}
python=${PYTHON:-python}

small=(
  "Model.Encoder={d_model: 96, n_layer: 3, n_head: 3, d_ff: 256, dropout: 0.1}"
  Model.Decoder.d_model=128 Model.Decoder.n_layer=4 Model.Decoder.n_head=4 Model.Decoder.d_ff=352
  Training.steps=300 Training.warmup_steps=50 Training.ema_decay=0.98 Training.VAE_params.start_step=100
  Training.plain_steps=0 Training.late_onset_weight=1 Model.Decoder.condition_params.film=false
  Training.validate_every=300 Training.checkpoint_every=300 Training.sample_every=1000
  "Data.task={tap: 1, humanise: 0, add_voice: 0, infill: 0, continue: 0, keep_rhythm: 1}"
)
latent_alone=Data.drop.context=1
keep_controls="density: 0, intensity: 0, instrument: 0, voice: 0, style: 0, all_controls: 0"
always="Data.drop={$keep_controls, context: 1, latent: 0, rhythm: 0, rhythm_tail: 0}"
no_chain=Model.Output.onset_chain=false
no_budget=Model.Decoder.condition_params.remaining_budget=false

run() {
  local name=$1 sets=()
  shift
  for item in "${small[@]}" "$@" "Training.run_dir=$runs/$name"; do sets+=(--set "$item"); done
  "$python" training_script_causal_decoder.py "${sets[@]}"
}

run 1_independent "$always" "$no_chain" "$no_budget"
run 2_chained "$always" "$no_budget"
run 3_budget "$always"
run 4_controls_dropped "$latent_alone"
run 5_context
run 6_film Model.Decoder.condition_params.film=true

"$python" evaluate.py --runs "$runs"/*/ --curves "$runs/curves.png" --json "$runs/runs.json"
