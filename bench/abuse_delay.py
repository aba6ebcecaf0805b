#!/usr/bin/env python3
"""What misbehaving clients cost their neighbours: the time `onebit run` takes, undisturbed and beside each kind of
abuse, in turn. Prints median and longest; asserts nothing but that every answer is right.

    abuse_delay.py [--runs N] [--clients N] [--build DIR] [--json FILE]

A daemon of its own runs in a temporary folder with the shipped model. The abusers live in another process, come back
a moment after they are closed, and are:
  silent      connects and says nothing
  dribble     sends a byte a second
  deaf        asks for a long answer and never reads
  elements    sends dd ff ff ff ff: an array of four billion elements
  gibibyte    announces a frame of 1 GiB"""
import argparse
import json
import multiprocessing
import pathlib
import socket
import statistics
import struct
import sys
import time

from run import ROOT, use_daemon_of

COMMAND = 'turn on the kitchen lights'
ANSWER = {'intent': 'HassTurnOn', 'area': 'kitchen', 'domain': 'light'}
PAUSE = 0.05  # seconds before an abuser that was closed comes back


def frame(pack, message):
    body = pack(message)
    return struct.pack('<I', len(body)) + body


def until_closed(s):
    """Read and drop until the daemon closes, or nothing comes for a while."""
    try:
        while s.recv(65536):
            pass
    except OSError:
        pass


def silent(s, _):
    until_closed(s)


def dribble(s, hello):
    for byte in hello + struct.pack('<I', 1000) + bytes(1000):
        s.sendall(bytes([byte]))
        time.sleep(1)


def deaf(s, hello):
    from harness import pack
    s.sendall(hello)
    s.sendall(frame(pack, {'type': 'generate', 'id': 1, 'prompt': 'x', 'max_tokens': 1000, 'ignore_eos': True}))
    time.sleep(3600)


def elements(s, hello):
    s.sendall(hello + struct.pack('<I', 5) + b'\xdd\xff\xff\xff\xff')
    until_closed(s)


def gibibyte(s, hello):
    s.sendall(hello + struct.pack('<I', 1 << 30) + b'x' * 4096)
    until_closed(s)


ABUSERS = [silent, dribble, deaf, elements, gibibyte]


def abuse(kind, path):
    """One abuser, for ever."""
    from harness import pack
    hello = frame(pack, {'type': 'hello', 'protocol': [1, 0], 'name': 'bench'})
    while True:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            try:
                s.connect(path)
                kind(s, hello)
            except OSError:
                pass
        time.sleep(PAUSE)


def neighbour(daemon, runs):
    """Seconds that each of `runs` answers took; every one must be right."""
    times = []
    for _ in range(runs):
        start = time.monotonic()
        done = daemon.cli('run', COMMAND)
        times.append(time.monotonic() - start)
        if done.returncode != 0 or json.loads(done.stdout) != ANSWER:
            sys.exit(f'a wrong answer: exit {done.returncode}, {done.stdout} {done.stderr}')
    return times


def beside(daemon, kinds, clients, runs):
    """The same while abusers are at it."""
    crowd = [multiprocessing.Process(target=abuse, args=(kinds[i % len(kinds)], str(daemon.socket)), daemon=True)
             for i in range(clients)]
    for one in crowd:
        one.start()
    time.sleep(0.5)
    try:
        return neighbour(daemon, runs)
    finally:
        for one in crowd:
            one.terminate()
        for one in crowd:
            one.join()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=20, help='answers timed in each row')
    parser.add_argument('--clients', type=int, default=8, help='abusers at once')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path)
    args = parser.parse_args()
    if args.runs < 1 or args.clients < 1:
        parser.error('--runs and --clients want at least 1')
    return args


def main():
    args = arguments()
    use_daemon_of(args.build)
    from harness import Daemon
    rows = []
    print(f"{'beside':<12} {'median ms':>10} {'longest ms':>11}   undisturbed just before: median, longest", flush=True)
    with Daemon() as daemon:
        neighbour(daemon, 3)  # the model is loaded and packed now
        for name, kinds in [(k.__name__, [k]) for k in ABUSERS] + [('all of them', ABUSERS)]:
            quiet = neighbour(daemon, args.runs)
            loud = beside(daemon, kinds, args.clients, args.runs)
            rows.append({'beside': name, 'undisturbed': quiet, 'disturbed': loud})
            print(f'{name:<12} {statistics.median(loud) * 1e3:>10.1f} {max(loud) * 1e3:>11.1f}   '
                  f'{statistics.median(quiet) * 1e3:.1f}, {max(quiet) * 1e3:.1f}', flush=True)
    if args.json:
        args.json.write_text(json.dumps({'runs': args.runs, 'clients': args.clients, 'rows': rows}, indent=1) + '\n')


if __name__ == '__main__':
    main()
