#!/usr/bin/env python3
"""What each way of training bits is worth: small models of every kind, each over five seeds; the tables of docs/ablation.md.

    ablation.py [--quick] [--build DIR] [--work DIR] [--jobs N] [--seeds N] [--only PART]...
                [--page FILE]

All models learn the same rows of home commands with the same shape and number of steps, by onebit-train's defaults but for what a
row of a table names. The loss is that of rows from templates held back, in nats a token of the answers; exact is the share
of those rows that is answered to the letter. An hour of one core. What is done is kept in DIR (--work) after each
training, so the same command goes on where it was stopped. Without --page the tables go to standard output."""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import typing

from page import replaced, table
from run import ROOT, machine

SHAPE = {'layers': 3, 'width': 128, 'ff': 384, 'heads': 2, 'kv-heads': 1, 'ctx': 128, 'batch': 32, 'steps': 300}
ROWS, HELD, TOKENS = 40000, 1000, 1024
QUICK = {'shape': {'layers': 1, 'ff': 128, 'batch': 4, 'steps': 4}, 'rows': 400, 'held': 8, 'tokens': 400}
FREE = ('OPENBLAS_CORETYPE', 'OPENBLAS_L2_SIZE')  # another CPU's kernels, which some machines ask for, take twice as long


class Case(typing.NamedTuple):
    part: str
    how: str    # for the table
    words: str  # options; {half} stands for half the steps
    first: typing.Optional[str] = None  # options of a training whose weights this one begins with
    whole: bool = False                 # each of the two has all the steps; else each has half of them
    more: int = 1                       # times the steps


FLOAT, INT8 = '--weights float', '--activations int8'
BITS = '--weights binary --activations binary'
SMOOTH = '--ste-activations smooth --smooth'


def weights_cases(kind):
    words = f'--weights {kind} {INT8}'
    return [Case(kind, 'hard', words),
            Case(kind, 'clip', f'{words} --ste-weights clip'),
            Case(kind, 'smooth, k = 1/2', f'{words} --ste-weights smooth --smooth 0.5'),
            Case(kind, 'smooth, k = 1', f'{words} --ste-weights smooth --smooth 1'),
            Case(kind, 'hard, half the rate', f'{words} --rate 1e-3'),
            Case(kind, 'hard, twice the rate', f'{words} --rate 4e-3'),
            Case(kind, 'hard, random rounding', f'{words} --stochastic'),
            Case(kind, 'hard, the second half, after float weights', words, f'{FLOAT} {INT8}'),
            Case(kind, 'hard, all steps, after as many with float weights', words, f'{FLOAT} {INT8}', True)]


CASES = [
    Case('activations', 'float weights, float', f'{FLOAT} --activations float'),
    Case('activations', 'float weights, int8', f'{FLOAT} {INT8}'),
    Case('activations', 'float weights, binary', f'{FLOAT} --activations binary'),
    Case('activations', 'ternary weights, float', '--weights ternary --activations float'),
    Case('activations', 'ternary weights, int8', f'--weights ternary {INT8}'),
    Case('activations', 'ternary weights, binary', '--weights ternary --activations binary'),
    Case('activations', 'binary weights, float', '--weights binary --activations float'),
    Case('activations', 'binary weights, int8', f'--weights binary {INT8}'),
    Case('activations', 'binary weights, binary', BITS),
    *weights_cases('binary'), *weights_cases('ternary'),
    Case('signs', 'hard', BITS),
    Case('signs', 'clip', f'{BITS} --ste-activations clip'),
    Case('signs', 'smooth, k = 1', f'{BITS} {SMOOTH} 1'),
    Case('signs', 'smooth, k = 2', f'{BITS} {SMOOTH} 2'),
    Case('signs', 'smooth, k = 4', f'{BITS} {SMOOTH} 4'),
    Case('signs', 'smooth, k = 2, half the rate', f'{BITS} {SMOOTH} 2 --rate 1e-3'),
    Case('signs', 'smooth, k = 2, twice the rate', f'{BITS} {SMOOTH} 2 --rate 4e-3'),
    Case('signs', 'smooth, k = 2, four times the rate', f'{BITS} {SMOOTH} 2 --rate 8e-3'),
    Case('signs', 'hard, twice the rate', f'{BITS} --rate 4e-3'),
    Case('signs', 'smooth, k = 2, half the steps to warm up', f'{BITS} {SMOOTH} 2 --warmup {{half}}'),
    Case('signs', 'smooth, k = 2, the second half, after int8 activations', f'{BITS} {SMOOTH} 2', f'--weights binary {INT8}'),
    Case('signs', 'smooth, k = 2, all steps, after as many with int8 activations', f'{BITS} {SMOOTH} 2',
         f'--weights binary {INT8}', True),
    Case('signs', 'smooth, k = 2, twice the rate, all steps, after as many with int8 activations', f'{BITS} {SMOOTH} 2 --rate 4e-3',
         f'--weights binary {INT8}', True),
    Case('signs', 'smooth, k = 2, twice the rate, twice the steps', f'{BITS} {SMOOTH} 2 --rate 4e-3', more=2),
    Case('signs', 'smooth, k = 2, twice the steps', f'{BITS} {SMOOTH} 2', more=2),
    Case('signs', 'smooth, k = 2, twice the rate, four times the steps', f'{BITS} {SMOOTH} 2 --rate 4e-3', more=4),
    Case('signs', 'int8 activations, to compare', f'--weights binary {INT8}'),
    Case('signs', 'int8 activations, four times the steps', f'--weights binary {INT8}', more=4),
    Case('signs', 'smooth, k = 2, twice the feed-forward width', f'{BITS} {SMOOTH} 2 --ff 768'),
]
PARTS = list(dict.fromkeys(case.part for case in CASES))


class Training(typing.NamedTuple):
    words: str
    steps: int
    seed: int
    first: typing.Optional['Training'] = None


def training_of(case, steps, seed):
    if not case.first:
        return Training(case.words.format(half=steps // 2), steps * case.more, seed)
    each = steps if case.whole else steps // 2
    return Training(case.words, each, seed, Training(case.first, each, seed))


class Bench:
    """A folder with rows, a vocabulary, and what has come of each training so far."""

    def __init__(self, args):
        self.trainer, self.home = args.build.resolve() / 'train/onebit-train', args.work
        self.quick = QUICK if args.quick else {}
        self.shape = {**SHAPE, **self.quick.get('shape', {})}
        self.env = {name: value for name, value in os.environ.items() if name not in FREE}
        self.kept, self.lock = self.home / 'results.json', threading.Lock()
        self.results = json.loads(self.kept.read_text()) if self.kept.exists() else {}

    def said(self, *words):
        done = subprocess.run([self.trainer, *map(str, words)], capture_output=True, text=True, env=self.env)
        if done.returncode != 0:
            sys.exit(f'onebit-train {" ".join(map(str, words))}: exit {done.returncode}: {done.stderr}')
        return done.stdout + done.stderr

    def prepare(self):
        if not self.trainer.exists():
            sys.exit(f'{self.trainer} is not built')
        grammar = ROOT / 'train/commands/grammar'
        rows, held = self.quick.get('rows', ROWS), self.quick.get('held', HELD)
        self.home.mkdir(parents=True, exist_ok=True)
        self.data, self.held, self.words = (self.home / name for name in ('rows.jsonl', 'held.jsonl', 'words.gguf'))
        self.said('commands', '--grammar', grammar, '--count', rows, '--seed', 1, '--split', 'train', '-o', self.data)
        self.said('commands', '--grammar', grammar, '--count', held, '--seed', 2, '--split', 'valid', '-o', self.held)
        self.said('tokenizer', '--data', self.data, '--out', self.words, '--size', self.quick.get('tokens', TOKENS))
        digest = hashlib.sha256()
        for file in (self.data, self.held, self.words):
            digest.update(file.read_bytes())
        self.hash = digest.hexdigest()[:16]

    def key(self, training):
        return hashlib.sha256(repr((self.hash, sorted(self.shape.items()), training)).encode()).hexdigest()[:16]

    def checkpoint(self, training):
        return self.home / f'{self.key(training)}.ck'

    def keep(self, key, result):
        with self.lock:
            self.results[key] = result
            new = self.kept.with_suffix('.new')
            new.write_text(json.dumps(self.results, indent=1))
            new.replace(self.kept)

    def train(self, training, goes_on):
        """One training, unless its result is there, and its checkpoint where another one goes on with it."""
        key, keep = self.key(training), self.checkpoint(training)
        if key in self.results and (keep.exists() or not goes_on):
            return
        out = self.home / f'{key}.gguf'
        words = [word for name, value in self.shape.items() for word in (f'--{name}', value)]
        words += [*training.words.split(), '--steps', training.steps, '--seed', training.seed, '--threads', 1]
        words += ['--checkpoint', keep, '--checkpoint-every', 0] if goes_on else []
        words += ['--from', self.checkpoint(training.first)] if training.first else []
        said = self.said('model', '--tokenizer', self.words, '--data', self.data, '--valid', self.held, '--skip-long',
                         '--valid-every', 0, '--out', out, *words)
        loss = re.search(r'held back: loss ([\d.]+)', said)
        exact = re.search(r'exact +\d+ of \d+, ([\d.]+) %', self.said('score', out, self.held, '--threads', 1))
        out.unlink()
        self.keep(key, {'loss': float(loss[1]), 'exact': float(exact[1]), 'what': str(training),
                        'kernels': re.search(r'kernels for (\S+)', said)[1]})
        # in one piece: trainings run beside each other
        sys.stderr.write(f'{training.words} --seed {training.seed}: loss {loss[1]}, exact {exact[1]} %\n')

    def run(self, trainings, jobs):
        """All of them, those first that others go on with."""
        firsts = {t.first for t in trainings if t.first}
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda t: self.train(t, True), sorted(firsts, key=str)))
            list(pool.map(lambda t: self.train(t, False), [t for t in dict.fromkeys(trainings) if t not in firsts]))


def spread(values, digits):
    deviation = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.{digits}f}{deviation}'


def results_of(bench, part, seeds):
    """Of each case of this part, those of every seed."""
    return [(case, [bench.results[bench.key(training_of(case, bench.shape['steps'], seed))] for seed in seeds])
            for case in CASES if case.part == part]


def table_of(found):
    rows = []
    for case, results in found:
        rows.append([case.how, spread([r['loss'] for r in results], 3), spread([r['exact'] for r in results], 1)])
    return table(['what', 'loss', 'exact, %'], rows)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='a few steps of smaller models: does it work?')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--work', type=pathlib.Path, help='where results stay')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time, of a thread each')
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--only', action='append', choices=PARTS)
    parser.add_argument('--page', type=pathlib.Path, help='whose marked parts are written')
    return parser.parse_args()


def main():
    args = arguments()
    parts, seeds = args.only or PARTS, range(1, args.seeds + 1)
    with tempfile.TemporaryDirectory(prefix='onebit-ablation-') as home:
        args.work = args.work or pathlib.Path(home)
        bench = Bench(args)
        bench.prepare()
        bench.run([training_of(case, bench.shape['steps'], seed) for seed in seeds for case in CASES if case.part in parts], args.jobs)
        for part in parts:
            found = results_of(bench, part, seeds)
            text = table_of(found)
            if args.page:
                page = args.page.read_text(encoding='utf-8')
                kernels = ', '.join(sorted({r['kernels'] for _, results in found for r in results}))
                named = f"{len(seeds)} seeds, on {machine()['cpu']} with OpenBLAS's kernels for {kernels}"
                args.page.write_text(replaced(page, part, f'{named}.\n\n{text}'), encoding='utf-8')
            else:
                print(f'{part}\n\n{text}\n')


if __name__ == '__main__':
    main()
