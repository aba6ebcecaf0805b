#!/usr/bin/env python3
"""Every configuration key stands in the sample file and in the manual page with its default, and nothing else does.

    config_pages.py ROOT
"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
table = (root / 'daemon/broker/config_keys.c').read_text(encoding='utf-8')
sample = (root / 'packaging/onebitd.ini').read_text(encoding='utf-8')
page = (root / 'packaging/man/onebitd.ini.5').read_text(encoding='utf-8')
known = set(re.findall(r'^    \{"(\w+)", "(\w+)",', table, re.M))


def in_sample():
    section = None
    for line in sample.splitlines():
        if match := re.match(r'#?\s?\[(\w+)', line):
            section = match[1]
        elif match := re.match(r'#?\s?(\w+) *=', line):
            yield section, match[1]


def in_page():
    section = None
    for line in page.splitlines():
        if match := re.match(r'\.Ss \[(\w+)', line):
            section = match[1]
        elif match := re.match(r'\.It Cm (\w+) No =', line):
            yield section, match[1]


bad = []
for name, found in (('packaging/onebitd.ini', set(in_sample())), ('packaging/man/onebitd.ini.5', set(in_page()))):
    found = {pair for pair in found if pair[0] not in ('model', 'policy')}
    bad += [f'{name} lacks [{s}] {k}' for s, k in sorted(known - found)]
    bad += [f'{name} has [{s}] {k}, which is no key' for s, k in sorted(found - known)]
if not known:
    bad.append('no key found in config_keys.c')
print(*bad, sep='\n', end='\n' if bad else '')
sys.exit(bool(bad))
