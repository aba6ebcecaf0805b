#!/usr/bin/env python3
"""How long a daemon takes from its start until it is ready with a pinned model, until a first token, and how long a first token
takes then. The packed file is there, as on every start but the first. Prints medians; asserts nothing.

    warm_start.py [--runs N] [--models DIR] [--build DIR] [--weights shared|private|auto]... [--json FILE] [--markdown FILE] [MODEL...]

Two starts take turns: `cold`, with nothing of programs, libraries and models in the page cache (dropped by
/proc/sys/vm/drop_caches, as root; else by posix_fadvise() the models' files alone), and `warm`, right after another.
MODEL: home, bonsai or bitnet; all of them without any. Made models (random weights in the real shapes) and caches lie in
--models, which must be on the disk that is meant: a folder in memory has nothing to drop. Beside each cold start stands how long
plain reading of its packed file takes, with nothing of it in the page cache."""
import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from run import ROOT, machine, use_daemon_of, workbench_of
from figures import median

MODELS = {'home': ('shipped command model, Q1_0', None), 'bonsai': ('1.7B Q1_0', ('bonsai-1.7b', 'Q1_0')),
          'bitnet': ('2B4T TQ2_0, f16 head', ('bitnet-2b', 'TQ2_0'))}
DROP = pathlib.Path('/proc/sys/vm/drop_caches')
CHUNK = 1 << 20
ASK = {'type': 'generate', 'ids': list(range(5, 21)), 'max_tokens': 1, 'ignore_eos': True, 'temperature': 0.0, 'cache': False,
       'deadline_ms': 600000}


def drop(files):
    """Nothing of these in the page cache; of anything, where we may. What was done."""
    os.sync()
    try:
        DROP.write_text('3')
        return 'drop_caches'
    except OSError:
        for path in files:
            with open(path, 'rb') as f:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return 'posix_fadvise'


def read_ms(path):
    begin = time.monotonic()
    with open(path, 'rb', buffering=0) as f:
        while f.read(CHUNK):
            pass
    return (time.monotonic() - begin) * 1000


class Start:
    """A folder with one model and its cache, and daemons in it, one after the other."""

    def __init__(self, home, gguf, weights):
        from harness import Daemon
        self.d = Daemon(models=[ROOT / 'models/home-q1_0.gguf'], config=f'[engine]\nweights = {weights}\n[model m]\npinned = yes\n')
        self.d.clean()  # its folder, which lies elsewhere
        self.d.home = pathlib.Path(tempfile.mkdtemp(prefix='warm-start-', dir=home))
        self.d.log = open(self.d.home / 'log', 'w+b')
        config = f'[engine]\nweights = {weights}\n[model m]\npinned = yes\n'
        for name in ('models', 'cache', 'sessions'):
            setattr(self.d, name, self.d.home / name)
            getattr(self.d, name).mkdir()
        self.d.socket, self.d.config = self.d.home / 'socket', self.d.home / 'onebit.conf'
        self.d.config.write_text(config)
        os.link(gguf, self.d.models / 'm.gguf')

    def files(self):
        return [*self.d.models.iterdir(), *self.d.cache.glob('*.pack')]

    def pack(self):
        return next(self.d.cache.glob('*.pack'))

    def run(self):
        """One daemon, from its start to its end: milliseconds {ready, first, next}."""
        from harness import PATIENCE, Peer
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.d.home / 'notify'
        path.unlink(missing_ok=True)
        ready.bind(str(path))
        ready.settimeout(PATIENCE * 20)
        begin = time.monotonic()
        self.d.process = subprocess.Popen(self.d.command(), stdin=subprocess.DEVNULL, stdout=self.d.log, stderr=self.d.log,
                                          env={**os.environ, 'NOTIFY_SOCKET': str(path)})
        while b'READY=1' not in ready.recv(4096):
            pass
        found = {'ready': (time.monotonic() - begin) * 1000}
        with Peer(self.d) as peer:
            peer.s.settimeout(PATIENCE * 20)
            for number, name in enumerate(('first', 'next', 'third'), 1):
                asked = time.monotonic()
                peer.send({**ASK, 'id': number})
                end = peer.until_end(number)[-1]
                if end['type'] != 'done':
                    sys.exit(f'no answer: {end}')
                found[name] = (time.monotonic() - (begin if name == 'first' else asked)) * 1000
        ready.close()
        self.d.process.terminate()
        self.d.process.wait()
        return found

    def clean(self):
        self.d.clean()


def model_of(args, name):
    named, shape = MODELS[name]
    if not shape:
        path = args.models / 'home-q1_0.gguf'  # beside the caches: a link is no copy
        if not path.exists():
            shutil.copy(ROOT / 'models/home-q1_0.gguf', path)
        return path
    path = args.models / f'{shape[0]}-{shape[1]}.gguf'
    if not path.exists():
        subprocess.run([workbench_of(args.build), 'make', '--shape', shape[0], '--format', shape[1], path], check=True)
    return path


def measure(args, name, weights):
    start = Start(args.models, model_of(args, name), weights)
    found = {'cold': [], 'warm': [], 'read': []}
    try:
        start.run()  # packs, and measures threads
        time.sleep(1)
        for number in range(args.runs):
            print(f'{name}, {weights}: {number + 1} of {args.runs}', file=sys.stderr, flush=True)
            how = drop(start.files())
            found['read'].append(read_ms(start.pack()))
            drop(start.files())
            found['cold'].append(start.run())
            found['warm'].append(start.run())
        bytes_ = start.pack().stat().st_size
    finally:
        start.clean()
    figures = {kind: {key: median([run[key] for run in found[kind]]) for key in found[kind][0]} for kind in ('cold', 'warm')}
    return {'model': MODELS[name][0], 'weights': weights, 'bytes': bytes_, 'read_ms': median(found['read']), 'dropped_by': how,
            **figures, 'rounds': found}


def lines(rows):
    def ms(x):
        return f'{x:.0f} ms' if x >= 10 else f'{x:.1f} ms'
    yield ('| Model | Weights | Packed file | Read it, cold | Cold: ready | Cold: first token | Warm: ready | Warm: first token | '
           'Next first token |')
    yield '|---|---|---|---|---|---|---|---|---|'
    for r in rows:
        yield (f"| {r['model']} | {r['weights']} | {r['bytes'] / 1e6:.1f} MB | {ms(r['read_ms'])} | {ms(r['cold']['ready'])} | "
               f"{ms(r['cold']['first'])} | {ms(r['warm']['ready'])} | {ms(r['warm']['first'])} | {ms(r['warm']['next'])} |")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--models', type=pathlib.Path, help='where made models stay')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--weights', action='append', choices=['shared', 'private', 'auto'])
    parser.add_argument('--json', type=pathlib.Path)
    parser.add_argument('--markdown', type=pathlib.Path)
    parser.add_argument('model', nargs='*', choices=[*MODELS, []])
    return parser.parse_args()


def main():
    args = arguments()
    use_daemon_of(args.build)
    with tempfile.TemporaryDirectory(prefix='onebit-warm-') as home:
        args.models = args.models or pathlib.Path(home)
        args.models.mkdir(parents=True, exist_ok=True)
        rows = [measure(args, name, weights) for name in args.model or MODELS for weights in args.weights or ['shared', 'private']]
    text = '\n'.join(lines(rows)) + '\n'
    print(text)
    if args.json:
        args.json.write_text(json.dumps({'machine': machine(), 'rows': rows}, indent=1))
    if args.markdown:
        args.markdown.write_text(f'The page cache was dropped by {rows[0]["dropped_by"]}; medians of {args.runs} starts.\n\n{text}')


if __name__ == '__main__':
    main()
