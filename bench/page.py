#!/usr/bin/env python3
"""Everything that docs/performance.md shows, measured anew in one run and written into the page: limits, kernels, the
table of targets with its picture, profiles of both big shapes, starts of the daemon, and the static analysis for ARM where its
tools are.

    page.py [--quick] [--threads N] [--models DIR] [--build DIR] [--page FILE] [--only PART]...

Takes some fifteen minutes on two slow cores, and wants them for itself. PART: limits, kernels, table, profile, start or arm.
What stands between two marks of a part is replaced; all else on the page stays."""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from run import ROOT, machine
from table import number

PARTS = ['limits', 'kernels', 'table', 'profile', 'start', 'arm']
KINDS = ['b1', 'trow', 't256', 'i8', 'n4', 'n4m', 'k4', 'k5', 'k6']
TOKENS = [1, 4, 8, 64]


def replaced(page, part, text):
    """The page with another text between the marks of a part."""
    begin, end = f'<!-- measured: {part} -->', f'<!-- end: {part} -->'
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f'the page has not one pair of marks {begin} {end}')
    head, _, rest = page.partition(begin)
    return f'{head}{begin}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}'


def table(columns, rows):
    lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
    return '\n'.join(lines + ['| ' + ' | '.join(map(str, row)) + ' |' for row in rows])


def said(*command):
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True).stdout


def limits(args, _home):
    found = json.loads(said(args.build / 'bench/limits', '--json', '--ms', 100 if args.quick else 500))
    rows = [(f"read, {'4 KiB' if r['pages'] == '4K' else '2 MiB'} pages", r['threads'], f"{number(r['gb_per_s'])} GB/s",
             f"{number(r['mean_gb_per_s'])} GB/s") for r in found['read']]
    rows += [(f"int8, {r['level']} ({r['how']})", r['threads'], f"{number(r['g_mac_per_s'])} G MAC/s",
              f"{number(r['mean_g_mac_per_s'])} G MAC/s") for r in found['int8']]
    return f"Core at {found['core_ghz']:.2f} GHz.\n\n" + table(['Limit', 'Threads', 'Best', 'On average'], rows)


def kernels(args, _home):
    here = json.loads(said(args.build / 'bench/limits', '--json', '--threads', 1, '--mib', 16, '--ms', 1))
    chosen = {'--level': [r['level'] for r in here['int8']], '--kind': KINDS, '--tokens': TOKENS}  # no scalar level
    words = [word for option, values in chosen.items() for value in values for word in (option, value)]
    found = json.loads(said(args.build / 'bench/kernels', '--json', '--ms', 20 if args.quick else 100, *words))
    by = {}
    for r in found['rows']:
        by.setdefault((r['level'], r['kind']), {})[r['in'], r['tokens']] = r

    def figure(of, place, tokens, unit):  # a wide product is of many tokens
        return number(of[place, tokens][unit]) if (place, tokens) in of else ''

    rows = [(level, kind, *(figure(f, 'cache', n, 'cycles') for n in TOKENS), figure(f, 'memory', 1, 'gb_per_s'),
             figure(f, 'cache', 64, 'g_mac_per_s')) for (level, kind), f in by.items()]
    return (f"Core at {found['core_ghz']:.2f} GHz, one thread; cycles for 128 weights and a token, from the cache.\n\n" +
            table(['Level', 'Panel', *(f'{n} token{"s" * (n > 1)}' for n in TOKENS), 'GB/s from memory, 1 token',
                   'G MAC/s, 64 tokens'], rows))


def targets(args, home):
    """The table has its own exit status for targets that were missed."""
    text, picture = home / 'table.md', args.page.with_suffix('.svg')
    words = [*(['--quick'] if args.quick else []), '--threads', args.threads, '--models', args.models, '--build', args.build,
             '--markdown', text, '--svg', picture]
    done = subprocess.run([sys.executable, ROOT / 'bench/table.py', *map(str, words)], stdout=sys.stderr)
    if done.returncode not in (0, 1) or not text.exists():
        sys.exit(f'bench/table.py: exit {done.returncode}')
    return f'![What was measured]({picture.name})\n\n{text.read_text()}'


def profile(args, home):
    text = home / 'profile.md'
    said(sys.executable, ROOT / 'bench/profiles.py', '--threads', args.threads, '--models', args.models, '--build', args.build,
         '--markdown', text)
    return text.read_text()


def start(args, home):
    text = home / 'start.md'
    said(sys.executable, ROOT / 'bench/warm_start.py', '--runs', 1 if args.quick else 5, '--models', args.models, '--build',
         args.build, '--markdown', text)
    return text.read_text()


def arm(_args, home):
    path = home / 'mca.json'
    done = subprocess.run([sys.executable, ROOT / 'bench/mca.py', '--json', path], stdout=sys.stderr)
    if done.returncode == 77:
        return None
    if done.returncode != 0:
        sys.exit(f'bench/mca.py: exit {done.returncode}')
    rows = [(r['core'], r['level'], r['kind'], r['tokens'], number(r['instructions']), number(r['cycles']),
             number(r['tables']) if r['tables'] else '', number(r['bound']), f"{r['ratio']:.2f}",
             number(r['dots']) if r['dots'] else '', f"{r['ratio_dots']:.2f}" if r['dots'] else '')
            for r in json.loads(path.read_text())['rows']]
    return table(['Core', 'Level', 'Panel', 'Tokens', 'Instructions', 'Cycles', 'Of them tables', 'Bound of the pipes',
                  'Ratio', 'Dot products alone', 'Ratio'], rows)


MEASURE = {'limits': limits, 'kernels': kernels, 'table': targets, 'profile': profile, 'start': start, 'arm': arm}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--threads', type=int, default=min(64, len(os.sched_getaffinity(0))))
    parser.add_argument('--models', type=pathlib.Path, help='where made models stay')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--page', type=pathlib.Path, default=ROOT / 'docs/performance.md')
    parser.add_argument('--only', action='append', choices=PARTS)
    return parser.parse_args()


def main():
    args, where = arguments(), machine()
    named = f"{where['cpu']}, {where['cores']} cores, Linux {where['kernel']}, {where['when'][:10]}"
    with tempfile.TemporaryDirectory(prefix='onebit-page-') as home:
        home = pathlib.Path(home)
        args.models = args.models or home / 'models'
        for part in args.only or PARTS:
            print(f'{part} ...', file=sys.stderr, flush=True)
            text = MEASURE[part](args, home)
            if text is None:
                print(f'{part}: left as it is', file=sys.stderr)
                continue
            page = args.page.read_text(encoding='utf-8')
            args.page.write_text(replaced(page, part, f'Measured on: {named}.\n\n{text}'), encoding='utf-8')


if __name__ == '__main__':
    main()
