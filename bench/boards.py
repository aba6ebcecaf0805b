#!/usr/bin/env python3
"""The tables of docs/deploy-*.md, made anew by `onebit-lab info --board`: what models take, and how many streams fit.

    boards.py [--models DIR] [--build DIR] [--check]

Models of random weights in the real shapes lie in --models, or are made (4.5 GB); sizes do not depend on their values, nor on
this machine. --check: change nothing, and end with 1 where a table would be another."""
import argparse
import pathlib
import subprocess
import sys
import tempfile

from page import replaced
from run import ROOT, workbench_of

BOARDS = {'raspberry-pi': 'pi-zero-2w,pi4-2gb,pi4-4gb,pi4-8gb,pi5-16gb,n100-ddr4',
          'jetson': 'jetson-nano,orin-nano-4gb,orin-nano-8gb,orin-nx-16gb'}
MODELS = {'raspberry-pi': [('bonsai-1.7b', 'Q1_0'), ('bonsai-1.7b', 'Q4_0'), ('bitnet-2b', 'TQ2_0')],
          'jetson': [('bonsai-1.7b', 'Q1_0'), ('bonsai-1.7b', 'Q4_0'), ('bonsai-1.7b', 'Q8_0'), ('bitnet-2b', 'TQ2_0')]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', type=pathlib.Path)
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--check', action='store_true')
    args = parser.parse_args()
    lab, changed = workbench_of(args.build), False
    with tempfile.TemporaryDirectory(prefix='onebit-boards-', dir='/var/tmp') as home:
        models = args.models or pathlib.Path(home)
        for where, boards in BOARDS.items():
            paths = [ROOT / 'models/home-q1_0.gguf']
            for shape, fmt in MODELS[where]:
                paths.append(models / f'{shape}-{fmt}.gguf')
                if not paths[-1].exists():
                    subprocess.run([lab, 'make', '--shape', shape, '--format', fmt, paths[-1]], check=True)
            table = subprocess.run([lab, 'info', *paths, '--board', boards], stdout=subprocess.PIPE, check=True).stdout.decode()
            page = ROOT / f'docs/deploy-{where}.md'
            before = page.read_text(encoding='utf-8')
            after = replaced(before, 'boards', table)
            changed |= after != before
            if not args.check:
                page.write_text(after, encoding='utf-8')
    sys.exit(int(args.check and changed))


if __name__ == '__main__':
    main()
