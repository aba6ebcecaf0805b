#!/usr/bin/env python3
"""The table of targets: this engine, the limits of this machine and, where `llama-bench` is on the PATH, the peer,
all measured in one run and in turn (A B A B ...), medians.

    table.py [--quick] [--rounds N] [--threads N] [--models DIR] [--build DIR] [--json FILE] [--svg FILE]
             [--markdown FILE] [--list] [ROW...]

ROW: a row's name or the beginning of names (`q1`, `bitnet-prompt`, `sweep`); without any, all of them. Models are made
of random weights in the real shapes (speed does not depend on the values) in a temporary folder, or in --models, where
they stay and are found again. Beside every round the limits are measured anew: bytes read per second, and int8
multiply-adds per second of the CPU level in use; parts of a limit are of the median beside that row. A limit is the best of
several tries, since what a neighbour on the machine takes is no limit of it; so each side's speed in a round is the
better of two tries.

A peer that is not here is compared with by what was published for it on another machine, times the ratio of what the
two machines can do (bench/figures.py has both); such figures are marked `scaled`. Nothing is downloaded or built.
Exit 1 when a target was missed."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import figures
import picture
from figures import median
from run import ROOT, machine, use_daemon_of, workbench_of

MODELS = {'q1': ('bonsai-1.7b', 'Q1_0'), 'bitnet': ('bitnet-2b', 'TQ2_0'), 'q4': ('bonsai-1.7b', 'Q4_0'),
          'q8': ('bonsai-1.7b', 'Q8_0')}
NAMES = {'q1': '1.7B Q1_0', 'bitnet': '2B4T TQ2_0, f16 head', 'q4': '1.7B Q4_0', 'q8': '1.7B Q8_0'}
HOME = ROOT / 'models/home-q1_0.gguf'
PROMPT, GENERATE, STREAMS, CONTEXT = 128, 24, 8, 2000
TRIES = 2  # in a round
SWEEP_STREAMS, SWEEP_CONTEXTS, SWEEP_TOKENS = (1, 2, 4, 8, 12, 16), (0, 512, 2000), 6


class Run:
    """What all rows share: programs, models, limits, and the rows that are done."""

    def __init__(self, args, home):
        self.args, self.home = args, pathlib.Path(home)
        self.lab = workbench_of(args.build)
        self.limits_program = args.build / 'bench/limits'
        self.peer = shutil.which('llama-bench')
        self.rounds = args.rounds
        self.rows, self.sweeps, self.facts, self.probes, self.done = {}, {}, {}, [], {}
        self.core = self.probe(args.threads)

    def say(self, *command, **kw):
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True, **kw)
        return done.stdout

    def probe(self, threads, ms=60):
        """The limits now: {'read': GB/s with huge pages, 'read4k', 'mac': {level: G MAC/s}, 'level': the best}."""
        mib = 256 if self.args.quick else 512
        said = json.loads(self.say(self.limits_program, '--json', '--threads', threads, '--mib', mib, '--ms', ms))
        rates = {row['pages']: row['gb_per_s'] for row in said['read']}
        found = {'threads': threads, 'read': max(rates.values()), 'read4k': rates['4K'], 'read2m': rates['2M'],
                 'read_mean': max(row['mean_gb_per_s'] for row in said['read'] if row['pages'] == '2M'),
                 'mac': {row['level']: row['g_mac_per_s'] for row in said['int8']}, 'level': said['level'],
                 'mac_mean': {row['level']: row['mean_g_mac_per_s'] for row in said['int8']},
                 'ghz': said['core_ghz'], 'huge': min(row['huge_share'] for row in said['read'] if row['pages'] == '2M')}
        self.probes.append(found)
        return found

    def model(self, name):
        """(GGUF, packed form), made when they are first wanted."""
        shape, fmt = MODELS[name]
        gguf = self.home / f'{shape}-{fmt}.gguf'
        packed = self.home / f'{shape}-{fmt}.packed'
        if not gguf.exists():
            print(f'making {gguf.name}', file=sys.stderr, flush=True)
            part = gguf.with_suffix('.part')
            subprocess.run([self.lab, 'make', '--shape', shape, '--format', fmt, part], check=True)
            part.rename(gguf)
        if not packed.exists() or subprocess.run([self.lab, 'info', packed], capture_output=True).returncode:
            packed.unlink(missing_ok=True)  # of another build
            subprocess.run([self.lab, 'pack', gguf, '--out', packed], check=True)
        return gguf, packed

    def drop(self, name):
        """Room for the next model, unless the models stay."""
        if not self.args.models:
            for path in self.home.glob('-'.join(MODELS[name]) + '.*'):
                path.unlink()

    def bench(self, path, level, threads=None, weights='private', **options):
        """onebit-lab bench: options p, n, b, d; or kv. Private weights lie in huge pages where there are any."""
        words = ['-r', '1', '--cpu', level, '--threads', threads or self.args.threads, '--weights', weights]
        for key, value in options.items():
            words += [f'-{key}' if len(key) == 1 else f'--{key}', value]
        return json.loads(self.say(self.lab, 'bench', path, '--json', *words))

    def best_bench(self, *args, **options):
        """The better of two tries, each phase for itself."""
        tries = [self.bench(*args, **options) for _ in range(TRIES)]
        return {**tries[0], **{key: max(t[key] for t in tries) for key in tries[0] if key.endswith('tokens_per_second')},
                'peak_bytes': max(t['peak_bytes'] for t in tries)}

    def best_peer(self, *args, **options):
        tries = [self.peer_bench(*args, **options) for _ in range(TRIES)]
        return None if None in tries else tuple(map(max, zip(*tries)))

    def peer_bench(self, gguf, threads, prompt=PROMPT, generate=GENERATE):
        """llama-bench's tokens/s, (prompt, generate), or None where it does not know the format."""
        done = subprocess.run([self.peer, '-m', gguf, '-p', str(prompt), '-n', str(generate), '-r', '1', '-o', 'json',
                               '-t', str(threads)], capture_output=True)
        if done.returncode != 0:
            return None
        pick = {('prompt' if row['n_prompt'] else 'generate'): row['avg_ts'] for row in json.loads(done.stdout)}
        return pick['prompt'], pick['generate']

    def facts_of(self, name, path):
        """What a token of this model takes: bytes of weights, multiply-adds."""
        if name not in self.facts:
            said = self.say(self.lab, 'bench', path, '--json', '-r', '1', '-p', '1', '-n', '1', '--profile')
            parts = json.loads(said)['profile']['generate']['parts']
            head = next(p['multiply_adds'] for p in parts if p['part'] == 'head')
            self.facts[name] = {'bytes': sum(p['weight_bytes'] for p in parts),
                                'macs': sum(p['multiply_adds'] for p in parts) - head, 'head_macs': head}
        return self.facts[name]

    def add(self, name, what, unit, values, against=None, **more):
        """A row: values is one figure a round, None where there is none."""
        figure = median(values)
        said = figures.verdicts(name, figure, {**{n: r['figure'] for n, r in self.rows.items()}, **(against or {})})
        self.rows[name] = {'what': what, 'unit': unit, 'figure': figure, 'rounds': values,
                           'spread': figures.spread(values), 'against': against or {}, 'targets': said,
                           'met': figures.met(said), **more}
        print_row(name, self.rows[name])


# ---- the rows ----

def rounds_of(run, model, prefix, level):
    """(ours, llama-bench's, probes, ours of several streams), a list of rounds each."""
    if (model, level) in run.done:
        return run.done[model, level]  # the lower level is the one in use: no need to measure it twice
    gguf, packed = run.model(model)
    ours, peers, probes, streams = [], [], [], []
    for number in range(run.rounds):
        print(f'{prefix}: round {number + 1} of {run.rounds}', file=sys.stderr, flush=True)
        probes.append(run.probe(run.args.threads))
        ours.append(run.best_bench(packed, level, p=PROMPT, n=GENERATE))
        if prefix in ('q1', 'bitnet'):
            streams.append(run.best_bench(packed, level, p=1, n=max(2, GENERATE // 4), b=STREAMS))
        if run.peer and level == run.core['level']:  # the PATH's is for this machine, not for a lower level
            peers.append(run.best_peer(gguf, run.args.threads))
    run.done[model, level] = ours, peers, probes, streams
    return run.done[model, level]


def speeds(run, model, prefix, level):
    """Prompt and generation of one model at one level, with what belongs beside it."""
    facts, name = run.facts_of(model, run.model(model)[1]), f'{NAMES[model]}{"" if prefix == model else ", " + level}'
    ours, peers, probes, streams = rounds_of(run, model, prefix, level)
    read, mac = median([p['read2m'] for p in probes]), median([p['mac'].get(level) for p in probes])
    read_mean, mac_mean = median([p['read_mean'] for p in probes]), median([p['mac_mean'].get(level) for p in probes])
    for phase, limit in (('prompt', 'mac'), ('generate', 'read')):
        values = [o[f'{phase}_tokens_per_second'] for o in ours]
        peer_values = [p[0 if phase == 'prompt' else 1] for p in peers if p]
        published = {'llama.cpp': figures.scaled(prefix, 'llama.cpp', phase, read, mac, level)} if mac else {}
        against = {'llama.cpp': median(peer_values)} if peer_values else dict(published)
        source = {'llama.cpp': 'measured' if peer_values else 'scaled', 'ik_llama.cpp': 'scaled'}
        if prefix == 'bitnet' and mac:
            against['ik_llama.cpp'] = figures.scaled('bitnet', 'ik_llama.cpp', phase, read, mac, level)
        slow = {peer: figures.scaled(prefix, peer, phase, read, mac, level, by_mac=True) for peer in against
                if mac and phase == 'generate' and source.get(peer) == 'scaled'}
        if phase == 'generate':
            against['read'] = read * 1e9 / facts['bytes']
            reached = median(values) * facts['bytes'] * 1e-9
            bound = f'{reached:.1f} of {read:.1f} GB/s (on average {read_mean:.1f})'
        else:
            macs = facts['macs'] + facts['head_macs'] / PROMPT
            against['mac'] = mac * 1e9 / macs if mac else None
            reached = median(values) * macs * 1e-9
            bound = f'{reached:.0f} of {mac:.0f} G MAC/s (on average {mac_mean:.0f})' if mac else f'{reached:.0f} G MAC/s'
        run.add(f'{prefix}-{phase}', f'{name}, {"prompt 128" if phase == "prompt" else "generate 24"}', 'tok/s', values,
                against, source=source, by_mac=slow, published=published if peer_values else {}, level=level, threads=run.args.threads, bound=bound, limit=limit,
                limits={'read': read, 'mac': mac, 'read_mean': read_mean, 'mac_mean': mac_mean}, load_seconds=median([o['load_seconds'] for o in ours]),
                peak_bytes=max(o['peak_bytes'] for o in ours))
    if streams and prefix == model:
        values = [s['generate_tokens_per_second'] for s in streams]
        run.add(f'{prefix}-streams8', f'{name}, {STREAMS} streams', 'tok/s', values, level=level,
                bound=f"{median(values) * (facts['macs'] + facts['head_macs']) * 1e-9:.0f} of {mac:.0f} G MAC/s"
                if mac else '')


def row_speeds(model):
    return lambda run: speeds(run, model, model, run.core['level'])


def row_avx2(model):
    def measure(run):
        if 'avx2' not in run.core['mac']:
            print(f'avx2-{model}: SKIPPED: no AVX2 on this machine', flush=True)
        else:
            speeds(run, model, f'avx2-{model}', 'avx2')
    return measure


def row_home(run):
    """The shipped model on one core; it lies in the cache, so multiply-adds are its limit."""
    level, ours, peers, probes = run.core['level'], [], [], []
    packed = run.home / 'home.packed'
    packed.unlink(missing_ok=True)
    run.say(run.lab, 'pack', HOME, '--out', packed)
    facts = run.facts_of('home', packed)
    for _ in range(max(3, run.rounds)):
        probes.append(run.probe(1, ms=30))
        ours.append(run.best_bench(packed, level, threads=1, p=PROMPT, n=256))
        if run.peer:
            peers.append(run.best_peer(HOME, 1, generate=256))
    mac = median([p['mac'].get(level) for p in probes])
    for i, phase in enumerate(('prompt', 'generate')):
        values = [o[f'{phase}_tokens_per_second'] for o in ours]
        peer = median([p[i] for p in peers if p])
        scaled = figures.scaled('home', 'llama.cpp', phase, 1, mac, level, one_thread=True) if mac else None
        run.add(f'home-{phase}', f'shipped model, one core, {phase}', 'tok/s', values, {'llama.cpp': peer or scaled},
                source={'llama.cpp': 'measured' if peer else 'scaled'}, level=level, threads=1,
                bound=f"{median(values) * facts['macs'] * 1e-9:.0f} of {mac or 0:.0f} G MAC/s")


def row_context(run):
    """Generation behind 2,000 positions, beside generation behind none; int8 keys and values."""
    _, packed = run.model('q1')
    level, near, far = run.core['level'], [], []
    for _ in range(run.rounds):
        near.append(run.best_bench(packed, level, p=1, n=12, kv='int8'))
        far.append(run.best_bench(packed, level, p=1, n=12, d=CONTEXT, kv='int8'))
    for name, rounds, words in (('q1-context0', near, 'no context'), (f'q1-context{CONTEXT}', far, f'{CONTEXT} positions')):
        run.add(name, f'1.7B Q1_0, {words}, int8 KV', 'tok/s', [r['generate_tokens_per_second'] for r in rounds])


def row_first_token(run):
    """From exec to the end of a process that answers one token, over the packed form in the page cache."""
    _, packed = run.model('q1')
    command = [str(w) for w in (run.lab, 'generate', packed, '--ids', '1,2,3,4', '-n', 1, '--ignore-eos', '--threads',
                                run.args.threads)]
    times = []
    for _ in range(3 + 2 * run.rounds):
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        child.stdout.read(1)
        times.append((time.perf_counter() - start) * 1e3)
        child.stdout.read()
        if child.wait() != 0:
            sys.exit(f'{" ".join(command)}: exit {child.returncode}')
    run.add('first-token', '1.7B Q1_0, exec to first token, packed', 'ms', times[1:])


def row_overhead(run):
    """Between tokens at a client, less what a step and a greedy pick take the engine: the shipped model. Both are
    medians over short stretches, so that what disturbs some of them disturbs neither figure."""
    use_daemon_of(run.args.build)
    from harness import Daemon
    prompt, answer, gaps, steps = 16, 200, [], []
    with Daemon() as daemon:
        daemon.cli('bench', '-p', prompt, '-n', 4, '-r', 1)  # loads
        threads = daemon.status()['threads']
        for _ in range(max(3, run.rounds)):
            done = daemon.cli('bench', '-p', prompt, '-n', answer, '-r', 3, '--json')
            gaps.append(json.loads(done.stdout)['rows'][0]['between_tokens_ms']['p50'] * 1e3)
            tries = [json.loads(run.say(run.lab, 'bench', HOME, '--json', '-r', 151, '-p', 1, '-n', 4, '-d',
                                        prompt + answer // 2, '--threads', threads, '--profile')) for _ in range(TRIES)]
            steps.append(1e6 / max(said['generate_tokens_per_second'] for said in tries))
    more = [g - s for g, s in zip(gaps, steps)]
    if median(more) < 0:  # the engine alone was disturbed more than the daemon: nothing can be said
        more = [None]
    run.add('overhead', 'a token through client, broker, runner', 'us', more,
            bound=f'{median(gaps):.0f} us between tokens, engine {median(steps):.0f} us')


def row_idle(run):
    use_daemon_of(run.args.build)
    from harness import Daemon
    from latency import at_rest
    with Daemon() as daemon:
        daemon.cli('bench', '-p', 16, '-n', 4, '-r', 1)
        rest = at_rest(daemon.process.pid)
    run.add('idle-memory', 'broker at rest, resident', 'MB', [rest['VmRSS'] * 1024e-6])
    run.add('idle-wakes', 'broker at rest, wake-ups', '1/s', [rest['wakes_per_second']])


def sweep(run, model):
    """Tokens/s of all streams together, by streams and length of context."""
    _, packed = run.model(model)
    curves, tokens = {}, SWEEP_TOKENS
    streams = (1, 4, 8, 16) if run.args.quick else SWEEP_STREAMS
    for depth in SWEEP_CONTEXTS:
        rates = {}
        for n in streams:
            said = run.bench(packed, run.core['level'], p=1, n=tokens, b=n, d=depth, kv='int8', weights='shared')
            rates[n] = said['generate_tokens_per_second']
        curves[depth] = {'rates': rates, 'saturation': figures.saturation(rates)}
        print(f"{model}-sweep  {depth:>5} positions: " + ', '.join(f'{n}: {r:.1f}' for n, r in rates.items()) +
              f" tok/s; saturates at {curves[depth]['saturation']}", flush=True)
    run.sweeps[model] = curves


def row_arm(run):
    """Cycles of the inner loops on a cortex-a76, as a static analyser counts them."""
    done = subprocess.run([sys.executable, ROOT / 'bench/mca.py', '--core', 'cortex-a76', '--json', '-'], stdout=subprocess.PIPE)
    if done.returncode != 0:
        print('arm: SKIPPED: bench/mca.py says why', flush=True)
        return
    rows = [row for row in json.loads(done.stdout)['rows'] if row['core'] == 'cortex-a76' and
            (row['level'] == 'dotprod' or row['kind'].startswith('wide-'))]
    for row in rows:
        print(f"arm  {row['kind']:<6} {row['tokens']} tokens: {row['cycles']:.2f} cycles for 128 weights, bound "
              f"{row['bound']:.2f}", flush=True)
    worst = max((row['ratio'] for row in rows if row['kind'] in ('b1', 't256', 'trow')), default=None)
    run.add('arm', 'cortex-a76, binary and ternary: worst over the dot pipes\' bound', 'x', [worst])


UNITS = [  # (rows, model that is wanted, function)
    (['q1-prompt', 'q1-generate', 'q1-streams8'], 'q1', row_speeds('q1')),
    (['avx2-q1-prompt', 'avx2-q1-generate'], 'q1', row_avx2('q1')),
    (['q1-context0', f'q1-context{CONTEXT}'], 'q1', row_context),
    (['first-token'], 'q1', row_first_token),
    (['q1-sweep'], 'q1', lambda run: sweep(run, 'q1')),
    (['bitnet-prompt', 'bitnet-generate', 'bitnet-streams8'], 'bitnet', row_speeds('bitnet')),
    (['avx2-bitnet-prompt', 'avx2-bitnet-generate'], 'bitnet', row_avx2('bitnet')),
    (['bitnet-sweep'], 'bitnet', lambda run: sweep(run, 'bitnet')),
    (['q4-prompt', 'q4-generate'], 'q4', row_speeds('q4')),
    (['q8-prompt', 'q8-generate'], 'q8', row_speeds('q8')),
    (['home-prompt', 'home-generate'], None, row_home),
    (['overhead'], None, row_overhead),
    (['idle-memory', 'idle-wakes'], None, row_idle),
    (['arm'], None, row_arm),
]


# ---- what is printed ----

def number(v):
    return '-' if v is None else f'{v:.0f}' if abs(v) >= 1000 else f'{v:.1f}' if abs(v) >= 10 else f'{v:.2f}'


def verdict_words(row):
    said = []
    for v in row['targets']:
        if 'at_most' in v:
            said.append(f"at most {v['at_most']:g}")
        else:
            what = {'read': 'of the read limit', 'mac': 'of the int8 limit'}.get(v['against'], v['against'])
            mark = ' (scaled)' if row.get('source', {}).get(v['against']) == 'scaled' else ''
            if row.get('published', {}).get(v['against']):
                mark = f" (measured; {number(row['figure'] / row['published'][v['against']])} x what was published, scaled)"
            if row.get('by_mac', {}).get(v['against']):
                mark = f" (scaled; {number(row['figure'] / row['by_mac'][v['against']])} if by multiply-adds)"
            said.append(f"{number(v['reached'])} x {what}{mark}, wanted {v['at_least']:g}")
    return '; '.join(said)


def print_row(name, row):
    word = {True: 'met', False: 'NOT MET', None: 'not judged' if row['targets'] else ''}[row['met']]
    print(f"{name:<22} {number(row['figure']):>8} {row['unit']:<5} {row.get('bound', ''):<46} {word:<10} "
          f"{verdict_words(row)}", flush=True)


def bars_of(rows):
    """For the picture: each judged target as (name, reached / wanted, words, met)."""
    for name, row in rows.items():
        for v in row['targets']:
            if v['met'] is None or row['figure'] is None:
                continue
            if 'at_most' in v:
                part, words = v['at_most'] / max(row['figure'], 1e-9), f"{number(row['figure'])} {row['unit']}"
            else:
                mark = ' (scaled)' if row.get('source', {}).get(v['against']) == 'scaled' else ''
                part, words = v['reached'] / v['at_least'], f"{number(v['reached'])} x {v['against']}{mark}"
            yield name, part, words, v['met']


def draw(run, where):
    title = f"{where['cpu']}, {run.args.threads} threads, level {run.core['level']}, {where['when'][:10]}"
    curves = {f'{NAMES[model]}: tokens/s of all streams, by positions of context':
              {f'{depth}': (c['rates'], c['saturation']) for depth, c in found.items()}
              for model, found in run.sweeps.items()}
    return picture.draw(title, list(bars_of(run.rows)), curves)


def markdown(run, where, summary):
    """The same tables for a page."""
    lines = [f"{where['cpu']}, {where['cores']} cores at {summary['ghz']:.2f} GHz, Linux {where['kernel']}, "
             f"{where['when'][:10]}; {run.args.threads} threads, level {run.core['level']}, medians of {run.rounds} rounds. "
             f"Read limit {summary['read4k']:.1f} GB/s with 4 KiB pages, {summary['read2m']:.1f} with 2 MiB pages (on average "
             f"{summary['read_mean']:.1f}); int8 limit {summary['mac']:.0f} G MAC/s (on average {summary['mac_mean']:.0f})."
             if summary['mac'] else '', '',
             '| Row | Work | Figure | Of the limit beside it | Against | Verdict |', '|---|---|---|---|---|---|']
    for name, row in run.rows.items():
        word = {True: 'met', False: 'not met', None: 'not judged' if row['targets'] else ''}[row['met']]
        lines.append(f"| {name} | {row['what']} | {number(row['figure'])} {row['unit']} | {row.get('bound', '')} | "
                     f"{verdict_words(row)} | {word} |")
    for model, found in run.sweeps.items():
        counts = list(next(iter(found.values()))['rates'])
        lines += ['', f'{NAMES[model]}, tokens/s of all streams together, int8 KV:', '',
                  '| Positions | ' + ' | '.join(f'{n}' for n in counts) + ' | Saturates at |',
                  '|---|' + '---|' * (len(counts) + 1)]
        lines += [f'| {depth} | ' + ' | '.join(number(c['rates'][n]) for n in counts) + f" | {c['saturation']} |"
                  for depth, c in found.items()]
    return '\n'.join(lines) + '\n'


def limits_of(run):
    """Over the whole run, with all threads: medians, and the best."""
    probes = [p for p in run.probes if p['threads'] == run.args.threads]
    macs = [p['mac'].get(run.core['level']) for p in probes]
    return {'read4k': median([p['read4k'] for p in probes]), 'read2m': median([p['read2m'] for p in probes]),
            'read_best': max(p['read'] for p in probes), 'read_mean': median([p['read_mean'] for p in probes]),
            'mac': median(macs), 'mac_mean': median([p['mac_mean'].get(run.core['level']) for p in probes]),
            'mac_best': max((m for m in macs if m), default=None), 'ghz': median([p['ghz'] for p in probes]),
            'huge': min(p['huge'] for p in probes), 'probes': len(probes)}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('rows', nargs='*', metavar='ROW')
    parser.add_argument('--list', action='store_true', help='name the rows and end')
    parser.add_argument('--quick', action='store_true', help='one round, fewer points')
    parser.add_argument('--rounds', type=int, help='3, or 1 with --quick')
    parser.add_argument('--threads', type=int, default=min(64, len(os.sched_getaffinity(0))))
    parser.add_argument('--models', type=pathlib.Path, help='where made models stay')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path, help='write everything measured to this file')
    parser.add_argument('--svg', type=pathlib.Path, help='draw it')
    parser.add_argument('--markdown', type=pathlib.Path, help='write the tables for a page')
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 3)
    names = [name for unit, _, _ in UNITS for name in unit]
    for row in args.rows:
        if not any(name.startswith(row) for name in names):
            parser.error(f'no row begins with {row}; there are {", ".join(names)}')
    if args.list:
        print(*names, sep='\n')
        sys.exit()
    if args.rounds < 1 or not 1 <= args.threads <= 64:
        parser.error('--rounds wants at least 1, --threads 1 to 64')
    return args


def chosen(rows):
    return [u for u in UNITS if not rows or any(name.startswith(row) for name in u[0] for row in rows)]


def measure(run, units):
    for i, (_, model, row) in enumerate(units):
        row(run)
        if model and all(other != model for _, other, _ in units[i + 1:]):
            run.drop(model)


def main():
    args = arguments()
    where, start = machine(), time.monotonic()
    if args.models:
        args.models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='onebit-table-') as home:
        run = Run(args, args.models or home)
        print(f"{where['cpu']}, {where['cores']} cores at {run.core['ghz']:.2f} GHz, Linux {where['kernel']}, level "
              f"{run.core['level']}, {args.threads} threads")
        if not run.peer:
            print('llama-bench: SKIPPED: not on the PATH; its figures below are published ones, scaled from '
                  f"{figures.THERE['machine']}")
        measure(run, chosen(args.rows))
    limits = limits_of(run)
    print(f"limits over the run: read {limits['read4k']:.1f} GB/s with 4 KiB pages, {limits['read2m']:.1f} with 2 MiB "
          f"(best {limits['read_best']:.1f}, on average {limits['read_mean']:.1f}), int8 {number(limits['mac'])} G MAC/s "
          f"(best {number(limits['mac_best'])}, on average {number(limits['mac_mean'])})")
    if limits['huge'] < 0.9:
        print(f"2 MiB pages: the system gave only {limits['huge']:.0%} of what was asked for")
    if args.json:
        args.json.write_text(json.dumps({'machine': where, 'threads': args.threads, 'level': run.core['level'],
                                         'limits': limits, 'probes': run.probes, 'rows': run.rows, 'sweeps': run.sweeps},
                                        indent=1) + '\n')
    if args.svg:
        args.svg.write_text(draw(run, where))
    if args.markdown:
        args.markdown.write_text(markdown(run, where, limits))
    count = [row['met'] for row in run.rows.values() if row['targets']]
    print(f'{count.count(True)} met, {count.count(False)} not met, {count.count(None)} not judged, '
          f'{time.monotonic() - start:.0f} s')
    sys.exit(False in count)


if __name__ == '__main__':
    main()
