#!/usr/bin/env python3
"""The engine process may die at any moment; requests do not."""
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time
import unittest

from harness import (HOOKED_RUNNER, LAB, PATIENCE, RUNNER, SANITIZED, Daemon, Peer, alive, text_of, wait_for)

KILLS = 20


def wait_for_a_runner(d, last):
    """The pid of a living runner other than `last`."""
    def a_new_runner_is_up():
        pid = d.status()['runner_pid']
        return pid and pid != last and alive(pid) and pid
    return wait_for(a_new_runner_is_up)


class Continuity(unittest.TestCase):

    def kill_in_mid_stream(self, d, requests, pause):
        """Run `requests` (CLI arguments) undisturbed, then again under KILLS kills of the runner at random
        moments while all of them stream; every text must be the same."""
        undisturbed = []
        for args in requests:
            done = d.cli('run', *args)
            self.assertEqual(done.returncode, 0, done.stderr)
            undisturbed.append(done.stdout)
        dice = random.Random(20)
        broker, kills, last, rounds = d.process.pid, 0, 0, 0  # last: the pid that was killed
        while kills < KILLS:
            rounds += 1
            self.assertLess(rounds, 200, 'the answers end before they can be disturbed')
            clients = [d.cli_start('run', *args) for args in requests]
            heads = [c.stdout.read(1) for c in clients]  # every one has begun to stream
            while kills < KILLS and all(c.poll() is None for c in clients):
                pid = wait_for_a_runner(d, last)
                time.sleep(dice.uniform(0, pause))
                running = json.loads(d.cli('ps', '--json').stdout)['requests']
                if not any(r['state'] in ('prefill', 'decode', 'loading') for r in running):
                    break
                os.kill(pid, signal.SIGKILL)
                last, kills = pid, kills + 1
            for client, head, args, want in zip(clients, heads, requests, undisturbed):
                out, err = client.communicate(timeout=PATIENCE * 4)
                self.assertEqual(client.returncode, 0, err)
                self.assertEqual(head + out, want, args)
        self.assertEqual(d.process.pid, broker)
        self.assertIsNone(d.process.poll())
        self.assertGreaterEqual(d.status()['runner_restarts'], KILLS)

    def test_twenty_kills_under_eight_slowed_streams(self):
        """Slowed by a test hook, so that kills fall between and inside steps on any machine."""
        requests = [['--seed', 5 + i, '--temperature', '1.0', '-n', 250, '--ignore-eos',
                     f'@@sleep-ms-3-per-step@@ turn on lamp {i}'] for i in range(8)]
        with Daemon(runner=HOOKED_RUNNER) as d:
            self.kill_in_mid_stream(d, requests, pause=0.4)

    @unittest.skipIf(SANITIZED, 'a model of real size is too slow under a sanitizer')
    def test_twenty_kills_of_the_shipped_runner_with_a_model_of_real_size(self):
        with tempfile.TemporaryDirectory() as home:
            model = pathlib.Path(home) / 'llama-160m.gguf'
            subprocess.run([LAB, 'make', '--shape', 'llama-160m', '--format', 'Q1_0', '--seed', '3', model], check=True)
            requests = [['--seed', 7 + i, '--temperature', '1.0', '-n', 600, '--ignore-eos', '--raw',
                         f'once upon a time {i}'] for i in range(3)]
            with Daemon(models=[model], runner=RUNNER) as d:
                self.kill_in_mid_stream(d, requests, pause=0.5)

    def test_the_one_that_crashes_fails_alone(self):
        """Goal: a request that kills the engine takes nobody with it. Method: two neighbours stream while a
        request with the crash hook comes; undisturbed texts are compared."""
        for hook in ('@@crash-at-prefill@@', '@@crash-at-token-5@@'):
            neighbour = {'type': 'generate', 'max_tokens': 200, 'ignore_eos': True, 'temperature': 1.0}
            prompts = ['@@sleep-ms-5-per-step@@ one', '@@sleep-ms-5-per-step@@ two']
            with Daemon(runner=HOOKED_RUNNER) as d, Peer(d) as peer:
                wants = []
                for i, prompt in enumerate(prompts):
                    peer.send({**neighbour, 'id': i + 1, 'seed': i, 'messages': [{'role': 'user', 'content': prompt}]})
                    wants.append(text_of(peer.until_end(i + 1)))
                for i, prompt in enumerate(prompts):
                    peer.send({**neighbour, 'id': i + 11, 'seed': i, 'messages': [{'role': 'user', 'content': prompt}]})
                with Peer(d) as bad:
                    bad.send({'type': 'generate', 'id': 1, 'ignore_eos': True, 'max_tokens': 50,
                              'messages': [{'role': 'user', 'content': hook}]})
                    end = bad.until_end(1)[-1]
                    self.assertEqual((end['type'], end.get('name')), ('error', 'request_crashed'), hook)
                ends, texts = {}, {11: '', 12: ''}
                while len(ends) < 2:
                    frame = peer.receive()
                    self.assertIsNotNone(frame)
                    if frame['type'] == 'delta':
                        texts[frame['id']] += frame.get('text', '')
                    elif frame['type'] in ('done', 'error'):
                        ends[frame['id']] = frame['type']
                self.assertEqual(ends, {11: 'done', 12: 'done'})
                self.assertEqual([texts[11], texts[12]], wants)

    def test_a_runner_killed_while_idle_is_no_event(self):
        with Daemon() as d:
            want = d.cli('run', 'turn on the kitchen lights').stdout
            pid = d.status()['runner_pid']
            os.kill(pid, signal.SIGKILL)
            done = d.cli('run', 'turn on the kitchen lights')
            self.assertEqual((done.returncode, done.stdout), (0, want))

    def test_a_model_file_replaced_in_mid_answer_changes_nothing(self):
        """Goal: an answer goes on with the weights it began with. Method: put another model in the file's
        place while an answer streams, kill the runner, compare with an undisturbed answer."""
        with tempfile.TemporaryDirectory() as home:
            other = pathlib.Path(home) / 'other.gguf'
            subprocess.run([LAB, 'make', '--shape', 'tiny', '--format', 'F16', other], check=True)
            args = ['-n', 200, '--ignore-eos', '--seed', 4, '--temperature', '1.0', '@@sleep-ms-5-per-step@@ go on']
            with Daemon(runner=HOOKED_RUNNER) as d:
                want = d.cli('run', *args).stdout
                client = d.cli_start('run', *args)
                head = client.stdout.read(1)
                os.replace(other, d.models / 'home-q1_0.gguf')
                os.kill(d.status()['runner_pid'], signal.SIGKILL)
                out, err = client.communicate(timeout=PATIENCE)
                self.assertEqual((client.returncode, head + out), (0, want), err)
                self.assertEqual(d.cli('unload', 'home-q1_0').returncode, 0)
                self.assertEqual(d.cli('load', 'home-q1_0').returncode, 0)
                models = json.loads(d.cli('ps', '--json').stdout)['models']
                self.assertEqual(models[0]['quantization'], 'f16')

    def test_a_damaged_model_costs_its_own_requests_only(self):
        with tempfile.TemporaryDirectory() as home:
            bad = pathlib.Path(home) / 'bad.gguf'
            bad.write_bytes(b'GGUF' + bytes(100))
            good = pathlib.Path(__file__).resolve().parents[2] / 'models/home-q1_0.gguf'
            with Daemon(models=[bad, good], config='[models]\ndefault = home-q1_0\n') as d:
                client = d.cli_start('run', '-n', 400, '--ignore-eos', 'turn on the kitchen lights')
                done = d.cli('run', '-m', 'bad', 'hi')
                self.assertEqual(done.returncode, 65, done.stderr)
                out, err = client.communicate(timeout=PATIENCE)
                self.assertEqual(client.returncode, 0, err)
                self.assertEqual(d.status()['runner_restarts'], 0)


if __name__ == '__main__':
    unittest.main(verbosity=2)
