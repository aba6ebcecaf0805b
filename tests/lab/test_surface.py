#!/usr/bin/env python3
"""onebit-lab as a command line: every verb, its options, its exit codes."""
import hashlib
import json
import math
import pathlib
import re
import struct
import subprocess
import tempfile
import unittest

from lab import HOME_MODEL, LAB, LEVELS, fine, fine_json, lab, levels_present, make

USAGE, DATA, NOINPUT, UNAVAILABLE, CANTCREATE, IO = 64, 65, 66, 69, 73, 74
VERBS = ['info', 'verify', 'tokenize', 'detokenize', 'logits', 'generate', 'perplexity', 'template', 'make', 'bench', 'pack',
         'quantize', 'sensitivity', 'tune']
MESSAGES = json.dumps([{'role': 'user', 'content': 'turn on the kitchen lights'}])
KITCHEN = {'intent': 'HassTurnOn', 'area': 'kitchen', 'domain': 'light'}


def floats(data):
    return struct.unpack(f'<{len(data) // 4}f', data)


class Refusals(unittest.TestCase):

    def refused(self, code, *args, stdin=b''):
        done = lab(*args, stdin=stdin)
        self.assertEqual(done.returncode, code, (args, done))
        self.assertEqual(done.stdout, b'', args)
        self.assertTrue(done.stderr.startswith(b'onebit-lab: '), done.stderr)
        return done.stderr.decode()

    def test_bad_command_lines_end_with_64_and_the_usage(self):
        for args in ([], ['nonsense'], ['info'], ['info', HOME_MODEL, '--nonsense'], ['info', HOME_MODEL, 'other'],
                     ['info', HOME_MODEL, '--threads'], ['info', HOME_MODEL, '--threads', '0'],
                     ['info', HOME_MODEL, '--threads', '65'], ['info', HOME_MODEL, '--threads', '2x'],
                     ['info', HOME_MODEL, '--threads', '-1'], ['info', HOME_MODEL, '--json=yes'],
                     ['info', HOME_MODEL, '--kv', 'f8'], ['info', HOME_MODEL, '--cpu', 'fast'],
                     ['info', HOME_MODEL, '--ids', '1'], ['logits', HOME_MODEL], ['logits', HOME_MODEL, '--ids', ''],
                     ['logits', HOME_MODEL, '--ids', '1,,2'], ['logits', HOME_MODEL, '--ids', '1,-2'],
                     ['generate', HOME_MODEL], ['generate', HOME_MODEL, '--ids', '1', '--prompt', 'x'],
                     ['generate', HOME_MODEL, '--prompt', 'x', '--temperature', 'nan'],
                     ['generate', HOME_MODEL, '--prompt', 'x', '--top-p', '0'],
                     ['generate', HOME_MODEL, '--prompt', 'x', '--seed', '18446744073709551616'],
                     ['perplexity', HOME_MODEL], ['make', '/tmp/x'], ['bench', HOME_MODEL, '-b', '0'],
                     ['make', '--shape', 'square', '--format', 'Q1_0', '/tmp/x'],
                     ['make', '--shape', 'tiny', '--format', 'Q3_0', '/tmp/x']):
            done = lab(*args)
            self.assertEqual(done.returncode, USAGE, (args, done))
            self.assertIn(b'usage:', done.stderr)
            self.assertEqual(done.stdout, b'')

    def test_a_missing_file_ends_with_66(self):
        for verb in VERBS:
            if verb == 'make':
                continue
            more = {'logits': ['--ids', '1'], 'generate': ['--ids', '1'], 'perplexity': ['--text', '-'],
                    'pack': ['--out', '/tmp/onebit-none'], 'quantize': ['/tmp/onebit-none', '--format', 'Q8_0'],
                    'sensitivity': ['--text', '-']}.get(verb, [])
            said = self.refused(NOINPUT, verb, '/nowhere/model.gguf', *more)
            self.assertEqual(said.count('\n'), 1, said)
        self.refused(NOINPUT, 'info', '/')
        self.refused(NOINPUT, 'info', '/dev/null')
        self.refused(NOINPUT, 'perplexity', HOME_MODEL, '--text', '/nowhere.txt')
        self.refused(NOINPUT, 'generate', HOME_MODEL, '--chat', '/nowhere.json')

    def test_an_absent_cpu_level_is_an_error_and_no_fallback(self):
        here = levels_present()
        self.assertIn('scalar', here)
        for level in set(LEVELS) - set(here):
            self.assertIn(level, self.refused(UNAVAILABLE, 'info', HOME_MODEL, '--cpu', level))

    def test_what_is_no_model_ends_with_65(self):
        with tempfile.NamedTemporaryFile() as f:
            f.write(b'GGUF\x03\0\0\0' + b'\xff' * 64)
            f.flush()
            said = self.refused(DATA, 'verify', f.name)
            self.assertRegex(said, r'^onebit-lab: .* \(at byte \d+\)\n$')
        self.refused(DATA, 'verify', __file__)

    def test_ids_beyond_the_vocabulary_end_with_65(self):
        self.refused(DATA, 'logits', HOME_MODEL, '--ids', '1280')
        self.refused(DATA, 'generate', HOME_MODEL, '--ids', '3,99999999999')
        self.refused(DATA, 'detokenize', HOME_MODEL, stdin='[1280]')

    def test_input_that_is_no_json_of_the_right_kind_ends_with_65(self):
        for verb in ('detokenize', 'template'):
            for text in ('', '{', '[1,', '"x"', '{}', '[{"role":"user"}]', '[[1]]'):
                self.refused(DATA, verb, HOME_MODEL, stdin=text)
        self.refused(DATA, 'template', HOME_MODEL, stdin='[{"role":1,"content":"x"}]')
        for text in ('{"text":1}', '{"hex":"f"}', '{"hex":"zz"}', '{}', '{"text":"a","hex":"61"}', 'x'):
            self.refused(DATA, 'tokenize', HOME_MODEL, '--jsonl', stdin=text)
        for verb, good, bad in (('tokenize', '{"text":"a"}', '{"text":1}'), ('tokenize', '{"hex":"61"}', '{"hex":"6"}'),
                                ('tokenize', '{"text":"a"}', '{'), ('detokenize', '{"ids":[]}', '{"ids":[-1]}'),
                                ('detokenize', '{"ids":[]}', '{}')):
            done = lab(verb, HOME_MODEL, '--jsonl', stdin=f'{good}\n\n{good}\n{bad}\n')
            self.assertEqual((done.returncode, done.stdout.count(b'\n')), (DATA, 2))
            self.assertIn(b'line 4', done.stderr)

    def test_a_missing_standard_output_ends_with_74_before_any_work(self):
        for closed, said in (('>&-', 1), ('<&- >&- 2>&-', 0)):
            for args in (['verify', '/nowhere'], ['tokenize', '/nowhere'], ['info', HOME_MODEL], ['--version'],
                         ['generate', HOME_MODEL, '--prompt', 'x', '-n', '4']):
                done = subprocess.run(['sh', '-c', f'exec "$0" "$@" {closed}', LAB, *args], stderr=subprocess.PIPE,
                                      timeout=60)
                self.assertEqual((done.returncode, done.stderr.count(b'\n')), (IO, said), (args, done))

    def test_a_complaint_cannot_drive_a_terminal(self):
        done = lab('info', '/nowhere/\x1b[31mred\nline')
        self.assertNotIn(b'\x1b', done.stderr)
        self.assertEqual(done.stderr.count(b'\n'), 1)


class Verbs(unittest.TestCase):

    def test_help_and_version(self):
        for word in ('help', '--help'):
            said = fine(word).decode()
            for verb in VERBS:
                self.assertIn(verb, said)
        self.assertRegex(fine('--version').decode(), r'^onebit-lab \d+\.\d+\.\d+\n$')
        for verb in VERBS:
            self.assertIn(verb, fine(verb, '--help').decode())

    def test_info(self):
        info = fine_json('info', HOME_MODEL, '--json')
        want = {'architecture': 'qwen3', 'quantization': 'binary', 'layers': 5, 'embedding_length': 256, 'heads': 4,
                'kv_heads': 2, 'head_dim': 64, 'feed_forward_length': 768, 'vocabulary': 1280, 'head_tied': True,
                'has_chat_template': True, 'chat_template': 'chatml', 'file_bytes': HOME_MODEL.stat().st_size}
        self.assertEqual({k: info[k] for k in want}, want)
        self.assertIn('Q1_0', info['formats'])
        names = {t['name']: t for t in info['tensors']}
        self.assertEqual(names['blk.4.ffn_down.weight']['columns'], 768)
        self.assertEqual(names['blk.4.ffn_down.weight']['format'], 'Q1_0')
        text = fine('info', HOME_MODEL).decode()
        self.assertIn('qwen3', text)
        self.assertIn('blk.0.attn_q.weight', text)

    def test_verify_of_a_sound_file(self):
        done = lab('verify', HOME_MODEL)
        self.assertEqual((done.returncode, done.stderr), (0, b''))

    def test_text_becomes_ids_and_comes_back(self):
        for text in ('turn on the kitchen lights', '', ' two  spaces ', 'gr\u00fc\u00dfe \u65e5\u672c \U0001f600', 'a\nb\tc'):
            ids = fine_json('tokenize', HOME_MODEL, stdin=text)
            self.assertTrue(all(isinstance(i, int) for i in ids))
            self.assertEqual(fine('detokenize', HOME_MODEL, stdin=json.dumps(ids)).decode(), text)

    def test_lines_of_json_become_lines_of_json(self):
        texts = ['one', 'two lines\nhere', 'nul \0 inside', '']
        lines = ''.join(json.dumps({'text': t}) + '\n' for t in texts) + '\n' + json.dumps({'hex': 'ff61'})
        out = [json.loads(x) for x in fine('tokenize', HOME_MODEL, '--jsonl', stdin=lines).splitlines()]
        self.assertEqual(len(out), len(texts) + 1)
        back = fine('detokenize', HOME_MODEL, '--jsonl', stdin='\n'.join(map(json.dumps, out))).splitlines()
        self.assertEqual([json.loads(b)['text'] for b in back[:-1]], texts)

    def test_bytes_that_are_no_utf8_come_back_as_hex(self):
        lines = '\n'.join(json.dumps({'ids': [i]}) for i in range(1280))
        out = [json.loads(x) for x in fine('detokenize', HOME_MODEL, '--jsonl', stdin=lines).splitlines()]
        self.assertEqual(len(out), 1280)
        self.assertIn({'hex': 'e2'}, out)
        self.assertIn({'text': 'e'}, out)

    def test_control_tokens_are_recognised_only_when_asked_for(self):
        plain = fine_json('tokenize', HOME_MODEL, stdin='<|im_end|>')
        special = fine_json('tokenize', HOME_MODEL, '--special', stdin='<|im_end|>')
        self.assertEqual(len(special), 1)
        self.assertGreater(len(plain), 1)

    def test_template(self):
        head = '<|im_start|>user\nturn on the kitchen lights<|im_end|>\n'
        with_prompt = fine('template', HOME_MODEL, stdin=MESSAGES).decode()
        without = fine('template', HOME_MODEL, '--no-generation-prompt', stdin=MESSAGES).decode()
        self.assertTrue(with_prompt.endswith(head + '<|im_start|>assistant\n'), with_prompt)
        self.assertEqual(without + '<|im_start|>assistant\n', with_prompt)
        thought = fine('template', HOME_MODEL, '--template', 'qwen3', '--no-thinking', stdin=MESSAGES).decode()
        self.assertIn('<think>', thought)
        self.assertEqual(lab('template', HOME_MODEL, '--template', 'x', stdin=MESSAGES).returncode, USAGE)

    def test_a_template_that_is_not_known_has_to_be_named(self):
        for old, new, word in ((b"{{'<|im_start|>", b"{{'<|im_begin|>", 'unknown'),
                               (b'tokenizer.chat_template', b'tokenizer.chat_tomplate', 'none')):
            with tempfile.NamedTemporaryFile(suffix='.gguf') as file:
                data = HOME_MODEL.read_bytes()
                self.assertEqual(data.count(old), 1)
                file.write(data.replace(old, new))
                file.flush()
                info = fine_json('info', file.name, '--json')
                self.assertEqual((info['chat_template'], info['has_chat_template']), (word, word == 'unknown'))
                self.assertIn('chatml', info['chat_template_choices'])
                self.assertRegex(fine('info', file.name).decode(), rf'chat template +{word}\n +a chat has to name one')
                refusal = lab('template', file.name, stdin=MESSAGES)
                self.assertEqual(refusal.returncode, UNAVAILABLE)
                self.assertIn(b'--template', refusal.stderr)
                self.assertEqual(lab('generate', file.name, '--chat', '-', '-n', '1', stdin=MESSAGES).returncode,
                                 UNAVAILABLE)
                self.assertEqual(fine('template', file.name, '--template', 'chatml', stdin=MESSAGES),
                                 fine('template', HOME_MODEL, stdin=MESSAGES))
        self.assertNotIn('chat_template_choices', fine_json('info', HOME_MODEL, '--json'))

    def test_every_template_that_the_complaint_names_renders(self):
        said = lab('template', HOME_MODEL, '--template', 'x', stdin=MESSAGES).stderr.decode()
        names = re.findall(r'\w+', said.split('there is ')[1].splitlines()[0])
        names.remove('or')
        self.assertEqual(len(names), 6)
        texts = {fine('template', HOME_MODEL, '--template', name, stdin=MESSAGES) for name in names}
        self.assertGreaterEqual(len(texts), 5)  # chatml and qwen3 write a plain chat alike

    def test_logits_as_bytes_as_json_and_row_by_row(self):
        ids = '1,2,3,40,50'
        last = fine('logits', HOME_MODEL, '--ids', ids)
        every = fine('logits', HOME_MODEL, '--ids', ids, '--all')
        self.assertEqual(len(last), 1280 * 4)
        self.assertEqual(len(every), 5 * 1280 * 4)
        self.assertEqual(every[-len(last):], last)
        self.assertTrue(all(map(math.isfinite, floats(every))))
        said = fine_json('logits', HOME_MODEL, '--ids', ids, '--all', '--json')
        self.assertEqual((said['n_rows'], said['n_vocab']), (5, 1280))
        self.assertEqual(struct.pack('<6400f', *sum(said['logits'], [])), every)
        with tempfile.TemporaryDirectory() as home:
            out = pathlib.Path(home) / 'rows'
            self.assertEqual(fine('logits', HOME_MODEL, '--ids', ids, '--out', out), b'')
            self.assertEqual(out.read_bytes(), last)
            self.assertEqual(lab('logits', HOME_MODEL, '--ids', ids, '--out', home).returncode, CANTCREATE)

    def test_generate_streams_text_or_says_it_all_in_json(self):
        text = fine('generate', HOME_MODEL, '--chat', '-', '-n', 64, stdin=MESSAGES).decode()
        self.assertEqual(json.loads(text), KITCHEN)
        said = fine_json('generate', HOME_MODEL, '--chat', '-', '-n', 64, '--json', stdin=MESSAGES)
        self.assertEqual(said['text'] + '\n', text)
        self.assertEqual(said['finish_reason'], 'stop')
        self.assertEqual(fine('detokenize', HOME_MODEL, stdin=json.dumps(said['ids'])).decode(), said['text'])
        self.assertEqual(len(said['ids']), said['generated_tokens'])
        self.assertGreater(said['timings']['generate_tokens_per_second'], 0)
        prompt = fine('template', HOME_MODEL, stdin=MESSAGES).decode()
        ids = fine_json('tokenize', HOME_MODEL, '--special', stdin=prompt)
        for how in (['--prompt', prompt], ['--ids', ','.join(map(str, ids))]):
            again = fine_json('generate', HOME_MODEL, *how, '-n', 64, '--json')
            self.assertEqual(again['ids'], said['ids'])

    def test_generate_keeps_to_its_length(self):
        for n in (0, 1, 7):
            said = fine_json('generate', HOME_MODEL, '--ids', '5,6', '-n', n, '--ignore-eos', '--json')
            self.assertEqual((len(said['ids']), said['finish_reason']), (n, 'length'))
        longest = fine_json('info', HOME_MODEL, '--json')['context_length']
        said = fine_json('generate', HOME_MODEL, '--ids', '5', '-n', 1000000, '--ignore-eos', '--json')
        self.assertEqual(len(said['ids']), longest - 1)

    def test_one_seed_gives_one_answer(self):
        how = ['generate', HOME_MODEL, '--ids', '5,6,7', '-n', 24, '--ignore-eos', '--json']

        def draw(seed):
            return fine_json(*how, '--temperature', '2', '--seed', seed)['ids']
        self.assertEqual(draw(7), draw(7))
        self.assertGreater(len({tuple(draw(seed)) for seed in range(4)}), 1)
        narrow = fine_json(*how, '--temperature', '2', '--top-k', '1')['ids']
        self.assertEqual(narrow, fine_json(*how)['ids'])

    def test_perplexity_is_the_mean_of_what_logits_say(self):
        text = 'turn on the kitchen lights and then set the desk lamp to thirty percent ' * 4
        ids = fine_json('tokenize', HOME_MODEL, '--add-special', stdin=text)
        ctx = 16
        self.assertGreater(len(ids), 2 * ctx)
        total, count = 0.0, 0
        for at in range(0, len(ids) - ctx + 1, ctx):
            window = ids[at:at + ctx]
            rows = floats(fine('logits', HOME_MODEL, '--ids', ','.join(map(str, window)), '--all'))
            for i in range(ctx // 2, ctx - 1):
                row = rows[i * 1280:(i + 1) * 1280]
                top = max(row)
                total += math.log(sum(math.exp(x - top) for x in row)) - (row[window[i + 1]] - top)
                count += 1
        said = fine_json('perplexity', HOME_MODEL, '--text', '-', '--ctx', ctx, '--json', stdin=text)
        self.assertEqual(said['tokens'], count)
        self.assertAlmostEqual(said['nats_per_token'], total / count, places=6)
        self.assertAlmostEqual(said['perplexity'], math.exp(total / count), delta=1e-4 * said['perplexity'])
        self.assertIn(b'per byte', fine('perplexity', HOME_MODEL, '--text', '-', '--ctx', ctx, stdin=text))
        self.assertEqual(lab('perplexity', HOME_MODEL, '--text', '-', stdin='short').returncode, DATA)

    def test_bench_says_what_it_measured(self):
        for streams in (1, 3):
            said = fine_json('bench', HOME_MODEL, '-p', 20, '-n', 4, '-b', streams, '-r', 2, '--json')
            for key in ('prompt_tokens_per_second', 'generate_tokens_per_second', 'load_seconds', 'peak_bytes'):
                self.assertGreater(said[key], 0, key)
            self.assertEqual((said['prompt_tokens'], said['generate_tokens'], said['streams']), (20, 4, streams))
        self.assertIn(b'tokens/s', fine('bench', HOME_MODEL, '-p', 4, '-n', 0, '-r', 1))

    def test_a_profile_of_bench_has_every_part_of_both_phases(self):
        said = fine_json('bench', HOME_MODEL, '-p', 20, '-n', 4, '-b', 2, '-d', 50, '-r', 3, '--profile', '--json')
        self.assertEqual((said['depth'], said['prompt_tokens'], said['generate_tokens']), (50, 20, 4))
        parts = None
        for phase, tokens, steps, rows in (('prompt', 120, 3, 6), ('generate', 24, 12, 24)):
            p = said['profile'][phase]
            self.assertEqual((p['tokens'], p['steps'], p['rows']), (tokens, steps, rows))
            self.assertLessEqual(sum(part['ns'] for part in p['parts']) + p['sample_ns'], p['total_ns'])
            self.assertGreater(p['sample_ns'], 0)
            names = [part['part'] for part in p['parts']]
            parts = parts or names
            self.assertEqual(names, parts)
        table = fine('bench', HOME_MODEL, '-p', 4, '-n', 2, '-r', 1, '--profile').decode()
        for name in (*parts, 'sampling', 'between', 'waiting in all'):
            self.assertEqual(table.count(f'\n  {name} '), 2, name)
        self.assertNotIn('profile', fine_json('bench', HOME_MODEL, '-p', 4, '-n', 0, '-r', 1, '--json'))


class Invariance(unittest.TestCase):

    def test_logits_are_the_same_bits_at_every_level_thread_count_and_cut(self):
        ids = ','.join(str(1 + i * 37 % 500) for i in range(50))
        with tempfile.TemporaryDirectory() as home:
            for model in [HOME_MODEL] + [make(home, 'tiny', fmt) for fmt in ('Q8_0', 'TQ2_0', 'F16')]:
                seen = {'f16': set(), 'f32': set(), 'int8': set()}
                for level in levels_present():
                    for threads, chunk, kv in ((1, 64, 'f16'), (2, 64, 'f16'), (2, 7, 'f16'), (3, 1, 'f16'),
                                               (1, 64, 'f32'), (2, 7, 'f32'), (1, 64, 'int8'), (2, 7, 'int8')):
                        rows = fine('logits', model, '--ids', ids, '--all', '--cpu', level, '--threads', threads,
                                    '--chunk', chunk, '--kv', kv)
                        seen[kv].add(hashlib.sha256(rows).hexdigest())
                self.assertEqual([len(s) for s in seen.values()], [1, 1, 1], model)


if __name__ == '__main__':
    unittest.main(verbosity=2)
