#!/usr/bin/env python3
"""Conversations that the daemon keeps: what the engine is told of them, what the disk has of them, who sees them.

Here the engine is a puppet whose words are the test's; test_chats.py has the same with the real one."""
import os
import signal
import time
import unittest

import test_seam
from harness import PUPPET_RUNNER, Daemon, Peer, unpack, wait_for

NOBODY = 65534
CANARY = 'the heron walks at dawn behind the seventh greenhouse'


def user(text):
    return {'role': 'user', 'content': text}


class OtherPeer(Peer):
    """A client of another user."""

    def __init__(self, daemon):
        os.seteuid(NOBODY)
        try:
            super().__init__(daemon)
        finally:
            os.seteuid(0)


class Sessions(test_seam.Seam):

    def daemon(self, config=''):
        d = Daemon(runner=PUPPET_RUNNER, env=self.env, config=config)
        d.home.chmod(0o711)
        return d

    def ask(self, peer, number, text='hello', session='chat', **more):
        """Send a turn: (the server's number, the session's name)."""
        peer.send({'type': 'generate', 'id': number, 'session': session, 'messages': [user(text)],
                   'deadline_ms': 60000, **more})
        while True:
            frame = peer.receive()
            self.assertNotIn(frame['type'], ('error', 'done'), frame)
            if frame['type'] == 'accepted' and frame['id'] == number:
                return frame['request'], frame['session']

    def refused(self, peer, number, name, number_of_error, **more):
        peer.send({'type': 'generate', 'id': number, 'session': 'chat', 'messages': [user('x')], **more})
        end = peer.until_end(number)[-1]
        self.assertEqual((end['type'], end.get('name'), end.get('number')), ('error', name, number_of_error), end)
        return end

    def query(self, peer, kind, number=9000, **more):
        peer.send({'type': kind, 'id': number, **more})
        return peer.until_end(number)[-1]

    def shown(self, peer, name='chat'):
        return self.query(peer, 'session', session=name)['result']

    def names(self, peer):
        return [s['name'] for s in self.query(peer, 'sessions')['result']]

    def start_of(self, life, seq):
        """The start of this sequence, with its request unpacked."""
        for start in life.plan(seq):
            if start['seq'] == seq:
                return start, unpack(start['request'])[0]
        raise AssertionError('it was not started')

    def answer(self, life, seq, prompt_ids, ids=(7, 8), text='yes', reason='stop', n_trimmed=0):
        life.send({'type': 'started', 'seq': seq, 'prompt_tokens': len(prompt_ids), 'cached_tokens': 0,
                   'max_tokens': 64, 'ids': list(prompt_ids), **({'n_trimmed': n_trimmed} if n_trimmed else {})})
        life.tokens(seq, 0, list(ids), text)
        life.send({'type': 'finished', 'seq': seq, 'reason': reason, 'prompt_tokens': len(prompt_ids),
                   'answer_tokens': len(ids)})

    def turn(self, life, peer, number, prompt_ids, text='hello', loaded=True, session='chat', reply='yes', **more):
        """A turn that goes well: its start and its end."""
        seq, name = self.ask(peer, number, text, session, **more)
        if not loaded:
            life.load()
        start, request = self.start_of(life, seq)
        self.answer(life, seq, prompt_ids, text=reply)
        end = peer.until_end(number)[-1]
        self.assertEqual(end['type'], 'done', end)
        return start, request, name, end

    def on_disk(self, daemon, uid=0, name='chat'):
        return daemon.sessions / f'{uid}-{name}.session'

    # ---- what the engine is told ----

    def test_the_second_turn_brings_text_and_ids_of_the_first(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life_after(peer, 1)
            start, request = self.first
            self.assertTrue(start['want_ids'])
            self.assertNotIn('history', start)
            self.assertEqual(request['messages'], [user('hello')])
            start, request, _, _ = self.turn(life, peer, 2, [1, 2, 3, 7, 8, 9], 'more')
            self.assertEqual((start['history'], start['n_history']), ([1, 2, 3, 7, 8], 2))
            self.assertEqual(request['messages'], [user('hello'), {'role': 'assistant', 'content': 'yes'}, user('more')])
            start, _, _, _ = self.turn(life, peer, 3, [1, 2, 3, 7, 8, 9, 7, 8, 10], 'and more')
            self.assertEqual((start['history'], start['n_history']), ([1, 2, 3, 7, 8, 9, 7, 8], 4))
            shown = self.shown(peer)
            self.assertEqual([m['content'] for m in shown['history']], ['hello', 'yes', 'more', 'yes', 'and more', 'yes'])
            self.assertEqual((shown['messages'], shown['tokens'], shown['busy'], shown['first']), (6, 11, False, 0))

    def life_after(self, peer, number, **more):
        """An engine that has the model, after a first turn with ids 1, 2, 3 and 7, 8."""
        seq, _ = self.ask(peer, number, **more)
        life = self.life().up().load()
        self.first = self.start_of(life, seq)
        self.answer(life, seq, [1, 2, 3])
        self.assertEqual(peer.until_end(number)[-1]['type'], 'done')
        return life

    def test_a_session_without_a_name_gets_one(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life_after(peer, 1)
            _, _, first, _ = self.turn(life, peer, 2, [1], session='')
            _, _, second, _ = self.turn(life, peer, 3, [1], session='')
            self.assertNotEqual(first, second)
            self.assertEqual(sorted(self.names(peer)), sorted(['chat', first, second]))
            start, _, _, _ = self.turn(life, peer, 4, [1, 7, 8, 2], session=first)
            self.assertEqual(start['history'], [1, 7, 8])

    def test_what_the_first_request_gives_goes_on_and_a_later_one_counts_once(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life_after(peer, 1, temperature=0.5, seed=42, no_thinking=True)
            for number, more, want in ((2, {}, 0.5), (3, {'temperature': 0.0}, 0.0), (4, {}, 0.5)):
                _, request, _, end = self.turn(life, peer, number, [1], **more)
                self.assertEqual((request['temperature'], request['seed'], request['no_thinking'], end['seed']),
                                 (want, 42, True, 42))

    def test_an_engine_that_dies_in_mid_turn_is_told_the_same_again(self):
        with self.daemon() as d, Peer(d) as peer:
            first = self.life_after(peer, 1)
            seq, _ = self.ask(peer, 2, 'more')
            before, _ = self.start_of(first, seq)
            first.send({'type': 'started', 'seq': seq, 'prompt_tokens': 6, 'max_tokens': 64, 'ids': [1, 2, 3, 7, 8, 9]})
            first.tokens(seq, 0, [20, 21], 'ab')
            self.deltas(peer, 2, 2)
            first.die()
            second = self.life().up().load()
            after, _ = self.start_of(second, seq)
            self.assertEqual(after['resume'], [20, 21])
            self.assertEqual((after['history'], after['n_history'], after['request']),
                             (before['history'], before['n_history'], before['request']))
            self.answer(second, seq, [1, 2, 3, 7, 8, 9], ids=[20, 21, 22], text='abc')
            self.assertEqual(peer.until_end(2)[-1]['restarts'], 1)
            self.assertEqual(self.shown(peer)['history'][-1], {'role': 'assistant', 'content': 'abc'})
            start, _, _, _ = self.turn(second, peer, 3, [1])
            self.assertEqual(start['history'], [1, 2, 3, 7, 8, 9, 20, 21, 22])

    def test_ids_past_a_stop_string_are_not_kept(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life_after(peer, 1)
            seq, _ = self.ask(peer, 2)
            life.plan(seq)
            self.answer(life, seq, [1, 2, 3, 7, 8, 9], ids=[30, 31], text='cut', reason='stop_string')
            peer.until_end(2)
            start, request, _, _ = self.turn(life, peer, 3, [1])
            self.assertEqual((start['history'], start['n_history']), ([1, 2, 3, 7, 8], 2))
            self.assertEqual(len(request['messages']), 5)

    def test_what_the_engine_leaves_out_is_told_and_forgotten(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life_after(peer, 1)
            seq, _ = self.ask(peer, 2, 'more', trim=True)
            _, request = self.start_of(life, seq)
            self.assertTrue(request['trim'])
            self.answer(life, seq, [40, 41], n_trimmed=2)
            self.assertEqual(peer.until_end(2)[-1]['trimmed'], 2)
            self.assertEqual([m['content'] for m in self.shown(peer)['history']], ['more', 'yes'])
            start, _, _, _ = self.turn(life, peer, 3, [1])
            self.assertEqual((start['history'], start['n_history']), ([40, 41, 7, 8], 2))

    def test_a_history_of_too_many_messages_is_refused_or_trimmed(self):
        with self.daemon() as d, Peer(d) as peer:
            many = [user(f'q{i}') for i in range(255)]
            peer.send({'type': 'generate', 'id': 1, 'session': 'chat', 'messages': many})
            seq = next(f['request'] for f in iter(peer.receive, None) if f['type'] == 'accepted')
            life = self.life().up().load()
            life.plan(seq)
            self.answer(life, seq, [1, 2])
            peer.until_end(1)
            end = self.refused(peer, 2, 'context_too_long', 413)
            self.assertEqual((end['have'], end['limit']), (257, 256))
            _, request, _, end = self.turn(life, peer, 3, [1], 'last', trim=True)
            self.assertEqual((end['trimmed'], len(request['messages']), request['messages'][0]), (1, 256, user('q1')))

    # ---- one turn at a time, pinned ----

    def test_a_second_turn_at_once_is_busy(self):
        with self.daemon() as d, Peer(d) as peer, Peer(d) as other:
            life = self.life_after(peer, 1)
            seq, _ = self.ask(peer, 2)
            self.refused(other, 1, 'session_busy', 409)
            self.assertEqual(self.query(other, 'session_drop', session='chat')['name'], 'session_busy')
            life.plan(seq)
            self.answer(life, seq, [1])
            peer.until_end(2)
            self.turn(life, other, 2, [1])

    def test_another_model_or_quantization_is_a_mismatch(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life_after(peer, 1)
            end = self.refused(peer, 2, 'session_mismatch', 409, model='other')
            self.assertIn('home-q1_0', end['message'])
            self.refused(peer, 3, 'session_mismatch', 409, quantization='ternary')
            self.refused(peer, 4, 'session_mismatch', 409, chat_template='chatml')
            self.refused(peer, 5, 'unknown_quantization', 400, quantization='nonsense')
            self.turn(life, peer, 6, [1], model='home-q1_0')

    def test_a_failed_or_cancelled_turn_leaves_the_session_as_it_was(self):
        with self.daemon() as d, Peer(d) as peer:
            seq, _ = self.ask(peer, 1)
            life = self.life().up().load()
            life.plan(seq)
            life.send({'type': 'failed', 'seq': seq, 'code': 'context_too_long', 'message': 'm', 'have': 9, 'limit': 8})
            end = peer.until_end(1)[-1]
            self.assertEqual((end['name'], end['have'], end['limit']), ('context_too_long', 9, 8))
            self.assertEqual(self.names(peer), [])
            self.turn(life, peer, 2, [1, 2, 3])
            before = self.shown(peer)
            seq, _ = self.ask(peer, 3, 'forget this')
            life.plan(seq)
            life.tokens(seq, 0, [9], 'no')
            self.deltas(peer, 3, 1)
            self.query(peer, 'cancel', target=3)
            self.assertEqual(self.shown(peer), before)
            with Peer(d) as leaver:
                self.ask(leaver, 1, 'and this')

            def it_is_free():
                return not self.shown(peer)['busy']
            wait_for(it_is_free)
            self.assertEqual(self.shown(peer), before)

    # ---- on disk ----

    def kept(self, end):
        """Two daemons one after the other over one folder; `end` ends the first."""
        d = self.daemon()
        with d:
            with Peer(d) as peer:
                self.life_after(peer, 1)
                before = self.shown(peer)
            end(d)
            d.process.wait()
            d.socket.unlink(missing_ok=True)
            self.assertEqual(self.on_disk(d).stat().st_mode & 0o777, 0o600)
            self.assertEqual(d.sessions.stat().st_mode & 0o777, 0o700)
            d.start()
            with Peer(d) as peer:
                self.assertEqual(self.shown(peer), before)
                life = self.life()
                start, _, _, _ = self.turn(life.up(), peer, 2, [1], loaded=False)
                self.assertEqual((start['history'], start['n_history']), ([1, 2, 3, 7, 8], 2))

    def test_a_restart_keeps_text_and_ids(self):
        self.kept(lambda d: d.process.send_signal(signal.SIGTERM))

    def test_a_daemon_killed_right_after_a_turn_keeps_text_and_ids(self):
        self.kept(lambda d: d.process.kill())

    def test_a_dropped_session_is_gone_from_the_disk_too(self):
        with self.daemon() as d, Peer(d) as peer:
            self.life_after(peer, 1)
            path = self.on_disk(d)

            def it_is_on_disk():
                return path.exists()

            def it_is_gone():
                return not path.exists()
            wait_for(it_is_on_disk)
            self.assertEqual(self.query(peer, 'session_drop', session='chat')['type'], 'done')
            self.assertEqual(self.query(peer, 'session_drop', session='chat')['name'], 'no_session')
            self.assertEqual(self.query(peer, 'session', session='chat')['number'], 404)
            self.assertEqual(self.names(peer), [])
            wait_for(it_is_gone)

    def test_files_that_are_no_sessions_are_set_aside(self):
        whole = self.daemon()
        whole.sessions.mkdir(0o700)
        bad = {'0-cut.session': b'onebses1' + CANARY.encode(), '0-empty.session': b'', '0-\x1b[31m.session': b'x' * 100}
        for name, data in bad.items():
            (whole.sessions / name).write_bytes(data)
        os.mkfifo(whole.sessions / '0-fifo.session')
        os.symlink('/etc/passwd', whole.sessions / '0-link.session')
        with open(whole.sessions / '0-huge.session', 'wb') as f:
            f.truncate(9 << 20)
        with whole, Peer(whole) as peer:
            self.assertEqual(self.names(peer), [])
            left = sorted(p.name for p in whole.sessions.iterdir())
            self.assertEqual(left, sorted(n + '.bad' for n in
                                          [*bad, '0-fifo.session', '0-link.session', '0-huge.session']))
            self.assertEqual((whole.sessions / '0-cut.session.bad').read_bytes(), bad['0-cut.session'])
            log = whole.read_log()
            self.assertEqual(log.count('set aside'), 6, log)
            self.assertNotIn('\x1b', log)
            self.assertNotIn(CANARY, log)

    def test_a_session_under_another_name_or_owner_is_not_taken(self):
        d = self.daemon()
        with d:
            with Peer(d) as peer:
                self.life_after(peer, 1)
            d.process.send_signal(signal.SIGTERM)
            d.process.wait()
            self.on_disk(d).rename(self.on_disk(d, NOBODY))
            d.start()
            with Peer(d) as peer:
                self.assertEqual(self.names(peer), [])
            self.assertTrue((d.sessions / f'{NOBODY}-chat.session.bad').exists())

    def test_a_folder_that_is_gone_costs_no_turn(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life_after(peer, 1)

            def it_is_on_disk():
                return self.on_disk(d).exists()
            wait_for(it_is_on_disk)
            self.on_disk(d).unlink()
            d.sessions.rmdir()
            for number in range(2, 6):
                self.turn(life, peer, number, [1])
            self.assertEqual(self.shown(peer)['messages'], 10)

            def the_log_says_so():
                return 'cannot be written' in d.read_log()
            wait_for(the_log_says_so)
            self.assertEqual(d.read_log().count('cannot be written'), 1)

    def test_a_second_daemon_leaves_the_folder_alone(self):
        with self.daemon() as d, Peer(d) as peer:
            self.life_after(peer, 1)
            other = self.daemon()
            other.sessions = d.sessions
            with other, Peer(other) as second:
                self.assertIn('another daemon uses this folder', other.read_log())
                self.assertEqual(self.names(second), [])

    def test_an_empty_folder_name_keeps_nothing_on_disk(self):
        d = self.daemon('[sessions]\ndir =\n')
        d.command = lambda: [a for a in Daemon.command(d) if a not in ('--sessions', d.sessions)]
        with d, Peer(d) as peer:
            self.life_after(peer, 1)
            self.assertEqual(self.names(peer), ['chat'])
            self.assertFalse(d.sessions.exists())

    # ---- whose they are, and how many ----

    @unittest.skipIf(os.geteuid() != 0, 'another user needs root')
    def test_another_user_sees_nothing(self):
        with self.daemon('[socket]\nmode = 0666\n') as d, Peer(d) as peer:
            life = self.life_after(peer, 1, text=CANARY)
            with OtherPeer(d) as other:
                self.assertEqual(other.hello['uid'], NOBODY)
                self.assertEqual(self.names(other), [])
                for kind in ('session', 'session_drop'):
                    end = self.query(other, kind, session='chat')
                    self.assertEqual((end['name'], end['number']), ('no_session', 404))
                start, request, _, _ = self.turn(life, other, 1, [50])
                self.assertNotIn('history', start)
                self.assertEqual(len(request['messages']), 1)
                self.assertEqual(self.shown(other)['messages'], 2)
                self.assertEqual(self.shown(peer)['messages'], 2)
            self.assertNotIn(CANARY, d.read_log())
            self.assertNotIn(CANARY, str(self.query(peer, 'metrics')))

    def test_sessions_are_bounded_by_count(self):
        with self.daemon('[sessions]\ncount = 1\n') as d, Peer(d) as peer:
            life = self.life_after(peer, 1)
            end = self.refused(peer, 2, 'sessions_full', 507, session='second')
            self.assertEqual((end['have'], end['limit']), (1, 1))
            self.turn(life, peer, 3, [1])
            self.query(peer, 'session_drop', session='chat')
            self.turn(life, peer, 4, [1], session='second')

    def test_sessions_are_bounded_by_bytes(self):
        with self.daemon('[sessions]\nbytes = 100K\n') as d, Peer(d) as peer:
            life = self.life_after(peer, 1, max_tokens=64)
            end = self.refused(peer, 2, 'sessions_full', 507, messages=[user('x' * 60000)], max_tokens=64)
            self.assertGreater(end['have'], end['limit'])
            self.assertEqual(end['limit'], 100 << 10)
            self.turn(life, peer, 3, [1], max_tokens=64)

    def test_sessions_unused_for_long_are_forgotten(self):
        d = self.daemon('[sessions]\nage_days = 1\n')
        with d:
            with Peer(d) as peer:
                self.life_after(peer, 1)
            d.process.send_signal(signal.SIGTERM)
            d.process.wait()
            path = self.on_disk(d)
            self.age(path, 2 * 86400)
            d.start()
            with Peer(d) as peer:
                self.assertEqual(self.names(peer), [])

            def its_file_is_gone():
                return not path.exists()
            wait_for(its_file_is_gone)

    def age(self, path, seconds):
        """Make a file's session older, with its checksum."""
        data = bytearray(path.read_bytes()[:-8])
        used = int(time.time()) - seconds
        data[20:28] = used.to_bytes(8, 'little')
        total = 0xcbf29ce484222325
        for byte in data:
            total = (total ^ byte) * 0x100000001b3 & (1 << 64) - 1
        path.write_bytes(bytes(data) + total.to_bytes(8, 'little'))


def load_tests(loader, _tests, _pattern):
    """Those of this file alone: the class they grew from has its own."""
    names = [n for n in loader.getTestCaseNames(Sessions) if n in Sessions.__dict__]
    return unittest.TestSuite(Sessions(n) for n in names)


if __name__ == '__main__':
    unittest.main(verbosity=2)
