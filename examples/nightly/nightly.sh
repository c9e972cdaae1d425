#!/usr/bin/env bash
# A night: run the suite, judge it against the baseline, keep what was green. For cron, Slurm, or a job of any CI.
#   SITE=site.yaml NIGHTS=/data/nights BASELINE=nightly/baseline examples/nightly/nightly.sh
#   sbatch --gres=gpu:1 --time=5:00:00 --export=ALL,SITE=…,NIGHTS=…,BASELINE=… examples/nightly/nightly.sh
# Ends with 0 where nothing is worse, 1 for a regression, 3 where that cannot be told.
#   SUITE     nightly by default
#   SEEDS     further seeds of a cell that may be worse, before the verdict; 2 by default
#   VERDICT   folder of verdict.md, verdict.xml (JUnit) and findings.csv; the night's own by default
#   BACKBENCH the command, where it is not on PATH
set -uo pipefail
: "${SITE:?the site file: where data and weights are on this machine}"
: "${NIGHTS:?a folder, for a store of each night}"
: "${BASELINE:?a folder, in your repository}"
suite=${SUITE:-nightly} night=${NIGHT:-$(date +%F)} backbench=${BACKBENCH:-backbench}
verdict=${VERDICT:-$NIGHTS/$night/verdict}

# A cell that fails is a finding of the verdict; what ends otherwise than with 0 or 1 has run no night.
$backbench suite "$suite" --site "$SITE" --out "$NIGHTS" --night "$night" --keep-nights 14
status=$?
[ "$status" -le 1 ] || exit "$status"
mkdir -p "$verdict"

if [ ! -f "$BASELINE/baseline.yaml" ]; then
    [ "$status" -eq 0 ] || exit 1
    $backbench baseline promote "$NIGHTS/$night" --to "$BASELINE" --why "the first night"
    exit
fi
$backbench regress --baseline "$BASELINE" --current "$NIGHTS/$night" --confirm "${SEEDS:-2}" \
    --write "$verdict/verdict.md" --write "$verdict/verdict.xml" --write "$verdict/findings.csv"
status=$?
[ "$status" -eq 0 ] || exit "$status"
$backbench baseline promote "$NIGHTS/$night" --to "$BASELINE"
