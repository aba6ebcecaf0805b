#!/usr/bin/env python3
"""Writes the tables of docs/correctness.md anew: distances of our logits, and of the reference programs', from the
recorded arrays; perplexity with each type of KV cache. Needs the reference data.

    bench/correctness.py [--shared DIR] [--print]

The text between the marks `<!-- NAME -->` and `<!-- end -->` of the page is replaced; --print shows it instead."""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/correctness.md'
LAB = ROOT / 'build/engine/onebit-lab'


def processor():
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return 'unknown processor'


def logits(shared):
    env = dict(os.environ, ONEBIT_SHARED=str(shared))
    done = subprocess.run([ROOT / 'build/tests/oracle/oracle-logits', '--table'], env=env, check=True,
                          capture_output=True, text=True)
    head = ('| case | formats | held to | f32 cache | f16 cache | int8 cache | prompts far from ties | reference |\n'
            '|---|---|---|---|---|---|---|---|\n')
    return head + done.stdout


def perplexity(shared):
    cases = sorted((shared / 'oracle/logits').glob('*.gguf'))
    text = shared / 'text/wiki.test.raw'
    rows = '| model | f32 cache | f16 cache | int8 cache |\n|---|---|---|---|\n'
    models = [ROOT / 'models/home-q1_0.gguf'] + [c for c in cases if c.stem in ('llama-q8_0', 'qwen3-q1_0',
                                                                               'bitnet158-i2_s')]
    excerpt = ROOT / 'build/correctness-text'
    excerpt.write_bytes(text.read_bytes()[:8192])
    for model in models:
        values = []
        for kv in ('f32', 'f16', 'int8'):
            done = subprocess.run([LAB, 'perplexity', model, '--text', excerpt, '--kv', kv, '--ctx', '256', '--json'],
                                  check=True, capture_output=True, text=True)
            values.append(json.loads(done.stdout)['perplexity'])
        rows += f'| {model.stem} | {values[0]:.4f} | {values[1]:.4f} | {values[2]:.4f} |\n'
    excerpt.unlink()
    return rows


def replace(page, name, table):
    marks = re.compile(rf'(<!-- {name} -->\n).*?(<!-- end -->)', re.S)
    page, n = marks.subn(lambda m: m[1] + '\n' + table + '\n' + m[2], page)
    if n != 1:
        sys.exit(f'{PAGE.name} has {n} places for {name}')
    return page


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--shared', type=pathlib.Path, default=ROOT / '../shared')
    p.add_argument('--print', action='store_true', dest='show')
    args = p.parse_args()
    if not (args.shared / 'oracle/logits').is_dir():
        sys.exit(f'SKIPPED: {args.shared}/oracle/logits is absent')
    page = PAGE.read_text()
    page = replace(page, 'logits', logits(args.shared))
    page = replace(page, 'perplexity', perplexity(args.shared))
    page = replace(page, 'machine', f'Made on {processor()}, {os.cpu_count()} cores.\n')
    if args.show:
        print(page)
    else:
        PAGE.write_text(page)


main()
