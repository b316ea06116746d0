#!/usr/bin/env bash
# All that wants a GPU, in the order of trust: build, kernel tests, layers, whole steps, training.
#
#   benchmarks/on_gpu.sh OUT [STAGE ...]      stages: build test layers steps train (all by default)
#   DEVICE=emulated benchmarks/on_gpu.sh OUT  rehearses the same calls with no GPU, at shapes that an emulator can do
#
# No package index is needed: numpy, cupy, torch, pybind11, scikit-build-core, ninja and pytest must be installed.
# Every stage leaves its log in OUT; a stage that fails does not keep the next from running.
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
  MINICNN_CUDA=on MINICNN_CUDA_ARCHITECTURES=${ARCHITECTURES:-90a} MINICNN_STRICT=1 \
    python3 -m pip install --no-build-isolation --no-deps --no-index . && python3 -P -m minicnn doctor
}
export -f build # timeout runs programs, not functions: the stage calls it through bash

if [ "$DEVICE" = cuda ]; then
  SIZES=() SMALL=() FEW=() NETWORKS="alexnet_owt alexnet vgg_a" BATCH=128 REQUIRE=cuda,emulated,torch
else
  SIZES=(--batch 1 --rounds 1) SMALL=(--rounds 1 --only "28 pixels") FEW=(--only "alexnet features.8")
  NETWORKS=lenet BATCH=1 REQUIRE=emulated,torch
fi

for wanted in ${@:-build test layers steps train}; do
  case $wanted in
    build) [ "$DEVICE" = cuda ] && stage 400 build bash -c build ;;
    test) MINICNN_REQUIRE=$REQUIRE stage 500 test python3 -P -m pytest -q tests/ops tests/kernels -k "$DEVICE" ;;
    layers)
      for bench in benchmarks/bench_*.py; do
        op=$(basename "$bench" .py)
        case $op in
          bench_step) ;;
          bench_conv2d | bench_gemm)
            stage 200 "$op" python3 "$bench" --device "$DEVICE" "${SIZES[@]}" "${FEW[@]}" --out "$OUT/$op.csv"
            ;;
          bench_sgd) stage 120 "$op" python3 "$bench" --device "$DEVICE" "${SMALL[@]}" --out "$OUT/$op.csv" ;;
          *) stage 200 "$op" python3 "$bench" --device "$DEVICE" "${SIZES[@]}" --out "$OUT/$op.csv" ;;
        esac
      done
      ;;
    steps)
      for network in $NETWORKS; do
        stage 200 "step_$network" python3 benchmarks/bench_step.py "$network" --device "$DEVICE" --batch $BATCH --rounds 3 \
          --out "$OUT/step_$network.csv"
      done
      ;;
    train) [ "$DEVICE" = cuda ] && stage 300 train python3 -P -m minicnn train alexnet --device cuda --out "$OUT/alexnet" ;;
  esac
done
