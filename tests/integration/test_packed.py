#!/usr/bin/env python3
"""The packed file and everything that can befall it: each ends in the right answer or a typed error, never in another answer.

Right is what a daemon with an untouched cache folder says."""
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

from harness import HOOKED_RUNNER, LAB, PATIENCE, RUNNER, SANITIZED, SOURCE, Daemon, Peer, text_of, wait_for

MODEL = 'home-q1_0'
ASK = {'type': 'generate', 'messages': [{'role': 'user', 'content': 'turn on the kitchen lights'}], 'max_tokens': 24,
       'ignore_eos': True, 'temperature': 0.0, 'deadline_ms': 120000}
SECTIONS = ['META', 'VOCAB', 'WEIGHTS']
HEADER_BYTES = 136


def sections(pack):
    """name: (offset, bytes), from the header."""
    with open(pack, 'rb') as f:
        numbers = struct.unpack_from('<9Q', f.read(HEADER_BYTES), 56)
    return {name: (numbers[3 * i], numbers[3 * i + 1]) for i, name in enumerate(SECTIONS)}


def flip(path, at, bit=0):
    with open(path, 'r+b') as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << bit]))


class Pair(Daemon):
    """A second daemon beside another: its own socket and log, the other's models and cache."""

    def __init__(self, first, **kw):
        super().__init__(**kw)
        self.models, self.cache = first.models, first.cache


def ask(d, **more):
    """(text, error name) of one request."""
    with Peer(d) as peer:
        peer.send({**ASK, 'id': 1, **more})
        frames = peer.until_end(1)
    end = frames[-1]
    return (text_of(frames), None) if end['type'] == 'done' else (None, end['name'])


def unload(d, model=MODEL):
    done = d.cli('unload', model)
    assert done.returncode == 0, done.stderr


def packs(d):
    return sorted(d.cache.glob('*.pack'))


def the_pack(d):
    found = packs(d)
    assert len(found) == 1, found
    return found[0]


def made(d):
    """Which file it is, and when it got its name."""
    st = the_pack(d).stat()
    return st.st_ino, st.st_ctime_ns


def remade(d):
    """Of the first ten: then the log says no more of it."""
    return d.read_log().count('its packed file is made anew')


class Packed(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        with Daemon() as d:
            cls.right, error = ask(d)
            assert error is None
            cls.bytes = the_pack(d).read_bytes()

    def test_ps_says_how_weights_are_held_and_answers_are_the_same(self):
        for setting, want in (('shared', 'shared'), ('private', 'private'), ('auto\nprivate_bytes = 0', 'shared'),
                              ('auto\nprivate_bytes = 4M\nkv_bytes = 1M', 'private')):
            with self.subTest(setting), Daemon(config=f'[engine]\nweights = {setting}\n') as d:
                self.assertEqual(ask(d), (self.right, None))
                model = json.loads(d.cli('ps', '--json').stdout)['models'][0]
                self.assertEqual(model['weights'], want)
                self.assertIn('huge_bytes', model)
                with open(f"/proc/{d.status()['runner_pid']}/smaps", encoding='ascii') as f:
                    mapped = f.read().split(str(the_pack(d)))[1]
                resident = int(mapped.split('Rss:')[1].split()[0]) * 1024
                start, size = sections(the_pack(d))['WEIGHTS']
                if want == 'shared':
                    self.assertGreater(resident, size * 0.98)  # the tables before it are copied, with a page of it
                else:  # the copy took the pages' place
                    self.assertLess(resident, start + size // 2)
                self.assertIn(want, d.cli('ps').stdout.decode())

    def test_a_measurement_is_kept_beside_the_packed_file_and_taken_up(self):
        """Measured once the engine is idle; a daemon after it reads it; one that is damaged is measured anew."""
        def kept():
            return sorted(d.cache.glob('*.tune'))
        with Daemon() as d:
            self.assertEqual(ask(d), (self.right, None))
            wait_for(kept)
            tune = kept()[0]
            self.assertEqual(tune, the_pack(d).with_suffix('.tune'))
            first = tune.read_bytes()
            with Pair(d) as second:
                self.assertEqual(ask(second), (self.right, None))
                wait_for(lambda: 'measured before:' in second.read_log())
            for damage in (b'', first[:-1], first + b'x', bytes([first[0] ^ 1]) + first[1:], b'\xff' * 5000):
                unload(d)
                tune.write_bytes(damage)
                self.assertEqual(ask(d), (self.right, None))
                wait_for(lambda: tune.read_bytes()[:8] == b'obtuning' and len(tune.read_bytes()) == len(first))
            self.assertEqual(list(d.cache.glob('.*')), [])
        with Daemon(config='[engine]\nthreads = 1\n') as d:  # fixed: nothing is measured
            self.assertEqual(ask(d), (self.right, None))
            self.assertEqual(ask(d, temperature=0.5, seed=1)[1], None)
            self.assertEqual(kept(), [])

    def test_copies_stay_within_their_bound_together(self):
        """Two models of a megabyte each, and room for one and a half."""
        def held(d):
            return {m['name']: m['weights'] for m in json.loads(d.cli('ps', '--json').stdout)['models']}
        with Daemon(config='[engine]\nprivate_bytes = 1500K\nkv_bytes = 1M\n') as d:
            shutil.copy(d.models / f'{MODEL}.gguf', d.models / 'second.gguf')
            for name in (MODEL, 'second'):
                self.assertEqual(ask(d, model=name), (self.right, None))
            self.assertEqual(held(d), {MODEL: 'private', 'second': 'shared'})
            unload(d)
            self.assertEqual(held(d), {'second': 'shared'})  # nothing moves while it may be in use
            unload(d, 'second')
            self.assertEqual(ask(d, model='second'), (self.right, None))
            self.assertEqual(ask(d, model=MODEL), (self.right, None))
            self.assertEqual(held(d), {MODEL: 'shared', 'second': 'private'})

    def test_a_flipped_bit_anywhere_is_found_and_mended(self):
        for held in ('shared', 'private'):
            with Daemon(config=f'[engine]\nweights = {held}\n') as d:
                self.assertEqual(ask(d), (self.right, None))
                places = [0, 8, 20, 48, 57, 80, HEADER_BYTES - 1]
                for start, size in sections(the_pack(d)).values():
                    places += [start, start + size // 2, start + size - 1]
                for n, at in enumerate(places):
                    with self.subTest(held=held, at=at):
                        unload(d)
                        flip(the_pack(d), at, n % 8)
                        damaged = made(d)
                        self.assertEqual(ask(d), (self.right, None))
                        self.assertNotEqual(made(d), damaged)
                        self.assertEqual(the_pack(d).read_bytes(), self.bytes)
                self.assertEqual(d.status()['runner_restarts'], 0)

    def test_a_cut_or_grown_file_is_made_anew(self):
        with Daemon() as d:
            self.assertEqual(ask(d), (self.right, None))
            size = len(self.bytes)
            for length in (0, 1, HEADER_BYTES - 1, HEADER_BYTES, 5000, size // 2, size - 1, size + 1, size * 2):
                with self.subTest(length=length):
                    unload(d)
                    os.truncate(the_pack(d), length)
                    self.assertEqual(ask(d), (self.right, None))
                    self.assertEqual(the_pack(d).read_bytes(), self.bytes)

    def test_a_file_cut_under_the_running_engine_costs_no_answer(self):
        """Nor the engine its life: test_files.py has more of this."""
        with Daemon(config='[engine]\nweights = shared\n') as d:
            self.assertEqual(ask(d), (self.right, None))
            os.truncate(the_pack(d), 4096)
            self.assertEqual(ask(d), (self.right, None))
            self.assertEqual(d.status()['runner_restarts'], 0)

    def wrapped(self, home, text):
        """A runner that does this when it packs, with the source as descriptor 3, the packed file as 4."""
        script = pathlib.Path(home) / 'runner'
        script.write_text(f'#!/bin/sh\nhome={home}\nif [ "$1" = --pack ]; then\n{text}\nfi\nexec {RUNNER} "$@"\n')
        script.chmod(0o755)
        return script

    def test_a_disk_that_damages_every_file_ends_in_a_typed_error(self):
        """Method: the packed file's last byte is another one than was written, each time."""
        damage = f'{RUNNER} "$@" || exit $?\nprintf "\\377\\377" | dd of=/proc/self/fd/4 bs=1 seek={len(self.bytes) - 70} conv=notrunc 2>/dev/null\nexit 0'
        with tempfile.TemporaryDirectory() as home:
            with Daemon(runner=self.wrapped(home, damage)) as d:
                self.assertEqual(ask(d), (None, 'model_malformed'))
                self.assertEqual(remade(d), 1)

    def test_a_source_that_changes_in_place_is_packed_anew(self):
        """Its size stays, and its time is put back: what a program can do to hide it."""
        with tempfile.TemporaryDirectory() as home:
            models = [pathlib.Path(home) / f'{name}.gguf' for name in ('a', 'b')]
            for seed, model in enumerate(models):
                subprocess.run([LAB, 'make', '--shape', 'tiny', '--format', 'Q8_0', '--seed', str(seed + 1), model], check=True)
            want = []
            for model in models:
                shutil.copy(model, pathlib.Path(home) / 'm.gguf')
                with Daemon(models=[pathlib.Path(home) / 'm.gguf']) as d:
                    want.append(self.numbers(d))
            self.assertNotEqual(want[0], want[1])
            shutil.copy(models[0], pathlib.Path(home) / 'm.gguf')
            with Daemon(models=[pathlib.Path(home) / 'm.gguf']) as d:
                self.assertEqual(self.numbers(d), want[0])
                unload(d, 'm')
                path = d.models / 'm.gguf'
                before = path.stat()
                with open(path, 'r+b') as f:
                    f.write(models[1].read_bytes())
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
                after = path.stat()
                self.assertEqual((before.st_ino, before.st_size, before.st_mtime_ns),
                                 (after.st_ino, after.st_size, after.st_mtime_ns))
                self.assertEqual(self.numbers(d), want[1])
                self.assertEqual(len(packs(d)), 1)

    def numbers(self, d):
        """The ids of an answer, which say more of a model of random weights than its text."""
        with Peer(d) as peer:
            peer.send({'type': 'generate', 'id': 1, 'ids': [5, 6, 7], 'max_tokens': 16, 'ignore_eos': True, 'temperature': 0.0})
            frames = peer.until_end(1)
        self.assertEqual(frames[-1]['type'], 'done', frames[-1])
        return [i for f in frames if f['type'] == 'delta' for i in f['ids']]

    def test_a_source_that_changes_while_it_is_packed_is_packed_again(self):
        for times, want in ((2, (self.right, None)), (3, (None, 'overloaded'))):
            with tempfile.TemporaryDirectory() as home:
                script = self.wrapped(home, f'n=$(cat $home/n 2>/dev/null || echo 0)\n{RUNNER} "$@" || exit $?\n'
                                            f'if [ "$n" -lt {times} ]; then echo $((n + 1)) > $home/n; touch /proc/self/fd/3; fi\nexit 0')
                with Daemon(runner=script) as d:
                    self.assertEqual(ask(d), want)
                    self.assertEqual(d.read_log().count('was written to'), 2)
                    self.assertEqual(len(packs(d)), 1 if want[0] else 0)
                    self.assertEqual(ask(d), (self.right, None))

    # ---- killed in mid-write ----

    def pieces(self):
        """How many pieces a packer writes: with a number past the last, none is killed."""
        with tempfile.TemporaryDirectory() as home:
            low, high = 1, 1 << 16
            orders, out = pathlib.Path(home) / 'die', pathlib.Path(home) / 'out'
            while low < high:  # the first number at which it lives
                middle = (low + high) // 2
                orders.write_text(f'{middle} alone')
                with open(SOURCE / f'models/{MODEL}.gguf', 'rb') as source, open(out, 'w+b') as to:
                    done = subprocess.run(['bash', '-c', f'exec {HOOKED_RUNNER} --pack 3<&{source.fileno()} 4<>{out}'],
                                          pass_fds=[source.fileno(), to.fileno()], stdout=subprocess.DEVNULL,
                                          env=dict(os.environ, ONEBIT_DIE_AT=str(orders)), check=False)
                low, high = (low, middle) if done.returncode == 0 else (middle + 1, high)
            return low - 1

    def points(self):
        """Each of the first and last pieces, and some between."""
        n = self.pieces()
        self.assertGreater(n, 20)
        some = {1, 2, 3, 4, 5, n - 3, n - 2, n - 1, n} | {n * i // 8 for i in range(1, 8)}
        return sorted(some) if not SANITIZED else [1, n // 2, n]

    def test_a_packer_killed_at_any_write_is_tried_again(self):
        with tempfile.TemporaryDirectory() as home:
            orders = pathlib.Path(home) / 'die'
            with Daemon(runner=HOOKED_RUNNER, env={'ONEBIT_DIE_AT': str(orders)}) as d:
                for at in self.points():
                    with self.subTest(at=at):
                        orders.write_text(f'{at} alone')
                        self.assertEqual(ask(d), (self.right, None))
                        self.assertFalse(orders.exists())
                        self.assertEqual(the_pack(d).read_bytes(), self.bytes)
                        self.assertEqual(list(d.cache.glob('.*.tmp')), [])
                        unload(d)
                        the_pack(d).unlink()

    def test_daemon_and_packer_killed_at_any_write_leave_nothing_that_matters(self):
        with tempfile.TemporaryDirectory() as home:
            orders = pathlib.Path(home) / 'die'
            with Daemon(runner=HOOKED_RUNNER, env={'ONEBIT_DIE_AT': str(orders)}) as d:
                for at in self.points():
                    with self.subTest(at=at):
                        orders.write_text(f'{at} both')
                        client = d.cli_start('run', 'hi')
                        self.assertEqual(d.process.wait(timeout=PATIENCE), -signal.SIGKILL)
                        client.communicate(timeout=PATIENCE)
                        self.assertEqual((packs(d), len(list(d.cache.glob('.*.tmp')))), ([], 1))
                        d.start()
                        self.assertEqual(ask(d), (self.right, None))
                        self.assertEqual(list(d.cache.glob('.*.tmp')), [])
                        self.assertEqual(the_pack(d).read_bytes(), self.bytes)
                        unload(d)
                        the_pack(d).unlink()

    # ---- a full disk ----

    @unittest.skipUnless(os.geteuid() == 0, 'SKIPPED: only root can make a disk that is full')
    def test_a_full_disk_is_a_typed_error_and_no_more(self):
        with Daemon() as d:
            for room in ('64k', f'{len(self.bytes) // 1024 - 8}k'):
                mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={room}', 'full', d.cache], check=False)
                if mounted.returncode != 0:
                    self.skipTest('SKIPPED: no file system can be mounted here')
                try:
                    with Peer(d) as peer:
                        peer.send({**ASK, 'id': 1})
                        end = peer.until_end(1)[-1]
                    self.assertEqual((end['name'], end['number']), ('cache_unwritable', 507), end)
                    self.assertIn('cache folder cannot be written', end['message'])
                    self.assertGreaterEqual(end['have'], len(self.bytes))
                    self.assertLess(end['have'], len(self.bytes) + 1024)
                    self.assertLess(end['limit'], end['have'])
                    self.assertEqual(d.cli('run', 'hi').returncode, 73)
                    self.assertEqual(list(d.cache.iterdir()), [])
                finally:
                    # lazily: the packer that failed may still be on its way out
                    subprocess.run(['umount', '--lazy', d.cache], check=True)
            self.assertEqual(ask(d), (self.right, None))

    # ---- others ----

    def test_another_cpu_levels_file_gives_the_same_answer(self):
        with Daemon(config='[engine]\ncpu = scalar\n') as first:
            self.assertEqual(ask(first, max_tokens=8)[1], None)
            before = the_pack(first).stat().st_ino
            with Pair(first) as second:
                self.assertEqual(ask(second), (self.right, None))
                if second.status()['cpu'] == 'scalar':
                    print('SKIPPED: this machine has one level alone', file=sys.stderr)
                self.assertEqual((remade(second), the_pack(second).stat().st_ino), (0, before))

    def test_two_daemons_pack_the_same_model_at_once(self):
        """Method: neither packer starts before both are there."""
        with tempfile.TemporaryDirectory() as home:
            meet = '> $home/$$\nwhile [ $(ls $home | grep -c "^[0-9]") -lt 2 ]; do sleep 0.01; done'
            script = self.wrapped(home, meet)
            with Daemon(runner=script) as first, Pair(first, runner=script) as second:
                clients = [d.cli_start('load', MODEL) for d in (first, second)]
                for client in clients:
                    _, err = client.communicate(timeout=PATIENCE * 2)
                    self.assertEqual(client.returncode, 0, err)
                self.assertEqual(len([p for p in pathlib.Path(home).iterdir() if p.name.isdigit()]), 2)
                self.assertEqual([ask(first), ask(second)], [(self.right, None)] * 2)
                self.assertEqual(the_pack(first).read_bytes(), self.bytes)
                self.assertEqual(list(first.cache.glob('.*.tmp')), [])

    def test_a_second_daemon_on_the_same_file_takes_no_copy(self):
        """Of a shared file, each process is charged half of the pages; a copy is charged in full."""
        def charged(d):
            with open(f"/proc/{d.status()['runner_pid']}/smaps", encoding='ascii') as f:
                mapped = f.read().split(str(the_pack(d)))[1]
            return tuple(int(mapped.split(word)[1].split()[0]) * 1024 for word in ('Rss:', 'Pss:', 'Private_Clean:'))
        with Daemon(config='[engine]\nweights = shared\n') as first:
            self.assertEqual(ask(first), (self.right, None))
            alone = charged(first)
            with Pair(first, config='[engine]\nweights = shared\n') as second:
                self.assertEqual(ask(second), (self.right, None))
                for d in (first, second):
                    rss, pss, own = charged(d)
                    self.assertGreater(rss, len(self.bytes) * 0.9)
                    self.assertLess(pss, rss * 0.6)
                    self.assertLess(own, rss * 0.1)
            self.assertGreater(alone[1], alone[0] * 0.9)


if __name__ == '__main__':
    unittest.main(verbosity=2)
