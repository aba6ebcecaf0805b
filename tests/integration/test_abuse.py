#!/usr/bin/env python3
"""Clients that misbehave: each is closed with a typed error where one can be sent, and nobody else notices."""
import json
import struct
import time
import unittest

from harness import PATIENCE, Daemon, Peer, wait_for

LIMITS = '[limits]\nhello_ms = 700\nframe_ms = 1500\nidle_ms = 1500\nstall_ms = 1500\n'
WANT = {'intent': 'HassTurnOn', 'area': 'kitchen', 'domain': 'light'}


def resident_bytes(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith('VmRSS'))


class Abuse(unittest.TestCase):

    def neighbour(self, d):
        done = d.cli('run', 'turn on the kitchen lights')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout), WANT)

    def last_words(self, peer):
        """The error the daemon closed with."""
        frame, last = None, None
        while (frame := peer.receive()) is not None:
            last = frame
        return last

    def closed_with(self, d, peer, *names):
        self.neighbour(d)
        last = self.last_words(peer)
        self.assertIsNotNone(last)
        self.assertEqual(last['type'], 'error')
        self.assertIn(last['name'], names)
        self.neighbour(d)

    def test_one_that_says_nothing(self):
        with Daemon(config=LIMITS) as d, Peer(d, hello=False) as peer:
            self.closed_with(d, peer, 'timeout')

    def test_one_that_says_hello_and_then_nothing(self):
        with Daemon(config=LIMITS) as d, Peer(d) as peer:
            self.closed_with(d, peer, 'timeout')

    def test_one_that_sends_a_byte_a_second(self):
        with Daemon(config=LIMITS) as d, Peer(d) as peer:
            peer.s.settimeout(0.3)
            started, wire = time.monotonic(), struct.pack('<I', 1000) + bytes(1000)
            for byte in wire:
                try:
                    peer.s.send(bytes([byte]))
                    peer.bytes += peer.s.recv(65536)
                    if peer.bytes:
                        break
                except TimeoutError:
                    pass
                except OSError:
                    break
                self.assertLess(time.monotonic() - started, PATIENCE)
            peer.s.settimeout(PATIENCE)
            self.closed_with(d, peer, 'timeout')

    def test_one_that_claims_four_billion_elements(self):
        with Daemon(config=LIMITS) as d, Peer(d) as peer:
            body = b'\xdd\xff\xff\xff\xff'
            peer.s.sendall(struct.pack('<I', len(body)) + body)
            self.closed_with(d, peer, 'bad_frame')
        with Daemon(config=LIMITS) as d, Peer(d, hello=False) as peer:
            peer.s.sendall(b'\xdd\xff\xff\xff\xff')  # as raw bytes: a length past the limit
            self.closed_with(d, peer, 'frame_too_long', 'bad_frame')

    def test_one_that_sends_a_gibibyte_length(self):
        with Daemon(config=LIMITS) as d, Peer(d) as peer:
            before = resident_bytes(d.process.pid)
            peer.s.sendall(struct.pack('<I', 1 << 30) + b'x' * 100)
            self.closed_with(d, peer, 'frame_too_long')
            self.assertLess(resident_bytes(d.process.pid) - before, 8 << 20)

    def test_one_that_never_reads(self):
        """Goal: its streams stop, the broker's memory stays bounded, and it is closed. Method: many long
        answers asked for, none read."""
        with Daemon(config=LIMITS + 'requests_per_connection = 64\n') as d:
            self.neighbour(d)
            before = resident_bytes(d.process.pid)
            with Peer(d) as peer:
                for number in range(1, 61):
                    peer.send({'type': 'generate', 'id': number, 'max_tokens': 900, 'ignore_eos': True,
                               'temperature': 1.0, 'logprobs': 20,
                               'messages': [{'role': 'user', 'content': f'say {number}'}]})
                end = time.monotonic() + PATIENCE * 2
                peak = 0
                while time.monotonic() < end:
                    peak = max(peak, resident_bytes(d.process.pid))
                    self.neighbour(d)
                    if d.status()['connections'] == 1:
                        break
                else:
                    self.fail('it was never closed: ' + d.read_log())
            self.assertLess(peak - before, 32 << 20)
            self.assertEqual(json.loads(d.cli('ps', '--json').stdout)['requests'], [])

    def test_too_many_connections_of_one_user(self):
        with Daemon(config='[limits]\nconnections_per_uid = 4\n') as d:
            peers = [Peer(d) for _ in range(4)]
            extra = Peer(d, hello=False)
            last = self.last_words(extra)
            self.assertEqual((last['name'], last['number']), ('too_many_connections', 429))
            extra.close()
            for peer in peers:
                peer.close()

            def a_place_is_free():  # once the daemon has noticed the hang-ups
                return d.cli('status').returncode == 0
            wait_for(a_place_is_free)

    def test_too_many_requests_in_the_queue(self):
        with Daemon(config='[queue]\nper_identity = 2\n[engine]\nstreams_max = 1\n') as d, Peer(d) as peer:
            for number in range(1, 9):
                peer.send({'type': 'generate', 'id': number, 'max_tokens': 300, 'ignore_eos': True, 'prompt': 'x'})
            ends = {}
            while len(ends) < 8:
                frame = peer.receive()
                if frame['type'] in ('done', 'error'):
                    ends[frame['id']] = frame
            refused = [e for e in ends.values() if e['type'] == 'error']
            self.assertTrue(refused)
            for end in refused:
                self.assertEqual((end['name'], end['number'], end['retryable']), ('queue_full', 429, True))
                self.assertGreater(end['retry_after_ms'], 0)
            self.assertGreaterEqual(sum(e['type'] == 'done' for e in ends.values()), 3)


if __name__ == '__main__':
    unittest.main(verbosity=2)
