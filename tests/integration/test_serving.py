#!/usr/bin/env python3
"""What a user sees of a healthy daemon, through the CLI and through raw frames."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

from harness import (BUILD, CLI, DAEMON, HOOKED_RUNNER, PATIENCE, SOURCE, Daemon, Peer, alive, text_of, wait_for)

PROMPTS = ['turn on the kitchen lights', 'set the desk lamp to 30 percent', 'what time is it',
           'switch off the fan in the attic', 'pause the timer', 'set a timer for 5 minutes',
           'is the front door open', 'play some jazz in the dining room']


class Serving(unittest.TestCase):

    def test_one_prompt_is_answered_and_nothing_is_left(self):
        before = set(os.listdir(tempfile.gettempdir()))
        done = subprocess.run([sys.executable, SOURCE / 'tests/support/run_once.py', BUILD, SOURCE / 'models',
                               '--', 'turn on the kitchen lights'], capture_output=True, timeout=PATIENCE * 4)
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = json.loads(done.stdout)
        self.assertIn('kitchen', json.dumps(answer))
        self.assertIn('light', json.dumps(answer))
        left = {n for n in set(os.listdir(tempfile.gettempdir())) - before if n.startswith('onebit-run-')}
        self.assertEqual(left, set())

    def test_eight_at_once_equal_eight_alone(self):
        """Goal: who shares the batch changes nothing. Method: sampled answers of 100 tokens, alone one
        after the other, then all at once; byte for byte."""
        def args(i):
            return ['--temperature', '0.9', '--seed', 1000 + i, '-n', 100, '--ignore-eos', PROMPTS[i]]
        with Daemon() as d:
            alone = [d.cli('run', *args(i)) for i in range(8)]
            for done in alone:
                self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(len({done.stdout for done in alone}), 8)
            together = [d.cli_start('run', *args(i)) for i in range(8)]
            for i, client in enumerate(together):
                out, err = client.communicate(timeout=PATIENCE * 4)
                self.assertEqual(client.returncode, 0, err)
                self.assertEqual(out, alone[i].stdout, PROMPTS[i])

    def test_many_requests_on_one_connection(self):
        with Daemon() as d, Peer(d) as peer:
            for number in range(1, 9):
                peer.send({'type': 'generate', 'id': number, 'max_tokens': 40, 'temperature': 0.0,
                           'messages': [{'role': 'user', 'content': PROMPTS[number - 1]}]})
            ends, texts = {}, {}
            while len(ends) < 8:
                frame = peer.receive()
                self.assertIsNotNone(frame)
                if frame['type'] == 'delta':
                    texts[frame['id']] = texts.get(frame['id'], '') + frame['text']
                elif frame['type'] in ('done', 'error'):
                    self.assertNotIn(frame['id'], ends)
                    ends[frame['id']] = frame
            for number in range(1, 9):
                self.assertEqual(ends[number]['type'], 'done', ends[number])
                self.assertIn('intent', json.loads(texts[number]))

    def test_control_verbs_tell_the_truth(self):
        with Daemon() as d:
            listed = json.loads(d.cli('list', '--json').stdout)
            self.assertEqual([(m['name'], m['state'], m['default']) for m in listed],
                             [('home-q1_0', 'available', True)])
            self.assertEqual(d.cli('load', 'home-q1_0').returncode, 0)
            models = json.loads(d.cli('ps', '--json').stdout)['models']
            self.assertEqual([(m['name'], m['quantization'], m['kv']) for m in models],
                             [('home-q1_0', 'mixed' if models[0]['quantization'] == 'mixed' else 'binary', 'f16')])
            self.assertEqual(d.cli('unload', 'home-q1_0').returncode, 0)
            self.assertEqual(json.loads(d.cli('ps', '--json').stdout)['models'], [])
            self.assertNotEqual(d.cli('unload', 'home-q1_0').returncode, 0)
            self.assertEqual(d.cli('run', '-m', 'nothing', 'hi').returncode,
                             d.cli('load', '../home-q1_0').returncode)
            status = d.status()
            self.assertEqual(status['pid'], d.process.pid)
            self.assertEqual(status['runner_restarts'], 0)

    def test_typed_refusals_keep_the_connection(self):
        with Daemon() as d, Peer(d) as peer:
            def refused(**fields):
                peer.send({'type': 'generate', 'id': 7, **fields})
                end = peer.until_end(7)[-1]
                self.assertEqual(end['type'], 'error')
                return end['name'], end['number']
            self.assertEqual(refused(prompt='x', temperature=99.0), ('bad_request', 400))
            self.assertEqual(refused(), ('bad_request', 400))
            self.assertEqual(refused(prompt='x', model='none'), ('no_model', 404))
            self.assertEqual(refused(prompt='x', quantization='int9'), ('unknown_quantization', 400))
            self.assertEqual(refused(prompt='x', quantization='f32'), ('quantization_mismatch', 409))
            self.assertEqual(refused(prompt='x ' * 3000), ('context_too_long', 413))
            self.assertEqual(refused(ids=[5, 999999]), ('bad_request', 400))
            peer.send({'type': 'generate', 'id': 8, 'prompt': 'hello', 'max_tokens': 3, 'ignore_eos': True})
            end = peer.until_end(8)[-1]
            self.assertEqual((end['type'], end['finish_reason'], end['answer_tokens']), ('done', 'length', 3))

    def test_cancel_and_hang_up_free_their_stream(self):
        long = {'type': 'generate', 'messages': [{'role': 'user', 'content': '@@sleep-ms-20-per-step@@'}],
                'max_tokens': 900, 'ignore_eos': True}
        with Daemon(runner=HOOKED_RUNNER) as d:
            with Peer(d) as peer:
                peer.send({**long, 'id': 1})
                while peer.receive()['type'] != 'delta':
                    pass
                peer.send({'type': 'cancel', 'id': 2, 'target': 1})
                end = peer.until_end(1)[-1]
                self.assertEqual((end['name'], end['number']), ('cancelled', 499))
                peer.send({**long, 'id': 3})
                while peer.receive()['type'] != 'delta':
                    pass
            client = d.cli_start('run', '-n', 900, '--ignore-eos', '@@sleep-ms-20-per-step@@')
            client.stdout.read(1)
            client.send_signal(signal.SIGINT)
            self.assertEqual(client.wait(timeout=PATIENCE), 130)
            client.communicate()

            def nothing_runs():
                return json.loads(d.cli('ps', '--json').stdout)['requests'] == []
            wait_for(nothing_runs)

    def test_stop_strings_and_seeds(self):
        with Daemon() as d, Peer(d) as peer:
            base = {'type': 'generate', 'messages': [{'role': 'user', 'content': PROMPTS[0]}]}
            peer.send({**base, 'id': 1, 'stop': ['"area"']})
            frames = peer.until_end(1)
            self.assertEqual(frames[-1]['finish_reason'], 'stop_string')
            self.assertNotIn('"area"', text_of(frames))
            self.assertTrue(text_of(frames).startswith('{"intent"'))
            peer.send({**base, 'id': 2, 'temperature': 1.5, 'ignore_eos': True, 'max_tokens': 60})
            first = peer.until_end(2)
            seed = first[-1]['seed']
            peer.send({**base, 'id': 3, 'temperature': 1.5, 'ignore_eos': True, 'max_tokens': 60, 'seed': seed})
            self.assertEqual(text_of(peer.until_end(3)), text_of(first))


class Process(unittest.TestCase):

    def test_sigterm_drains_what_runs(self):
        with Daemon(runner=HOOKED_RUNNER) as d:
            client = d.cli_start('run', '-n', 60, '--ignore-eos', '@@sleep-ms-20-per-step@@')
            client.stdout.read(1)
            late = Peer(d)
            d.process.terminate()

            def the_daemon_drains():
                late.send({'type': 'generate', 'id': 1, 'prompt': 'x', 'max_tokens': 1})
                return late.until_end(1)[-1].get('name') == 'draining'
            wait_for(the_daemon_drains)
            out, err = client.communicate(timeout=PATIENCE)
            self.assertEqual(client.returncode, 0, err)
            self.assertEqual(d.process.wait(timeout=PATIENCE), 0)
            late.close()
            d.stop = lambda: None

    def test_sighup_reloads_and_refuses_a_bad_file(self):
        with Daemon() as d:
            d.set_config('[queue]\nper_identity = 3\nno_such_key = 1\n')
            d.process.send_signal(signal.SIGHUP)

            def the_refusal_is_logged():
                return 'no_such_key' in d.read_log()
            wait_for(the_refusal_is_logged)
            self.assertEqual(d.cli('run', PROMPTS[0]).returncode, 0)

    def test_a_template_that_is_not_known_can_be_named(self):
        """Goal: a chat with a model whose template is not known is refused and told how to name one; a
        request can, and so can the configuration. Method: the shipped model with one mark changed."""
        with tempfile.TemporaryDirectory() as folder:
            odd = pathlib.Path(folder) / 'odd.gguf'
            data = (SOURCE / 'models/home-q1_0.gguf').read_bytes()
            self.assertEqual(data.count(b"{{'<|im_start|>"), 1)
            odd.write_bytes(data.replace(b"{{'<|im_start|>", b"{{'<|im_begin|>"))
            with Daemon(models=[odd]) as d:
                refused = d.cli('run', '--temperature', 0, PROMPTS[0])
                self.assertEqual(refused.returncode, 65)
                for word in (b'no_template', b'chat_template', b'chatml', b'configuration'):
                    self.assertIn(word, refused.stderr)
                named = d.cli('run', '--temperature', 0, '--template', 'chatml', PROMPTS[0])
                self.assertEqual(named.returncode, 0, named.stderr)
                wrong = d.cli('run', '--template', 'chatnl', PROMPTS[0])
                self.assertEqual(wrong.returncode, 64, wrong.stderr)
                self.assertIn(b'chatml', wrong.stderr)
            with Daemon(models=[odd], config='[model odd]\nchat_template = chatml\n') as d:
                configured = d.cli('run', '--temperature', 0, PROMPTS[0])
                self.assertEqual((configured.returncode, configured.stdout), (0, named.stdout), configured.stderr)
                self.assertIs(json.loads(d.cli('list', '--json').stdout)[0]['chat'], True)

    def test_a_bad_configuration_is_refused_by_name_and_line(self):
        with tempfile.TemporaryDirectory() as home:
            bad = pathlib.Path(home) / 'bad.ini'
            bad.write_text('[queue]\nper_identity = 10\n\ntotal_ = 5\n')
            done = subprocess.run([DAEMON, '--check', '--config', bad], capture_output=True, text=True)
            self.assertEqual(done.returncode, 78)
            self.assertIn('total_', done.stderr)
            self.assertIn('4', done.stderr)

    def test_socket_activation(self):
        """Goal: the socket of the service manager is used and left alone. Method: what systemd does,
        by hand: descriptor 3 and LISTEN_FDS."""
        activate = ('import os, socket, sys\n'
                    's = socket.socket(socket.AF_UNIX)\n'
                    's.bind(sys.argv[1]); s.listen(8)\n'
                    'os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n'
                    'os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))\n'
                    'os.execv(sys.argv[2], sys.argv[2:])\n')

        class Activated(Daemon):
            def command(self):
                daemon, *rest = super().command()
                at = rest.index('--socket')
                del rest[at:at + 2]
                return [sys.executable, '-c', activate, self.socket, daemon, *rest]

            def stop(self):
                self.process.terminate()
                assert self.process.wait(timeout=PATIENCE) == 0, self.read_log()
                assert self.socket.exists(), 'an activated daemon must not remove the socket'
        with Activated() as d:
            done = d.cli('run', PROMPTS[0])
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_log_names_the_socket_that_clients_use(self):
        with Daemon() as d:
            d.status()  # it answers, so the line has been written
            self.assertIn(f'serving on {d.socket}\n', d.read_log())

    def test_two_daemons_do_not_fight_over_a_socket(self):
        with Daemon() as d:
            second = subprocess.run(d.command(), capture_output=True, text=True, timeout=PATIENCE)
            self.assertNotEqual(second.returncode, 0)
            self.assertEqual(d.cli('run', PROMPTS[0]).returncode, 0)

    def test_a_dead_daemons_socket_is_taken_over(self):
        with Daemon() as d:
            runner = d.status()['runner_pid']
            d.process.kill()
            d.process.wait()

            def the_runner_ends_with_its_broker():
                return not runner or not alive(runner)
            wait_for(the_runner_ends_with_its_broker)
            self.assertTrue(d.socket.exists())
            d.start()
            self.assertEqual(d.cli('run', PROMPTS[0]).returncode, 0)

    def test_without_a_daemon_the_cli_says_so(self):
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run([CLI, 'run', '-s', f'{home}/none.sock', 'hi'], capture_output=True, text=True)
            self.assertEqual(done.returncode, 69)
            self.assertIn('onebitd', done.stderr)


class Policy(unittest.TestCase):

    def test_a_peer_the_policy_does_not_name_is_unknown(self):
        with Daemon(config=f'[peer uid.{os.getuid()}]\nrights = none\n[peer default]\nrights = none\n') as d:
            peer = Peer(d, hello=False)
            peer.send({'type': 'hello', 'protocol': [1, 0], 'name': 'test'})
            frame = peer.receive()
            if frame['type'] == 'hello':
                peer.send({'type': 'generate', 'id': 1, 'prompt': 'x'})
                frame = peer.until_end(1)[-1]
            self.assertIn((frame['name'], frame['number']), [('unknown_peer', 401), ('forbidden', 403)])
            peer.close()
            d.process.terminate()
            self.assertEqual(d.process.wait(timeout=PATIENCE), 0)
            d.stop = lambda: None

    def test_a_peer_without_the_right_may_not_load(self):
        with Daemon(config=f'[peer uid.{os.getuid()}]\nrights = use\n') as d, Peer(d) as peer:
            peer.send({'type': 'load', 'id': 1, 'model': 'home-q1_0'})
            end = peer.until_end(1)[-1]
            self.assertEqual((end['name'], end['number']), ('forbidden', 403))
            peer.send({'type': 'generate', 'id': 2, 'prompt': 'x', 'max_tokens': 1, 'ignore_eos': True})
            self.assertEqual(peer.until_end(2)[-1]['type'], 'done')


if __name__ == '__main__':
    unittest.main(verbosity=2)
