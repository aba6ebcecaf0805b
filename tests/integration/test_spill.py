#!/usr/bin/env python3
"""KV on disk: prompts that memory forgot, and those of an engine that died, are read back; bad files harm nobody."""
import os
import signal
import unittest

from harness import Daemon, Peer, wait_for

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
