#!/usr/bin/env python3
"""quantize --method: what each method is for, what it says of itself, and texts that it cannot use."""
import json
import math
import pathlib
import re
import sys
import tempfile
import unittest

from lab import SOURCE, fine, fine_json, lab, make

sys.path.insert(0, str(SOURCE / 'tests/mutate'))
import gguf  # noqa: E402

USAGE, DATA, NOINPUT = 64, 65, 66
ROOMS = ['kitchen', 'bedroom', 'living room', 'garage', 'office', 'hall']
TEXT = ''.join(f'turn {on} the {room} lights\n{{"intent":"HassTurn{on.title()}","area":"{room}","domain":"light"}}\n'
               for _ in range(4) for room in ROOMS for on in ('on', 'off'))
HELD_BACK = 'is the window in the garage open, and how warm is it in the bedroom? set the office to 21 degrees.\n' * 3
WINDOW = ('--ctx', 64, '--tokens', 512)


class Methods(unittest.TestCase):

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.out = self.home / 'out.gguf'
        self.text = self.home / 'text'
        self.text.write_text(TEXT)
        self.model = make(self.home, 'tiny', 'F32')

    def quantize(self, *args, text=True):
        calibrate = ('--calibrate', self.text, *WINDOW) if text else ()
        return fine_json('quantize', self.model, self.out, *calibrate, *args, '--json')

    def refused(self, code, *args):
        done = lab('quantize', self.model, self.out, *args)
        self.assertEqual(done.returncode, code, done)
        self.assertFalse(self.out.exists())
        return done.stderr.decode()

    def key(self):
        found = [k.value for k in gguf.parse(self.out.read_bytes()).keys if k.name == b'onebit.quantize.method']
        return found[0][8:].decode() if found else None

    def logits(self, path, text):
        ids = ','.join(map(str, json.loads(fine('tokenize', path, stdin=text))[:100]))
        return json.loads(fine('logits', path, '--ids', ids, '--all', '--json'))['logits']

    def distance(self, text):
        """Of the file's logits from the float model's, relative."""
        want, got = ([v for row in self.logits(p, text) for v in row] for p in (self.model, self.out))
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(want, got)) / sum(a * a for a in want))

    # ---- what they do ----

    def test_a_method_is_in_the_file_and_gives_it_its_name(self):
        for args, key, name in ((('--method', 'gptq'), 'gptq', 'gptq-4bit'), (('--method', 'awq'), 'awq', 'awq-8bit'),
                                (('--method', 'awq', '--format', 'Q4_0'), 'awq', 'int4'),
                                (('--method', 'propagate', '--format', 'Q1_0'), 'propagate', 'binary'),
                                (('--method', 'refine', '--format', 'Q2_0'), 'refine', 'ternary')):
            said = self.quantize(*args)
            self.assertEqual((said['method'], self.key()), (key, key))
            fine('verify', self.out)
            self.assertEqual(fine_json('info', self.out, '--json')['quantization'], name)
        self.quantize('--format', 'Q4_0', text=False)
        self.assertIsNone(self.key())
        self.assertEqual(fine_json('info', self.out, '--json')['quantization'], 'int4')

    def test_errors_stand_beside_those_of_rounding(self):
        for method, fmt in (('refine', 'Q1_0'), ('refine', 'Q2_0'), ('propagate', 'Q1_0'), ('propagate', 'Q2_0'),
                            ('gptq', 'Q4_0'), ('awq', 'Q8_0')):
            said = self.quantize('--method', method, '--format', fmt)
            rounding = {t['name']: t['error'] for t in self.quantize('--format', fmt, text=False)['tensors']}
            fitted = [t for t in said['tensors'] if t['name'].startswith('blk.') and t['from'] != t['format']]
            self.assertEqual(len(fitted), 14)
            for t in fitted:
                self.assertAlmostEqual(t['rounding_error'], rounding[t['name']], delta=1e-5)
                self.assertLessEqual(t['output_error'], t['rounding_output_error'] * 1.000001, (method, t))
            others = [t for t in said['tensors'] if t not in fitted]
            self.assertTrue(all(t['output_error'] is None for t in others))

    def test_fitted_files_are_nearer_to_the_float_model_on_other_text_too(self):
        for fmt, method, least in (('Q1_0', 'propagate', 0.9), ('Q2_0', 'propagate', 0.9), ('Q4_0', 'gptq', 1)):
            self.quantize('--format', fmt, text=False)
            rounded = [self.distance(t) for t in (TEXT, HELD_BACK)]
            self.quantize('--format', fmt, '--method', method)
            fitted = [self.distance(t) for t in (TEXT, HELD_BACK)]
            self.assertLess(fitted[0], least * rounded[0], (fmt, fitted, rounded))
            self.assertLess(fitted[1], least * rounded[1], (fmt, fitted, rounded))
        self.quantize('--method', 'awq')
        self.assertLess(self.distance(HELD_BACK), 0.05)  # scaling changes nothing but the rounding

    def test_refining_needs_no_text(self):
        said = self.quantize('--method', 'refine', '--format', 'Q2_0', '--head', 'Q4_0', text=False)
        self.assertEqual(self.key(), 'refine')
        for t in said['tensors']:
            if t['from'] != t['format']:
                self.assertLess(t['error'], 0.95 * t['rounding_error'], t)
        said = self.quantize('--method', 'refine', '--format', 'Q1_0', text=False)
        for t in said['tensors']:  # there is nothing to refine in signs and the mean of magnitudes
            if t['format'] == 'Q1_0':
                self.assertAlmostEqual(t['error'], t['rounding_error'], delta=1e-6)

    def test_the_table_has_a_column_for_each_error(self):
        def lines(*args):
            return fine('quantize', self.model, self.out, *args).decode().splitlines()
        plain = lines('--format', 'Q1_0')
        self.assertEqual(plain[0].split(), ['format', 'tensors', 'bytes', 'error'])
        self.assertTrue(all(re.search(r'\d  0\.\d{4}$|as it was$', l) for l in plain[1:-1]), plain)
        refined = lines('--format', 'Q1_0', '--method', 'refine')
        self.assertEqual(refined[0].split()[3:], ['error', 'rounding'])
        fitted = lines('--format', 'Q1_0', '--method', 'propagate', '--calibrate', self.text, *WINDOW)
        self.assertEqual(fitted[0].split()[3:], ['error', 'rounding', 'outputs', 'rounding'])
        row = next(l.split() for l in fitted if l.startswith('Q1_0'))
        self.assertLess(float(row[5]), float(row[6]))

    def test_the_same_bytes_every_time(self):
        seen = set()
        for threads in (1, 2, 1):
            self.quantize('--method', 'propagate', '--format', 'Q1_0', '--threads', threads)
            seen.add(self.out.read_bytes())
        self.assertEqual(len(seen), 1)

    def test_a_plan_chooses_and_its_kept_parts_stay(self):
        plan = self.home / 'plan'
        plan.write_text('blk.0.* Q2_0\n*ffn_down* keep\n*token_embd* keep\nblk.1.* Q1_0\n')
        said = {t['name']: t for t in self.quantize('--method', 'propagate', '--plan', plan)['tensors']}
        self.assertEqual(said['blk.0.ffn_down.weight']['format'], 'Q2_0')
        self.assertEqual(said['blk.1.ffn_down.weight']['format'], 'F32')
        self.assertIsNone(said['blk.1.ffn_down.weight']['output_error'])
        self.assertLess(said['blk.1.attn_q.weight']['output_error'], said['blk.1.attn_q.weight']['rounding_output_error'])
        fine('verify', self.out)

    # ---- refusals ----

    def test_command_lines_that_make_no_sense(self):
        text = ('--calibrate', self.text)
        for args, why in ((('--method', 'best', '--format', 'Q1_0'), 'is none of rounding, refine'),
                          (('--method', 'propagate', '--format', 'Q1_0'), 'wants a text'),
                          (('--method', 'gptq'), 'wants a text'), (('--method', 'awq'), 'wants a text'),
                          (('--method', 'propagate', *text), '--format or --plan is needed'),
                          (('--method', 'refine'), '--format or --plan is needed'),
                          (('--format', 'Q1_0', *text), 'rounding looks at no text'),
                          (('--method', 'gptq', '--format', 'Q1_0', *text), 'gptq is for Q4_0'),
                          (('--method', 'awq', '--format', 'Q1_0', *text), 'awq is for Q8_0 and Q4_0'),
                          (('--method', 'gptq', *text, '--ctx', '4096'), 'the model has 2048 positions')):
            self.assertIn(why, self.refused(USAGE, *args))

    def test_texts_that_cannot_be_used(self):
        short = self.home / 'short'
        for content, code, why in ((b'', DATA, 'one window wants 256'), (b'a few words', DATA, 'one window wants 256'),
                                   (None, NOINPUT, 'No such file')):
            if content is None:
                short.unlink()
            else:
                short.write_bytes(content)
            self.assertIn(why, self.refused(code, '--method', 'gptq', '--calibrate', short))
        self.assertIn('one window wants 64',
                      self.refused(DATA, '--method', 'gptq', '--calibrate', self.text, '--ctx', 64, '--tokens', 63))

    def test_hostile_bytes_are_a_text_like_any_other(self):
        self.text.write_bytes(bytes(range(256)) * 4 + b'\xff\xfe\0\0' * 200 + b'<|im_start|>' * 50)
        self.quantize('--method', 'propagate', '--format', 'Q1_0', '--special')
        fine('verify', self.out)

    def test_a_model_whose_numbers_run_away_is_refused(self):
        g = gguf.parse(self.model.read_bytes())
        name = next(t for t in g.tensors if t.name == b'blk.1.ffn_norm.weight')
        start, end = g.range_of(name)
        data = bytearray(g.data)
        data[start:end] = b'\x00\x00\x80\x7f' * ((end - start) // 4)  # infinities
        g.data = bytes(data)
        self.model.write_bytes(g.build())
        for method in ('propagate', 'awq'):
            said = self.refused(DATA, '--method', method, '--format', 'Q8_0', '--calibrate', self.text, *WINDOW)
            self.assertIn('not finite', said)

    def test_a_packed_model_is_no_model_to_quantize(self):
        packed = self.home / 'packed'
        fine('pack', self.model, '--out', packed)
        done = lab('quantize', packed, self.out, '--method', 'gptq', '--calibrate', self.text)
        self.assertEqual(done.returncode, DATA)


if __name__ == '__main__':
    unittest.main(verbosity=2)
