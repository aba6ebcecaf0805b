"""Driving onebit-lab from tests. Standard library only; the paths come from meson."""
import json
import os
import pathlib
import re
import subprocess
import sys

BUILD = pathlib.Path(os.environ.get('ONEBIT_BUILD', 'build')).resolve()
SOURCE = pathlib.Path(os.environ.get('ONEBIT_SOURCE', '.')).resolve()
SHARED = pathlib.Path(os.environ.get('ONEBIT_SHARED', SOURCE / '../shared'))
LAB = BUILD / 'engine/onebit-lab'
HOME_MODEL = SOURCE / 'models/home-q1_0.gguf'
LEVELS = ['scalar', 'avx2', 'avx512', 'neon', 'dotprod', 'i8mm']


def lab(*args, stdin=b'', timeout=240):
    """Run to the end; stdout and stderr are bytes."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    return subprocess.run([LAB, *map(str, args)], input=stdin, capture_output=True, timeout=timeout)


def fine(*args, stdin=b''):
    """Run, insist on exit 0, give the bytes of standard output."""
    done = lab(*args, stdin=stdin)
    assert done.returncode == 0, f'{args}: exit {done.returncode}: {done.stderr.decode(errors="replace")}'
    return done.stdout


def fine_json(*args, stdin=b''):
    return json.loads(fine(*args, stdin=stdin))


def levels_present():
    """The CPU levels of this machine, as the program itself says by accepting them."""
    return [level for level in LEVELS if lab('info', HOME_MODEL, '--cpu', level).returncode == 0]


def makes():
    """The shapes and the formats that `make` names when it is asked for what it has not."""
    said = [lab('make', '--shape', shape, '--format', fmt, os.devnull).stderr.decode().splitlines()[0]
            for shape, fmt in (('?', 'F32'), ('tiny', '?'))]
    return [re.search(r'(?:\(| none of )([^()]+)\)?$', line).group(1).split(', ') for line in said]


def make(folder, shape='tiny', fmt='Q1_0', *more):
    path = pathlib.Path(folder) / f'{shape}-{fmt}.gguf'
    if not path.exists() or more:
        fine('make', '--shape', shape, '--format', fmt, path, *more)
    return path


def chat(model, *texts, options=()):
    """Greedy answer to one user turn; several texts alternate user and assistant."""
    messages = [{'role': ('user', 'assistant')[i % 2], 'content': t} for i, t in enumerate(texts)]
    return fine_json('generate', model, '--chat', '-', '--json', *options, stdin=json.dumps(messages))


def need_shared(name):
    """The path, or leave with 77 (skipped), saying so."""
    path = SHARED / name
    if not path.exists():
        print(f'{path} is not there: skipped', flush=True)
        sys.exit(77)
    return path
