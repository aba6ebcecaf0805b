#!/usr/bin/env python3
"""bench/bits.py makes every model that its page speaks of, writes what is between the page's marks, and goes on where it was
stopped. What came of it is asserted nowhere."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import types
import unittest
import xml.dom.minidom

BUILD, SOURCE = (pathlib.Path(os.environ[name]).resolve() for name in ('ONEBIT_BUILD', 'ONEBIT_SOURCE'))
sys.path[:0] = [str(SOURCE / 'bench'), str(SOURCE / 'train/commands')]
import bits  # noqa: E402
from keep_out import fnv, normal  # noqa: E402


class Bits(unittest.TestCase):

    def test_page_picture_and_figures_are_written_and_what_is_done_is_not_done_again(self):
        """Goal: a run that was stopped goes on. Method: a second run of the same folder trains nothing."""
        with tempfile.TemporaryDirectory() as home:
            home = pathlib.Path(home)
            page = home / 'page.md'
            shutil.copy(SOURCE / 'docs/what-each-bit-costs.md', page)
            words = [sys.executable, SOURCE / 'bench/bits.py', '--quick', '--build', BUILD, '--sizes', 'small,large', '--work',
                     home / 'work', '--publish', '--page', page]
            first = subprocess.run(words, capture_output=True, text=True)
            self.assertEqual(first.returncode, 0, first.stderr)
            self.assertEqual(first.stderr.count(' ...\n'), 8)
            found = json.loads((home / 'page.json').read_text())
            self.assertEqual(len(found['results']), 15 + 5)
            bits = {(r['kind'], r['how']): r['bits'] for r in found['results'] if r['size'] == 'large'}
            for name, wanted in {('32-bit', 'trained so'): 32, ('16-bit', 'rounded'): 16, ('int8', 'awq'): 8.5,
                                 ('4-bit', 'gptq'): 4.5, ('ternary', 'trained so'): 2, ('binary', 'trained so'): 1.125,
                                 ('binary', 'propagate'): 1.125, ('binary, inputs too', 'trained so'): 1.125}.items():
                self.assertAlmostEqual(bits[name], wanted, places=2)
            text = page.read_text()
            self.assertEqual(text.count('| binary | rounded |'), 1 + 2)
            self.assertNotIn('Not measured yet', text)
            self.assertTrue(all(r['ms'] > 0 and r['perplexity'] > 1 for r in found['results']))
            xml.dom.minidom.parse(str(home / 'page.svg'))
            rows = [json.loads(row)['prompt'] for row in (home / 'work/rows.jsonl').read_text(encoding='utf-8').splitlines()]
            kept_out = (SOURCE / 'train/commands/kept-out.txt').read_text().split()
            self.assertFalse({f'{fnv(normal(row)):016x}' for row in rows} & set(kept_out), 'a measured sentence is learned')
            again = subprocess.run(words, capture_output=True, text=True)
            self.assertEqual((again.returncode, again.stderr.count(' ...\n')), (0, 0), again.stderr)

    def test_after_a_failure_no_training_is_begun(self):
        """Goal: hours are not spent on what nobody will read. Method: of forty trainings, one at a time, the first fails."""
        begun = []

        def train(size, _):
            begun.append(size)
            time.sleep(0.05)
            sys.exit('no room')
        bench = types.SimpleNamespace(jobs=1, train=train)
        with self.assertRaises(SystemExit):
            bits.Bench.make(bench, [(i, bits.FLOAT) for i in range(40)])
        self.assertLess(len(begun), 5)


if __name__ == '__main__':
    unittest.main(verbosity=2)
