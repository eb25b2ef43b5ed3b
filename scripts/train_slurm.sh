#!/usr/bin/env bash
# Train under Slurm, on one machine or several. Run it in the repository's folder; set its variables from outside, and
# give further flags of main.py behind it:
#   METAPATH=… TRAIN_CONFIG_PATH=… DATAPATH_EGO=… DATAPATH_EXO=… NODES=2 scripts/train_slurm.sh --resume_from_checkpoint
set -euo pipefail

: "${METAPATH:?the instructions JSON}" "${TRAIN_CONFIG_PATH:?the config JSON of the split to train on}"
: "${DATAPATH_EGO:?the folder of the ego videos}" "${DATAPATH_EXO:?the folder of the how-to videos}"
PRETRAINED_MODEL_NAME_OR_PATH=${PRETRAINED_MODEL_NAME_OR_PATH:-luodian/OTTER-MPT1B-RPJama-Init}
MAX_SHOT=${MAX_SHOT:-4}
BATCH_SIZE=${BATCH_SIZE:-4}  # for each GPU
WORKERS=${WORKERS:-6}        # for each GPU
NODES=${NODES:-1}
GPUS=${GPUS:-8} # of each node
STRATEGY=${STRATEGY:-ddp} # or fsdp, zero2, zero3
EXTERNAL_SAVE_DIR=${EXTERNAL_SAVE_DIR:-runs}
RUN_NAME=${RUN_NAME:-OTTER-MPT1B-RPJama-${MAX_SHOT}SHOT-$((NODES * GPUS))GPU-BS$((NODES * GPUS * BATCH_SIZE))}

name=$STRATEGY
if ((NODES > 1)); then
  name+=_slurm
elif [[ $STRATEGY == ddp ]]; then
  name+=_${GPUS}gpu
fi
options=(--nodes="$NODES" --ntasks-per-node=1 --gres="gpu:$GPUS" --cpus-per-task=$((GPUS * (WORKERS + 1))))
if [[ -n ${PARTITION:-} ]]; then
  options+=(--partition="$PARTITION")
fi

# On each node: its own rank, and the first node's name, where all meet.
# shellcheck disable=SC2016
launch='exec accelerate launch --machine_rank="$SLURM_NODEID" \
  --main_process_ip="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)" \
  --main_process_port=$((20000 + SLURM_JOB_ID % 20000)) "$@"'

exec srun "${options[@]}" bash -c "$launch" launch \
  --config_file="${CONFIG:-configs/accelerate_config_$name.yaml}" \
  --num_machines="$NODES" \
  --num_processes=$((NODES * GPUS)) \
  main.py \
  --pretrained_model_name_or_path="$PRETRAINED_MODEL_NAME_OR_PATH" \
  --datapath_ego="$DATAPATH_EGO" \
  --datapath_exo="$DATAPATH_EXO" \
  --metapath="$METAPATH" \
  --train_config_path="$TRAIN_CONFIG_PATH" \
  --external_save_dir="$EXTERNAL_SAVE_DIR" \
  --run_name="$RUN_NAME" \
  --xview \
  --max_shot="$MAX_SHOT" \
  --batch_size="$BATCH_SIZE" \
  --workers="$WORKERS" \
  --num_epochs=5 \
  --learning_rate=1e-5 \
  --lr_scheduler=cosine \
  --warmup_steps_ratio=0.01 \
  --save_ckpt_each_epoch \
  "$@"
