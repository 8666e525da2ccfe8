#!/usr/bin/env bash
# A real SLURM of this machine alone, without systemd, for as long as a command runs:  one_node.sh DIR COMMAND...
# As root, with Debian's packages: apt-get install -y --no-install-recommends slurm-wlm munge
# Jobs of the partition `main` are preempted by those of `urgent`. A node is given up after 10 s without an answer, and a
# requeued job waits a few seconds instead of two minutes (cred_expire).
set -euo pipefail
mkdir -p "${1:?a directory}"
dir=$(cd "$1" && pwd)
shift
host=$(hostname -s)
mkdir -p "$dir/spool" "$dir/state"
cat > "$dir/slurm.conf" <<CONF
ClusterName=one_node
SlurmctldHost=$host(127.0.0.1)
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
ReturnToService=2
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmdSpoolDir=$dir/spool
StateSaveLocation=$dir/state
SlurmUser=root
SlurmdUser=root
SlurmdTimeout=10
SwitchType=switch/none
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
CONF
export SLURM_CONF=$dir/slurm.conf

wait_for() {
  for _ in $(seq 100); do
    "$@" > /dev/null 2>&1 && return
    sleep 0.1
  done
  echo "$* is not so after 10 s; see $dir/*.log" >&2
  exit 1
}

signs() { munge --no-input; }
answers() { scontrol ping | grep -q UP; }
is_idle() { sinfo --noheader --states=idle --format=%n | grep -q .; }
is_empty() { ! squeue --noheader | grep -q .; }
stop() {
  scancel --user=root || true
  scancel --user=root --signal=KILL --full || true
  (wait_for is_empty) || true # slurmd outlives its jobs
  for daemon in slurmd slurmctld munged; do
    [ ! -s "$dir/$daemon.pid" ] || kill "$(cat "$dir/$daemon.pid")" 2> /dev/null || true
  done
}
trap stop EXIT

if ! signs > /dev/null 2>&1; then
  install -d -o munge -g munge /run/munge
  [ -s /etc/munge/munge.key ] || su munge -s /bin/sh -c mungekey
  touch "$dir/munged.pid" && chown munge: "$dir/munged.pid"
  su munge -s /bin/sh -c "munged --pid-file=$dir/munged.pid"
  wait_for signs
fi
slurmctld -c
wait_for answers
slurmd
wait_for is_idle
"$@"
