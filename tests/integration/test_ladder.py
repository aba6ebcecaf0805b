#!/usr/bin/env python3
"""The memory ladder from end to end: files that stand for the kernel's drive every level up and down, and what is done,
what clients see, what the log says and what is counted go together. Once with pressure figures, once with no more than
/proc/meminfo, as on a board that has neither those nor control groups."""
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time
import unittest

from harness import HOOKED_RUNNER, Daemon, Peer, wait_for

CONFIG = '[memory]\ncalm_ms = 400\n[cache]\nanswers_bytes = 1M\n[request]\ndeadline_ms = 60000\n'
LEVELS = ['normal', 'trim', 'shed', 'pause', 'survive']
AVAILABLE = [0.9, 0.14, 0.09, 0.05, 0.02]  # of all memory, that leads to each
TOTAL = 1 << 22  # kB
ACTS = ['answers', 'heap', 'kv_some', 'kv_all', 'unload', 'pause', 'page_out', 'evict', 'connections']


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
        self.available(0.9)
        self.tell()
        self.start()

    def available(self, part):
        put(self.path / 'proc/meminfo', f'MemTotal:       {TOTAL} kB\nMemAvailable:   {int(TOTAL * part)} kB\n'
                                        'SwapTotal:             0 kB\n')

    def tell(self):
        if self.psi:
            put(self.path / 'proc/pressure/memory', ''.join(
                f'{key} avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n'
                for key, total in (('some', self.some), ('full', self.full))))

    def run(self):
        last = time.monotonic()
        while not self.over.wait(0.05):
            now = time.monotonic()
            self.some += int((now - last) * 1000 * self.some_ms)
            self.full += int((now - last) * 1000 * self.full_ms)
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

    def samples(self, d, name):
        with Peer(d) as peer:
            peer.send({'type': 'metrics', 'id': 1})
            text = peer.until_end(1)[-1]['result']
        return {key: int(float(value)) for key, value in re.findall(rf'^{name}{{action="(\w+)"}} (\S+)$', text, re.MULTILINE)}

    def progress(self, peer, number, phase):
        while True:
            frame = peer.receive()
            self.assertIsNotNone(frame)
            if frame.get('id') == number and frame['type'] == 'progress' and frame['phase'] == phase:
                return frame

    def done(self, d):
        """The actions that the log tells of, in their order."""
        return re.findall(r'memory: \w+ \([^)]*\): (\w+): [^\n]*, [0-9.]+ MB freed', d.read_log())

    def wait_done(self, d, act):
        def it_is_done():
            return act in self.done(d)
        wait_for(it_is_done)

    def test_every_level_is_climbed_and_left_again(self):
        slow = '@@sleep-ms-40-per-step@@'
        with RootedDaemon(self.root, config=CONFIG, runner=HOOKED_RUNNER) as d, Peer(d) as low, Peer(d) as normal, \
                Peer(d) as high:
            self.assertFalse(self.refused(d, 'low'))
            for peer, class_ in ((low, 'low'), (normal, 'normal'), (high, 'high')):
                peer.send(ask(1, class_, 300 if class_ == 'high' else 400, slow))
                self.assertEqual(peer.receive()['type'], 'accepted')
            self.assertEqual(d.status()['memory']['pressure'], 'normal')

            self.root.available(AVAILABLE[1])
            self.level(d, 'trim')
            self.wait_done(d, 'heap')
            self.assertFalse(self.refused(d, 'low'))  # nobody notices

            self.root.available(AVAILABLE[2])
            self.level(d, 'shed')
            self.assertTrue(self.refused(d, 'low'))
            self.assertFalse(self.refused(d, 'normal'))

            self.root.available(AVAILABLE[3])
            self.level(d, 'pause')
            self.assertTrue(self.refused(d, 'normal'))
            for peer in (low, normal):
                self.assertEqual(self.progress(peer, 1, 'paused')['reason'], 'memory')
            self.assertEqual(self.done(d).count('pause') > 0, True)

            self.root.available(AVAILABLE[4])
            self.level(d, 'survive')
            for peer in (low, normal):
                end = peer.until_end(1)[-1]
                self.assertEqual((end['name'], end['number'], end['retryable']), ('evicted', 503, True))
            self.root.available(AVAILABLE[0])
            for level in reversed(LEVELS[:-1]):  # one by one, each for 400 ms and until the next look
                def it_was_left():
                    return f'memory: level {level}, was ' in d.read_log()
                wait_for(it_was_left)
            self.level(d, 'normal')
            self.assertFalse(self.refused(d, 'low'))
            end = high.until_end(1)
            self.assertEqual(end[-1]['type'], 'done')
            self.assertEqual(end[-1]['answer_tokens'], 300)

            def all_is_told():
                return d.status()['memory']['pressure'] == 'normal'
            wait_for(all_is_told)
            acts, counted = self.done(d), self.samples(d, 'onebit_pressure_actions_total')
            self.assertEqual(list(counted), ACTS)
            self.assertEqual({act: acts.count(act) for act in ACTS}, counted)
            first = [acts.index(act) for act in ('heap', 'pause', 'evict')]
            self.assertEqual(first, sorted(first))
            went = re.findall(r'memory: level (\w+), was (\w+)', d.read_log())
            self.assertEqual(went, [*zip(LEVELS[1:], LEVELS), *zip(LEVELS[-2::-1], LEVELS[::-1])])

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
            acts = self.done(d)
            self.assertIn('kv_some', acts)
            self.assertLess(acts.index('kv_some'), acts.index('unload'))
            self.assertEqual(acts.count('unload'), 1)
            self.assertEqual(d.status()['memory']['kv_idle_bytes'], 0)
            freed = self.samples(d, 'onebit_pressure_freed_bytes_total')
            self.assertGreater(freed['kv_some'], 0)
            self.assertGreater(freed['unload'], 0)
            self.root.available(AVAILABLE[0])
            self.level(d, 'normal')
            self.assertFalse(self.refused(d, 'low'))


class WithoutPressureFigures(Ladder):
    PSI = False


class Stalls(Ladder):
    """With pressure figures alone: much is available by the other account, but not two fifths."""

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
        """A file larger than memory is read: stalls, but what the kernel can drop is there to be had."""
        with RootedDaemon(self.root, config=CONFIG) as d:
            self.root.some_ms, self.root.full_ms = 500, 200
            time.sleep(3)
            self.assertEqual(d.status()['memory']['pressure'], 'normal')
            self.assertNotIn('memory: level', d.read_log())


if __name__ == '__main__':
    sys.exit(unittest.main(verbosity=2))
