#!/usr/bin/env python3
"""The bench for bent files sees what it is for: ends, signals, memory, hangs; and the same identity is the same file.

    test_runner.py RUNNER"""
import os
import pathlib
import sys
import tempfile
import unittest

from gguf import parse
from mutate import mutate
import run

PROGRAM = pathlib.Path(sys.argv.pop())
CORPUS = sorted((run.SOURCE / 'tests/fuzz/corpus/gguf').glob('*.gguf'))
LOTS = 1 << 40


def python(code):
    return sys.executable, '-c', code


class Runner(unittest.TestCase):

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = home.name

    def started(self, seconds=60):
        run.SECONDS = seconds
        runner = run.Runner(PROGRAM, self.home)
        self.addCleanup(runner.process.wait)
        self.addCleanup(runner.process.stdout.close)
        self.addCleanup(runner.process.stdin.close)
        return runner

    def test_exit_codes_and_words_come_through(self):
        runner = self.started()
        for code in (0, 3, 65, 255):
            ended = runner.run(LOTS, *python(f'import sys; sys.stderr.write("said {code}"); sys.exit({code})'))
            self.assertEqual((ended.code, ended.signal, ended.late, ended.said), (code, 0, 0, f'said {code}'))
        self.assertEqual(runner.run(LOTS, '/no/such/program').code, 127)

    def test_a_signal_is_seen(self):
        for number in (6, 11):
            ended = self.started().run(LOTS, *python(f'import os; os.kill(os.getpid(), {number})'))
            self.assertEqual((ended.code, ended.signal), (-1, number))
            self.assertIn('signal', run.fault_of(ended, 0))

    def test_memory_is_that_of_the_program_alone(self):
        runner, take = self.started(), 'x = bytearray(90 << 20); x[::4096] = b"1" * len(x[::4096])'
        small = runner.run(LOTS, '/bin/true')
        large = runner.run(LOTS, *python(take))
        again = runner.run(LOTS, '/bin/true')
        self.assertLess(max(small.kib, again.kib), 30 << 10)
        self.assertGreater(large.kib, 90 << 10)
        if not run.SANITIZED:
            self.assertIn('MiB for a file', run.fault_of(large, 1 << 20))
            self.assertIsNone(run.fault_of(large, 64 << 20))

    def test_memory_files_are_bounded_too(self):
        write = 'import os; f = os.memfd_create("x"); os.write(f, bytes({})); os.write(f, b"1")'
        self.assertEqual(self.started().run(1 << 20, *python(write.format(1000))).code, 0)
        ended = self.started().run(1 << 20, *python('import signal; signal.signal(25, 0);' + write.format(1 << 20)))
        self.assertTrue(ended.signal == 25 or ended.code == 1, ended)

    def test_what_hangs_is_ended(self):
        ended = self.started(seconds=1).run(LOTS, '/bin/sleep', '60')
        self.assertEqual((ended.signal, ended.late), (9, 1))
        self.assertIn('does not end', run.fault_of(ended, 0))
        self.assertGreater(self.started(seconds=1).run(LOTS, *python('while True: pass')).signal, 0)

    def test_other_exits_are_faults(self):
        for code in (1, 64, 66, 71, 74, 126, 127):
            self.assertIsNotNone(run.fault_of(run.Ended(code, 0, 0, 100, 1, 'onebit-lab: x'), 0))
        for code in (0, 65, 69):
            self.assertIsNone(run.fault_of(run.Ended(code, 0, 0, 100, 1, 'onebit-lab: x'), 0))
        self.assertIsNotNone(run.fault_of(run.Ended(65, 0, 0, 100, 1, ''), 0))


class Quantizing(unittest.TestCase):

    def test_a_share_of_the_files_is_quantized(self):
        names = [f'x:{i}' for i in range(2000)]
        for floats, low, high in ((True, 900, 1100), (False, 180, 320)):
            share = [n for n in names if run.is_for_quantize(n, floats)]
            self.assertTrue(low < len(share) < high, len(share))
            words = [run.quantize('lab', 'in', n, pathlib.Path('/'), floats) for n in share]
            self.assertEqual(words, [run.quantize('lab', 'in', n, pathlib.Path('/'), floats) for n in share])
            self.assertEqual({str(w[w.index('--format') + 1]) for w in words if '--format' in w}, set(run.TARGETS))
            self.assertEqual(sum('--plan' in w for w in words) * 2 < len(words), floats)
        self.assertFalse(run.is_for_quantize('x', True))

    def test_floats_are_known(self):
        self.assertEqual({run.has_floats(parse(p.read_bytes())) for p in CORPUS}, {False, True})

    def test_what_is_left_is_seen(self):
        with tempfile.TemporaryDirectory() as home:
            done, bad = (run.Ended(code, 0, 0, 100, 1, '') for code in (0, 65))
            work = run.Work(None, pathlib.Path(home), {})
            out = work.home / f'out-{os.getpid()}.gguf'
            for verb, ended, names, fine in (('quantize', done, [out.name], True), ('quantize', done, [], False),
                                             ('quantize', bad, [], True), ('quantize', bad, [out.name], False),
                                             ('quantize', bad, [out.name + '.Ab12'], False),
                                             ('quantize', done, [out.name, out.name + '.Ab12'], False),
                                             ('generate', done, [], True), ('generate', done, [out.name], False)):
                for name in names:
                    (work.home / name).touch()
                self.assertEqual(work.left(verb, ended) is None, fine, (verb, ended, names))
                self.assertEqual(os.listdir(home), [])


class Mutations(unittest.TestCase):

    def test_parts_make_the_file_again(self):
        self.assertGreater(len(CORPUS), 5)
        for path in CORPUS:
            data = path.read_bytes()
            self.assertEqual(parse(data).build(), data)

    def test_an_identity_is_one_file(self):
        a, b = CORPUS[0].read_bytes(), CORPUS[-1].read_bytes()
        parsed, seen = parse(a), set()
        for i in range(300):
            bent = mutate(a, b, f'x:{i}', parsed)
            self.assertEqual(bent, mutate(a, b, f'x:{i}'))
            seen.add(bent)
        self.assertEqual(parsed.build(), a)
        self.assertGreater(len(seen), 280)


if __name__ == '__main__':
    unittest.main(verbosity=2)
