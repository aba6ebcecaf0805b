#!/usr/bin/env python3
"""Changes one thing in the source at a time and insists that named tests notice.

    run.py [NAME...]

Each mutation of table.py is compiled by this build's own command and linked in front of the libraries of the tests that
must fail; the same is done once without a change, and then they must pass. A test that ends by a signal has noticed
nothing: it has to say what is wrong. Skipped where a sanitizer watches, which would see the same at ten times the price.
Tests that need ../shared, or a level of instructions, take part where it is present."""
import concurrent.futures
import functools
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

from table import MUTATIONS

BUILD = pathlib.Path(os.environ.get('ONEBIT_BUILD', 'build')).resolve()
SOURCE = pathlib.Path(os.environ.get('ONEBIT_SOURCE', '.')).resolve()
SHARED = pathlib.Path(os.environ.get('ONEBIT_SHARED', SOURCE / '../shared'))
ROOMS = ('engine', 'daemon/broker', 'train/net')  # whose source is changed
# Where a room's objects are made; the net is compiled several times, and what checks gradients has it in double.
OBJECTS = ('engine/', 'daemon/broker/', 'train/net/libnet-double')
SECONDS = 300
SKIP = 77


class Fault(Exception):
    pass


# ---- the build's own commands ----

def compile_command(source):
    """The words that compile a file, those that name outputs left out."""
    found = [e for e in json.loads((BUILD / 'compile_commands.json').read_text(encoding='utf-8'))
             if (BUILD / e['file']).resolve() == source and e['output'].startswith(OBJECTS)]
    if len(found) != 1:
        raise Fault(f'{source}: the build has {len(found)} commands for it')
    words, kept = iter(shlex.split(found[0]['command'])), []
    for word in words:
        if word in ('-o', '-c', '-MF', '-MQ'):
            next(words)
        elif word != '-MD':
            kept.append(word)
    return kept


def link_command(program):
    """The words that link a test program, its output left out."""
    said = subprocess.run(['ninja', '-C', BUILD, '-t', 'commands', program], capture_output=True, text=True, check=True)
    words = shlex.split([line for line in said.stdout.splitlines() if line][-1])
    at = words.index('-o')
    if words[at + 1] != program:
        raise Fault(f'{program}: is not what its link command makes')
    return words[:at] + words[at + 2:]


def call(words):
    done = subprocess.run(words, cwd=BUILD, capture_output=True, text=True, errors='replace', timeout=SECONDS,
                          env={**os.environ, 'ONEBIT_SHARED': str(SHARED), 'ONEBIT_SOURCE': str(SOURCE)})
    return done.returncode, done.stdout + done.stderr


def texts(kinds):
    """All files of the rooms."""
    return [path for room in ROOMS for path in sorted((SOURCE / room).rglob(f'*.[{kinds}]'))]


def users(source):
    """The files to compile: a header stands for those of this build that include it, themselves or by another."""
    if source.suffix == '.c':
        return [source]
    line = f'#include "{source.relative_to(SOURCE)}"'
    direct = [path for path in texts('ch') if line in path.read_text(encoding='utf-8')]
    built = {(BUILD / e['file']).resolve() for e in json.loads((BUILD / 'compile_commands.json').read_text(encoding='utf-8'))}
    return sorted({user for path in direct for user in users(path) if user in built})


def compiled(source, text, folder):
    """Objects with `text` in place of what `source` holds."""
    copy, made = folder / source.relative_to(SOURCE), []
    copy.parent.mkdir(parents=True)
    copy.write_text(text, encoding='utf-8')
    for user in users(source):
        words = compile_command(user) + ['-Wno-error']  # a mutation may leave something unused
        at = next(i for i, word in enumerate(words) if word.startswith('-'))  # after the compiler's name
        made.append(folder / f'{user.stem}.o')
        code, said = call([*words[:at], '-I', folder, *words[at:], '-o', made[-1], '-c',
                           copy if user == source else user])
        if code != 0:
            raise Fault(f'{user.name} does not compile: {said}')
    return made


def linked(program, made, folder):
    """The test with these objects in place of the library's: symbols that are there already pull nothing in."""
    words, path = link_command(program), folder / pathlib.Path(program).name
    at = next(i for i, word in enumerate(words) if word.endswith('.o'))
    code, said = call([*words[:at], *made, *words[at:], '-o', path])
    if code != 0:
        raise Fault(f'{program} does not link: {said}')
    return path


# ---- one mutation ----

def place_of(mutation):
    """The one file that has the text, and what it becomes."""
    found = [(path, path.read_text(encoding='utf-8')) for path in texts('ch')]
    found = [(path, text) for path, text in found if mutation.old in text]
    if len(found) != 1 or found[0][1].count(mutation.old) != 1:
        raise Fault(f'{mutation.old!r} stands in {[p.name for p, _ in found]}, should stand once in one file')
    return found[0][0], found[0][1].replace(mutation.old, mutation.new)


@functools.cache
def wanted(test):
    if test.program.startswith('tests/kernels/'):  # of one level, which this machine may not have
        return call([BUILD / test.program, *test.args])[0] != SKIP
    if test.program.startswith('tests/unit/train/'):  # built where OpenBLAS is
        return (BUILD / test.program).exists()
    return not test.program.startswith('tests/oracle/') or SHARED.exists()


def noticed(test, path):
    """Did the test fail, by the name of the claim that is broken?"""
    code, said = call([path, *test.args])
    if not 0 < code < SKIP:
        raise Fault(f'{test.program} ends with {code}, should fail: {said[-500:]}')
    if test.claim and f'[  FAILED  ] {test.claim}\n' not in said:
        raise Fault(f'{test.program} fails, but not in {test.claim}: {said[-500:]}')


def check(mutation):
    source, text = place_of(mutation)
    with tempfile.TemporaryDirectory(prefix='onebit-mutation-') as folder:
        folder = pathlib.Path(folder)
        made = compiled(source, text, folder)
        for test in filter(wanted, mutation.tests):
            noticed(test, linked(test.program, made, folder))
    return source


def check_unchanged(source, tests):
    """The same way without a change must pass, or a failure would mean nothing."""
    with tempfile.TemporaryDirectory(prefix='onebit-mutation-') as folder:
        folder = pathlib.Path(folder)
        made = compiled(source, source.read_text(encoding='utf-8'), folder)
        for test in tests:
            code, said = call([linked(test.program, made, folder), *test.args])
            if code != 0:
                raise Fault(f'{test.program} fails without a change: {said[-500:]}')


# ---- all of them ----

def report(name, work):
    try:
        work.result()
    except Fault as fault:
        print(f'FAULT {name}: {fault}', flush=True)
        return 1
    print(f'ok    {name}', flush=True)
    return 0


def main():
    if os.environ.get('ONEBIT_SANITIZED') == '1':
        print('SKIPPED: mutations of the source are checked in the plain build')
        return SKIP
    named = [m for m in MUTATIONS if m.name in sys.argv[1:] or len(sys.argv) == 1]
    chosen = [m for m in named if any(map(wanted, m.tests))]
    for mutation in named:
        if mutation not in chosen:
            print(f'SKIPPED {mutation.name}: none of its tests runs on this machine', flush=True)
    unchanged = {}
    for mutation in chosen:
        try:
            source, _ = place_of(mutation)
        except Fault:
            continue  # check() says it again
        unchanged.setdefault(source, set()).update(filter(wanted, mutation.tests))
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        works = [(f'unchanged {s.name}', pool.submit(check_unchanged, s, t)) for s, t in sorted(unchanged.items())]
        works += [(m.name, pool.submit(check, m)) for m in chosen]
        faults = sum(report(name, work) for name, work in works)
    print(f'{len(chosen)} mutations, {faults} faults')
    return faults > 0 or not chosen


if __name__ == '__main__':
    sys.exit(main())
