#!/usr/bin/env python3
"""The daemon's figures: sound text, the right numbers, and exactly the names that the manual lists."""
import os
import re
import signal
import unittest

from harness import SOURCE, Daemon, Peer, wait_for

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


if __name__ == '__main__':
    unittest.main(verbosity=2)
