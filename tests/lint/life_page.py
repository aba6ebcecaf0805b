#!/usr/bin/env python3
"""Holds docs/life-of-a-request.md to the code: each function of a stop stands in a file of that stop.

    life_page.py ROOT

A row reads | `function`, `function` | folder/file.c, file.c | what happens |; a file without a folder lies beside the
one before it, and a folder alone stands for all its files."""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
bad, stops = [], 0
for number, line in enumerate((root / 'docs/life-of-a-request.md').read_text(encoding='utf-8').splitlines(), 1):
    cells = [c.strip() for c in line.split('|')]
    names = re.findall(r'`(\w+)`', cells[1]) if len(cells) > 3 else []
    if not names:
        continue
    folder, text = None, ''
    for place in cells[2].split(','):
        place = place.strip()
        if place.endswith('/'):
            text += ''.join(p.read_text(encoding='utf-8') for p in (root / place).glob('*.[ch]'))
            continue
        folder = pathlib.PurePath(place).parent if '/' in place else folder
        path = root / (folder or '') / pathlib.PurePath(place).name
        if not path.is_file():
            bad.append(f'line {number}: there is no {place}')
            continue
        text += path.read_text(encoding='utf-8')
    for name in names:
        stops += 1
        if not re.search(rf'^(?:[a-z]|    \w+_fn ).*\b{name}\b', text, re.M):  # a definition, or a slot of a table
            bad.append(f'line {number}: {name} is not in {cells[2]}')
if stops < 30:
    bad.append(f'only {stops} stops found: has the table changed its form?')
print(*bad, sep='\n', end='\n' if bad else '')
sys.exit(bool(bad))
