#!/usr/bin/env python3
"""The broker against an engine whose every frame this test writes: continuation, blame, broken engines, back-pressure.

The engine process is a puppet: it hands its end of the seam to the test and ends when told."""
import os
import pathlib
import select
import socket
import struct
import tempfile
import unittest

from harness import PATIENCE, PUPPET_RUNNER, RUNNER, Daemon, Peer, pack, text_of, wait_for

ASK = {'type': 'generate', 'prompt': 'x', 'deadline_ms': 60000}
ABORT = 255
BODY_MAX = 8 << 20  # of a seam frame


class Life(Peer):
    """One engine process. Frames as with Peer; a descriptor sent along with `load` is dropped unread."""

    def __init__(self, control):  # pylint: disable=super-init-not-called
        self.control = control
        self.control.settimeout(PATIENCE)
        _, fds, _, _ = socket.recv_fds(control, 1, 1)
        self.s = socket.socket(fileno=fds[0])
        self.s.settimeout(PATIENCE)
        self.bytes = b''

    def receive(self):
        """The next frame that asks for something to be done; questions about memory may come any time."""
        while True:
            frame = super().receive()
            if not frame or frame['type'] != 'measure':
                return frame

    def expect(self, kind):
        """The next frame, which has to be of this type."""
        frame = self.receive()
        assert frame and frame['type'] == kind, f'want {kind}: {frame}'
        return frame

    def up(self):
        self.send({'type': 'hello', 'pack_id': 'puppet', 'cpu': 'scalar', 'n_threads': 1})
        return self

    def load(self, n_streams=4):
        load = self.expect('load')
        self.send({'type': 'loaded', 'model': load['model'], 'n_ctx': 512, 'n_streams': n_streams})
        return self

    def tokens(self, seq, index, ids, text):
        self.send({'type': 'tokens', 'seq': seq, 'index': index, 'ids': ids, 'text': text})

    def finish(self, seq):
        self.send({'type': 'finished', 'seq': seq, 'reason': 'stop'})

    def plan(self, *run):
        """Frames up to the plan that names exactly these; starts on the way are returned."""
        starts = []
        while True:
            frame = self.receive()
            assert frame, 'the seam was closed'
            if frame['type'] == 'plan' and frame['run'] == list(run):
                return starts
            if frame['type'] == 'start':
                starts.append(frame)

    def die(self, order=ABORT):
        self.s.close()
        self.control.sendall(bytes([order]))
        self.control.close()

    def drop(self):
        """The broker has ended it."""
        self.s.close()
        self.control.close()


class Seam(unittest.TestCase):

    def setUp(self):
        self.home = tempfile.TemporaryDirectory(prefix='onebit-seam-')
        self.addCleanup(self.home.cleanup)
        path = pathlib.Path(self.home.name) / 'control'
        self.listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.listener.close)
        self.listener.bind(str(path))
        self.listener.listen(16)
        self.listener.settimeout(PATIENCE)
        self.env = {'ONEBIT_PUPPET': str(path), 'ONEBIT_PUPPET_PACKER': str(RUNNER)}

    def daemon(self, config=''):
        return Daemon(runner=PUPPET_RUNNER, env=self.env, config=config)

    def life(self):
        life = Life(self.listener.accept()[0])
        self.addCleanup(life.drop)
        return life

    def ask(self, peer, number, **more):
        """A request that has been accepted: its global number."""
        peer.send({**ASK, 'id': number, **more})
        while True:
            frame = peer.receive()
            self.assertNotIn(frame['type'], ('error', 'done'), frame)
            if frame['type'] == 'accepted' and frame['id'] == number:
                return frame['request']

    def deltas(self, peer, number, n_ids):
        """Frames of one request until it has so many ids."""
        frames, have = [], 0
        while have < n_ids:
            frame = peer.receive()
            if frame['type'] == 'delta' and frame['id'] == number:
                frames.append(frame)
                have += len(frame['ids'])
        return frames

    def ids_of(self, frames):
        return [i for f in frames if f['type'] == 'delta' for i in f.get('ids', [])]

    def is_alive(self, peer, number=9000):
        peer.send({'type': 'status', 'id': number})
        self.assertEqual(peer.until_end(number)[-1]['type'], 'done')

    # ---- continuation ----

    def test_a_replay_in_other_pieces_is_cut_to_what_the_client_lacks(self):
        with self.daemon() as d, Peer(d) as peer:
            first = self.life().up()
            seq = self.ask(peer, 1)
            start = first.load().plan(seq)[0]
            self.assertNotIn('resume', start)
            first.tokens(seq, 0, [1, 2, 3], 'abc')
            first.tokens(seq, 3, [4], 'd\u00e9')
            frames = self.deltas(peer, 1, 4)
            first.die()

            second = self.life().up().load()
            start = second.plan(seq)[0]
            self.assertEqual(start['resume'], [1, 2, 3, 4])
            second.tokens(seq, 0, [1], '')
            second.tokens(seq, 1, [2, 3], 'abcd')
            second.tokens(seq, 3, [4, 5], '\u00e9X')
            second.tokens(seq, 5, [6], 'Y')
            second.finish(seq)
            frames += peer.until_end(1)
            self.assertEqual(text_of(frames), 'abcd\u00e9XY')
            self.assertEqual(self.ids_of(frames), [1, 2, 3, 4, 5, 6])
            self.assertEqual([f['index'] for f in frames if f['type'] == 'delta'][-2:], [4, 5])
            self.assertEqual((frames[-1]['type'], frames[-1]['restarts']), ('done', 1))
            self.assertIn('restarting', [f.get('phase') for f in frames])

    def test_a_death_within_a_replay_begins_it_anew(self):
        with self.daemon() as d, Peer(d) as peer:
            first = self.life().up()
            seq = self.ask(peer, 1)
            first.load().plan(seq)
            first.tokens(seq, 0, [1, 2, 3], 'abc')
            frames = self.deltas(peer, 1, 3)
            first.die()
            second = self.life().up().load()
            second.plan(seq)
            second.tokens(seq, 0, [1, 2], 'ab')
            second.die()
            third = self.life().up().load()
            self.assertEqual(third.plan(seq)[0]['resume'], [1, 2, 3])
            third.tokens(seq, 0, [1, 2, 3, 4], 'abcd')
            third.finish(seq)
            frames += peer.until_end(1)
            self.assertEqual((text_of(frames), self.ids_of(frames)), ('abcd', [1, 2, 3, 4]))
            self.assertEqual(frames[-1]['restarts'], 2)

    def test_what_an_engine_said_before_it_died_is_delivered(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life().up()
            seq = self.ask(peer, 1)
            life.load().plan(seq)
            life.tokens(seq, 0, [1, 2], 'ab')
            life.finish(seq)
            life.die()
            frames = peer.until_end(1)
            self.assertEqual((text_of(frames), frames[-1]['type']), ('ab', 'done'))

    def wrong_report(self, index, ids):
        """One of two requests is continued wrongly: it ends, the other goes on in the same engine."""
        with self.daemon() as d, Peer(d) as peer:
            first = self.life().up()
            one = self.ask(peer, 1)
            first.load().plan(one)
            two = self.ask(peer, 2)
            first.plan(one, two)
            first.tokens(one, 0, [1, 2], 'ab')
            first.tokens(two, 0, [7], 'p')
            self.deltas(peer, 1, 2)
            self.deltas(peer, 2, 1)
            first.die()
            second = self.life().up().load()
            second.plan(one, two)
            second.tokens(one, index, ids, 'zz')
            end = peer.until_end(1)[-1]
            self.assertEqual((end['name'], end['number']), ('internal', 500))
            self.assertEqual(second.expect('cancel')['seq'], one)
            second.plan(two)
            second.tokens(one, 2, [3], 'late')  # of a request that has ended: dropped
            second.tokens(two, 0, [7, 8], 'pq')
            second.finish(two)
            frames = peer.until_end(2)
            self.assertEqual((text_of(frames), frames[-1]['type']), ('q', 'done'))
            self.is_alive(peer)
            self.listener.setblocking(False)  # nobody has come to take the second engine's place
            self.assertRaises(BlockingIOError, self.listener.accept)

    def test_a_replay_that_differs_ends_its_request_and_no_other(self):
        self.wrong_report(0, [1, 9])

    def test_a_report_out_of_order_ends_its_request_and_no_other(self):
        self.wrong_report(1, [2])

    # ---- blame ----

    def test_suspects_run_alone_and_only_the_culprit_fails(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life().up()
            one = self.ask(peer, 1)
            life.load().plan(one)
            two = self.ask(peer, 2)
            life.plan(one, two)
            life.die()
            life = self.life().up().load()
            life.plan(one, two)
            life.die()
            life = self.life().up().load()  # each was worked on twice without a token: both are suspects
            self.assertEqual([s['seq'] for s in life.plan(one)], [one])
            three = self.ask(peer, 3)
            self.is_alive(peer)
            life.die()
            end = peer.until_end(1)[-1]
            self.assertEqual(end['name'], 'request_crashed')
            life = self.life().up().load()
            self.assertEqual([s['seq'] for s in life.plan(two)], [two])
            life.tokens(two, 0, [1], 'a')  # cleared
            self.assertEqual([s['seq'] for s in life.plan(two, three)], [three])
            for seq in (two, three):
                life.finish(seq)
            self.assertEqual(peer.until_end(2)[-1]['type'], 'done')
            peer.send({'type': 'ps', 'id': 50})
            self.assertEqual(peer.until_end(50)[-1]['result']['requests'], [])

    # ---- broken engines ----

    def broken(self, wire):
        """Engines that send this are ended; after five the client knows; the next good one serves."""
        with self.daemon() as d, Peer(d) as peer:
            peer.send({**ASK, 'id': 1})
            for _ in range(5):
                life = self.life()
                life.s.sendall(wire)
                self.assertIsNone(life.receive())
                life.drop()
            end = peer.until_end(1)[-1]
            self.assertEqual((end['name'], end['number']), ('engine_unavailable', 503))
            self.assertGreater(end['retry_after_ms'], 0)
            self.is_alive(peer)
            peer.send({**ASK, 'id': 2})
            life = self.life().up().load()
            frame = life.expect('start')
            life.tokens(frame['seq'], 0, [1], 'a')
            life.finish(frame['seq'])
            self.assertEqual(text_of(peer.until_end(2)), 'a')

    def test_an_engine_that_sends_garbage(self):
        self.broken(struct.pack('<I', 64) + bytes(range(190, 254)))

    def test_an_engine_that_announces_a_frame_past_the_limit(self):
        self.broken(struct.pack('<I', BODY_MAX + 1))

    def test_an_engine_that_sends_an_empty_frame(self):
        self.broken(bytes(4))

    def test_an_engine_that_speaks_before_its_hello(self):
        body = pack({'type': 'finished', 'seq': 1, 'reason': 'stop'})
        self.broken(struct.pack('<I', len(body)) + body)

    def test_an_engine_that_says_hello_twice_is_replaced(self):
        with self.daemon() as d, Peer(d) as peer:
            first = self.life().up()
            seq = self.ask(peer, 1)
            first.load().plan(seq)
            first.up()
            self.assertIsNone(first.receive())
            first.drop()
            second = self.life().up().load()
            second.plan(seq)
            second.tokens(seq, 0, [1], 'a')
            second.finish(seq)
            self.assertEqual(text_of(peer.until_end(1)), 'a')

    def test_the_file_of_kv_comes_before_the_first_request(self):
        def up_to_the_start(life):
            kinds = []
            while 'start' not in kinds:
                kinds += [k for k in [life.receive()['type']] if k != 'plan']
            return kinds

        with self.daemon(config='[cache]\nkv_bytes_disk = 1M\n') as d, Peer(d) as peer:
            first = self.life().up()
            seq = self.ask(peer, 1)
            first.load()
            self.assertEqual(up_to_the_start(first), ['spill', 'start'])
            first.die()
            second = self.life().up().load()
            self.assertEqual(up_to_the_start(second), ['spill', 'start'])
            second.plan(seq)
            second.finish(seq)
            peer.until_end(1)

    def test_what_a_dead_engine_held_is_not_told_of_the_next(self):
        with self.daemon() as d, Peer(d) as peer:
            first = self.life().up()
            seq = self.ask(peer, 1)
            first.load().plan(seq)
            first.send({'type': 'stats', 'steps': 1, 'tokens': 1, 'prompt_tokens': 1, 'step_us': 1, 'kv_bytes_used': 4096,
                        'kv_bytes_idle': 8192, 'kv_bytes_total': 1 << 20, 'weight_bytes': 1, 'n_sequences': 1})

            def kv():
                return [d.status()['memory'][f'kv_{what}_bytes'] for what in ('used', 'idle', 'total')]

            def the_figures_are_there():
                return kv() == [4096, 8192, 1 << 20]
            wait_for(the_figures_are_there)
            first.die()
            second = self.life().up().load()
            second.plan(seq)  # up, and no figures of its own yet
            self.assertEqual(kv(), [0, 0, 0])
            second.finish(seq)
            peer.until_end(1)

    def test_an_engine_that_exits_at_once(self):
        with self.daemon() as d, Peer(d) as peer:
            peer.send({**ASK, 'id': 1})
            for _ in range(5):
                self.life().die(order=3)
            self.assertEqual(peer.until_end(1)[-1]['name'], 'engine_unavailable')
            self.is_alive(peer)

    def test_an_engine_that_never_says_hello_costs_no_more_than_the_deadline(self):
        with self.daemon() as d, Peer(d) as peer:
            self.life()
            peer.send({**ASK, 'id': 1, 'deadline_ms': 200})
            self.assertEqual(peer.until_end(1)[-1]['name'], 'deadline')
            self.is_alive(peer)

    def test_a_model_that_takes_the_engine_along_is_refused(self):
        with self.daemon() as d, Peer(d) as peer:
            peer.send({**ASK, 'id': 1})
            for _ in range(2):
                life = self.life().up()
                life.expect('load')
                life.die()
            self.assertEqual(peer.until_end(1)[-1]['name'], 'internal')
            self.is_alive(peer)

    def test_the_deadline_to_the_first_token_takes_the_stream_back(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life().up()
            seq = self.ask(peer, 1, deadline_ms=400)
            life.load().plan(seq)
            self.assertEqual(peer.until_end(1)[-1]['name'], 'deadline')
            self.assertEqual(life.expect('cancel')['seq'], seq)
            life.plan()
            seq = self.ask(peer, 2, deadline_ms=400)
            life.plan(seq)
            life.tokens(seq, 0, [1], 'a')
            self.deltas(peer, 2, 1)
            self.assertEqual(select.select([peer.s], [], [], 0.6)[0], [])  # none after the first token
            life.finish(seq)
            self.assertEqual(peer.until_end(2)[-1]['type'], 'done')

    # ---- back-pressure and order ----

    def test_a_client_that_does_not_read_leaves_the_plan_until_it_does(self):
        piece, n = 'x' * 16384, 60
        config = '[limits]\noutput_soft_bytes = 64K\nstall_ms = 60000\n'
        with self.daemon(config) as d, Peer(d) as deaf, Peer(d) as other:
            life = self.life().up()
            one = self.ask(deaf, 1)
            life.load().plan(one)
            two = self.ask(other, 1)
            life.plan(one, two)
            for i in range(n):
                life.tokens(one, i, [i], piece)
            life.plan(two)
            life.tokens(two, 0, [5], 'b')
            self.assertEqual(text_of(self.deltas(other, 1, 1)), 'b')
            frames = self.deltas(deaf, 1, n)
            self.assertEqual(text_of(frames), piece * n)
            self.assertEqual(self.ids_of(frames), list(range(n)))
            life.plan(one, two)
            life.finish(one)
            life.finish(two)
            self.assertEqual(deaf.until_end(1)[-1]['type'], 'done')
            self.assertEqual(other.until_end(1)[-1]['type'], 'done')

    def test_waiting_requests_start_in_the_order_of_their_class(self):
        with self.daemon() as d, Peer(d) as peer:
            life = self.life().up()
            first = self.ask(peer, 1)
            life.load(n_streams=1).plan(first)
            low, high = self.ask(peer, 2, **{'class': 'low'}), self.ask(peer, 3, **{'class': 'high'})
            normal = self.ask(peer, 4)
            seq, order = first, []
            for _ in range(4):
                life.finish(seq)
                if len(order) == 3:
                    break
                seq = life.expect('start')['seq']
                order.append(seq)
                life.plan(seq)
            self.assertEqual(order, [high, normal, low])
            peer.until_end(2)  # the last of them

    def test_only_a_few_models_are_prepared_at_once_and_all_come(self):
        with self.daemon('[engine]\nmodels_max = 16\n') as d, Peer(d) as peer:
            source = (d.models / 'home-q1_0.gguf').read_bytes()
            for i in range(11):
                (d.models / f'copy{i}.gguf').write_bytes(source)
            life = self.life().up()
            for i in range(11):
                peer.send({'type': 'load', 'id': i + 1, 'model': f'copy{i}'})
            for i in range(11):
                life.load()
            ended = 0
            while ended < 11:
                frame = peer.receive()
                self.assertNotEqual(frame['type'], 'error', frame)
                ended += frame['type'] == 'done'

    def test_a_configuration_that_is_no_file_holds_nobody(self):
        with self.daemon() as d, Peer(d) as peer:
            self.life().up()
            d.config.unlink()
            os.mkfifo(d.config)
            d.process.send_signal(1)

            def it_is_refused():
                return 'the old one stays' in d.read_log()
            wait_for(it_is_refused)
            self.is_alive(peer)


if __name__ == '__main__':
    unittest.main(verbosity=2)
