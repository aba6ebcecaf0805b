#!/usr/bin/env python3
"""Does a run take the memory that `onebit-lab info --board` predicts?

    memory.py [--model SHAPE:FORMAT[:HEAD] | --file FILE]... [--ctx N] [--threads N] [--kv TYPE] [--build DIR]
              [--json FILE]

For each model: predict for a context of N positions, fill the context (a prompt, then a few tokens) and read the
process's peak of resident memory as the system counts it (VmHWM). Once from the packed form, mapped from a file as the
daemon's runner maps it, which is what the prediction is about; once from the GGUF, which the workbench packs into
memory first. Models are made of random weights in the temporary folder (1.2 GB for bitnet-2b), one at a time.

Exit 1 when a run from the packed form is more than 5 % away from its prediction."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from run import ROOT, machine, workbench_of

MODELS = ['bonsai-1.7b:Q1_0', 'bitnet-2b:TQ2_0', 'bitnet-2b:I2_S']
GENERATED = 8
BOARD = 'pi5-8gb'  # memory does not depend on it: threads are given
TOLERANCE = 0.05


def said(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def peak(lab, path, args):
    """The peak of one run that fills the context."""
    vocabulary = said(lab, 'info', path, '--json')['vocabulary']
    ids = ','.join(str(i * 31 % vocabulary) for i in range(args.ctx - GENERATED))
    run = said(lab, 'generate', path, '--ids', ids, '-n', GENERATED, '--ignore-eos', '--json', '--threads', args.threads,
               '--kv', args.kv)
    return run['peak_bytes']


def measure(lab, name, path, home, args):
    packed = home / 'packed'
    subprocess.run([lab, 'pack', path, '--out', packed], check=True)
    predicted = said(lab, 'info', packed, '--board', BOARD, '--ctx', args.ctx, '--threads', args.threads, '--kv', args.kv,
                     '--json')['memory']
    row = {'model': name, 'predicted': predicted, 'packed': peak(lab, packed, args), 'gguf': peak(lab, path, args)}
    packed.unlink()
    return row


def print_row(row):
    total = row['predicted']['total']
    parts = ' + '.join(f'{row["predicted"][k] / 2**20:.1f}' for k in
                       ('weights', 'tables', 'kv', 'scratch', 'sampler', 'process'))
    print(f"{row['model']:<24} {total / 2**20:>9.1f} {row['packed'] / 2**20:>9.1f} {row['packed'] / total:>7.3f} "
          f"{row['gguf'] / 2**20:>9.1f} {row['gguf'] / total:>7.3f}   {parts}", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', action='append', default=[], metavar='SHAPE:FORMAT[:HEAD]',
                        help=f'to make; default: {" ".join(MODELS)}')
    parser.add_argument('--file', type=pathlib.Path, action='append', default=[], help='a GGUF that is there')
    parser.add_argument('--ctx', type=int, default=512)
    parser.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--kv', default='f16')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path, help='write everything measured to this file')
    args = parser.parse_args()
    if args.ctx <= GENERATED:
        parser.error(f'--ctx wants more than {GENERATED}')
    return args


def main():
    args = arguments()
    lab = workbench_of(args.build)
    here, rows = machine(), []
    print(f"{here['cpu']}, {args.threads} threads, Linux {here['kernel']}, context {args.ctx}, KV {args.kv}; MiB")
    print(f"{'model':<24} {'predicted':>9} {'packed':>9} {'ratio':>7} {'gguf':>9} {'ratio':>7}   "
          'weights + tables + KV + scratch + sampler + process')
    with tempfile.TemporaryDirectory(prefix='onebit-memory-') as home:
        home = pathlib.Path(home)
        for path in args.file:
            rows.append(measure(lab, path.name, path, home, args))
            print_row(rows[-1])
        for model in args.model or ([] if args.file else MODELS):
            shape, fmt, *head = model.split(':')
            path = home / 'model.gguf'
            subprocess.run([lab, 'make', '--shape', shape, '--format', fmt, *(['--head', *head] if head else []), path],
                           check=True)
            rows.append(measure(lab, f'{shape} {fmt}', path, home, args))
            print_row(rows[-1])
            path.unlink()
    if args.json:
        args.json.write_text(json.dumps({'machine': here, 'context': args.ctx, 'kv': args.kv, 'models': rows},
                                        indent=1) + '\n')
    off = [row['model'] for row in rows if abs(row['packed'] / row['predicted']['total'] - 1) > TOLERANCE]
    if off:
        sys.exit(f'more than {TOLERANCE:.0%} away from the prediction: {", ".join(off)}')


if __name__ == '__main__':
    main()
