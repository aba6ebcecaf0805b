#!/usr/bin/env python3
"""How much memory a run takes: beside what `onebit-lab info --board` predicts, and beside what is promised.

    memory.py [--model SHAPE:FORMAT[:HEAD] | --file FILE]... [--ctx N] [--threads N] [--kv TYPE] [--no-daemon] [--build DIR]
              [--json FILE]

For each model: fill a context of N positions (a prompt, then a few tokens) and read the process's peak of resident
memory as the system counts it (VmHWM, what `/usr/bin/time -v` prints). Once each
  shared    from the packed form, mapped from a file: what the prediction is about
  private   from the packed form, with the weights copied into huge pages
  gguf      from the GGUF, which the workbench packs into memory first
  daemon    the engine process of a daemon that was asked for the same, with shared and with private weights
Promised is that each peak stays within packed file + KV in use + 64 MiB. Last, what a second process on the same shared
file adds: the growth of both processes' proportional memory (Pss), which has to stay within KV + 64 MiB, so that no
second copy of the weights is in it; and beside it what a private copy adds.

Models are made of random weights in the temporary folder (1.2 GB for bitnet-2b), one at a time.

Exit 1 when a promise is broken or a shared run is more than 5 % away from its prediction."""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from run import ROOT, machine, use_daemon_of, workbench_of

MODELS = ['bonsai-1.7b:Q1_0', 'bitnet-2b:TQ2_0', 'bitnet-2b:I2_S']
GENERATED = 8
BOARD = 'pi5-8gb'  # memory does not depend on it: threads are given
TOLERANCE = 0.05
BESIDE = 64 << 20  # what may come on top of packed file and KV


def said(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def kernel_bytes(path, word):
    """A size out of a file of the kernel's."""
    return int(re.search(rf'^{word}:\s+(\d+) kB', pathlib.Path(path).read_text(encoding='ascii'), re.M)[1]) * 1024


def prompt_of(lab, path, args):
    vocabulary = said(lab, 'info', path, '--json')['vocabulary']
    return [i * 31 % vocabulary for i in range(args.ctx - GENERATED)]


def words_of(lab, path, ids, args, weights):
    return [lab, 'generate', path, '--ids', ','.join(map(str, ids)), '--ignore-eos', '--json', '--threads', args.threads,
            '--kv', args.kv, '--weights', weights]


def peak(lab, path, args, weights):
    """The peak of one run that fills the context, and how much of the weights came in huge pages."""
    run = said(*words_of(lab, path, prompt_of(lab, path, args), args, weights), '-n', GENERATED)
    return run['peak_bytes'], run['huge_bytes']


# ---- a second process ----

class Resident:
    """A process that has answered one token's worth and goes on, so that its memory can be looked at."""

    def __init__(self, lab, packed, args, weights):
        words = words_of(lab, packed, prompt_of(lab, packed, args)[:4], args, weights) + ['-n', args.ctx * 8]
        words.remove('--json')
        self.process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE)
        self.process.stdout.read(1)  # an answer has begun

    def pss(self):
        return kernel_bytes(f'/proc/{self.process.pid}/smaps_rollup', 'Pss')

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def added(lab, packed, args, weights):
    """What a second process adds to what one has."""
    first = Resident(lab, packed, args, weights)
    try:
        alone = first.pss()
        second = Resident(lab, packed, args, weights)
        try:
            return first.pss() + second.pss() - alone
        finally:
            second.end()
    finally:
        first.end()


# ---- the daemon ----

def daemon_peak(lab, path, args, weights):
    """The peak of the engine process, from its start through a load to the end of one request."""
    from harness import Daemon, Peer
    config = f'[engine]\nweights = {weights}\nthreads = {args.threads}\n[model {path.stem}]\nkv = {args.kv}\n'
    ids = prompt_of(lab, path, args)
    with Daemon(models=[path], config=config) as d, Peer(d) as peer:
        peer.s.settimeout(600)
        peer.send({'type': 'generate', 'id': 1, 'ids': ids, 'max_tokens': GENERATED, 'ignore_eos': True,
                   'deadline_ms': 600000})
        end = peer.until_end(1)[-1]
        if end['type'] != 'done':
            sys.exit(f'the daemon says {end}')
        held = json.loads(d.cli('ps', '--json').stdout)['models'][0]['weights']
        if held != weights:
            sys.exit(f'the daemon holds the weights {held}')
        return kernel_bytes(f"/proc/{d.status()['runner_pid']}/status", 'VmHWM')


# ---- all of it ----

def measure(lab, name, path, home, args):
    packed = home / 'packed'
    subprocess.run([lab, 'pack', path, '--out', packed], check=True)
    predicted = said(lab, 'info', packed, '--board', BOARD, '--ctx', args.ctx, '--threads', args.threads, '--kv', args.kv,
                     '--json')['memory']
    row = {'model': name, 'predicted': predicted, 'packed_bytes': packed.stat().st_size}
    row['allowed'] = row['packed_bytes'] + predicted['kv'] + BESIDE
    row['peaks'] = {'shared': peak(lab, packed, args, 'shared')[0]}
    row['peaks']['private'], row['huge'] = peak(lab, packed, args, 'private')
    row['peaks']['gguf'] = peak(lab, path, args, 'shared')[0]
    row['second'] = {weights: added(lab, packed, args, weights) for weights in ('shared', 'private')}
    packed.unlink()
    if args.daemon:
        for weights in ('shared', 'private'):
            row['peaks'][f'daemon {weights}'] = daemon_peak(lab, path, args, weights)
    return row


def broken(row):
    """The promises that a row breaks, in words."""
    for way, bytes_ in row['peaks'].items():
        if bytes_ > row['allowed']:
            yield f"{row['model']}, {way}: {bytes_ / 2**20:.1f} MiB, allowed are {row['allowed'] / 2**20:.1f}"
    if row['second']['shared'] > row['predicted']['kv'] + BESIDE:
        yield f"{row['model']}: a second process adds {row['second']['shared'] / 2**20:.1f} MiB"
    if abs(row['peaks']['shared'] / row['predicted']['total'] - 1) > TOLERANCE:
        yield f"{row['model']}: more than {TOLERANCE:.0%} away from the prediction"


def print_row(row):
    def mib(n):
        return f'{n / 2**20:.1f}'
    print(f"{row['model']}: packed file {mib(row['packed_bytes'])} + KV {mib(row['predicted']['kv'])} + 64 = "
          f"{mib(row['allowed'])} allowed; predicted {mib(row['predicted']['total'])} = "
          + ' + '.join(f"{k} {mib(row['predicted'][k])}" for k in ('weights', 'tables', 'kv', 'scratch', 'sampler', 'process')))
    for way, bytes_ in row['peaks'].items():
        print(f'  peak, {way:<15} {mib(bytes_):>8}   {bytes_ / row["allowed"]:.3f} of what is allowed')
    print(f"  in huge pages {mib(row['huge']):>16}   of the private copy")
    for weights, bytes_ in row['second'].items():
        print(f'  a second adds, {weights:<7} {mib(bytes_):>7}')
    sys.stdout.flush()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', action='append', default=[], metavar='SHAPE:FORMAT[:HEAD]',
                        help=f'to make; default: {" ".join(MODELS)}')
    parser.add_argument('--file', type=pathlib.Path, action='append', default=[], help='a GGUF that is there')
    parser.add_argument('--ctx', type=int, default=512)
    parser.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--kv', default='f16')
    parser.add_argument('--no-daemon', dest='daemon', action='store_false', help='the workbench alone')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path, help='write everything measured to this file')
    args = parser.parse_args()
    if args.ctx <= GENERATED:
        parser.error(f'--ctx wants more than {GENERATED}')
    return args


def main():
    args = arguments()
    lab = workbench_of(args.build)
    use_daemon_of(args.build)
    here, rows = machine(), []
    print(f"{here['cpu']}, {args.threads} threads, Linux {here['kernel']}, context {args.ctx}, KV {args.kv}; MiB")
    with tempfile.TemporaryDirectory(prefix='onebit-memory-') as home:
        home = pathlib.Path(home)
        for path in args.file:
            rows.append(measure(lab, path.name, path, home, args))
            print_row(rows[-1])
        for model in args.model or ([] if args.file else MODELS):
            shape, fmt, *head = model.split(':')
            path = home / 'model.gguf'
            subprocess.run([lab, 'make', '--shape', shape, '--format', fmt, *(['--head', *head] if head else []), path],
                           check=True)
            rows.append(measure(lab, f'{shape} {fmt}', path, home, args))
            print_row(rows[-1])
            path.unlink()
    if args.json:
        args.json.write_text(json.dumps({'machine': here, 'context': args.ctx, 'kv': args.kv, 'models': rows},
                                        indent=1) + '\n')
    faults = [fault for row in rows for fault in broken(row)]
    if faults:
        sys.exit('\n'.join(faults))


if __name__ == '__main__':
    main()
