#!/usr/bin/env bash
# A Slurm of this machine alone, of Debian's packages slurm-wlm and munge, for the tests: two nodes that are both this
# machine, with two processors and two GPUs each that there may not be, and two partitions, `cheap` and `urgent`, whose
# jobs preempt those of the other. No systemd, control groups or accounting; what it writes is in one folder.
#   tests/slurm/one_machine.sh install        the packages, as root
#   tests/slurm/one_machine.sh start          prints the export line that lets Slurm's commands find it; again: the same
#   tests/slurm/one_machine.sh stop           ends jobs and daemons and removes the folder
#   tests/slurm/one_machine.sh run COMMAND …  start, COMMAND with the variable set, stop; COMMAND's exit status
# BACKBENCH_SLURM names the folder; /tmp/backbench-slurm-UID where it is not set.
set -euo pipefail

folder=${BACKBENCH_SLURM:-/tmp/backbench-slurm-$(id -u)}
export SLURM_CONF=$folder/slurm.conf
export PATH=$PATH:/usr/sbin
nodes="one two"

is_installed() {
    local name
    for name in slurmctld slurmd munged srun; do
        command -v "$name" > /dev/null || return 1
    done
}

install() {
    if is_installed; then return; fi
    [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || { echo "no Slurm, and no root to install it" >&2; return 1; }
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq --no-install-recommends slurm-wlm munge > /dev/null && return
    apt-get update -qq && apt-get install -qq --no-install-recommends slurm-wlm munge > /dev/null
}

# A preempted job has half a minute to save. One that is requeued starts again after `cred_expire` seconds, as Slurm has
# it, instead of two minutes.
configure() {
    local host port=$((20000 + RANDOM % 10000)) node
    host=$(hostname -s)
    for node in $nodes; do mkdir -p "$folder/$node"; done
    mkdir -p "$folder/state"
    cat > "$SLURM_CONF" <<CONF
ClusterName=backbench
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,sched_min_interval=0,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
OverTimeLimit=0
InactiveLimit=0
MinJobAge=60
PropagateResourceLimits=NONE
CONF
    local each=1
    for node in $nodes; do
        echo "NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + each)) CPUs=2 RealMemory=4000 Gres=gpu:2" \
            >> "$SLURM_CONF"
        each=$((each + 1))
    done
    local all=${nodes// /,}
    cat >> "$SLURM_CONF" <<CONF
PartitionName=cheap Nodes=$all Default=YES PriorityTier=1 GraceTime=30 PreemptMode=REQUEUE DefaultTime=10 MaxTime=60
PartitionName=urgent Nodes=$all PriorityTier=10 PreemptMode=OFF DefaultTime=10 MaxTime=60
CONF
    printf "Name=gpu File=%s\n" /dev/null /dev/zero > "$folder/gres.conf"
}

start() {
    is_installed || { echo "no Slurm: tests/slurm/one_machine.sh install" >&2; return 1; }
    if [ -e "$SLURM_CONF" ] && answers; then return; fi
    stop
    mkdir -m 755 "$folder"
    configure
    dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
    chmod 600 "$folder/munge.key"
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
    slurmctld -c
    for node in $nodes; do slurmd -N "$node"; done
    for _ in $(seq 100); do
        if answers; then return; fi
        sleep 0.2
    done
    echo "Slurm does not answer; its logs are in $folder" >&2
    for file in "$folder"/*.log; do tail -n 5 "$file" >&2; done
    return 1
}

answers() {
    [ "$(timeout 5 sinfo --noheader --partition cheap --states idle,mixed,allocated --format %D 2> /dev/null)" = 2 ]
}

stop() {
    [ -d "$folder" ] || return 0
    grep -qs "^ClusterName=backbench$" "$SLURM_CONF" || { echo "$folder: not made here, and left alone" >&2; return 1; }
    timeout 10 scancel --user "$(id -un)" --full --signal KILL 2> /dev/null || true
    timeout 10 scancel --user "$(id -un)" 2> /dev/null || true
    local file
    for file in "$folder"/slurmd.*.pid "$folder"/slurmctld.pid "$folder"/munged.pid; do
        if [ -e "$file" ]; then end "$(cat "$file")"; fi
    done
    rm -rf "$folder"
}

# End a daemon, and wait until it has gone: it writes to the folder until then.
end() {
    kill "$1" 2> /dev/null || return 0
    for _ in $(seq 50); do
        kill -0 "$1" 2> /dev/null || return 0
        sleep 0.2
    done
    kill -KILL "$1" 2> /dev/null || true
}

case "${1:-}" in
    install) install ;;
    start) start && echo "export SLURM_CONF=$SLURM_CONF" ;;
    stop) stop ;;
    run)
        shift
        start
        trap stop EXIT
        "$@"
        ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
