#!/usr/bin/env python3
"""Everything `./dev lint` checks without running a program of ours. Prints each fault on a line."""
import pathlib
import platform
import re
import subprocess
import sys

ROOMS = ['base', 'engine', 'ipc', 'daemon', 'client', 'tests', 'bench', 'train']
FUNCTION_LINES = 70  # between the braces
FILE_LINES = 600
COLUMNS = 100
MACHINE_HEADERS = {  # compile on one machine alone, with these flags
    'engine/kernels/arm_panels.h': ('aarch64', []),
    'engine/kernels/arm_rows.h': ('aarch64', []),
    'engine/kernels/avx2_common.h': ('x86_64', ['-mavx2', '-mfma', '-mf16c']),
    'engine/kernels/avx2_lanes.h': ('x86_64', ['-mavx2', '-mfma', '-mf16c']),
    'engine/kernels/wide.h': ('x86_64', ['-mavx2', '-mfma', '-mf16c']),
    'engine/kernels/wide_binary.h': ('x86_64', ['-mavx2', '-mfma', '-mf16c']),
    'engine/kernels/wide_ternary.h': ('x86_64', ['-mavx2', '-mfma', '-mf16c']),
    'engine/kernels/avx512_common.h': ('x86_64', ['-mavx2', '-mfma', '-mf16c', '-mavx512f', '-mavx512bw', '-mavx512dq',
                                                  '-mavx512vl', '-mavx512vnni']),
    'engine/kernels/avx512_lanes.h': ('x86_64', ['-mavx2', '-mfma', '-mf16c', '-mavx512f', '-mavx512bw', '-mavx512dq',
                                                 '-mavx512vl', '-mavx512vnni']),
    'engine/kernels/x86_columns.h': ('x86_64', []),
    'engine/kernels/dotprod_common.h': ('aarch64', ['-march=armv8.2-a+dotprod']),
    'engine/kernels/i8mm_common.h': ('aarch64', ['-march=armv8.2-a+dotprod+i8mm']),
    'engine/kernels/neon_common.h': ('aarch64', []),
    'engine/kernels/neon_lanes.h': ('aarch64', []),
}
KERNELS = 'engine/kernels/'  # kernels and flat tables may be longer
UNFINISHED = re.compile(r'\b(TODO|FIXME|XXX|HACK)\b')


def sources(root):
    listed = subprocess.run(['git', '-C', root, 'ls-files', '-co', '--exclude-standard', '--', *ROOMS],
                            capture_output=True, text=True, check=True).stdout.split()
    return [f for f in listed if f.endswith(('.c', '.h')) and (root / f).exists()]


def format_faults(root, files):
    done = subprocess.run(['clang-format', '--dry-run', '-Werror', '--ferror-limit=1', *files], cwd=root,
                          capture_output=True, text=True)
    if done.returncode:
        yield from (l for l in done.stderr.splitlines() if 'error:' in l)


def size_faults(root, files):
    for name in files:
        lines = (root / name).read_text(encoding='utf-8').splitlines()
        if len(lines) > FILE_LINES and not name.startswith(KERNELS):
            yield f'{name}: {len(lines)} lines, more than {FILE_LINES}'
        start, table = None, False  # a table: lines that clang-format leaves alone, too
        for number, line in enumerate(lines, 1):
            table = 'clang-format off' in line or (table and 'clang-format on' not in line)
            if len(line) > COLUMNS and not table:
                yield f'{name}:{number}: {len(line)} columns, more than {COLUMNS}'
            if line == '{':
                start = number
            elif line == '}' and start:
                if number - start - 1 > FUNCTION_LINES and not name.startswith(KERNELS):
                    yield f'{name}:{start}: a function of {number - start - 1} lines'
                start = None
            if UNFINISHED.search(line):
                yield f'{name}:{number}: unfinished: {line.strip()}'


def header_faults(root, files):
    """Every header compiles alone."""
    for name in files:
        machine, args = MACHINE_HEADERS.get(name, (platform.machine(), []))
        if not name.endswith('.h') or machine != platform.machine() or name.startswith('tests/'):
            continue
        done = subprocess.run(['cc', '-std=gnu11', '-D_GNU_SOURCE', '-DONEBIT_VERSION="0"', '-Wall', '-Wextra', '-Wno-unused-function',
                               '-I.', *args, '-fsyntax-only', '-x', 'c', '-'], cwd=root,
                              input=f'#include "{name}"\n', capture_output=True, text=True)
        if done.returncode or done.stderr:
            yield f'{name}: does not compile alone: {done.stderr.splitlines()[:1]}'


def layer_faults(root, _):
    done = subprocess.run([sys.executable, root / 'tests/lint/layers.py', root], capture_output=True, text=True)
    yield from done.stdout.splitlines()
    if done.stderr:
        yield done.stderr


def manual_faults(root, _):
    for page in sorted((root / 'packaging/man').glob('*.[1-8]')):
        done = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', page],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C.UTF-8', 'MANWIDTH': '80'})
        yield from (f'{page.name}: {line}' for line in done.stderr.splitlines())


def python_faults(root, _):
    for path in sorted(root.glob('*/**/*.py')):
        if not str(path.relative_to(root)).startswith('build'):
            try:
                compile(path.read_text(encoding='utf-8'), str(path), 'exec')
            except SyntaxError as fault:
                yield f'{path}: {fault}'


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    files = sources(root)
    found = 0
    for check in (layer_faults, format_faults, size_faults, header_faults, manual_faults, python_faults):
        faults = list(check(root, files))
        print(f"{check.__name__.replace('_faults', '')}: {'clean' if not faults else ''}")
        print(*faults, sep='\n', end='\n' if faults else '')
        found += len(faults)
    return found > 0


sys.exit(main())
