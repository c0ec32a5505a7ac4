#!/usr/bin/env bash
# Start of every job in AWS: unpack the code, install the pinned wheels from the channel `wheels`, then run job.py.
# Nothing is downloaded, so a job needs no network. A processing job passes the step's arguments; job.py ignores those
# of a training job.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  mkdir -p "$root/output" && printf '%s\n' "$1" > "$root/output/$reason" || true
  exit 2
}

root="${SAGEMAKER_BASE_DIR:-/opt/ml}"
channels="$root/processing/input" reason=message  # SageMaker shows the file output/message of a processing job
if [ -f "$root/input/config/hyperparameters.json" ]; then
  channels="$root/input/data" reason=failure  # and output/failure of a training job
fi
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="$(command -v python || command -v python3)" || fail "no python in this image. Use a TensorFlow training image."
wheels="$channels/wheels"
[ -f "$here/source.tar.gz" ] || fail "$here: no source.tar.gz beside job.sh. Upload the code again: scarcegan upsert"
[ -d "$wheels" ] || fail "$wheels: no such channel. Upload the wheels again: scarcegan upsert"

work="$(mktemp -d "${TMPDIR:-/tmp}/scarcegan-XXXXXXXX")"
# The filter, which keeps files inside the folder, came with Python 3.11.4.
"$python" -c 'import sys, tarfile
safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
tarfile.open(sys.argv[1]).extractall(sys.argv[2], **safe)' "$here/source.tar.gz" "$work/code"
# --no-deps: the list is complete. --target: the image's own packages stay unchanged; these come first on the path.
if ! "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-index --no-deps --no-compile \
    --find-links "$wheels" --target "$work/libraries" --requirement "$work/code/requirements-jobs.txt" 2> "$work/pip.log"; then
  cat "$work/pip.log" >&2
  wanted="$(sed -n 's/.*No matching distribution found for //p' "$work/pip.log" | tail -n 1)"
  fail "the wheels in $wheels cannot be installed${wanted:+: $wanted is missing}. Upload them again: scarcegan upsert"
fi
mkdir -p "$work/libraries"
export PYTHONPATH="$work/code/src:$work/libraries${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 PYTHONUTF8=1 PYTHONSAFEPATH=1
exec "$python" -m scarcegan.sagemaker.job "$@"
