#!/usr/bin/env python3
"""Where each microsecond of a prompt and of a generation goes, for both big shapes: `onebit-lab bench --profile`.

    profiles.py [--model NAME]... [--threads N] [--context N] [--kv TYPE] [--models DIR] [--build DIR] [--json FILE]
                [--markdown FILE]

NAME: as of the table of targets (q1, bitnet, q4, q8; without any, q1 and bitnet). The time is of the thread that runs
the steps; what it waited for others is in it and also beside it. Rates of a product count each weight once a step."""
import argparse
import json
import os
import pathlib
import tempfile

from run import ROOT, machine
from table import GENERATE, MODELS, NAMES, PROMPT, Run, number

ROUNDS = 3


def of_model(run, model, context=0, kv='f16'):
    """The two phases as onebit-lab tells of them."""
    said = run.say(run.lab, 'bench', run.model(model)[1], '--profile', '--json', '-r', ROUNDS, '-p', PROMPT, '-n', GENERATE,
                   '-d', context, '--kv', kv, '--threads', run.args.threads, '--weights', 'private')
    return json.loads(said)['profile']


def rows_of(phase):
    """[(part, us a token, share, us waiting, GB/s or None, G MAC/s or None)], the whole last."""
    tokens, total, rows = phase['tokens'], phase['total_ns'], []
    for part in phase['parts']:
        n = phase['rows'] if part['part'] == 'head' else tokens
        rate = (part['weight_bytes'] * phase['steps'] / part['ns'], part['multiply_adds'] * n / part['ns']) \
            if part['multiply_adds'] and part['ns'] else (None, None)
        rows.append((part['part'], part['ns'] / tokens * 1e-3, part['ns'] / total, part['wait_ns'] / tokens * 1e-3, *rate))
    left = total - phase['sample_ns'] - sum(part['ns'] for part in phase['parts'])
    for name, ns in (('sampling', phase['sample_ns']), ('between steps', left)):
        rows.append((name, ns / tokens * 1e-3, ns / total, 0.0, None, None))
    rows.append(('all', total / tokens * 1e-3, 1.0, sum(p['wait_ns'] for p in phase['parts']) / tokens * 1e-3, None, None))
    return rows


def markdown(profiles):
    lines = []
    for model, phases in profiles.items():
        for phase, words in (('prompt', f'prompt {PROMPT}'), ('generate', f'generate {GENERATE}')):
            lines += [f'{NAMES[model]}, {words}:', '', '| Part | us a token | Share | Of it waiting, us | GB/s | G MAC/s |',
                      '|---|---|---|---|---|---|']
            lines += [f"| {name} | {us:.1f} | {share:.1%} | {wait:.1f} | {number(gb) if gb else ''} | "
                      f"{number(mac) if mac else ''} |" for name, us, share, wait, gb, mac in rows_of(phases[phase])]
            lines.append('')
    return '\n'.join(lines)


def show(profiles):
    for model, phases in profiles.items():
        for phase in ('prompt', 'generate'):
            print(f"\n{NAMES[model]}, {phase}\n{'part':<14} {'us a token':>11} {'share':>7} {'of it waits':>12} {'GB/s':>8} "
                  f"{'G MAC/s':>8}")
            for name, us, share, wait, gb, mac in rows_of(phases[phase]):
                print(f'{name:<14} {us:>11.1f} {share:>7.1%} {wait:>12.1f} {number(gb) if gb else "":>8} '
                      f'{number(mac) if mac else "":>8}')


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', action='append', choices=MODELS)
    parser.add_argument('--threads', type=int, default=min(64, len(os.sched_getaffinity(0))))
    parser.add_argument('--context', type=int, default=0, help='positions before the prompt')
    parser.add_argument('--kv', default='f16')
    parser.add_argument('--models', type=pathlib.Path, help='where made models stay')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path, help='write everything measured to this file')
    parser.add_argument('--markdown', type=pathlib.Path, help='write the tables for a page')
    return parser.parse_args()


def main():
    args = arguments()
    args.rounds, args.quick = ROUNDS, True
    where, profiles = machine(), {}
    with tempfile.TemporaryDirectory(prefix='onebit-profile-') as home:
        if args.models:
            args.models.mkdir(parents=True, exist_ok=True)
        run = Run(args, args.models or home)
        print(f"{where['cpu']}, {args.threads} threads, level {run.core['level']}, {args.context} positions before, KV {args.kv}")
        for model in args.model or ('q1', 'bitnet'):
            profiles[model] = of_model(run, model, args.context, args.kv)
            run.drop(model)
    show(profiles)
    if args.json:
        args.json.write_text(json.dumps({'machine': where, 'threads': args.threads, 'profiles': profiles}, indent=1) + '\n')
    if args.markdown:
        args.markdown.write_text(markdown(profiles))


if __name__ == '__main__':
    main()
