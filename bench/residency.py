#!/usr/bin/env python3
"""Several models that do not fit the memory budget together, asked at random for a while: does anything fail, how often
do models swap, how long does anybody wait, and does the ledger agree with the kernel? Prints figures; ends with 1 where
one of the four promises is broken.

    residency.py [--seconds N] [--clients N] [--models DIR] [--shape NAME] [--budget SIZE] [--stay SECONDS]
                 [--build DIR] [--json FILE]

Three models of random weights (250 MB each by default) under a budget of 600 MB, of which two have room. Each client
asks one of them at random, reads the answer, and rests for a moment. Every half minute all of them rest, and the
daemon's ledger is compared with /proc/PID/smaps_rollup of both processes (which takes root, or it is left out). The
wait is what `done` calls queue_us: from a request's arrival to its start in the engine, loads included. Its bound is the
time that a model stays, the longest answer (the drain of the one that leaves), the own load, what is left of a load that
has begun before, and a step."""
import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from run import ROOT, machine, use_daemon_of, workbench_of

QUIET_EVERY = 30
STEP = 0.5  # seconds; a step of a large model on a busy machine
SWAPS = 120  # a minute, by the configuration
LEDGER = 0.03


class Load:
    """Clients that ask at random, and rest all together when told to."""

    def __init__(self, daemon, names, seed):
        self.daemon, self.names, self.seed = daemon, names, seed
        self.go, self.end = threading.Event(), threading.Event()
        self.busy, self.lock = 0, threading.Lock()
        self.done, self.failed = [], []

    def client(self, number):
        from harness import Peer
        dice, n = random.Random(self.seed + number), 0
        with Peer(self.daemon) as peer:
            peer.s.settimeout(300)
            while not self.end.is_set():
                if not self.go.wait(0.1):
                    continue
                with self.lock:
                    self.busy += 1
                n += 1
                peer.send({'type': 'generate', 'id': n, 'model': dice.choice(self.names), 'max_tokens': dice.randint(1, 40),
                           'prompt': 'turn on the lamp in the kitchen ' * dice.randint(1, 4), 'ignore_eos': True,
                           'deadline_ms': 600000})
                last = peer.until_end(n)[-1]
                with self.lock:
                    self.busy -= 1
                    (self.done if last['type'] == 'done' else self.failed).append(last)
                time.sleep(min(dice.expovariate(2.0), 3))

    def rest(self):
        self.go.clear()
        while self.busy:
            time.sleep(0.02)


def rss(pid):
    with open(f'/proc/{pid}/smaps_rollup', encoding='ascii') as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith('Rss:'))


def compare(daemon):
    """The ledger over smaps, both processes together, less one; None where smaps cannot be read."""
    for _ in range(3):  # what is asked for comes with the next answer
        time.sleep(0.3)
        status = daemon.status()
    try:
        kernel = rss(status['runner_pid']) + rss(status['pid'])
    except OSError:
        return None
    return (status['memory']['engine_bytes'] + status['memory']['broker_resident_bytes']) / kernel - 1


def loads_of(daemon):
    return {m['name']: m['load_us'] / 1e6 for m in json.loads(daemon.cli('ps', '--json').stdout)['models']}


def run(daemon, names, args):
    load = Load(daemon, names, args.seed)
    threads = [threading.Thread(target=load.client, args=(i,), daemon=True) for i in range(args.clients)]
    for t in threads:
        t.start()
    apart, loads, end = [], [], time.monotonic() + args.seconds
    while time.monotonic() < end:
        load.go.set()
        until = min(end, time.monotonic() + min(QUIET_EVERY, args.seconds / 4))
        while time.monotonic() < until:
            time.sleep(0.5)
            loads += [took for took in loads_of(daemon).values() if took > 0]
        load.rest()
        apart.append(compare(daemon))
    load.end.set()
    for t in threads:
        t.join()
    return load, [a for a in apart if a is not None], min(loads), max(loads)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=600)
    parser.add_argument('--clients', type=int, default=3)
    parser.add_argument('--models', type=pathlib.Path, help='a folder of .gguf files to take instead of making some')
    parser.add_argument('--shape', default='bonsai-1.7b')
    parser.add_argument('--budget', default='600M')
    parser.add_argument('--stay', type=int, default=5, help='[memory] residency_min_s')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path)
    return parser.parse_args()


def main():
    args = arguments()
    use_daemon_of(args.build)
    from harness import Daemon
    with tempfile.TemporaryDirectory() as home:
        files = sorted(args.models.glob('*.gguf')) if args.models else []
        for seed in range(0 if files else 3):
            files.append(pathlib.Path(home) / f'm{seed}.gguf')
            subprocess.run([workbench_of(args.build), 'make', '--shape', args.shape, '--format', 'Q1_0', '--seed', str(seed + 1),
                            files[-1]], check=True, stderr=subprocess.DEVNULL)
        config = (f'[memory]\nbudget = {args.budget}\nresidency_min_s = {args.stay}\nswaps_per_minute = {SWAPS}\n'
                  '[engine]\nweights = shared\n')
        with Daemon(models=files, config=config) as daemon:
            names = [f.stem for f in files]
            for name in names:  # packed now: that is not what is measured
                daemon.cli('run', '-m', name, '--max-tokens', '1', 'x')
            before = daemon.status()['memory']['swaps']
            load, apart, quickest_load, longest_load = run(daemon, names, args)
            swaps = daemon.status()['memory']['swaps'] - before
    waits = sorted(d['queue_us'] / 1e6 for d in load.done)
    drain = max((d['prefill_us'] + d['decode_us']) / 1e6 for d in load.done)
    stay = min(args.stay, 20 * longest_load)
    bound = stay + drain + 2 * longest_load + STEP
    least_stay = min(args.stay, 20 * quickest_load)
    most = min(args.seconds / least_stay * 2 + 2 if least_stay > 0 else float('inf'), (args.seconds / 60 + 1) * SWAPS)
    print(', '.join(f'{k} {v}' for k, v in machine().items()))
    print(f'{len(files)} models of {files[0].stem if args.models else args.shape}, budget {args.budget}, {args.seconds:g} s, '
          f'{args.clients} clients')
    print(f'requests  {len(load.done)} answered, {len(load.failed)} failed')
    print(f'swaps     {swaps}: {swaps / args.seconds * 60:.1f} a minute; at most {most / args.seconds * 60:.1f} as each stays {least_stay:.2f} s or more')
    print(f'wait      median {statistics.median(waits):.3f} s, 95 % {waits[int(len(waits) * 0.95)]:.3f} s, worst {waits[-1]:.3f} s; '
          f'bound {bound:.2f} s (stay {stay:.2f}, drain {drain:.2f}, loads {longest_load:.2f})')
    worst = max(apart, key=abs, default=None)
    print('ledger    ' + ('smaps cannot be read' if worst is None else
                          f'{len(apart)} samples, apart from smaps by {worst:+.2%} at most'))
    if args.json:
        args.json.write_text(json.dumps({'waits': waits, 'swaps': swaps, 'apart': apart, 'failed': load.failed}, indent=1) + '\n')
    broken = [name for name, bad in (('failures', load.failed), ('swaps', swaps > most), ('wait', waits[-1] > bound),
                                     ('ledger', worst is not None and abs(worst) > LEDGER)) if bad]
    for name in broken:
        print(f'broken: {name} {load.failed[:1] if name == "failures" else ""}')
    sys.exit(1 if broken else 0)


if __name__ == '__main__':
    main()
