#!/usr/bin/env python3
"""Counts a meson test log: names what was skipped, and ends with `N passed, N failed, N skipped`."""
import json
import sys

counts = {'passed': 0, 'failed': 0, 'skipped': 0}
KINDS = {'OK': 'passed', 'EXPECTEDFAIL': 'passed', 'SKIP': 'skipped'}
for line in open(sys.argv[1], encoding='utf-8'):
    test = json.loads(line)
    kind = KINDS.get(test['result'], 'failed')
    counts[kind] += 1
    if kind == 'skipped':
        why = (test.get('stdout') or test.get('stderr') or '').strip().splitlines()
        print(f"SKIPPED {test['name']}: {why[-1] if why else 'no reason given'}")
    if kind == 'failed':
        print(f"FAILED {test['name']}: {test['result']}")
print('{passed} passed, {failed} failed, {skipped} skipped'.format(**counts))
sys.exit(counts['failed'] > 0 or counts['passed'] == 0)
