#!/usr/bin/env python3
"""Time that stands still, and time that jumps: a daemon that was stopped holds it against nobody, and a wall clock that is set a
year ahead or back changes what is told by days (quotas, the age of sessions) and nothing else."""
import os
import signal
import subprocess
import tempfile
import time
import pathlib
import unittest

from harness import BUILD, HOOKED_RUNNER, PATIENCE, SANITIZED, Daemon, Peer, text_of, wait_for

ASK = {'type': 'generate', 'messages': [{'role': 'user', 'content': 'turn on the kitchen lights'}], 'max_tokens': 12,
       'ignore_eos': True, 'temperature': 0.0, 'cache': False}
YEAR = 365 * 86400
STOP_S = 6


def ask(peer, number, **more):
    peer.send({**ASK, 'id': number, **more})
    return peer.until_end(number)


class Stopped(unittest.TestCase):

    def stop_both(self, d):
        pids = [d.status()['runner_pid'], d.process.pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(STOP_S)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)

    def test_a_time_without_running_makes_nobody_late(self):
        """Goal: deadline, hello, frame and idle time of a client are not spent while the daemon cannot run. Method: all are half as
        long as the daemon and its engine are stopped for, in the midst of an answer, of a request that waits for it to end, of a
        connection that has not said hello and of a frame that is not whole."""
        half = STOP_S * 500
        config = f'[engine]\nstreams_max = 1\n[limits]\nhello_ms = {half}\nframe_ms = {half}\nidle_ms = {half}\n'
        with Daemon(runner=HOOKED_RUNNER, config=config, env={'ONEBIT_STEP_MS': '40'}) as d:
            with Peer(d) as peer:
                want = text_of(ask(peer, 1))
            with Peer(d) as first, Peer(d) as second, Peer(d) as idle, Peer(d) as partial, Peer(d, hello=False) as silent:
                first.send({**ASK, 'id': 1})
                while first.receive()['type'] != 'delta':
                    pass
                second.send({**ASK, 'id': 1, 'deadline_ms': half})
                partial.s.sendall(b'\x50\x00')
                wait_for(lambda: d.status()['queued'] == 1)
                self.stop_both(d)
                self.assertEqual(first.until_end(1)[-1]['type'], 'done')
                frames = second.until_end(1)
                self.assertEqual((frames[-1]['type'], text_of(frames)), ('done', want), frames[-1])
                silent.send({'type': 'hello', 'protocol': [1, 0], 'name': 'late'})
                self.assertEqual(silent.receive()['type'], 'hello')
                self.assertEqual(ask(idle, 1)[-1]['type'], 'done')
                partial.s.sendall(b'\x00\x00' + bytes(0x50))
                self.assertEqual(partial.receive().get('name'), 'bad_frame')
            self.assertIn('nothing could be done for', d.read_log())
            self.assertEqual(d.status()['runner_restarts'], 0)

    def test_an_engine_that_is_stopped_alone_is_late(self):
        """The other way round: a deadline is one."""
        with Daemon(runner=HOOKED_RUNNER, env={'ONEBIT_STEP_MS': '40'}) as d, Peer(d) as peer:
            self.assertEqual(ask(peer, 1)[-1]['type'], 'done')
            runner = d.status()['runner_pid']
            os.kill(runner, signal.SIGSTOP)
            try:
                self.assertEqual(ask(peer, 2, deadline_ms=1000)[-1].get('name'), 'deadline')
            finally:
                os.kill(runner, signal.SIGCONT)
            self.assertEqual(ask(peer, 3)[-1]['type'], 'done')
            self.assertNotIn('nothing could be done for', d.read_log())


@unittest.skipIf(SANITIZED, 'SKIPPED: nothing can be preloaded before a sanitizer')
class WallClock(unittest.TestCase):

    def setUp(self):
        self.home = tempfile.TemporaryDirectory()
        self.shift = pathlib.Path(self.home.name) / 'shift'

    def tearDown(self):
        self.home.cleanup()

    def set(self, seconds):
        new = self.shift.with_suffix('.new')
        new.write_text(str(seconds))
        new.replace(self.shift)

    def daemon(self, **kw):
        env = {'LD_PRELOAD': str(BUILD / 'tests/support/wall-clock.so'), 'ONEBIT_WALL_SHIFT': str(self.shift), **kw.pop('env', {})}
        return Daemon(env=env, **kw)

    def test_a_clock_that_is_set_in_mid_answer_is_no_event(self):
        for seconds in (YEAR, -YEAR):
            self.set(0)
            with self.daemon(runner=HOOKED_RUNNER, env={'ONEBIT_STEP_MS': '40'}) as d, Peer(d) as peer, Peer(d) as other:
                want = text_of(ask(peer, 1))
                peer.send({**ASK, 'id': 2, 'deadline_ms': PATIENCE * 1000})
                peer.receive()
                self.set(seconds)
                self.assertEqual(text_of(peer.until_end(2)), want)
                self.assertEqual(text_of(ask(other, 1, deadline_ms=PATIENCE * 1000)), want)
                self.assertEqual(d.status()['runner_restarts'], 0)

    def test_a_quota_is_of_the_day_that_the_clock_shows(self):
        """Ahead or back: another day begins anew, and nobody is locked out until the clock has caught up."""
        self.set(0)
        with self.daemon(config='[peer default]\ntokens_per_day = 60\n') as d, Peer(d) as peer:
            self.assertEqual(ask(peer, 1, max_tokens=4)[-1]['type'], 'done')
            number = 2
            for seconds in (YEAR, -YEAR, 0):
                while (end := ask(peer, number, max_tokens=4, deadline_ms=5000)[-1])['type'] == 'done':
                    number += 1
                self.assertEqual(end['name'], 'rate_limited')
                self.assertLess(number, 30)
                self.set(seconds)
                self.assertEqual(ask(peer, number + 1, max_tokens=4)[-1]['type'], 'done', seconds)
                number += 2

    def test_sessions_age_by_the_clock_and_not_when_it_is_set_back(self):
        def names(d):
            return [line.split()[0] for line in d.cli('session', 'list').stdout.decode().splitlines()[1:]]
        self.set(0)
        with self.daemon(config='[sessions]\nage_days = 30\n') as d:
            with Peer(d) as peer:
                self.assertEqual(ask(peer, 1, session='kitchen')[-1]['type'], 'done')
            self.assertEqual(names(d), ['kitchen'])
            for seconds, want in ((-YEAR, ['kitchen']), (-YEAR + 20 * 86400, ['kitchen']), (-60 * YEAR, ['kitchen']), (YEAR, [])):
                self.set(seconds)
                self.assertEqual(names(d), want, seconds)


if __name__ == '__main__':
    unittest.main(verbosity=2)
