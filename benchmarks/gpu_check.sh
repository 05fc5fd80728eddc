#!/usr/bin/env bash
# Check tcs-edge on one GPU: training, resuming, determinism, throughput, memory, export, and agreement with the CPU.
#
#     OUT=results bash benchmarks/gpu_check.sh
#
# It takes at most eight minutes on one H100 with 16 cores, and needs no network: images and weights are made on the
# spot. Limits on speed and memory are meant for such a GPU. The exit code is 1 when a check fails.
# OUT receives gpu_check.json, table.txt, util.csv (GPU utilization) and stderr.log.
#
#   TCS=DIR              checkout with tcs_edge/; default: the one that holds this script
#   OUT=DIR              results; default: gpu-check in the folder for temporary files
#   PY=python3           interpreter with PyTorch
#   WHEELS=DIR           wheels of packages that the interpreter lacks; default: $TCS/.wheels
#   TCS_EDGE_SHARED=DIR  folder with weights/ of DINOv2; without it the teacher has random weights
#   DEVICE=cpu SMALL=1   dry run of every part on a CPU, with tiny sizes and without limits on speed
#   PARTS=env,rates      only these parts
#   BUDGET=440           seconds in all; a part that no longer fits is skipped and reported
#   COMPILER=eager       another backend of torch.compile, to shorten a dry run
set -u
here=$(cd "$(dirname "$0")" && pwd)
TCS=$(cd "${TCS:-$here/..}" && pwd)
[ -d "$TCS/tcs_edge" ] || { echo "no tcs_edge/ in $TCS; set TCS to a checkout"; exit 2; }
PY=${PY:-python3}
OUT=${OUT:-${TMPDIR:-/tmp}/gpu-check}
export DEVICE=${DEVICE:-cuda} SMALL=${SMALL:-0} BUDGET=${BUDGET:-440} PARTS=${PARTS:-} COMPILER=${COMPILER:-}
for shared in "$TCS/../shared" "$TCS/shared"; do
  [ -d "$shared" ] && export TCS_EDGE_SHARED="${TCS_EDGE_SHARED:-$shared}"
done
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
WORK=$(mktemp -d)
export OUT WORK PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$TCS:${PYTHONPATH:-}" HF_HUB_OFFLINE=1
export TCS_EDGE_CACHE=${TCS_EDGE_CACHE:-$WORK/cache}
export TORCHINDUCTOR_CACHE_DIR=$WORK/inductor # cold, so that the first compiled epoch is comparable
sampler=""
trap '[ -z "$sampler" ] || kill "$sampler" 2> /dev/null; rm -rf "$WORK"' EXIT

missing=$("$PY" - << 'END'
from importlib.util import find_spec

# Import name: name on the package index, where they differ.
packages = {"PIL": "pillow", "pydantic_core": "pydantic-core", "typing_inspection": "typing-inspection",
            "annotated_types": "annotated-types", "tomli_w": "tomli-w", "sklearn": "scikit-learn"}
same = "torch torchvision timm accelerate safetensors numpy typer rich pydantic scipy psutil jinja2 onnx"
packages |= {name: name for name in [*same.split(), "onnxscript", "onnxruntime", "openvino", "nncf"]}
print(*(package for name, package in packages.items() if find_spec(name) is None))
END
)
echo "packages missing: ${missing:-none}"
wheels=${WHEELS:-$TCS/.wheels}
if [ -d "$wheels" ]; then
  for package in $missing; do
    "$PY" -m pip install -q --no-index --no-deps --find-links "$wheels" "$package" && echo "  installed $package"
  done
fi

if [ "$DEVICE" = cuda ] && command -v nvidia-smi > /dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  nvidia-smi --query-gpu=timestamp,utilization.gpu,memory.used --format=csv,noheader,nounits -lms 200 \
    > "$OUT/util.csv" 2> /dev/null &
  sampler=$!
fi
"$PY" "$here/gpu_check.py" 2> "$OUT/stderr.log" | tee "$OUT/table.txt"
status=${PIPESTATUS[0]}
[ "$status" -le 1 ] || tail -20 "$OUT/stderr.log"
exit "$status"
