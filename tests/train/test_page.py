#!/usr/bin/env python3
"""docs/train-your-own.md: its rows are made and its commands run as they stand there, with fewer steps."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(os.environ.get('ONEBIT_BUILD', 'build')).resolve()
SOURCE = pathlib.Path(os.environ.get('ONEBIT_SOURCE', '.')).resolve()


class Page(unittest.TestCase):

    def test_the_page_does_what_it_says(self):
        page = (SOURCE / 'docs/train-your-own.md').read_text(encoding='utf-8')
        program, = re.findall(r'^```python\n(.*?)^```', page, re.S | re.M)
        commands = [block for block in re.findall(r'^```sh\n(.*?)^```', page, re.S | re.M) if 'onebit-train' in block]
        self.assertEqual(len(commands), 1)
        short, n = re.subn(r'--steps 1000', '--steps 60 --batch 16', commands[0])
        self.assertEqual(n, 1)
        env = dict(os.environ, PATH=f'{BUILD / "train"}:{os.environ["PATH"]}')
        with tempfile.TemporaryDirectory() as home:
            subprocess.run([sys.executable, '-c', program], cwd=home, check=True)
            rows = [len((pathlib.Path(home) / name).read_text().splitlines()) for name in ('rows.jsonl', 'held.jsonl')]
            self.assertIn(f'{rows[0]:,} rows to learn from in rows.jsonl, {rows[1]} others', page)
            done = subprocess.run(['bash', '-euc', short], cwd=home, env=env, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, rf'exact +\d+ of {rows[1]}, ')
            size = (pathlib.Path(home) / 'times.gguf').stat().st_size
            self.assertIn(f'in {size // 1000} KB', page)


if __name__ == '__main__':
    unittest.main(verbosity=2)
