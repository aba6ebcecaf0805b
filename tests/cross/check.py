#!/usr/bin/env python3
"""The same numbers on ARM as here: kernels against their scalar twins under qemu, and logits of an aarch64
build at several cores against this machine's, byte for byte.

    check.py BUILD-HERE BUILD-AARCH64
"""
import pathlib
import subprocess
import sys
import tempfile

CORES = ['cortex-a53', 'cortex-a72', 'cortex-a76', 'max']
LEVELS = {'cortex-a53': ['scalar', 'neon'], 'cortex-a72': ['neon'], 'cortex-a76': ['dotprod'], 'max': ['i8mm']}
FORMATS = ['Q1_0', 'Q8_0', 'TQ2_0', 'F16']
IDS = ','.join(str(3 + (i * 37) % 200) for i in range(40))
here, there = (pathlib.Path(p).resolve() for p in sys.argv[1:3])
failed = 0


def qemu(core, program, *args):
    return subprocess.run(['qemu-aarch64', '-L', '/', '-cpu', core, there / program, *args],
                          capture_output=True, check=False)


def tell(ok, what, done=None):
    global failed
    print(f"{'ok  ' if ok else 'FAIL'} {what}", flush=True)
    if not ok:
        failed += 1
        if done:
            print((done.stdout + done.stderr).decode(errors='replace')[-2000:])


with tempfile.TemporaryDirectory() as home:
    home = pathlib.Path(home)
    for core in CORES:
        for level in LEVELS[core]:
            done = qemu(core, 'tests/kernels/kernels-check', '--level', level)
            tell(done.returncode == 0, f'kernels {level} on {core}', done)
    for form in FORMATS:
        model = home / f'{form}.gguf'
        subprocess.run([here / 'engine/onebit-lab', 'make', '--shape', 'tiny', '--format', form, model], check=True)
        want = home / 'want'
        subprocess.run([here / 'engine/onebit-lab', 'logits', model, '--ids', IDS, '--all', '--out', want], check=True)
        for core in ('cortex-a53', 'cortex-a76', 'max'):
            for threads in ('1', '2'):
                got = home / 'got'
                done = qemu(core, 'engine/onebit-lab', 'logits', model, '--ids', IDS, '--all', '--threads', threads,
                            '--out', got)
                same = done.returncode == 0 and got.read_bytes() == want.read_bytes()
                tell(same, f'logits of {form} on {core}, {threads} threads, equal those of this machine', done)
sys.exit(failed > 0)
