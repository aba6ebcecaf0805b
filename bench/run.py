#!/usr/bin/env python3
"""Engine speed on this machine, at every CPU level it has, in turn (A B A B ...), so that a noisy neighbour
hits all of them alike. Quote the ratios inside one table, not figures from two.

    run.py [--full] [--rounds N] [--threads N] [--streams N] [--model FILE]... [--no-kernels] [--build DIR]
           [--json FILE]

Models are made of random weights (speed does not depend on the values): llama-160m and tiny in Q1_0, Q8_0 and
TQ2_0; with --full also bonsai-1.7b in Q1_0, which wants 250 MB in the temporary folder. llama.cpp's llama-bench
takes its turns too when it is on the PATH. The table shows medians over the rounds."""
import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEVELS = ['scalar', 'avx2', 'avx512', 'neon', 'dotprod', 'i8mm']
MODELS = [('tiny', 'Q1_0'), ('tiny', 'Q8_0'), ('llama-160m', 'Q1_0'), ('llama-160m', 'Q8_0'), ('llama-160m', 'TQ2_0')]
FULL = [('bonsai-1.7b', 'Q1_0')]
PROMPT, GENERATE = 128, 32
SLOW_PROMPT, SLOW_GENERATE = 16, 4  # what the scalar level is asked for with models beyond 10 MB
SLOW_BYTES = 10 << 20


def workbench_of(build):
    """onebit-lab of this build folder, or the end of the program."""
    lab = build / 'engine/onebit-lab'
    if not lab.exists():
        sys.exit(f'{lab} is not built')
    return lab


def use_daemon_of(build):
    """Let the integration tests' harness be imported, for the daemon of this build folder."""
    os.environ['ONEBIT_BUILD'] = str(build.resolve())
    os.environ['ONEBIT_SOURCE'] = str(ROOT)
    sys.path.insert(0, str(ROOT / 'tests/integration'))


def machine():
    """What to print above every figure."""
    model = platform.machine()
    try:
        text = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
        named = re.search(r'^(?:model name|Model)\s*:\s*(.+)$', text, re.M)
        model = named.group(1) if named else model
    except OSError:
        pass
    return {'cpu': model, 'cores': len(os.sched_getaffinity(0)), 'kernel': platform.release(),
            'when': time.strftime('%Y-%m-%dT%H:%M:%S%z')}


def present(lab):
    """The levels that the program accepts here."""
    with tempfile.TemporaryDirectory() as home:
        probe = pathlib.Path(home) / 'probe.gguf'
        subprocess.run([lab, 'make', '--shape', 'tiny', '--format', 'Q1_0', probe], check=True)
        return [level for level in LEVELS
                if subprocess.run([lab, 'info', probe, '--cpu', level], capture_output=True).returncode == 0]


def measure_lab(lab, model, level, args):
    slow = level == 'scalar' and model.stat().st_size > SLOW_BYTES
    asked = (SLOW_PROMPT, SLOW_GENERATE) if slow else (PROMPT, GENERATE)
    command = [lab, 'bench', model, '--json', '-r', '1', '-p', str(asked[0]), '-n', str(asked[1]),
               '-b', str(args.streams), '--cpu', level]
    if args.threads:
        command += ['--threads', str(args.threads)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {'asked': asked, 'prompt': said['prompt_tokens_per_second'],
            'generate': said['generate_tokens_per_second'], 'load': said['load_seconds'],
            'peak': said['peak_bytes'], 'threads': said['threads']}


def measure_peer(peer, model, args):
    """llama-bench's own figures, or None where it does not know the format."""
    command = [peer, '-m', model, '-p', str(PROMPT), '-n', str(GENERATE), '-r', '1', '-o', 'json']
    command += ['-t', str(args.threads or len(os.sched_getaffinity(0)))]
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        return None
    rows = json.loads(done.stdout)
    pick = {('prompt' if row['n_prompt'] else 'generate'): row['avg_ts'] for row in rows}
    return {'asked': (PROMPT, GENERATE), 'prompt': pick['prompt'], 'generate': pick['generate'], 'load': None,
            'peak': None, 'threads': rows[0]['n_threads']}


def measure(lab, models, levels, args):
    """Rounds over all levels (and the peer) for each model in turn: {(model, who): [one result a round]}."""
    peer = shutil.which('llama-bench') if args.streams == 1 else None
    results = {}
    for name, path in models:
        for number in range(args.rounds):
            print(f'{name}: round {number + 1} of {args.rounds}', file=sys.stderr, flush=True)
            for level in levels:
                results.setdefault((name, level), []).append(measure_lab(lab, path, level, args))
            if peer:
                said = measure_peer(peer, path, args)
                if said:
                    results.setdefault((name, 'llama-bench'), []).append(said)
    return results


def summary(results):
    """One row per model and level, medians."""
    rows = []
    for (name, who), rounds in results.items():
        row = {'model': name, 'who': who, 'asked': rounds[0]['asked'], 'threads': rounds[0]['threads'],
               'rounds': len(rounds)}
        for key in ('prompt', 'generate', 'load', 'peak'):
            values = [r[key] for r in rounds if r[key] is not None]
            row[key] = statistics.median(values) if values else None
        rows.append(row)
    return rows


def print_table(rows):
    print(f"{'model':<20} {'level':<12} {'threads':>7} {'asked':>9} {'prompt tok/s':>13} {'generate tok/s':>15} "
          f"{'load s':>8} {'peak MiB':>9}")
    for row in rows:
        load = f"{row['load']:.3f}" if row['load'] is not None else '-'
        peak = f"{row['peak'] / 2**20:.1f}" if row['peak'] is not None else '-'
        asked = f"{row['asked'][0]}+{row['asked'][1]}"
        print(f"{row['model']:<20} {row['who']:<12} {row['threads']:>7} {asked:>9} {row['prompt']:>13.1f} "
              f"{row['generate']:>15.1f} {load:>8} {peak:>9}")


def kernels(build, levels):
    """The kernels alone, in the cache, as bench/kernels measures them."""
    program = build / 'bench/kernels'
    said = {}
    if program.exists():
        for level in levels:
            done = subprocess.run([program, '--level', level, '--in', 'cache', '--ms', '20'], capture_output=True, text=True)
            said[level] = done.stdout if done.returncode == 0 else f'failed: exit {done.returncode}'
    return said


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--full', action='store_true', help='also bonsai-1.7b in Q1_0')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, help='default: the processors of this process')
    parser.add_argument('--streams', type=int, default=1, help='sequences in one step')
    parser.add_argument('--model', type=pathlib.Path, action='append', default=[], help='a file instead of made ones')
    parser.add_argument('--no-kernels', action='store_true')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path, help='write everything measured to this file')
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error('--rounds wants at least 1')
    return args


def main():
    args = arguments()
    lab = workbench_of(args.build)
    here, levels = machine(), present(lab)
    print(f"{here['cpu']}, {here['cores']} cores, Linux {here['kernel']}, levels: {' '.join(levels)}")
    with tempfile.TemporaryDirectory(prefix='onebit-bench-') as home:
        models = [(path.name, path) for path in args.model]
        for shape, fmt in ([] if models else MODELS + (FULL if args.full else [])):
            path = pathlib.Path(home) / f'{shape}-{fmt}.gguf'
            subprocess.run([lab, 'make', '--shape', shape, '--format', fmt, path], check=True)
            models.append((f'{shape} {fmt}', path))
        results = measure(lab, models, levels, args)
    rows = summary(results)
    print_table(rows)
    said = {} if args.no_kernels else kernels(args.build, levels)
    for text in said.values():
        print(text, end='')
    if args.json:
        every = [{'model': name, 'who': who, 'rounds': rounds} for (name, who), rounds in results.items()]
        args.json.write_text(json.dumps({'machine': here, 'medians': rows, 'measured': every, 'kernels': said},
                                        indent=1) + '\n')


if __name__ == '__main__':
    main()
