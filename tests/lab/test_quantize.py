#!/usr/bin/env python3
"""quantize: the right bytes, nothing else touched, whole or absent, in little memory."""
import json
import os
import pathlib
import pty
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from encoders import BLOCKS, IDS, encode
from lab import LAB, SHARED, SOURCE, fine, fine_json, lab, make

sys.path.insert(0, str(SOURCE / 'tests/mutate'))
import gguf  # noqa: E402

LOGITS = SHARED / 'oracle/logits'
IDS_ARG = ','.join(str(i * 7 % 300) for i in range(24))
USAGE, DATA, NOINPUT, UNAVAILABLE, CANTCREATE, IO = 64, 65, 66, 69, 73, 74


def no_room():
    """A file system without room: the limit on file size stands in for it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))


def runs(model):
    """Is its graph one that this engine runs? Quantizing does not ask."""
    return lab('verify', model).returncode == 0


def peak_kib(*args):
    """The most memory that a run had resident, as far as looking every millisecond shows it."""
    running = subprocess.Popen([LAB, *map(str, args)], stdout=subprocess.DEVNULL)
    most = 0
    while running.poll() is None:
        status = pathlib.Path(f'/proc/{running.pid}/status').read_text(encoding='utf-8')
        most = max([most] + [int(l.split()[1]) for l in status.splitlines() if l.startswith('VmHWM')])
        time.sleep(0.001)
    assert running.returncode == 0, args
    return most


def read(path):
    """Name to (dimensions, type, bytes), and the file's parts."""
    g = gguf.parse(pathlib.Path(path).read_bytes())
    return {t.name.decode(): (t.dims, t.kind, g.data[slice(*g.range_of(t))]) for t in g.tensors}, g


def rows_of(tensor):
    dims, kind, data = tensor
    assert kind == IDS['F32']
    n = dims[0]
    return [struct.unpack_from(f'<{n}f', data, 4 * n * r) for r in range(dims[1])]


def big_zeros(path, n_rows):
    """A model-shaped file with one F32 matrix of 8192 columns, without taking the disk that it says."""
    g = gguf.Gguf()
    g.put(gguf.Key(b'general.architecture', gguf.STR, gguf.text(b'llama')))
    g.tensors = [gguf.Tensor(b'blk.0.ffn_up.weight', [8192, n_rows], IDS['F32'], 0)]
    head = g.head()
    path.write_bytes(head)
    os.truncate(path, len(head) + 4 * 8192 * n_rows)


class Quantize(unittest.TestCase):

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.out = self.home / 'out.gguf'

    def plan(self, text):
        path = self.home / 'plan'
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def refused(self, code, *args):
        """Exit code, one line of reason, no file."""
        done = lab('quantize', *args)
        self.assertEqual(done.returncode, code, done)
        self.assertFalse(self.out.exists())
        self.assertEqual([p.name for p in self.home.iterdir() if p.name.startswith('out.gguf')], [])
        return done.stderr.decode()

    def answers(self, path):
        fine('verify', path)
        data = fine('logits', path, '--ids', IDS_ARG)
        self.assertEqual(len(fine_json('generate', path, '--ids', '1,2,3', '-n', 8, '--ignore-eos', '--json')['ids']), 8)
        return data

    # ---- bytes ----

    def check_blocks(self, model, fmt, only=lambda name: True, first_rows=None):
        """Every matrix of the model whose rows suit, encoded by quantize and by encoders.py."""
        source, _ = read(model)
        suits = {n for n, (dims, _, _) in source.items()
                 if len(dims) == 2 and dims[0] % BLOCKS[fmt] == 0 and n.endswith('.weight') and only(n)}
        self.assertTrue(suits, (model, fmt))
        lines = ''.join(f'{n} {fmt}\n' for n in sorted(suits)) + '* keep\n'
        fine('quantize', model, self.out, '--plan', self.plan(lines))
        result, _ = read(self.out)
        for name, (dims, kind, data) in result.items():
            self.assertEqual(dims, source[name][0])
            if name not in suits:
                self.assertEqual((kind, data), source[name][1:], name)
                continue
            want = encode(fmt, rows_of(source[name])[:first_rows])
            self.assertEqual(kind, IDS[fmt])
            self.assertEqual(data[:len(want)], want, (model, fmt, name))

    def test_blocks_are_those_of_the_formulas(self):
        """Goal: quantize writes what the usual encoders write. Method: a second implementation of them."""
        model = make(self.home, 'tiny', 'F32')
        for fmt in BLOCKS:
            with self.subTest(format=fmt):
                rows = None if fmt == 'I2_S' else 32
                self.check_blocks(model, fmt, lambda n: n in ('blk.0.attn_k.weight', 'blk.1.ffn_down.weight'), rows)

    def test_blocks_of_the_recorded_models_are_those_of_the_formulas(self):
        """The same over all matrices of the recorded F32 models. No recorded file has these weights in
        another format, so the bytes of other programs are compared in tests/oracle/encode.c and below."""
        if not LOGITS.exists():
            self.skipTest(f'SKIPPED: {LOGITS} is absent')
        for name in ('llama-f32', 'qwen3-f32', 'bitnet-f32', 'bitnet158-f32'):
            model = LOGITS / f'{name}.gguf'
            widest = max(dims[0] for dims, _, _ in read(model)[0].values() if len(dims) == 2)
            for fmt in BLOCKS:
                if any(dims[0] % BLOCKS[fmt] == 0 for dims, _, _ in read(model)[0].values() if len(dims) == 2):
                    with self.subTest(model=name, format=fmt):
                        self.check_blocks(model, fmt)
                else:
                    self.assertTrue(widest < 256 or widest % 256, (name, fmt))

    def test_recorded_twins_come_out_byte_for_byte(self):
        """Goal: the whole tool writes the tensors that other programs wrote for the same weights, and the result
        answers with the same bits."""
        if not LOGITS.exists():
            self.skipTest(f'SKIPPED: {LOGITS} is absent')
        for source, twin, fmt in (('bitnet-f16', 'bitnet-tq1_0', 'TQ1_0'), ('bitnet-f16', 'bitnet-tq2_0', 'TQ2_0'),
                                  ('bitnet158-f16', 'bitnet158-i2_s', 'I2_S')):
            fine('quantize', LOGITS / f'{source}.gguf', self.out, '--format', fmt, '--head', 'F16')
            got, want = read(self.out)[0], read(LOGITS / f'{twin}.gguf')[0]
            self.assertEqual(list(got), list(want))
            for name in want:
                n = len(want[name][2]) - (28 if want[name][1] == IDS['I2_S'] else 0)  # padding means nothing
                self.assertEqual((got[name][:2], got[name][2][:n]), (want[name][:2], want[name][2][:n]), (twin, name))
            if runs(LOGITS / f'{twin}.gguf'):
                self.assertEqual(self.answers(self.out), self.answers(LOGITS / f'{twin}.gguf'))

    def test_ternary_weights_lose_nothing(self):
        if not LOGITS.exists():
            self.skipTest(f'SKIPPED: {LOGITS} is absent')
        model = LOGITS / 'bitnet158-f32.gguf'
        for fmt in ('I2_S', 'IQ2_BN'):
            suits = ('attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up')
            plan = self.plan(''.join(f'blk.*.{s}.weight {fmt}\n' for s in suits))
            said = fine_json('quantize', model, self.out, '--plan', plan, '--json')
            errors = [t['error'] for t in said['tensors'] if t['format'] == fmt]
            self.assertEqual(errors, [0] * 12, fmt)
            if runs(model):
                self.answers(self.out)

    # ---- files ----

    def test_every_format_loads_and_answers(self):
        for source in ('F32', 'F16', 'BF16'):
            model = make(self.home, 'tiny', source)
            for fmt in BLOCKS:
                if fmt in ('Q2_0', 'Q1_0', 'TQ1_0', 'TQ2_0', 'Q4_0', 'Q8_0') or source == 'F32':
                    with self.subTest(source=source, format=fmt):
                        said = fine_json('quantize', model, self.out, '--format', fmt, '--json')
                        formats = {t['name']: t['format'] for t in said['tensors']}
                        head = fmt if fmt in ('F16', 'BF16', 'Q8_0', 'Q4_0') else 'Q8_0'
                        self.assertEqual(formats['token_embd.weight'], head)
                        self.assertEqual(formats['blk.1.ffn_down.weight'], fmt)
                        self.assertEqual(formats['blk.1.attn_q_norm.weight'], 'F32')
                        self.assertEqual({t['name']: t['format'] for t in fine_json('info', self.out, '--json')['tensors']},
                                         formats)
                        self.answers(self.out)

    def test_smaller_formats_lose_more(self):
        model = make(self.home, 'tiny', 'F32')
        lost = []
        for fmt in ('F16', 'Q8_0', 'Q4_0', 'Q1_0'):
            said = fine_json('quantize', model, self.out, '--format', fmt, '--head', fmt, '--json')
            done = [t['error'] for t in said['tensors'] if t['format'] == fmt]
            lost.append(max(done))
            self.assertEqual(said['bytes'], sum(t['bytes'] for t in said['tensors']))
        self.assertEqual(lost, sorted(lost))
        self.assertTrue(lost[0] < 1e-3 < lost[1] < 1e-2 < lost[2] < 0.1 < lost[3] < 1, lost)

    def test_keys_and_order_stay(self):
        model = make(self.home, 'tiny', 'F32')
        g = read(model)[1]
        g.put(gguf.scalar(b'general.file_type', gguf.U32, 0))
        g.put(gguf.scalar(b'general.alignment', gguf.U32, 32))
        g.put(gguf.scalar(b'a.double', gguf.F64, 0.1))
        g.put(gguf.Key(b'an.array', gguf.ARR, struct.pack('<3h', 1, -2, 3), gguf.I16, 3))
        g.put(gguf.Key(b'no.strings', gguf.ARR, b'', gguf.STR, 0))
        odd = self.home / 'odd.gguf'
        odd.write_bytes(g.build())
        fine('quantize', odd, self.out, '--format', 'Q8_0')
        result = read(self.out)[1]
        want = [k.build() for k in g.keys if k.name not in (b'general.file_type', b'general.alignment')]
        self.assertEqual([k.build() for k in result.keys], want)
        self.assertEqual([t.name for t in result.tensors], [t.name for t in g.tensors])
        self.answers(self.out)

    def test_a_plan_mixes_formats(self):
        model = make(self.home, 'tiny', 'F32')
        plan = self.plan('# the first line that matches decides\n'
                         'blk.0.ffn_*.weight\tTQ1_0  # small\n'
                         '\r\n'
                         'blk.[01].attn_[qk].weight Q4_0\r\n'
                         'blk.*.attn_v.weight keep\n'
                         'blk.* Q1_0')
        said = fine_json('quantize', model, self.out, '--plan', plan, '--format', 'Q2_0', '--head', 'F16', '--json')
        got = {t['name']: t['format'] for t in said['tensors']}
        want = {'token_embd.weight': 'F16', 'blk.0.ffn_up.weight': 'TQ1_0', 'blk.1.ffn_up.weight': 'Q1_0',
                'blk.1.attn_k.weight': 'Q4_0', 'blk.0.attn_v.weight': 'F32', 'blk.0.attn_output.weight': 'Q1_0',
                'blk.0.attn_norm.weight': 'F32'}
        self.assertEqual({n: got[n] for n in want}, want)
        self.assertGreaterEqual(len(set(got.values())), 5)
        self.answers(self.out)
        text = fine('quantize', model, self.out, '--plan', plan).decode()
        self.assertRegex(text, r'(?m)^TQ1_0 +3 +\d+  0\.\d{4}$')
        self.assertEqual(read(self.out)[0]['token_embd.weight'][1], IDS['F32'])  # nobody said: kept

    def test_quantized_tensors_are_copied_by_keep_alone(self):
        model = make(self.home, 'tiny', 'Q6_K', '--head', 'F16')
        said = self.refused(UNAVAILABLE, model, self.out, '--format', 'Q8_0')
        self.assertIn('blk.0.attn_q.weight is Q6_K already', said)
        self.refused(UNAVAILABLE, model, self.out, '--plan', self.plan('blk.0.attn_q.weight Q8_0'))
        fine('quantize', model, self.out, '--format', 'Q8_0', '--plan', self.plan('blk.* keep'))
        before, after = read(model)[0], read(self.out)[0]
        self.assertEqual(after['blk.0.ffn_up.weight'], before['blk.0.ffn_up.weight'])
        self.assertEqual(after['token_embd.weight'][1], IDS['Q8_0'])
        self.answers(self.out)
        for fmt in ('I2_S', 'IQ2_BN', 'Q2_0_g128', 'Q4_K'):
            model, again = make(self.home, 'tiny', fmt, '--head', 'F16'), self.home / 'again.gguf'
            fine('quantize', model, again, '--plan', self.plan('blk.* keep\n* Q4_0\n'))
            before, after = read(model)[0], read(again)[0]
            name = 'blk.1.ffn_down.weight'
            self.assertEqual(after[name][:2], before[name][:2])
            self.assertEqual(after[name][2][:-32], before[name][2][:-32])
            self.answers(again)

    # ---- refusals ----

    def test_command_lines(self):
        model = make(self.home, 'tiny', 'F16')
        self.assertIn('OUT.gguf', self.refused(USAGE, model))
        self.assertIn('--format or --plan', self.refused(USAGE, model, self.out))
        self.assertIn('Q3_0 is none of', self.refused(USAGE, model, self.out, '--format', 'Q3_0'))
        self.assertIn('Q6_K is none of', self.refused(USAGE, model, self.out, '--format', 'Q6_K'))  # read only
        self.assertIn('--head', self.refused(USAGE, model, self.out, '--format', 'Q4_0', '--head', 'q8'))
        self.assertIn('too many', self.refused(USAGE, model, self.out, 'more', '--format', 'Q4_0'))
        before = model.read_bytes()
        self.assertIn('is the input too', self.refused(USAGE, model, model, '--format', 'Q4_0'))
        self.assertEqual(model.read_bytes(), before)

    def test_files(self):
        model = make(self.home, 'tiny', 'F16')
        self.refused(NOINPUT, self.home / 'none.gguf', self.out, '--format', 'Q4_0')
        self.refused(NOINPUT, model, self.out, '--plan', self.home / 'none')
        self.refused(DATA, __file__, self.out, '--format', 'Q4_0')
        self.refused(CANTCREATE, model, self.home / 'no/folder/out.gguf', '--format', 'Q4_0')
        done = subprocess.run([LAB, 'quantize', model, self.out, '--format', 'Q8_0'], capture_output=True,
                              preexec_fn=no_room, timeout=60)
        self.assertEqual(done.returncode, IO, done)
        self.assertEqual(os.listdir(self.home), [model.name])

    def test_rows_that_are_no_whole_blocks(self):
        g = read(make(self.home, 'tiny', 'F32'))[1]
        g.tensors = [gguf.Tensor(b'blk.0.attn_k.weight', [96, 4], IDS['F32'], 0)]
        g.data = bytes(96 * 4 * 4)
        odd = self.home / 'odd.gguf'
        odd.write_bytes(g.build())
        for fmt, block in (('Q2_0', 64), ('TQ1_0', 256), ('Q1_0', 128)):
            self.assertIn(f'blk.0.attn_k.weight has rows of 96 weights, {fmt} wants whole blocks of {block}',
                          self.refused(UNAVAILABLE, odd, self.out, '--format', fmt))
        self.assertIn('plan:1: ', self.refused(UNAVAILABLE, odd, self.out, '--plan', self.plan('* Q2_0')))
        fine('quantize', odd, self.out, '--format', 'Q2_0', '--plan', self.plan('*attn_k* Q8_0'))

    def test_tensors_that_share_bytes_do_not_unfold(self):
        """Goal: what is written is bounded by what is there. Method: many tensors at the place of one; the keys leave
        room for some copies, as where a head is the embedding again."""
        g = gguf.Gguf()
        g.put(gguf.Key(b'general.architecture', gguf.STR, gguf.text(b'llama')))
        g.put(gguf.Key(b'room', gguf.STR, gguf.text(bytes(8192))))
        g.data = bytes(64 * 16 * 4)
        for n, fine_so in ((1, True), (2, True), (3, True), (4, False), (1000, False)):
            g.tensors = [gguf.Tensor(b'blk.%d.ffn_up.weight' % i, [64, 16], IDS['F32'], 0) for i in range(n)]
            path = self.home / 'shared.gguf'
            path.write_bytes(g.build())
            self.assertEqual(n * len(g.data) <= path.stat().st_size, fine_so)
            if fine_so:
                fine('quantize', path, self.out, '--format', 'Q8_0')
                self.assertEqual(len(read(self.out)[0]), n)
                self.out.unlink()
                continue
            for fmt in ('Q8_0', 'F32'):
                self.assertIn('all tensors together are larger than the file',
                              self.refused(DATA, path, self.out, '--format', fmt))

    def test_plans(self):
        model = make(self.home, 'tiny', 'F16')
        for text, number, why in (('\n\nblk.* Q9_9', 3, 'Q9_9 is none of'), ('# c\nblk.*', 2, 'pattern and a format'),
                                  ('blk.* Q8_0 Q4_0', 1, 'pattern and a format'),
                                  ('blk.* Q8_0\nnope.* keep', 2, 'no matrix of the model matches nope.*'),
                                  ('*_norm.weight Q8_0', 1, 'no matrix of the model matches'),
                                  ('x' * 256 + ' Q8_0', 1, '255'), (b'a\0b Q8_0', 1, 'NUL'),
                                  ('* Q8_0\n' * 8193, 8193, '8192')):
            said = self.refused(DATA, model, self.out, '--plan', self.plan(text))
            self.assertIn(f'plan:{number}: ', said)
            self.assertIn(why, said)
        self.assertIn('at most', self.refused(DATA, model, self.out, '--plan', self.plan('#' * (1 << 20) + '\n')))

    def test_weights_that_no_block_can_hold(self):
        g = read(make(self.home, 'tiny', 'F32'))[1]
        name = b'blk.1.attn_v.weight'
        begin = next(t.offset for t in g.tensors if t.name == name) + 4 * (256 * 3 + 17)
        for value, code, why in ((float('nan'), DATA, 'weight 17 of row 3 is not finite'),
                                 (float('-inf'), DATA, 'weight 17 of row 3 is not finite'),
                                 (1e30, UNAVAILABLE, 'pass what a scale of Q4_0 can hold')):
            bent = g.copy()
            bent.data = g.data[:begin] + struct.pack('<f', value) + g.data[begin + 4:]
            path = self.home / 'bent.gguf'
            path.write_bytes(bent.build())
            said = self.refused(code, path, self.out, '--format', 'Q4_0')
            self.assertIn(f'{name.decode()}', said)
            self.assertIn(why, said)

    # ---- behaviour ----

    def test_a_kill_in_the_middle_leaves_no_file(self):
        model = self.home / 'big.gguf'
        big_zeros(model, 40000)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            running = subprocess.Popen([LAB, 'quantize', model, self.out, '--format', 'Q8_0'])
            while not any(p.name.startswith('out.gguf.') and p.stat().st_size for p in self.home.iterdir()):
                self.assertIsNone(running.poll())
            running.send_signal(number)
            code = running.wait(timeout=60)
            self.assertFalse(self.out.exists())
            left = [p for p in self.home.iterdir() if p != model]
            if number == signal.SIGKILL:
                self.assertEqual((code, len(left)), (-number, 1))  # nobody can clean up after that
            else:
                self.assertEqual((code, left), (128 + number, []))

    def test_memory_does_not_grow_with_the_model(self):
        peaks = []
        for n_rows in (1000, 8000):
            model = self.home / f'{n_rows}.gguf'
            big_zeros(model, n_rows)
            peaks.append(peak_kib('quantize', model, self.out, '--format', 'Q8_0'))
        self.assertGreater(peaks[0], 1000)
        self.assertLess(peaks[1] - peaks[0], 8 << 10, peaks)  # KiB; the files have 32 and 256 MiB

    def test_the_bar_is_for_terminals_alone(self):
        model = make(self.home, 'tiny', 'F32')
        args = [LAB, 'quantize', model, self.out, '--format', 'Q4_0', '--json']
        done = subprocess.run(args, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, b''))
        json.loads(done.stdout)
        ours, theirs = pty.openpty()
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=theirs, timeout=60)
        os.close(theirs)
        seen = os.read(ours, 65536)
        os.close(ours)
        json.loads(done.stdout)
        self.assertIn(b'%', seen)
        self.assertIn(b'.weight', seen)
        self.assertTrue(seen.endswith(b'\r\x1b[K'), seen)


if __name__ == '__main__':
    unittest.main(verbosity=2)
