#!/usr/bin/env python3
"""Commands and the answers this engine gives: a change of any number in the engine that matters shows here,
without data from outside the tree. The answers are what the model says, right or wrong.
With --write they are written anew: for another model in models/, or numbers that changed on purpose."""
import json
import pathlib
import sys
import unittest

from lab import HOME_MODEL, chat

GOLDEN = pathlib.Path(__file__).with_name('golden.jsonl')


def lines():
    return [json.loads(line) for line in GOLDEN.read_text(encoding='utf-8').splitlines()]


def write():
    new = []
    for line in lines():
        got = chat(HOME_MODEL, line['command'], options=('-n', 128))
        new.append(json.dumps({'command': line['command'], 'text': got['text'], 'ids': got['ids']}) + '\n')
    GOLDEN.write_text(''.join(new), encoding='utf-8')


class Golden(unittest.TestCase):

    def test_answers_and_their_ids_stay_what_they_were(self):
        self.assertGreaterEqual(len(lines()), 5)
        for want in lines():
            got = chat(HOME_MODEL, want['command'], options=('-n', 128))
            self.assertEqual((got['text'], got['ids'], got['finish_reason']), (want['text'], want['ids'], 'stop'))


if __name__ == '__main__':
    if sys.argv[1:] == ['--write']:
        write()
    else:
        unittest.main(verbosity=2)
