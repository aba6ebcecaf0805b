#!/usr/bin/env python3
"""What a pause costs the next request's first token, and what keeping a small model in the last-level cache meanwhile
could win at most. Prints medians; asserts nothing.

    idle.py [--runs N] [--pause SECONDS] [--walk MIB] [--model FILE] [--build DIR] [--json FILE]

A daemon of its own runs with the model, and a client asks for one token after a prompt of its own (nothing of it is
known). The cases take turns:
  at once    right after another request
  paused     after a pause in which nothing else runs
  walked     after a pause at whose end another process has walked through so much memory: caches hold nothing of ours
  touched    the same walk, then the smallest request, then at once the one that is timed: all that keeping weights,
             tables and threads warm could win, and more
What a keeper of the cache could win is `walked` less `touched` (`paused` less `at once` where nobody else runs)."""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

from run import ROOT, machine, use_daemon_of

WALKER = """
import sys
block = bytearray(int(sys.argv[1]) << 20)
for line in sys.stdin:
    for _ in range(3):
        block[::64] = bytes(len(block) // 64)
    print('walked', flush=True)
"""


class Walker:
    """A process that fills the caches with its own memory when it is told to."""

    def __init__(self, mib):
        self.process = subprocess.Popen([sys.executable, '-c', WALKER, str(mib)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def walk(self):
        self.process.stdin.write('\n')
        self.process.stdin.flush()
        self.process.stdout.readline()

    def end(self):
        self.process.communicate()


class Asker:

    def __init__(self, daemon):
        from harness import Peer
        self.peer, self.n = Peer(daemon), 0

    def first_token(self, prompt):
        """Seconds to the only token of the answer."""
        self.n += 1
        start = time.perf_counter()
        self.peer.send({'type': 'generate', 'id': self.n, 'prompt': prompt, 'max_tokens': 1, 'ignore_eos': True,
                        'no_cache': True})
        took, frame = None, None
        while frame is None or frame['type'] not in ('done', 'error'):
            frame = self.peer.receive()
            if frame['type'] == 'delta' and took is None:
                took = time.perf_counter() - start
        if took is None:
            sys.exit(f'no token came: {frame}')
        return took


def one(case, asker, walker, args):
    if case != 'at once':
        time.sleep(args.pause)
    if case in ('walked', 'touched'):
        walker.walk()
    if case in ('at once', 'touched'):
        asker.first_token('x')
    return asker.first_token(f'turn on the lamp number {asker.n} in the kitchen and tell me')


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=100, help='times each case is measured')
    parser.add_argument('--pause', type=float, default=0.5)
    parser.add_argument('--walk', type=int, default=128, help='MiB; several times the last-level cache')
    parser.add_argument('--model', type=pathlib.Path, default=ROOT / 'models/home-q1_0.gguf')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path)
    args = parser.parse_args()
    if args.runs < 1 or args.pause < 0 or args.walk < 1:
        parser.error('--runs and --walk want at least 1, --pause at least 0')
    return args


def main():
    args = arguments()
    use_daemon_of(args.build)
    from harness import Daemon
    where, walker = machine(), Walker(args.walk)
    rows = {case: [] for case in ('at once', 'paused', 'walked', 'touched')}
    with Daemon(models=[args.model]) as daemon:
        asker = Asker(daemon)
        for _ in range(5):
            asker.first_token('x')  # loaded and packed now
        for _ in range(args.runs):
            for case, times in rows.items():
                times.append(one(case, asker, walker, args) * 1e3)
        asker.peer.close()
    walker.end()
    print(', '.join(f'{k} {v}' for k, v in where.items()))
    print(f"{'first token':<12} {'median ms':>10} {'quartiles':>16}   {args.runs} times each, pause {args.pause} s")
    for case, times in rows.items():
        low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
        print(f'{case:<12} {median:>10.3f} {low:>8.3f}{high:>8.3f}')
    if args.json:
        args.json.write_text(json.dumps({'machine': where, 'ms': rows}, indent=1) + '\n')


if __name__ == '__main__':
    main()
