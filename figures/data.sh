#!/usr/bin/env bash
# Makes figures/data again but for the scores and the sweeps, whose own commands stand in their captions.
# STS: a folder with MTEB's STSBenchmark; its test pairs with a score above 4 are the positive pairs of alignment.
set -euo pipefail
cd "$(dirname "$0")/.."
sts=${STS:-STSBenchmark}

data() { # MODEL, the layers that `kvlens profile` chooses, all layers
  local run=runs/$1
  kvlens profile "$1" -o "$run"
  kvlens attend "$1" --layers "$2" --text 'The old lighthouse keeper wrote a letter to his daughter every evening.' -o "$run/patterns"
  kvlens attend "$1" --layers "$3" --texts wikipedia --n 100 --span prompted -o "$run/all-prompted"
  kvlens attend "$1" --layers "$3" --texts wikipedia --n 100 --span text -o "$run/all-text"
  kvlens attend "$1" --layers "$2" --texts wikipedia --n 100 --span text -o "$run/chosen-text"
  kvlens lens "$1" --layers "$2" --pairs "$sts/test.jsonl" -o "$run/lens"
  python figures/collect.py "$run" figures/data
}
data smollm2-135m 23,27-29 0-29
data gemma3-270m 4-5 0-17
