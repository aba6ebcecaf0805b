#!/usr/bin/env python3
"""Whole answers, kept for the same question: who gets one, who does not, and that it is the same answer.

The engine is a puppet: what it is not asked, it cannot answer."""
import os
import unittest

import test_seam
from harness import PUPPET_RUNNER, Daemon, Peer, text_of, wait_for

NOBODY = 65534
KEPT = '[cache]\nanswers_bytes = 1M\n[socket]\nmode = 0666\n'
QUESTION = {'prompt': 'how many', 'temperature': 0.0}


class Answers(test_seam.Seam):

    def daemon(self, config=KEPT):
        d = Daemon(runner=PUPPET_RUNNER, env=self.env, config=config)
        d.home.chmod(0o711)
        return d

    def send(self, peer, number, **more):
        peer.send({'type': 'generate', 'id': number, 'deadline_ms': 60000, **QUESTION, **more})

    def computed(self, life, peer, number, loaded=True, **more):
        """Ask, and answer as the engine does."""
        self.send(peer, number, **more)
        seq = next(f['request'] for f in iter(peer.receive, None) if f['type'] == 'accepted')
        if not loaded:
            life.load()
        life.plan(seq)
        life.send({'type': 'started', 'seq': seq, 'prompt_tokens': 3, 'max_tokens': 64, 'ids': [1, 2, 3]})
        life.tokens(seq, 0, [5], 'se')
        life.tokens(seq, 1, [6, 7], 'v\u00e9n')
        life.send({'type': 'finished', 'seq': seq, 'reason': 'stop', 'prompt_tokens': 3, 'answer_tokens': 3})
        frames = peer.until_end(number)
        self.assertEqual(frames[-1]['type'], 'done', frames)
        self.assertNotIn('cached_answer', frames[-1])
        return frames

    def kept(self, peer, number, **more):
        self.send(peer, number, **more)
        frames = peer.until_end(number)
        self.assertTrue(frames[-1].get('cached_answer'), frames)
        return frames

    def first(self, peer, **more):
        """The engine, and what it answered to the first question."""
        self.send(peer, 1, **more)
        life = self.life().up().load()
        seq = next(f['request'] for f in iter(peer.receive, None) if f['type'] == 'accepted')
        life.plan(seq)
        life.send({'type': 'started', 'seq': seq, 'prompt_tokens': 3, 'max_tokens': 64, 'ids': [1, 2, 3]})
        life.tokens(seq, 0, [5], 'se')
        life.tokens(seq, 1, [6, 7], 'v\u00e9n')
        life.send({'type': 'finished', 'seq': seq, 'reason': 'stop', 'prompt_tokens': 3, 'answer_tokens': 3})
        return life, peer.until_end(1)

    def test_the_same_question_gets_the_same_answer_at_once(self):
        with self.daemon() as d, Peer(d) as peer:
            life, before = self.first(peer)
            after = self.kept(peer, 2, deadline_ms=0)
            self.assertEqual(text_of(after), text_of(before))
            self.assertEqual(self.ids_of(after), [5, 6, 7])
            self.assertEqual([f['type'] for f in after], ['accepted', 'delta', 'done'])
            for key in ('finish_reason', 'prompt_tokens', 'answer_tokens', 'seed', 'model', 'quantization'):
                self.assertEqual(after[-1].get(key), before[-1].get(key), key)
            self.assertEqual(after[-1]['cached_tokens'], 3)
            self.kept(peer, 3, **{'class': 'low'})
            with Peer(d) as other:
                self.kept(other, 1)
            self.computed(life, peer, 4, prompt='how much')
            self.kept(peer, 5, prompt='how much')

    def test_a_request_with_a_seed_has_one_answer_too(self):
        with self.daemon() as d, Peer(d) as peer:
            life, _ = self.first(peer, temperature=1.0, seed=7)
            self.kept(peer, 2, temperature=1.0, seed=7)
            self.computed(life, peer, 3, temperature=1.0, seed=8)
            self.computed(life, peer, 4, temperature=0.9, seed=7)

    def test_what_can_have_another_answer_is_computed(self):
        with self.daemon() as d, Peer(d) as peer:
            life, _ = self.first(peer)
            changes = [{'temperature': 1.0}, {'max_tokens': 5}, {'stop': ['x']}, {'no_cache': True}, {'logprobs': 1},
                       {'repeat_penalty': 1.1}, {'ignore_eos': True}]
            for number, change in enumerate(changes, 2):
                self.computed(life, peer, number, **change)
            self.computed(life, peer, 90, temperature=1.0)
            self.computed(life, peer, 91, no_cache=True)
            self.computed(life, peer, 92, logprobs=1)

    def test_a_session_and_an_answer_that_failed_keep_nothing(self):
        with self.daemon() as d, Peer(d) as peer:
            life, _ = self.first(peer)
            self.send(peer, 2, prompt='fails')
            seq = next(f['request'] for f in iter(peer.receive, None) if f['type'] == 'accepted')
            life.plan(seq)
            life.tokens(seq, 0, [5], 'se')
            life.send({'type': 'failed', 'seq': seq, 'code': 'not_finite', 'message': 'm'})
            peer.until_end(2)
            self.computed(life, peer, 3, prompt='fails')
            for number in (4, 5):
                peer.send({'type': 'generate', 'id': number, 'session': 's', 'temperature': 0.0,
                           'messages': [{'role': 'user', 'content': 'x'}]})
                seq = next(f['request'] for f in iter(peer.receive, None) if f['type'] == 'accepted')
                life.plan(seq)
                life.tokens(seq, 0, [5], 'se')
                life.finish(seq)
                self.assertNotIn('cached_answer', peer.until_end(number)[-1])

    def test_nothing_is_kept_unless_it_is_configured(self):
        with self.daemon('') as d, Peer(d) as peer:
            life, _ = self.first(peer)
            self.computed(life, peer, 2)

    @unittest.skipIf(os.geteuid() != 0, 'another user needs root')
    def test_another_user_gets_none_of_it(self):
        with self.daemon() as d, Peer(d) as peer:
            life, _ = self.first(peer)
            os.seteuid(NOBODY)
            try:
                other = Peer(d)
            finally:
                os.seteuid(0)
            with other:
                self.assertEqual(other.hello['uid'], NOBODY)
                self.computed(life, other, 1)
                self.kept(other, 2)

    def loaded_again(self, life, peer, number):
        """The model is dropped, and comes back for another question."""
        peer.send({'type': 'unload', 'id': number, 'model': 'home-q1_0'})
        self.assertEqual(peer.until_end(number)[-1]['type'], 'done')
        life.plan()
        life.expect('drop')
        self.computed(life, peer, number + 1, loaded=False, prompt=f'question {number}')

    def test_answers_end_with_the_file_they_came_from(self):
        with self.daemon() as d, Peer(d) as peer:
            life, _ = self.first(peer)
            self.kept(peer, 2)
            self.loaded_again(life, peer, 10)
            self.kept(peer, 20)
            os.utime(d.models / 'home-q1_0.gguf', (1e9, 1e9))
            self.loaded_again(life, peer, 30)
            self.computed(life, peer, 40)
            self.kept(peer, 41)

    def test_answers_end_with_the_settings_they_were_made_with(self):
        with self.daemon(KEPT + '[model home-q1_0]\nkv = f16\n') as d, Peer(d) as peer:
            life, _ = self.first(peer)
            self.kept(peer, 2)
            d.set_config(KEPT + '[model home-q1_0]\nkv = int8\n', PUPPET_RUNNER)
            d.reload()
            self.kept(peer, 3)  # the engine has not heard of it yet
            self.loaded_again(life, peer, 10)
            self.computed(life, peer, 20)

    def test_an_answer_that_lived_through_an_engine_is_kept_whole(self):
        with self.daemon() as d, Peer(d) as peer:
            self.send(peer, 1)
            first = self.life().up()
            seq = next(f['request'] for f in iter(peer.receive, None) if f['type'] == 'accepted')
            first.load().plan(seq)
            first.tokens(seq, 0, [5], 'se')
            self.deltas(peer, 1, 1)
            first.die()
            second = self.life().up().load()
            second.plan(seq)
            second.tokens(seq, 0, [5, 6], 'seven')
            second.finish(seq)
            peer.until_end(1)
            after = self.kept(peer, 2)
            self.assertEqual((text_of(after), self.ids_of(after)), ('seven', [5, 6]))

    def test_metrics_count_them(self):
        with self.daemon() as d, Peer(d) as peer:
            self.first(peer)
            self.kept(peer, 2)

            def value(name):
                peer.send({'type': 'metrics', 'id': 9000})
                text = peer.until_end(9000)[-1]['result']
                return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name + ' ')))

            def one_hit():
                return value('onebit_kept_answer_hits_total') == 1
            wait_for(one_hit)
            self.assertEqual(value('onebit_kept_answer_misses_total'), 1)
            self.assertGreater(value('onebit_kept_answer_bytes'), 100)


def load_tests(loader, _tests, _pattern):
    """Those of this file alone: the class they grew from has its own."""
    names = [n for n in loader.getTestCaseNames(Answers) if n in Answers.__dict__]
    return unittest.TestSuite(Answers(n) for n in names)


if __name__ == '__main__':
    unittest.main(verbosity=2)
