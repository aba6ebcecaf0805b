#!/usr/bin/env python3
"""A board that grows hot, by the files of a folder of its own: what waits, what goes on, and that answers stay the same."""
import os
import pathlib
import shutil
import tempfile
import unittest

from harness import Daemon, Peer, text_of, wait_for

CONFIG = '[engine]\nthreads = 2\n[heat]\nwarm_c = 70\nhot_s = 1\ncool_s = 1\n'
ASK = {'type': 'generate', 'prompt': 'Once', 'max_tokens': 40, 'ignore_eos': True, 'temperature': 0.7, 'seed': 3}


class Board(Daemon):
    def __init__(self, **kw):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix='onebit-board-'))
        self.put('sys/class/thermal/thermal_zone0/type', 'cpu-thermal')
        self.put('proc/meminfo', 'MemTotal: 8000000 kB\nMemAvailable: 6000000 kB')
        self.set_temperature(40)
        super().__init__(**kw)

    def put(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix('.new')
        fresh.write_text(text + '\n')
        os.rename(fresh, path)

    def set_temperature(self, c):
        self.put('sys/class/thermal/thermal_zone0/temp', str(c * 1000))

    def command(self):
        return [*super().command(), '--sysroot', self.root]

    def machine(self):
        return self.status()['machine']

    def is_at(self, level, threads=0):
        def it_is():
            m = self.machine()
            return (m.get('heat'), m.get('heat_threads')) == (level, threads)
        wait_for(it_is)

    def clean(self):
        super().clean()
        shutil.rmtree(self.root)


class Heat(unittest.TestCase):

    def test_low_waits_and_threads_rest_until_it_is_cooler(self):
        with Board(config=CONFIG) as d, Peer(d) as peer:
            peer.send({**ASK, 'id': 1})
            cool = text_of(peer.until_end(1))
            d.is_at('cool')
            d.set_temperature(72)
            d.is_at('warm')
            peer.send({**ASK, 'id': 2, 'class': 'low', 'deadline_ms': 60000})
            waits = peer.receive()
            while waits['type'] != 'progress' or not waits.get('reason'):
                waits = peer.receive()
            self.assertEqual(waits['reason'], 'heat')
            peer.send({**ASK, 'id': 3, 'class': 'normal'})
            frames = peer.until_end(3)
            self.assertEqual(text_of(frames), cool)
            self.assertFalse([f for f in frames if f['id'] == 2])
            d.set_temperature(90)
            d.is_at('hot', 1)
            peer.send({**ASK, 'id': 4})
            self.assertEqual(text_of(peer.until_end(4)), cool)  # with one thread, to the bit
            d.set_temperature(40)
            self.assertEqual(text_of([f for f in peer.until_end(2) if f['id'] == 2]), cool)
            d.is_at('cool')
            lines = [line for line in d.read_log().splitlines() if 'heat: ' in line]
            self.assertEqual(['warm', 'hot', 'warm', 'cool'], [line.split('heat: ')[1].split()[0] for line in lines], lines)

    def test_a_machine_without_sensors_is_never_hot_and_says_nothing_of_it(self):
        with Board(config=CONFIG) as d:
            shutil.rmtree(d.root / 'sys')
            shutil.rmtree(d.root / 'proc')
            d.stop()
            d.start()
            self.assertEqual(d.status()['memory']['budget_bytes'], 0)  # no limit is known: not a huge one
            self.assertEqual(d.cli('run', 'turn on the kitchen lights').returncode, 0)
            self.assertFalse({'heat', 'temperature_c', 'watts', 'joules_per_token'} & set(d.machine()))


if __name__ == '__main__':
    unittest.main(verbosity=2)
