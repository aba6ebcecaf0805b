#!/usr/bin/env python3
"""KV that is short: who has the better claim gets it, and who had it goes on later, without a byte that is different."""
import json
import sys
import unittest

from harness import HOOKED_RUNNER, Daemon, Peer, text_of, wait_for
from test_policy import AS_ROOT, OPEN, as_user, greet

SLOW = {'stop': ['@@sleep-ms-40-per-step@@']}  # a word to the engine's hooks, in a place that no answer depends on
CONFIG = OPEN + '[engine]\nstreams_max = 8\nkv_bytes = 1M\n'  # 12 blocks of 32 positions of the shipped model


def asked(number, **more):
    return {'type': 'generate', 'id': number, 'prompt': f'a tale of {number} lamps: ', 'max_tokens': 110, 'ignore_eos': True,
            'temperature': 0.8, 'seed': 1000 + number, 'class': 'low', 'deadline_ms': 600000, **more}


def until_all_end(peer, numbers):
    """All frames of these requests, by number."""
    frames = {number: [] for number in numbers}
    left = set(numbers)
    while left:
        frame = peer.receive()
        assert frame is not None, f'closed before the end of {left}'
        if frame.get('id') in frames:
            frames[frame['id']].append(frame)
            if frame['type'] in ('done', 'error'):
                left.discard(frame['id'])
    return frames


def answer_of(frames):
    """Text, ids and count."""
    assert frames[-1]['type'] == 'done', frames[-1]
    return text_of(frames), [i for f in frames if f['type'] == 'delta' for i in f.get('ids', ())], frames[-1]['answer_tokens']


def answered_alone(requests):
    with Daemon(config=CONFIG) as d, Peer(d) as peer:
        want = {}
        for request in requests:
            peer.send({**request, 'no_cache': True})
            want[request['id']] = answer_of(peer.until_end(request['id']))
        assert d.status()['given_back'] == 0
        return want


def counted(d):
    n = d.status()['given_back']
    text = d.cli('metrics').stdout.decode()
    assert f'\nonebit_requests_given_back_total {n}\n' in text, (n, text)
    return n


def was_paused(frames):
    return any(f['type'] == 'progress' and f['phase'] == 'paused' for f in frames)


class GivenBack(unittest.TestCase):

    @unittest.skipUnless(AS_ROOT, 'only root can be several users')
    def test_a_high_request_takes_kv_from_low_streams_which_go_on_later(self):
        """Two low answers that fit, then a prompt of another user that does not beside both of them."""
        low = [asked(1), asked(2)]
        high = asked(3, prompt='on the ' * 80, max_tokens=20, **{'class': 'high'})
        want = answered_alone([*low, high])
        with Daemon(runner=HOOKED_RUNNER, config=CONFIG) as d, as_user(d, 7000) as patient, as_user(d, 7001) as hurried:
            greet(patient), greet(hurried)
            for request in low:
                patient.send({**request, **SLOW})

            def both_answer():
                return [r['state'] for r in json.loads(d.cli('ps', '--json').stdout)['requests']] == ['decode'] * 2
            wait_for(both_answer)
            self.assertEqual(counted(d), 0)
            hurried.send({**high, **SLOW})
            self.assertEqual(answer_of(hurried.until_end(3)), want[3])
            self.assertGreaterEqual(counted(d), 1)
            running = json.loads(d.cli('ps', '--json').stdout)['requests']
            self.assertEqual(len(running), 2)  # which had come first
            frames = until_all_end(patient, (1, 2))
            for number in (1, 2):
                self.assertEqual(answer_of(frames[number]), want[number])
                self.assertEqual(frames[number][-1]['restarts'], 0)
            self.assertTrue(was_paused(frames[1]) or was_paused(frames[2]))
            self.assertEqual(d.status()['requests_failed'], 0)

    def test_streams_that_outgrow_the_kv_take_turns(self):
        """Six answers of one user that begin small and do not fit together once they are long."""
        requests = [asked(n) for n in range(1, 7)]
        want = answered_alone(requests)
        slow = {'stop': ['@@sleep-ms-5-per-step@@']}  # so that all have begun before the first ends
        with Daemon(runner=HOOKED_RUNNER, config=CONFIG) as d, Peer(d) as peer:
            for request in requests:
                peer.send({**request, **slow})
            frames = until_all_end(peer, range(1, 7))
            for number in want:
                self.assertEqual(answer_of(frames[number]), want[number])
            self.assertGreaterEqual(counted(d), 1)
            self.assertTrue(any(was_paused(f) for f in frames.values()))
            self.assertEqual(d.status()['requests_failed'], 0)


if __name__ == '__main__':
    if not AS_ROOT:
        print('SKIPPED: the test with two users needs root', file=sys.stderr)
    unittest.main()
