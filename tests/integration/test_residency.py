#!/usr/bin/env python3
"""Many models under one budget of bytes: who is loaded, who leaves, who waits, who is refused before the fact."""
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from harness import BUILD, HOOKED_RUNNER, LAB, PATIENCE, SANITIZED, SOURCE, Daemon, Manager, Peer, wait_for

HOME = pathlib.Path(tempfile.mkdtemp(prefix='onebit-test-models-'))
NAMES = ('one', 'two', 'three')
BUDGET = '''[memory]
budget = 128M
swaps_per_minute = 120
[engine]
weights = shared
threads = 1
'''  # two of three models of 24 MB with 23 MB of scratch, and 16 MB for the programs
SLOW = ' @@sleep-ms-8-per-step@@'


def setUpModule():
    for i, name in enumerate(NAMES):
        subprocess.run([LAB, 'make', '--shape', 'llama-160m', '--format', 'Q1_0', '--seed', str(i + 1), HOME / f'{name}.gguf'],
                       check=True, stderr=subprocess.DEVNULL)


def tearDownModule():
    shutil.rmtree(HOME)


def models(*names):
    return [HOME / f'{name}.gguf' for name in names]


def loaded(d):
    return {m['name']: m for m in json.loads(d.cli('ps', '--json').stdout)['models']}


def ask(peer, number, model, text='hello', **more):
    peer.send({'type': 'generate', 'id': number, 'model': model, 'prompt': text, 'max_tokens': 3, 'ignore_eos': True,
               'deadline_ms': 600000, **more})


def answer(d, model, **more):
    """The terminal frame of one request."""
    with Peer(d) as peer:
        ask(peer, 1, model, **more)
        return peer.until_end(1)[-1]


class Residency(unittest.TestCase):

    def test_two_of_three_models_fit_and_the_third_takes_the_place_of_one(self):
        with Daemon(models=models(*NAMES), config=BUDGET) as d:
            for name in NAMES:
                self.assertEqual(answer(d, name)['type'], 'done')
            self.assertEqual(len(loaded(d)), 2)
            self.assertIn('three', loaded(d))
            self.assertIn('makes room for three', d.read_log())
            for _ in range(3):  # those that are there are asked often: what is asked once is not worth their place
                for name in loaded(d):
                    self.assertEqual(answer(d, name)['type'], 'done')
            self.assertEqual(d.read_log().count('makes room'), 1)

    def test_one_that_works_drains_before_it_leaves_and_who_waits_is_told(self):
        with Daemon(models=models(*NAMES), config=BUDGET, runner=HOOKED_RUNNER) as d, Peer(d) as peer:
            for number, name in enumerate(('one', 'two'), 1):
                ask(peer, number, name, SLOW, max_tokens=40)
            kinds = {}
            while len(kinds) < 2:
                frame = peer.receive()
                if frame['type'] == 'delta':
                    kinds[frame['id']] = True
            ask(peer, 3, 'three')
            seen = {1: [], 2: [], 3: []}
            while not all(f and f[-1]['type'] in ('done', 'error') for f in seen.values()):
                frame = peer.receive()
                seen[frame['id']].append(frame)
            for number in seen:
                self.assertEqual(seen[number][-1]['type'], 'done', seen[number][-1])
            self.assertEqual([f['answer_tokens'] for f in (seen[1][-1], seen[2][-1])], [40, 40])
            self.assertIn('loading', [f.get('phase') for f in seen[3] if f['type'] == 'progress'])

    def test_a_model_is_loaded_for_high_before_one_that_low_has_waited_for_longer(self):
        """Method: both places are taken by streams of high, which low does not displace; then both classes want another
        model, low first, and the streams end one after the other."""
        four = HOME / 'four.gguf'
        shutil.copy(HOME / 'three.gguf', four)
        self.addCleanup(four.unlink)
        with Daemon(models=[*models(*NAMES), four], config=BUDGET, runner=HOOKED_RUNNER) as d, Peer(d) as peer:
            for name in ('three', 'four'):  # packed
                self.assertEqual(answer(d, name)['type'], 'done')
            for number, name in enumerate(('one', 'two'), 1):
                ask(peer, number, name, ' @@sleep-ms-40-per-step@@', max_tokens=240, **{'class': 'high'})
            begun, told, order = set(), set(), []
            while begun != {1, 2}:
                frame = peer.receive()
                begun |= {frame['id']} if frame['type'] == 'delta' else set()
            ask(peer, 3, 'three', **{'class': 'low'})
            ask(peer, 4, 'four', **{'class': 'high'})
            while told != {3, 4}:
                frame = peer.receive()
                told |= {frame['id']} if frame.get('phase') == 'loading' else set()
            peer.send({'type': 'cancel', 'id': 11, 'target': 1})
            while not {1, 2, 3, 4} <= set(order):
                frame = peer.receive()
                if frame['type'] in ('done', 'error'):
                    order.append(frame['id'])
                    if frame['id'] == 4:
                        peer.send({'type': 'cancel', 'id': 12, 'target': 2})
                    self.assertTrue(frame['id'] not in (3, 4) or frame['type'] == 'done', frame)
            self.assertLess(order.index(4), order.index(3), order)

    def test_what_fits_not_even_alone_is_refused_with_both_figures(self):
        config = BUDGET.replace('128M', '48M')
        with Daemon(models=models('one'), config=config) as d:
            for _ in range(2):
                end = answer(d, 'one')
                self.assertEqual((end['type'], end['number'], end['name']), ('error', 507, 'model_too_big'), end)
                self.assertGreater(end['have'], end['limit'])
                self.assertEqual(end['limit'] >> 20, 31)  # the programs have theirs
            self.assertNotIn('loaded (', d.read_log())
            said = d.cli('run', '-m', 'one', 'hello')
            self.assertEqual(said.returncode, 71)
            self.assertIn(b'budget', said.stderr)

    def test_a_pinned_model_never_leaves(self):
        config = BUDGET + '[model one]\npinned = yes\n'
        with Daemon(models=models(*NAMES), config=config) as d:
            def one_is_there():
                return 'one' in loaded(d)
            wait_for(one_is_there)
            for name in ('two', 'three', 'two', 'three'):
                self.assertEqual(answer(d, name)['type'], 'done')
                self.assertEqual(set(loaded(d)), {'one', name})
            d.set_config(config + '[model two]\npinned = yes\n')
            d.reload()

            def both_are_there():
                return set(loaded(d)) == {'one', 'two'}
            wait_for(both_are_there)
            end = answer(d, 'three')
            self.assertEqual(end['number'], 507)

    def test_nobody_leaves_for_another_where_swaps_are_off(self):
        with Daemon(models=models(*NAMES), config=BUDGET.replace('= 120', '= 0')) as d:
            self.assertEqual([answer(d, name)['type'] for name in NAMES], ['done', 'done', 'error'])
            self.assertEqual(set(loaded(d)), {'one', 'two'})
            self.assertEqual(answer(d, 'one')['type'], 'done')

    def test_past_the_bound_on_swaps_a_request_is_refused_that_cannot_wait(self):
        with Daemon(models=models(*NAMES), config=BUDGET.replace('= 120', '= 1')) as d:
            self.assertEqual([answer(d, name)['type'] for name in NAMES], ['done', 'done', 'done'])
            gone = (set(NAMES) - set(loaded(d))).pop()
            end = answer(d, gone, deadline_ms=5000)
            self.assertEqual((end['number'], end['name']), (503, 'overloaded'), end)
            self.assertGreater(end['retry_after_ms'], 10000)
            self.assertLess(end['retry_after_ms'], 60000)

    def test_what_nobody_asks_for_leaves_after_its_time(self):
        config = BUDGET + '[model one]\nidle_s = 1\n[model two]\nidle_s = 0\n'
        with Daemon(models=models('one', 'two'), config=config) as d:
            for name in ('two', 'one'):
                self.assertEqual(answer(d, name)['type'], 'done')
            self.assertEqual(set(loaded(d)), {'one', 'two'})

            def one_has_left():
                return set(loaded(d)) == {'two'}
            wait_for(one_has_left)
            self.assertIn('model one: nobody has asked for it in time', d.read_log())
            self.assertEqual(answer(d, 'one')['type'], 'done')

    def test_no_option_of_a_request_changes_who_is_there(self):
        """Each option that other servers take as a reason to load anew, keep or drop a model."""
        with Daemon(models=models('one', 'two'), config=BUDGET) as d:
            self.assertEqual(answer(d, 'one')['type'], 'done')
            before = d.read_log().count('loaded (')
            for more in ({'n_ctx': 64}, {'num_ctx': 64}, {'keep_alive': 0}, {'temperature': 1.5}, {'max_tokens': 1}, {'seed': 3},
                         {'class': 'low'}, {'logprobs': 2}, {'kv': 'f32'}, {'pinned': True}, {'unload': True}):
                answer(d, 'one', **more)
                self.assertEqual(list(loaded(d)), ['one'], more)
            self.assertEqual(d.read_log().count('loaded ('), before)
            self.assertNotIn('unloaded', d.read_log())

    def test_a_pool_is_planned_so_that_others_fit(self):
        with Daemon(models=models(*NAMES), config=BUDGET) as d:
            answer(d, 'one')
            with_others = loaded(d)['one']
        with Daemon(models=models('one'), config=BUDGET) as d:
            answer(d, 'one')
            alone = loaded(d)['one']
            self.assertLess(with_others['kv_bytes'], alone['kv_bytes'])
            self.assertLessEqual(alone['kv_bytes'] + alone['weight_bytes'] + alone['scratch_bytes'], 112 << 20)
        config = BUDGET + '[model one]\nn_ctx = 1024\n'  # of which the share for three has no room
        with Daemon(models=models(*NAMES), config=config) as d:
            answer(d, 'one')
            self.assertEqual(loaded(d)['one']['n_ctx'], 1024)


def smaps(pid):
    """The sums of /proc/PID/smaps_rollup in bytes."""
    with open(f'/proc/{pid}/smaps_rollup', encoding='ascii') as f:
        fields = [line.split() for line in f.readlines()[1:]]
    return {name.rstrip(':'): int(kb) << 10 for name, kb, *_ in fields}


def memory_now(d):
    """The ledger once the engine has been looked through, which it is four times a second at most, and tells with the next
    answer."""
    for _ in range(2):
        time.sleep(0.3)
        d.status()
    return d.status()


class Limited(Daemon):
    """Without root's right to lock what it likes."""

    def command(self):
        return (['setpriv', '--bounding-set', '-ipc_lock'] if os.geteuid() == 0 else []) + super().command()


@unittest.skipIf(SANITIZED, 'SKIPPED: the sanitizers\' own memory is in no ledger')
class Ledger(unittest.TestCase):

    def check(self, d):
        """Code, stacks and tables at the start, what was allocated since, and of each model what is in memory of weights, KV
        and scratch: together the engine's Rss, within 3 %."""
        status = memory_now(d)
        memory = status['memory']
        try:
            engine, broker = smaps(status['runner_pid']), smaps(status['pid'])
        except OSError as e:
            self.skipTest(f'SKIPPED: {e}')
        parts = ('weight_resident_bytes', 'kv_resident_bytes', 'scratch_resident_bytes', 'engine_heap_bytes', 'engine_program_bytes')
        self.assertEqual(sum(memory[name] for name in parts), memory['engine_bytes'])
        self.assertLess(abs(memory['engine_bytes'] - engine['Rss']), 0.03 * engine['Rss'], (memory, engine))
        both = engine['Rss'] + broker['Rss']
        self.assertLess(abs(memory['engine_bytes'] + memory['broker_resident_bytes'] - both), 0.03 * both)
        rows = loaded(d).values()
        for name in ('resident_bytes', 'kv_resident_bytes', 'scratch_resident_bytes'):
            self.assertEqual(sum(row[name] for row in rows), memory[name if name[0] != 'r' else 'weight_' + name])
        self.assertLessEqual(memory['charged_bytes'], memory['budget_bytes'])
        return memory, engine

    def test_it_agrees_with_the_kernel_whenever_nothing_runs(self):
        with Daemon(models=models(*NAMES), config=BUDGET) as d:
            d.status()
            for round_, name in enumerate(('one', 'two', 'three', 'one')):
                for text in ('hello', 'the lamp in the kitchen ' * 8):
                    self.assertEqual(answer(d, name, text=text, max_tokens=8)['type'], 'done')
                memory, _ = self.check(d)
                self.assertEqual(memory['weight_private_bytes'], 0)
                self.assertGreater(memory['kv_resident_bytes'], 0)
                for row in loaded(d).values():
                    self.assertGreaterEqual(row['resident_bytes'], row['mapped_bytes'])  # warm, in whole pages
            self.assertIn(memory['swaps'], (1, 2))  # who leaves goes by what the loads took

    def test_it_does_so_under_load_and_nothing_fails(self):
        """bench/residency.py, small and short: what it says of waits is for a machine that is left alone."""
        said = HOME / 'said.json'
        subprocess.run([sys.executable, SOURCE / 'bench/residency.py', '--models', HOME, '--budget', '128M', '--seconds', '8',
                        '--stay', '1', '--build', BUILD, '--json', said], stdout=subprocess.DEVNULL, check=False)
        figures = json.loads(said.read_text())
        said.unlink()
        self.assertEqual(figures['failed'], [])
        self.assertGreater(len(figures['waits']), 10)
        self.assertGreater(figures['swaps'], 0)
        # Of large models it is 3 %; of these 90 MB the programs' own memory, which moves a little, is a larger part.
        self.assertLess(max(map(abs, figures['apart']), default=0), 0.06, figures['apart'])

    def test_ps_shows_it(self):
        with Daemon(models=models('one', 'two'), config=BUDGET) as d:
            for name in ('one', 'two'):
                self.assertEqual(answer(d, name)['type'], 'done')
            said = d.cli('ps', '--memory').stdout.decode()
            self.assertRegex(said, r'MODEL +HELD +MAPPED +PRIVATE +HUGE PAGES +IN MEMORY')
            self.assertRegex(said, r'(?m)^one +shared +24.1 MB +0 B +0 B +24.1 MB')
            self.assertRegex(said, r'(?m)^budget +134.2 MB$')
            full = json.loads(d.cli('ps', '--memory', '--json').stdout)
            self.assertEqual({'models', 'identities', 'memory'} - set(full), set())
            self.assertIn(f"onebit_memory_budget_bytes {128 << 20}\n", d.cli('metrics').stdout.decode())
            self.assertIn('onebit_weight_resident_bytes{model="one"} ', d.cli('metrics').stdout.decode())
            self.assertIn('planned', d.cli('top', '--once').stdout.decode())

    def test_copies_are_told_apart_and_so_are_their_huge_pages(self):
        with Daemon(models=models('one', 'two'), config=BUDGET.replace('weights = shared', 'weights = private')) as d:
            for name in ('one', 'two'):
                self.assertEqual(answer(d, name)['type'], 'done')
            memory, engine = self.check(d)
            self.assertGreater(memory['weight_private_bytes'], 2 * 20 << 20)
            self.assertLess(memory['weight_mapped_bytes'], memory['weight_private_bytes'])
            huge = sum(row['huge_bytes'] for row in loaded(d).values())
            self.assertGreaterEqual(engine['AnonHugePages'], huge)

    def locked(self, kind):
        """What is locked of a model of which all is to be, and what the kernel says of the engine."""
        with kind(models=models('one', 'two'), config=BUDGET + '[model one]\nlocked = yes\n') as d:
            for name in ('one', 'two'):
                self.assertEqual(answer(d, name)['type'], 'done')
            _, engine = self.check(d)
            rows = loaded(d)
        self.assertEqual(rows['two']['locked_bytes'], 0)
        self.assertLess(abs(rows['one']['locked_bytes'] - engine['Locked']), 2 << 20)  # whole pages
        return rows['one']['locked_bytes']

    def test_weights_are_locked_as_far_as_the_limit_allows(self):
        before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        if 0 <= before[1] < 6 << 20 or not shutil.which('setpriv'):
            self.skipTest(f'SKIPPED: RLIMIT_MEMLOCK is {before[1]}, or there is no setpriv')
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (6 << 20, before[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_MEMLOCK, before)
        part = self.locked(Limited)
        self.assertGreater(part, 1 << 20)
        self.assertLessEqual(part, 6 << 20)
        if os.geteuid() == 0:  # who is held to no limit
            self.assertGreater(self.locked(Daemon), 20 << 20)

    def test_a_decode_step_of_a_loaded_model_reads_nothing_from_the_disk(self):
        with Daemon(models=models('one'), config=BUDGET) as d:
            self.assertEqual(d.cli('load', 'one').returncode, 0)
            pid = d.status()['runner_pid']

            def major_faults():
                return int(pathlib.Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rsplit(')', 1)[1].split()[9])
            before = major_faults()
            self.assertEqual(answer(d, 'one')['type'], 'done')
            # A page of the program itself may have been dropped by the system, fresh from the linker; the weights have 6,000.
            self.assertLess(major_faults() - before, 8)


class Ready(unittest.TestCase):

    def setUp(self):
        self.manager = Manager()
        self.addCleanup(self.manager.close)

    def daemon(self, files, config):
        return Daemon(models=files, config=config, env={'NOTIFY_SOCKET': self.manager.path})

    def test_ready_is_said_when_the_pinned_models_are_warm(self):
        with self.daemon(models(*NAMES), BUDGET + '[model one]\npinned = yes\n[model three]\npinned = yes\n') as d:
            with Peer(d) as peer:  # the socket answers before
                ask(peer, 1, 'three')
                heard = self.manager.until_ready()
                self.assertEqual(set(loaded(d)), {'one', 'three'})
                self.assertEqual(peer.until_end(1)[-1]['type'], 'done')
            self.assertEqual(heard[-1]['STATUS'], 'Serving.')
            self.assertTrue(heard[:-1])
            for more in heard[:-1]:
                self.assertGreaterEqual(int(more['EXTEND_TIMEOUT_USEC']), 10 ** 7)
                self.assertRegex(more['STATUS'], r'^Loading model (one|three); [01] of 2 pinned models are warm\.$')

    def test_without_pinned_models_it_is_said_at_once(self):
        with self.daemon(models('one'), ''):
            self.assertEqual(self.manager.until_ready(), [{'READY': '1', 'STATUS': 'Serving.'}])

    def test_a_pinned_model_that_cannot_be_loaded_keeps_nobody_from_the_others(self):
        broken = HOME / 'broken.gguf'
        broken.write_bytes(b'GGUF' + b'\xff' * 5000)
        self.addCleanup(broken.unlink)
        pins = ''.join(f'[model {name}]\npinned = yes\n' for name in ('broken', 'one', 'two', 'three', 'absent'))
        with self.daemon([*models(*NAMES), broken], BUDGET + pins) as d:
            status = self.manager.until_ready()[-1]['STATUS']
            self.assertRegex(status, r'^Serving; degraded: ')
            self.assertIn('model broken: model_malformed', status)
            self.assertIn('model absent: no_model', status)
            self.assertEqual(status.count('model_too_big'), 1)  # two of three fit
            there = loaded(d)
            self.assertEqual(len(there), 2)
            for name in there:
                self.assertEqual(answer(d, name)['type'], 'done')
            d.set_config(BUDGET)
            d.reload()
            heard = [self.manager.s.recv(4096).decode() for _ in range(2)]
            self.assertIn('RELOADING=1', heard[0])
            self.assertIn('READY=1\nSTATUS=Serving.', heard[1])

    def test_the_status_follows_what_becomes_of_pinned_models(self):
        """Method: one comes into the folder after all, by hand; the engine is killed."""
        with self.daemon(models('one', 'three'), BUDGET + '[model one]\npinned = yes\n[model two]\npinned = yes\n') as d:
            self.assertEqual(self.manager.until_ready()[-1]['STATUS'], 'Serving; degraded: model two: no_model.')
            shutil.copy(HOME / 'two.gguf', d.models)
            self.assertEqual(d.cli('load', 'two').returncode, 0)
            self.manager.until_status('Serving.')
            time.sleep(1.1)  # what is over before the next sentence may be told is not told
            os.kill(d.status()['runner_pid'], signal.SIGKILL)
            heard = self.manager.until_status('Serving.')
            self.assertRegex(heard[0], r'^Loading model (one|two); [01] of 2 pinned models are warm\.$')

    def test_the_status_counts_what_a_drain_waits_for_once_a_second_at_most(self):
        with self.daemon(models('one'), BUDGET) as d, Peer(d) as peer:
            self.manager.until_ready()
            for number in range(1, 9):
                ask(peer, number, 'one', ' ' + str(number), max_tokens=8 * number, **{'class': 'low'})
            while peer.receive()['type'] != 'delta':
                pass
            begun = time.monotonic()
            d.process.terminate()
            heard = self.manager.until_status('Finishing what runs: 0 requests.', ends=d.process)
            self.assertRegex(heard[0], r'^Finishing what runs: [0-8] requests?\.$')
            self.assertLessEqual(len(heard), 2 + (time.monotonic() - begun))
            d.process.wait()


if __name__ == '__main__':
    unittest.main()
