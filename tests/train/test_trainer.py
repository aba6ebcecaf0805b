#!/usr/bin/env python3
"""onebit-train from rows to a model that answers: repeatable, resumable, and plain about what is wrong."""
import array
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ.get('ONEBIT_BUILD', 'build')).resolve()
TRAIN, LAB = BUILD / 'train/onebit-train', BUILD / 'engine/onebit-lab'
GRAMMAR = pathlib.Path(os.environ['ONEBIT_SOURCE']) / 'train/commands/grammar'
SLOW = 10 if os.environ.get('ONEBIT_SANITIZED') == '1' else 1
SHAPE = ['--layers', 2, '--width', 128, '--ff', 256, '--heads', 2, '--kv-heads', 1, '--ctx', 96, '--threads', 2]


def run(*args, **more):
    return subprocess.run([TRAIN, *map(str, args)], capture_output=True, timeout=200 * SLOW, **more)


def fine(*args):
    done = run(*args)
    assert done.returncode == 0, f'{args}: exit {done.returncode}: {done.stderr.decode(errors="replace")}'
    return done.stdout.decode()


def rows(n, seed):
    """A task with words in common and frames of its own; what is asked is in the sentence."""
    r = random.Random(seed)
    for _ in range(n):
        where = r.choice('kitchen hall loft cellar porch attic study bedroom'.split())
        what, to = r.choice('light fan lamp heater blind radio'.split()), r.choice(['on', 'off'])
        said = r.choice(['turn {} the {} in the {}', 'please switch {} {} of {}', '{} with the {}, {}'])
        yield {'prompt': said.format(to, what, where),
               'answer': json.dumps({'do': to, 'area': where, 'what': what}, separators=(',', ':'))}


def no_file_past(n):
    """For a child: a disk that holds no file of more than n bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, n))


def with_shape(checkpoint, *shape):
    """The checkpoint with other sizes in its recipe, and a sound checksum."""
    words = array.array('Q', checkpoint[:-8])
    words[3:3 + len(shape)] = array.array('Q', shape)
    h = 0
    for word in words:
        h ^= word
        h = (h << 29 | h >> 35) * 0x9e3779b97f4a7c15 & (1 << 64) - 1
    return words.tobytes() + h.to_bytes(8, 'little')


def write(path, lines):
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return path


class Trainer(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.home = pathlib.Path(cls.folder.name)
        cls.data = write(cls.home / 'rows.jsonl', rows(1500, 1))
        cls.held = write(cls.home / 'held.jsonl', rows(60, 2))
        cls.words = cls.home / 'words.gguf'
        fine('tokenizer', '--data', cls.data, '--out', cls.words, '--size', 384)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def model(self, name, *more, data=None):
        out = self.home / name
        fine('model', '--tokenizer', self.words, '--data', data or self.data, *SHAPE, '--out', out, *more)
        return out

    def test_a_model_learns_the_task_and_answers_in_the_engine(self):
        """Goal: from rows to answers in three commands. Method: a binary model of 0.3 M weights, some seconds of
        training; rows that it has not seen, by this program and by the workbench."""
        model = self.model('task.gguf', '--steps', 200, '--batch', 32, '--name', 'toy', '--valid', self.held)
        out = self.home / 'answers.jsonl'
        said = fine('score', model, self.held, '--out', out)
        right = int(said.split()[1])
        self.assertGreaterEqual(right, 57, said)
        loss = float(fine('score', model, self.held, '--perplexity').split('loss ')[1].split(',')[0])
        self.assertLess(loss, 0.2)
        answers = [json.loads(line) for line in out.read_text().splitlines()]
        wanted = [json.loads(line) for line in self.held.read_text().splitlines()]
        self.assertEqual([a['text'] for a in answers], [w['prompt'] for w in wanted])
        self.assertEqual(sum(a['output'] == w['answer'] for a, w in zip(answers, wanted)), right)
        for a in answers[:5]:
            lab = subprocess.run([LAB, 'generate', model, '--chat', '-', '--json'], capture_output=True, check=True,
                                 input=json.dumps([{'role': 'user', 'content': a['text']}]).encode())
            self.assertEqual(json.loads(lab.stdout)['text'], a['output'])
        info = json.loads(subprocess.run([LAB, 'info', model, '--json'], capture_output=True, check=True).stdout)
        self.assertEqual((info['name'], info['quantization'], info['architecture']), ('toy', 'binary', 'qwen3'))

    def test_the_same_call_gives_the_same_bytes_and_another_seed_others(self):
        a, b, c = (self.model(f'{i}.gguf', '--steps', 12, '--seed', seed).read_bytes()
                   for i, seed in enumerate((5, 5, 6)))
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)

    def test_a_resumed_training_gives_the_bytes_of_an_uninterrupted_one(self):
        for mode in (['--weights', 'binary'], ['--weights', 'ternary', '--stochastic'],
                     ['--weights', 'float', '--activations', 'float', '--accumulate', 2],
                     ['--weights', 'binary', '--activations', 'binary']):
            with self.subTest(mode=mode):
                keep = self.home / 'keep.ck'
                whole = self.model('whole.gguf', '--steps', 16, *mode).read_bytes()
                half = self.model('half.gguf', '--steps', 16, '--stop-after', 7, '--checkpoint', keep, *mode)
                self.assertFalse(half.exists())  # it has not come to its end
                again = self.home / 'again.gguf'
                said = dict(line.split(None, 1) for line in fine('info', keep).splitlines())
                self.assertEqual((said['steps_done'], said['n_steps'], said['weights']), ('7', '16', mode[1]))
                fine('model', '--resume', keep, '--data', self.data, '--out', again, '--checkpoint', keep)
                self.assertEqual(again.read_bytes(), whole)
                fine('model', '--export', keep, '--out', self.home / 'exported.gguf')
                self.assertEqual((self.home / 'exported.gguf').read_bytes(), whole)

    def test_a_signal_keeps_what_was_done(self):
        keep, out = self.home / 'kept.ck', self.home / 'kept.gguf'
        running = subprocess.Popen([TRAIN, *map(str, [
            'model', '--tokenizer', self.words, '--data', self.data, *SHAPE, '--steps', 100000, '--report', 1,
            '--checkpoint', keep, '--checkpoint-every', 0, '--out', out])], stderr=subprocess.PIPE, text=True)
        for line in running.stderr:
            if line.startswith('step 3 '):
                running.send_signal(signal.SIGINT)
                break
        rest = running.stderr.read()
        running.stderr.close()
        self.assertEqual(running.wait(timeout=60 * SLOW), 75, rest)
        self.assertIn('stopped by a signal at step', rest)
        self.assertTrue(keep.exists() and not out.exists())
        fine('model', '--resume', keep, '--data', self.data, '--stop-after', 1, '--checkpoint', keep)
        self.assertEqual([p.name for p in self.home.iterdir() if '.ck.' in p.name or '.gguf.' in p.name], [])

    def test_float_weights_may_begin_a_binary_training(self):
        keep = self.home / 'float.ck'
        self.model('float.gguf', '--weights', 'float', '--steps', 60, '--checkpoint', keep)
        cold = run('model', '--tokenizer', self.words, '--data', self.data, *SHAPE, '--steps', 30, '--report', 30,
                   '--out', self.home / 'cold.gguf')
        warm = run('model', '--tokenizer', self.words, '--data', self.data, *SHAPE, '--steps', 30, '--report', 30,
                   '--from', keep, '--out', self.home / 'warm.gguf')

        def loss(done):
            return float(done.stderr.decode().split('loss ')[1].split()[0])
        self.assertLess(loss(warm), loss(cold))

    def test_what_is_wrong_is_said_with_its_kind(self):
        bad = self.home / 'bad.jsonl'
        bad.write_text('{"prompt":"a","answer":"b"}\n{"prompt":"a"}\n')
        long = write(self.home / 'long.jsonl', [{'prompt': 'on ' * 60, 'answer': 'x'}])
        cut = self.home / 'cut.ck'
        self.model('x.gguf', '--steps', 1, '--checkpoint', cut)
        part = self.home / 'part.ck'
        self.model('x.gguf', '--steps', 8, '--stop-after', 1, '--checkpoint', part)
        whole = cut.read_bytes()
        broken = self.home / 'broken.ck'
        broken.write_bytes(whole[:-8])
        out, huge = self.home / 'never.gguf', self.home / 'huge.ck'
        huge.write_bytes(with_shape(whole, 256, 16384, 16384, 512, 512, 32))
        beside = self.home / 'beside.jsonl'
        beside.symlink_to(self.data)
        fresh = ['model', '--tokenizer', self.words, '--out', out]
        for args, code, why in (
                (['tokenizer'], 64, '--data and --out are both needed'),
                (['tokenizer', '--data', bad, '--out', out], 65, 'bad.jsonl: line 2: lacks answer'),
                (['tokenizer', '--data', self.home / 'none', '--out', out], 66, 'No such file'),
                (['tokenizer', '--data', bad, '--out', self.home / 'no/x'], 73, 'No such file'),
                (['tokenizer', '--data', bad, '--out', out, '--size', 100], 64, 'no whole number from 259'),
                ([*fresh, '--data', bad], 65, 'bad.jsonl: line 2: lacks answer'),
                ([*fresh, '--data', long, *SHAPE], 65, 'line 1: has more tokens than the context'),
                ([*fresh, '--data', self.data, '--head-dim', 2048], 64, 'no whole number from 32 to 1024'),
                ([*fresh, '--data', bad, '--heads', 64, '--head-dim', 512], 64, '64 heads of 512 together are 32768'),
                ([*fresh, '--data', self.data, '--from', cut, *SHAPE, '--ff', 128], 65, 'another net: its n_ff is 256, not 128'),
                (['model', '--resume', huge, '--data', self.data, '--out', out], 65, 'and its recipe\'s net 481050443776 and 0'),
                ([*fresh, '--data', bad, '--width', 96], 64, 'multiple of 128 for binary weights in Q1_0'),
                ([*fresh, '--data', self.data, '--format', 'TQ2_0'], 64, 'is for ternary weights with int8'),
                ([*fresh, '--data', self.data, '--warmup', 2000], 64, 'warm-up is longer'),
                ([*fresh, '--data', self.data, '--weights', 'bits'], 64, 'none of float, ternary, binary'),
                ([*fresh, '--data', self.data, '--from', broken, *SHAPE], 65, 'checksum'),
                (fresh, 64, '--data is missing'),
                (['model', '--data', self.data, '--out', out], 64, '--tokenizer is missing'),
                (['model', '--tokenizer', self.words, '--data', self.data], 64, '--out is missing'),
                (['model', '--tokenizer', self.data, '--data', self.data, '--out', out], 65, 'malformed'),
                (['model', '--resume', cut, '--data', self.held, '--out', out], 65, 'other rows'),
                (['model', '--resume', cut, '--data', self.data, '--rate', 1, '--out', out], 64, 'has its own'),
                (['model', '--resume', broken, '--data', self.data, '--out', out], 65, 'checksum'),
                (['model', '--export', self.data, '--out', out], 65, 'is no checkpoint'),
                (['model', '--export', cut], 64, '--out is missing'),
                (['model', '--export', cut, '--resume', cut, '--out', out], 64, 'only one'),
                *((['model', '--export', cut, '--out', out, *more], 64, f'{more[0]}: --export trains nothing') for more in (
                    ['--checkpoint', out], ['--stop-after', 1], ['--valid', self.held], ['--valid-every', 1],
                    ['--checkpoint-every', 1], ['--skip-long'], ['--report', 1])),
                (['model', '--export', cut, '--out', out, '--data', bad], 64, '--data: --export trains nothing'),
                ([*fresh, '--data', self.data, '--stop-after', 3], 64, 'last of 1000 steps: without --checkpoint'),
                (['model', '--resume', part, '--data', self.data, '--stop-after', 3, '--out', out], 64, 'last of 7 steps'),
                ([*fresh, '--data', self.data, '--checkpoint', out], 64, '--checkpoint and --out are one file'),
                ([*fresh, '--data', self.data, '--checkpoint', self.home / 'none/../never.gguf'], 73, 'No such file'),
                ([*fresh, '--data', self.data, '--checkpoint', f'{self.home}/./never.gguf'], 64, 'are one file'),
                ([*fresh, '--data', self.data, '--checkpoint', self.words], 64, '--tokenizer and --checkpoint are one'),
                ([*fresh, '--data', bad, '--data', self.data, '--checkpoint', beside], 64, '--data and --checkpoint are one'),
                (['model', '--resume', cut, '--data', self.data, '--out', cut], 64, '--resume and --out are one file'),
                (['model', '--export', cut, '--out', cut], 64, '--export and --out are one file'),
                (['score', self.words, self.held], 69, 'no weights'),
                (['score', self.home / 'none', self.held], 66, 'No such file'),
                (['score', self.words], 64, 'both needed'),
                (['score', self.words, self.held, '--perplexity', '--misses'], 64, 'asks nothing'),
                (['score', self.words, self.held, '--kv', 'f64'], 64, 'none of f32, f16, int8'),
                (['info'], 64, 'is missing'),
                (['commands'], 64, '--count is missing'),
                (['commands', '--count', 1, '--grammar', self.home / 'none'], 66, 'none'),
                (['commands', '--count', 1, '--grammar', self.home], 65, ''),
                (['commands', '--count', 1, '--grammar', GRAMMAR, '-o', '/dev/full'], 73, 'is a device'),
                (['commands', '--count', 1, '--grammar', GRAMMAR, '-o', self.home / 'none/rows'], 73, 'No such file'),
                (['info', broken], 65, 'checksum'),
                (['train'], 64, 'no such verb'),
                ([], 64, 'usage')):
            with self.subTest(args=args):
                done = run(*args)
                self.assertEqual((done.returncode, done.stdout), (code, b''), done.stderr)
                self.assertIn(why, done.stderr.decode())
        self.assertFalse(out.exists())

    def test_a_full_disk_leaves_no_half_file(self):
        out, keep = self.home / 'full.gguf', self.home / 'full.ck'
        for more in (['--out', out], ['--checkpoint', keep]):
            done = run('model', '--tokenizer', self.words, '--data', self.data, *SHAPE, '--steps', 1, *more,
                       preexec_fn=lambda: no_file_past(65536))
            self.assertEqual(done.returncode, 74, done.stderr)
        self.assertEqual([p.name for p in self.home.iterdir() if p.name.startswith('full')], [])

    def test_answers_that_cannot_be_written_are_counted_all_the_same(self):
        """Method: a prompt that no context holds, and that fills the disk when it is written beside its answer."""
        model = self.model('asked.gguf', '--steps', 1)
        out, asked = self.home / 'unwritten.jsonl', self.home / 'asked.jsonl'
        write(asked, [{'prompt': 'on ' * 200000, 'answer': 'x'}, *rows(59, 5)])
        done = run('score', model, asked, '--most', 2, '--out', out, preexec_fn=lambda: no_file_past(1 << 19))
        self.assertEqual((done.returncode, out.exists()), (74, False), done.stderr)
        self.assertIn(b'exact     0 of 60', done.stdout)
        self.assertIn(b'unwritten.jsonl: File too large', done.stderr)

    def test_a_checkpoint_that_cannot_be_written_costs_neither_steps_nor_model(self):
        """Goal: what is in memory outlives a full disk. Method: a disk on which the model fits and the checkpoint,
        ten times as large, does not; the checkpoint is due at every step."""
        whole = self.model('roomy.gguf', '--steps', 4).read_bytes()
        out, keep = self.home / 'tight.gguf', self.home / 'tight.ck'
        done = run('model', '--tokenizer', self.words, '--data', self.data, *SHAPE, '--steps', 4, '--out', out,
                   '--checkpoint', keep, '--checkpoint-every', 1, preexec_fn=lambda: no_file_past(1 << 20))
        said = done.stderr.decode()
        self.assertEqual(done.returncode, 74, said)
        for step in range(1, 5):
            self.assertIn(f'step {step}  no checkpoint could be written', said)
        self.assertEqual(out.read_bytes(), whole)
        self.assertEqual([p.name for p in self.home.iterdir() if p.name.startswith('tight')], ['tight.gguf'])

    def test_a_signal_during_validation_ends_it_and_a_finished_model_is_written(self):
        """Goal: at the last step nothing is left to stop; before it, the training stops at once, with the checkpoint
        that was written first. Method: so many rows held back that validation lasts longer than the test."""
        many = write(self.home / 'many.jsonl', list(rows(1000, 3)) * 40)
        for steps, code in ((2, 0), (100000, 75)):
            with self.subTest(steps=steps):
                keep, out = self.home / f'late{steps}.ck', self.home / f'late{steps}.gguf'
                running = subprocess.Popen([TRAIN, *map(str, [
                    'model', '--tokenizer', self.words, '--data', self.data, *SHAPE, '--steps', steps, '--report', 1,
                    '--valid', many, '--valid-every', 2, '--checkpoint', keep, '--checkpoint-every', 2,
                    '--out', out])], stderr=subprocess.PIPE, text=True)
                for line in running.stderr:
                    if line.startswith('step 2 '):
                        break
                for _ in range(1000 * SLOW):
                    if keep.exists():
                        break
                    time.sleep(0.01)
                running.send_signal(signal.SIGINT)
                rest = running.stderr.read()
                running.stderr.close()
                self.assertEqual(running.wait(timeout=60 * SLOW), code, rest)
                self.assertNotIn('held back', rest)
                self.assertEqual('stopped by a signal at step 2' in rest, code == 75, rest)
                self.assertEqual((keep.exists(), out.exists()), (True, code == 0))

    def test_rows_held_back_are_counted_and_some_are_needed(self):
        long = [{'prompt': 'on ' * 60, 'answer': 'x'}]
        some, none = write(self.home / 'some.jsonl', long * 3 + list(rows(2, 4))), write(self.home / 'all.jsonl', long)
        out = self.home / 'unheld.gguf'
        fresh = ['model', '--tokenizer', self.words, '--data', self.data, *SHAPE, '--steps', 1, '--skip-long',
                 '--out', out, '--valid']
        done = run(*fresh, none)
        self.assertEqual((done.returncode, out.exists()), (65, False), done.stderr)
        self.assertIn(b'all.jsonl: no rows that the context holds', done.stderr)
        done = run(*fresh, some)
        self.assertEqual((done.returncode, out.exists()), (0, True), done.stderr)
        self.assertIn(b'3 rows held back are longer than the context and left out', done.stderr)
        done = run(*fresh, write(self.home / 'empty.jsonl', []))
        self.assertEqual((done.returncode, b'empty.jsonl: no rows' in done.stderr), (65, True), done.stderr)

    def test_help_names_every_verb_and_option(self):
        said = fine('help')
        self.assertEqual(fine('--help'), said)
        for verb in ('commands', 'tokenizer', 'model', 'score', 'info'):
            self.assertIn(verb, said)
            self.assertIn(f'usage: onebit-train {verb}', fine(verb, '--help'))
        self.assertTrue(fine('--version').startswith('onebit-train '))


if __name__ == '__main__':
    unittest.main(verbosity=2)
