#!/usr/bin/env python3
"""The same numbers on ARM as here: kernels against their scalar twins under qemu, logits of an aarch64 build at
several cores against this machine's, byte for byte, and the recorded results of other programs. And the unit tests, but for those
that start programs of ours, which the kernel here cannot run, and those that look at what qemu does not show.

    check.py BUILD-HERE BUILD-AARCH64 [PART...]     PART: kernels, logits, oracle, units (default: all)

The oracle needs ../shared, and is skipped, loudly, without it: exit 77 when nothing else was asked for.
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'lab'))
here, there = (pathlib.Path(p).resolve() for p in sys.argv[1:3])
os.environ['ONEBIT_BUILD'] = str(here)
from lab import SHARED, fine, make, makes  # noqa: E402

PARTS = ['kernels', 'logits', 'oracle', 'units']
LEVELS = {'cortex-a53': ['scalar', 'neon'], 'cortex-a72': ['neon'], 'cortex-a76': ['neon', 'dotprod'],
          'max': ['dotprod', 'i8mm']}
CORES = {'cortex-a53': 'neon', 'cortex-a76': 'dotprod', 'max': 'i8mm'}  # what each is at best
IDS = ','.join(str(3 + (i * 37) % 200) for i in range(40))
RUNS = ((2, 'f16'), (1, 'int8'))  # threads and cache of a run of logits
ACTIVATIONS = ['Q1_0+binary', 'I2_S+binary', 'TQ2_0+binary', 'F32+binary', 'F32+int8']  # beside the formats' own
UNIT_CORE = 'cortex-a72'
ROOMS = ('base', 'client', 'engine', 'engine_text', 'ipc', 'runner', 'broker')
NOT_UNDER_QEMU = {'engine-weights': 'pages of memory are not shown, and a limit on it does not hold'}
LIMIT_S = 1800  # of one program: for what hangs, not for a slow machine


def here_source():
    return pathlib.Path(__file__).resolve().parent.parent.parent


def qemu(core, program, *args, **env):
    try:
        return subprocess.run(['qemu-aarch64', '-L', '/', '-cpu', core, there / program, *map(str, args)],
                              capture_output=True, check=False, timeout=LIMIT_S,
                              env={**os.environ, 'ONEBIT_SHARED': str(SHARED), **{k: str(v) for k, v in env.items()}})
    except subprocess.TimeoutExpired as late:
        return subprocess.CompletedProcess(late.cmd, 124, late.stdout or b'', f'over {LIMIT_S} s'.encode())


def words(done):
    return (done.stdout + done.stderr).decode(errors='replace')[-2000:]


def kernels(core, level):
    done = qemu(core, 'tests/kernels/kernels-check', '--level', level)
    return done.returncode == 0, f'kernels {level} on {core}', words(done)


def made(home, shape, fmt):
    """A model; behind a + stand activations that the format does not take by itself."""
    weights, _, activations = fmt.partition('+')
    if not activations:
        return make(home, shape, fmt)
    path = home / f'{shape}-{fmt}.gguf'
    fine('make', '--shape', shape, '--format', weights, '--activations', activations, path)
    return path


def shape_faults(home, shape, formats, core):
    """What differs, a line each."""
    for fmt in formats:
        for threads, kv in RUNS:
            got = home / f'{shape}-{fmt}-{kv}.{core}'
            done = qemu(core, 'engine/onebit-lab', 'logits', home / f'{shape}-{fmt}.gguf', '--ids', IDS, '--all',
                        '--threads', threads, '--kv', kv, '--out', got)
            if done.returncode != 0 or got.read_bytes() != (home / f'{shape}-{fmt}-{kv}.want').read_bytes():
                yield f'{fmt}, {threads} threads, kv-{kv}: exit {done.returncode}, other logits {words(done)}\n'


def logits(home, shape, formats, core):
    faults = list(shape_faults(home, shape, formats, core))
    return not faults, f'logits of {shape} in {len(formats)} formats on {core}', ''.join(faults)


def oracle(core, program, *args):
    done = qemu(core, f'tests/oracle/oracle-{program}', *args)
    last = done.stdout.decode(errors='replace').strip().rsplit('\n', 1)[-1]
    return done.returncode == 0, f'oracle-{" ".join((program,) + args)} on {core}: {last}', words(done)


def unit(name, program):
    done = qemu(UNIT_CORE, program, ONEBIT_SOURCE=here_source(), ONEBIT_BUILD=there, ONEBIT_SANITIZED='0')
    return done.returncode in (0, 77), f'unit test {name} on {UNIT_CORE}', words(done)


def units():
    """(name, program) of each unit test that needs no other program of ours than itself."""
    listed = json.loads(subprocess.run(['meson', 'introspect', '--tests', there], capture_output=True, check=True).stdout)
    for test in listed:
        programs = [target for target in test['depends'] if target.endswith('@exe')]
        if (any(s.endswith(':unit') for s in test['suite']) and test['name'].split('-')[0] in ROOMS and len(programs) < 2
                and test['name'] not in NOT_UNDER_QEMU and pathlib.Path(test['cmd'][0]).is_relative_to(there)):
            yield test['name'], pathlib.Path(test['cmd'][0])


def tasks(home, parts):
    """(function, arguments) of every check, the longest first."""
    if 'oracle' in parts and (SHARED / 'oracle').is_dir():
        yield from ((oracle, core, 'logits', '--level', level, '--kv', 'f32') for core, level in CORES.items())
        yield from ((oracle, core, name) for name in ('tokenizers', 'quant') for core in CORES)
    if 'logits' in parts:
        shapes, formats = makes()
        for shape in (s for s in shapes if s.startswith('tiny')):
            wanted = formats + (ACTIVATIONS if shape == 'tiny' else [])
            for fmt in wanted:
                model = made(home, shape, fmt)
                for _, kv in RUNS:
                    fine('logits', model, '--ids', IDS, '--all', '--kv', kv, '--out', home / f'{shape}-{fmt}-{kv}.want')
            yield from ((logits, home, shape, wanted, core) for core in CORES)
    if 'units' in parts:
        yield from ((unit, *test) for test in units())
    if 'kernels' in parts:
        yield from ((kernels, core, level) for core, levels in LEVELS.items() for level in levels)


def main():
    parts = sys.argv[3:] or PARTS
    if not set(parts) <= set(PARTS):
        sys.exit(__doc__)
    start, n, failed = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as home, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        asked = [pool.submit(*task) for task in tasks(pathlib.Path(home), parts)]
        for task in concurrent.futures.as_completed(asked):
            ok, what, said = task.result()
            print(f"{'ok  ' if ok else 'FAIL'} {what}", flush=True)
            if not ok:
                print(said)
            n, failed = n + 1, failed + (not ok)
    print(f'{n} checks, {failed} failed, {time.monotonic() - start:.0f} s')
    if 'oracle' in parts and not (SHARED / 'oracle').is_dir():
        print(f'SKIPPED: recorded results on ARM: {SHARED}/oracle is absent')
        if parts == ['oracle']:
            return 77
    return failed > 0


sys.exit(main())
