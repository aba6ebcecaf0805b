#!/usr/bin/env python3
"""Every configuration key stands in the sample file and in the manual page with its default, and nothing else does.

    config_pages.py ROOT
"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
table = (root / 'daemon/broker/config_keys.c').read_text(encoding='utf-8')
sample = (root / 'packaging/onebit.conf').read_text(encoding='utf-8')
page = (root / 'packaging/man/onebit.conf.5').read_text(encoding='utf-8')
known = set(re.findall(r'^    \{"(\w+)", "(\w+)",', table, re.M))
peers = (root / 'daemon/broker/config_peer.c').read_text(encoding='utf-8')
known |= {('peer', key) for key in re.findall(r'^    \[PEER_\w+\] = \{"(\w+)"', peers, re.M)}
prefixes = (root / 'daemon/broker/config_prefix.c').read_text(encoding='utf-8')
known |= {('prefix', key) for key in re.findall(r'^    \[PREFIX_\w+\] = \{"(\w+)"', prefixes, re.M)}


def number(text):
    """A whole number or a size as the configuration writes it, or a C expression of the table."""
    text = re.sub(r'UINT64_C\((\d+)\)', r'\1', text.strip())
    text = re.sub(r'^0(?=[0-7]+$)', '0o', text)
    if unit := re.fullmatch(r'(\d+)([KMG])', text):
        return int(unit[1]) << 10 * ('KMG'.index(unit[2]) + 1)
    shift = re.fullmatch(r'(\d+) << (\d+)', text)
    return int(shift[1]) << int(shift[2]) if shift else int(text, 0)


names = {name: value for header in sorted((root / 'daemon/broker').glob('*.h'))
         for name, value in re.findall(r'#define (\w+) (\d+)u?\b', header.read_text(encoding='utf-8'))}
presets = {}
for section, key, rest in re.findall(r'^    \{"(\w+)", "(\w+)", KEY_(?:UINT|BYTES|OCTAL), (.*)\},$', table, re.M):
    last = re.sub(r', \.restart.*', '', rest).split(', ')[3]
    presets[section, key] = number(names.get(last, last))


def in_sample():
    section = None
    for line in sample.splitlines():
        if match := re.match(r'#?\s?\[(\w+)', line):
            section = match[1]
        elif match := re.match(r'#?\s?(\w+) *=', line):
            yield section, match[1]


def defaults():
    """(file, section, key, default) of every number that the two files name."""
    section = None
    for line in sample.splitlines():
        if match := re.match(r'#?\s?\[(\w+)', line):
            section = match[1]
        elif match := re.match(r'#?(\w+) = *(\S+)', line):
            yield 'packaging/onebit.conf', section, match[1], match[2]
    for part in page.split('.Ss [')[1:]:
        for key, text in re.findall(r'\.It Cm (\w+) No =.*\n((?:(?!\.It ).*\n)*)', part):
            if match := re.search(r'^Default: ([^ ;,]+?)\.?$', text, re.M):
                yield 'packaging/man/onebit.conf.5', part.split(']')[0], key, match[1]


def in_page():
    section = None
    for line in page.splitlines():
        if match := re.match(r'\.Ss \[(\w+)', line):
            section = match[1]
        elif match := re.match(r'\.It Cm (\w+) No =', line):
            yield section, match[1]


bad = []
for name, found in (('packaging/onebit.conf', set(in_sample())), ('packaging/man/onebit.conf.5', set(in_page()))):
    found = {pair for pair in found if pair[0] != 'model'}
    bad += [f'{name} lacks [{s}] {k}' for s, k in sorted(known - found)]
    bad += [f'{name} has [{s}] {k}, which is no key' for s, k in sorted(found - known)]
stated = [(name, s, k, text) for name, s, k, text in defaults() if (s, k) in presets]
bad += [f'{name}: [{s}] {k} = {text} is not its default, {presets[s, k]}'
        for name, s, k, text in stated if number(text) != presets[s, k]]
bad += [f'{name} does not give the default of [{s}] {k}'
        for name in ('packaging/onebit.conf', 'packaging/man/onebit.conf.5') for s, k in sorted(presets)
        if (name, s, k) not in {row[:3] for row in stated}]
if not known:
    bad.append('no key found in config_keys.c')
print(*bad, sep='\n', end='\n' if bad else '')
sys.exit(bool(bad))
