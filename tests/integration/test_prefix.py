#!/usr/bin/env python3
"""Public prefixes: computed when their model is loaded, found by everybody, and only they."""
import contextlib
import os
import unittest

from harness import Daemon, Peer, text_of, wait_for

NOBODY = 65534
RULES = 'You turn what a person says about a home into one JSON object. ' * 6
STORY = 'Once upon a time there was a house with forty lamps and nobody to turn them off. ' * 4


class Prefixes(unittest.TestCase):

    def ask(self, peer, number, **what):
        peer.send({'type': 'generate', 'id': number, 'max_tokens': 4, 'ignore_eos': True, 'temperature': 0.0,
                   'deadline_ms': 60000, **what})
        frames = peer.until_end(number)
        self.assertEqual(frames[-1]['type'], 'done', frames[-1])
        return frames[-1]['cached_tokens'], [i for f in frames if f['type'] == 'delta' for i in f.get('ids', ())]

    def chat(self, peer, number, words):
        return self.ask(peer, number, messages=[{'role': 'system', 'content': RULES},
                                                {'role': 'user', 'content': words}])

    def daemon(self, sections):
        d = Daemon(config=f'[socket]\nmode = 0666\n[model home-q1_0]\npinned = yes\n{sections}')
        d.home.chmod(0o711)
        (d.home / 'rules').write_text(RULES + '\n')
        (d.home / 'story').write_text(STORY)
        config = d.config.read_text().replace('HOME', str(d.home))
        d.config.write_text(config)
        return d

    def test_everybody_finds_a_public_prefix_and_nothing_else(self):
        with self.daemon('') as plain, Peer(plain) as peer:
            without = self.chat(peer, 1, 'lights on')
            self.assertEqual(without[0], 0)
        sections = ('[prefix rules]\nmodel = home-q1_0\nfile = HOME/rules\n'
                    '[prefix story]\nmodel = home-q1_0\nfile = HOME/story\nas = raw\n'
                    '[prefix other]\nmodel = another\nfile = HOME/rules\n')
        with self.daemon(sections) as d:
            def both_are_there():
                return d.read_log().count('are there for everybody') == 2
            wait_for(both_are_there)
            with Peer(d) as peer:
                found, ids = self.chat(peer, 1, 'lights on')
                self.assertGreaterEqual(found, 64)
                self.assertEqual(ids, without[1])
                self.assertGreaterEqual(self.ask(peer, 2, prompt=STORY + 'Then')[0], 32)
                tail = 'a long secret of one user that nobody else is to know about at all, ' * 3
                self.ask(peer, 3, prompt=STORY + tail)
                public = self.ask(peer, 4, prompt=STORY + 'And')[0]
                self.assertGreater(self.ask(peer, 5, prompt=STORY + tail)[0], public)
            if os.getuid() != 0:
                return
            os.seteuid(NOBODY)
            try:
                other = Peer(d)
            finally:
                os.seteuid(0)
            with other:
                self.assertEqual(self.chat(other, 1, 'lights on'), (found, ids))
                self.assertEqual(self.ask(other, 2, prompt=STORY + tail)[0], public)

    def primed(self, d, n):
        """So many times a prefix has been computed, since the daemon's first start."""
        def they_are_there():
            return d.read_log().count('are there for everybody') >= n
        wait_for(they_are_there)

    def reload(self, d, old, new):
        d.config.write_text(d.config.read_text().replace(old, new))
        d.reload()

    @contextlib.contextmanager
    def another_user(self, d, uid):
        os.seteuid(uid)
        try:
            peer = Peer(d)
        finally:
            os.seteuid(0)
        with peer:
            yield peer

    @unittest.skipUnless(os.getuid() == 0, 'only root can be several users')
    def test_what_is_public_no_more_is_found_by_nobody(self):
        gone = '[prefix rules]\nmodel = home-q1_0\nfile = HOME/rules\n'
        stays = '[prefix story]\nmodel = home-q1_0\nfile = HOME/story\nas = raw\n'
        with self.daemon(gone + stays) as d, Peer(d) as peer:
            gone = gone.replace('HOME', str(d.home))
            self.primed(d, 2)
            want = self.chat(peer, 1, 'lights on')[1]
            with self.another_user(d, 7001) as other:
                self.assertGreaterEqual(self.chat(other, 1, 'lights on')[0], 64)
                story = self.ask(other, 2, prompt=STORY + 'Then')[0]
                self.assertGreaterEqual(story, 32)
            self.reload(d, gone, '')
            with self.another_user(d, 7002) as other:  # who has computed nothing of it
                self.assertEqual(self.chat(other, 1, 'lights on'), (0, want))
            self.assertEqual(self.chat(peer, 2, 'lights on'), (0, want))
            self.primed(d, 3)
            with self.another_user(d, 7003) as other:
                self.assertEqual(self.chat(other, 1, 'lights on'), (0, want))
                self.assertEqual(self.ask(other, 2, prompt=STORY + 'Then')[0], story)
            self.reload(d, '[socket]', gone + '[socket]')
            self.primed(d, 5)
            with self.another_user(d, 7004) as other:
                self.assertGreaterEqual(self.chat(other, 1, 'lights on')[0], 64)

    @unittest.skipUnless(os.getuid() == 0, 'only root can be several users')
    def test_a_reload_looks_at_the_files_too(self):
        """An answer that runs over the change is the same as ever."""
        slow = {'type': 'generate', 'id': 9, 'max_tokens': 200, 'ignore_eos': True, 'temperature': 0.0, 'deadline_ms': 60000,
                'prompt': STORY + 'Once more'}
        with self.daemon('[prefix story]\nmodel = home-q1_0\nfile = HOME/story\nas = raw\n') as d, Peer(d) as peer:
            self.primed(d, 1)
            peer.send({**slow, 'no_cache': True})
            want = text_of(peer.until_end(9))
            peer.send(slow)
            while peer.receive()['type'] != 'delta':
                pass
            (d.home / 'story').write_text(RULES)
            self.reload(d, 'pinned', 'pinned')
            self.primed(d, 2)
            peer.send({'type': 'cancel', 'id': 10, 'target': 9})
            peer.until_end(9)
            with self.another_user(d, 7001) as other:
                self.assertEqual(self.ask(other, 1, prompt=STORY + 'Then')[0], 0)
                self.assertGreaterEqual(self.ask(other, 2, prompt=RULES + 'Then')[0], 64)
            peer.send(slow)
            self.assertEqual(text_of(peer.until_end(9)), want)
            (d.home / 'story').unlink()
            self.reload(d, 'pinned', 'pinned')

            def it_is_named():
                return 'prefix story: ' + str(d.home) in d.read_log()
            wait_for(it_is_named)
            with self.another_user(d, 7002) as other:
                self.assertEqual(self.ask(other, 1, prompt=RULES + 'Then')[0], 0)

    @unittest.skipUnless(os.getuid() == 0, 'only root can be several users')
    def test_on_disk_it_is_public_as_long_as_it_is_configured(self):
        section = '[prefix story]\nmodel = home-q1_0\nfile = HOME/story\nas = raw\n'
        with self.daemon('[cache]\nkv_bytes_disk = 64M\n' + section) as d:
            with_it = d.config.read_text()
            self.primed(d, 1)

            def the_blocks_are_written():
                return any(f.stat().st_size > 3 * 80 * 1024 for f in d.cache.glob('*.kv'))
            wait_for(the_blocks_are_written)
            d.stop()
            d.config.write_text(with_it.replace(section.replace('HOME', str(d.home)), ''))
            d.start()
            with self.another_user(d, 7001) as other:
                self.assertEqual(self.ask(other, 1, prompt=STORY + 'Then')[0], 0)
            d.stop()
            d.config.write_text(with_it)
            d.start()
            self.primed(d, 2)
            with self.another_user(d, 7002) as other:
                self.assertGreaterEqual(self.ask(other, 1, prompt=STORY + 'Then')[0], 32)

    def test_an_engine_that_died_computes_it_again(self):
        with self.daemon('[prefix rules]\nmodel = home-q1_0\nfile = HOME/rules\n') as d:
            for n in (1, 2):
                def it_is_there():
                    return d.read_log().count('are there for everybody') == n
                wait_for(it_is_there)
                os.kill(d.status()['runner_pid'], 9)
            def it_is_there_again():
                return d.read_log().count('are there for everybody') == 3
            wait_for(it_is_there_again)

    def test_what_cannot_be_computed_is_said_once_and_harms_nobody(self):
        sections = ('[prefix absent]\nmodel = home-q1_0\nfile = HOME/absent\n'
                    '[prefix folder]\nmodel = home-q1_0\nfile = HOME\n'
                    '[prefix empty]\nmodel = home-q1_0\nfile = HOME/empty\n'
                    '[prefix bytes]\nmodel = home-q1_0\nfile = HOME/bytes\n'
                    '[prefix long]\nmodel = home-q1_0\nfile = HOME/long\n')
        d = self.daemon(sections)
        (d.home / 'empty').write_text('')
        (d.home / 'bytes').write_bytes(b'\xff\xfe' * 100)
        (d.home / 'long').write_text('a word ' * 20000)
        with d, Peer(d) as peer:
            self.assertEqual(self.chat(peer, 1, 'lights on')[0], 0)

            def all_are_named():
                log = d.read_log()
                return all(log.count(f'prefix {name}') == 1
                           for name in ('absent', 'folder', 'empty', 'bytes', 'long'))
            wait_for(all_are_named)


if __name__ == '__main__':
    if os.getuid() != 0:
        print('SKIPPED: the tests with several users need root', file=sys.stderr)
    unittest.main()
