#!/usr/bin/env bash
# All that wants a GPU, in the order of trust: what is wrong in one stage makes the next ones' figures worthless.
#
#   build         a wheel for this GPU, with the probes of single instructions, in OUT/wheel; WHEEL=FILE installs that one
#   instructions  mma, ldmatrix, cp.async and the number formats, one at a time, by the tests of their emulated twins
#   test          every op and kernel, at the shapes of CI
#   graphs        the step as one graph, batches that come on a stream of their own, images that stay, the tuner
#   repeat        the tests of the matrix kernels again and again: what is not ordered shows as bits that differ
#   sanitize      memcheck, racecheck, initcheck and synccheck of compute-sanitizer, where it is installed
#   ceilings      copy bandwidth, matrix rates: what the layers' figures are shares of
#   aims          the layers and ops that the aims speak of, and of each aim whether it is met (benchmarks/aims.py)
#   headline      the whole steps and the layers that are asked for first, beside PyTorch's
#   profile       where a step goes, as a table and a picture
#   tune          the schedules of the networks' products, measured; then the steps once more
#   train         AlexNet in each precision, from the first command to the learning curve
#   ladder        the rungs of the matrix product, as a picture
#   layers        the tables of convolutions, fully connected layers, matrix products and single forward passes, in every
#                 precision
#   steps         every table of whole steps, beside PyTorch's: eager, compiled and as graphs
#   ops           every other benchmark of an op, at the layers of the networks
#
#   benchmarks/on_gpu.sh OUT [STAGE ...]      all stages by default
#   MINUTES=9 benchmarks/on_gpu.sh OUT ...    no longer than that: what runs then is ended, the rest is left out
#   DEVICE=emulated benchmarks/on_gpu.sh OUT  rehearses the same calls with no GPU, at shapes that an emulator can do
#
# The first half hour on a GPU, in three calls of less than ten minutes, each worth something without the next. Seconds are
# the most that a stage takes, not what it is expected to take; the call's own nine minutes hold whatever the stages do.
#
#   MINUTES=9 benchmarks/on_gpu.sh OUT is-it-right    build 300, instructions 60, test 240, ceilings 60, graphs 120, repeat 60
#   MINUTES=9 WHEEL=... benchmarks/on_gpu.sh OUT how-fast   build, ceilings 60, aims 120 a table, headline likewise, profile 60
#   MINUTES=9 WHEEL=... benchmarks/on_gpu.sh OUT how-fast-at-best   build, tune 120 a network, and 120 a step, train 60 a
#                                             precision, sanitize 60 a tool, layers and steps as far as they come
#
# No package index is needed, but what minicnn needs (pillow, rich, safetensors, threadpoolctl) beside numpy, cupy, torch,
# pybind11, scikit-build-core, cmake, ninja and pytest; what is missing is said first, and nothing is begun without it.
# pytest-xdist shares the tests among processes, matplotlib draws; neither need be there. Every stage leaves its log in OUT
# and a line in OUT/stages.txt; one that fails does not keep the next from running. Tables (benchmarks/tables.py) are in
# OUT/tables, in pieces; a second run makes those that are missing. OUT.tar.gz is all of OUT but the wheel. Exit code: how
# many stages failed.
set -u -o pipefail
cd "$(dirname "$0")/.."
OUT=$(realpath -m "$1")
shift
DEVICE=${DEVICE:-cuda}
END=$((SECONDS + 60 * ${MINUTES:-10000}))
FAILED=0
mkdir -p "$OUT"

stage() { # stage SECONDS NAME COMMAND...: within so many seconds, and what is left of the call's minutes
  local limit=$(($1 * SLACK)) name=$2 left=$((END - SECONDS)) began=$SECONDS status
  shift 2
  if ((left < 5)); then
    echo "== $name: left out, the minutes are over" | tee -a "$OUT/stages.txt"
    return
  fi
  ((limit < left)) || limit=$left
  echo "== $name"
  timeout --kill-after=5 "$limit" "$@" >"$OUT/$name.log" 2>&1
  status=$?
  ((status == 0)) || FAILED=$((FAILED + 1))
  tail -n 4 "$OUT/$name.log"
  echo "$name: exit $status after $((SECONDS - began)) s of $limit" | tee -a "$OUT/stages.txt"
}

needs() { # names what is missing; fails where nothing can go on without it
  python3 - "$DEVICE" <<'PYTHON'
import importlib.util as found, sys
base = "numpy torch pytest PIL rich safetensors threadpoolctl".split() + ["cupy"] * (sys.argv[1] == "cuda")
wanted = {"minicnn or a benchmark": base, "the stage build": ["pybind11", "scikit_build_core"],
          "pictures": ["matplotlib"], "tests in several processes": ["xdist"]}
missing = {what: [name for name in names if not found.find_spec(name)] for what, names in wanted.items()}
print(*(f"missing for {what}: {', '.join(names)}" for what, names in missing.items() if names), sep="\n")
sys.exit(bool(missing["minicnn or a benchmark"]))
PYTHON
}

build() {
  if [ -n "${WHEEL:-}" ]; then
    python3 -m pip install --no-deps --no-index --force-reinstall "$WHEEL" && python3 -P -m minicnn doctor
    return
  fi
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm --format=csv
  MINICNN_CUDA=on MINICNN_CUDA_ARCHITECTURES=${ARCHITECTURES:-90a} MINICNN_PROBES=1 \
    python3 -m pip wheel --no-build-isolation --no-deps --no-index --wheel-dir "$OUT/wheel" . &&
    python3 -m pip install --no-deps --no-index --force-reinstall "$OUT"/wheel/*.whl && python3 -P -m minicnn doctor
}
export -f build # timeout runs programs, not functions: the stage calls it through bash
export DEVICE OUT

tables() { # tables SECONDS PATTERN...: the pieces whose names match, of the first pattern first, but for those that are there
  local seconds=$1 pattern piece
  shift
  for pattern in "$@"; do
    for piece in $(python3 benchmarks/tables.py "$OUT/tables" --device "$DEVICE" --list | awk 'NF == 1' | grep -E "$pattern"); do
      stage "$seconds" "$piece" python3 benchmarks/tables.py "$OUT/tables" "$piece" --device "$DEVICE"
    done
  done
}

bench() { # bench OP: its table, but for one that is there
  local op=bench_$1
  [ -e "$OUT/$op.csv" ] && return
  case $1 in
    sgd | adam) stage 120 "$op" python3 "benchmarks/$op.py" --device "$DEVICE" "${SMALL[@]}" --out "$OUT/$op.csv" ;;
    *) stage 100 "$op" python3 "benchmarks/$op.py" --device "$DEVICE" "${SIZES[@]}" --out "$OUT/$op.csv" ;;
  esac
}

PYTEST=(python3 -P -m pytest -q -p no:cacheprovider -W default) # warnings of a library that is newer than ours do not fail
if [ "$DEVICE" = cuda ]; then
  SLACK=1 SIZES=() SMALL=() PLANNED=(alexnet:128:224 vgg_d:64:224) TUNED="alexnet_owt alexnet" BATCH=128 REPEATS=20
  HEADLINE=('^step_alexnet_owt_128_bfloat16' '^step_alexnet_128_bfloat16' '^conv2d_alexnet_bfloat16' '^step_vgg_d_32_bfloat16'
    '^linear_bfloat16' '^step_alexnet_owt_128_float32' '^conv2d_alexnet_float32')
  AIMED=('^conv2d_vgg_d_bfloat16' '^conv2d_vgg_d_tf32x3' '^conv2d_alexnet_tf32x3')
  PROFILED=(alexnet --batch-size 128 --precision bfloat16)
  TRAINED=(alexnet --device cuda) PRECISIONS="bfloat16 float32" TRAININGS="float32 tf32 bfloat16 float16"
  INSTRUCTIONS=(tests/kernels/test_instructions_on_cuda.py)
  export MINICNN_REQUIRE=cuda,instructions,emulated,torch
  python3 -c 'import xdist' 2>/dev/null && PARALLEL=(-n 8) || PARALLEL=()
else
  SLACK=5 SIZES=(--batch 1 --rounds 1 --image-size 28 --cases 1) SMALL=(--rounds 1 --only "28 pixels") PLANNED=(lenet:1:28)
  TUNED=lenet BATCH=1 REPEATS=1 HEADLINE=('^step_lenet' '^conv2d_bfloat16') AIMED=('^conv2d_tf32x3')
  PROFILED=(lenet --batch-size 1 --steps 1)
  TRAINED=(lenet --device cpu --epochs 1) PRECISIONS=bfloat16 TRAININGS=float32
  INSTRUCTIONS=(tests/kernels/test_mma.py tests/kernels/test_ldmatrix.py tests/kernels/test_async_copy.py)
  export MINICNN_REQUIRE=emulated,torch
  PARALLEL=()
fi
MATRICES=(tests/kernels/test_gemm.py tests/ops/test_conv2d*.py tests/ops/test_linear*.py -k "$DEVICE and exact")

run() { # run STAGE
  local tool network precision op i
  case $1 in
    build) if [ "$DEVICE" = cuda ]; then stage 300 build bash -c build; fi ;;
    instructions) stage 60 instructions "${PYTEST[@]}" "${INSTRUCTIONS[@]}" ;;
    test) stage 240 test "${PYTEST[@]}" "${PARALLEL[@]}" tests/ops tests/kernels -k "$DEVICE" ;;
    graphs)
      stage 120 graphs "${PYTEST[@]}" tests/test_graph.py tests/test_graphed_step.py \
        tests/test_feed.py tests/test_resident.py tests/test_tune.py -k "$DEVICE"
      ;;
    repeat) for ((i = 1; i <= REPEATS; i++)); do stage 60 "repeat_$i" "${PYTEST[@]}" "${MATRICES[@]}"; done ;;
    sanitize)
      if [ "$DEVICE" = cuda ] && command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck initcheck synccheck; do
          stage 60 "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "${PYTEST[@]}" "${MATRICES[@]}"
        done
      fi
      ;;
    ceilings) stage 60 ceilings python3 benchmarks/ceilings.py --device "$DEVICE" ;;
    headline) tables 120 "${HEADLINE[@]}" ;;
    aims)
      for op in lrn maxpool2d relu sgd; do bench $op; done
      tables 120 "${AIMED[@]}"
      stage 30 aims python3 benchmarks/aims.py "$OUT"
      ;;
    profile)
      stage 60 profile python3 -P -m minicnn profile "${PROFILED[@]}" --device "$DEVICE" "${DRAWN[@]}"
      ;;
    tune)
      export MINICNN_CACHE=$OUT/tuned
      for network in $TUNED; do
        for precision in $PRECISIONS; do
          stage 120 "tune_${network}_$precision" \
            python3 -P -m minicnn tune "$network" --device "$DEVICE" --batch-size $BATCH --precision "$precision"
          stage 120 "tuned_step_${network}_$precision" python3 benchmarks/bench_step.py "$network" --device "$DEVICE" \
            --batch $BATCH --precision "$precision" --rounds 3 --out "$OUT/tuned_step_${network}_$precision.csv"
        done
      done
      ;;
    train)
      for precision in $TRAININGS; do
        stage 60 "train_$precision" \
          python3 -P -m minicnn train "${TRAINED[@]}" --precision "$precision" --out "$OUT/trained_$precision"
      done
      ;;
    ladder)
      stage 100 ladder python3 benchmarks/bench_gemm.py --device "$DEVICE" "${SIZES[@]}" \
        --ladder "$OUT/ladder.png" --out "$OUT/ladder.csv"
      ;;
    layers) tables 240 '^(conv2d|linear|gemm|forward)_' ;;
    steps) tables 240 '^step_' ;;
    ops)
      for op in benchmarks/bench_*.py; do
        op=$(basename "${op#*/bench_}" .py)
        case $op in
          conv2d | linear | gemm | forward | step) ;; # these are tables
          cpu | loader | recipes) ;; # and these measure no GPU
          memory_plan) stage 100 bench_memory_plan python3 benchmarks/bench_memory_plan.py --device "$DEVICE" "${PLANNED[@]}" ;;
          *) bench "$op" ;;
        esac
      done
      ;;
    is-it-right) for i in build instructions test ceilings graphs repeat; do run $i; done ;;
    how-fast) for i in build ceilings aims headline profile; do run $i; done ;;
    how-fast-at-best) for i in build tune train sanitize steps layers; do run $i; done ;;
    all) for i in is-it-right sanitize aims headline profile tune train ladder layers steps ops aims; do run $i; done ;;
    *)
      echo "there is no stage $1" >&2
      FAILED=$((FAILED + 1))
      ;;
  esac
}

if needs | tee "$OUT/needs.log"; then
  python3 -c 'import matplotlib' 2>/dev/null && DRAWN=(--png "$OUT/profile.png") || DRAWN=()
  for wanted in "${@:-all}"; do run "$wanted"; done
else
  FAILED=1
fi
tar -C "$(dirname "$OUT")" --exclude "$(basename "$OUT")/wheel" -czf "$OUT.tar.gz" "$(basename "$OUT")"
exit $FAILED
