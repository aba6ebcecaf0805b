#!/usr/bin/env python3
"""The measuring programs say what they say they measure: every combination once, with figures that can be. How fast
anything is, is asserted nowhere."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD, SOURCE = (pathlib.Path(os.environ[name]).resolve() for name in ('ONEBIT_BUILD', 'ONEBIT_SOURCE'))
PANELS = re.findall(r'\[PANEL_\w+\] = \{"(\w+)"', (SOURCE / 'engine/kernels/kernels.c').read_text(encoding='utf-8'))
USAGE = 64


def said(program, *args):
    done = subprocess.run([BUILD / 'bench' / program, *map(str, args)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


class Limits(unittest.TestCase):

    def test_reading_is_measured_with_both_sizes_of_page_and_products_at_every_level(self):
        code, out, err = said('limits', '--json', '--threads', 2, '--mib', 16, '--ms', 2)
        self.assertEqual(code, 0, err)
        all_of_it = json.loads(out)
        self.assertEqual([(row['threads'], row['pages']) for row in all_of_it['read']], [(2, '4K'), (2, '2M')])
        for row in all_of_it['read']:
            self.assertTrue(0 < row['mean_gb_per_s'] <= row['gb_per_s'])
            self.assertTrue(0 <= row['huge_share'] <= 1)
        levels = [row['level'] for row in all_of_it['int8']]
        if all_of_it['level'] != 'scalar':
            self.assertIn(all_of_it['level'], levels)
        self.assertEqual(len(set(levels)), len(levels))
        self.assertTrue(all(0 < row['mean_g_mac_per_s'] <= row['g_mac_per_s'] for row in all_of_it['int8']))
        self.assertGreater(all_of_it['core_ghz'], 0)

    def test_a_person_sees_a_line_for_each_figure(self):
        code, out, _ = said('limits', '--threads', 1, '--mib', 16, '--ms', 2)
        self.assertEqual(code, 0)
        self.assertEqual(out.count(' GB/s, on average'), 2)

    def test_what_cannot_be_meant_is_refused(self):
        for words in (['--threads', 0], ['--threads', 65], ['--mib'], ['--ms', 'x'], ['fast'], ['--mib', '-1']):
            code, out, err = said('limits', *words)
            self.assertEqual((code, out), (USAGE, ''), words)
            self.assertIn('usage:', err)


class Kernels(unittest.TestCase):

    def test_each_kind_is_measured_in_both_places_by_number_of_tokens(self):
        code, out, err = said('kernels', '--json', '--level', 'scalar', '--kind', 'b1', '--kind', 'trow', '--tokens', 1,
                              '--tokens', 2, '--ms', 1)
        self.assertEqual(code, 0, err)
        rows = json.loads(out)['rows']
        self.assertEqual([(r['kind'], r['in'], r['tokens']) for r in rows],
                         [(kind, place, n) for kind in ('b1', 'trow') for place in ('cache', 'memory') for n in (1, 2)])
        for r in rows:
            self.assertEqual(r['level'], 'scalar')
            self.assertGreater(r['cycles'], 0)
            self.assertAlmostEqual(r['ns'] * r['g_mac_per_s'], 128, delta=128 * 0.05)  # two roundings

    def test_without_a_choice_there_is_every_kind_and_what_is_no_panel(self):
        code, out, err = said('kernels', '--json', '--level', 'scalar', '--tokens', 1, '--in', 'cache', '--ms', 1)
        self.assertEqual(code, 0, err)
        kinds = [r['kind'] for r in json.loads(out)['rows']]
        self.assertIn('b1', PANELS)
        self.assertEqual(kinds[:len(PANELS)], PANELS)
        self.assertIn('quant', kinds)

    def test_what_cannot_be_meant_is_refused(self):
        for words in (['--level', 'fast'], ['--kind', 'none'], ['--tokens', 0], ['--tokens', 65], ['--in', 'space'],
                      ['--kind'], ['b1']):
            self.assertEqual(said('kernels', *words)[:2], (USAGE, ''), words)


class Table(unittest.TestCase):

    def table(self, *args):
        return subprocess.run([sys.executable, SOURCE / 'bench/table.py', '--build', BUILD, *args], capture_output=True,
                              text=True)

    def test_rows_are_named_and_an_unknown_one_is_refused(self):
        names = self.table('--list').stdout.split()
        self.assertIn('q1-generate', names)
        self.assertEqual(len(set(names)), len(names))
        done = self.table('nothing-of-this-name')
        self.assertEqual(done.returncode, 2)
        self.assertIn('q1-generate', done.stderr)

    def measured(self, home, path):
        """The row of the shipped model, with programs found on this path."""
        out = {kind: home / f'out.{kind}' for kind in ('json', 'svg', 'markdown')}
        done = subprocess.run([sys.executable, SOURCE / 'bench/table.py', '--build', BUILD, '--quick', 'home',
                               *(w for kind, file in out.items() for w in (f'--{kind}', file))], capture_output=True,
                              text=True, env={**os.environ, 'PATH': path})
        self.assertIn(done.returncode, (0, 1), done.stderr)
        said = json.loads(out['json'].read_text())
        self.assertEqual(set(said['rows']), {'home-prompt', 'home-generate'})
        self.assertIn('<svg', out['svg'].read_text())
        self.assertIn('| home-generate |', out['markdown'].read_text())
        row = said['rows']['home-generate']
        self.assertEqual(done.returncode, int(row['met'] is False))
        return done.stdout, row

    def test_a_peer_takes_its_turns_where_it_is_and_is_missed_loudly_where_not(self):
        with tempfile.TemporaryDirectory() as home:
            home = pathlib.Path(home)
            peer = home / 'llama-bench'
            rows = [{'n_prompt': 128, 'n_gen': 0, 'avg_ts': 9.0}, {'n_prompt': 0, 'n_gen': 256, 'avg_ts': 4.0}]
            peer.write_text(f"#!/bin/sh\necho x >> {home}/turns\ncat <<'EOF'\n{json.dumps(rows)}\nEOF\n")
            peer.chmod(0o755)
            text, row = self.measured(home, f"{home}:{os.environ['PATH']}")
            self.assertNotIn('SKIPPED', text)
            self.assertEqual((row['source'], row['against']), ({'llama.cpp': 'measured'}, {'llama.cpp': 4.0}))
            tries = 2  # in a round, of either side
            self.assertEqual(len((home / 'turns').read_text().split()), tries * len(row['rounds']))
            self.assertAlmostEqual(row['targets'][0]['reached'], row['figure'] / 4)
            peer.unlink()
            text, row = self.measured(home, os.environ['PATH'])
            if not shutil.which('llama-bench'):
                self.assertIn('llama-bench: SKIPPED', text)
                self.assertEqual(row['source'], {'llama.cpp': 'scaled'})

    def test_every_target_belongs_to_a_row(self):
        sys.path.insert(0, str(SOURCE / 'bench'))
        import figures
        self.assertLessEqual(set(figures.TARGETS), set(self.table('--list').stdout.split()))


if __name__ == '__main__':
    unittest.main()
