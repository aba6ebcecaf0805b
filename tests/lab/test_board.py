#!/usr/bin/env python3
"""info --board: what running a model takes and how fast it can be; and the packed form as a file."""
import os
import pathlib
import subprocess
import tempfile
import unittest

from lab import HOME_MODEL, LAB, fine, fine_json, lab, make

USAGE, DATA, UNAVAILABLE, CANTCREATE = 64, 65, 69, 73
MIB = 1 << 20


def board(model, name, *more):
    return fine_json('info', model, '--board', name, '--json', *more)


class Boards(unittest.TestCase):

    def test_an_unknown_name_and_list_name_them_all(self):
        for name in ('list', 'cray-1'):
            for model in ([HOME_MODEL], []):
                done = lab('info', *model, '--board', name)
                self.assertEqual((done.returncode, done.stdout), (USAGE, b''))
                for known in (b'pi-zero-2w', b'pi4-8gb', b'pi5-16gb', b'orin-nano-8gb', b'n100-ddr4', b'this'):
                    self.assertIn(known, done.stderr)

    def test_every_board_that_is_listed_is_known(self):
        listed = [line.split()[0] for line in lab('info', '--board', 'list').stderr.decode().splitlines()
                  if line.startswith('  ')]
        self.assertGreater(len(listed), 10)
        for name in listed:
            said = board(HOME_MODEL, name)
            self.assertEqual(said['board']['name'], name)
            self.assertEqual(said['board']['measured'], name == 'this')
            self.assertGreater(said['board']['practical_bytes_per_second'], 1e8)
            self.assertGreater(said['board']['ram_bytes'], said['board']['system_bytes'])

    def test_the_rate_of_a_board_is_width_times_data_rate(self):
        for name, rate in (('pi4-4gb', 12.8e9), ('pi5-8gb', 17.068e9), ('orin-nano-8gb', 68.256e9)):
            self.assertAlmostEqual(board(HOME_MODEL, name)['board']['peak_bytes_per_second'], rate, delta=1)

    def test_the_parts_add_up_and_follow_the_options(self):
        one = board(HOME_MODEL, 'pi5-4gb', '--ctx', 512)
        parts = dict(one['memory'])
        self.assertEqual(parts.pop('total'), sum(parts.values()))
        info = fine_json('info', HOME_MODEL, '--json')
        self.assertEqual(parts['weights'] + parts['tables'], info['packed_bytes'])
        kv = info['layers'] * info['kv_heads'] * info['head_dim'] * 2 * 2  # bytes a position, f16
        self.assertEqual(parts['kv'], kv * 512)
        for more, factor in ((['--streams', 3], 3), (['--kv', 'f32'], 2)):
            self.assertEqual(board(HOME_MODEL, 'pi5-4gb', '--ctx', 512, *more)['memory']['kv'], factor * kv * 512)
        rows = info['layers'] * info['kv_heads'] * 2  # of int8, each with a float
        int8 = board(HOME_MODEL, 'pi5-4gb', '--ctx', 512, '--kv', 'int8')
        self.assertEqual(int8['memory']['kv'], rows * (info['head_dim'] + 4) * 512)
        self.assertEqual(board(HOME_MODEL, 'pi5-4gb', '--ctx', 33)['memory']['kv'], kv * 64)  # whole blocks
        self.assertEqual(one['read_per_token']['kv'], kv * 512)
        self.assertGreater(board(HOME_MODEL, 'pi5-4gb', '--chunk', 512)['memory']['scratch'], parts['scratch'])

    def test_the_ceiling_is_the_rate_over_what_is_read(self):
        for streams in (1, 4):
            said = board(HOME_MODEL, 'pi5-8gb', '--ctx', 256, '--streams', streams)
            read = said['read_per_token']
            for state, positions in (('empty', 0), ('full', 256)):
                bytes_read = read['weights'] + streams * (read['kv'] if positions else 0)
                self.assertEqual(said['ceiling'][state]['positions'], positions)
                for which in ('peak', 'practical'):
                    want = said['board'][f'{which}_bytes_per_second'] * streams / bytes_read
                    got = said['ceiling'][state][f'{which}_tokens_per_second']
                    self.assertAlmostEqual(got / want, 1, places=6)

    def test_an_embedding_counts_as_read_where_it_is_the_head(self):
        with tempfile.TemporaryDirectory() as home:
            tied, untied = make(home, 'tiny'), make(home, 'llama-160m')
            for model, head in ((tied, 0), (untied, 32000 * 768 * 18 // 128)):
                said = board(model, 'pi5-4gb')
                self.assertAlmostEqual(said['memory']['weights'] - said['read_per_token']['weights'], head,
                                       delta=head // 100 + 64 * 40)

    def test_what_does_not_fit_is_said_plainly(self):
        much = ['--streams', 64, '--kv', 'f32', '--ctx', 1024]
        said = board(HOME_MODEL, 'pi-zero-2w', *much)
        self.assertFalse(said['fits'])
        self.assertEqual(said['spare_bytes'], (512 - 192) * MIB - said['memory']['total'])
        self.assertIn(b'DOES NOT FIT', fine('info', HOME_MODEL, '--board', 'pi-zero-2w', *much))
        self.assertTrue(board(HOME_MODEL, 'pi5-8gb', *much)['fits'])
        self.assertIn(b'fits: ', fine('info', HOME_MODEL, '--board', 'pi-zero-2w'))

    def test_options_without_sense_are_refused(self):
        for args in (['--ctx', '64'], ['--streams', '2'], ['--chunk', '8'], ['--board', 'this', '--ctx', '0'],
                     ['--board', 'this', '--streams', '65'], ['--board', 'pi5-4gb', '--ctx', '100000'], ['--board']):
            self.assertEqual(lab('info', HOME_MODEL, *args).returncode, USAGE, args)


class Tables(unittest.TestCase):

    def table(self, *args):
        """Rows as lists of cells, the head first."""
        lines = fine('info', *args).decode().split('\n\n')[0].splitlines()
        return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if not line.startswith('|---')]

    def test_several_models_on_several_boards(self):
        with tempfile.TemporaryDirectory() as home:
            big = make(home, 'llama-160m', 'Q8_0')
            head, *rows = self.table(HOME_MODEL, big, '--board', 'pi-zero-2w,pi5-4gb,1G')
            self.assertEqual(head[5:], ['pi-zero-2w: 307 of 512 MiB', 'pi5-4gb: 2457 of 4096 MiB', '1G: 614 of 1024 MiB'])
            self.assertEqual([row[:2] for row in rows], [[name, kv] for name in ('home-q1_0', pathlib.Path(big).stem) for kv in ('f16', 'int8')])
            self.assertEqual(rows[0][5:], ['64 or more'] * 3)
            for which, streams in ((5, 'f16'), (6, 'f16'), (7, 'int8')):
                row = rows[2 if streams == 'f16' else 3]
                memory = board(big, 'pi5-4gb', '--ctx', 2048, '--kv', streams)['memory']
                self.assertAlmostEqual(float(row[2]), (memory['weights'] + memory['tables']) / MIB, delta=0.6)
                self.assertAlmostEqual(float(row[3]), memory['kv'] / 2048 * 1000 / MIB, delta=0.6)
                budget = int(head[which].split()[1])
                n = int(row[which].split()[0])
                for m, fits in ((n, True), (n + 1, False)):
                    use = board(big, 'pi5-4gb', '--ctx', 2048, '--kv', streams, '--streams', min(m, 64), '--chunk', 576)['memory']
                    if n < 64:
                        self.assertEqual(use['total'] - use['process'] + 16 * MIB <= budget * MIB, fits, (which, m))

    def test_what_does_not_fit_is_said(self):
        with tempfile.TemporaryDirectory() as home:
            self.assertIn('does not fit', self.table(make(home, 'llama-160m', 'F16'), '--board', '300M')[1])

    def test_a_size_is_memory_and_what_is_neither_is_named(self):
        for size, head in (('2147483648', '1228 of 2048'), ('512M', '307 of 512'), ('8G', '4915 of 8192')):
            self.assertEqual(self.table(HOME_MODEL, '--board', size)[0][5], f'{size}: {head} MiB')
        for wrong in ('8Q', '-1', '0', '1', 'pi5-4gb,', ',', 'pi5-4gb,cray-1', '99999999999G', ','.join(['1G'] * 17)):
            self.assertEqual(lab('info', HOME_MODEL, '--board', wrong).returncode, USAGE, wrong)

    def test_several_models_want_a_board_and_no_details(self):
        for args in ([], ['--board', '1G', '--json'], ['--board', '1G', '--streams', 2], ['--board', '1G', '--chunk', 2]):
            self.assertEqual(lab('info', HOME_MODEL, HOME_MODEL, *args).returncode, USAGE)
        self.assertEqual(lab('info', *[HOME_MODEL] * 17, '--board', '1G').returncode, USAGE)
        self.assertEqual(lab('verify', HOME_MODEL, HOME_MODEL).returncode, USAGE)


class Memory(unittest.TestCase):

    @unittest.skipIf(os.environ.get('ONEBIT_SANITIZED') == '1', 'a sanitizer takes memory of its own')
    def test_a_run_takes_what_was_predicted(self):
        """Goal: the prediction is of what the system counts, not of what we think that we allocate.
        Method: the peak of a run over a whole context with every weight touched; the model is big enough that a
        process's own pages, which differ from system to system, are small beside it. bench/memory.py does it at
        full size."""
        with tempfile.TemporaryDirectory() as home:
            packed = pathlib.Path(home) / 'packed'
            fine('pack', make(home, 'llama-160m', 'Q8_0'), '--out', packed)
            for streams, kv in ((1, 'f16'), (2, 'f32')):
                use = ['--threads', 2, '--kv', kv, '--chunk', 64]
                want = board(packed, 'pi5-4gb', '--ctx', 128, '--streams', streams, *use)['memory']['total']
                said = fine_json('bench', packed, '-p', 120, '-n', 8, '-r', 1, '-b', streams, '--json', *use)
                self.assertAlmostEqual(said['peak_bytes'] / want, 1, delta=0.05, msg=(streams, kv))


class Packed(unittest.TestCase):

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.packed = self.home / 'home.packed'
        fine('pack', HOME_MODEL, '--out', self.packed)

    def test_a_packed_file_serves_like_the_model(self):
        for verb, more in (('info', ['--json']), ('verify', []), ('logits', ['--ids', '1,2,3']),
                           ('generate', ['--ids', '5,6', '-n', '8'])):
            self.assertEqual(fine(verb, self.packed, *more), fine(verb, HOME_MODEL, *more), verb)
        fine('bench', self.packed, '-p', 4, '-n', 2, '-r', 1)

    def test_a_damaged_or_foreign_one_is_refused(self):
        data = self.packed.read_bytes()
        for at, code in ((100, DATA), (200, DATA), (8, UNAVAILABLE), (20, UNAVAILABLE)):
            self.packed.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
            for verb in ('info', 'verify'):
                self.assertEqual(lab(verb, self.packed).returncode, code, at)
        self.packed.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
        self.assertEqual(lab('verify', self.packed).returncode, DATA)
        self.packed.write_bytes(data[:len(data) // 2])
        self.assertEqual(lab('info', self.packed).returncode, DATA)

    def test_the_file_is_there_whole_or_not_at_all(self):
        broken = self.home / 'broken.gguf'
        broken.write_bytes(HOME_MODEL.read_bytes()[:100000])
        self.assertEqual(lab('pack', broken, '--out', self.packed).returncode, DATA)
        self.assertEqual(lab('pack', HOME_MODEL).returncode, USAGE)
        self.assertEqual(lab('pack', HOME_MODEL, '--out', self.home / 'no/such').returncode, CANTCREATE)
        done = subprocess.run([LAB, 'pack', self.packed, '--out', self.home / 'again'], capture_output=True)
        self.assertEqual(done.returncode, DATA)  # a packed file is no GGUF
        self.assertEqual(sorted(p.name for p in self.home.iterdir()), ['broken.gguf', 'home.packed'])


if __name__ == '__main__':
    unittest.main(verbosity=2)
