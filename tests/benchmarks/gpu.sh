#!/usr/bin/env bash
# What only a GPU can tell, in ten minutes: bash tests/benchmarks/gpu.sh [--full] [FOLDER]
#
# Needs torch >= 2.11, torchvision, numpy, pydantic and safetensors in $PYTHON (python3); neither Ray nor MLflow, no data.
# Leaves a JSON for each part in FOLDER (or $OUT, or tests/benchmarks/gpu). Every part has a limit of its own; if one
# fails the others still run, and the exit status is 1. --full trains through all 200 epochs at the end, without limit.
# Without a GPU it goes through the same parts with tiny sizes on the CPU, and marks the files so.
set -uo pipefail
root=$(realpath "$(dirname "$0")/../..")
full=""
[ "${1:-}" = "--full" ] && full=yes && shift
out=$(realpath -m "${1:-${OUT:-$root/tests/benchmarks/gpu}}")
cd "$root" || exit 1
python=${PYTHON:-python3}
status=0
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-/tmp/mwm-inductor} # what one part compiled the others need not

part() { # name, limit in seconds (0 for none), module, arguments
    local name=$1 limit=$2 module=$3
    shift 3
    rm -f "$out/$name.json"
    echo "== $name (at most $limit s)"
    timeout -k 5 "$limit" "$python" -m "tests.benchmarks.$module" "$@" --output "$out/$name.json" || {
        echo "$name: failed with $?" >&2
        status=1
    }
}

chosen() { # the two engines that won, or a safe one if that is not known
    for steps in step-compiled step; do
        [ -f "$out/$steps.json" ] && echo --winners-of "$out/$steps.json" && return
    done
    echo --engine bf16+graph
}

if "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    part equal 90 equal --model cnn --batch 128 --engine float32+graph --engine float32+compile \
        --engine float32+compile+graph --engine bf16+graph
    part step 90 step --model resnet34 --block 10 --rounds 5 --pause 0.3 --seconds 60 \
        --engine float32 --engine bf16 --engine bf16+graph
    part step-compiled 150 step --model resnet34 --block 10 --rounds 3 --pause 0.3 --seconds 100 \
        --engine bf16+graph --engine bf16+compile+graph
    part epoch 150 epoch --model resnet34 --data cifar --images 49000 --rounds 3 --seconds 120 $(chosen)
    for model in resnet18 cnn; do
        part "packing-$model" 50 packing --model "$model" --engine bf16+graph --turn 2 --rounds 3
    done
    [ -z "$full" ] || part full 0 epoch --model resnet34 --data cifar --images 49000 --full $(chosen)
else
    tiny="--exercise --device cpu --threads 1 --model cnn --width 4 --batch 16"
    part equal 120 equal $tiny --steps 3 --engine bf16
    part step 120 step $tiny --engine float32 --block 2 --rounds 2 --pause 0.1 --sides 512
    part epoch 120 epoch $tiny --images 64 --rounds 2 --pause 0.1 $(chosen)
    part packing-cnn 120 packing $tiny --engine float32 --trainings 1 2 --turn 0.3 --rounds 2
    [ -z "$full" ] || part full 0 epoch $tiny --images 64 --full $(chosen)
fi
exit $status
