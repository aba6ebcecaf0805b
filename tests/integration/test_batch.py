#!/usr/bin/env python3
"""`onebit batch`: a file of requests into a file of answers, in order, whatever comes between."""
import json
import os
import pathlib
import pty
import resource
import signal
import subprocess
import tempfile
import unittest

from harness import CLI, PATIENCE, Daemon, wait_for

PROMPTS = ['turn on the kitchen lights', 'set the desk lamp to 30 percent', 'what time is it',
           'switch off the fan in the attic', 'pause the timer', 'set a timer for 5 minutes']


class Folder:
    """Input and output of one batch."""

    def __init__(self, lines):
        self.home = tempfile.TemporaryDirectory(prefix='onebit-batch-')
        self.input, self.output = (pathlib.Path(self.home.name) / n for n in ('in.jsonl', 'out.jsonl'))
        self.input.write_text(''.join(l + '\n' for l in lines))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.home.cleanup()

    def words(self, daemon, *args):
        return [CLI, 'batch', '-s', daemon.socket, *map(str, args), self.input, self.output]

    def run(self, daemon, *args):
        return subprocess.run(self.words(daemon, *args), capture_output=True, text=True, timeout=PATIENCE * 4,
                              stdin=subprocess.DEVNULL)

    def answers(self):
        """What stands in the output; every line has to be whole."""
        text = self.output.read_text()
        assert text == '' or text.endswith('\n'), text[-200:]
        return [json.loads(l) for l in text.splitlines()]


def told(answers):
    """What has to be the same whoever interrupts."""
    return [(a['line'], a.get('id'), a['input'], a.get('text'), a.get('error', {}).get('name')) for a in answers]


def long_lines(n, tokens=200):
    return [json.dumps({'id': i, 'prompt': PROMPTS[i % len(PROMPTS)], 'max_tokens': tokens, 'ignore_eos': True,
                        'temperature': 1, 'seed': i}) for i in range(n)]


class Batch(unittest.TestCase):

    def test_every_line_is_answered_in_order_as_run_would(self):
        lines = [json.dumps(p) for p in PROMPTS]
        lines += ['', json.dumps([{'role': 'user', 'content': PROMPTS[0]}]),
                  json.dumps({'id': 'mine', 'prompt': PROMPTS[1], 'seed': 3, 'temperature': 0.8}),
                  json.dumps({'id': 7, 'ids': [5, 6, 7], 'max_tokens': 3, 'logprobs': 2})]
        with Daemon() as d, Folder(lines) as f:
            done = f.run(d, '-j', 3)
            self.assertEqual((done.returncode, done.stdout), (0, ''), done)
            self.assertIn('9 of 9 requests are answered, 0 failed', done.stderr)
            answers = f.answers()
            self.assertEqual([a['line'] for a in answers], [1, 2, 3, 4, 5, 6, 8, 9, 10])
            self.assertEqual([a.get('id') for a in answers], [None] * 7 + ['mine', 7])
            for answer, prompt in zip(answers, PROMPTS):
                self.assertEqual(answer['text'] + '\n', d.cli('run', prompt).stdout.decode())
            self.assertEqual(answers[6]['text'], answers[0]['text'])
            self.assertEqual(answers[7]['seed'], 3)
            self.assertEqual(answers[8]['usage']['answer_tokens'], 3)
            self.assertEqual(len(answers[8]['ids']), 3)
            self.assertEqual([len(row) for row in answers[8]['logprobs']], [3, 3, 3])

    def test_failures_are_lines_with_their_request(self):
        lines = ['"pause the timer"', '{"prompt": "x", "nonsense": 1}', 'no json',
                 '{"id": "a", "prompt": "x", "model": "absent"}', '"what time is it"']
        with Daemon() as d, Folder(lines) as f:
            done = f.run(d, '--json', '-v')
            self.assertEqual(done.returncode, 1, done)
            self.assertIn('line 2: bad_request: nonsense: there is no such field', done.stderr)
            self.assertIn('line 4: no_model:', done.stderr)
            totals = json.loads(done.stdout)
            self.assertEqual([totals[k] for k in ('requests', 'answered', 'failed', 'had', 'complete')], [5, 2, 3, 0, True])
            self.assertGreater(totals['answer_tokens'], 0)
            answers = f.answers()
            self.assertEqual([a.get('error', {}).get('name') for a in answers],
                             [None, 'bad_request', 'bad_request', 'no_model', None])
            self.assertEqual(answers[1]['request'], json.loads(lines[1]))
            self.assertEqual(answers[2]['request'], 'no json')
            self.assertEqual(answers[3]['error']['number'], 404)
            self.assertEqual(answers[3]['request'], json.loads(lines[3]))
            # Nothing is left to do, and the exit code still tells that some failed.
            before = f.output.read_bytes()
            self.assertEqual(f.run(d).returncode, 1)
            self.assertEqual(f.output.read_bytes(), before)

    def test_an_interrupted_batch_is_continued_to_the_same_end(self):
        """Goal: whatever ended it, the same command goes on, and the output is as if nothing had been. Method: Ctrl-C, then
        kill -9 with a torn line behind it, then to the end; beside one that nobody interrupted."""
        lines = long_lines(40)
        with Daemon() as d, Folder(lines) as f, Folder(lines) as whole:
            self.assertEqual(whole.run(d).returncode, 0)

            def some_are_there():
                return f.output.exists() and f.output.read_bytes().count(b'\n') >= least

            least = 3
            batch = subprocess.Popen(f.words(d, '-j', 4), stderr=subprocess.PIPE, text=True)
            wait_for(some_are_there)
            batch.send_signal(signal.SIGINT)
            _, said = batch.communicate(timeout=PATIENCE)
            self.assertEqual(batch.returncode, 130, said)
            self.assertIn('the same command goes on where this one ended', said)
            first = f.answers()
            self.assertLess(len(first), len(lines))

            def nothing_runs():
                return json.loads(d.cli('ps', '--json').stdout)['requests'] == []
            wait_for(nothing_runs)

            least = len(first) + 3
            batch = subprocess.Popen(f.words(d, '-j', 4), stderr=subprocess.DEVNULL)
            wait_for(some_are_there)
            batch.kill()
            batch.wait()
            with open(f.output, 'a', encoding='utf-8') as out:
                out.write('{"line":99,"inp')
            done = f.run(d, '-j', 4)
            self.assertEqual(done.returncode, 0, done)
            self.assertIn('a torn line, which is dropped', done.stderr)
            self.assertEqual(told(f.answers())[:len(first)], told(first))
            self.assertEqual(told(f.answers()), told(whole.answers()))

    def test_lines_may_be_added_and_another_input_is_refused(self):
        with Daemon() as d, Folder(['"pause the timer"']) as f:
            self.assertEqual(f.run(d).returncode, 0)
            with open(f.input, 'a', encoding='utf-8') as more:
                more.write('"what time is it"\n')
            self.assertEqual(f.run(d).returncode, 0)
            self.assertEqual([a['line'] for a in f.answers()], [1, 2])
            before = f.output.read_bytes()
            for words in (['--seed', 3, '--temperature', 1], ['--system', 'x']):
                self.assertEqual(f.run(d, *words).returncode, 65)
            f.input.write_text('"something else"\n')
            self.assertEqual(f.run(d).returncode, 65)
            self.assertEqual(f.output.read_bytes(), before)

    def test_a_daemon_that_goes_away_leaves_the_rest_for_later(self):
        lines = long_lines(30)
        with Folder(lines) as f:
            with Daemon() as d:
                batch = subprocess.Popen(f.words(d, '-j', 4), stderr=subprocess.PIPE, text=True)

                def some_are_there():
                    return f.output.exists() and f.output.read_bytes().count(b'\n') >= 3
                wait_for(some_are_there)
                d.process.kill()
                d.process.wait()
                _, said = batch.communicate(timeout=PATIENCE * 4)
                self.assertIn(batch.returncode, (69, 71, 75), said)
                self.assertIn('goes on where this one ended', said)
                left = f.answers()
                self.assertLess(len(left), len(lines))
                self.assertEqual([a for a in left if 'error' in a], [])
                d.start()
                self.assertEqual(f.run(d).returncode, 0)
                self.assertEqual([a['id'] for a in f.answers()], list(range(30)))

    def test_a_full_output_is_named_and_continued(self):
        """Method: a limit on the size of files stands for a full disk."""
        def little():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
        with Daemon() as d, Folder(map(json.dumps, PROMPTS)) as f:
            done = subprocess.run(f.words(d), capture_output=True, text=True, timeout=PATIENCE * 4,
                                  stdin=subprocess.DEVNULL, preexec_fn=little)
            self.assertEqual(done.returncode, 74, done)
            self.assertIn(f'onebit: {f.output}: File too large\n', done.stderr)
            self.assertLessEqual(f.output.stat().st_size, 1500)
            self.assertEqual(f.run(d).returncode, 0)
            self.assertEqual([a['line'] for a in f.answers()], list(range(1, len(PROMPTS) + 1)))

    def test_the_bar_is_for_terminals(self):
        with Daemon() as d, Folder(long_lines(6, 50)) as f:
            ours, theirs = pty.openpty()
            done = subprocess.run(f.words(d), stderr=theirs, stdout=subprocess.DEVNULL, timeout=PATIENCE * 4)
            os.close(theirs)
            said = b''
            while True:
                try:
                    piece = os.read(ours, 65536)
                except OSError:
                    break
                if not piece:
                    break
                said += piece
            os.close(ours)
            self.assertEqual(done.returncode, 0)
            self.assertIn(b'of 6', said)
            self.assertIn(b'[########################] 6 of 6', said)

    def test_others_go_first(self):
        """The class of a batch is low unless somebody says otherwise."""
        with Daemon() as d, Folder(long_lines(8, 400)) as f:
            batch = subprocess.Popen(f.words(d), stderr=subprocess.DEVNULL)

            def classes():
                return {r['class'] for r in json.loads(d.cli('ps', '--json').stdout)['requests']}
            self.assertEqual(wait_for(classes), {'low'})
            batch.send_signal(signal.SIGTERM)
            self.assertEqual(batch.wait(timeout=PATIENCE), 128 + signal.SIGTERM)

    def test_wrong_usage(self):
        with Folder([]) as f:
            for words, code in (([], 64), ([f.input], 64), ([f.input, f.output, 'x'], 64), (['-j', 0, f.input, f.output], 64),
                                ([f.input, f.input], 64), (['/nonexistent', f.output], 65), ([f.input, '/'], 74),
                                ([f.input, f.output], 69)):
                done = subprocess.run([CLI, 'batch', '-s', '/nonexistent/onebit.sock', *map(str, words)],
                                      capture_output=True, timeout=PATIENCE)
                self.assertEqual(done.returncode, code, (words, done))


if __name__ == '__main__':
    unittest.main(verbosity=2)
