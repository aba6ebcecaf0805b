#!/usr/bin/env python3
"""What each bit of a weight costs: one shape in every width, trained in it or brought to it, then three sizes; the tables and the picture
of docs/what-each-bit-costs.md.

    bits.py [--quick] [--build DIR] [--work DIR] [--steps N] [--sizes NAME,...] [--jobs N] [--publish] [--page FILE]

All models learn the same home commands with the same number of steps. What is done stays in DIR (--work): a model that is finished is
not trained again, one that is not goes on from its checkpoint, so the same command goes on where it was stopped. Without --publish the
tables go to standard output. Some hours of two cores."""
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
import time
import typing

from bits_page import publish, tables
from run import ROOT, machine

SIZES = {'small': {'layers': 2, 'width': 128, 'ff': 256, 'heads': 2, 'kv-heads': 1},
         'middle': {'layers': 4, 'width': 128, 'ff': 512, 'heads': 2, 'kv-heads': 1},
         'large': {'layers': 5, 'width': 256, 'ff': 768, 'heads': 4, 'kv-heads': 2}}
AMOUNTS = {'steps': 1500, 'batch': 64, 'rows': 120000, 'held': 1000, 'timed': 200, 'rounds': 5, 'tokens': 1280, 'calibrate': 32768}
QUICK = {'steps': 3, 'batch': 4, 'rows': 300, 'held': 8, 'timed': 4, 'rounds': 2, 'tokens': 400, 'calibrate': 256}
TINY = {'layers': 1, 'ff': 128}
RATE, CTX = 0.001, 256
FREE = ('OPENBLAS_CORETYPE', 'OPENBLAS_L2_SIZE')  # another CPU's kernels, which some machines ask for, take twice as long


class Kind(typing.NamedTuple):
    name: str
    how: str                            # for the page
    train: typing.Optional[str] = None  # options of a training; else one of the float model's files:
    fmt: typing.Optional[str] = None
    method: str = 'rounding'
    text: bool = False                  # fitted to a text


KINDS = [
    Kind('32-bit', 'trained so', '--weights float --activations float --head float'),
    Kind('16-bit', 'rounded', None, 'F16'),
    Kind('int8', 'rounded', None, 'Q8_0'),
    Kind('int8', 'awq', None, 'Q8_0', 'awq', True),
    Kind('4-bit', 'rounded', None, 'Q4_0'),
    Kind('4-bit', 'gptq', None, 'Q4_0', 'gptq', True),
    Kind('4-bit', 'propagate', None, 'Q4_0', 'propagate', True),
    Kind('ternary', 'trained so', '--weights ternary --activations int8 --head int8'),
    Kind('ternary', 'rounded', None, 'Q2_0'),
    Kind('ternary', 'propagate', None, 'Q2_0', 'propagate', True),
    Kind('binary', 'trained so', '--weights binary --activations int8 --head int8'),
    Kind('binary', 'rounded', None, 'Q1_0'),
    Kind('binary', 'refine, with a text', None, 'Q1_0', 'refine', True),
    Kind('binary', 'propagate', None, 'Q1_0', 'propagate', True),
    Kind('binary, inputs too', 'trained so', '--weights binary --activations binary --head int8 --ste-activations smooth --smooth 2'),
]
FLOAT = KINDS[0]
OF_SIZES = [k for k in KINDS if k.train or (k.name, k.how) == ('binary', 'rounded')]


def say(text):
    """A line for the person, in one piece: trainings run beside each other."""
    sys.stderr.write(text + '\n')


def digest_of(*files):
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class Bench:
    """A folder with rows, a vocabulary, models, and what was found out about each."""

    def __init__(self, args):
        build = args.build.resolve()
        self.trainer, self.lab, self.home = build / 'train/onebit-train', build / 'engine/onebit-lab', args.work
        self.amounts = {**AMOUNTS, **(QUICK if args.quick else {}), **({'steps': args.steps} if args.steps else {})}
        self.sizes = {name: {**SIZES[name], **(TINY if args.quick else {})} for name in args.sizes}
        self.env = {name: value for name, value in os.environ.items() if name not in FREE}
        self.real = None if args.quick else next((p for p in [ROOT.parent / 'shared/commands'] if (p / 'dev.jsonl').exists()), None)
        if not self.real and not args.quick:
            print('REAL DEV SET: SKIPPED, ../shared/commands is not here; its column says -', file=sys.stderr)
        self.kept = self.home / 'results.json'
        self.jobs = args.jobs

    def run(self, program, *words):
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, env=self.env)
        if done.returncode != 0:
            sys.exit(f'{program.name} {" ".join(map(str, words))}: exit {done.returncode}: {done.stderr}')
        return done.stdout + done.stderr

    def prepare(self):
        for program in (self.trainer, self.lab):
            if not program.exists():
                sys.exit(f'{program} is not built')
        self.home.mkdir(parents=True, exist_ok=True)
        self.results = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        names = ('rows.jsonl', 'held.jsonl', 'timed.jsonl', 'words.gguf', 'calibrate.txt')
        self.data, self.held, self.timed, self.words, self.text = (self.home / name for name in names)
        commands = ROOT / 'train/commands'
        learned = ['--keep-out', commands / 'kept-out.txt']  # as models/make.sh has it: nothing that is measured is learned
        for file, seed, split, count, more in ((self.data, 1, 'train', 'rows', learned), (self.held, 2, 'valid', 'held', [])):
            self.run(self.trainer, 'commands', '--grammar', commands / 'grammar', '--count', self.amounts[count], '--seed', seed,
                     '--split', split, *more, '-o', file)
        self.run(self.trainer, 'tokenizer', '--data', self.data, '--out', self.words, '--size', self.amounts['tokens'])
        held = self.held.read_text(encoding='utf-8').splitlines(keepends=True)
        self.timed.write_text(''.join(held[:self.amounts['timed']]), encoding='utf-8')
        rows = [json.loads(row) for row in self.data.read_text(encoding='utf-8').splitlines()[:self.amounts['calibrate'] // 20]]
        self.text.write_text(''.join(f'<|im_start|>user\n{row["prompt"]}<|im_end|>\n<|im_start|>assistant\n{row["answer"]}<|im_end|>\n'
                                     for row in rows), encoding='utf-8')
        self.hash = digest_of(self.data, self.held, self.words)

    # ---- models ----

    def recipe(self, size, kind):
        words = [word for name, value in self.sizes[size].items() for word in (f'--{name}', value)]
        return [*words, '--head-dim', 64, '--ctx', CTX, *kind.train.split(), '--rate', RATE, '--batch', self.amounts['batch'],
                '--steps', self.amounts['steps'], '--seed', 1, '--threads', 1]

    def path(self, size, kind):
        words = [self.hash, *self.recipe(size, FLOAT if kind.fmt else kind), kind.fmt, kind.method]
        key = hashlib.sha256(' '.join(map(str, words)).encode()).hexdigest()[:12]
        return self.home / f'{size}-{re.sub("[^a-z0-9]+", "-", f"{kind.name} {kind.how}")}-{key}.gguf'

    def train(self, size, kind):
        out = self.path(size, kind)
        keep = out.with_suffix('.ck')
        if out.exists():
            return
        say(f'{size}: {kind.name}, {kind.how} ...')
        begin = ['--resume', keep] if keep.exists() else ['--tokenizer', self.words, *self.recipe(size, kind)]
        started = time.monotonic()
        said = self.run(self.trainer, 'model', *begin, '--data', self.data, '--skip-long', '--valid', self.held, '--valid-every', 0,
                        '--checkpoint', keep, '--checkpoint-every', 100, '--report', 100, '--out', out)
        out.with_suffix('.log').write_text(said)
        say(f'{size}: {kind.name}, {kind.how}: {time.monotonic() - started:.0f} s')

    def quantize(self, size, kind):
        out = self.path(size, kind)
        if out.exists():
            return
        words = ['--head', 'F16'] if kind.fmt == 'F16' else ['--method', kind.method]
        words += ['--calibrate', self.text, '--special', '--tokens', self.amounts['calibrate'], '--ctx', CTX] if kind.text else []
        self.run(self.lab, 'quantize', self.path(size, FLOAT), out, '--format', kind.fmt, *words)

    def make(self, wanted):
        """All files: trainings first, the longest ones in front, as many at a time as there are jobs."""
        trained = [(size, kind) for size, kind in wanted if kind.train]
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            try:
                for done in [pool.submit(self.train, *each) for each in trained]:
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)  # what waits is not begun after a failure
                raise
        for size, kind in wanted:
            if kind.fmt:
                self.quantize(size, kind)

    # ---- what they are worth ----

    def on_real_words(self, model):
        """Exact %, by the scorer that came with the set; nothing of it is kept but the figure."""
        if not self.real:
            return None
        with tempfile.TemporaryDirectory(prefix='onebit-bits-') as home:
            out = pathlib.Path(home) / 'answers.jsonl'
            self.run(self.trainer, 'score', model, self.real / 'dev.jsonl', '--prompt', 'text', '--out', out)
            done = subprocess.run([sys.executable, self.real / 'score.py', '--refs', self.real / 'dev.jsonl', '--preds', out, '--json'],
                                  stdout=subprocess.PIPE, check=True)
            return 100 * json.loads(done.stdout)['exact']

    def judge(self, size, kind):
        model = self.path(size, kind)
        key = f'{model.name} {self.real is not None}'
        if key not in self.results:
            info = json.loads(self.run(self.lab, 'info', model, '--json'))
            exact = self.run(self.trainer, 'score', model, self.held)
            told = self.run(self.trainer, 'score', model, self.held, '--perplexity')
            self.results[key] = {
                'size': size, 'kind': kind.name, 'how': kind.how, 'bytes': model.stat().st_size, 'bits': bits_of(info),
                'weights': info['parameters'], 'exact': float(re.search(r'exact +\d+ of \d+, ([\d.]+) %', exact)[1]),
                'real': self.on_real_words(model), 'perplexity': float(re.search(r'perplexity ([\d.]+)', told)[1])}
            fresh = self.kept.with_suffix('.new')
            fresh.write_text(json.dumps(self.results, indent=1))
            fresh.replace(self.kept)
        return dict(self.results[key])

    def times(self, wanted):
        """Medians of ms an answer, all models in turn."""
        found = {each: [] for each in wanted}
        for _ in range(self.amounts['rounds']):
            for size, kind in wanted:
                said = self.run(self.trainer, 'score', self.path(size, kind), self.timed, '--threads', 1, '--kv', 'f16')
                n, seconds = re.search(r'answered +(\d+) in ([\d.]+) s', said).groups()
                found[size, kind].append(1000 * float(seconds) / int(n))
        return {each: statistics.median(values) for each, values in found.items()}


BLOCKS = {'F32': (1, 4), 'F16': (1, 2), 'Q8_0': (32, 34), 'Q4_0': (32, 18), 'Q2_0': (64, 18), 'Q1_0': (128, 18), 'I2_S': (4, 1)}  # weights, bytes


def bits_of(info):
    """Of the layers' matrices, with their scales."""
    matrices = [t for t in info['tensors'] if t['name'].startswith('blk.') and t['rows'] > 1]
    weights = sum(t['columns'] * t['rows'] for t in matrices)
    used = sum(t['columns'] * t['rows'] * 8 * BLOCKS[t['format']][1] / BLOCKS[t['format']][0] for t in matrices)
    return used / weights


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='a few steps of tiny models: does it work?')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--work', type=pathlib.Path, help='where models and results stay')
    parser.add_argument('--steps', type=int, help=f"of each training ({AMOUNTS['steps']})")
    parser.add_argument('--sizes', type=lambda words: words.split(','), default=list(SIZES), help=','.join(SIZES))
    parser.add_argument('--jobs', type=int, default=2, help='trainings at a time, of a thread each')
    parser.add_argument('--publish', action='store_true', help='write the page, its picture and its JSON')
    parser.add_argument('--page', type=pathlib.Path, default=ROOT / 'docs/what-each-bit-costs.md')
    args = parser.parse_args()
    if not set(args.sizes) <= set(SIZES):
        parser.error(f'--sizes: of {",".join(SIZES)}')
    return args


def main():
    args = arguments()
    with tempfile.TemporaryDirectory(prefix='onebit-bits-', dir='/var/tmp') as home:
        args.work = args.work or pathlib.Path(home)
        bench = Bench(args)
        bench.prepare()
        main_size = args.sizes[-1]
        wanted = [(size, kind) for size in reversed(args.sizes) for kind in (KINDS if size == main_size else OF_SIZES)]
        bench.make(wanted)
        load = os.getloadavg()[0]
        results = [bench.judge(*each) for each in wanted]
        for result, ms in zip(results, bench.times(wanted).values()):
            result['ms'] = ms
        found = {'machine': machine(), 'load': [load, os.getloadavg()[0]], 'amounts': bench.amounts, 'main': main_size,
                 'shapes': bench.sizes, 'results': results}
        if args.publish:
            publish(args.page, found)
        else:
            print('\n\n'.join(tables(found).values()))


if __name__ == '__main__':
    main()
