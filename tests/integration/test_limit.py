#!/usr/bin/env python3
"""A real limit of memory: daemon, engine and a hog in one control group of 300 MB, with a model of 117 MB. Nobody is
killed while the hog stops short of what is left; when it does not stop, the engine dies and never the broker, and what
was asked is answered all the same.

Needs root and a memory controller (cgroup v1 or v2) that it may make a group in; where there is none, it says so and
is skipped."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from harness import LAB, PATIENCE, SANITIZED, SOURCE, Daemon, Peer, alive, wait_for

LIMIT = 300 << 20
HOG = SOURCE / 'tests/support/hog.py'
CONFIG = '[engine]\nthreads = 1\nweights = shared\nkv_bytes = 24M\n[request]\ndeadline_ms = 120000\n'
MARGIN = 24 << 20  # that the hog leaves of what is left
HELD_SECONDS = 4


def controller():
    """(version, folder to make groups in), or None."""
    for version, mark, root in ((1, 'memory.limit_in_bytes', '/sys/fs/cgroup/memory'),
                                (2, 'cgroup.controllers', '/sys/fs/cgroup')):
        root = pathlib.Path(root)
        if version == 2 and 'memory' not in (root / mark).read_text().split() if (root / mark).exists() else False:
            continue
        if (root / mark).exists() and os.access(root, os.W_OK):
            return version, root
    return None


class Group:
    """A control group with a limit of memory."""

    def __init__(self, found, limit):
        self.version, root = found
        if self.version == 2:
            (root / 'cgroup.subtree_control').write_text('+memory')
        self.path = root / f'onebit-test-{os.getpid()}'
        self.path.mkdir()
        self.write('memory.limit_in_bytes' if self.version == 1 else 'memory.max', limit)

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def number(self, file, key):
        found = re.search(rf'^{key} (\d+)$', (self.path / file).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def kills(self):
        return self.number(*(('memory.oom_control', 'oom_kill') if self.version == 1 else ('memory.events', 'oom_kill')))

    def taken(self):
        """Bytes that cannot be dropped, and those of mapped files."""
        anonymous = self.number('memory.stat', 'rss' if self.version == 1 else 'anon')
        mapped = self.number('memory.stat', 'mapped_file' if self.version == 1 else 'file_mapped')
        return anonymous + mapped

    def enter(self):
        """For a child, between fork and exec."""
        (self.path / 'cgroup.procs').write_text(str(os.getpid()))

    def remove(self):
        def nobody_is_left():
            for pid in (self.path / 'cgroup.procs').read_text().split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            try:
                self.path.rmdir()
                return True
            except OSError:
                return False
        wait_for(nobody_is_left)


class GroupedDaemon(Daemon):
    """A daemon whose processes are in a group from the start."""

    def __init__(self, group, sysroot=None, **kw):
        self.group, self.sysroot = group, sysroot
        super().__init__(**kw)

    def command(self):
        more = ['--sysroot', self.sysroot] if self.sysroot else []
        return ['sh', '-c', 'echo $$ > "$0" && exec "$@"', self.group.path / 'cgroup.procs', *super().command(), *more]


class BareRoot(threading.Thread):
    """What a board shows that has neither pressure figures nor control groups: a root folder with no more than
    /proc/meminfo, which tells of the group as if it were the whole machine."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self.group, self.over = group, threading.Event()
        self.path = pathlib.Path(tempfile.mkdtemp(prefix='onebit-test-root-'))
        (self.path / 'proc').mkdir()
        self.file = open(self.path / 'proc/meminfo', 'w', encoding='ascii', buffering=1)
        self.tell()
        self.start()

    def tell(self):
        text = ''.join(f'{key + ":":<16}{bytes_ >> 10:>8} kB\n' for key, bytes_ in (
            ('MemTotal', LIMIT), ('MemAvailable', max(LIMIT - self.group.taken(), 0)), ('SwapTotal', 0)))
        os.pwrite(self.file.fileno(), text.encode(), 0)  # of one length always, in place

    def run(self):
        while not self.over.wait(0.1):
            self.tell()

    def remove(self):
        self.over.set()
        self.join()
        self.file.close()
        shutil.rmtree(self.path)


class Asker(threading.Thread):
    """Asks one high request after the other and keeps what came of each."""

    def __init__(self, daemon, stream_tokens=12):
        super().__init__(daemon=True)
        self.over, self.ends, self.longest = False, [], 0
        self.peer, self.tokens = Peer(daemon), stream_tokens
        self.failure = None
        self.start()

    def run(self):
        try:
            while not self.over:
                begin = time.monotonic()
                number = len(self.ends) + 1
                self.peer.send({'type': 'generate', 'id': number, 'prompt': f'number {number}', 'class': 'high', 'seed': 1,
                                'max_tokens': self.tokens, 'ignore_eos': True})
                self.ends.append(self.peer.until_end(number)[-1])
                self.longest = max(self.longest, time.monotonic() - begin)
        except Exception as e:  # told by the thread that joins
            self.failure = e

    def end(self):
        self.over = True
        self.join(PATIENCE * 4)
        if self.failure or self.is_alive():
            raise AssertionError(f'the asker: {self.failure or "still waits"}')
        self.peer.close()
        return self.ends


class Hog:

    def __init__(self, group, rate, most):
        self.process = subprocess.Popen([sys.executable, HOG, str(rate), str(most)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=group.enter)

    def wait_until(self, mib):
        """It has so much, or was killed: which is it?"""
        for line in self.process.stdout:
            if int(line.split()[1]) >= mib:
                return True
        return False

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@unittest.skipIf(SANITIZED, 'shadow memory takes the limit by itself')
class Limit(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.home = pathlib.Path(tempfile.mkdtemp(prefix='onebit-test-models-'))
        cls.model = cls.home / 'big.gguf'
        subprocess.run([LAB, 'make', '--shape', 'llama-160m', '--format', 'Q4_0', '--head', 'Q8_0', cls.model], check=True,
                       stderr=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.home)

    def setUp(self):
        self.group = Group(FOUND, LIMIT)
        self.addCleanup(self.group.remove)
        self.sysroot = None

    def begin(self, d):
        """Loaded and warm, and somebody asks for more all the time."""
        asker = Asker(d)

        def some_were_answered():
            return len(asker.ends) >= 3 or asker.failure
        wait_for(some_were_answered, PATIENCE * 4)
        return asker

    def test_beside_a_hog_that_stops_in_time_nobody_dies_and_all_is_answered(self):
        with GroupedDaemon(self.group, self.sysroot, models=[self.model], config=CONFIG) as d:
            asker = self.begin(d)
            broker, runner = d.process.pid, d.status()['runner_pid']
            left = (LIMIT - self.group.taken() - MARGIN) >> 20
            self.assertGreater(left, 20, 'the limit leaves no room for a hog')
            hog = Hog(self.group, 50, left)
            self.addCleanup(hog.end)
            self.assertTrue(hog.wait_until(left - 5), 'the hog was killed')
            before = len(asker.ends)
            time.sleep(HELD_SECONDS)

            def more_were_answered():
                return len(asker.ends) > before + 2 or asker.failure
            wait_for(more_were_answered, PATIENCE * 4)
            ends = asker.end()
            hog.end()
            self.assertEqual({e['type'] for e in ends}, {'done'}, [e for e in ends if e['type'] != 'done'][:3])
            self.assertEqual(self.group.kills(), 0)
            self.assertEqual((d.process.pid, d.status()['runner_pid']), (broker, runner))

    def test_beside_somebody_who_reads_a_large_file_again_and_again_nothing_is_done(self):
        with GroupedDaemon(self.group, self.sysroot, models=[self.model], config=CONFIG) as d:
            asker = self.begin(d)
            large = self.home / 'large'
            with open(large, 'wb') as f:  # larger than the limit
                for _ in range(LIMIT * 4 // 3 >> 20):
                    f.write(os.urandom(1 << 10) * 1024)
            self.addCleanup(large.unlink)
            reader = subprocess.Popen(['sh', '-c', 'while cat "$0" > /dev/null; do echo; done', large],
                                      stdout=subprocess.PIPE, start_new_session=True, preexec_fn=self.group.enter)

            def stop_reading():
                os.killpg(reader.pid, signal.SIGKILL)
                reader.communicate()
            self.addCleanup(stop_reading)
            for _ in range(3):
                self.assertTrue(reader.stdout.readline())  # it has read all of it
            end, levels, before = time.monotonic() + HELD_SECONDS, set(), len(asker.ends)
            while time.monotonic() < end:
                levels.add(d.status()['memory']['pressure'])
                time.sleep(0.2)
            ends = asker.end()
            self.assertGreater(len(ends), before)
            self.assertEqual({e['type'] for e in ends}, {'done'}, [e for e in ends if e['type'] != 'done'][:3])
            self.assertEqual(levels, {'normal'}, d.read_log())
            self.assertNotIn('memory: level', d.read_log())
            self.assertEqual(self.group.kills(), 0)

    def test_when_the_hog_does_not_stop_the_engine_dies_and_requests_go_on(self):
        with GroupedDaemon(self.group, self.sysroot, models=[self.model], config=CONFIG) as d:
            asker = self.begin(d)
            runner = d.status()['runner_pid']
            hogs = [Hog(self.group, 17, LIMIT >> 20) for _ in range(3)]  # each by itself smaller than what the engine weighs
            for hog in hogs:
                self.addCleanup(hog.end)

            def the_engine_is_dead():
                return not alive(runner)
            wait_for(the_engine_is_dead, PATIENCE * 2)
            while not any(hog.process.poll() is not None for hog in hogs):
                hogs[0].process.stdout.readline()  # they go on, against its successors, until one of them dies
            for hog in hogs:
                hog.end()
            self.assertIsNone(d.process.poll(), 'the broker died')
            before = len(asker.ends)

            def requests_go_on():
                return asker.failure or any(e['type'] == 'done' for e in asker.ends[before:])
            wait_for(requests_go_on, PATIENCE * 4)
            ends = asker.end()
            bad = [e for e in ends if e['type'] != 'done']
            self.assertTrue(all(e.get('retryable') for e in bad), bad)
            self.assertGreaterEqual(self.group.kills(), 2)
            self.assertNotEqual(d.status()['runner_pid'], runner)


@unittest.skipIf(SANITIZED, 'shadow memory takes the limit by itself')
class LimitOfABareBoard(Limit):
    """The same, where the daemon has /proc/meminfo and its own steps to go by."""

    def setUp(self):
        super().setUp()
        root = BareRoot(self.group)
        self.sysroot = root.path
        self.addCleanup(root.remove)


FOUND = controller()

if __name__ == '__main__':
    if os.geteuid() != 0 or not FOUND:
        print('no memory controller that a group could be made in: skipped', file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2)
