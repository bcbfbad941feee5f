#!/usr/bin/env bash
# Makes figures/data again but for the scores, the sweeps and the effects, whose own commands stand in
# their captions. STS: a folder with MTEB's STSBenchmark; its test pairs with a score above 4 are the
# positive pairs of alignment.
set -euo pipefail
cd "$(dirname "$0")/.."
sts=${STS:-STSBenchmark}
text='The old lighthouse keeper wrote a letter to his daughter every evening.'
wikipedia=(--texts wikipedia --n 100)

data() { # MODEL CHOSEN ALL: the layers that `kvlens profile` chooses, and all layers
  local model=$1 chosen=$2 all=$3
  local run=runs/$model
  kvlens profile "$model" -o "$run"
  kvlens attend "$model" --layers "$chosen" --text "$text" -o "$run/patterns"
  kvlens attend "$model" --layers "$all" "${wikipedia[@]}" --span prompted -o "$run/all-prompted"
  kvlens attend "$model" --layers "$all" "${wikipedia[@]}" --span text -o "$run/all-text"
  kvlens attend "$model" --layers "$chosen" "${wikipedia[@]}" --span text -o "$run/chosen-text"
  kvlens lens "$model" --layers "$chosen" --pairs "$sts/test.jsonl" -o "$run/lens"
  python figures/collect.py "$run" figures/data
}
data smollm2-135m 23,27-29 0-29
data gemma3-270m 4-5 0-17
