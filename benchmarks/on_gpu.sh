#!/usr/bin/env bash
# All that wants a GPU, in the order of trust: what is wrong in one stage makes the next ones' figures worthless.
#
#   build         for this GPU, with the probes of single instructions
#   instructions  mma, ldmatrix, cp.async and the number formats, one at a time, by the tests of their emulated twins
#   test          every op and kernel, at the shapes of CI
#   repeat        the tests of the matrix kernels again and again: what is not ordered shows as bits that differ
#   sanitize      memcheck, racecheck, initcheck and synccheck of compute-sanitizer, where it is installed
#   ceilings      copy bandwidth, matrix rates: what the layers' figures are shares of
#   ladder        the rungs of the matrix product, as a picture
#   layers        the tables of convolutions, fully connected layers, matrix products and single forward passes, in every
#                 precision; every other benchmark of an op, at the layers of the networks
#   steps         whole training steps, also as one graph, beside PyTorch's: eager, compiled and as graphs
#   tune          the schedules of the networks' products, measured; then the steps once more
#   train         AlexNet in each precision, from the first command to the learning curve
#
#   benchmarks/on_gpu.sh OUT [STAGE ...]      all stages by default
#   DEVICE=emulated benchmarks/on_gpu.sh OUT  rehearses the same calls with no GPU, at shapes that an emulator can do
#
# No package index is needed: numpy, cupy, torch, pybind11, scikit-build-core, ninja, pytest, hypothesis and matplotlib
# must be installed. Every stage leaves its log in OUT; a stage that fails does not keep the next from running. Tables
# (benchmarks/tables.py) are in OUT/tables, in pieces of less than eight minutes; a second run makes those that are missing.
set -u
cd "$(dirname "$0")/.."
OUT=$(realpath -m "$1")
shift
DEVICE=${DEVICE:-cuda}
mkdir -p "$OUT"

stage() { # stage SECONDS NAME COMMAND...
  local seconds=$1 name=$2
  shift 2
  echo "== $name"
  timeout "$seconds" "$@" >"$OUT/$name.log" 2>&1
  echo "exit $? after at most $seconds s; last lines:"
  tail -n 3 "$OUT/$name.log"
}

build() {
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm --format=csv
  MINICNN_CUDA=on MINICNN_CUDA_ARCHITECTURES=${ARCHITECTURES:-90a} MINICNN_STRICT=1 MINICNN_PROBES=1 \
    python3 -m pip install --no-build-isolation --no-deps --no-index . && python3 -P -m minicnn doctor
}
export -f build # timeout runs programs, not functions: the stage calls it through bash

tables() { # tables PATTERN: the pieces whose names it matches, but for those that are there
  local piece
  for piece in $(python3 benchmarks/tables.py "$OUT/tables" --device "$DEVICE" --list | awk 'NF == 1' | grep -E "$1"); do
    stage 500 "$piece" python3 benchmarks/tables.py "$OUT/tables" "$piece" --device "$DEVICE"
  done
}

steps() { # steps NAME
  local network precision
  for network in $NETWORKS; do
    for precision in $PRECISIONS; do
      stage 300 "$1_${network}_$precision" python3 benchmarks/bench_step.py "$network" --device "$DEVICE" --batch $BATCH \
        --precision "$precision" --rounds 3 --out "$OUT/$1_${network}_$precision.csv"
    done
  done
}

PYTEST=(python3 -P -m pytest -q -p no:cacheprovider)
if [ "$DEVICE" = cuda ]; then
  SIZES=() SMALL=() PLANNED=(alexnet:128:224 vgg_d:64:224) NETWORKS="alexnet_owt alexnet vgg_a" BATCH=128 REPEATS=20
  PRECISIONS="bfloat16 float32"
  INSTRUCTIONS=(tests/kernels/test_instructions_on_cuda.py)
  export MINICNN_REQUIRE=cuda,instructions,emulated,torch
else
  SIZES=(--batch 1 --rounds 1) SMALL=(--rounds 1 --only "28 pixels") PLANNED=(lenet:1:28)
  NETWORKS=lenet BATCH=1 REPEATS=1 PRECISIONS="bfloat16 float32"
  INSTRUCTIONS=(tests/kernels/test_mma.py tests/kernels/test_ldmatrix.py tests/kernels/test_async_copy.py)
  export MINICNN_REQUIRE=emulated,torch
fi
MATRICES=(tests/kernels/test_gemm.py tests/ops/test_conv2d*.py tests/ops/test_linear*.py -k "$DEVICE and exact")

for wanted in ${@:-build instructions test repeat sanitize ceilings ladder layers steps tune train}; do
  case $wanted in
    build) [ "$DEVICE" = cuda ] && stage 400 build bash -c build ;;
    instructions) stage 200 instructions "${PYTEST[@]}" "${INSTRUCTIONS[@]}" ;;
    test)
      stage 500 test "${PYTEST[@]}" tests/ops tests/kernels -k "$DEVICE"
      stage 200 graphs "${PYTEST[@]}" tests/test_graph.py tests/test_graphed_step.py \
        tests/test_feed.py tests/test_resident.py tests/test_tune.py -k "$DEVICE"
      ;;
    repeat)
      for ((i = 1; i <= REPEATS; i++)); do stage 200 "repeat_$i" "${PYTEST[@]}" "${MATRICES[@]}"; done
      ;;
    sanitize)
      if [ "$DEVICE" = cuda ] && command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck initcheck synccheck; do
          stage 500 "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "${PYTEST[@]}" "${MATRICES[@]}"
        done
      fi
      ;;
    ceilings) stage 100 ceilings python3 benchmarks/ceilings.py --device "$DEVICE" ;;
    ladder)
      stage 200 ladder python3 benchmarks/bench_gemm.py --device "$DEVICE" "${SIZES[@]}" \
        --ladder "$OUT/ladder.png" --out "$OUT/ladder.csv"
      ;;
    layers)
      tables '^(conv2d|linear|gemm|forward)_'
      for bench in benchmarks/bench_*.py; do
        op=$(basename "$bench" .py)
        case $op in
          bench_conv2d | bench_linear | bench_gemm | bench_forward | bench_step) ;; # these are tables
          bench_cpu | bench_loader | bench_recipes) ;; # and these measure no GPU
          bench_memory_plan) stage 100 "$op" python3 "$bench" --device "$DEVICE" "${PLANNED[@]}" ;;
          bench_sgd | bench_adam) stage 120 "$op" python3 "$bench" --device "$DEVICE" "${SMALL[@]}" --out "$OUT/$op.csv" ;;
          *) stage 200 "$op" python3 "$bench" --device "$DEVICE" "${SIZES[@]}" --out "$OUT/$op.csv" ;;
        esac
      done
      ;;
    steps) tables '^step_' ;;
    tune)
      export MINICNN_CACHE=$OUT/tuned
      for network in $NETWORKS; do
        for precision in $PRECISIONS; do
          stage 200 "tune_${network}_$precision" \
            python3 -P -m minicnn tune "$network" --device "$DEVICE" --batch-size $BATCH --precision "$precision"
        done
      done
      steps tuned_step
      ;;
    train)
      for precision in float32 tf32 bfloat16 float16; do
        [ "$DEVICE" = cuda ] && stage 200 "train_$precision" \
          python3 -P -m minicnn train alexnet --device cuda --precision "$precision" --out "$OUT/alexnet_$precision"
      done
      ;;
    *) echo "there is no stage $wanted" >&2 ;;
  esac
done
