#!/usr/bin/env python3
"""Who may do what and how much of it: refusals by policy, rate limits, the breaker, deadlines that cannot be kept.

Other users are this process under another effective uid, so that part needs root; it is skipped loudly without."""
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import test_seam
from harness import HOOKED_RUNNER, LAB, PATIENCE, SANITIZED, Daemon, Peer, text_of, wait_for

OPEN = '[socket]\nmode = 0666\n'
LONG = 60000
AS_ROOT = os.geteuid() == 0
HURRY = {'deadline_ms': 20}


def as_user(daemon, uid, gids=()):
    """A connection of another user. The kernel notes who connects, not who uses the socket later."""
    daemon.home.chmod(0o711)
    before = os.getgroups()
    os.setgroups(list(gids))
    os.setegid(uid)
    os.seteuid(uid)
    try:
        return Peer(daemon, hello=False)
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def greet(peer):
    peer.send({'type': 'hello', 'protocol': [1, 1], 'name': 'test'})
    return peer.receive()


def ask(peer, number, **more):
    """Send a small request; returns its terminal frame and the seconds it took."""
    begun = time.monotonic()
    peer.send({'type': 'generate', 'id': number, 'prompt': 'x', 'max_tokens': 1, 'ignore_eos': True, **more})
    end = peer.until_end(number)[-1]
    return end, time.monotonic() - begun


def refusal(frame):
    return frame.get('name'), frame.get('number')


@unittest.skipUnless(AS_ROOT, 'only root can be several users')
class Users(unittest.TestCase):

    def test_who_is_not_named_is_unknown_and_who_lacks_a_right_is_forbidden(self):
        config = OPEN + ('[peer default]\nrights = none\n[peer uid.7001]\nrights = use\n[peer gid.7002]\nrights = use, metrics\n'
                         '[peer uid.7003]\nweight = 2\n')
        with Daemon(config=config) as d:
            with as_user(d, 7000) as peer:
                self.assertEqual(refusal(greet(peer)), ('unknown_peer', 401))
                self.assertIsNone(peer.receive())
            with as_user(d, 7001) as peer:
                self.assertEqual(greet(peer)['uid'], 7001)
                self.assertEqual(ask(peer, 1)[0]['type'], 'done')
                for number, message in enumerate(({'type': 'load', 'model': 'home-q1_0'}, {'type': 'unload', 'model': 'home-q1_0'},
                                                  {'type': 'metrics'}), 2):
                    peer.send({'id': number, **message})
                    self.assertEqual(refusal(peer.until_end(number)[-1]), ('forbidden', 403), message)
            with as_user(d, 7004, gids=(7002,)) as peer:
                greet(peer)
                peer.send({'type': 'metrics', 'id': 1})
                self.assertEqual(peer.until_end(1)[-1]['type'], 'done')
            with as_user(d, 7003) as peer:  # named, but with no right
                self.assertEqual(greet(peer)['type'], 'hello')
                self.assertEqual(refusal(ask(peer, 1)[0]), ('forbidden', 403))

    def test_what_others_do_is_seen_as_a_sum_alone(self):
        """Without the right metrics. Of others' requests their class, state and place are told, which is what one's own wait for."""
        slow = {'type': 'generate', 'id': 1, 'prompt': '@@sleep-ms-100-per-step@@', 'max_tokens': 300, 'ignore_eos': True,
                'deadline_ms': LONG, 'class': 'low'}
        config = OPEN + ('[engine]\nstreams_max = 2\n[peer default]\nrights = use\n[peer uid.7002]\nrights = use, metrics\n'
                         '[peer uid.7003]\nrights = use, cancel\n')

        def ps(peer):
            peer.send({'type': 'ps', 'id': 900})
            return peer.until_end(900)[-1]['result']
        with Daemon(runner=HOOKED_RUNNER, config=config) as d, as_user(d, 7000) as one, as_user(d, 7001) as other, \
                as_user(d, 7002) as watcher, as_user(d, 7003) as warden, Peer(d) as root:
            for peer in (one, other, watcher, warden):
                greet(peer)
            one.send({**slow, 'id': 1})
            while one.receive()['type'] != 'delta':
                pass
            one.send({**slow, 'id': 2})
            other.send(slow)

            def all_three_run():
                return len(ps(root)['requests']) == 3
            wait_for(all_three_run)
            told = {name: ps(peer) for name, peer in
                    (('other', other), ('watcher', watcher), ('warden', warden), ('root', root), ('one', one))}
            for name in ('watcher', 'root'):
                self.assertEqual({i['uid'] for i in told[name]['identities']}, {0, 7000, 7001, 7002, 7003})
                self.assertNotIn('others', told[name])
                self.assertEqual({(r['uid'], r['client']) for r in told[name]['requests']}, {(7000, 'test'), (7001, 'test')})
            whole = {i['uid']: i for i in told['root']['identities']}

            seen = told['other']
            self.assertEqual([i['uid'] for i in seen['identities']], [7001])
            self.assertEqual((seen['others']['identities'], seen['others']['connections']), (4, 4))
            self.assertEqual((seen['others']['requests'], seen['others']['queue_bytes']), (2, whole[7000]['queue_bytes']))
            self.assertEqual(set(seen['others']), set(seen['identities'][0]) - {'uid', 'unit'} | {'identities'})
            self.assertEqual([set(r) for r in seen['requests'] if r.get('uid') != 7001], [{'class', 'state', 'position'}] * 2)
            self.assertEqual([r['client'] for r in seen['requests'] if 'uid' in r], ['test'])
            self.assertEqual(len([r for r in told['one']['requests'] if r.get('uid') == 7000]), 2)
            self.assertEqual([i['uid'] for i in told['warden']['identities']], [7003])
            theirs = told['warden']['requests']
            self.assertEqual([set(r) for r in theirs], [{'request', 'uid', 'class', 'state', 'position'}] * 3)
            for number, r in enumerate(theirs, 1):  # which is what a cancel takes
                warden.send({'type': 'cancel', 'id': number, 'request': r['request']})
                self.assertEqual(warden.until_end(number)[-1]['type'], 'done')
            self.assertEqual(ps(root)['requests'], [])
            self.assertEqual(refusal(one.until_end(1)[-1])[0], 'cancelled')

    def test_the_commands_work_without_the_right_to_see_others(self):
        with Daemon(runner=HOOKED_RUNNER, config=OPEN) as d, Peer(d) as mine:
            mine.send({'type': 'generate', 'id': 1, 'prompt': '@@sleep-ms-100-per-step@@', 'max_tokens': 900, 'ignore_eos': True})
            while mine.receive()['type'] != 'delta':
                pass
            d.home.chmod(0o711)
            for words in (('ps',), ('ps', '--json'), ('status',), ('top', '--once', '-d', '0.1')):
                done = d.cli(*words, user=7000, group=7000, extra_groups=[])
                self.assertEqual((done.returncode, done.stderr), (0, b''), words)
                text = done.stdout.decode()
                if words == ('ps',):
                    self.assertRegex(text, r'(?m)^uid 7000 ')
                    self.assertRegex(text, r'(?m)^1 others +1 +1 ')
                    self.assertNotIn('uid 0', text)
                elif words[0] == 'top':
                    self.assertIn('others: 1, with 1 clients, 1 requests, 1 of them in the engine; KV', text)
                    self.assertRegex(text, r'(?m)^ *7000 ')

    def test_models_and_classes_are_a_matter_of_policy(self):
        config = OPEN + '[peer default]\nmodels = other\nclass = low\n[peer uid.7001]\nmodels = *\nclass = normal\n'
        with Daemon(config=config) as d, Peer(d) as root, as_user(d, 7000) as other, as_user(d, 7001) as named:
            greet(other), greet(named)
            self.assertEqual(ask(root, 1, **{'class': 'high'})[0]['type'], 'done')
            for number, model in ((1, {}), (2, {'model': 'home-q1_0'})):
                end = ask(other, number, **{'class': 'low'}, **model)[0]
                self.assertEqual(refusal(end), ('forbidden', 403))
                self.assertIn('home-q1_0', end['message'])
            end = ask(other, 3)[0]
            self.assertEqual(refusal(end), ('forbidden', 403))
            self.assertIn('low', end['message'])
            self.assertEqual(ask(named, 1)[0]['type'], 'done')
            self.assertEqual(refusal(ask(named, 2, **{'class': 'high'})[0]), ('forbidden', 403))

    def test_a_reload_takes_rights_from_who_is_connected(self):
        with Daemon(config=OPEN) as d, as_user(d, 7000) as peer:
            greet(peer)
            self.assertEqual(ask(peer, 1, **{'class': 'high'})[0]['type'], 'done')
            d.set_config(OPEN + '[peer uid.7000]\nclass = normal\n')
            d.process.send_signal(signal.SIGHUP)

            def the_class_is_refused():
                the_class_is_refused.n += 1
                return refusal(ask(peer, the_class_is_refused.n, **{'class': 'high'})[0]) == ('forbidden', 403)
            the_class_is_refused.n = 1
            wait_for(the_class_is_refused)
            self.assertEqual(ask(peer, 9000)[0]['type'], 'done')

    def test_who_waits_for_a_bucket_blocks_nobody(self):
        config = OPEN + '[peer uid.7000]\nrequests_per_s = 1\nburst_s = 1\n'
        with Daemon(config=config) as d, as_user(d, 7000) as slow, as_user(d, 7001) as free:
            greet(slow), greet(free)
            self.assertEqual(ask(slow, 1, deadline_ms=LONG)[0]['type'], 'done')
            for number in range(2, 7):
                slow.send({'type': 'generate', 'id': number, 'prompt': 'x', 'max_tokens': 1, 'class': 'high', 'deadline_ms': LONG})
            for number in range(1, 6):
                end, seconds = ask(free, number, **{'class': 'low'})
                self.assertEqual(end['type'], 'done')
                self.assertLess(seconds, 0.9 if not SANITIZED else 30)
            for number in range(2, 7):
                slow.send({'type': 'cancel', 'id': 100 + number, 'target': number})

    def test_a_queue_of_one_identity_is_bounded_by_its_own_number(self):
        self.bounded_by_its_own_number('[engine]\nstreams_max = 1\n[peer uid.7000]\nqueue_max = 2\n')

    def test_streams_that_an_identity_may_not_use_are_no_room_for_it(self):
        self.bounded_by_its_own_number('[engine]\nstreams_max = 4\n[peer uid.7000]\nrunning_max = 1\nqueue_max = 2\n')

    def bounded_by_its_own_number(self, config):
        config = OPEN + config
        with Daemon(runner=HOOKED_RUNNER, config=config) as d, as_user(d, 7000) as peer, as_user(d, 7001) as other:
            greet(peer), greet(other)
            slow = {'type': 'generate', 'prompt': '@@sleep-ms-200-per-step@@', 'max_tokens': 50, 'ignore_eos': True, 'deadline_ms': LONG}
            peer.send({**slow, 'id': 1})
            while peer.receive()['type'] != 'delta':
                pass
            for number in (2, 3, 4):
                peer.send({**slow, 'id': number})
            while True:
                frame = peer.receive()
                if frame['type'] == 'error':
                    break
            self.assertEqual((frame['id'], *refusal(frame)), (4, 'queue_full', 429))
            self.assertGreater(frame['retry_after_ms'], 0)
            other.send({**slow, 'id': 1})
            self.assertEqual(other.receive()['type'], 'accepted')


def cgroup_root():
    """A control group hierarchy that says which unit a process belongs to and that we may write to, or None."""
    for root in ('/sys/fs/cgroup', '/sys/fs/cgroup/systemd'):
        if os.access(f'{root}/cgroup.procs', os.W_OK):
            return root
    return None


@unittest.skipUnless(AS_ROOT and cgroup_root(), 'only root can make control groups, where there are any')
class Units(unittest.TestCase):

    def setUp(self):
        self.unit = f'onebit-test-{os.getpid()}.service'
        self.group = f'{cgroup_root()}/onebittest{os.getpid()}.slice/{self.unit}'
        os.makedirs(self.group)
        self.addCleanup(os.removedirs, self.group)

    def connect_from_unit(self, daemon, stay):
        """A connection made by a process of the unit, which has ended by then unless it is to stay."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                with open(f'{self.group}/cgroup.procs', 'w', encoding='ascii') as f:
                    f.write(str(os.getpid()))
                made = Peer(daemon, hello=False)
                socket.send_fds(theirs, [b'x'], [made.s.fileno()])
                if stay:
                    theirs.recv(1)
            finally:
                os._exit(0)
        theirs.close()

        def reap():
            ours.close()
            os.waitpid(pid, 0)
        fd = socket.recv_fds(ours, 1, 1)[1][0]
        if stay:
            self.addCleanup(reap)
        else:
            reap()
        peer = Peer.__new__(Peer)
        peer.s, peer.bytes = socket.socket(fileno=fd), b''
        peer.s.settimeout(PATIENCE)
        return peer

    def identities(self, peer):
        peer.send({'type': 'ps', 'id': 9999})
        return {(i['uid'], i['unit']): i for i in peer.until_end(9999)[-1]['result']['identities']}

    def config(self):
        return f'[peer unit.{self.unit}]\nclass = low\nrequests_per_s = 1\nburst_s = 1\n'

    def test_a_service_is_an_identity_of_its_own(self):
        with Daemon(config=self.config()) as d, Peer(d) as mine, self.connect_from_unit(d, True) as unit:
            greet(unit)
            self.assertEqual(refusal(ask(unit, 1)[0]), ('forbidden', 403))  # root, but named
            self.assertEqual(ask(mine, 1, **{'class': 'high'})[0]['type'], 'done')
            self.assertEqual(ask(unit, 2, **{'class': 'low'}, deadline_ms=LONG)[0]['type'], 'done')
            self.assertEqual(refusal(ask(unit, 3, **{'class': 'low'}, **HURRY)[0]), ('rate_limited', 429))
            self.assertEqual(ask(mine, 2)[0]['type'], 'done')
            self.assertEqual(self.identities(mine)[0, self.unit]['connections'], 1)

    def test_a_process_that_is_gone_lends_its_unit_to_nobody(self):
        """Its number may be another's by now. The daemon is stopped until the process has ended."""
        with Daemon(config=self.config()) as d, Peer(d) as mine:
            d.process.send_signal(signal.SIGSTOP)
            try:
                unit = self.connect_from_unit(d, False)
            finally:
                d.process.send_signal(signal.SIGCONT)
            with unit:
                greet(unit)
                self.assertEqual(ask(unit, 1, **{'class': 'high'})[0]['type'], 'done')
                self.assertNotIn((0, self.unit), self.identities(mine))


class Expectations(unittest.TestCase):

    def test_the_expected_quantization_is_known_and_met_or_refused(self):
        with Daemon() as d, Peer(d) as peer:
            number = 0
            for name in ('binary', 'takane-1bit', 'Q1_0', 'q1_0'):
                number += 1
                end = ask(peer, number, quantization=name)[0]
                self.assertEqual((end['type'], end['quantization'], end['formats'].split('+')[0]), ('done', 'binary', 'Q1_0'), name)
                self.assertTrue(end['kv'] and end['cpu'])
            for name in ('ternary', 'bitnet-1.58', 'int4', 'int8', 'f16', 'f32', 'mixed', 'gptq-4bit', 'awq-8bit', 'Q8_0', 'I2_S'):
                number += 1
                end = ask(peer, number, quantization=name)[0]
                self.assertEqual(refusal(end), ('quantization_mismatch', 409), name)
                self.assertIn('binary', end['message'])
            for name in ('int9', 'Binary', 'q1', 'binary '):
                number += 1
                end = ask(peer, number, quantization=name)[0]
                self.assertEqual(refusal(end), ('unknown_quantization', 400), name)
                for valid in ('takane-1bit', 'bitnet-1.58', 'gptq-4bit', 'awq-8bit', 'mixed'):
                    self.assertIn(valid, end['message'])


    def test_files_that_say_how_they_were_made_have_names_of_their_own(self):
        with tempfile.TemporaryDirectory() as home:
            home = pathlib.Path(home)
            (home / 'text').write_text('turn the lights in the kitchen on, and those in the hall off\n' * 40)
            subprocess.run([LAB, 'make', '--shape', 'tiny', '--format', 'F32', home / 'float.gguf'], check=True)
            calibrate = ['--calibrate', home / 'text', '--ctx', '64', '--tokens', '256']
            files = {'gptq': ('Q4_0', 'gptq-4bit', 'int4'), 'awq': ('Q8_0', 'awq-8bit', 'int8'),
                     'rounding': ('Q4_0', 'int4', 'int4')}
            for method, (fmt, _, _) in files.items():
                subprocess.run([LAB, 'quantize', home / 'float.gguf', home / f'{method}.gguf', '--method', method,
                                '--format', fmt, *(calibrate if method != 'rounding' else [])], check=True,
                               stdout=subprocess.DEVNULL)
            with Daemon(models=[home / f'{method}.gguf' for method in files]) as d, Peer(d) as peer:
                for number, (method, (_, name, family)) in enumerate(files.items()):
                    for i, expected in enumerate((name, family)):
                        end = ask(peer, 10 * number + i + 1, model=method, quantization=expected)[0]
                        self.assertEqual((end['type'], end.get('quantization')), ('done', name), end)
                    other = 'awq-8bit' if method != 'awq' else 'gptq-4bit'
                    end = ask(peer, 10 * number + 5, model=method, quantization=other)[0]
                    self.assertEqual(refusal(end), ('quantization_mismatch', 409), end)
                end = ask(peer, 99, model='rounding', quantization='gptq-4bit')[0]
                self.assertEqual(refusal(end), ('quantization_mismatch', 409), end)


class Rates(unittest.TestCase):

    def limited(self, end, limit, within_ms):
        self.assertEqual(refusal(end), ('rate_limited', 429), end)
        self.assertTrue(end['retryable'])
        self.assertIn(f' {limit} ', end['message'])
        self.assertTrue(0 < end['retry_after_ms'] <= within_ms, end)

    def test_requests_per_second_wait_or_are_refused_by_their_deadline(self):
        with Daemon(config='[peer default]\nrequests_per_s = 1\nburst_s = 2\n') as d:
            with Peer(d) as peer:
                ask(peer, 1, deadline_ms=LONG)
                begun = time.monotonic()
                ask(peer, 2, deadline_ms=LONG)
                end, seconds = ask(peer, 3, **HURRY)
                self.limited(end, 'requests_per_s', 1001)
            with Peer(d) as again:  # connecting anew fills no bucket
                end, seconds = ask(again, 1, **HURRY)
                self.limited(end, 'requests_per_s', 1001)
                end, seconds = ask(again, 2, deadline_ms=LONG)
                self.assertEqual(end['type'], 'done')
                self.assertGreater(time.monotonic() - begun, 0.5)
                self.assertGreater(end['queue_us'], 100000)

    def test_a_refusal_takes_less_than_five_milliseconds(self):
        with Daemon(config='[peer default]\nrequests_per_s = 1\nburst_s = 1\n') as d, Peer(d) as peer:
            ask(peer, 1, deadline_ms=LONG)
            times = []
            for number in range(2, 200):
                end, seconds = ask(peer, number, deadline_ms=0)
                if end['type'] == 'error':
                    times.append(seconds)
            times.sort()
            self.assertGreater(len(times), 100)
            self.assertLess(times[len(times) // 2], 0.005 if not SANITIZED else 1)

    def test_what_was_not_used_comes_back(self):
        """An answer of a few tokens was charged 900 of 1,000: more of them follow at once."""
        soon = list('aeioulnrst ,:{"')  # whatever the model says, it says one of these before long
        with Daemon(config='[peer default]\ntokens_per_s = 20\nburst_s = 50\n', runner=HOOKED_RUNNER) as d, Peer(d) as peer:
            peer.send({'type': 'generate', 'id': 1, 'prompt': 'x', 'max_tokens': 900, 'ignore_eos': True, 'deadline_ms': LONG,
                       'stop': ['@@sleep-ms-20-per-step@@']})  # a word to the engine's hooks: most is left when it ends
            while peer.receive()['type'] != 'delta':
                pass
            end = ask(peer, 2, max_tokens=300, **HURRY)[0]
            self.limited(end, 'tokens_per_s', 50000)
            peer.send({'type': 'cancel', 'id': 3, 'target': 1})
            peer.until_end(1)
            for number in range(4, 9):  # without the return each would wait 45 s
                end = ask(peer, number, max_tokens=900, stop=soon, deadline_ms=2000)[0]
                self.assertEqual(end['type'], 'done', end)

    def test_a_daily_quota_lasts_until_midnight(self):
        with Daemon(config='[peer default]\ntokens_per_day = 100\n') as d, Peer(d) as peer:
            self.assertEqual(ask(peer, 1, max_tokens=90)[0]['type'], 'done')
            end = ask(peer, 2, max_tokens=90)[0]
            self.limited(end, 'tokens_per_day', 86400001)

    def test_limits_of_all_together_are_named_so(self):
        for key, value, limit in (('requests_per_s', 1, 'global requests_per_s'), ('tokens_per_day', 5, 'global tokens_per_day')):
            with Daemon(config=f'[rates]\n{key} = {value}\nburst_s = 1\n') as d, Peer(d) as peer:
                ask(peer, 1, deadline_ms=LONG, max_tokens=8)
                self.limited(ask(peer, 2, max_tokens=8, **HURRY)[0], limit, 86400001)

    def test_who_still_waits_when_the_deadline_comes_learns_of_the_limit(self):
        """The wait looked short enough, then the limit was lowered."""
        with Daemon(config='[peer default]\nrequests_per_s = 1\nburst_s = 1\n') as d, Peer(d) as peer:
            ask(peer, 1, deadline_ms=LONG)
            for number in (2, 3, 4):
                peer.send({'type': 'generate', 'id': number, 'prompt': 'x', 'max_tokens': 1, 'deadline_ms': 3500})
            for _ in range(3):  # the last one's turn is in three seconds
                while peer.receive()['type'] != 'accepted':
                    pass
            d.set_config('[peer default]\ntokens_per_day = 1\n')
            d.process.send_signal(signal.SIGHUP)
            self.limited(peer.until_end(4)[-1], 'tokens_per_day', 86400001)

    def test_running_requests_of_one_identity_are_capped(self):
        with Daemon(runner=HOOKED_RUNNER, config='[peer default]\nrunning_max = 2\n') as d, Peer(d) as peer:
            for number in range(1, 6):
                peer.send({'type': 'generate', 'id': number, 'prompt': '@@sleep-ms-50-per-step@@', 'max_tokens': 400,
                           'ignore_eos': True, 'deadline_ms': LONG})
            for _ in range(40):
                peer.receive()
            peer.send({'type': 'ps', 'id': 100})
            while True:
                frame = peer.receive()
                if frame.get('id') == 100:
                    break
            states = [r['state'] for r in frame['result']['requests']]
            self.assertEqual(sum(s in ('decode', 'prefill') for s in states), 2, states)
            self.assertEqual(len(states), 5)


class Deadlines(unittest.TestCase):

    def test_what_cannot_be_in_time_is_refused_at_once(self):
        with Daemon(runner=HOOKED_RUNNER, config='[engine]\nstreams_max = 1\n') as d, Peer(d) as peer:
            prompt = '@@sleep-ms-300-per-step@@ ' + 'word ' * 150
            ask(peer, 1, prompt=prompt, deadline_ms=LONG, no_cache=True)  # now it knows how fast prompts are
            for number in (2, 3, 4):
                peer.send({'type': 'generate', 'id': number, 'prompt': prompt, 'max_tokens': 1, 'deadline_ms': LONG})
            end, seconds = ask(peer, 5, prompt=prompt, deadline_ms=300)
            self.assertEqual(refusal(end), ('deadline', 504), end)
            self.assertIn('expected', end['message'])
            self.assertGreater(end['retry_after_ms'], 0)
            self.assertLess(seconds, 0.25 if not SANITIZED else 10)


class Breaker(unittest.TestCase):
    """With an engine whose words are the test's own."""
    setUp = test_seam.Seam.setUp
    daemon = test_seam.Seam.daemon
    life = test_seam.Seam.life
    ask = test_seam.Seam.ask

    def failed(self, life, peer, number, code):
        seq = self.ask(peer, number)
        life.plan(seq)
        life.send({'type': 'failed', 'seq': seq, 'code': code, 'message': 'by the test'})
        end = peer.until_end(number)[-1]
        self.assertEqual(end['name'], code)

    def refused(self, peer, number):
        end = ask(peer, number)[0]
        self.assertEqual(refusal(end), ('breaker_open', 503), end)
        self.assertTrue(end['retryable'])
        return end['retry_after_ms']

    def test_it_opens_probes_and_closes(self):
        with self.daemon('[breaker]\nopen_ms = 1500\n') as d, Peer(d) as peer:
            life = self.life().up()
            seq = self.ask(peer, 1)
            life.load().plan(seq)
            life.send({'type': 'failed', 'seq': seq, 'code': 'not_finite', 'message': 'by the test'})
            peer.until_end(1)
            for number in (2, 3, 4):
                self.failed(life, peer, number, 'not_finite')
            for number in range(5, 12):  # a client's own mistakes are no faults, and no successes
                self.failed(life, peer, number, 'context_too_long')
            self.failed(life, peer, 12, 'internal')
            wait = self.refused(peer, 13)
            self.assertTrue(1000 <= wait <= 1501, wait)
            time.sleep(wait / 1000)
            probe = self.ask(peer, 14)
            life.plan(probe)
            self.refused(peer, 15)  # one probe alone
            life.send({'type': 'failed', 'seq': probe, 'code': 'not_finite', 'message': 'again'})
            peer.until_end(14)
            time.sleep(self.refused(peer, 16) / 1000)
            probe = self.ask(peer, 17)
            life.plan(probe)
            peer.send({'type': 'cancel', 'id': 18, 'target': 17})  # says nothing about the model
            peer.until_end(17)
            peer.until_end(18)
            probe = self.ask(peer, 19)
            life.plan(probe)
            life.tokens(probe, 0, [1], 'a')
            life.finish(probe)
            self.assertEqual(text_of(peer.until_end(19)), 'a')
            for number in range(20, 24):  # closed, and the count begins anew
                self.failed(life, peer, number, 'not_finite')
            seq = self.ask(peer, 30)
            life.plan(seq)
            life.finish(seq)
            self.assertEqual(peer.until_end(30)[-1]['type'], 'done')
            self.assertIn('rests', d.read_log())

    def test_requests_that_crash_the_engine_open_it_for_their_model(self):
        with Daemon(runner=HOOKED_RUNNER, config='[breaker]\nfaults = 2\n') as d, Peer(d) as peer:
            for number in (1, 2):
                end = ask(peer, number, prompt=f'@@crash-at-prefill@@ {number}', deadline_ms=LONG)[0]
                self.assertEqual(refusal(end), ('request_crashed', 500))
            end = ask(peer, 3)[0]
            self.assertEqual(refusal(end), ('breaker_open', 503))
            self.assertTrue(1 < end['retry_after_ms'] <= 30001)


if __name__ == '__main__':
    if not AS_ROOT:
        print('SKIPPED: the tests with several users need root', file=sys.stderr)
    elif not cgroup_root():
        print('SKIPPED: the tests with units need a writable control group', file=sys.stderr)
    unittest.main(verbosity=2)
