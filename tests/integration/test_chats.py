#!/usr/bin/env python3
"""Sessions with the real engine: a chat that goes on is the same chat, whatever happens in between, and costs less."""
import json
import os
import signal
import unittest

from harness import HOOKED_RUNNER, PATIENCE, Daemon, Peer, alive, text_of

SLOW = ' @@sleep-ms-20-per-step@@'
QUESTIONS = ['turn on the light in the kitchen, please, and then the one in the hall',
             'and now dim both of them to half, but not before the music has ended',
             'what did I ask for first?']


def user(text):
    return {'role': 'user', 'content': text}


def turn(peer, number, text, session='chat', **more):
    """One turn that goes well: its text and its end."""
    peer.send({'type': 'generate', 'id': number, 'session': session, 'messages': [user(text)], 'max_tokens': 24,
               'ignore_eos': True, 'deadline_ms': PATIENCE * 1000, **more})
    frames = peer.until_end(number)
    assert frames[-1]['type'] == 'done', frames[-1]
    return text_of(frames), frames[-1]


def shown(peer, session='chat', number=9000):
    peer.send({'type': 'session', 'id': number, 'session': session})
    return peer.until_end(number)[-1]['result']


def chat(peer, session='chat', between=None, questions=QUESTIONS):
    """A whole chat: the answers, and what the session is at the end."""
    answers = []
    for number, question in enumerate(questions, 1):
        if between and number > 1:
            peer = between(peer)
        answers.append(turn(peer, number, question, session)[0])
    return answers, comparable(shown(peer, session))


def comparable(session):
    return {key: session[key] for key in ('model', 'quantization', 'messages', 'tokens', 'history')}


class Chats(unittest.TestCase):

    def test_later_turns_find_what_was_computed(self):
        with Daemon() as d, Peer(d) as peer:
            _, first = turn(peer, 1, QUESTIONS[0])
            _, second = turn(peer, 2, QUESTIONS[1])
            _, third = turn(peer, 3, QUESTIONS[2])
            self.assertEqual(first['cached_tokens'], 0)
            whole = first['prompt_tokens'] + first['answer_tokens']
            self.assertGreater(second['prompt_tokens'], whole)
            for end, before in ((second, whole), (third, second['prompt_tokens'] + second['answer_tokens'])):
                self.assertGreater(end['cached_tokens'], 0)
                self.assertGreaterEqual(end['cached_tokens'], before - 64)  # but for blocks not full
            session = shown(peer)
            self.assertEqual(session['tokens'], third['prompt_tokens'] + third['answer_tokens'])
            self.assertEqual(session['messages'], 6)

    def test_a_session_answers_as_one_without_reuse_does(self):
        with Daemon() as d, Peer(d) as peer:
            answers, end = chat(peer)
            plain = []
            for number, question in enumerate(QUESTIONS, 1):
                plain.append(turn(peer, number, question, 'plain', no_cache=True)[0])
            self.assertEqual(plain, answers)
            self.assertEqual(comparable(shown(peer, 'plain')), end)

    def test_restarts_of_the_daemon_change_nothing(self):
        with Daemon() as d, Peer(d) as peer:
            undisturbed = chat(peer)
        for how in (signal.SIGTERM, signal.SIGKILL):
            with Daemon() as d:

                def restart(peer):
                    before = shown(peer)
                    peer.close()
                    d.process.send_signal(how)
                    d.process.wait(timeout=PATIENCE)
                    d.socket.unlink(missing_ok=True)
                    d.start()
                    again = Peer(d)
                    self.addCleanup(again.close)
                    self.assertEqual(shown(again), before)
                    return again
                self.assertEqual(chat(Peer(d), between=restart), undisturbed, how)

    def test_an_engine_killed_in_mid_turn_changes_nothing(self):
        questions = [QUESTIONS[0], QUESTIONS[1] + SLOW]
        with Daemon(runner=HOOKED_RUNNER) as d, Peer(d) as peer:
            undisturbed = chat(peer, questions=questions)
            turn(peer, 10, questions[0], 'killed')
            peer.send({'type': 'generate', 'id': 11, 'session': 'killed', 'messages': [user(questions[1])],
                       'max_tokens': 24, 'ignore_eos': True, 'deadline_ms': PATIENCE * 1000})
            frames = []
            while sum(f['type'] == 'delta' for f in frames) < 4:
                frames.append(peer.receive())
            runner = d.status()['runner_pid']
            os.kill(runner, signal.SIGKILL)
            frames += peer.until_end(11)
            self.assertEqual((frames[-1]['type'], frames[-1].get('restarts')), ('done', 1), frames[-1])
            self.assertEqual(text_of(frames), undisturbed[0][1])
            self.assertEqual(comparable(shown(peer, 'killed')), undisturbed[1])
            self.assertFalse(alive(runner))

    def test_sessions_at_once_answer_as_alone(self):
        with Daemon() as d:
            with Peer(d) as peer:
                alone = [chat(peer, f'alone-{i}', questions=self.questions_of(i)) for i in range(4)]
            peers = [Peer(d) for _ in alone]
            together = [[] for _ in alone]
            for number in range(1, len(QUESTIONS) + 1):
                for i, peer in enumerate(peers):
                    peer.send({'type': 'generate', 'id': number, 'session': f'together-{i}', 'max_tokens': 24,
                               'ignore_eos': True, 'deadline_ms': PATIENCE * 1000,
                               'messages': [user(self.questions_of(i)[number - 1])]})
                for i, peer in enumerate(peers):
                    together[i].append(text_of(peer.until_end(number)))
            for i, peer in enumerate(peers):
                self.assertEqual((together[i], comparable(shown(peer, f'together-{i}'))), alone[i])
                peer.close()

    def questions_of(self, i):
        return [f'{question} {"again " * i}' for question in QUESTIONS]

    def test_a_full_context_is_refused_or_trimmed(self):
        with Daemon(config='[model home-q1_0]\ntemperature = 0\nn_ctx = 256\n') as d, Peer(d) as peer:
            end = None
            for number in range(1, 40):
                before = shown(peer) if number > 1 else None
                peer.send({'type': 'generate', 'id': number, 'session': 'chat', 'messages': [user(QUESTIONS[0])],
                           'max_tokens': 16, 'ignore_eos': True})
                end = peer.until_end(number)[-1]
                if end['type'] == 'error':
                    break
            self.assertEqual((end['name'], end['number'], end['limit']), ('context_too_long', 413, 256))
            self.assertGreater(end['have'], 256)
            self.assertEqual(shown(peer), before)
            _, end = turn(peer, 50, QUESTIONS[0], max_tokens=16, trim=True)
            self.assertGreater(end['trimmed'], 0)
            after = shown(peer)
            self.assertEqual(after['messages'], before['messages'] + 2 - end['trimmed'])
            self.assertEqual(after['tokens'], end['prompt_tokens'] + end['answer_tokens'])
            self.assertEqual(after['history'][-2], user(QUESTIONS[0]))
            _, end = turn(peer, 51, 'and then?', max_tokens=16, trim=True)
            self.assertGreater(end['cached_tokens'], 0)

    def test_the_command_line_lists_shows_and_drops(self):
        with Daemon() as d, Peer(d) as peer:
            chat(peer)
            listed = json.loads(d.cli('session', 'list', '--json').stdout)
            self.assertEqual([s['name'] for s in listed], ['chat'])
            self.assertIn(QUESTIONS[0].encode(), d.cli('session', 'show', 'chat').stdout)
            self.assertEqual(d.cli('session', 'drop', 'chat').returncode, 0)
            self.assertEqual(d.cli('session', 'drop', 'chat').returncode, 66)


if __name__ == '__main__':
    unittest.main(verbosity=2)
