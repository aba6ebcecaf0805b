#!/usr/bin/env python3
"""What one user leaves in memory and on the disk, and where another user's work could meet it.

Root looks into the memory of both processes. KV holds no words: a user's blocks are known by their ids, and by the numbers
in them, which the file for idle blocks tells. Every search has found the same thing before, where it has to be."""
import os
import struct
import sys
import time
import unittest

from harness import HOOKED_RUNNER, SANITIZED, Daemon, wait_for
from test_policy import AS_ROOT, OPEN, as_user, greet

CANARY = 'the heron walks at dawn behind the seventh greenhouse'
PLAIN = {'MALLOC_PERTURB_': '0'}  # meson sets it, and then the allocator overwrites what is freed
SMALL = OPEN + '[engine]\nkv_bytes = 1M\nstreams_max = 8\n'  # 12 blocks of 32 positions of the shipped model
DISK = SMALL + '[cache]\nkv_bytes_disk = 64M\n'
PIECE = 64  # bytes of a block: 32 numbers, which no other prompt comes to


def memory(pid):
    """What the process can write, and so can have written: all of its stretches."""
    with open(f'/proc/{pid}/maps', encoding='ascii') as f:
        spans = [line.split()[0] for line in f if 'w' in line.split()[1]]
    with open(f'/proc/{pid}/mem', 'rb', 0) as mem:
        for span in spans:
            start, end = (int(x, 16) for x in span.split('-'))
            mem.seek(start)
            try:
                data = mem.read(end - start)
            except OSError:
                continue  # of a device, or gone
            while len(data) < end - start and (more := mem.read(end - start - len(data))):
                data += more
            yield data


def count(pid, *needles):
    """How often any of them is there."""
    return sum(data.count(needle) for data in memory(pid) for needle in needles)


def pieces_in(pid, pieces):
    """How many of the pieces are there, wherever an allocator could have put them."""
    found = set()
    for data in memory(pid):
        found.update(data[i:i + PIECE] for i in range(0, len(data) - PIECE + 1, 16) if data[i:i + PIECE] in pieces)
    return len(found)


def slots(path):
    """The blocks in a file of idle KV: (ids, bytes)."""
    data = path.read_bytes()
    block_bytes = struct.unpack_from('<Q', data, 24)[0]
    each = (256 + block_bytes + 4095) // 4096 * 4096
    for at in range(4096, len(data) - each + 1, each):
        ids = struct.unpack_from('<32i', data, at + 48)
        if any(data[at:at + 48]):
            yield ids, data[at + 256:at + 256 + block_bytes]


def pieces_of(block):
    """Of its upper layers, whose numbers depend on all ids so far and not on the last one alone."""
    half = len(block) // 2
    return {block[i:i + PIECE] for i in range(half - half % PIECE, len(block) - PIECE + 1, PIECE)} - {bytes(PIECE)}


def as_bytes(ids):
    return struct.pack(f'<{len(ids)}i', *ids)


@unittest.skipUnless(AS_ROOT, 'only root can be several users, and look into their memory')
@unittest.skipIf(SANITIZED, 'SKIPPED: a sanitizer keeps freed memory, and memory of its own that is too much to look through')
class Memory(unittest.TestCase):

    def ask(self, peer, number, **more):
        peer.send({'type': 'generate', 'id': number, 'max_tokens': 8, 'ignore_eos': True, 'temperature': 0.0,
                   'deadline_ms': 60000, **more})
        frames = peer.until_end(number)
        self.assertEqual(frames[-1]['type'], 'done', frames[-1])

    def blocks_written(self, d, n):
        def so_many_are_written():
            return sum(1 for path in d.cache.glob('*.kv') for _ in slots(path)) >= n
        wait_for(so_many_are_written)

    def test_blocks_that_pass_to_another_user_have_nothing_of_the_first(self):
        """One user's idle blocks fill most of the pool. Another's prompt takes all of it, and of the last block a few rows alone: the
        rest must be empty. Ids are even for the one, odd for the other, so that no two of their blocks have equal numbers."""
        theirs = [[4 + 2 * ((which * 101 + i * 7) % 400) for i in range(180)] for which in range(2)]
        others = [5 + 2 * ((i * 3) % 400) for i in range(356)]
        with Daemon(config=DISK, env=PLAIN) as d:
            with as_user(d, 7000) as first:
                greet(first)
                for number, ids in enumerate(theirs, 1):
                    self.ask(first, number, ids=ids)
            self.blocks_written(d, 10)
            runner, file = d.status()['runner_pid'], next(d.cache.glob('*.kv'))
            pieces = set().union(*(pieces_of(block) for _, block in slots(file)))
            self.assertGreater(len(pieces), 1000)
            self.assertGreater(pieces_in(runner, pieces), len(pieces) * 0.9)
            self.assertGreater(count(runner, as_bytes(theirs[0][32:40])), 0)
            with as_user(d, 7001) as second:
                greet(second)
                self.ask(second, 1, ids=others)
                self.assertEqual(d.status()['runner_pid'], runner)
                self.blocks_written(d, 10 + 11)
                self.assertEqual(pieces_in(runner, pieces), 0)
                self.assertEqual(count(runner, *(as_bytes(ids[i:i + 8]) for ids in theirs for i in range(0, 176, 8))), 0)
            owners = {0: 0, 1: 0}
            for ids, block in slots(file):
                owner = ids[0] % 2
                owners[owner] += 1
                self.assertEqual(bool(pieces & pieces_of(block)), owner == 0, ids)
            self.assertEqual(owners[0], 10)
            self.assertEqual(owners[1], 11)

    def test_words_are_gone_when_their_request_is(self):
        """Of prompts in every form, and of the answers to them; kept answers and sessions are off."""
        ways = [{'messages': [{'role': 'user', 'content': CANARY}]}, {'prompt': CANARY + ' and once more ' + CANARY},
                {'prompt': CANARY, 'no_cache': True}, {'prompt': 'short', 'stop': [CANARY[:40]]},
                {'prompt': (CANARY + ' ') * 30, 'class': 'low'}]
        marks = [CANARY[:24].encode(), CANARY[24:].encode()]
        with Daemon(runner=HOOKED_RUNNER, config=OPEN, env=PLAIN) as d, as_user(d, 7000) as peer:
            greet(peer)
            peer.send({'type': 'generate', 'id': 1, 'max_tokens': 900, 'ignore_eos': True, 'prompt': CANARY, 'deadline_ms': 60000,
                       'stop': ['@@sleep-ms-20-per-step@@', CANARY]})  # the engine has a prompt's words no more by then
            while peer.receive()['type'] != 'delta':
                pass
            processes = (d.process.pid, d.status()['runner_pid'])
            for pid in processes:
                self.assertGreater(count(pid, marks[0]), 0)
            peer.send({'type': 'cancel', 'id': 2, 'target': 1})
            peer.until_end(1)
            for number, way in enumerate(4 * ways, 10):  # all at once, so that they lie in places of their own
                peer.send({'type': 'generate', 'id': number, 'max_tokens': 8, 'ignore_eos': True, 'deadline_ms': 60000, **way})
            ends = 0
            while ends < 4 * len(ways):
                frame = peer.receive()
                self.assertNotEqual(frame['type'], 'error', frame)
                ends += frame['type'] == 'done'
            time.sleep(0.2)
            self.assertEqual([count(pid, *marks) for pid in processes], [0, 0])


if __name__ == '__main__':
    if not AS_ROOT:
        print('SKIPPED: these tests need root', file=sys.stderr)
    unittest.main(verbosity=2)
