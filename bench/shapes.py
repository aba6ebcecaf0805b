#!/usr/bin/env python3
"""Does every shape that `onebit-lab make` knows work in every format that it writes?

    shapes.py [--shape NAME]... [--format FMT]... [--largest BYTES] [--threads N] [--build DIR] [--json FILE]

Each file is made in the temporary folder (TMPDIR; bonsai-8b in F32 takes 33 GB), goes through verify, then packed
through info, logits and bench, and is deleted. Combinations that `make` refuses are shown with its reason. --largest
leaves out files of more bytes than so many (default 6e9) and says which; exit 1 when anything failed."""
import argparse
import json
import math
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time

from run import ROOT, machine, workbench_of

IDS = '1,2,3,40,50,60,70,80'


def run(lab, *words, out=None):
    done = subprocess.run([str(w) for w in (lab, *words)], stdout=out or subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stdout, done.stderr.decode(errors='replace').strip()


def named(lab, option):
    """What the program itself names when it is asked for something it has not."""
    words = {'--shape': 'tiny', '--format': 'Q1_0', option: '?'}
    said = run(lab, 'make', *(w for pair in words.items() for w in pair), os.devnull)[2].splitlines()[0]
    return re.search(r'(?:\(| none of )([^()]+)\)?$', said).group(1).split(', ')


def weights(shape):
    """About how many, to know a file's size before it is made."""
    return {'llama-160m': 0.162e9, 'bitnet-2b': 2.41e9, 'bitnet-3b': 3.32e9, 'bonsai-1.7b': 1.72e9, 'bonsai-4b': 4.02e9,
            'bonsai-8b': 8.19e9}.get(shape, 1e6)


BYTES = {'F32': 4, 'F16': 2, 'BF16': 2, 'Q8_0': 34 / 32, 'Q6_K': 210 / 256, 'Q5_0': 22 / 32, 'Q5_K': 176 / 256,
         'Q4_0': 18 / 32, 'Q4_1': 20 / 32, 'Q4_K': 144 / 256, 'Q1_0': 18 / 128}


def failure(lab, path, threads):
    """Run the verbs; the first thing that is wrong, or None. Also the row of figures."""
    row = {}
    code, _, err = run(lab, 'verify', path)
    if code:
        return f'verify: exit {code}: {err}', row
    packed = path.with_suffix('.packed')  # once for the other three
    code, _, err = run(lab, 'pack', path, '--out', packed)
    path.unlink()
    if code:
        return f'pack: exit {code}: {err}', row
    path = packed
    code, out, err = run(lab, 'info', path, '--json')
    if code:
        return f'info: exit {code}: {err}', row
    info = json.loads(out)
    row.update(arch=info['architecture'], formats=info['formats'], file=info['file_bytes'], packed=info['packed_bytes'])
    code, out, err = run(lab, 'logits', path, '--ids', IDS, '--threads', threads)
    if code:
        return f'logits: exit {code}: {err}', row
    logits = struct.unpack(f'<{len(out) // 4}f', out)
    mean = sum(logits) / len(logits)
    row['std'] = math.sqrt(sum((x - mean) ** 2 for x in logits) / len(logits))
    if len(logits) != info['vocabulary'] or not all(map(math.isfinite, logits)) or not 0.5 < row['std'] < 20:
        return f'logits: {len(logits)} of them, standard deviation {row["std"]}', row
    code, out, err = run(lab, 'bench', path, '-p', 16, '-n', 4, '-r', 1, '--json', '--threads', threads)
    if code:
        return f'bench: exit {code}: {err}', row
    said = json.loads(out)
    row.update(prompt=said['prompt_tokens_per_second'], generate=said['generate_tokens_per_second'],
               peak=said['peak_bytes'])
    return None, row


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shape', action='append', default=[], help='default: every one that make knows')
    parser.add_argument('--format', action='append', default=[], help='default: every one that make writes')
    parser.add_argument('--largest', type=float, default=6e9, help='bytes of a file')
    parser.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path, help='write everything measured to this file')
    return parser.parse_args()


def one(lab, shape, fmt, home, args):
    """Make, try, delete: a row of the table."""
    row = {'shape': shape, 'format': fmt}
    if weights(shape) * BYTES.get(fmt, 0.3) > args.largest:
        return {**row, 'verdict': 'left out: larger than --largest'}
    path = home / 'model.gguf'
    start = time.monotonic()
    code, _, err = run(lab, 'make', '--shape', shape, '--format', fmt, path)
    if code == 64:
        return {**row, 'verdict': 'refused: ' + err.splitlines()[0].removeprefix('onebit-lab: ')}
    if code:
        return {**row, 'verdict': f'FAILED: make: exit {code}: {err}'}
    row['make'] = time.monotonic() - start
    wrong, figures = failure(lab, path, args.threads)
    for left in home.iterdir():
        left.unlink()
    return {**row, **figures, 'verdict': f'FAILED: {wrong}' if wrong else 'works'}


def print_row(row):
    def cell(key, width, form, scale=1):
        return f'{row[key] / scale:>{width}{form}}' if key in row else ' ' * width
    print(f"{row['shape']:<15} {row['format']:<9} {row.get('arch', ''):<12} {cell('file', 9, '.1f', 2**20)} "
          f"{cell('packed', 9, '.1f', 2**20)} {cell('peak', 9, '.1f', 2**20)} {cell('make', 7, '.1f')} "
          f"{cell('std', 6, '.2f')} {cell('prompt', 9, '.1f')} {cell('generate', 9, '.1f')}  {row['verdict']}", flush=True)


def main():
    args = arguments()
    lab = workbench_of(args.build)
    here, rows = machine(), []
    print(f"{here['cpu']}, {args.threads} threads, Linux {here['kernel']}; sizes in MiB, speeds in tokens/s")
    print(f"{'shape':<15} {'format':<9} {'arch':<12} {'file':>9} {'packed':>9} {'peak':>9} {'make s':>7} {'std':>6} "
          f"{'prompt':>9} {'generate':>9}  verdict")
    with tempfile.TemporaryDirectory(prefix='onebit-shapes-') as home:
        for shape in args.shape or named(lab, '--shape'):
            for fmt in args.format or named(lab, '--format'):
                rows.append(one(lab, shape, fmt, pathlib.Path(home), args))
                print_row(rows[-1])
    if args.json:
        args.json.write_text(json.dumps({'machine': here, 'rows': rows}, indent=1) + '\n')
    count = {word: sum(row['verdict'].startswith(word) for row in rows) for word in
             ('works', 'FAILED', 'refused', 'left out')}
    print(', '.join(f'{n} {word.lower()}' for word, n in count.items() if n))
    sys.exit(count['FAILED'] > 0)


if __name__ == '__main__':
    main()
