#!/usr/bin/env python3
"""KV on disk: prompts that memory forgot, and those of an engine that died or a daemon that ended, are read back by whom they belong to;
bad files harm nobody."""
import os
import signal
import unittest

from harness import Daemon, Peer, wait_for
from test_policy import AS_ROOT, OPEN, as_user, greet

SMALL = '[engine]\nkv_bytes = 1M\n'  # some 400 positions of the shipped model
DISK = SMALL + '[cache]\nkv_bytes_disk = 64M\n'


class Spill(unittest.TestCase):

    def ask(self, peer, number, which):
        """A prompt of 200 ids: (how many were found, the answer)."""
        ids = [(which * 101 + i * 7) % 900 + 3 for i in range(200)]
        peer.send({'type': 'generate', 'id': number, 'ids': ids, 'max_tokens': 8, 'ignore_eos': True,
                   'temperature': 0.0, 'deadline_ms': 60000})
        frames = peer.until_end(number)
        self.assertEqual(frames[-1]['type'], 'done', frames[-1])
        return frames[-1]['cached_tokens'], [i for f in frames if f['type'] == 'delta' for i in f.get('ids', ())]

    def file(self, d):
        return next(iter(d.cache.glob('*.kv')), None)

    def blocks_written(self, d, n):
        def so_many_are_written():
            f = self.file(d)
            return f and f.stat().st_size >= 4096 + n * 80 * 1024
        wait_for(so_many_are_written)

    def test_prompts_are_read_back(self):
        with Daemon(config=SMALL) as d, Peer(d) as peer:
            want = [self.ask(peer, i + 1, i)[1] for i in range(3)]
            self.assertEqual(self.ask(peer, 10, 0)[0], 0)
            self.assertIsNone(self.file(d))
        with Daemon(config=DISK) as d, Peer(d) as peer:
            for i in range(3):
                self.assertEqual(self.ask(peer, i + 1, i), (0, want[i]))
                self.blocks_written(d, 6 * (i + 1))
            for i in range(3):
                self.assertEqual(self.ask(peer, i + 10, i), (192, want[i]))
            os.kill(d.status()['runner_pid'], signal.SIGKILL)
            self.ask(peer, 20, 7)  # the next engine reads the file's index beside it
            self.blocks_written(d, 24)
            self.assertEqual(self.ask(peer, 21, 2), (192, want[2]))
            self.assertEqual(self.file(d).stat().st_mode & 0o777, 0o600)

    def restarted(self, d):
        d.stop()
        d.start()

    def test_kv_is_found_after_a_restart_of_the_daemon(self):
        with Daemon(config=DISK) as d:
            with Peer(d) as peer:
                want = self.ask(peer, 1, 0)
                self.assertEqual(want[0], 0)
                self.blocks_written(d, 6)
            self.restarted(d)
            with Peer(d) as peer:
                self.assertEqual(self.ask(peer, 1, 0), (192, want[1]))
            salts = d.cache / 'salts'
            self.assertEqual(salts.stat().st_mode & 0o777, 0o600)
            kept = salts.read_bytes()
            os.kill(d.process.pid, signal.SIGKILL)  # it had no time to write anything
            d.process.wait()
            d.start()
            with Peer(d) as peer:
                self.assertEqual(self.ask(peer, 1, 0), (192, want[1]))
            self.assertEqual(salts.read_bytes(), kept)

    @unittest.skipUnless(AS_ROOT, 'only root can be several users')
    def test_after_a_restart_another_user_finds_nothing_of_it(self):
        def asked_by(d, uid):
            with as_user(d, uid) as peer:
                greet(peer)
                return self.ask(peer, 1, 0)
        with Daemon(config=OPEN + '[peer default]\nrights = use\n' + DISK) as d:
            found, want = asked_by(d, 7000)
            self.assertEqual(found, 0)
            self.blocks_written(d, 6)
            self.restarted(d)
            self.assertEqual(asked_by(d, 7001), (0, want))
            self.assertEqual(asked_by(d, 7000), (192, want))
            self.restarted(d)
            self.assertEqual(asked_by(d, 7002), (0, want))
            self.assertEqual(asked_by(d, 7000), (192, want))

    def test_salts_that_are_damaged_or_open_to_others_count_for_nothing(self):
        with Daemon(config=DISK) as d:
            with Peer(d) as peer:
                want = self.ask(peer, 1, 0)[1]
                self.blocks_written(d, 6)
            salts = d.cache / 'salts'

            def damage():
                good = salts.read_bytes()
                salts.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
            for spoil in (damage, lambda: salts.chmod(0o644)):
                d.stop()
                before = d.read_log().count('is not found again')
                spoil()
                spoilt = salts.stat().st_ino
                d.start()
                with Peer(d) as peer:
                    self.assertEqual(self.ask(peer, 1, 0), (0, want))
                self.assertEqual(d.read_log().count('is not found again'), before + 1)

                def they_are_made_anew():
                    return salts.stat().st_ino != spoilt
                wait_for(they_are_made_anew)
                self.assertEqual(salts.stat().st_mode & 0o777, 0o600)

    def test_kv_that_a_reload_puts_on_disk_again_is_found_and_its_salts_stay(self):
        with Daemon(config=DISK) as d:
            with Peer(d) as peer:
                want = self.ask(peer, 1, 0)[1]
                self.blocks_written(d, 6)
            d.stop()
            salts = d.cache / 'salts'
            kept = salts.read_bytes()
            d.set_config(SMALL)
            d.start()
            with Peer(d) as peer:  # has a salt now, while nothing is on disk
                self.assertEqual(self.ask(peer, 1, 0), (0, want))
                d.set_config(DISK)
                d.reload()
                for verb in ('unload', 'load'):
                    self.assertEqual(d.cli(verb, 'home-q1_0').returncode, 0)
                self.assertEqual(self.ask(peer, 2, 0), (192, want))
            d.stop()
            self.assertEqual(salts.read_bytes(), kept)
            d.start()

    def test_without_kv_on_disk_no_salt_is_written(self):
        with Daemon(config=SMALL) as d:
            with Peer(d) as peer:
                self.ask(peer, 1, 0)
            d.stop()
            self.assertFalse((d.cache / 'salts').exists())
            d.start()

    def test_a_file_of_noise_is_begun_anew(self):
        d = Daemon(config=DISK)
        d.cache.mkdir()
        (d.cache / 'home-q1_0.f16.kv').write_bytes(os.urandom(1 << 20))
        with d, Peer(d) as peer:
            found, want = self.ask(peer, 1, 0)
            self.assertEqual(found, 0)
            self.blocks_written(d, 6)
            self.assertEqual(self.ask(peer, 2, 0), (192, want))

    def test_what_is_no_file_is_named_and_left_alone(self):
        d = Daemon(config=DISK)
        d.cache.mkdir()
        os.mkfifo(d.cache / 'home-q1_0.f16.kv')
        with d, Peer(d) as peer:
            self.ask(peer, 1, 0)

            def it_is_named():
                return 'no KV is kept there' in d.read_log()
            wait_for(it_is_named)
            self.assertEqual(self.ask(peer, 2, 0)[0], 192)


if __name__ == '__main__':
    unittest.main()
