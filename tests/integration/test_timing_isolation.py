#!/usr/bin/env python3
"""bench/timing-isolation: its judgement on made-up times, and a few real pairs of two users, by the daemon's counts."""
import importlib.machinery
import importlib.util
import os
import random
import unittest

from harness import SOURCE

loader = importlib.machinery.SourceFileLoader('timing_isolation', str(SOURCE / 'bench/timing-isolation'))
isolation = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
loader.exec_module(isolation)


def made_up(leak, pairs=1000, noise=0.004):
    """Pairs in which a miss takes 50 ms and an own hit 10, and another's hit so much less or more than a miss."""
    rng = random.Random(5)
    return [{'other': 0.05 + leak + rng.gauss(0, noise), 'miss': 0.05 + rng.gauss(0, noise),
             'own': 0.01 + rng.gauss(0, noise / 4)} for _ in range(pairs)]


class Judgement(unittest.TestCase):

    def test_equal_times_keep_the_promise(self):
        said = isolation.judge(made_up(0), rounds=400)
        self.assertTrue(said['kept'], said)
        self.assertAlmostEqual(said['effect_ms'], 40, delta=1)
        self.assertTrue(said['low'] < 0 < said['high'], said)

    def test_a_tenth_of_the_effect_either_way_breaks_it(self):
        for leak in (-0.004, 0.004):
            said = isolation.judge(made_up(leak), rounds=400)
            self.assertFalse(said['kept'], said)
            self.assertAlmostEqual(said['part'], leak / 0.04, delta=0.02)

    def test_too_few_pairs_to_know_break_it(self):
        self.assertFalse(isolation.judge(made_up(0, pairs=8, noise=0.02), rounds=400)['kept'])

    def test_without_an_effect_there_is_nothing_to_judge_by(self):
        self.assertFalse(isolation.judge([{'other': 1.0, 'miss': 1.0, 'own': 2.0}] * 9, rounds=50)['kept'])


@unittest.skipUnless(os.geteuid() == 0, 'SKIPPED: two users are needed, and only root can be both')
class Users(unittest.TestCase):

    def test_nothing_of_another_users_prompt_is_found_and_all_but_the_end_of_ones_own(self):
        seen = isolation.measure(None, pairs=4, length=200, seed=1)
        self.assertEqual(list(isolation.faults(seen)), [])
        for row in seen:
            self.assertEqual((row['other'][1], row['miss'][1]), (0, 0))
            self.assertIn(row['own'][1], range(160, 200))

    def test_a_count_that_tells_of_sharing_is_a_fault(self):
        row = {'other': (0.1, 32), 'miss': (0.1, 0), 'own': (0.1, 0)}
        self.assertEqual(len(list(isolation.faults([row]))), 2)


if __name__ == '__main__':
    unittest.main(verbosity=2)
