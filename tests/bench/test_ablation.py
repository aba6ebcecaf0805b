#!/usr/bin/env python3
"""bench/ablation.py trains every kind that it says, writes its tables where the page has marks for them, and goes on where it
was stopped. What came of it is asserted nowhere."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BUILD, SOURCE = (pathlib.Path(os.environ[name]).resolve() for name in ('ONEBIT_BUILD', 'ONEBIT_SOURCE'))
PARTS = ['activations', 'binary', 'ternary', 'signs']
FIGURES = r'\| \d+\.\d{3} ± \d+\.\d{3} \| \d+\.\d ± \d+\.\d \|'


class Ablation(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = pathlib.Path(folder.name)

    def said(self, *words, code=0):
        done = subprocess.run([sys.executable, SOURCE / 'bench/ablation.py', '--quick', '--build', BUILD, '--seeds', '2', *words],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def test_every_table_is_written_between_its_marks(self):
        page = self.home / 'page.md'
        page.write_text(''.join(f'<!-- measured: {part} -->\n<!-- end: {part} -->\n' for part in PARTS))
        self.said('--page', page)
        text = page.read_text()
        for part in PARTS:
            rows = text.partition(f'<!-- measured: {part} -->')[2].partition('<!-- end:')[0].strip().splitlines()
            self.assertIn('2 seeds', rows[0])
            self.assertGreater(len(rows[4:]), 5)
            for row in rows[4:]:
                self.assertRegex(row, FIGURES)

    def test_what_is_done_is_not_done_again(self):
        """Goal: a run that was stopped goes on. Method: one result is lost; it alone is trained, to the same figures."""
        words = ['--only', 'binary', '--work', self.home / 'work']
        first = self.said(*words)
        kept = self.home / 'work/results.json'
        results = json.loads(kept.read_text())
        self.assertEqual(first.stderr.count('--seed'), len(results))
        lost = next(key for key, result in results.items() if 'clip' in result['what'])
        kept.write_text(json.dumps({key: result for key, result in results.items() if key != lost}))
        second = self.said(*words)
        self.assertEqual(second.stdout, first.stdout)
        self.assertEqual(second.stderr.count('--seed'), 1)
        self.assertIn('clip', second.stderr)


if __name__ == '__main__':
    unittest.main(verbosity=2)
