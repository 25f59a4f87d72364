#!/bin/bash
# A sweep on Slurm: Ray's head and the driver on the first node of the job, a Ray worker on each of the others.
#   sbatch deploy/slurm.sh tune_configs/quickstart.yaml --storage /shared/mwm --tracking-uri http://HOST:5000
# Submit it in the checkout, with .venv made by `make .venv/installed`; everything after the script goes to `launch.py run`.
# To change: the lines below (partition, account, GPUs, time). The checkout, the home folder and --storage are seen by
# every node. Without --tracking-uri, runs go to mlflow.db in the checkout.
#
# Three minutes before the time limit the sweep is stopped in good order and the job queued again; it then goes on where
# it was, as it does when Slurm itself requeues a preempted job. `scancel` ends it for good, `sbatch` again goes on.
# A lost node takes only its own trials with it (--no-kill); they go on elsewhere.
#SBATCH --job-name=mwm
#SBATCH --output=mwm-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
##SBATCH --gpus-per-node=1
##SBATCH --partition=...
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --no-kill
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
bin=$PWD/.venv/bin
scratch=/tmp/mwm-$SLURM_JOB_ID
head=$(hostname -I | cut -d' ' -f1)
port=$((20000 + SLURM_JOB_ID % 10000))

# Whoever reaches the port needs the token, which lies in the home folder.
export RAY_AUTH_MODE=token
[ -s "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}" ] || "$bin/ray" get-auth-token --generate > /dev/null

came=
driver=
trap 'came=USR1; kill -TERM $driver 2> /dev/null || true' USR1
trap 'came=TERM; kill -TERM $driver 2> /dev/null || true' TERM
steps=()
again=
trap 'kill "${steps[@]}" || true; wait; srun --ntasks-per-node=1 rm -rf "$scratch"; eval "$again"' EXIT

each=(srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --no-kill)
ray=("$bin/ray" start --block --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats)
"${each[@]}" --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" "${ray[@]}" --head --node-ip-address="$head" \
  --port="$port" --include-dashboard=false --temp-dir="$scratch" > /dev/null &
steps+=($!)
until (exec 3<> "/dev/tcp/$head/$port") 2> /dev/null; do
  kill -0 "${steps[0]}" || exit 1
  sleep 1
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  others=$((SLURM_JOB_NUM_NODES - 1))
  "${each[@]}" --nodes="$others" --ntasks="$others" --exclude="$SLURMD_NODENAME" "${ray[@]}" \
    --address="$head:$port" > /dev/null &
  steps+=($!)
fi
"$bin/python" - "$head:$port" "$SLURM_JOB_NUM_NODES" << 'END'
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
for _ in range(300):
    alive = sum(node["Alive"] for node in ray.nodes())
    if alive == int(sys.argv[2]):
        break
    time.sleep(1)
print(f"{alive} of {sys.argv[2]} nodes are there", flush=True)
END

if [ -z "$came" ]; then
  "$bin/python" launch.py run "$@" --address "$head:$port" &
  driver=$!
fi
status=143
while [ -n "$driver" ]; do
  status=0
  wait "$driver" || status=$? # a signal ends the waiting, not the driver
  kill -0 "$driver" 2> /dev/null || break
done
if [ "$came" = USR1 ] && [ "$status" -gt 128 ]; then
  again="scontrol requeue $SLURM_JOB_ID" # at the very end: it kills this script, too
fi
exit "$status"
