#!/usr/bin/env python3
"""What the broker does when its helpers fail it, and the refusals that need a whole daemon."""
import pathlib
import shutil
import tempfile
import time
import unittest

from harness import HOOKED_RUNNER, RUNNER, SOURCE, Daemon, Peer, text_of, wait_for

CHAT = {'type': 'generate', 'messages': [{'role': 'user', 'content': 'turn on the kitchen lights'}]}
SLOW = {'type': 'generate', 'messages': [{'role': 'user', 'content': '@@sleep-ms-20-per-step@@ hi'}],
        'max_tokens': 400, 'ignore_eos': True}


class Broker(unittest.TestCase):

    def ask(self, peer, **message):
        peer.send(message)
        return peer.until_end(message['id'])[-1]

    def test_an_engine_that_cannot_live_is_reported_and_the_daemon_stays(self):
        with Daemon(runner='/bin/false') as d, Peer(d) as peer:
            end = self.ask(peer, id=1, **CHAT)
            self.assertEqual((end['name'], end['number']), ('engine_unavailable', 503))
            self.assertEqual(self.ask(peer, id=2, type='status')['type'], 'done')

    def packer_killed(self, times, home):
        """A runner whose packer is killed `times` times, each time in the middle of its work."""
        script = pathlib.Path(home) / 'runner'
        script.write_text('#!/bin/sh\n'
                          f'n=$(cat {home}/n 2>/dev/null || echo 0)\n'
                          f'if [ "$1" = --pack ] && [ "$n" -lt {times} ]; then\n'
                          f'  echo $((n + 1)) > {home}/n; kill -9 $$\n'
                          'fi\n'
                          f'exec {RUNNER} "$@"\n')
        script.chmod(0o755)
        return script

    def test_a_killed_packer_says_nothing_about_the_file(self):
        with tempfile.TemporaryDirectory() as home:
            with Daemon(runner=self.packer_killed(2, home)) as d, Peer(d) as peer:
                self.assertEqual(self.ask(peer, id=1, **CHAT)['type'], 'done')
        with tempfile.TemporaryDirectory() as home:
            with Daemon(runner=self.packer_killed(3, home)) as d, Peer(d) as peer:
                end = self.ask(peer, id=1, **CHAT)
                self.assertEqual((end['name'], end['retryable']), ('overloaded', True))
                self.assertEqual(self.ask(peer, id=2, **CHAT)['type'], 'done')

    def test_a_damaged_packed_file_is_made_anew(self):
        with Daemon() as d, Peer(d) as peer:
            peer.send({**CHAT, 'id': 1})
            want = text_of(peer.until_end(1))
            self.assertEqual(self.ask(peer, id=2, type='unload', model='home-q1_0')['type'], 'done')
            packs = list(d.cache.glob('*.pack'))
            self.assertEqual(len(packs), 1)
            packs[0].write_bytes(b'\0' * 4096)
            peer.send({**CHAT, 'id': 3})
            self.assertEqual(text_of(peer.until_end(3)), want)

    def test_a_changed_file_is_packed_anew_and_the_old_pack_goes(self):
        with Daemon() as d, Peer(d) as peer:
            self.assertEqual(self.ask(peer, id=1, type='load', model='home-q1_0')['type'], 'done')
            old = [p.name for p in d.cache.glob('*.pack')]
            self.assertEqual(self.ask(peer, id=2, type='unload', model='home-q1_0')['type'], 'done')
            time.sleep(0.02)
            (d.models / 'home-q1_0.gguf').touch()
            self.assertEqual(self.ask(peer, id=3, type='load', model='home-q1_0')['type'], 'done')
            new = [p.name for p in d.cache.glob('*.pack')]
            self.assertEqual(len(new), 1)
            self.assertNotEqual(new, old)

    def test_a_deadline_ends_what_has_no_token_yet(self):
        with Daemon(runner=HOOKED_RUNNER, config='[engine]\nstreams_max = 1\n') as d, Peer(d) as peer:
            peer.send({**SLOW, 'id': 1})
            while peer.receive()['type'] != 'delta':
                pass
            end = self.ask(peer, id=2, **{**SLOW, 'deadline_ms': 150})
            self.assertEqual((end['name'], end['number']), ('deadline', 504))
            end = self.ask(peer, id=3, **{**SLOW, 'deadline_ms': 0})
            self.assertEqual(end['name'], 'deadline')
            self.assertEqual(self.ask(peer, id=4, type='cancel', target=1)['type'], 'done')

            def the_stream_is_free():
                return self.ask(peer, id=5, type='ps')['result']['requests'] == []
            wait_for(the_stream_is_free)
            end = self.ask(peer, id=6, **{**SLOW, 'deadline_ms': 0, 'max_tokens': 2})
            self.assertEqual(end['type'], 'done', end)

    def test_busy_models_duplicate_ids_and_cancels_from_elsewhere(self):
        with Daemon(runner=HOOKED_RUNNER) as d, Peer(d) as peer, Peer(d) as other:
            peer.send({**SLOW, 'id': 1})
            number = peer.receive()['request']
            while peer.receive()['type'] != 'delta':
                pass
            peer.send({'type': 'unload', 'id': 2, 'model': 'home-q1_0'})
            self.assertEqual(peer.until_end(2)[-1]['name'], 'model_busy')
            peer.send({**SLOW, 'id': 1})
            self.assertEqual(peer.until_end(1)[-1]['name'], 'duplicate_id')
            self.assertEqual(self.ask(other, id=1, type='cancel', request=number)['type'], 'done')
            self.assertEqual(peer.until_end(1)[-1]['name'], 'cancelled')
            self.assertEqual(self.ask(other, id=2, type='cancel', request=number)['name'], 'no_request')

    def test_several_models_and_no_default_ask_for_a_name(self):
        with Daemon() as d, Peer(d) as peer:
            shutil.copy(SOURCE / 'models/home-q1_0.gguf', d.models / 'second.gguf')
            self.assertEqual(self.ask(peer, id=1, **CHAT)['name'], 'no_model')
            self.assertEqual(self.ask(peer, id=2, **CHAT, model='second')['type'], 'done')
            names = [m['name'] for m in self.ask(peer, id=3, type='list')['result']]
            self.assertEqual(names, ['home-q1_0', 'second'])

    def test_links_and_paths_are_no_models(self):
        with Daemon() as d, Peer(d) as peer:
            (d.models / 'link.gguf').symlink_to('/etc/passwd')
            (d.models / 'folder.gguf').mkdir()
            for number, name in enumerate(('link', 'folder', '../home', '.hidden'), 1):
                self.assertEqual(self.ask(peer, id=number, **CHAT, model=name)['name'], 'no_model', name)
            self.assertEqual(len(self.ask(peer, id=9, type='list')['result']), 1)

    def test_many_ask_for_the_folder_at_once_and_each_is_answered_once(self):
        with Daemon() as d, Peer(d) as peer:
            for number in range(1, 61):
                peer.send({'type': 'list', 'id': number})
                peer.send({'type': 'load', 'id': number + 1000, 'model': 'absent'})
            ends = {}
            while len(ends) < 120:
                frame = peer.receive()
                ends.setdefault(frame['id'], []).append(frame.get('name', frame['type']))
            peer.send({'type': 'status', 'id': 5000})
            self.assertEqual(peer.receive()['id'], 5000)  # nobody was answered twice
            self.assertEqual({i: e for i, e in ends.items() if i <= 1000}, {i: ['done'] for i in range(1, 61)})
            self.assertEqual({i: e for i, e in ends.items() if i > 1000}, {i + 1000: ['no_model'] for i in range(1, 61)})


if __name__ == '__main__':
    unittest.main(verbosity=2)
