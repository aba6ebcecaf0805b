#!/usr/bin/env python3
"""Models of random weights: sound, runnable, repeatable, whole or absent."""
import math
import os
import pathlib
import resource
import signal
import struct
import subprocess
import tempfile
import unittest

from lab import LAB, fine, fine_json, lab, levels_present, make, makes

ARCHES = {'tiny': 'qwen3', 'tiny-llama': 'llama', 'tiny-qwen2': 'qwen2', 'tiny-minicpm': 'minicpm',
          'tiny-bitnet': 'bitnet', 'tiny-bitnet158': 'bitnet-b1.58', 'tiny-bitnet25': 'bitnet-25'}
QUANTIZATION = {'Q1_0': 'binary', 'Q8_0': 'int8', 'F16': 'f16', 'BF16': 'bf16', 'F32': 'f32',
                **dict.fromkeys(['TQ1_0', 'TQ2_0', 'Q2_0', 'Q2_0_g128', 'PQ2_0', 'I2_S', 'IQ2_BN'], 'ternary'),
                **dict.fromkeys(['Q4_0', 'Q4_1', 'Q4_K'], 'int4'), **dict.fromkeys(['Q5_0', 'Q5_K', 'Q6_K'], 'other')}


def no_room():
    """A file system without room: the limit on file size stands in for it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))


class Make(unittest.TestCase):

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)

    def test_the_formats_are_those_that_the_engine_reads(self):
        self.assertEqual(set(makes()[1]), set(QUANTIZATION))

    def test_every_tiny_shape_works_in_every_format(self):
        """Goal: no graph and no format is without a model that every verb runs.
        Method: all pairs; logits must be finite and of the size that trained models have."""
        for shape, arch in ARCHES.items():
            for fmt, quantization in QUANTIZATION.items():
                with self.subTest(shape=shape, format=fmt):
                    model = make(self.home, shape, fmt)
                    fine('verify', model)
                    info = fine_json('info', model, '--json')
                    self.assertEqual((info['quantization'], info['vocabulary'], info['architecture']),
                                     (quantization, 512, arch))
                    data = fine('logits', model, '--ids', ','.join(str(i * 7 % 500) for i in range(40)), '--all')
                    rows = struct.unpack(f'<{len(data) // 4}f', data)
                    self.assertTrue(len(rows) == 40 * 512 and all(map(math.isfinite, rows)))
                    mean = sum(rows) / len(rows)
                    std = math.sqrt(sum((x - mean) ** 2 for x in rows) / len(rows))
                    self.assertTrue(1 < std < 10, std)
                    fine('bench', model, '-p', 8, '-n', 2, '-r', 1)
                    model.unlink()

    def test_a_made_model_generates(self):
        for fmt in ('Q1_0', 'TQ2_0', 'F16'):
            said = fine_json('generate', make(self.home, 'tiny', fmt), '--prompt', 'the other', '-n', 12,
                             '--ignore-eos', '--json')
            self.assertEqual(len(said['ids']), 12)

    def test_every_shape_is_tried_here_or_by_the_bench(self):
        shapes = makes()[0]
        self.assertEqual({s for s in shapes if s.startswith('tiny')}, set(ARCHES))
        self.assertTrue({'bitnet-2b', 'bitnet-3b', 'bonsai-1.7b', 'bonsai-4b', 'bonsai-8b', 'llama-160m'} <= set(shapes))

    def test_what_does_not_exist_or_fit_is_refused_with_the_reason(self):
        for args, reason in ((['--shape', 'round', '--format', 'Q1_0'], 'none is called round (tiny, '),
                             (['--shape', 'tiny', '--format', 'Q9_9'], 'Q9_9 is none of F32, '),
                             (['--shape', 'tiny', '--format', 'Q1_0', '--head', 'X'], '--head: X is none of'),
                             (['--shape', 'tiny', '--format', 'Q1_0', '--activations', 'x'], 'x is none of binary, int8'),
                             (['--shape', 'bitnet-3b', '--format', 'TQ2_0'], 'rows of 3200 weights, TQ2_0 wants multi'),
                             (['--shape', 'bitnet-3b', '--format', 'I2_S'], 'rows of 8640 weights, I2_S wants multi'),
                             (['--shape', 'bitnet-3b', '--format', 'F16', '--head', 'Q6_K'], '--head: bitnet-3b has')):
            done = lab('make', *args, self.home / 'x')
            self.assertEqual((done.returncode, done.stdout), (64, b''))
            self.assertIn(reason, done.stderr.decode())
        self.assertEqual(list(self.home.iterdir()), [])

    def test_heads_may_have_a_format_of_their_own(self):
        model = make(self.home, 'tiny', 'Q1_0', '--head', 'Q8_0')
        formats = {t['name']: t['format'] for t in fine_json('info', model, '--json')['tensors']}
        self.assertEqual(formats['token_embd.weight'], 'Q8_0')
        self.assertEqual(formats['blk.0.attn_q.weight'], 'Q1_0')

    def test_activations_may_be_others(self):
        """Goal: what the key asks for is in the file, and has logits of its own, the same at every level."""
        ids = ','.join(str(i * 7 % 500) for i in range(40))
        for fmt in ('Q1_0', 'I2_S', 'F32'):
            seen = set()
            for activations in ('', 'binary', 'int8'):
                model = make(self.home, 'tiny', fmt, *(['--activations', activations] if activations else []), '--seed', 3)
                info = fine_json('info', model, '--json')
                self.assertEqual(info['activations'], activations)
                self.assertEqual(info['formats'], f'{fmt}+{activations}-activations' if activations else fmt)
                names = [t['name'] for t in info['tensors'] if t['name'].endswith('.threshold')]
                self.assertEqual(len(names), 8 if activations == 'binary' else 0)
                logits = {fine('logits', model, '--ids', ids, '--all', '--cpu', level) for level in levels_present()}
                self.assertEqual(len(logits), 1)
                rows = struct.unpack(f'<{40 * 512}f', logits.copy().pop())
                self.assertTrue(all(map(math.isfinite, rows)))
                seen |= logits
                if fmt == 'F32' and activations:
                    (self.home / 'text').write_text('the other light ' * 4000)
                    done = lab('quantize', model, self.home / 'fit', '--format', 'Q1_0', '--method', 'propagate',
                               '--calibrate', self.home / 'text')
                    self.assertEqual(done.returncode, 69, done.stderr)
                    self.assertIn(f'fitting to {activations} inputs', done.stderr.decode())
                fine('bench', model, '-p', 8, '-n', 2, '-r', 1)
            self.assertEqual(len(seen), 3 if fmt == 'F32' else 2)  # int8 is what the others take anyway

    def test_the_bytes_depend_on_the_seed_alone(self):
        def data(seed):
            return make(self.home, 'tiny', 'Q1_0', '--seed', seed).read_bytes()
        one, two, again = data(1), data(2), data(1)
        self.assertEqual(again, one)
        self.assertNotEqual(two, one)

    def test_the_llama_shape_is_what_it_says(self):
        info = fine_json('info', make(self.home, 'llama-160m', 'Q1_0'), '--json')
        want = {'architecture': 'llama', 'layers': 12, 'embedding_length': 768, 'feed_forward_length': 3072,
                'heads': 12, 'kv_heads': 12, 'head_dim': 64, 'vocabulary': 32000, 'head_tied': False}
        self.assertEqual({k: info[k] for k in want}, want)
        for fmt in ('Q8_0', 'TQ2_0'):
            fine('verify', make(self.home, 'llama-160m', fmt))

    def test_the_context_of_the_large_bonsai_is_stretched(self):
        """The keys of the published file. Method: they come first, so the rest need not be written."""
        big = self.home / 'big.gguf'
        running = subprocess.Popen([LAB, 'make', '--shape', 'bonsai-8b', '--format', 'Q1_0', big])
        while not any(p.stat().st_size > 4096 for p in self.home.iterdir()):
            self.assertIsNone(running.poll())
        head = next(self.home.iterdir()).read_bytes()[:4096]
        running.terminate()
        running.wait(timeout=60)

        def key(name, kind, value):
            return struct.pack('<Q', len(name)) + name + struct.pack('<I', kind) + value
        for want in (key(b'qwen3.context_length', 4, struct.pack('<I', 65536)),
                     key(b'qwen3.rope.scaling.type', 8, struct.pack('<Q', 4) + b'yarn'),
                     key(b'qwen3.rope.scaling.factor', 6, struct.pack('<f', 4)),
                     key(b'qwen3.rope.scaling.original_context_length', 4, struct.pack('<I', 16384))):
            self.assertEqual(head.count(want), 1, want)
        tiny = make(self.home).read_bytes()
        self.assertNotIn(b'rope.scaling', tiny)

    def test_the_vocabulary_gives_every_byte_back(self):
        model = make(self.home)
        text = ''.join(map(chr, range(1, 0x250))) + 'the other lights \u65e5\u672c \U0001f600'
        ids = fine('tokenize', model, stdin=text)
        self.assertEqual(fine('detokenize', model, stdin=ids).decode(), text)
        self.assertLess(len(fine_json('tokenize', model, stdin='the other lights')), len('the other lights'))

    def test_the_vocabulary_knows_chat(self):
        prompt = fine('template', make(self.home), stdin='[{"role":"user","content":"hi"}]').decode()
        self.assertEqual(prompt, '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n')

    def test_a_file_is_there_whole_or_not_at_all(self):
        model = make(self.home)
        before = model.read_bytes()
        self.assertEqual(lab('make', '--shape', 'tiny', '--format', 'F8', model).returncode, 64)
        self.assertEqual(model.read_bytes(), before)
        done = lab('make', '--shape', 'tiny', '--format', 'Q1_0', self.home / 'no/such/folder/x.gguf')
        self.assertEqual(done.returncode, 73)
        full = self.home / 'full.gguf'
        done = subprocess.run([LAB, 'make', '--shape', 'tiny', '--format', 'F32', full], capture_output=True,
                              preexec_fn=no_room, timeout=60)
        self.assertEqual(done.returncode, 74, done.stderr)
        self.assertEqual(sorted(p.name for p in self.home.iterdir()), [model.name])

    def test_a_signal_leaves_no_temporary_file(self):
        big = self.home / 'big.gguf'
        running = subprocess.Popen([LAB, 'make', '--shape', 'bonsai-1.7b', '--format', 'Q1_0', big])
        while not any(p.name.startswith('big.gguf.') for p in self.home.iterdir()):
            self.assertIsNone(running.poll())
        running.terminate()
        self.assertEqual(running.wait(timeout=60), 128 + signal.SIGTERM)
        self.assertEqual(os.listdir(self.home), [])


if __name__ == '__main__':
    unittest.main(verbosity=2)
