#!/usr/bin/env python3
"""The daemon's figures: sound text, the right numbers, and exactly the names that the manual lists."""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest

from harness import HOOKED_RUNNER, PATIENCE, SOURCE, Daemon, Peer, text_of, wait_for

LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf'([a-zA-Z_:][\w:]*)(\{{{LABEL}(?:,{LABEL})*\}})? (\S+)')


def read(text):
    """({series: value}, {family: (type, help)}); anything that is no sound text is an AssertionError."""
    samples, families, kind = {}, {}, None
    assert text.endswith('\n')
    for line in text[:-1].split('\n'):
        if match := re.fullmatch(r'# HELP ([a-zA-Z_:][\w:]*) (.+)', line):
            family, about, kind = match[1], match[2], None
            assert family not in families, line
        elif match := re.fullmatch(r'# TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|histogram)', line):
            assert match[1] == family and kind is None, line
            kind = match[2]
            families[family] = (kind, about)
        else:
            match = SAMPLE.fullmatch(line)
            assert match and kind, line
            suffix = match[1].removeprefix(family)
            assert suffix in (('_bucket', '_sum', '_count') if kind == 'histogram' else ('',)), line
            series = match[1] + (match[2] or '')
            assert series not in samples, line
            samples[series] = float(match[3])
    return samples, families


def figures(peer, number=900):
    peer.send({'type': 'metrics', 'id': number})
    end = peer.until_end(number)[-1]
    assert end['type'] == 'done', end
    return read(end['result'])


class Metrics(unittest.TestCase):

    def test_the_manual_lists_what_the_daemon_says(self):
        page = (SOURCE / 'docs/metrics.md').read_text(encoding='utf-8')
        rows = re.findall(r'^\| `(onebit_\w+)` \| (\w+) \| ([^|]*) \| (.+) \|$', page, re.M)
        listed = {name: (kind, about) for name, kind, _, about in rows}
        self.assertEqual(len(listed), len(rows))
        with Daemon() as d, Peer(d) as peer:
            peer.send({'type': 'generate', 'id': 1, 'prompt': 'Once', 'max_tokens': 80, 'ignore_eos': True})
            peer.until_end(1)
            samples, families = figures(peer)
        self.assertEqual(listed, families)
        labels = {name: set(filter(None, text.strip().split(', '))) for name, _, text, _ in rows}
        for series in samples:
            name = re.sub(r'_(bucket|sum|count)$', '', series.split('{')[0])
            name = name if name in labels else series.split('{')[0]
            self.assertLessEqual(set(re.findall(r'(\w+)="', series)) - {'le'}, labels[name], series)

    def test_guesses_at_next_tokens_are_counted_and_change_nothing(self):
        asks = [{'type': 'generate', 'id': n + 1, 'prompt': 'the lamp and the lamp and the lamp and the', 'max_tokens': 90 + n,
                 'ignore_eos': True, 'temperature': t, 'seed': 5} for n, t in enumerate((0.0, 0.4, 1.0))]
        answers = []
        for config in ('', '[engine]\nthreads = 2\ndraft_tokens = 8\n'):  # not measured: room for four tokens in a step
            with Daemon(config=config) as d, Peer(d) as peer, Peer(d) as second, Peer(d) as third:
                at_once = list(zip(asks, (peer, second, third)))
                for ask, one in at_once:
                    one.send(ask)
                ended = [one.until_end(ask['id']) for ask, one in at_once]
                answers.append([(text_of(frames), frames[-1]['answer_tokens']) for frames in ended])
                samples, _ = figures(peer)
            drafted, right = samples['onebit_drafted_tokens_total'], samples['onebit_drafts_accepted_total']
            self.assertEqual(drafted > 0, bool(config))
            self.assertEqual(right > 0, bool(config))
            self.assertLessEqual(right, drafted)
            self.assertEqual([n for _, n in answers[-1]], [ask['max_tokens'] for ask in asks])
        self.assertEqual(answers[0], answers[1])

    def test_each_end_of_a_request_counts_once(self):
        of = '{model="home-q1_0",class="high"'
        with Daemon() as d, Peer(d) as peer:
            peer.send({'type': 'generate', 'id': 1, 'prompt': 'Once upon', 'max_tokens': 8, 'ignore_eos': True,
                       'class': 'high'})
            done = peer.until_end(1)[-1]
            peer.send({'type': 'generate', 'id': 2, 'prompt': 'x', 'max_tokens': 900, 'ignore_eos': True,
                       'class': 'high', 'model': 'home-q1_0'})
            peer.send({'type': 'cancel', 'id': 3, 'target': 2})
            peer.until_end(2)
            peer.send({'type': 'generate', 'id': 4, 'prompt': 'x', 'model': 'made-up-by-a-client'})
            peer.until_end(4)
            peer.send({'type': 'generate', 'id': 5, 'prompt': 'x', 'quantization': 'nonsense'})
            peer.until_end(5)
            samples, _ = figures(peer)
            self.assertEqual(samples['onebit_requests_total' + of + ',code="ok"}'], 1)
            self.assertEqual(samples['onebit_requests_total' + of + ',code="cancelled"}'], 1)
            self.assertEqual(samples['onebit_requests_total{model="other",class="normal",code="no_model"}'], 1)
            self.assertEqual(
                samples['onebit_requests_total{model="other",class="normal",code="unknown_quantization"}'], 1)
            self.assertGreaterEqual(samples['onebit_tokens_total' + of + '}'], 8)
            self.assertGreaterEqual(samples['onebit_prompt_tokens_total' + of + '}'], done['prompt_tokens'])
            self.assertGreaterEqual(samples['onebit_first_token_seconds_count' + of + '}'], 1)
            self.assertGreaterEqual(samples['onebit_between_tokens_seconds_count' + of + '}'], 7)
            self.assertEqual(samples['onebit_model_loaded{model="home-q1_0"}'], 1)
            self.assertGreater(samples['onebit_weight_bytes{model="home-q1_0"}'], 100000)
            self.assertGreater(samples['onebit_broker_resident_bytes'], 1 << 20)
            self.assertEqual(samples['onebit_engine_up'], 1)
            self.assertNotIn('made-up', str(samples))
            again, _ = figures(peer, 901)
            self.assertEqual(again['onebit_metrics_reads_total'], samples['onebit_metrics_reads_total'] + 1)
            for name, value in samples.items():
                if re.match(r'\w+_total|\w+_(bucket|sum|count)', name):
                    self.assertGreaterEqual(again[name], value, name)

    def test_a_closed_connection_counts_as_cancelled_and_a_dead_engine_as_a_restart(self):
        with Daemon() as d, Peer(d) as peer:
            with Peer(d) as other:
                other.send({'type': 'generate', 'id': 1, 'prompt': 'x', 'max_tokens': 900, 'ignore_eos': True,
                            'temperature': 1.0})
                while (frame := other.receive())['type'] != 'delta':
                    self.assertNotEqual(frame['type'], 'error', frame)

            def it_is_counted():
                return figures(peer)[0].get(
                    'onebit_requests_total{model="home-q1_0",class="normal",code="cancelled"}') == 1
            wait_for(it_is_counted)
            os.kill(d.status()['runner_pid'], signal.SIGKILL)

            def it_came_back():
                samples, _ = figures(peer)
                return samples['onebit_engine_restarts_total'] == 1 and samples['onebit_engine_up'] == 1
            wait_for(it_came_back)
            samples, _ = figures(peer)
            self.assertLess(samples['onebit_availability_ratio'], 1)

    def test_refusals_by_a_rate_limit_count_by_its_name(self):
        config = f'[peer uid.{os.getuid()}]\nrights = all\nrequests_per_s = 1\nburst_s = 1\n'
        with Daemon(config=config) as d, Peer(d) as peer:
            peer.send({'type': 'generate', 'id': 1, 'prompt': 'x', 'max_tokens': 2})
            self.assertEqual(peer.until_end(1)[-1]['type'], 'done')
            refused = 0
            for number in range(2, 8):
                peer.send({'type': 'generate', 'id': number, 'prompt': 'x', 'max_tokens': 2, 'deadline_ms': 1})
                refused += peer.until_end(number)[-1].get('name') == 'rate_limited'
            self.assertGreaterEqual(refused, 1)
            self.assertEqual(figures(peer)[0]['onebit_rate_limited_total{limit="requests_per_s"}'], refused)

    def test_what_a_connection_may_not_have_open_is_counted(self):
        with Daemon(config='[limits]\nrequests_per_connection = 2\n') as d, Peer(d) as peer, Peer(d) as other:
            for number in range(1, 7):
                peer.send({'type': 'generate', 'id': number, 'prompt': 'x', 'max_tokens': 300, 'ignore_eos': True})
            ends = []
            while len(ends) < 6:
                frame = peer.receive()
                if frame['type'] in ('done', 'error'):
                    ends.append(frame)
            full = sum(end.get('name') == 'queue_full' for end in ends)
            self.assertGreaterEqual(full, 1)
            counted = sum(value for name, value in figures(other)[0].items()
                          if name.startswith('onebit_requests_total') and 'code="queue_full"' in name)
            self.assertEqual(counted, full)

    def test_an_open_breaker_shows(self):
        state = 'onebit_breaker_state{model="home-q1_0"}'
        with Daemon(runner=HOOKED_RUNNER, config='[breaker]\nfaults = 1\n') as d, Peer(d) as peer:
            peer.send({'type': 'generate', 'id': 1, 'prompt': 'x', 'max_tokens': 2})
            peer.until_end(1)
            self.assertEqual(figures(peer)[0][state], 0)
            peer.send({'type': 'generate', 'id': 2, 'prompt': '@@crash-at-prefill@@', 'max_tokens': 2})
            self.assertEqual(peer.until_end(2)[-1]['name'], 'request_crashed')
            samples, _ = figures(peer)
            self.assertEqual(samples[state], 2)
            self.assertGreaterEqual(samples['onebit_engine_restarts_total'], 2)

    def test_ps_shows_what_each_identity_holds(self):
        with Daemon() as d, Peer(d) as peer:
            peer.send({'type': 'generate', 'id': 1, 'prompt': 'x', 'max_tokens': 900, 'ignore_eos': True})
            while (frame := peer.receive())['type'] != 'delta':
                self.assertNotEqual(frame['type'], 'error', frame)
            peer.send({'type': 'ps', 'id': 2})
            own = next(i for i in peer.until_end(2)[-1]['result']['identities'] if i['uid'] == os.getuid())
            self.assertEqual((own['requests'], own['running']), (1, 1))
            self.assertGreater(own['queue_bytes'], 30)
            self.assertGreater(own['kv_bytes'], 0)
            self.assertGreaterEqual(own['tokens'], 1)
            self.assertGreaterEqual(own['prompt_tokens'], 1)
            peer.send({'type': 'cancel', 'id': 3, 'target': 1})
            peer.until_end(1)
            peer.send({'type': 'ps', 'id': 4})
            own = next(i for i in peer.until_end(4)[-1]['result']['identities'] if i['uid'] == os.getuid())
            self.assertEqual((own['requests'], own['queue_bytes'], own['kv_bytes']), (0, 0, 0))
            memory = d.status()['memory']
            self.assertGreater(memory['weight_bytes'], 100000)
            self.assertGreater(memory['broker_resident_bytes'], 1 << 20)
            self.assertEqual(memory['output_max_bytes'], 32 << 20)


class MetricsSocket(unittest.TestCase):
    """The second socket: HTTP for collectors."""

    CONFIG = '[metrics]\nsocket = {home}/m/metrics.sock\nmode = 0600\n[limits]\nframe_ms = 400\nstall_ms = 400\n'

    class Serving(Daemon):
        def set_config(self, config, runner=None):
            super().set_config(config.format(home=self.home), runner)
            self.metrics = self.home / 'm/metrics.sock'

    def serving(self):
        return self.Serving(config=self.CONFIG)

    def connect(self, d):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(PATIENCE)
        s.connect(str(d.metrics))
        return s

    def ask(self, d, data, end=False):
        """(status, headers, body) of one exchange; the daemon closes."""
        with self.connect(d) as s:
            s.sendall(data)
            if end:
                s.shutdown(socket.SHUT_WR)
            answer = b''
            while more := s.recv(65536):
                answer += more
        head, _, body = answer.partition(b'\r\n\r\n')
        first, *lines = head.decode().split('\r\n')
        return int(first.split()[1]), dict(line.split(': ', 1) for line in lines), body.decode()

    def test_a_collector_reads_the_figures(self):
        get = b'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'
        with self.serving() as d:
            self.assertEqual(d.metrics.stat().st_mode & 0o777, 0o600)
            for end in (False, True):  # a half-closed connection gets its answer, too
                status, headers, body = self.ask(d, get, end)
                self.assertEqual((status, int(headers['Content-Length'])), (200, len(body.encode())))
                self.assertEqual(headers['Content-Type'], 'text/plain; version=0.0.4; charset=utf-8')
                self.assertEqual(read(body)[0]['onebit_draining'], 0)
            status, headers, body = self.ask(d, get.replace(b'GET', b'HEAD'))
            self.assertEqual((status, body), (200, ''))
            self.assertGreater(int(headers['Content-Length']), 1000)
            if shutil.which('curl'):
                done = subprocess.run(['curl', '-sS', '--fail', '--unix-socket', d.metrics, 'http://localhost/metrics'],
                                      capture_output=True, check=True, timeout=PATIENCE)
                self.assertIn('onebit_uptime_seconds', read(done.stdout.decode())[0])
            else:
                print('SKIPPED: curl is not installed')
        self.assertFalse(d.metrics.exists(), 'the socket was left behind')

    def test_what_is_wrong_has_its_own_status(self):
        host = b'Host: localhost\r\n'
        with self.serving() as d:
            for want, data in ((400, b'GET /metrics\r\n\r\n'), (400, b'\x18\x00\x00\x00'),
                               (404, b'GET / HTTP/1.1\r\n' + host + b'\r\n'),
                               (405, b'POST /metrics HTTP/1.1\r\n' + host + b'\r\n'),
                               (431, b'GET /metrics HTTP/1.1\r\n' + host + b'X: ' + b'y' * 5000 + b'\r\n\r\n'),
                               (408, b'GET /metr')):
                status, headers, body = self.ask(d, data)
                self.assertEqual(status, want, data[:60])
                self.assertEqual(headers.get('Allow'), 'GET, HEAD' if want == 405 else None)
                self.assertEqual(headers['Connection'], 'close')
                self.assertTrue(body.startswith(str(want)))

    def test_a_few_are_served_at_once_and_more_wait_their_turn(self):
        """Method: twelve that say nothing, then one that asks; the clients' socket meanwhile."""
        with self.serving() as d:
            def accepted():  # the path is what was bound, then renamed; an end that waits has it, but no inode yet
                rows = [row.split() for row in pathlib.Path('/proc/net/unix').read_text().splitlines()]
                return sum(row[-1] == f'{d.metrics}.{d.process.pid}' and row[3] == '00000000' and row[6] != '0'
                           for row in rows)
            silent = [self.connect(d) for _ in range(12)]
            self.assertEqual(d.cli('run', 'turn on the kitchen lights').returncode, 0)
            self.assertEqual(accepted(), 4)
            status, _, _ = self.ask(d, b'GET /metrics HTTP/1.0\r\n\r\n')
            self.assertEqual(status, 200)
            for s in silent:
                self.assertTrue(s.recv(100).startswith(b'HTTP/1.1 408'))
                s.close()

    def test_one_that_never_reads_or_never_hangs_up_is_closed(self):
        with self.serving() as d:
            def sockets():
                n, here = 0, f'/proc/{d.process.pid}/fd/'
                for fd in os.listdir(here):
                    with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                        n += os.readlink(here + fd).startswith('socket:')
                return n
            d.status()
            before = sockets()
            idle = self.connect(d)
            idle.sendall(b'GET /metrics HTTP/1.0\r\n\r\n')
            flood = self.connect(d)
            with self.assertRaises(OSError):
                for _ in range(1000):
                    flood.sendall(b'GET / HTTP/1.0\r\n\r\n' + b'x' * 4096)

            def both_are_gone():
                return sockets() <= before
            wait_for(both_are_gone)
            idle.close()
            flood.close()

    def test_sockets_that_are_passed_are_known_by_their_names(self):
        activate = ('import os, socket, sys\n'
                    'for at, path in enumerate(sys.argv[1:3]):\n'
                    '    s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(8)\n'
                    '    os.dup2(s.fileno(), 10 + at)\n'
                    'for at in range(2): os.dup2(10 + at, 3 + at); os.close(10 + at); os.set_inheritable(3 + at, True)\n'
                    'os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=sys.argv[3])\n'
                    'os.execv(sys.argv[4], sys.argv[4:])\n')

        class Activated(self.Serving):
            def command(self):
                command = super().command()
                self.metrics, self.socket = self.home / 'passed-m.sock', self.home / 'passed.sock'
                return [sys.executable, '-c', activate, self.metrics, self.socket,
                        'metrics:onebitd.socket', *command]

            def stop(self):
                self.process.terminate()
                assert self.process.wait(timeout=PATIENCE) == 0, self.read_log()
        with Activated(config=self.CONFIG) as d:
            d.status()
            self.assertEqual(self.ask(d, b'GET /metrics HTTP/1.0\r\n\r\n')[0], 200)
            self.assertTrue(d.metrics.exists())


if __name__ == '__main__':
    unittest.main(verbosity=2)
