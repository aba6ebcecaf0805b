#!/usr/bin/env python3
"""Commands and the answers this engine gives: a change of any number in the engine that matters shows here,
without data from outside the tree. The answers are what the model says, right or wrong."""
import json
import pathlib
import unittest

from lab import HOME_MODEL, chat

GOLDEN = pathlib.Path(__file__).with_name('golden.jsonl')


class Golden(unittest.TestCase):

    def test_answers_and_their_ids_stay_what_they_were(self):
        lines = [json.loads(line) for line in GOLDEN.read_text(encoding='utf-8').splitlines()]
        self.assertGreaterEqual(len(lines), 5)
        for want in lines:
            got = chat(HOME_MODEL, want['command'], options=('-n', 128))
            self.assertEqual((got['text'], got['ids'], got['finish_reason']), (want['text'], want['ids'], 'stop'))


if __name__ == '__main__':
    unittest.main(verbosity=2)
