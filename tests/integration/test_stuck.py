#!/usr/bin/env python3
"""An engine that makes no progress is killed and its requests go on; one that is merely slow is left alone."""
import os
import re
import signal
import time
import unittest

from harness import HOOKED_RUNNER, PATIENCE, SANITIZED, Daemon, Peer, text_of, wait_for

WEDGED_MS = 4000 if SANITIZED else 1600  # nothing that the shipped model does takes that long
CONFIG = f'[daemon]\nwedged_ms = {WEDGED_MS}\n'
ASK = {'type': 'generate', 'max_tokens': 24, 'ignore_eos': True, 'temperature': 0.0, 'deadline_ms': PATIENCE * 1000}


class Stuck(unittest.TestCase):

    def ask(self, peer, prompt, number=1):
        peer.send({**ASK, 'id': number, 'prompt': prompt})
        frames = peer.until_end(number)
        self.assertEqual(frames[-1]['type'], 'done', frames[-1])
        return frames

    def answer_undisturbed(self, prompt):
        """What the prompt is answered without hooks, words for them being words like others."""
        with Daemon() as d, Peer(d) as peer:
            return text_of(self.ask(peer, prompt))

    def test_an_answer_goes_on_after_its_engine_was_stuck(self):
        """Goal: a stuck engine costs a pause. Method: one that stops in mid-answer, beside another stream."""
        stuck, beside = 'turn @@wedge-at-token-7@@ on the lights', 'turn on the heating @@sleep-ms-20-per-step@@'
        want = [self.answer_undisturbed(stuck), self.answer_undisturbed(beside)]
        with Daemon(config=CONFIG, runner=HOOKED_RUNNER) as d, Peer(d) as one, Peer(d) as two:
            one.send({**ASK, 'id': 1, 'prompt': stuck})
            two.send({**ASK, 'id': 1, 'prompt': beside})
            frames = [one.until_end(1), two.until_end(1)]
            self.assertEqual([text_of(f) for f in frames], want)
            self.assertEqual([f[-1]['type'] for f in frames], ['done', 'done'])
            self.assertEqual(frames[0][-1]['restarts'], 1)
            said = re.findall(r'engine \d+ is stuck: no progress for (\d+) ms in a step, request (\d+); it is killed',
                              d.read_log())
            self.assertEqual(len(said), 1, d.read_log())
            self.assertEqual(int(said[0][0]), WEDGED_MS)
            self.assertNotIn('lights', d.read_log())
            self.assertIn('the engine ended: it was stuck', d.read_log())
            self.assertIn(b'\nonebit_engine_stuck_total 1\n', d.cli('metrics').stdout)

    def test_an_engine_that_was_stopped_while_idle_is_noticed_by_the_next_request(self):
        with Daemon(config=CONFIG) as d, Peer(d) as peer:
            text = text_of(self.ask(peer, 'turn on the lights'))
            pid = d.status()['runner_pid']
            os.kill(pid, signal.SIGSTOP)
            self.assertEqual(text_of(self.ask(peer, 'turn on the lights', 2)), text)
            self.assertNotEqual(d.status()['runner_pid'], pid)

    def test_an_engine_that_stops_before_a_load_is_noticed(self):
        with Daemon(config=CONFIG) as d, Peer(d) as peer:
            def an_engine_is_there():
                return d.status()['runner_pid'] and 'is up' in d.read_log()
            wait_for(an_engine_is_there)
            os.kill(d.status()['runner_pid'], signal.SIGSTOP)
            self.ask(peer, 'turn on the lights')
            self.assertIn('is stuck', d.read_log())

    def test_slow_is_not_stuck(self):
        """Goal: steps of any length below the limit, and idle times of any length above it, are left alone."""
        slow = WEDGED_MS // 4
        with Daemon(config=CONFIG, runner=HOOKED_RUNNER) as d, Peer(d) as peer:
            pid = d.status()['runner_pid']
            peer.send({**ASK, 'id': 1, 'prompt': f'turn on @@sleep-ms-{slow}-per-step@@', 'max_tokens': 8})
            self.assertEqual(peer.until_end(1)[-1]['type'], 'done')
            time.sleep(1.5 * WEDGED_MS / 1000)
            self.ask(peer, 'turn on the lights', 2)
            self.assertEqual(d.status()['runner_restarts'], 0, d.read_log())
            if pid:
                self.assertEqual(d.status()['runner_pid'], pid)

    def test_zero_is_never(self):
        with Daemon(config='[daemon]\nwedged_ms = 0\n', runner=HOOKED_RUNNER) as d, Peer(d) as peer:
            peer.send({**ASK, 'id': 1, 'prompt': 'turn @@wedge-at-token-2@@ on'})
            while peer.receive()['type'] != 'delta':
                pass
            time.sleep(0.5)
            self.assertEqual(d.status()['runner_restarts'], 0)
            os.kill(d.status()['runner_pid'], signal.SIGKILL)  # else the drain would wait for it
            self.assertEqual(peer.until_end(1)[-1]['type'], 'done')


if __name__ == '__main__':
    unittest.main(verbosity=2)
