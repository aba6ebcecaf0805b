#!/usr/bin/env python3
"""What the kernels of the ARM levels take on cores that are not here: the instructions that one call runs, written
down by qemu, go through a static analyser that knows the cores' pipes.

    mca.py [--kind NAME]... [--level NAME]... [--tokens N]... [--core NAME]... [--json FILE]

Prints for each kernel, for 128 weights and a token: instructions, cycles, and two bounds that no order of these
instructions can pass. `pipes`: the two vector pipes, which do the dot products and all unpacking, are never idle.
`dots`: they did dot products alone. Figures are the difference between a call of many columns and one of half as many,
so that what a call takes once is not in them. LLVM 14 schedules a cortex-a76 like its predecessors: three
instructions a cycle where the core takes four, so cycles are rather too many than too few. Its table look-ups of one
register, three operations on those, are one on a cortex-a76, and go in as an `orr` of the same registers there.
Binary panels go several at once, as the engine takes them; the tables, made once a token for all rows, are not counted.

Kinds of which `wide-` goes before are wide products, of one file for all levels: the making of their tables is counted, shared
by AMORTIZED panels, and told apart as `tables`. Everything lies in the first cache. Their bound is the busier of the vector
pipes and the load pipes; of these LLVM gives every core one, and a cortex-a76 has two, so that its cycles are too many here.

Wants aarch64-linux-gnu-gcc, its objdump, qemu-aarch64 and llvm-mca (Debian: llvm, gcc-aarch64-linux-gnu, qemu-user).
Exit 77, and a word on standard error, where one is missing."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CC, OBJDUMP, QEMU = 'aarch64-linux-gnu-gcc', 'aarch64-linux-gnu-objdump', 'qemu-aarch64'
FLAGS = ['-std=gnu11', '-O2', '-D_GNU_SOURCE', '-fno-strict-aliasing', '-ffp-contract=off', '-fno-math-errno',
         '-DHAVE_AVX2=0', '-DHAVE_AVX512=0', '-DHAVE_NEON=1', '-DHAVE_DOTPROD=1', '-DHAVE_I8MM=1']
LEVELS = {'neon': [], 'dotprod': ['-march=armv8.2-a+dotprod', '-fno-schedule-insns'],
          'i8mm': ['-march=armv8.2-a+dotprod+i8mm', '-fno-schedule-insns']}  # as engine/kernels/meson.build has them
CORES = {'neon': ['cortex-a72', 'cortex-a76'], 'dotprod': ['cortex-a76'], 'i8mm': ['cortex-a76']}
WIDE_FLAGS = ['-fno-schedule-insns', '-frename-registers']  # likewise, of neon_wide.c
KINDS = ['b1', 't256', 'trow', 'i8', 'n4']
TOKENS = [1, 4, 8]
WIDE = 'wide-'  # before a kind's name
WIDE_KINDS = [WIDE + kind for kind in ('b1', 't256', 'trow')]
WIDE_LEVEL = 'neon'  # whose wide products the levels above it take as they are
WIDE_TOKENS = [32, 64]
WIDE_PANELS = (1, 3)  # of the two calls whose difference is what panels take
AMORTIZED = 64  # panels for which tables are made once
COLUMNS = 256
VECTOR_PIPES = ('A57UnitW', 'A57UnitX')
LOAD_PIPE = 'A57UnitL'
LOADS = {'cortex-a72': 1, 'cortex-a76': 2}  # such pipes that the core has
DOTS = re.compile(r'^(?:sdot|udot|usdot|smmla|ummla|usmmla)\b')
LOOK_UP = re.compile(r'^tbl\s+(v\d+\.16b), \{(v\d+\.16b)\}, (v\d+\.16b)$')
PANEL_ROWS = 16
PANELS = {'b1': 8}  # in one call of bench/trace, where more than one: B1_PANELS_BEST


def tools():
    """The names of all that is wanted; ends the program where something is missing."""
    mca = next((name for name in ('llvm-mca', 'llvm-mca-14') if shutil.which(name)), 'llvm-mca')
    missing = [name for name in (CC, OBJDUMP, QEMU, mca) if not shutil.which(name)]
    if missing:
        print(f'SKIPPED: not on the PATH: {", ".join(missing)}', file=sys.stderr)
        sys.exit(77)
    return mca


def build(home):
    """bench/trace for this architecture, at addresses that are fixed."""
    sources = [p for p in sorted((ROOT / 'engine/kernels').glob('*.c')) if not p.name.startswith('avx')]
    sources += [ROOT / 'engine/mathf.c', ROOT / 'bench/trace.c', ROOT / 'tests/kernels/check_input.c',
                ROOT / 'tests/kernels/check_panels.c']

    def compiled(source):
        flags = next((f for level, f in LEVELS.items() if source.name.startswith(level)), [])
        flags = WIDE_FLAGS if source.stem == 'neon_wide' else flags
        subprocess.run([CC, *FLAGS, *flags, '-I', ROOT, '-c', source, '-o', home / (source.stem + '.o')], check=True)
        return home / (source.stem + '.o')

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    program = home / 'trace'
    subprocess.run([CC, '-static', '-no-pie', *objects, '-lm', '-o', program], check=True)
    return program


def disassembly(program):
    """{address: instruction} of the whole program, and {function: first address}."""
    said = subprocess.run([OBJDUMP, '-d', '--no-show-raw-insn', program], capture_output=True, text=True, check=True)
    code, functions, name = {}, {}, None
    for line in said.stdout.splitlines():
        head = re.match(r'^([0-9a-f]+) <([^>]+)>:', line)
        if head:
            name = head.group(2)
            functions[name] = int(head.group(1), 16)
            continue
        found = re.match(r'^\s*([0-9a-f]+):\s+(.+?)(?:\s*//.*)?$', line)
        if found and name:
            at = int(found.group(1), 16)
            code[at] = found.group(2)
    return code, functions


def span_of(home, code, functions):
    """From the first to past the last instruction of the levels' objects, which are linked side by side."""
    objects = [p for p in home.glob('*.o') if p.name.startswith(tuple(LEVELS))]
    said = subprocess.run([OBJDUMP, '-t', *objects], capture_output=True, text=True, check=True).stdout
    names = re.findall(r'^[0-9a-f]+ (?:g|l)\s+F \.text\s+[0-9a-f]+ (?:\.hidden )?(\S+)$', said, re.M)
    first, last = min(functions[n] for n in names), max(functions[n] for n in names)
    end = min((at for at in functions.values() if at > last), default=max(code) + 4)
    return first, end


def traced(program, span, level, kind, columns, tokens, panels, home):
    """Addresses of the instructions of one call, in the order they ran: all that lie in the span."""
    log = home / f'{level}-{kind}-{columns}-{tokens}-{panels}.log'
    words = [level, kind.removeprefix(WIDE), str(columns), str(tokens), *([str(panels)] if panels else [])]
    done = subprocess.run([QEMU, '-cpu', 'max', '-singlestep', '-d', 'exec,nochain', '-dfilter',
                           f'0x{span[0]:x}..0x{span[1] - 1:x}', '-D', log, program, *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f'{QEMU}: exit {done.returncode}: {done.stderr}')
    found = [int(m, 16) for m in re.findall(r'^Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/', log.read_text(), re.M)]
    log.unlink()
    return [at for at in found if span[0] <= at < span[1]]


def plain(instruction, core):
    """As the analyser's assembler reads it: no symbols behind numbers, and branches that lead nowhere special."""
    if core == 'cortex-a76':
        instruction = LOOK_UP.sub(r'orr\t\1, \2, \3', instruction)
    instruction = re.sub(r'\s*<[^>]*>', '', instruction)
    instruction = re.sub(r'^(b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+\w+,\s*#\d+,|bl)\s+(?:0x)?[0-9a-f]+$', r'\1 .', instruction)
    return re.sub(r'^(adrp?\s+\w+),.*$', r'\1, .', instruction)


def analysed(mca, core, instructions):
    """(cycles, cycles that the vector pipes need, and the load pipe) of a run of instructions."""
    said = subprocess.run([mca, '-mtriple=aarch64', f'-mcpu={core}', '-mattr=+dotprod,+i8mm', '-iterations=1',
                           '-instruction-info=false'], input='\n'.join(instructions) + '\n', capture_output=True, text=True)
    if said.returncode != 0:
        sys.exit(f'{mca}: {said.stderr[:2000]}')
    cycles = int(re.search(r'^Total Cycles:\s+(\d+)', said.stdout, re.M).group(1))
    names = dict(re.findall(r'^\[([\d.]+)\]\s+- (\w+)', said.stdout, re.M))
    rows = said.stdout.split('Resource pressure per iteration:')[1].splitlines()
    pressure = dict(zip(re.findall(r'\[([\d.]+)\]', rows[1]), rows[2].split()))
    busy = {name: float(pressure[i]) if pressure[i] != '-' else 0.0 for i, name in names.items()}
    if not {*VECTOR_PIPES, LOAD_PIPE} <= set(busy):
        sys.exit(f'{mca}: knows no {", ".join(VECTOR_PIPES)} and {LOAD_PIPE}')
    return cycles, sum(busy[name] for name in VECTOR_PIPES) / len(VECTOR_PIPES), busy[LOAD_PIPE]


def more_columns(mca, core, program, code, span, level, kind, tokens, panels, home):
    """What another COLUMNS columns take: instructions, dot products, cycles, cycles of the vector pipes and of the load
    pipe."""
    calls = []
    for columns in (COLUMNS, 2 * COLUMNS):
        instructions = [code[at] for at in traced(program, span, level, kind, columns, tokens, panels, home)]
        calls.append((len(instructions), sum(1 for i in instructions if DOTS.match(i)),
                      *analysed(mca, core, [plain(i, core) for i in instructions])))
    more = [b - a for a, b in zip(*calls)]
    if more[3] <= 0:
        sys.exit(f'{level} {kind}, {tokens} tokens: {calls[1][0]} instructions of the call were seen, and none of a product')
    return more


def panels_and_tables(few, many):
    """What a panel takes, and what is taken once for all of them, from the figures of WIDE_PANELS panels each."""
    each = [(b - a) / (WIDE_PANELS[1] - WIDE_PANELS[0]) for a, b in zip(few, many)]
    return each, [a - WIDE_PANELS[0] * e for a, e in zip(few, each)]


def counted(mca, core, program, code, span, level, kind, tokens, home):
    """One row: what another COLUMNS columns take."""
    wide = kind.startswith(WIDE)
    found = [more_columns(mca, core, program, code, span, level, kind, tokens, panels, home)
             for panels in (WIDE_PANELS if wide else (None,))]
    each = 128 / (COLUMNS * PANEL_ROWS * PANELS.get(kind, 1) * tokens)
    tables = 0.0
    if wide:
        panel, once = panels_and_tables(*found)
        tables = once[2] / AMORTIZED * each
        count, dots, cycles, pipes, loads = ((v + o / AMORTIZED) * each for v, o in zip(panel, once))
        bound = max(pipes, loads / LOADS[core])
    else:
        count, dots, cycles, bound, _ = (v * each for v in found[0])
    return {'core': core, 'level': level, 'kind': kind, 'tokens': tokens, 'instructions': count, 'cycles': cycles,
            'bound': bound, 'tables': tables, 'dots': dots / len(VECTOR_PIPES), 'ratio': cycles / bound,
            'ratio_dots': cycles / (dots / len(VECTOR_PIPES)) if dots else None}


def print_row(row):
    dots = f"{row['dots']:>8.2f} {row['ratio_dots']:>7.2f}" if row['dots'] else f"{'-':>8} {'-':>7}"
    tables = f"{row['tables']:>8.2f}" if row['tables'] else f"{'-':>8}"
    print(f"{row['core']:<11} {row['level']:<8} {row['kind']:<9} {row['tokens']:>6} {row['instructions']:>12.1f} "
          f"{row['cycles']:>8.2f} {row['bound']:>8.2f} {row['ratio']:>7.2f} {dots} {tables}", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kind', action='append', choices=KINDS + WIDE_KINDS, help='default: all')
    parser.add_argument('--level', action='append', choices=LEVELS)
    parser.add_argument('--tokens', action='append', type=int, help=f'default: {TOKENS}, for wide products {WIDE_TOKENS}')
    parser.add_argument('--core', action='append')
    parser.add_argument('--json', help='write the rows to this file, or to standard output for -')
    return parser.parse_args()


def main():
    args, mca = arguments(), tools()
    wanted = [(core, level, kind, tokens) for level in args.level or LEVELS for core in CORES[level]
              if not args.core or core in args.core for kind in args.kind or KINDS + WIDE_KINDS
              if level == WIDE_LEVEL or not kind.startswith(WIDE)
              for tokens in args.tokens or (WIDE_TOKENS if kind.startswith(WIDE) else TOKENS)]
    rows, quiet = [], args.json == '-'
    if not quiet:
        print('for 128 weights and a token; ratios are cycles over the bound before them\n'
              f"{'core':<11} {'level':<8} {'kind':<9} {'tokens':>6} {'instructions':>12} {'cycles':>8} {'pipes':>8} "
              f"{'ratio':>7} {'dots':>8} {'ratio':>7} {'tables':>8}")
    with tempfile.TemporaryDirectory(prefix='onebit-mca-') as home:
        home = pathlib.Path(home)
        program = build(home)
        code, functions = disassembly(program)
        span = span_of(home, code, functions)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            asked = []
            for core, level, kind, tokens in wanted:
                where = home / f'{core}-{level}-{kind}-{tokens}'
                where.mkdir()
                asked.append(pool.submit(counted, mca, core, program, code, span, level, kind, tokens, where))
            for task in asked:
                rows.append(task.result())
                if not quiet:
                    print_row(rows[-1])
    if args.json:
        text = json.dumps({'columns': COLUMNS, 'rows': rows}, indent=1) + '\n'
        sys.stdout.write(text) if quiet else pathlib.Path(args.json).write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
