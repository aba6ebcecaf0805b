#!/usr/bin/env python3
"""sensitivity: losses that a trained model confirms, budgets that are kept, plans that quantize takes."""
import math
import pathlib
import struct
import sys
import tempfile
import unittest

from encoders import IDS
from lab import HOME_MODEL, SOURCE, fine, fine_json, lab, make

sys.path.insert(0, str(SOURCE / 'tests/mutate'))
import gguf  # noqa: E402

USAGE, DATA, NOINPUT, UNAVAILABLE, CANTCREATE = 64, 65, 66, 69, 73
ROOMS = ['kitchen', 'bedroom', 'living room', 'garage', 'office']
TEXT = ''.join(f'turn {on} the {room} lights\n{{"intent":"HassTurn{on.title()}","area":"{room}","domain":"light"}}\n'
               for room in ROOMS for on in ('on', 'off'))
WINDOW = ('--ctx', 64)
PARTS = ['token_embd.weight', 'attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down']


def home_in_f16(path):
    """The shipped model, which was trained in Q1_0 with a Q8_0 embedding, with its weights written out: a trained
    float model. +d and -d are F16 as they are; the products of the embedding want F32."""
    g = gguf.parse(HOME_MODEL.read_bytes())
    data, new = [], 0
    for t, raw in [(t, g.data[slice(*g.range_of(t))]) for t in g.tensors]:
        if t.kind == IDS['Q1_0']:
            n = math.prod(t.dims) // 128 * 18
            blocks = (raw[i:i + 18] for i in range(0, n, 18))
            out = []
            for block in blocks:
                plus, minus = block[:2], bytes([block[0], block[1] ^ 0x80])
                out += [plus if byte >> bit & 1 else minus for byte in block[2:] for bit in range(8)]
            t.kind, raw = IDS['F16'], b''.join(out)
        elif t.kind == IDS['Q8_0']:
            blocks = [struct.unpack_from('<e32b', raw, i) for i in range(0, math.prod(t.dims) // 32 * 34, 34)]
            t.kind, raw = IDS['F32'], b''.join(struct.pack('<32f', *(b[0] * q for q in b[1:])) for b in blocks)
        t.offset = new
        raw += bytes(-len(raw) % 32)
        data.append(raw)
        new += len(raw)
    g.data = b''.join(data)
    path.write_bytes(g.build())


def greedy(groups, fixed, budget):
    """The choice by the formula that the manual has, a second time: names of formats, keep first."""
    choices = [[('keep', g['bytes'], 0.0)] + [(f, c['bytes'], c['delta']) for f, c in g['formats'].items() if c]
               for g in groups]
    now = [0] * len(groups)

    def total():
        return fixed + sum(choices[g][c][1] for g, c in enumerate(now))

    def steps(wanted):
        for g, options in enumerate(choices):
            _, bytes_now, delta_now = options[now[g]]
            for i, (_, size, delta) in enumerate(options):
                if size != bytes_now and wanted(size - bytes_now, delta - delta_now):
                    yield (delta - delta_now) / (bytes_now - size), g, i

    while total() > budget:
        _, g, i = min(steps(lambda more, loss: more < 0), key=lambda s: (s[0], s[1], s[2]))
        now[g] = i
    while True:
        left = budget - total()
        found = list(steps(lambda more, loss: 0 < more <= left and loss < 0))  # pylint: disable=cell-var-from-loop
        if not found:
            return [choices[g][c][0] for g, c in enumerate(now)]
        _, g, i = max(found, key=lambda s: (s[0], -s[1], -s[2]))
        now[g] = i


class Sensitivity(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        home = tempfile.TemporaryDirectory()
        cls.addClassCleanup(home.cleanup)
        cls.home = pathlib.Path(home.name)
        cls.model, cls.text, cls.out = cls.home / 'home.gguf', cls.home / 'text', cls.home / 'plan'
        home_in_f16(cls.model)
        cls.text.write_text(TEXT, encoding='utf-8')

    def setUp(self):
        self.out.unlink(missing_ok=True)

    def measure(self, *more, model=None):
        return fine_json('sensitivity', model or self.model, '--text', self.text, *WINDOW, '--json', *more)

    def nats(self, model):
        return fine_json('perplexity', model, '--text', self.text, *WINDOW, '--json')['nats_per_token']

    def test_a_trained_model_loses_where_the_format_is_not_its_own(self):
        """Goal: the losses are those of the formats. Method: weights that are +d or -d per 128 come through Q1_0
        and Q2_0 whole, so only activations change; Q4_0 has no step at one of the two, and they change themselves."""
        said = self.measure('--formats', 'Q1_0,Q2_0,Q4_0')
        self.assertEqual([g['name'] for g in said['groups']], PARTS)
        self.assertAlmostEqual(said['loss'], self.nats(self.model), places=7)
        moved = {f: [abs(g['formats'][f]['delta']) for g in said['groups'][1:]] for f in ('Q1_0', 'Q2_0', 'Q4_0')}
        self.assertLess(max(moved['Q1_0'] + moved['Q2_0']), 0.02, moved)
        self.assertGreater(sum(moved['Q4_0']), 5 * sum(moved['Q1_0']), moved)
        self.assertEqual(said['groups'][0]['formats']['Q1_0']['bytes'], 1280 * 256 // 128 * 18)

    def test_one_delta_is_the_difference_of_two_perplexities(self):
        said = self.measure('--formats', 'Q4_0')
        for part in ('ffn_down', 'token_embd.weight'):
            pattern = part if part.endswith('.weight') else f'blk.*.{part}.weight'
            plan, small = self.home / 'one', self.home / 'one.gguf'
            plan.write_text(f'{pattern} Q4_0\n', encoding='utf-8')
            fine('quantize', self.model, small, '--plan', plan)
            group = next(g for g in said['groups'] if g['name'] == part)
            self.assertAlmostEqual(group['formats']['Q4_0']['delta'], self.nats(small) - said['loss'], places=7)

    def check_budget(self, budget, *more):
        said = self.measure('--bytes', budget, '--out', self.out, *more)
        small = self.home / 'small.gguf'
        done = fine_json('quantize', self.model, small, '--plan', self.out, '--json')
        self.assertEqual(done['bytes'], said['bytes'])
        self.assertLessEqual(done['bytes'], budget)
        self.assertAlmostEqual(self.nats(small), said['measured_loss'], places=7)
        self.assertEqual([g['chosen'] for g in said['groups']], greedy(said['groups'], said['fixed_bytes'], budget))
        predicted = said['loss'] + sum(g['formats'][g['chosen']]['delta'] for g in said['groups'] if g['chosen'] != 'keep')
        self.assertAlmostEqual(said['predicted_loss'], predicted, places=7)
        return said, small, {t['format'] for t in done['tensors']} - {'F32'}

    def test_a_budget_is_kept_and_its_plan_mixes_formats(self):
        whole = sum(t['bytes'] for t in fine_json('quantize', self.model, self.home / 'x.gguf', '--format', 'F16',
                                                  '--json')['tensors'])
        mixed = 0
        for share in (0.45, 0.2):
            _, small, formats = self.check_budget(int(whole * share), '--formats', 'Q8_0,Q4_0,TQ1_0')
            mixed = max(mixed, len(formats))
            fine('verify', small)
            said = fine_json('generate', small, '--prompt', 'turn on the kitchen lights', '-n', 8, '--ignore-eos', '--json')
            self.assertEqual(len(said['ids']), 8)
        self.assertGreaterEqual(mixed, 3)

    def test_enough_bytes_keep_everything(self):
        said, _, formats = self.check_budget(self.model.stat().st_size, '--formats', 'TQ1_0')
        kept = {g['chosen'] for g in said['groups'] if g['formats']['TQ1_0']['delta'] > 0}
        self.assertEqual(kept, {'keep'})
        self.assertIn('F16', formats)

    def test_thirds_are_planned_by_name(self):
        said, _, _ = self.check_budget(int(self.model.stat().st_size * 0.3), '--formats', 'Q8_0,TQ1_0', '--thirds')
        thirds = [(g['name'], g['third']) for g in said['groups']]
        self.assertEqual(len(thirds), 1 + 7 * 3)
        self.assertEqual(len(set(thirds)), len(thirds))
        self.assertIn('blk.0.attn_q.weight ', self.out.read_text(encoding='utf-8'))

    def test_the_table_says_the_same(self):
        text = fine('sensitivity', self.model, '--text', self.text, *WINDOW, '--formats', 'Q8_0,Q1_0', '--bytes', 2000000)
        lines = text.decode().splitlines()
        self.assertRegex(lines[0], r'^loss \d\.\d{4} nats per token over \d+ tokens')
        self.assertEqual([l.split()[0] for l in lines[2:-1]], PARTS)
        self.assertTrue(all(l.split()[-1] in ('keep', 'Q8_0', 'Q1_0') for l in lines[2:-1]), lines)
        self.assertRegex(lines[-1], r'^\d+ bytes of weights, 2000000 allowed; loss \d\.\d{4} \(\d\.\d{4} if')

    def test_what_was_quantized_before_stays(self):
        mixed = self.home / 'mixed.gguf'
        (self.home / 'p').write_text('blk.0.* Q8_0\n', encoding='utf-8')
        fine('quantize', self.model, mixed, '--plan', self.home / 'p')
        budget = mixed.stat().st_size // 2
        said = self.measure('--formats', 'Q8_0,Q1_0', '--bytes', budget, '--out', self.out, '--tokens', 256, model=mixed)
        done = fine_json('quantize', mixed, self.home / 'again.gguf', '--plan', self.out, '--json')
        self.assertEqual(done['bytes'], said['bytes'])
        self.assertLessEqual(done['bytes'], budget)
        self.assertEqual({t['format'] for t in done['tensors'] if t['name'].startswith('blk.0.ffn_')} - {'F32'}, {'Q8_0'})

    def test_control_tokens_in_the_text(self):
        """--special reads <|im_end|> as one token, so there are fewer."""
        text = self.home / 'chat'
        text.write_text('<|im_start|>user\nturn on the lights<|im_end|>\n' * 8, encoding='utf-8')
        args = ['--text', text, '--ctx', 16, '--json']
        plain, special = (fine_json('perplexity', self.model, *args, *more)['tokens'] for more in ([], ['--special']))
        self.assertLess(special, plain)
        said = fine_json('sensitivity', self.model, *args, '--special', '--formats', 'Q8_0')
        self.assertEqual(said['tokens'], special)

    def test_refusals(self):
        tiny = make(self.home, 'tiny', 'Q1_0')
        for code, why, args in ((USAGE, '--text', [self.model]),
                                (USAGE, '--bytes', [self.model, '--text', self.text, '--out', self.out]),
                                (USAGE, 'Q9 is none of', [self.model, '--text', self.text, '--formats', 'Q8_0,Q9']),
                                (USAGE, 'twice', [self.model, '--text', self.text, '--formats', 'Q8_0,Q8_0']),
                                (USAGE, 'none of', [self.model, '--text', self.text, '--formats', '']),
                                (NOINPUT, 'none', [self.home / 'none', '--text', self.text]),
                                (NOINPUT, 'none', [self.model, '--text', self.home / 'none']),
                                (DATA, 'one window wants 65536', [self.model, '--text', self.text, '--ctx', 65536]),
                                (UNAVAILABLE, 'no matrix of float weights', [tiny, '--text', self.text]),
                                (UNAVAILABLE, 'at least', [self.model, '--text', self.text, '--bytes', 1000])):
            done = lab('sensitivity', *args)
            self.assertEqual(done.returncode, code, done)
            self.assertIn(why, done.stderr.decode())
            self.assertEqual(done.stdout, b'')
        done = lab('sensitivity', self.model, '--text', self.text, *WINDOW, '--tokens', 128, '--formats', 'Q8_0', '--bytes', 10 ** 9,
                   '--out', self.home / 'no/folder/plan')
        self.assertEqual(done.returncode, CANTCREATE, done)

    def test_weights_that_are_not_finite_end_it(self):
        g = gguf.parse(self.model.read_bytes())
        bent = self.home / 'bent.gguf'
        t = next(t for t in g.tensors if t.name == b'blk.1.ffn_up.weight')
        g.data = g.data[:t.offset] + struct.pack('<e', math.inf) + g.data[t.offset + 2:]
        bent.write_bytes(g.build())
        done = lab('sensitivity', bent, '--text', self.text, *WINDOW)
        self.assertEqual(done.returncode, DATA, done)


if __name__ == '__main__':
    unittest.main(verbosity=2)
