#!/usr/bin/env python3
"""`onebit bench` against a daemon: it asks for what it says, counts what came, and judges by it. No time is
asserted here: that is what it is for."""
import json
import subprocess
import unittest

from harness import CLI, HOOKED_RUNNER, Daemon

USAGE, TEMPORARY = 64, 75
WARM_UP = (16, 2)  # tokens of prompt and answer before anything is measured


def counts(daemon):
    status = daemon.status()
    return status['prompt_tokens'], status['tokens']


class Bench(unittest.TestCase):

    def test_every_token_that_the_table_tells_of_was_asked_for_and_came(self):
        with Daemon() as daemon:
            before = counts(daemon)
            done = daemon.cli('bench', '-p', '24,100', '-n', 7, '-r', 3, '--streams', 2, '--json')
            self.assertEqual(done.returncode, 0, done.stderr)
            after = counts(daemon)
        said = json.loads(done.stdout)
        self.assertEqual(said['what']['model'], 'home-q1_0')
        self.assertEqual([(r['prompt_tokens'], r['answer_tokens'], r['cached_tokens'], r['requests'])
                          for r in said['rows']], [(24, 7, 0, 6), (100, 7, 0, 6)])
        for row in said['rows']:
            for times in (row['first_token_ms'], row['between_tokens_ms']):
                self.assertTrue(0 < times['p50'] <= times['p95'] <= times['p99'], times)
            self.assertGreater(row['prompt_tokens_per_second'], 0)
            self.assertGreater(row['answer_tokens_per_second'], 0)
        self.assertEqual(after[0] - before[0], 6 * (24 + 100) + WARM_UP[0])
        self.assertEqual(after[1] - before[1], 2 * 6 * 7 + WARM_UP[1])

    def test_the_table_has_a_line_for_each_length(self):
        with Daemon() as daemon:
            done = daemon.cli('bench', '-p', '8,16,32', '-n', 4, '-r', 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.decode().splitlines()
        self.assertEqual([line.split()[:3] for line in lines[-3:]], [['8', '4', '0'], ['16', '4', '0'], ['32', '4', '0']])

    def test_a_prompt_past_the_context_and_a_full_queue_end_it_with_their_own_codes(self):
        with Daemon(config='[engine]\nstreams_max = 1\n[queue]\ntotal = 2\n') as daemon:
            done = daemon.cli('bench', '-p', 5000)
            self.assertEqual(done.returncode, USAGE)
            self.assertIn(b'context_too_long', done.stderr)
            done = daemon.cli('bench', '-p', 500, '--streams', 8)
            self.assertEqual(done.returncode, TEMPORARY)
            self.assertIn(b'queue_full', done.stderr)
            self.assertEqual(daemon.cli('bench', '-p', 8, '-n', 2, '-r', 1).returncode, 0)

    def test_what_cannot_be_meant_is_refused(self):
        for words in (['slow'], ['-p', ''], ['-p', '0'], ['-p', '12,'], ['-p', '1,x'], ['-p', '-3'],
                      ['-p', '2000000'], ['load', 'everything'], ['load', 'total'], ['--against', 'x'],
                      ['load', 'same', '-p', '3,4'], ['-r', '0'], ['--slack', '3']):
            done = subprocess.run([CLI, 'bench', '-s', '/nonexistent', *words], capture_output=True)
            self.assertEqual((done.returncode, done.stdout), (USAGE, b''), words)


class Load(unittest.TestCase):

    def judged(self, done):
        """{promise: row}, after a run that may have found a promise broken by this machine's load."""
        self.assertIn(done.returncode, (0, 1), done.stderr)
        said = json.loads(done.stdout)
        rows = {p['name']: p for p in said['promises']}
        broken = [name for name, p in rows.items() if p['verdict'] != 'kept']
        self.assertEqual(done.returncode, 1 if broken else 0, broken)
        return rows

    def test_a_full_queue_and_company_are_measured_and_judged(self):
        with Daemon(config='[queue]\ntotal = 60\n') as daemon:
            done = daemon.cli('bench', 'load', 'same', 'refusal', 'control', '-p', 100, '-r', 1, '--json')
            rows = self.judged(done)
            self.assertEqual(list(rows), ['refusal', 'ps', 'status', 'metrics', 'same'])
            self.assertEqual((rows['same']['figure'], rows['same']['verdict']), (0, 'kept'))
            for name in ('refusal', 'ps', 'status'):
                self.assertGreater(rows[name]['figure'], 0, name)
                self.assertEqual(rows[name]['verdict'] == 'kept', rows[name]['figure'] <= rows[name]['bound'])
            self.assertEqual(daemon.status()['running'], 0)

    def test_cancels_are_timed_in_every_state(self):
        with Daemon() as daemon:
            rows = self.judged(daemon.cli('bench', 'load', 'cancel', '-p', 300, '-r', 1, '--json'))
            for name in ('cancel_waiting', 'cancel_prefill', 'cancel_decode'):
                self.assertGreater(rows[name]['figure'], 0, name)
            failed = daemon.status()['requests_failed']
        self.assertGreaterEqual(failed, 60)

    def test_a_stream_and_a_high_request_are_set_beside_themselves_alone(self):
        # Slowed down, so that the stream lives until the long prompts come, however busy the machine is.
        with Daemon(runner=HOOKED_RUNNER, env={'ONEBIT_STEP_MS': '3'}) as daemon:
            rows = self.judged(daemon.cli('bench', 'load', 'between', 'high', '-p', 200, '-n', 400, '-r', 2, '--json'))
        for row in rows.values():
            self.assertGreater(row['undisturbed'], 0)
            self.assertEqual(len(row['figures_sorted']), 2)
        self.assertAlmostEqual(rows['between']['bound'], 2 * rows['between']['undisturbed'], places=2)

    def test_a_stream_that_ends_too_soon_is_not_judged(self):
        with Daemon() as daemon:
            done = daemon.cli('bench', 'load', 'between', '-p', 100, '-n', 1, '-r', 1)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(b'not measured', done.stdout)
        self.assertIn(b'in 1 rounds the stream ended before a long prompt was read', done.stdout)

    def test_the_same_work_is_done_by_both_daemons(self):
        with Daemon() as ours, Daemon() as theirs:
            before = counts(ours), counts(theirs)
            rows = self.judged(ours.cli('bench', 'load', 'total', '--against', theirs.socket, '-p', 64, '-r', 2, '--json'))
            after = counts(ours), counts(theirs)
        self.assertGreater(rows['total']['figure'], 0)
        self.assertGreater(rows['total']['undisturbed'], 0)
        done = [tuple(a - b for a, b in zip(*pair)) for pair in zip(after, before)]
        self.assertEqual(done[0], done[1])
        self.assertGreater(done[0][0], 20 * 20)

    def test_a_seed_gives_the_same_arrivals_again(self):
        words = ['bench', 'load', 'mix', '-p', 64, '-r', 1, '--seconds', 2, '--rate', 4, '--json']
        with Daemon() as daemon:
            runs = [json.loads(daemon.cli(*words, '--seed', seed).stdout) for seed in (3, 4, 3)]
        self.assertEqual(runs[0]['arrivals'], runs[2]['arrivals'])
        self.assertNotEqual(runs[0]['arrivals'], runs[1]['arrivals'])
        for run in runs:
            kinds = {m['name']: m for m in run['mix']}
            timed = kinds['voice']['sent'] + kinds['chat']['sent']
            self.assertEqual(timed, len(run['arrivals']))
            self.assertEqual(timed, sum(kinds[k]['ended'] + kinds[k]['refused'] for k in ('voice', 'chat')))
            self.assertGreaterEqual(kinds['batch']['sent'], 50)


if __name__ == '__main__':
    unittest.main(verbosity=2)
