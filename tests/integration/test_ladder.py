#!/usr/bin/env python3
"""The memory ladder from end to end: files that stand for the kernel's drive every level up and down, and what is done,
what clients see, what the log says and what is counted go together. Once with pressure figures, once with no more than
/proc/meminfo, as on a board that has neither those nor control groups."""
import base64
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from harness import HOOKED_RUNNER, Daemon, Manager, Peer, wait_for

CONFIG = '[memory]\ncalm_ms = 400\n[cache]\nanswers_bytes = 1M\n[request]\ndeadline_ms = 60000\n'
LEVELS = ['normal', 'trim', 'shed', 'pause', 'survive']
AVAILABLE = [0.9, 0.14, 0.09, 0.05, 0.02]  # of all memory, that leads to each
TOTAL = 1 << 22  # kB
ACTS = ['answers', 'heap', 'kv_some', 'kv_all', 'unload', 'queued', 'pause', 'page_out', 'evict', 'connections']


def put(path, text):
    """In one go, as the kernel's files change."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + '.new')
    new.write_text(text)
    new.rename(path)


class Root(threading.Thread):
    """The kernel's files below a folder."""

    def __init__(self, psi):
        super().__init__(daemon=True)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix='onebit-test-root-'))
        self.psi, self.over = psi, threading.Event()
        self.some = self.full = 0  # microseconds, ever
        self.some_ms = self.full_ms = 0  # a second
        self.refaults, self.refaults_per_s, self.kills = 0, 0, 0
        self.available(0.9)
        self.tell()
        self.start()

    def available(self, part, free=None):
        put(self.path / 'proc/meminfo', f'MemTotal:       {TOTAL} kB\nMemFree:        {int(TOTAL * (free or part))} kB\n'
                                        f'MemAvailable:   {int(TOTAL * part)} kB\n'
                                        'SwapTotal:             0 kB\n')

    def tell(self):
        if self.psi:
            put(self.path / 'proc/pressure/memory', ''.join(
                f'{key} avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n'
                for key, total in (('some', self.some), ('full', self.full))))
        put(self.path / 'proc/vmstat', f'workingset_refault_file {self.refaults}\noom_kill {self.kills}\n')

    def run(self):
        last = time.monotonic()
        while not self.over.wait(0.05):
            now = time.monotonic()
            self.some += int((now - last) * 1000 * self.some_ms)
            self.full += int((now - last) * 1000 * self.full_ms)
            self.refaults += int((now - last) * self.refaults_per_s)
            last = now
            self.tell()

    def remove(self):
        self.over.set()
        self.join()
        shutil.rmtree(self.path)


class RootedDaemon(Daemon):
    def __init__(self, root, **kw):
        self.root = root
        super().__init__(**kw)

    def command(self):
        return [*super().command(), '--sysroot', self.root.path]


def ask(number, class_, n=8, slow=''):
    return {'type': 'generate', 'id': number, 'class': class_, 'prompt': f'{slow} turn on lamp {number}', 'max_tokens': n,
            'ignore_eos': True}


def samples(d, name):
    with Peer(d) as peer:
        peer.send({'type': 'metrics', 'id': 1})
        text = peer.until_end(1)[-1]['result']
    return {key: int(float(value)) for key, value in re.findall(rf'^{name}{{action="(\w+)"}} (\S+)$', text, re.MULTILINE)}


def done(d):
    """The actions that the log tells of, in their order."""
    return re.findall(r'memory: \w+ \([^)]*\): (\w+): [^\n]*, [0-9.]+ MB freed', d.read_log())


class Ladder(unittest.TestCase):
    PSI = True

    def setUp(self):
        self.root = Root(self.PSI)
        self.addCleanup(self.root.remove)

    def level(self, d, level):
        def it_is_there():
            return d.status()['memory']['pressure'] == level
        wait_for(it_is_there)

    def refused(self, d, class_):
        with Peer(d) as peer:
            peer.send(ask(1, class_))
            end = peer.until_end(1)[-1]
            if end['type'] == 'done':
                return False
            self.assertEqual((end['name'], end['number'], end['retryable']), ('overloaded', 503, True))
            self.assertIn('memory', end['message'])
            self.assertGreater(end['retry_after_ms'], 0)
            return True

    def taken(self, d, class_):
        """Accepted; what becomes of it is not waited for."""
        with Peer(d) as peer:
            peer.send(ask(1, class_))
            self.assertEqual(peer.receive()['type'], 'accepted')

    def said_by_ps(self, d):
        """Level and cause, which people see while there is a level."""
        said = json.loads(d.cli('ps', '--json').stdout)
        level, cause = said['pressure'], said['pressure_cause']
        for words in (['ps'], ['ps', '--memory']):
            text = d.cli(*words).stdout.decode()
            self.assertEqual(f'memory is short: level {level} ({cause})\n' in text, level != 'normal', text)
        self.assertNotIn('pressure', d.cli('ps').stdout.decode())
        return level, cause

    def test_the_service_manager_hears_of_levels_above_normal(self):
        manager = Manager()
        self.addCleanup(manager.close)
        with RootedDaemon(self.root, config=CONFIG, env={'NOTIFY_SOCKET': manager.path}):
            self.assertEqual(manager.until_ready()[-1]['STATUS'], 'Serving.')
            self.root.available(AVAILABLE[2])
            manager.until_status('Serving; short of memory: level shed.')
            self.root.available(0.9)
            manager.until_status('Serving.')

    def progress(self, peer, number, phase):
        while True:
            frame = peer.receive()
            self.assertIsNotNone(frame)
            if frame.get('id') == number and frame['type'] == 'progress' and frame['phase'] == phase:
                return frame

    def wait_done(self, d, act):
        def it_is_done():
            return act in done(d)
        wait_for(it_is_done)

    def test_every_level_is_climbed_and_left_again(self):
        slow = '@@sleep-ms-40-per-step@@'
        with RootedDaemon(self.root, config=CONFIG, runner=HOOKED_RUNNER) as d, Peer(d) as low, Peer(d) as normal, \
                Peer(d) as high:
            self.assertFalse(self.refused(d, 'low'))

            def begin(peer, class_):
                peer.send(ask(1, class_, 900, slow))  # longer than all of this takes
                self.assertEqual(peer.receive()['type'], 'accepted')
            begin(normal, 'normal')
            begin(high, 'high')
            self.assertEqual(d.status()['memory']['pressure'], 'normal')
            self.assertEqual(self.said_by_ps(d), ('normal', ''))

            self.root.available(AVAILABLE[1])
            self.level(d, 'trim')
            self.wait_done(d, 'heap')
            self.assertFalse(self.refused(d, 'low'))  # nobody notices
            self.assertEqual(self.said_by_ps(d), ('trim', 'little memory is available'))
            begin(low, 'low')  # not sooner: where low has its tenth alone, one of a user goes after the other

            self.root.available(AVAILABLE[2])
            self.level(d, 'shed')
            self.assertTrue(self.refused(d, 'low'))
            self.taken(d, 'normal')

            self.root.available(AVAILABLE[3])
            self.level(d, 'pause')
            self.assertTrue(self.refused(d, 'normal'))
            self.taken(d, 'high')
            for peer in (low, normal):
                self.assertEqual(self.progress(peer, 1, 'paused')['reason'], 'memory')
            self.assertEqual(done(d).count('pause') > 0, True)

            self.root.available(AVAILABLE[4])
            self.level(d, 'survive')
            for peer in (low, normal):
                end = peer.until_end(1)[-1]
                self.assertEqual((end['name'], end['number'], end['retryable']), ('evicted', 503, True))
            self.assertEqual(d.status()['running'], 1)  # the oldest high request goes on
            self.root.available(AVAILABLE[0])
            for level in reversed(LEVELS[:-1]):  # one by one, each for 400 ms and until the next look
                def it_was_left():
                    return f'memory: level {level}, was ' in d.read_log()
                wait_for(it_was_left)
            self.level(d, 'normal')
            self.assertFalse(self.refused(d, 'low'))
            self.assertEqual(d.status()['running'], 1)  # and has gone on all the time
            high.send({'type': 'cancel', 'id': 2, 'target': 1})
            frames = high.until_end(1)
            self.assertEqual(frames[-1]['name'], 'cancelled')
            self.assertNotIn('paused', [f.get('phase') for f in frames])

            def all_is_told():
                return d.status()['memory']['pressure'] == 'normal'
            wait_for(all_is_told)
            acts, counted = done(d), samples(d, 'onebit_pressure_actions_total')
            self.assertEqual(list(counted), ACTS)
            self.assertEqual({act: acts.count(act) for act in ACTS}, counted)
            first = [acts.index(act) for act in ('heap', 'pause', 'evict')]
            self.assertEqual(first, sorted(first))
            went = re.findall(r'memory: level (\w+), was (\w+)', d.read_log())
            self.assertEqual(went, [*zip(LEVELS[1:], LEVELS), *zip(LEVELS[-2::-1], LEVELS[::-1])])

    def test_who_waits_with_more_than_half_of_the_bound_loses_the_newest(self):
        config = CONFIG + '[queue]\nper_identity = 4\n[engine]\nstreams_max = 1\n'
        with RootedDaemon(self.root, config=config, runner=HOOKED_RUNNER) as d, Peer(d) as peer:
            for number, class_ in ((1, 'high'), (2, 'normal'), (3, 'low'), (4, 'normal'), (5, 'normal')):
                peer.send(ask(number, class_, 900 if number == 1 else 4, '@@sleep-ms-40-per-step@@' if number == 1 else ''))

                def it_is_in():
                    status = d.status()
                    return (status['running'], status['queued']) == (1, number - 1)
                wait_for(it_is_in)
            self.root.available(AVAILABLE[2])
            for number in (3, 5):  # low before normal, then the newest
                end = peer.until_end(number)[-1]
                self.assertEqual((end['name'], end['number'], end['retryable']), ('overloaded', 503, True))
                self.assertIn('memory', end['message'])
                self.assertGreater(end['retry_after_ms'], 0)
            self.wait_done(d, 'queued')
            self.assertEqual(samples(d, 'onebit_pressure_actions_total')['queued'], 1)
            self.assertEqual((d.status()['running'], d.status()['queued']), (1, 2))
            peer.send({'type': 'cancel', 'id': 9, 'target': 1})
            for number in (2, 4):
                self.assertEqual(peer.until_end(number)[-1]['type'], 'done')

    def test_idle_kv_and_unused_models_go_and_come_back(self):
        with RootedDaemon(self.root, config=CONFIG) as d:
            self.assertFalse(self.refused(d, 'normal'))
            with Peer(d) as peer:
                peer.send({**ask(2, 'normal', 8), 'prompt': 'what is idle can be found again ' * 12})
                peer.until_end(2)

            def there_is_idle_kv():
                return d.status()['memory']['kv_idle_bytes'] > 0
            wait_for(there_is_idle_kv)
            self.root.available(AVAILABLE[2])
            self.level(d, 'shed')
            self.wait_done(d, 'unload')
            acts = done(d)
            self.assertIn('kv_some', acts)
            self.assertLess(acts.index('kv_some'), acts.index('unload'))
            self.assertEqual(acts.count('unload'), 1)
            self.assertEqual(d.status()['memory']['kv_idle_bytes'], 0)
            freed = samples(d, 'onebit_pressure_freed_bytes_total')
            self.assertGreater(freed['kv_some'], 0)
            self.assertGreater(freed['unload'], 0)
            self.root.available(AVAILABLE[0])
            self.level(d, 'normal')
            self.assertFalse(self.refused(d, 'low'))


class WithoutPressureFigures(Ladder):
    PSI = False


class Stalls(Ladder):
    """With pressure figures alone: much is available by the other account, but not two fifths."""

    def test_who_waits_with_more_than_half_of_the_bound_loses_the_newest(self):
        self.skipTest('the same whatever sensor speaks')

    def test_every_level_is_climbed_and_left_again(self):
        self.root.available(0.3)
        with RootedDaemon(self.root, config=CONFIG) as d:
            self.root.some_ms = 150
            self.level(d, 'trim')
            self.root.some_ms, self.root.full_ms = 300, 80
            self.level(d, 'shed')
            self.root.full_ms = 250
            self.level(d, 'pause')
            self.root.some_ms = self.root.full_ms = 0
            self.level(d, 'normal')

    def test_idle_kv_and_unused_models_go_and_come_back(self):
        """A file larger than memory is read: stalls, next to nothing free, pages that come back as soon as they are
        dropped; but what the kernel can drop is there to be had. Nothing is done and everybody is served."""
        self.root.available(0.6, free=0.01)
        with RootedDaemon(self.root, config=CONFIG) as d:
            self.assertFalse(self.refused(d, 'low'))
            self.root.some_ms, self.root.full_ms, self.root.refaults_per_s = 500, 200, 50000

            def it_is_seen():
                machine = d.status()['machine']
                return machine.get('stall_some', 0) > 0.3 and machine['refaults_per_s'] > 10000
            wait_for(it_is_seen)
            time.sleep(3)
            self.assertFalse(self.refused(d, 'low'))
            self.assertEqual(d.status()['memory']['pressure'], 'normal')
            self.assertNotIn('memory: level', d.read_log())
            self.assertEqual(done(d), [])


class Killed(unittest.TestCase):
    """The kernel takes the engine: a SIGKILL that is not the daemon's, and a count of kills that rises."""

    def setUp(self):
        self.root = Root(True)
        self.addCleanup(self.root.remove)

    def kill(self, d, pid):
        os.kill(pid, signal.SIGKILL)

        def another_one_is_up():
            status = d.status()
            return status.get('runner_pid') not in (None, 0, pid) and status
        return wait_for(another_one_is_up)['runner_pid']

    def kv(self, d, number):
        """The size of the pool that a request finds. The ladder may take the model away again before it is looked at; then
        another request has it loaded anew."""
        def it_is_told():
            with Peer(d) as peer:
                peer.send(ask(number, 'high'))
                end = peer.until_end(number)[-1]
                self.assertEqual((end['type'], end.get('answer_tokens')), ('done', 8), end)
            return d.status()['memory']['kv_total_bytes']
        return wait_for(it_is_told)

    def test_with_half_of_the_kv_requests_go_on(self):
        config = CONFIG.replace('calm_ms = 400', 'calm_ms = 2000')
        with RootedDaemon(self.root, config=config, runner=HOOKED_RUNNER) as d, Peer(d) as peer:
            whole = self.kv(d, 1)
            peer.send(ask(2, 'high', 100, '@@sleep-ms-40-per-step@@'))
            self.assertEqual(peer.receive()['type'], 'accepted')
            self.root.available(AVAILABLE[1])

            def it_is_seen():
                return d.status()['memory']['pressure'] == 'trim'
            wait_for(it_is_seen)
            pid = self.kill(d, d.status()['runner_pid'])
            self.root.kills += 1
            end = peer.until_end(2)[-1]
            self.assertEqual((end['type'], end.get('answer_tokens')), ('done', 100), end)
            half = self.kv(d, 3)
            self.assertLess(abs(half - whole / 2), whole / 50)
            self.assertEqual(d.status()['memory']['kv_cuts'], 1)
            self.assertRegex(d.read_log(), r'memory: model home-q1_0 is loaded with at most [0-9.]+ MB of KV from here on, after [0-9.]+ MB')

            def the_kill_was_seen():
                return 'level survive, was trim (the kernel has killed for memory)' in d.read_log()
            wait_for(the_kill_was_seen)
            self.root.available(AVAILABLE[0])

            def it_is_over():
                return d.status()['memory']['pressure'] == 'normal'
            wait_for(it_is_over)
            self.assertEqual(self.kv(d, 4), whole)
            self.assertIn('memory: model home-q1_0 is loaded with all of its KV again', d.read_log())
            self.kill(d, pid)  # somebody's own doing: nobody counts it
            self.assertEqual(self.kv(d, 5), whole)
            self.assertEqual(d.status()['memory']['kv_cuts'], 1)

    def test_a_kill_that_is_counted_only_afterwards_is_one_too(self):
        self.root.available(0.3)
        with RootedDaemon(self.root, config=CONFIG) as d:
            whole = self.kv(d, 1)
            pid = self.kill(d, d.status()['runner_pid'])
            self.root.kills += 1

            def the_kill_was_seen():
                return 'level survive, was normal' in d.read_log()
            wait_for(the_kill_was_seen)
            d.cli('unload', 'home-q1_0')
            self.assertLess(abs(self.kv(d, 2) - whole / 2), whole / 50)
            self.assertEqual(d.status()['runner_pid'], pid)


class Flapping(unittest.TestCase):
    """Somebody takes memory and frees it again, every few seconds, while three models lie idle."""

    def test_one_model_a_minute_leaves(self):
        """Each time the memory stays short for longer than two actions are apart, so that every stay at the level would have
        one for a model; and between two of them the level is left, so that each stay begins anew."""
        root = Root(False)
        self.addCleanup(root.remove)
        with RootedDaemon(root, config=CONFIG) as d:
            for name in 'ab':
                shutil.copy(d.models / 'home-q1_0.gguf', d.models / f'{name}.gguf')
            for name in ('a', 'b', 'home-q1_0'):
                with Peer(d) as peer:
                    peer.send({**ask(1, 'normal'), 'model': name})
                    self.assertEqual(peer.until_end(1)[-1]['type'], 'done')
            begun, longest = time.monotonic(), 0
            for part in (AVAILABLE[2], AVAILABLE[2], AVAILABLE[3], AVAILABLE[2]):
                heaps, taken = done(d).count('heap'), time.monotonic()
                root.available(part)

                def it_has_given():
                    acts = done(d)
                    return acts.count('heap') > heaps and 'unload' in acts
                wait_for(it_has_given)
                time.sleep(1.4)  # until the next action at least
                root.available(AVAILABLE[0])
                longest = max(longest, time.monotonic() - taken)

                def it_is_over():
                    return d.status()['memory']['pressure'] == 'normal'
                wait_for(it_is_over)
            n = samples(d, 'onebit_pressure_actions_total')
            self.assertGreaterEqual(n['heap'], 4)  # each time was a stay of its own
            # One; and on a machine that stood still meanwhile, one for each full minute and for each stay of ten seconds.
            self.assertIn(n['unload'], range(1, 2 + int((time.monotonic() - begun) / 60) + 4 * int(longest / 10)))
            left = [m['name'] for m in json.loads(d.cli('ps', '--json').stdout)['models']]
            self.assertEqual(len(left), 3 - n['unload'])


class Told(unittest.TestCase):
    """systemd's memory-pressure protocol: a pipe or a socket that $MEMORY_PRESSURE_WATCH names, on a machine with plenty of
    memory and no other sensor but /proc/meminfo."""

    def setUp(self):
        self.root = Root(False)
        self.addCleanup(self.root.remove)
        self.place = self.root.path / 'watch'

    def calls_are(self, d, n):
        def so_often_has_it_called():
            return d.status()['machine'].get('pressure_calls') == n
        wait_for(so_often_has_it_called)

    def went(self, d, change):
        def it_went():
            return f'memory: level {change}: ' in d.read_log()
        wait_for(it_went)

    def test_by_a_pipe(self):
        os.mkfifo(self.place)
        with RootedDaemon(self.root, config=CONFIG, env={'MEMORY_PRESSURE_WATCH': str(self.place)}) as d:
            self.calls_are(d, 0)
            self.assertEqual(d.status()['machine']['pressure_source'], 'systemd')
            for n in (1, 2):
                with open(self.place, 'wb') as pipe:
                    pipe.write(b'whatever it is')
                self.calls_are(d, n)
                self.went(d, 'trim, was normal (systemd says so)')
            self.went(d, 'normal, was trim (it has been calm)')
            self.assertIn('memory: trim (systemd says so): heap: ', d.read_log())
            self.assertEqual(d.status()['machine']['pressure_source'], 'systemd')  # who wrote has gone: that is no end

    def test_by_a_socket_that_wants_to_be_told_what_for(self):
        word = b'some 150000 1000000\0'
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.place))
            listener.listen(1)
            env = {'MEMORY_PRESSURE_WATCH': str(self.place), 'MEMORY_PRESSURE_WRITE': base64.b64encode(word).decode()}
            with RootedDaemon(self.root, config=CONFIG, env=env) as d:
                peer = listener.accept()[0]
                with peer:
                    self.assertEqual(peer.recv(100), word)
                    for n in (1, 2):
                        peer.send(b'!')
                        self.calls_are(d, n)
                    self.went(d, 'trim, was normal (systemd says so)')
                    self.went(d, 'normal, was trim (it has been calm)')

                def the_next_sensor_is_asked():
                    return d.status()['machine']['pressure_source'] == 'poll'
                wait_for(the_next_sensor_is_asked)
                self.root.available(AVAILABLE[1])
                self.went(d, 'trim, was normal (little memory is available)')


def side_by_side(cases):
    """Each class in a process of its own: nearly all of their time is spent waiting for a level to be left."""
    children = [subprocess.Popen([sys.executable, __file__, case.__name__], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True) for case in cases]
    for child in children:
        print(child.communicate()[0], end='')
    return max(child.returncode for child in children)


if __name__ == '__main__':
    if len(sys.argv) == 1:
        sys.exit(side_by_side((Ladder, WithoutPressureFigures, Stalls, Killed, Told, Flapping)))
    sys.exit(unittest.main(verbosity=2))
