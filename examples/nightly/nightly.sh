#!/usr/bin/env bash
# A night: run the suite, judge it against the baseline, keep what was green. For cron, Slurm, or a job of any CI.
#   SITE=site.yaml NIGHTS=/data/nights BASELINE=nightly/baseline examples/nightly/nightly.sh
#   sbatch --gres=gpu:1 --time=5:00:00 --requeue --export=ALL,NIGHT=$(date +%F),SITE=…,NIGHTS=…,BASELINE=… \
#     examples/nightly/nightly.sh
# Ends with 0 where nothing is worse, 1 for a regression or a cell that failed, 3 where that cannot be told; 75 or 130
# where the night has not been run to its end: the same call goes on with it.
#   NIGHT     its date, today's by default. Give it where a job may be begun again after midnight
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

# What it runs is asked to save and end when this script is: the shell alone would end, and leave it running. Ctrl-C at a
# terminal may have reached it already, and a second SIGINT or SIGTERM would end it unsaved: SIGHUP only asks.
run() {
    local child= asked=
    trap 'asked=TERM; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
    trap 'asked=HUP; [ -z "$child" ] || kill -HUP "$child" 2>/dev/null' INT
    "$backbench" "$@" &
    child=$!
    [ -z "$asked" ] || kill -"$asked" "$child" 2>/dev/null
    wait "$child"
    status=$?
    while [ -n "$asked" ]; do
        asked=
        wait "$child"
        status=$?
    done
    trap - TERM INT
    [ "$status" -ne 129 ] || status=130
}

# A cell that fails is a finding of the verdict; what ends otherwise than with 0 or 1 has run no night.
run suite "$suite" --site "$SITE" --out "$NIGHTS" --night "$night" --keep-nights 14
[ "$status" -le 1 ] || exit "$status"
mkdir -p "$verdict"

if [ ! -f "$BASELINE/baseline.yaml" ]; then
    [ "$status" -eq 0 ] || exit 1
    run baseline promote "$NIGHTS/$night" --to "$BASELINE" --why "the first night"
    exit "$status"
fi
run regress --baseline "$BASELINE" --current "$NIGHTS/$night" --confirm "${SEEDS:-2}" \
    --write "$verdict/verdict.md" --write "$verdict/verdict.xml" --write "$verdict/findings.csv"
[ "$status" -eq 0 ] || exit "$status"
run baseline promote "$NIGHTS/$night" --to "$BASELINE"
exit "$status"
