#!/usr/bin/env python3
"""Crowds that misbehave: each is bounded by the configuration, and an innocent client is served meanwhile.

A broker's memory may grow by what its configuration allows the crowd, and by SPARE: the allocator's slack, what one turn
of the loop may produce, and bookkeeping."""
import json
import os
import pathlib
import resource
import socket
import struct
import threading
import time
import unittest

import test_policy
from harness import PATIENCE, SANITIZED, Daemon, Peer, pack, unpack, wait_for

SPARE = (4 << 20) if not SANITIZED else (512 << 20)  # a sanitizer keeps freed memory aside
SCALE = 10 if SANITIZED else 1
CROWD = 10000 // SCALE
LINES_PER_KIND = 11  # of the log, in 5 s: ten lines and the count of the rest
LONG = {'max_tokens': 900, 'ignore_eos': True, 'temperature': 1.0}


def memory(pid, key):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key))


def n_files(pid):
    """Its descriptors, without those of the sensors, which stay open from the first look on."""
    n = 0
    for file in pathlib.Path(f'/proc/{pid}/fd').iterdir():
        try:
            n += not os.readlink(file).startswith(('/proc/', '/sys/'))
        except FileNotFoundError:
            pass
    return n


def lowest_free(pid):
    """The number that its next descriptor would get, once it opens and closes none for a while."""
    def seen():
        return {int(name) for name in os.listdir(f'/proc/{pid}/fd')}
    quiet, still = seen(), 0
    while still < 5:
        time.sleep(0.02)
        now = seen()
        quiet, still = now, still + 1 if now == quiet else 0
    return next(n for n in range(len(quiet) + 1) if n not in quiet)


def cpu_seconds(pid):
    with open(f'/proc/{pid}/stat', encoding='ascii') as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def figures(d):
    """The daemon's metrics by series."""
    with Peer(d) as peer:
        peer.send({'type': 'metrics', 'id': 1})
        text = peer.until_end(1)[-1]['result']
    return {line.rsplit(' ', 1)[0]: float(line.rsplit(' ', 1)[1]) for line in text.splitlines() if line[0] != '#'}


def knock(d):
    """A connection that has said nothing. It waits for its place in the kernel's backlog."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(d.socket))
    s.settimeout(PATIENCE)
    return s


def frames_of(data):
    while len(data) >= 4 and len(data) >= 4 + (n := struct.unpack('<I', data[:4])[0]):
        yield unpack(data[4:4 + n])[0]
        data = data[4 + n:]


class Innocent:
    """A client that was there before the crowd and goes on asking, on a thread of its own."""

    def __init__(self, d):
        self.peer, self.slowest, self.served, self.fault = Peer(d), 0, 0, None
        self.ask()  # the model is loaded: from here on waiting is the crowd's fault
        self.slowest, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.go_on)

    def ask(self):
        begun = time.monotonic()
        self.peer.send({'type': 'generate', 'id': 7, 'class': 'high', 'deadline_ms': PATIENCE * 1000,
                        'messages': [{'role': 'user', 'content': 'turn on the kitchen lights'}]})
        frames = self.peer.until_end(7)
        assert frames[-1]['type'] == 'done', frames[-1]
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.served += 1

    def go_on(self):
        try:
            self.ask()
            while not self.over.wait(0.1):
                self.ask()
        except BaseException as e:  # pylint: disable=broad-except
            self.fault = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.over.set()
        self.thread.join()
        self.peer.close()
        if kind:
            return
        assert self.fault is None, f'an innocent client was not served: {self.fault!r}'
        assert self.served >= 2, self.served


class Crowds(unittest.TestCase):

    def begin(self, d):
        """Warm it up, and note what it takes by itself."""
        self.assertEqual(d.cli('run', 'turn on the kitchen lights').returncode, 0)
        self.pid, self.began = d.process.pid, time.monotonic()
        self.base, self.base_files = memory(self.pid, 'VmRSS'), n_files(self.pid)
        self.base_lines = d.read_log().count('\n')

    def end(self, d, allowed):
        """Memory stayed within what is allowed, the log within its rate, and nothing is left."""
        def only_we_are_left():
            return d.status()['connections'] == 1
        wait_for(only_we_are_left)
        self.assertEqual(json.loads(d.cli('ps', '--json').stdout)['requests'], [])
        grown = memory(self.pid, 'VmHWM') - self.base
        print(f'{self.id()}: grew by at most {grown >> 10} KiB of {(allowed + SPARE) >> 10}, '
              f'{time.monotonic() - self.began:.1f} s')
        self.assertLess(grown, allowed + SPARE)
        windows = (time.monotonic() - self.began) / 5 + 1
        lines = d.read_log().count('\n') - self.base_lines
        self.assertLessEqual(lines, 3 * LINES_PER_KIND * windows, d.read_log()[-2000:])

        def no_descriptor_is_left():
            return n_files(self.pid) <= self.base_files
        wait_for(no_descriptor_is_left)
        self.assertEqual(d.cli('run', 'turn on the kitchen lights').returncode, 0)

    def test_ten_thousand_that_say_nothing(self):
        """Method: all connect at once and wait; each gets exactly one typed error and the end."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        n = min(CROWD, hard - 100)
        config = '[limits]\nconnections = 300\nconnections_per_uid = 250\nhello_ms = 1500\n'
        with Daemon(config=config) as d:
            self.begin(d)
            with Innocent(d):
                crowd, ends = [], {}
                for _ in range(n):
                    crowd.append(knock(d))
                for s in crowd:
                    words = b''
                    while more := s.recv(4096):
                        words += more
                    s.close()
                    (frame,) = frames_of(words)
                    ends[frame['name']] = ends.get(frame['name'], 0) + 1
            self.assertEqual(sum(ends.values()), n)
            self.assertEqual(set(ends), {'too_many_connections', 'timeout'})
            counted = figures(d)
            for name, number in ends.items():
                self.assertEqual(counted[f'onebit_connection_errors_total{{code="{name}"}}'], number)
            self.assertGreater(counted['onebit_log_lines_suppressed_total'], n - 200)
            self.end(d, 300 * 8192)

            def the_rest_is_told_in_one_line():
                return 'more lines of connections refused or closed' in d.read_log()
            wait_for(the_rest_is_told_in_one_line)

    def test_a_thousand_unread_requests(self):
        """Method: ten connections ask for a hundred answers each and, again and again, for the list of them,
        and read nothing. Together they may hold 4 MiB; who holds most goes first."""
        config = ('[limits]\noutput_total_bytes = 4M\noutput_soft_bytes = 1M\noutput_hard_bytes = 3M\n'
                  'stall_ms = 10000\n[queue]\nper_identity = 1200\nbytes = 8M\n[engine]\nstreams_max = 4\n')
        with Daemon(config=config) as d:
            self.begin(d)
            with Innocent(d):
                peers = [Peer(d) for _ in range(10)]
                for peer in peers:
                    for number in range(1, 101):
                        peer.send({'type': 'generate', 'id': number, 'prompt': 'x' * 500, 'class': 'low', **LONG})
                modest = Peer(d)  # it does not read either, but takes little
                modest.send({'type': 'status', 'id': 1})
                held, shed = 0, 0
                for number in range(200, 300):
                    for peer in peers:
                        try:
                            peer.send({'type': 'ps', 'id': number})
                        except OSError:
                            pass  # closed already
                    now = figures(d)
                    held, shed = max(held, now['onebit_output_bytes']), now['onebit_connections_shed_total']
                    if shed >= 3:
                        break
                self.assertGreaterEqual(shed, 3)
                self.assertLessEqual(held, 4 << 20)
                self.assertGreater(held, 1 << 20)
                self.assertEqual(modest.until_end(1)[-1]['type'], 'done')
                modest.close()

                def they_are_closed():
                    return d.status()['queued'] == 0
                wait_for(they_are_closed)
                for peer in peers:
                    peer.close()
            self.end(d, (4 << 20) + (8 << 20))  # what waits for them, and their requests

    @unittest.skipUnless(os.geteuid() == 0, 'only root can be two users')
    def test_who_takes_most_goes_and_nobody_else(self):
        """Method: one user's eight connections take far more than 4 MiB of output and read nothing; another's
        one is at times the largest of all connections, but modest in sum: it gets every answer."""
        config = ('[socket]\nmode = 0666\n[limits]\noutput_total_bytes = 4M\noutput_soft_bytes = 1M\noutput_hard_bytes = 3M\n'
                  'stall_ms = 60000\n[queue]\nper_identity = 1200\n[engine]\nstreams_max = 1\n')
        with Daemon(config=config) as d:
            self.begin(d)
            modest = test_policy.as_user(d, 7002)
            greedy = [test_policy.as_user(d, 7001) for _ in range(8)]
            for peer in (modest, *greedy):
                self.assertEqual(test_policy.greet(peer)['type'], 'hello')
            for peer in greedy:
                for number in range(1, 101):
                    peer.send({'type': 'generate', 'id': number, 'prompt': 'x', 'class': 'low', **LONG})
            for number in range(200, 206):
                modest.send({'type': 'ps', 'id': number})
            for number in range(200, 300):
                for peer in greedy:
                    try:
                        peer.send({'type': 'ps', 'id': number})
                    except OSError:
                        pass  # closed already
                now = figures(d)
                self.assertLessEqual(now['onebit_output_bytes'], 4 << 20)
                if now['onebit_connections_shed_total'] >= 4:
                    break
            else:
                self.fail('nobody was closed')
            for number in range(200, 206):
                self.assertEqual(modest.until_end(number)[-1]['type'], 'done')
            for peer in (modest, *greedy):
                peer.close()
            self.end(d, (4 << 20) + (1 << 20))

    def test_unfinished_frames_are_bounded_in_all(self):
        """Method: forty clients send half of a frame of a megabyte each; together 8 MiB are allowed."""
        config = '[limits]\ninput_total_bytes = 8M\nframe_ms = 3000\n'
        with Daemon(config=config) as d:
            self.begin(d)
            with Innocent(d):
                peers = [Peer(d) for _ in range(40)]
                names = []
                for peer in peers:
                    try:
                        peer.s.sendall(struct.pack('<I', 1 << 20) + b'\x81' * (600 << 10))
                    except OSError:
                        pass  # it was the one to go
                self.assertLessEqual(figures(d)['onebit_input_bytes'], 8 << 20)
                for peer in peers:
                    while frame := peer.receive():
                        names.append(frame['name'])
                    peer.close()
                self.assertEqual(len(names), 40)
                self.assertEqual(set(names), {'overloaded', 'timeout'})
                self.assertGreaterEqual(names.count('timeout'), 4)
            self.end(d, 8 << 20)

    def test_cancel_storms(self):
        """Method: four connections begin and cancel, by number, by the server's number, twice, and what does
        not exist; each request and each cancel gets exactly one end, and later rounds take no more memory."""
        rounds, each = 10 // (2 if SANITIZED else 1), 100
        with Daemon(config='[queue]\nper_identity = 2000\n') as d:
            self.begin(d)
            after_first = 0
            with Innocent(d):
                peers = [Peer(d) for _ in range(4)]
                for turn in range(rounds):
                    for peer in peers:
                        for number in range(1, each + 1):
                            peer.send({'type': 'generate', 'id': number, 'prompt': 'once ' * (number % 7 + 1), **LONG})
                            peer.send({'type': 'cancel', 'id': 10000 + number, 'target': number})
                            peer.send({'type': 'cancel', 'id': 20000 + number, 'target': number})
                            peer.send({'type': 'cancel', 'id': 30000 + number, 'request': 1 << 40})
                    for peer in peers:
                        self.one_end_each(peer, each)
                    if turn == 1:
                        after_first = memory(self.pid, 'VmRSS')
                self.assertLess(memory(self.pid, 'VmRSS') - after_first, SPARE // 2)
                for peer in peers:
                    peer.close()
            ends = {k: v for k, v in figures(d).items() if k.startswith('onebit_requests_total') and 'cancelled' in k}
            self.assertEqual(sum(ends.values()), 4 * rounds * each)
            self.end(d, 8 << 20)

    def one_end_each(self, peer, each):
        ends = {}
        while len(ends) < 4 * each:
            frame = peer.receive()
            self.assertIsNotNone(frame)
            if frame['type'] in ('done', 'error'):
                self.assertNotIn(frame['id'], ends)
                ends[frame['id']] = frame.get('name', 'done')
            else:
                self.assertNotIn(frame['id'], ends, 'a word after the end')
        for number in range(1, each + 1):
            self.assertEqual(ends[number], 'cancelled')
            self.assertEqual((ends[10000 + number], ends[20000 + number], ends[30000 + number]),
                             ('done', 'no_request', 'no_request'))

    def test_half_closed_connections(self):
        """Method: clients that ask and then close one half of the connection, or both, or break off in mid-frame."""
        with Daemon(config='[queue]\nper_identity = 2000\n') as d:
            self.begin(d)
            with Innocent(d):
                for turn in range(4):
                    peers = [Peer(d) for _ in range(100 // (SCALE if SANITIZED else 1))]
                    for at, peer in enumerate(peers):
                        peer.send({'type': 'generate', 'id': 1, 'prompt': 'x', 'logprobs': 20, **LONG})
                        if at % 4 == 0:
                            peer.s.shutdown(socket.SHUT_WR)
                        elif at % 4 == 1:
                            peer.s.shutdown(socket.SHUT_RD)
                        elif at % 4 == 2:
                            peer.s.sendall(pack('half a frame')[:7])
                            peer.s.shutdown(socket.SHUT_RDWR)
                        else:
                            peer.close()
                    for at, peer in enumerate(peers):
                        if at % 4 == 0:  # what was begun is given up, and the other half is closed, too
                            while peer.receive():
                                pass
                    if turn == 3:  # those that closed their ears are found when they are spoken to
                        def everybody_is_gone():
                            return d.status()['connections'] <= 2
                        wait_for(everybody_is_gone)
                    for peer in peers:
                        peer.close()
            self.end(d, 8 << 20)

    def test_fewer_files_than_connections(self):
        """Goal: where descriptors are short, clients are refused with a word, and those left are enough for a
        model. Method: a daemon that may open 200 files, and 400 clients before the first model is loaded."""
        class Short(Daemon):
            def command(self):
                return ['sh', '-c', 'ulimit -n 200; exec "$@"', 'sh', *super().command()]
        with Short(config='[limits]\nhello_ms = 2000\n') as d, Peer(d) as early:
            self.assertIn('only 200 files can be open: 136 connections', d.read_log())
            crowd = []
            for _ in range(400):
                crowd.append(knock(d))
            early.send({'type': 'generate', 'id': 1, 'prompt': 'once', 'max_tokens': 4})
            self.assertEqual(early.until_end(1)[-1]['type'], 'done')
            names = []
            for s in crowd:
                words = b''
                while more := s.recv(4096):
                    words += more
                s.close()
                names += [frame['name'] for frame in frames_of(words)]
            self.assertEqual(len(names), 400)
            self.assertGreaterEqual(names.count('too_many_connections'), 400 - 136)

    def test_no_descriptor_is_left(self):
        """Goal: a daemon without descriptors closes who comes, does not spin, serves who is there, and
        recovers. Method: its limit is lowered to the first number that it has not open."""
        with Daemon() as d:
            self.begin(d)
            soft, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
            with Innocent(d):
                with Peer(d) as here:
                    here.send({'type': 'status', 'id': 1})
                    self.assertEqual(here.until_end(1)[-1]['type'], 'done')
                    resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (lowest_free(self.pid), hard))
                    crowd = []
                    for _ in range(300):
                        crowd.append(knock(d))
                    for s in crowd:
                        try:
                            self.assertEqual(s.recv(100), b'')
                        except ConnectionResetError:
                            pass
                        s.close()
                    here.send({'type': 'status', 'id': 2})
                    self.assertEqual(here.until_end(2)[-1]['type'], 'done')
                before = cpu_seconds(self.pid)
                time.sleep(1)
                self.assertLess(cpu_seconds(self.pid) - before, 0.5)
                resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, hard))
                self.assertEqual(d.cli('run', 'turn on the kitchen lights').returncode, 0)
            self.assertIn('no descriptor is left', d.read_log())
            self.end(d, 1 << 20)


if __name__ == '__main__':
    unittest.main(verbosity=2)
