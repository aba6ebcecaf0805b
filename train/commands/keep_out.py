#!/usr/bin/env python3
"""Hashes of sentences that are for measuring alone, so that `onebit-train commands --keep-out` draws none of them.

    keep_out.py FILE.jsonl...    rows with a `text` or a `prompt`; the hashes go to standard output

The normal form is that of kept_out.h, cut words included."""
import json
import re
import sys

SMALL = {'the', 'a', 'an', 'my', 'our', 'your'}
UNITS = {word: n for n, word in enumerate(
    'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen '
    'nineteen'.split())}
TENS = {word: 10 * n for n, word in enumerate('twenty thirty forty fifty sixty seventy eighty ninety'.split(), 2)}


def lower(text):
    """ASCII alone: other letters stay as they are, as in C."""
    return re.sub('[A-Z]', lambda c: c[0].lower(), text)


CUT = 80  # bytes of a word; kept_out.c has the same


def normal(text):
    """Words that count, as bytes."""
    words, tens = [], 0
    for word in re.findall(r'[a-z0-9\x80-\U0010ffff]+', lower(text.replace("'", ''))):
        if word in SMALL:
            continue
        if tens and 1 <= UNITS.get(word, 0) <= 9:
            words[-1], tens = str(tens + UNITS[word]).encode(), 0
            continue
        tens = TENS.get(word, 0)
        words.append(str(tens or UNITS.get(word, word)).encode()[:CUT])
    return b' '.join(words)


def fnv(data):
    h = 0xcbf29ce484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001b3 % (1 << 64)
    return h


def main():
    hashes = set()
    for path in sys.argv[1:]:
        with open(path, encoding='utf-8') as file:
            for line in file:
                row = json.loads(line)
                hashes.add(fnv(normal(row.get('text') or row['prompt'])))
    print(*(f'{h:016x}' for h in sorted(hashes)), sep='\n')


if __name__ == '__main__':
    main()
