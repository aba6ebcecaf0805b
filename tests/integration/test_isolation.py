#!/usr/bin/env python3
"""Whose prompt it was stays between a user and the daemon: what one has computed, nobody else is spared."""
import contextlib
import os
import unittest

from harness import Daemon, Peer

OPEN_TO_ALL = '[socket]\nmode = 0666\n'
ALICE, BOB = 61001, 61002  # nobody's
PROMPT = [3 + i * 7 % 900 for i in range(300)]


@contextlib.contextmanager
def acting_as(uid):
    """Connect as another user: the kernel notes who that is at connect()."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def peer_of(d, uid):
    with acting_as(uid):
        return Peer(d)


def ask(peer, number, ids, **more):
    peer.send(dict({'type': 'generate', 'id': number, 'ids': ids, 'max_tokens': 4, 'ignore_eos': True,
                    'temperature': 0.0}, **more))
    tokens = []
    while True:
        frame = peer.receive()
        assert frame['type'] != 'error', frame
        if frame['type'] == 'delta':
            tokens += frame.get('ids', [])
        if frame['type'] == 'done':
            return frame, tokens


@unittest.skipUnless(os.geteuid() == 0, 'SKIPPED: only root can act as two users')
class Isolation(unittest.TestCase):

    def start(self, config=''):
        d = Daemon(config=OPEN_TO_ALL + config)
        os.chmod(d.home, 0o755)
        return d

    def test_a_prompt_is_computed_anew_for_another_user(self):
        with self.start() as d, peer_of(d, ALICE) as alice, peer_of(d, BOB) as bob:
            first, want = ask(alice, 1, PROMPT)
            again, got = ask(alice, 2, PROMPT)
            other, bobs = ask(bob, 1, PROMPT)
            later, bobs_again = ask(bob, 2, PROMPT)
            self.assertEqual(first['cached_tokens'], 0)
            self.assertGreater(again['cached_tokens'], len(PROMPT) // 2)
            self.assertLess(again['cached_tokens'], len(PROMPT))  # the last one is computed for its logits
            self.assertEqual(other['cached_tokens'], 0)
            self.assertEqual(later['cached_tokens'], again['cached_tokens'])
            for tokens in (got, bobs, bobs_again):
                self.assertEqual(tokens, want)  # whoever computed what, the answer is the same

    def test_another_connection_of_the_same_user_shares(self):
        with self.start() as d, peer_of(d, ALICE) as one, peer_of(d, ALICE) as two:
            ask(one, 1, PROMPT)
            done, _ = ask(two, 1, PROMPT)
            self.assertGreater(done['cached_tokens'], 0)

    def test_who_asks_for_no_cache_neither_gets_nor_leaves_one(self):
        with self.start() as d, peer_of(d, ALICE) as alice:
            ask(alice, 1, PROMPT, no_cache=True)
            self.assertEqual(ask(alice, 2, PROMPT)[0]['cached_tokens'], 0)
            self.assertEqual(ask(alice, 3, PROMPT, no_cache=True)[0]['cached_tokens'], 0)

    def test_requests_of_others_can_neither_be_seen_into_nor_cancelled(self):
        with self.start() as d, peer_of(d, ALICE) as alice, peer_of(d, BOB) as bob:
            alice.send({'type': 'generate', 'id': 1, 'ids': PROMPT, 'max_tokens': 100, 'ignore_eos': True})
            number = alice.receive()['request']
            bob.send({'type': 'cancel', 'id': 9, 'request': number})
            self.assertIn(bob.receive()['number'], (403, 404))
            while (frame := alice.receive())['type'] != 'done':
                self.assertNotEqual(frame['type'], 'error')


if __name__ == '__main__':
    unittest.main()
