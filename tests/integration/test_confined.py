#!/usr/bin/env python3
"""An engine process or a packer that was taken over gets nothing: what it tries is refused or ends it, and the service goes on."""
import os
import pathlib
import tempfile
import unittest

from harness import HOOKED_RUNNER, SANITIZED, Daemon, Peer

ASK = {'type': 'generate', 'model': 'home-q1_0', 'prompt': 'turn on the kitchen lights', 'max_tokens': 4}
DEADLY = ('try-socket', 'try-exec', 'try-fork')
GOT_IT = 42  # exit status of a hooked runner that got what it tried for


def ask(daemon, words=''):
    """How a request ends, with words that the hooks know in its prompt."""
    with Peer(daemon) as peer:
        peer.send({**ASK, 'prompt': ASK['prompt'] + words, 'id': 1})
        return peer.until_end(1)[-1]


@unittest.skipIf(SANITIZED, 'SKIPPED: with a sanitizer nothing is confined')
class Confined(unittest.TestCase):

    def setUp(self):
        with Daemon() as d:
            ask(d)
            self.by = d.status()['confined']
            self.assertIn(f'confined by: {self.by}', d.read_log())
        self.assertIn(self.by, ('seccomp+landlock', 'seccomp', 'landlock', 'none'))
        if 'seccomp' not in self.by:
            self.skipTest(f'SKIPPED: this kernel confines by {self.by}')

    def test_an_engine_that_opens_a_file_is_refused_and_goes_on(self):
        with Daemon(runner=HOOKED_RUNNER) as d:
            self.assertEqual(ask(d, '@@try-open@@')['type'], 'done')
            self.assertIn('hooked: open: Operation not permitted', d.read_log())
            self.assertEqual(d.status()['runner_restarts'], 0)

    def test_an_engine_that_reaches_out_is_ended_and_another_serves(self):
        """Method: no attempt gets through, whose exit status would tell; each ends the engine by SIGSYS, and the request is known
        as one that kills it, and refused; the next one is answered. A fork is refused like a file: threads are made by the same call."""
        with Daemon(runner=HOOKED_RUNNER) as d:
            for word in DEADLY:
                with self.subTest(word=word):
                    end = ask(d, f'@@{word}@@')
                    if word != 'try-fork':
                        self.assertEqual((end['type'], end.get('name')), ('error', 'request_crashed'), end)
                    self.assertEqual(ask(d)['type'], 'done')
            log = d.read_log()
            self.assertIn('signal 31', log)
            self.assertNotIn(f'status {GOT_IT}', log)

    def test_a_packer_that_reaches_out_gets_nothing(self):
        """Method: the first packer tries at its first write. What is refused, a file and a process, changes nothing; a socket or a
        program ends it, and the request with it; when the file has changed, the next one packs."""
        with tempfile.TemporaryDirectory() as home:
            orders = pathlib.Path(home) / 'orders'
            for word in ('try-open', *DEADLY):
                with self.subTest(word=word), Daemon(runner=HOOKED_RUNNER, env={'ONEBIT_DIE_AT': str(orders)}) as d:
                    orders.write_text(f'1 {word}')
                    end = ask(d)
                    self.assertFalse(orders.exists())
                    if word in ('try-socket', 'try-exec'):
                        self.assertEqual(end['type'], 'error', end)
                        self.assertIn('signal 31', end['message'])
                        os.utime(d.models / 'home-q1_0.gguf')  # what was said of the file counts no more
                        end = ask(d)
                    self.assertEqual(end['type'], 'done', end)
                    log = d.read_log()
                    self.assertNotIn(f'status {GOT_IT}', log)
                    if word == 'try-open':
                        self.assertIn('hooked: open: Operation not permitted', log)


if __name__ == '__main__':
    unittest.main()
