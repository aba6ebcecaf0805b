#!/usr/bin/env python3
"""The daemon under a real systemd: its socket, readiness, watchdog, reload, drain, sandbox; restarts and deaths
under load; packages. `./dev test-systemd` builds and runs it.

    test_bed.py [--rounds N] [CASE...]

Exit code 77: this machine cannot have such a systemd; what it lacks is said."""
import glob
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
import unittest

import bed

BUILD = pathlib.Path(os.environ.get('ONEBIT_BUILD', 'build')).resolve()
SOURCE = pathlib.Path(os.environ.get('ONEBIT_SOURCE', '.')).resolve()
HOOKED = BUILD / 'tests/support/onebit-runner-hooked'
LOAD = BUILD / 'tests/systemd/load'
PROBE = BUILD / 'tests/systemd/sandbox_probe'
DROPINS = '/run/systemd/system/onebitd.service.d'
PATIENCE = 60
rounds = 100
the_bed = None


def setUpModule():
    global the_bed
    the_bed = bed.Bed(BUILD)
    the_bed.run('systemd-sysusers && systemd-tmpfiles --create onebit.conf && mkdir -p /etc/onebit')
    the_bed.run(f'install -o onebit -m 0644 {SOURCE}/models/home-q1_0.gguf /var/lib/onebit/models/')


def tearDownModule():
    the_bed.close()


def wait_for(what, seconds=PATIENCE, step=0.05):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(step)
    raise AssertionError(f'waited {seconds} s in vain for {what.__name__}\n{the_bed.journal()[-3000:]}')


class Case(unittest.TestCase):
    config = ''
    dropin = ''

    def setUp(self):
        self.configure(self.config)
        self.drop_in(self.dropin)
        the_bed.run('systemctl reset-failed; systemctl start onebitd.socket')
        self.since = the_bed.cursor()

    def tearDown(self):
        the_bed.run('systemctl stop onebitd.service onebitd.socket; systemctl reset-failed', check=False)

    def configure(self, text):
        the_bed.run(f'cat >/etc/onebit/onebit.conf <<"END"\n{text}\nEND')

    def drop_in(self, text):
        the_bed.run(f'mkdir -p {DROPINS}; cat >{DROPINS}/test.conf <<"END"\n{text}\nEND\nsystemctl daemon-reload')

    def said(self):
        the_bed.run('journalctl --sync', check=False)
        return the_bed.journal(since=self.since)

    def status(self):
        return json.loads(the_bed.run('onebit status --json').stdout)

    def pid(self):
        return int(the_bed.show('MainPID'))

    def answer(self, *words):
        return the_bed.run('onebit run ' + ' '.join(words)).stdout

    def is_active(self):
        return the_bed.show('ActiveState') == 'active'


class Service(Case):

    def test_the_socket_starts_it_and_it_answers(self):
        self.assertEqual(the_bed.show('ActiveState'), 'inactive')
        self.assertIn('light', self.answer('"turn on the kitchen lights"'))
        self.assertEqual(the_bed.show('ActiveState'), 'active')
        self.assertEqual(the_bed.run('stat -c "%a %U %G" /run/onebit.sock').stdout.strip(), '660 root onebit')
        self.assertIn(' user onebit', ' user ' + the_bed.run(f'ps -o user= -p {self.pid()}').stdout)
        loose = the_bed.run("find /var/cache/onebit -mindepth 1 -perm /077; stat -c %a /var/cache/onebit").stdout.split()
        self.assertEqual(loose, ['700'])

    def test_who_is_not_in_the_group_is_kept_out(self):
        refused = the_bed.run('setpriv --reuid 65534 --regid 65534 --clear-groups onebit status', check=False)
        self.assertEqual(refused.returncode, 77, refused)
        allowed = the_bed.run('setpriv --reuid 65534 --regid 65534 --groups $(getent group onebit | cut -d: -f3) '
                              'onebit status --json')
        self.assertNotIn('paths', json.loads(allowed.stdout))

    def test_clients_are_known_by_user_and_unit_inside_the_sandbox(self):
        self.configure('[peer default]\nrights = none\n[peer unit.voice.service]\nrights = use\n')
        nobody = 'setpriv --reuid 65534 --regid 65534 --groups $(getent group onebit | cut -d: -f3)'
        refused = the_bed.run(f'{nobody} onebit run hi', check=False)
        self.assertIn('unknown_peer', refused.stderr)
        self.assertEqual(refused.returncode, 77, refused)
        the_bed.run('printf "[Service]\\nType=oneshot\\nUser=nobody\\nSupplementaryGroups=onebit\\n'
                    'ExecStart=/usr/local/bin/onebit run hi\\n" >/run/systemd/system/voice.service; systemctl daemon-reload')
        the_bed.run('systemctl start voice.service')

    def test_models_of_a_home_folder_are_served_by_the_drop_in_of_the_manual(self):
        the_bed.run('mkdir -p /home/anna/models; cp /var/lib/onebit/models/home-q1_0.gguf /home/anna/models/anna.gguf')
        self.configure('[models]\ndir = /home/anna/models\n')
        self.drop_in('[Service]\nProtectHome=tmpfs\nBindReadOnlyPaths=/home/anna/models')
        self.assertIn('anna', the_bed.run('onebit list --names').stdout)
        self.answer('-m', 'anna', 'hi')

    def test_private_users_are_refused(self):
        self.drop_in('[Service]\nPrivateUsers=yes')
        the_bed.run('systemctl start onebitd.service', check=False)
        self.assertEqual(the_bed.show('ExecMainStatus'), '78')
        self.assertIn('PrivateUsers', self.said())

    def test_it_is_ready_when_its_pinned_model_is_warm(self):
        self.configure('[model home-q1_0]\npinned = yes\n')
        the_bed.run('systemctl start onebitd.service')
        loaded = json.loads(the_bed.run('onebit ps --json').stdout)['models']
        self.assertEqual([m['name'] for m in loaded], ['home-q1_0'])

    def test_a_wrong_configuration_is_not_tried_again_and_again(self):
        self.configure('[queue]\ntotal = many\n')
        the_bed.run('systemctl start onebitd.service', check=False)
        self.assertEqual((the_bed.show('ActiveState'), the_bed.show('ExecMainStatus'), the_bed.show('NRestarts')),
                         ('failed', '78', '0'))
        self.configure('')
        the_bed.run('systemctl reset-failed; systemctl restart onebitd.socket; onebit status')

    def test_a_reload_ends_when_it_is_in_force_or_refused(self):
        self.answer('hi')
        pid = self.pid()
        self.configure('[peer default]\nrights = none\n')
        the_bed.run('systemctl reload onebitd.service')
        self.assertIn('configuration reloaded', self.said())
        self.configure('[queue]\ntotal = many\n')
        self.assertNotEqual(the_bed.run('systemctl reload onebitd.service', check=False).returncode, 0)
        self.assertEqual((self.pid(), the_bed.show('ActiveState')), (pid, 'active'))

    def test_the_metrics_socket_is_served_when_it_is_there(self):
        the_bed.run('systemctl start onebitd-metrics.socket')
        self.addCleanup(the_bed.run, 'systemctl stop onebitd-metrics.socket', check=False)
        self.answer('hi')
        got = the_bed.run('curl -s --unix-socket /run/onebit-metrics.sock http://localhost/metrics || '
                          'python3 -c "import socket; s = socket.socket(socket.AF_UNIX); '
                          's.connect(\'/run/onebit-metrics.sock\'); s.sendall(b\'GET /metrics HTTP/1.0\\r\\n\\r\\n\'); '
                          'print(s.makefile().read())"').stdout
        self.assertIn('onebit_build_info', got)

    def test_the_engine_gives_up_more_than_the_unit_takes(self):
        """Goal: the engine's own confinement works inside the unit's. Method: the kernel's count of filters."""
        self.answer('hi')

        def filters(pid):
            return int(the_bed.run(f"sed -n 's/^Seccomp_filters:\\t*//p' /proc/{pid}/status").stdout)
        engine = self.status()['runner_pid']
        self.assertGreater(filters(engine), filters(self.pid()))
        self.assertEqual(the_bed.run(f'cat /proc/{engine}/oom_score_adj').stdout.strip(), '500')
        self.assertEqual(the_bed.run(f'cat /proc/{self.pid()}/oom_score_adj').stdout.strip(), '200')

    def test_the_loaded_unit_scores_as_the_file_does(self):
        the_bed.run('systemd-analyze security --threshold=10 --no-pager onebitd.service')


class OfAUser(unittest.TestCase):
    """A user's own manager and daemon."""
    manager = ('[Service]\nType=notify\nUser=anna\nGroup=anna\nDelegate=yes\nEnvironment=HOME=/home/anna '
               'XDG_RUNTIME_DIR=/run/user/anna\nExecStart=/lib/systemd/systemd --user\nKillMode=mixed\n')

    def as_anna(self, script, check=True):
        return the_bed.run(f'setpriv --reuid anna --regid anna --clear-groups env HOME=/home/anna '
                           f'XDG_RUNTIME_DIR=/run/user/anna bash -c {script!r}', check=check)

    def test_it_is_started_by_its_socket_and_serves_its_user_alone(self):
        the_bed.run('useradd -m anna; mkdir -p /run/user; install -d -o anna -m 0700 /run/user/anna')
        the_bed.run(f'cat >/run/systemd/system/manager-of-anna.service <<"END"\n{self.manager}\nEND\n'
                    'systemctl daemon-reload; systemctl start manager-of-anna.service')
        self.addCleanup(the_bed.run, 'systemctl stop manager-of-anna.service', check=False)
        self.as_anna(f'install -D -m 0644 {SOURCE}/models/home-q1_0.gguf ~/.local/share/onebit/models/mine.gguf')
        self.assertEqual(self.as_anna('systemctl --user is-enabled onebitd.socket', check=False).stdout.strip(), 'disabled')
        self.as_anna('systemctl --user start onebitd.socket')
        self.assertIn('light', self.as_anna('onebit run turn on the kitchen lights').stdout)
        status = json.loads(self.as_anna('onebit status --json').stdout)
        self.assertEqual(status['paths']['models'], '/home/anna/.local/share/onebit/models')
        self.assertEqual(the_bed.run('stat -c "%a %U" /run/user/anna/onebit.sock').stdout.strip(), '600 anna')
        self.as_anna('systemctl --user reload onebitd.service')
        self.as_anna('systemctl --user stop onebitd.service onebitd.socket')
        self.assertNotEqual(the_bed.run('ls /run/user/anna/onebit.sock', check=False).returncode, 0)


class Hooked(Case):
    """With an engine that obeys words in a prompt."""
    config = f'[engine]\nrunner = {HOOKED}\n[daemon]\nwedged_ms = 1600\n'

    def test_a_stop_lets_running_answers_end(self):
        client = the_bed.start('onebit', 'run', '-n', '150', '--ignore-eos', '@@sleep-ms-20-per-step@@',
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        client.stdout.read(1)
        begin = time.monotonic()
        the_bed.run('systemctl stop onebitd.service')
        out, err = client.communicate(timeout=PATIENCE)
        self.assertEqual(client.returncode, 0, err)
        self.assertGreater(time.monotonic() - begin, 1)
        self.assertEqual(the_bed.show('Result'), 'success')

    def test_a_drain_that_is_longer_than_the_units_time_is_waited_for(self):
        self.drop_in('[Service]\nTimeoutStopSec=2s')
        client = the_bed.start('onebit', 'run', '-n', '200', '--ignore-eos', '@@sleep-ms-25-per-step@@',
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        client.stdout.read(1)
        the_bed.run('systemctl stop onebitd.service')
        out, err = client.communicate(timeout=PATIENCE)
        self.assertEqual(client.returncode, 0, err)
        self.assertEqual(the_bed.show('Result'), 'success')

    def test_a_stuck_engine_is_killed_and_the_answer_goes_on(self):
        prompt = '"lights @@wedge-at-token-5@@"'
        whole = json.loads(self.answer('--json', '-n', '20', '--ignore-eos', '--temperature', '0', prompt))
        self.assertEqual(whole['restarts'], 1)
        self.assertEqual(whole['usage']['answer_tokens'], 20)
        self.assertIn('is stuck', self.said())
        self.assertEqual(the_bed.show('NRestarts'), '0')
        again = self.answer('--json', '-n', '20', '--ignore-eos', '--temperature', '0',
                            prompt.replace('@@wedge-at-token-5@@', '@@wedge-at-token-9@@'))
        self.assertEqual(json.loads(again)['restarts'], 1)


class Watchdog(Case):
    dropin = '[Service]\nWatchdogSec=2s\nTimeoutAbortSec=3s'

    def test_a_stuck_broker_is_started_again_and_who_waits_is_answered(self):
        self.answer('hi')
        pid = self.pid()
        the_bed.run(f'kill -STOP {pid}')
        text = self.answer('--json', '"turn on the kitchen lights"')
        self.assertIn('light', json.loads(text)['text'])
        self.assertNotEqual(self.pid(), pid)
        self.assertGreaterEqual(int(the_bed.show('NRestarts')), 1)

    def test_a_healthy_one_is_left_alone(self):
        self.answer('hi')
        time.sleep(5)
        self.assertEqual(the_bed.show('NRestarts'), '0')


class Sandbox(Case):
    """Goal: the unit forbids what it says. Method: a probe in the daemon's place."""

    def test_what_is_forbidden_fails_and_what_is_needed_works(self):
        the_bed.run(f'install -m 0755 {PROBE} /usr/local/bin/onebit-probe')
        self.drop_in('[Service]\nType=oneshot\nExecStart=\nExecStart=/usr/local/bin/onebit-probe in-the-unit\n'
                     'Restart=no\nWatchdogSec=0\nRestrictNamespaces=yes')
        the_bed.run('systemctl start onebitd.service')
        lines = dict(x.rsplit(' ', 1) for x in self.said().splitlines() if re.fullmatch(r'!?\w+ \d+', x))
        self.assertGreater(len(lines), 35, lines)
        allowed = [name for name, e in lines.items() if name.startswith('!') and e == '0']
        missed = [name for name, e in lines.items() if not name.startswith('!') and e != '0']
        self.assertEqual((allowed, missed), ([], []))
        for name in ('!ptrace', '!io_uring', '!userfaultfd', '!bpf', '!module', '!vm_read'):
            self.assertEqual(lines[name], '1', name)  # by the filter, not for another reason


class Load:
    """load.c, running."""

    def __init__(self, whole=4, streams=2, fresh=2):
        self.process = the_bed.start(LOAD, whole, streams, fresh, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ready = self.process.stdout.readline()
        if ready != 'ready\n':
            raise AssertionError(f'the load did not begin: {ready}{self.process.stderr.read()}')

    def end(self):
        the_bed.run('pkill -TERM -x load')  # in the bed's own process namespace
        out, err = self.process.communicate(timeout=PATIENCE * 2)
        if not out:
            raise AssertionError(f'the load died: {self.process.returncode} {err}')
        return json.loads(out), err


class Continuity(Case):

    def held(self, load, n, what):
        counts, err = load.end()
        print(f'{n} {what}: {counts}', file=sys.stderr)
        lost = {k: v for k, v in counts.items() if k in ('failed', 'wrong', 'endless', 'refused', 'unnamed') and v}
        self.assertEqual(lost, {}, err[-3000:])
        self.assertGreater(counts['answered'], n)
        self.assertEqual(the_bed.show('SubState', 'onebitd.socket'), 'running')

    def settle(self):
        wait_for(self.is_active)
        time.sleep(random.uniform(0.1, 0.8))

    def test_restarts_under_load_lose_no_answer(self):
        load = Load()
        for _ in range(rounds):
            self.settle()
            the_bed.run('systemctl restart onebitd.service')
        self.settle()
        self.held(load, rounds, 'restarts')

    def test_deaths_under_load_lose_no_answer(self):
        seed = random.randrange(1 << 32)
        dice = random.Random(seed)
        load = Load()
        killed = {'broker': 0, 'engine': 0}
        for _ in range(rounds):
            self.settle()
            who = dice.choice(('broker', 'engine'))
            name = 'onebitd' if who == 'broker' else 'onebit-runner'

            def it_is_killed():
                return the_bed.run(f'pkill -KILL -x {name}', check=False).returncode == 0
            wait_for(it_is_killed)
            killed[who] += 1
        self.settle()
        self.held(load, rounds, f'deaths (seed {seed}: {killed})')


class Packages(unittest.TestCase):
    """In a bed of its own, without what the build installs."""

    @classmethod
    def setUpClass(cls):
        cls.debs = [d for d in sorted(glob.glob(str(BUILD / 'deb/*.deb'))) if re.search(r'_(amd64|all)\.deb$', d)
                    and '-dbgsym_' not in d and '-dev_' not in d]
        if not any(pathlib.Path(d).name.startswith('onebitd_') for d in cls.debs):
            raise unittest.SkipTest(f'SKIPPED: no packages in {BUILD}/deb: make them by ./dev deb')
        cls.bed = bed.Bed()

    @classmethod
    def tearDownClass(cls):
        cls.bed.close()

    def test_install_upgrade_remove_and_purge(self):
        run, debs = self.bed.run, ' '.join(self.debs)
        run(f'dpkg -i {debs}', timeout=300)
        self.assertEqual(self.bed.show('ActiveState', 'onebitd.socket'), 'active')
        self.assertEqual(run('systemctl is-enabled onebitd.socket').stdout.strip(), 'enabled')
        run(f'ls /var/lib/onebit/models/*.gguf || install -m 0644 {SOURCE}/models/home-q1_0.gguf /var/lib/onebit/models/')
        self.assertIn('light', run('onebit run "turn on the kitchen lights"').stdout)
        # An upgrade while it runs keeps the socket: the same inode, and whoever asks meanwhile is answered.
        inode = run('stat -c %i /run/onebit.sock').stdout
        asking = self.bed.start('bash', '-c', 'while [ ! -e /run/enough ]; do onebit run --json hi >/dev/null || exit 1; '
                                'echo; done', stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        asking.stdout.readline()
        pid = self.bed.show('MainPID')
        run(f'dpkg -i {debs}', timeout=300)
        asking.stdout.readline()
        time.sleep(1)
        run('touch /run/enough')
        _, err = asking.communicate(timeout=PATIENCE)
        self.assertEqual(asking.returncode, 0, f'a request was lost while the package was upgraded: {err}')
        self.assertEqual(run('stat -c %i /run/onebit.sock').stdout, inode)
        self.assertNotEqual(self.bed.show('MainPID'), pid)
        run('echo "# mine" >>/etc/onebit/onebit.conf; touch /var/lib/onebit/models/mine.gguf')
        names = ' '.join(pathlib.Path(d).name.split('_')[0] for d in self.debs)
        run(f'dpkg --remove {names}', timeout=300)
        self.assertEqual(run('systemctl is-active onebitd.service', check=False).stdout.strip(), 'inactive')
        self.assertNotEqual(run('ls /run/onebit.sock', check=False).returncode, 0)
        run('ls /var/lib/onebit/models/mine.gguf')
        run(f'dpkg --purge {names}', timeout=300)
        left = run('ls -d /etc/onebit /var/cache/onebit /etc/systemd/system/*/onebitd* '
                   '/usr/bin/onebit* 2>/dev/null', check=False).stdout.split()
        self.assertEqual(left, [])


def main():
    global rounds
    words = sys.argv[1:]
    if '--rounds' in words:
        at = words.index('--rounds')
        rounds = int(words[at + 1])
        del words[at:at + 2]
    why = bed.lacks()
    if why:
        print(f'SKIPPED: no systemd of our own can be had here: {why}')
        sys.exit(77)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the bed is taken away on the way out
    unittest.main(argv=[sys.argv[0], *words], verbosity=2)


if __name__ == '__main__':
    main()
