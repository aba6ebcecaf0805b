#!/usr/bin/env python3
"""Feeds bent model files to onebit-lab, one process a file: most to generate, half of those with float weights and some
others to quantize. Each must be answered from, or come out as another file, or be refused: exit 0, 65 or 69, no signal,
no hang, and never more memory, or a larger file, than the file's size plus 64 MiB.

    run.py [--files N] [--from N] [--jobs N] [--build DIR] [--keep DIR] [--only IDENTITY] [--list]

A file's identity is BASE+OTHER:NUMBER: the sound file it was made from, the one it may be spliced with, and the number
that decides how. --only makes one file again and shows how it ends; --keep leaves it (or every file that failed) in DIR.
--from starts at another number: ./dev test runs another range than a full run. The sound files are those that
`onebit-lab make` writes in tiny shapes, one in every format, those in tests/fuzz/corpus/gguf and models/, and the
reference models of ../shared where they are present. A full run is --files 10000."""
import argparse
import collections
import concurrent.futures
import json
import math
import multiprocessing
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from gguf import parse
from mutate import Dice, mutate

SOURCE = pathlib.Path(os.environ.get('ONEBIT_SOURCE') or pathlib.Path(__file__).resolve().parents[2]).resolve()
SHARED = pathlib.Path(os.environ.get('ONEBIT_SHARED') or SOURCE / '../shared')
SANITIZED = os.environ.get('ONEBIT_SANITIZED') == '1'  # its shadow memory is no memory of ours
SPARE = 64 << 20  # bytes of memory beyond the file's size
SECONDS = 300 if SANITIZED else 60
BASE_MAX = 8 << 20  # bytes of a sound file
GOOD = {0: 'done', 65: 'malformed', 69: 'unsupported'}
FLOATS = (0, 1, 30)  # F32, F16, BF16
TARGETS = ['Q1_0', 'Q2_0', 'PQ2_0', 'TQ1_0', 'TQ2_0', 'I2_S', 'IQ2_BN', 'Q4_0', 'Q8_0', 'F16', 'BF16', 'F32']
CHAT = [{'role': 'user', 'content': 'hi there'}]

Ended = collections.namedtuple('Ended', 'code signal late kib ms said')


class Runner:
    """One small process that starts the others: tests/mutate/mutate_run.c."""

    def __init__(self, program, home):
        self.said = pathlib.Path(home) / f'said-{os.getpid()}'
        self.process = subprocess.Popen([program, str(SECONDS), self.said], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def run(self, bound, *words):
        self.process.stdin.write('\t'.join(map(str, (bound, *words))) + '\n')
        self.process.stdin.flush()
        numbers = self.process.stdout.readline().split()
        if len(numbers) != 5:
            raise RuntimeError('the runner has ended')
        return Ended(*map(int, numbers), self.said.read_bytes()[-2000:].decode(errors='replace'))


# ---- sound files ----

def listed(lab, *words):
    """The names that `make` lists when it is given one that it does not know."""
    said = subprocess.run([lab, 'make', *words, '/dev/null'], capture_output=True, text=True).stderr.splitlines()[0]
    found = re.search(r'\((.+)\)|none of (.+)$', said)
    return [name.strip() for name in (found[1] or found[2]).split(',')] if found else []


def make(lab, path, shape, fmt, *more):
    """The file, or None where the shape has no whole blocks of that format."""
    done = subprocess.run([lab, 'make', '--shape', shape, '--format', fmt, *more, path], capture_output=True, text=True)
    assert done.returncode in (0, 64, 69), f'make {shape} {fmt}: exit {done.returncode}: {done.stderr}'
    return path if done.returncode == 0 else None


def made(lab, home, jobs):
    shapes = [s for s in listed(lab, '--shape', '?', '--format', 'F32') if s.startswith('tiny')]
    formats = listed(lab, '--shape', shapes[0], '--format', '?') if shapes else []
    assert shapes and len(formats) > 5, f'make offers {shapes} in {formats}'
    pairs = [(s, f) for s in shapes for f in formats]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        found = [p for p in pool.map(lambda x: make(lab, home / f'{x[0]}-{x[1]}.gguf', *x), pairs) if p]
    for fmt, activations in (('Q1_0', 'binary'), ('I2_S', 'binary'), ('F32', 'int8')):
        found.append(make(lab, home / f'tiny-{fmt}-{activations}.gguf', 'tiny', fmt, '--activations', activations))
    assert len(found) >= len(formats), f'make writes {len(found)} of {len(pairs)} tiny models'
    return found


def bases(lab, home, jobs):
    """name -> path, in a fixed order"""
    found = {p.stem: p for p in made(lab, home, jobs)}
    for folder, prefix in ((SOURCE / 'tests/fuzz/corpus/gguf', 'corpus-'), (SOURCE / 'models', 'model-'),
                           (SHARED / 'oracle/logits', 'oracle-')):
        found.update({prefix + p.stem: p for p in sorted(folder.glob('*.gguf')) if p.stat().st_size < BASE_MAX})
    return found


# ---- one file ----

def has_floats(parsed):
    """Is there a matrix that could be quantized?"""
    return any(t.kind in FLOATS and len(t.dims) == 2 and t.dims[1] > 1 for t in parsed.tensors)


def is_for_quantize(identity, floats):
    return ':' in identity and Dice('verb ' + identity).chance(2 if floats else 8)


def quantize(lab, path, identity, home, floats):
    """Floats into one of the formats, the others into a copy; now and then the other way round."""
    dice = Dice('quantize ' + identity)
    words = [lab, 'quantize', path, home / f'out-{os.getpid()}.gguf', '--json']
    if floats != dice.chance(8):
        words += ['--format', dice.pick(TARGETS)] + dice.pick([[], [], ['--head', dice.pick(TARGETS)]])
    else:
        words += ['--plan', home / 'keep']
    return words


def command(lab, path, identity, home, chats):
    """A generation, begun in one of the ways there are."""
    dice = Dice('how ' + identity)
    begin = dice.pick([('--ids', '1,2,3'), ('--ids', '1,2,3'), ('--prompt', 'the other lights 42'),
                       ('--chat', home / 'chat') if chats else ('--prompt', '\u00e9 \U0001f600')])
    if ':' not in identity:
        begin = '--ids', '1,2,3'
    words = [lab, 'generate', path, *begin, '-n', 4, '--json', '--ignore-eos', '--threads', 1]
    words += dice.pick([(), (), ('--kv', 'f32'), ('--chunk', 1), ('--cpu', 'scalar'), ('--temperature', 1, '--top-k', 5)])
    return words


def fault_of(ended, size):
    if ended.late:
        return f'does not end within {SECONDS} seconds'
    if ended.signal:
        return f'signal {ended.signal}'
    if ended.code not in GOOD:
        return f'exit {ended.code}'
    if not SANITIZED and ended.kib * 1024 > size + SPARE:
        return f'{ended.kib / 1024:.1f} MiB for a file of {size / 1048576:.1f} MiB'
    if ended.code and not ended.said.startswith('onebit-lab: '):
        return f'exit {ended.code} without a reason'
    return None


class Work:
    """What a worker process keeps between files."""

    def __init__(self, args, home, found):
        self.args, self.home, self.found = args, home, found
        self.runner = self.path = None
        self.sound = {}

    def load(self, name):
        if name not in self.sound:
            data = self.found[name].read_bytes()
            self.sound[name] = data, parse(data)
        return self.sound[name]

    def bent(self, identity):
        names, _, _ = identity.rpartition(':')
        base, other = names.split('+')
        data, parsed = self.load(base)
        return mutate(data, self.load(other)[0], identity, parsed)

    def judge(self, identity):
        """(identity, how it ended, what is wrong with that or None)"""
        if not self.runner:
            self.runner = Runner(self.args.runner, self.home)
            self.path = self.home / f'bent-{os.getpid()}.gguf'
        data = self.bent(identity) if ':' in identity else self.load(identity)[0]
        self.path.write_bytes(data)
        floats = has_floats(self.load(identity.partition('+')[0])[1])
        if is_for_quantize(identity, floats):
            words = quantize(self.args.lab, self.path, identity, self.home, floats)
        else:
            words = command(self.args.lab, self.path, identity, self.home, b'tokenizer.chat_template' in data)
        ended = self.runner.run(len(data) + SPARE, *words)
        fault = fault_of(ended, len(data)) or self.left(words[1], ended)
        if fault is None and ':' not in identity and ended.code == 65:
            fault = 'a sound file counts as malformed'
        if self.args.keep and (fault or self.args.only):
            (self.args.keep / (identity.replace('/', '_') + '.gguf')).write_bytes(data)
        return identity, ended, fault, len(data), ' '.join(map(str, words)), words[1]

    def left(self, verb, ended):
        """A quantization that is done leaves its file, and nothing else leaves any."""
        name = f'out-{os.getpid()}.gguf'
        found = [p for p in self.home.iterdir() if p.name.startswith(name)]
        for p in found:
            p.unlink()
        if [p.name for p in found] == ([name] if verb == 'quantize' and ended.code == 0 else []):
            return None
        return f'exit {ended.code} leaves {len(found)} files'


work = None  # of this process; workers inherit it


def judge(identity):
    return work.judge(identity)


# ---- all of them ----

def identities(names, begin, n):
    """Sound files in turn, each with another partner every time."""
    for i in range(begin, begin + n):
        base, turn = i % len(names), i // len(names)
        yield f'{names[base]}+{names[(base + 1 + turn * 7) % len(names)]}:{i}'


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--files', type=int, default=500)
    parser.add_argument('--from', type=int, default=0, dest='begin')
    parser.add_argument('--jobs', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--build', type=pathlib.Path, default=os.environ.get('ONEBIT_BUILD') or SOURCE / 'build')
    parser.add_argument('--keep', type=pathlib.Path)
    parser.add_argument('--only')
    parser.add_argument('--list', action='store_true', help='the sound files, and how each is met')
    args = parser.parse_args()
    args.build = args.build.resolve()
    args.lab, args.runner = args.build / 'engine/onebit-lab', args.build / 'tests/mutate/mutate_run'
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    return args


def summary(results, seconds):
    ends = collections.Counter((r[5], GOOD[r[1].code]) for r in results if not r[2])
    most = max(results, key=lambda r: r[1].kib * 1024 - r[3])
    slow = max(results, key=lambda r: r[1].ms)
    print(f'most memory: {most[1].kib / 1024:.1f} MiB for {most[3] / 1048576:.1f} MiB ({most[0]}); '
          f'slowest: {slow[1].ms / 1000:.1f} s ({slow[0]}); {seconds:.0f} s in all')
    for verb in ('generate', 'quantize'):
        print(f'{verb}: ' + ', '.join(f'{n} {word}' for (v, word), n in sorted(ends.items()) if v == verb))
    return ends


def judged(pool, wanted):
    for result in pool.imap_unordered(judge, wanted, chunksize=4):
        if result[2]:
            print(f'FAULT {result[0]}: {result[2]}: {result[1].said.partition(chr(10))[0][-300:]}', flush=True)
        yield result


def run_all(args, found):
    """First the sound files as they are; then, of those that can be answered, bent ones."""
    begin = time.monotonic()
    with multiprocessing.get_context('fork').Pool(args.jobs) as pool:
        sound = sorted(judged(pool, list(found)), key=lambda r: list(found).index(r[0]))
        if args.list:
            for name, ended, fault, size, *_ in sound:
                print(f'{name}: {size} bytes: {fault or GOOD[ended.code]} {ended.said.strip()[-120:]}')
            return any(r[2] for r in sound)
        names = [r[0] for r in sound if r[1].code == 0]
        bent = list(judged(pool, list(identities(names, args.begin, args.files))))
    ends = summary(bent, time.monotonic() - begin)
    faults = [r[0] for r in sound + bent if r[2]]
    print(f'{len(bent)} files made from {len(names)}, {len(found) - len(names)} sound ones cannot be read; '
          f'{len(faults)} faults')
    if faults:
        print(f'one again: {sys.argv[0]} --keep . --only {faults[0]}')
    for verb in ('generate', 'quantize'):
        n = sum(count for (v, _), count in ends.items() if v == verb)
        if not all(ends[verb, word] * 5 > n for word in ('done', 'malformed')):
            print(f'FAULT: too few of the files for {verb} are sound, or too few are not')
            faults.append(verb)
    return bool(faults)


def run_one(args):
    _, ended, fault, size, words, _ = work.judge(args.only)
    print(words)
    print(f'{size} bytes: exit {ended.code}, signal {ended.signal}, {ended.kib / 1024:.1f} MiB, {ended.ms} ms')
    print(ended.said.strip())
    print(f'FAULT {fault}' if fault else 'as it should be')
    return bool(fault)


def main():
    global work
    args = options()
    with tempfile.TemporaryDirectory(prefix='onebit-mutate-') as home:
        home = pathlib.Path(home)
        (home / 'chat').write_text(json.dumps(CHAT), encoding='utf-8')
        (home / 'keep').write_text('* keep\n', encoding='utf-8')
        found = bases(args.lab, home, args.jobs)
        work = Work(args, home, found)
        return run_one(args) if args.only else run_all(args, found)


if __name__ == '__main__':
    sys.exit(main())
