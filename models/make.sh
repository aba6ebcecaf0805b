#!/bin/sh
# Makes home-q1_0.gguf anew, with the rows and the vocabulary that it takes:
#   models/make.sh DIRECTORY [WEIGHTS ACTIVATIONS [SEED]]
# WEIGHTS and ACTIVATIONS as onebit-train has them; binary and int8 are the shipped model's. A run that was stopped goes
# on where it was. The same kind of CPU gives the same bytes.
set -eu
[ $# -ge 1 ] || { sed -n '2,5s/^# *//p' "$0" >&2; exit 64; }
source=$(cd "$(dirname "$0")/.." && pwd)
train=$source/build/train/onebit-train
weights=${2:-binary} activations=${3:-int8} seed=${4:-1}
name=home-$weights-$activations-$seed
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE # kernels that somebody forced are seldom this machine's best, and change the bytes
export OPENBLAS_NUM_THREADS=1

mkdir -p "$1"
cd "$1"
if [ ! -e words.gguf ]; then
    "$train" commands --grammar "$source/train/commands/grammar" --count 1000000 --seed 1 --split train \
        --keep-out "$source/train/commands/kept-out.txt" -o train.jsonl
    "$train" commands --grammar "$source/train/commands/grammar" --count 2000 --seed 2 --split valid -o valid.jsonl
    "$train" tokenizer --data train.jsonl --out words.gguf --size 1280
fi
if [ -e "$name.ck" ]; then
    "$train" model --resume "$name.ck" --data train.jsonl --valid valid.jsonl --checkpoint "$name.ck" --out "$name.gguf"
else
    "$train" model --tokenizer words.gguf --data train.jsonl --valid valid.jsonl --weights "$weights" \
        --activations "$activations" --steps 10000 --rate 0.001 --ctx 1024 --seed "$seed" --threads 1 --valid-every 1000 \
        --checkpoint "$name.ck" --name home-q1_0 --license Apache-2.0 \
        --description 'Home commands into JSON intents' --out "$name.gguf"
fi
"$train" score "$name.gguf" valid.jsonl
