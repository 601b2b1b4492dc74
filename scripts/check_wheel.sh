#!/usr/bin/env bash
# Install the wheel of dist/ into an empty environment with the tested versions, and use it from a folder outside the
# checkout: `distill doctor`, then `distill generate` with the shipped teacher. Stops at the first failure.
# With a folder as the argument, the environment is made there and kept, so that a second run only installs the wheel.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
wheels=("$checkout"/dist/*.whl)
if [ ${#wheels[@]} != 1 ] || [ ! -f "${wheels[0]}" ]; then
    echo "dist/ has no wheel, or several: run make dist" >&2
    exit 1
fi

if [ $# -gt 0 ]; then
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
unset PYTHONPATH VIRTUAL_ENV
export HF_HUB_OFFLINE=1

# every file of the package is in the wheel
packed=$(python3 -m zipfile -l "${wheels[0]}" | awk '{print $1}' | grep '^distillpipe/' | sort)
tracked=$(cd "$checkout" && git ls-files --cached --others --exclude-standard distillpipe | sort)
if ! diff <(echo "$packed") <(echo "$tracked"); then
    echo "the files of the wheel and of distillpipe/ differ: see package-data in pyproject.toml" >&2
    exit 1
fi

mkdir -p "$folder/elsewhere"
rm -f "$folder"/*.whl
cp "$checkout/constraints.txt" "${wheels[0]}" "$folder"
cp -r "$checkout/data/quickstart/teacher" "$folder/elsewhere"
head -n 4 "$checkout/data/quickstart/problems-test.jsonl" >"$folder/elsewhere/problems.jsonl"
cd "$folder/elsewhere"
"${PYTHON:-python3}" -m venv ../env
../env/bin/python -m pip install --quiet --force-reinstall --no-deps ../distillpipe-*.whl
../env/bin/python -m pip install --quiet --constraint ../constraints.txt ../distillpipe-*.whl
../env/bin/python -m pip check

# the wheel is used, not the checkout, and its metadata can be read
path=$(../env/bin/python -c 'import distillpipe; print(distillpipe.__file__)')
case $path in
    "$folder"/env/*) ;;
    *) echo "distillpipe is imported from elsewhere than the wheel: $path" >&2; exit 1 ;;
esac
../env/bin/distill doctor | tee doctor.txt
grep -q '^engine transformers *works' doctor.txt
grep -q '^engine openai *works' doctor.txt
grep -q "^method qlora .*pip install 'bitsandbytes>=" doctor.txt
if grep '^warning' doctor.txt; then exit 1; fi
if command -v bwrap >/dev/null; then grep -q '^sandbox *works' doctor.txt; fi

rm -rf traces
../env/bin/python -m distillpipe generate problems.jsonl --teacher teacher --engine transformers \
    --max-tokens 64 --out traces
test "$(cat traces/latest/part-*.jsonl | wc -l)" = 4
../env/bin/distill show traces
echo "the wheel works"
