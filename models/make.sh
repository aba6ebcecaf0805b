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

# rows FILE SEED COUNT SPLIT [OPTION...]: drawn once; what the model is measured on is never learned
rows() {
    [ ! -e "$1" ] || return 0
    out=$1 from=$2 count=$3 split=$4
    shift 4
    "$train" commands --grammar "$source/train/commands/grammar" --seed "$from" --count "$count" --split "$split" "$@" -o "$out"
}

# part N ROWS STEPS RATE [OPTION...]: a training, from the first step or from where a stopped one was
part() {
    n=$1 data=$2 steps=$3 rate=$4
    shift 4
    [ ! -e "$name.$n.gguf" ] || return 0
    if [ -e "$name.$n.ck" ]; then
        set -- --resume "$name.$n.ck"
    else
        set -- --tokenizer words.gguf --weights "$weights" --activations "$activations" --ctx 1024 --threads 1 \
            --seed "$((seed + n - 1))" --steps "$steps" --rate "$rate" "$@"
    fi
    "$train" model "$@" --data "$data" --valid valid.jsonl --valid-every 1000 --checkpoint "$name.$n.ck" --name home-q1_0 \
        --license Apache-2.0 --description 'Home commands into JSON intents' --out "$name.$n.gguf"
}

mkdir -p "$1"
cd "$1"
kept_out=$source/train/commands/kept-out.txt
rows valid.jsonl 2 2000 valid
rows rows-1.jsonl 1 1000000 train --keep-out "$kept_out"
rows rows-2.jsonl 3 1000000 train --keep-out "$kept_out"
rows rows-3.jsonl 4 1000000 train --keep-out "$kept_out" --slips 3
[ -e words.gguf ] || "$train" tokenizer --data rows-1.jsonl --size 1280 --out words.gguf
part 1 rows-1.jsonl 10000 0.001
part 2 rows-2.jsonl 15000 0.0007 --from "$name.1.ck"
part 3 rows-3.jsonl 15000 0.0007 --from "$name.2.ck"
cp "$name.3.gguf" "$name.gguf"
"$train" score "$name.gguf" valid.jsonl
