#!/usr/bin/env bash
# Evaluate under Slurm, on one GPU. Run it in the repository's folder; set its variables from outside, and give further
# flags of main.py behind it:
#   TRAINED_CKPT=… METAPATH=… TRAIN_CONFIG_PATH=… DATAPATH_EGO=… DATAPATH_EXO=… scripts/test_slurm.sh --clean_narration
set -euo pipefail

: "${TRAINED_CKPT:?the weights to evaluate, a .pt file or a finished run\'s model folder}"
: "${METAPATH:?the instructions JSON}" "${TRAIN_CONFIG_PATH:?the config JSON of the split to evaluate}"
: "${DATAPATH_EGO:?the folder of the ego videos}" "${DATAPATH_EXO:?the folder of the how-to videos}"
PRETRAINED_MODEL_NAME_OR_PATH=${PRETRAINED_MODEL_NAME_OR_PATH:-luodian/OTTER-MPT1B-RPJama-Init}
MAX_SHOT=${MAX_SHOT:-4}
BATCH_SIZE=${BATCH_SIZE:-1}
WORKERS=${WORKERS:-6}
EXTERNAL_SAVE_DIR=${EXTERNAL_SAVE_DIR:-runs}
RUN_NAME=${RUN_NAME:-OTTER-MPT1B-RPJama-test}

options=(--nodes=1 --ntasks=1 --gres=gpu:1 --cpus-per-task=$((WORKERS + 1)))
if [[ -n ${PARTITION:-} ]]; then
  options+=(--partition="$PARTITION")
fi

exec srun "${options[@]}" accelerate launch \
  --config_file="${CONFIG:-configs/accelerate_config_ddp_1gpu.yaml}" \
  main.py \
  --pretrained_model_name_or_path="$PRETRAINED_MODEL_NAME_OR_PATH" \
  --datapath_ego="$DATAPATH_EGO" \
  --datapath_exo="$DATAPATH_EXO" \
  --metapath="$METAPATH" \
  --train_config_path="$TRAIN_CONFIG_PATH" \
  --external_save_dir="$EXTERNAL_SAVE_DIR" \
  --run_name="$RUN_NAME" \
  --testonly \
  --trained_ckpt="$TRAINED_CKPT" \
  --save_predictions \
  --xview \
  --max_shot="$MAX_SHOT" \
  --batch_size="$BATCH_SIZE" \
  --workers="$WORKERS" \
  "$@"
