#!/usr/bin/env bash
# Makes figures/data again but for the scores and the sweeps, whose own commands stand in their
# captions. STS: a folder with MTEB's STSBenchmark; its test pairs with a score above 4 are the
# positive pairs of alignment.
set -euo pipefail
cd "$(dirname "$0")/.."
sts=${STS:-STSBenchmark}
text='The old lighthouse keeper wrote a letter to his daughter every evening.'
wikipedia=(--texts wikipedia --n 100)

effects() { # MODEL LAYERS BIAS: a window that helps, pairs (SmolLM2) or long texts (Gemma)
  local run=runs/$1
  kvlens profile "$1" -o "$run" --save-trace --overwrite
  python - "$run" "$2" "$3" << 'PY'
import sys, kvlens
from kvlens.store.layer_ranges import parse_layers
run, layers, bias = sys.argv[1:]
chosen = kvlens.select(kvlens.open(f"{run}/profile.json"), "explicit", layers=parse_layers(layers), bias=float(bias))
chosen.save(f"{run}/measured.json")
PY
  kvlens attend "$1" --layers "$run/measured.json" --effects --pairs "$sts/validation.jsonl" --n 600 \
    --calibration "$run/trace.safetensors" -o "$run/effects"
}

choose() { # MODEL RUN: without labels, on two genres; then by pairs, what was chosen without among them
  local model=$1 run=$2 free
  cat "$sts/train.jsonl" "$sts/validation.jsonl" > runs/STSBenchmark-train-validation.jsonl
  kvlens choose "$model" --dtype bfloat16 -o "$run/decision.json"
  kvlens choose "$model" --dtype bfloat16 --texts news -o "$run/news/decision.json"
  free=$(python -c 'import sys, kvlens; print(kvlens.open(sys.argv[1]).best_rerouted.method)' \
    "$run/decision.json")
  kvlens choose "$model" --dtype bfloat16 --pairs runs/STSBenchmark-train-validation.jsonl --methods "$free" \
    --finalists 24 -o "$run/pairs/decision.json"
}

prove() { # MODEL: on STS-B test, once, what pairs chose, against its prompt alone and rule `paper`
  local run=runs/$1 way methods
  way=$(python -c 'import sys, kvlens; print(kvlens.open(sys.argv[1]).best_rerouted.method)' \
    "$run/pairs/decision.json")
  methods=kv_embedding,kv_embedding:layers=none
  methods+=,kv_embedding:layers=none:query=kv-query:document=kv-document:pooling=last,$way
  kvlens evaluate "$1" --dtype bfloat16 --methods "$methods" --reference "$way" --tasks STSBenchmark \
    --layers "$run/layers.json" --data-dir "$(dirname "$sts")" -o "$run/proof"
}

data() { # MODEL CHOSEN ALL: the layers that `kvlens profile` chooses, and all layers
  local model=$1 chosen=$2 all=$3
  local run=runs/$model
  kvlens attend "$model" --layers "$chosen" --text "$text" -o "$run/patterns"
  kvlens attend "$model" --layers "$all" "${wikipedia[@]}" --span prompted -o "$run/all-prompted"
  kvlens attend "$model" --layers "$all" "${wikipedia[@]}" --span text -o "$run/all-text"
  kvlens attend "$model" --layers "$chosen" "${wikipedia[@]}" --span text -o "$run/chosen-text"
  kvlens lens "$model" --layers "$chosen" --pairs "$sts/test.jsonl" -o "$run/lens"
  python figures/collect.py "$run" figures/data
}
kvlens lens smollm2-135m --low-rank --n-low-rank 8 -o runs/smollm2-135m/low-rank
effects smollm2-135m 26-29 3
effects gemma3-270m 4-5 1
choose smollm2-135m runs/smollm2-135m
choose gemma3-270m runs/gemma3-270m
prove gemma3-270m
data smollm2-135m 23,27-29 0-29
data gemma3-270m 4-5 0-17
