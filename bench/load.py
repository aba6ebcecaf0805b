#!/usr/bin/env python3
"""What the daemon promises to those who share it (`onebit bench load`), on private daemons: one that is fair and
one that serves first come, first served, of the same build and model, in turn.

    load.py [--made] [--shipped] [--rounds N] [--prompt N] [--seconds N] [--cores N] [--build DIR] [--json FILE] [CASE...]

--made: a bonsai-1.7b of random weights in Q1_0 (250 MB in the temporary folder, and up to 4 GB of KV cache for
each daemon). --shipped: the model that comes along; its stream may be 5 ms slower beside others, instead of twice
as slow. Without either, both. CASE: as of `onebit bench load`; without any, all. The exit status is 1 when a
promise was not kept."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from run import ROOT, machine, use_daemon_of

CONFIG = '[engine]\nkv_bytes = 4G\n[scheduler]\nmode = {mode}\n'
SHIPPED_SLACK_MS = 5


def make(build, folder):
    path = pathlib.Path(folder) / 'bonsai.gguf'
    subprocess.run([build / 'engine/onebit-lab', 'make', '--shape', 'bonsai-1.7b', '--format', 'Q1_0', path], check=True)
    return path


def measure(args, model, slack):
    """One run over both daemons: (exit status, what --json says or None)."""
    from harness import CLI, Daemon
    words = ['-r', args.rounds, '--seed', args.seed, '--seconds', args.seconds, *(['--slack', slack] if slack else [])]
    words += ['-p', args.prompt] if args.prompt else []
    words += ['--json'] if args.json else []
    with Daemon([model], config=CONFIG.format(mode='fair')) as fair, \
            Daemon([model], config=CONFIG.format(mode='fifo')) as fifo:
        done = subprocess.run([CLI, 'bench', 'load', '-s', fair.socket, '--against', fifo.socket,
                               *map(str, words), *args.cases], stdout=subprocess.PIPE if args.json else None)
    return done.returncode, json.loads(done.stdout) if args.json and done.stdout else None


def print_promises(said):
    for p in said['promises']:
        figure, bound = (f'{v:.2f}' if v is not None else '-' for v in (p['figure'], p['bound']))
        print(f"{p['name']:<16} {figure:>10} {'>=' if p['at_least'] else '<='} {bound:>10} {p['unit']:<9} {p['verdict']}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--made', action='store_true')
    parser.add_argument('--shipped', action='store_true')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--prompt', type=int, help='tokens of the long prompts (2000, or what the context holds)')
    parser.add_argument('--seconds', type=int, default=20, help='of the mix in each round')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cores', type=int, help='only so many processors, for daemons and load together')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path, help='write everything measured to this file')
    parser.add_argument('cases', nargs='*')
    args = parser.parse_args()
    if not args.made and not args.shipped:
        args.made = args.shipped = True
    if args.rounds < 1 or args.seconds < 1 or (args.cores is not None and args.cores < 1):
        parser.error('--rounds, --seconds and --cores want at least 1')
    return args


def main():
    args = arguments()
    use_daemon_of(args.build)
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.cores])
    where, results, worst = machine(), {}, 0
    print(', '.join(f'{k} {v}' for k, v in where.items()), f"load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(prefix='onebit-load-') as folder:
        models = [('made', make(args.build, folder), None)] if args.made else []
        models += [('shipped', ROOT / 'models/home-q1_0.gguf', SHIPPED_SLACK_MS)] if args.shipped else []
        for name, model, slack in models:
            print(f'\n{name}: {model.name}', flush=True)
            code, said = measure(args, model, slack)
            worst = max(worst, code)
            if said:
                results[name] = said
                print_promises(said)
    if args.json:
        args.json.write_text(json.dumps({'machine': where, 'models': results}, indent=1) + '\n')
    sys.exit(worst)


if __name__ == '__main__':
    main()
