#!/usr/bin/env python3
"""Verbs of `onebit` that look at a machine or a file: doctor, config check."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from harness import BUILD, CLI, PATIENCE, SOURCE, Daemon, wait_for

HEALTHY = {
    'proc/cpuinfo': 'processor\t: 0\nflags\t\t: fpu sse2 avx2 fma f16c avx512f\nbugs\t\t: none\n',
    'proc/meminfo': 'MemTotal:        8000000 kB\nMemFree: 1 kB\nMemAvailable:    6000000 kB\n',
    'proc/pressure/memory': 'some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n',
    'proc/swaps': 'Filename\tType\tSize\tUsed\tPriority\n/dev/zram0\tpartition\t1000\t0\t100\n',
    'proc/self/limits': 'Limit   Soft Limit  Hard Limit Units\nMax locked memory   8388608   8388608   bytes\n',
    'sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
    'sys/kernel/mm/transparent_hugepage/enabled': 'always [madvise] never\n',
    'sys/class/thermal/thermal_zone0/temp': '45600\n',
    'sys/devices/system/cpu/cpu0/cpufreq/scaling_governor': 'ondemand\n',
    'sys/devices/platform/soc/soc:firmware/get_throttled': '0\n',
    'proc/sys/kernel/osrelease': '6.12.25+rpt-rpi-v8\n',
    'proc/sys/vm/overcommit_memory': '0\n',
    'proc/sys/kernel/seccomp/actions_avail': 'kill_process kill_thread trap errno allow\n',
    'sys/kernel/security/lsm': 'capability,landlock,lockdown,yama,apparmor',
}
# What Raspberry Pi OS is like before anybody has touched it.
PI = dict(HEALTHY, **{
    'proc/cpuinfo': 'processor\t: 0\nFeatures\t: fp asimd aes atomics asimdhp asimddp\n',
    'proc/cgroups': '#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t1\t1\nmemory\t0\t1\t0\n',
    'proc/swaps': 'Filename Type Size Used Priority\n/var/swap file 524272 0 -2\n',
    'boot/firmware/cmdline.txt': 'console=tty1 root=PARTUUID=1-2 rootwait cgroup_disable=memory\n',
    'sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io pids\n',
    'sys/class/thermal/thermal_zone0/temp': '81000\n',
    'sys/devices/platform/soc/soc:firmware/get_throttled': '50005\n',
})
del PI['proc/pressure/memory']


class Board:
    """A folder that stands for / in the eyes of doctor."""

    def __init__(self, files):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix='onebit-board-'))
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root)

    def doctor(self, socket='/nonexistent/onebit.sock', *args):
        env = dict(os.environ, ONEBIT_DOCTOR_ROOT=str(self.root))
        return subprocess.run([CLI, 'doctor', '-s', socket, *args], env=env, capture_output=True, text=True,
                              timeout=PATIENCE, stdin=subprocess.DEVNULL)

    def findings(self, socket='/nonexistent/onebit.sock'):
        done = self.doctor(socket, '--json')
        said = json.loads(done.stdout)
        by_name = {f['check']: f for f in said['findings']}
        assert len(by_name) == len(said['findings']), said
        verdicts = [f['verdict'] for f in said['findings']]
        assert (said['bad'], said['warn']) == (verdicts.count('bad'), verdicts.count('warn'))
        assert done.returncode == (1 if said['bad'] else 0), done
        return by_name


class Doctor(unittest.TestCase):

    def test_a_healthy_machine_has_nothing_bad(self):
        with Daemon() as d, Board(HEALTHY) as board:
            found = board.findings(d.socket)
            machine = {'cpu', 'fma', 'psi', 'memory-cgroup', 'memory', 'huge-pages', 'swap', 'heat', 'throttle',
                       'governor', 'socket', 'access', 'version', 'daemon', 'models'}
            self.assertLessEqual(machine | {'memlock', 'configuration'}, set(found))
            wrong = {n: f for n, f in found.items() if n in machine - {'cpu'} and f['verdict'] != 'ok'}
            self.assertEqual(wrong, {})
            for finding in found.values():
                self.assertTrue(finding['verdict'] == 'ok' or 'fix' in finding or finding['check'] == 'memlock', finding)

    def test_a_raspberry_pi_is_told_the_exact_words(self):
        with Board(PI) as board:
            found = board.findings()
            for name in ('psi', 'memory-cgroup'):
                self.assertEqual(found[name]['verdict'], 'warn')
                self.assertEqual(found[name]['fix'], 'add psi=1 cgroup_enable=memory cgroup_memory=1 to the one line of '
                                                     '/boot/firmware/cmdline.txt, and reboot')
            self.assertEqual(found['throttle']['verdict'], 'bad')
            self.assertIn('0x50005', found['throttle']['says'])
            self.assertIn('81.0 degrees', found['heat']['says'])
            self.assertIn('/var/swap', found['swap']['says'])
            self.assertIn('zram', found['swap']['fix'])
            self.assertEqual(found['cpu']['says'], 'kernels: dotprod')
            self.assertEqual(found['fma']['verdict'], 'ok')
            table = board.doctor()
            self.assertEqual(table.returncode, 1)
            self.assertIn('fix: add psi=1 cgroup_enable=memory cgroup_memory=1 to the one line of', table.stdout)

    def test_only_the_word_that_is_missing_is_asked_for(self):
        cases = [({'proc/pressure/memory': HEALTHY['proc/pressure/memory']}, 'memory-cgroup', 'add cgroup_enable=memory cgroup_memory=1 to'),
                 ({'sys/fs/cgroup/cgroup.controllers': 'memory\n'}, 'psi', 'add psi=1 to')]
        for more, name, fix in cases:
            with Board(dict(PI, **more)) as board:
                found = board.findings()
                self.assertTrue(found[name]['fix'].startswith(fix), found[name])
                self.assertEqual(found[{'psi': 'memory-cgroup', 'memory-cgroup': 'psi'}[name]]['verdict'], 'ok')

    def test_each_fault_of_a_machine_is_named(self):
        cases = [
            ('cpu', {'proc/cpuinfo': 'flags : sse2 fma\n'}, 'warn', 'scalar'),
            ('cpu', {'proc/cpuinfo': 'flags : avx512f avx512bw avx512dq avx512vl avx512_vnni avx2 fma f16c\n'}, 'ok', 'avx512'),
            ('cpu', {'proc/cpuinfo': 'Features : asimd asimddp i8mm\n'}, 'ok', 'i8mm'),
            ('fma', {'proc/cpuinfo': 'flags : sse2 avx2\n'}, 'warn', 'software'),
            ('memory', {'proc/meminfo': 'MemTotal: 1000000 kB\nMemAvailable: 40000 kB\n'}, 'warn', '41 MB of 1024 MB'),
            ('huge-pages', {'sys/kernel/mm/transparent_hugepage/enabled': 'always madvise [never]\n'}, 'warn', 'off'),
            ('swap', {'proc/swaps': 'Filename\n'}, 'warn', 'no swap'),
            ('swap', {'proc/swaps': 'Filename\n/dev/mmcblk0p3 partition 1 0 -1\n'}, 'warn', '/dev/mmcblk0p3'),
            ('governor', {'sys/devices/system/cpu/cpu0/cpufreq/scaling_governor': 'powersave\n'}, 'warn', 'lowest'),
            ('throttle', {'sys/devices/platform/soc/soc:firmware/get_throttled': '20002\n'}, 'warn', 'now'),
            ('throttle', {'sys/devices/platform/soc/soc:firmware/get_throttled': '10000\n'}, 'warn', 'since the start'),
            ('memlock', {'proc/self/limits': 'Max locked memory         unlimited            unlimited\n'}, 'ok', 'as much'),
        ]
        for name, files, verdict, says in cases:
            with Board(dict(HEALTHY, **files)) as board:
                finding = board.findings()[name]
                self.assertEqual(finding['verdict'], verdict, finding)
                self.assertIn(says, finding['says'])

    def test_what_the_kernel_does_not_grant_comes_with_the_line_that_mends_it(self):
        lsm = {'sys/kernel/security/lsm': 'capability,lockdown,yama\n'}
        cases = [
            ('psi-trigger', {}, 'ok', 'permits triggers', ''),
            ('psi-trigger', {'proc/sys/kernel/osrelease': '6.1.0-28-amd64\n'}, 'warn', 'Linux 6.1 permits', 'bookworm-backports'),
            ('psi-trigger', {'proc/sys/kernel/osrelease': '5.15.148-tegra\n'}, 'warn', 'Linux 5.15 permits', 'Linux 6.5'),
            ('overcommit', {}, 'ok', 'when it is used', ''),
            ('overcommit', {'proc/sys/vm/overcommit_memory': '2\n',
                            'proc/meminfo': 'MemTotal: 9 kB\nCommitLimit: 4000000 kB\nCommitted_AS: 1000000 kB\n'}, 'warn',
             '1024 MB of 4096 MB', 'echo vm.overcommit_memory=0 | sudo tee /etc/sysctl.d/90-onebit.conf && sudo sysctl --system'),
            ('confined', {}, 'ok', 'has what confines', ''),
            ('confined', lsm, 'warn', 'not switched on', "add lsm=landlock,lockdown,yama to the kernel's command line"),
            ('confined', {**lsm, 'etc/default/grub': ''}, 'warn', 'not switched on',
             'add lsm=landlock,lockdown,yama to GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub'),
            ('confined', {'proc/sys/kernel/osrelease': '5.10.0\n'}, 'warn', 'too old', 'Linux 5.13'),
        ]
        for name, files, verdict, says, fix in cases:
            with Board(dict(HEALTHY, **files)) as board:
                finding = board.findings()[name]
                self.assertEqual(finding['verdict'], verdict, finding)
                self.assertIn(says, finding['says'])
                self.assertIn(fix, finding.get('fix', ''))
        without = dict(HEALTHY)
        del without['proc/sys/kernel/seccomp/actions_avail'], without['proc/pressure/memory']
        with Board(without) as board:
            found = board.findings()
            self.assertNotIn('psi-trigger', found)  # psi says what lacks
            self.assertIn('CONFIG_SECCOMP_FILTER=y', found['confined']['fix'])

    def test_what_came_of_it_in_the_daemon_counts_for_more_than_the_kernel(self):
        """Goal: a unit or container may forbid what the kernel has. Method: a daemon whose /proc is a test's can set no
        trigger; one whose manager forbids the looking; sanitizer builds are confined by nothing."""
        class Rooted(Daemon):
            def command(self):
                return [*super().command(), '--sysroot', board.root]

        def looked(d):
            wait_for(lambda: d.status()['machine'].get('pressure_watch'))
            return board.findings(d.socket)
        with Board(HEALTHY) as board:
            with Rooted() as d:
                found = looked(d)
                self.assertEqual(found['psi-trigger']['verdict'], 'warn')
                self.assertIn('add MemoryPressureWatch=on to [Service]', found['psi-trigger']['fix'])
                by = d.status()['confined']
                if by == 'seccomp+landlock':
                    self.assertEqual(found['confined']['says'], f'engine and packer: {by}')
                else:
                    self.assertEqual(found['confined']['verdict'], 'warn')
                    self.assertIn('SystemCallFilter=seccomp landlock_create_ruleset', found['confined']['fix'])
            with Rooted(env={'MEMORY_PRESSURE_WATCH': '/dev/null'}) as d:
                self.assertIn('remove MemoryPressureWatch=off', looked(d)['psi-trigger']['fix'])

    def test_models_that_others_may_change_or_take_away_are_named(self):
        with Board(HEALTHY) as board, Daemon() as d:
            def writers():
                return board.findings(d.socket)['models-writers']
            model, = d.models.glob('*.gguf')
            d.models.chmod(0o755)
            model.chmod(0o644)
            self.assertEqual(writers()['verdict'], 'ok')
            model.chmod(0o666)
            self.assertIn('everybody may change', writers()['says'])
            self.assertEqual(writers()['fix'], f"sudo chmod go-w '{model}'")
            d.models.chmod(0o777)
            self.assertEqual(writers()['fix'], f"sudo chmod go-w '{d.models}'")
            self.assertIn('and more', writers()['says'])
            d.models.chmod(0o755)
            model.chmod(0o664)
            if os.geteuid() == 0:  # else the group may be this user's own
                os.chown(model, 0, 65533)
                self.assertEqual(writers()['fix'], f"sudo chmod g-w '{model}', unless the group's members are meant")
                os.chown(model, 0, 0)
                self.assertEqual(writers()['verdict'], 'ok')
            self.assertNotIn('models-disk', board.findings(d.socket))
            st = os.stat(d.models).st_dev
            device = board.root / f'sys/dev/block/{os.major(st)}:{os.minor(st)}'
            device.mkdir(parents=True)
            (device / 'removable').write_text('1\n')
            found = board.findings(d.socket)['models-disk']
            self.assertEqual((found['verdict'], found['fix']), ('warn', 'move them to a fixed disk: dir in [models] of the configuration'))

    def test_a_bent_machine_neither_hangs_nor_breaks_it(self):
        """Goal: what /proc and /sys hold is outside data. Method: noise, huge files, FIFOs, folders, nothing."""
        bent = [{}, {n: b'\xff\x00\x1b]0;x\x07' * 40000 for n in PI}, {n: '' for n in PI},
                {n: 'memory 1\nflags\nMax locked memory\nMemTotal: -\n\n' for n in PI}]
        for files in bent:
            with Board(files) as board:
                found = board.findings()
                self.assertEqual(found['socket']['verdict'], 'bad')
                self.assertNotIn('\x1b', board.doctor().stdout)
        with Board(PI) as board:
            for name in PI:
                (board.root / name).unlink()
                os.mkfifo(board.root / name)
            self.assertIn('psi', board.findings())

    def test_the_way_to_the_daemon_is_checked(self):
        with Board(HEALTHY) as board, tempfile.TemporaryDirectory() as home:
            self.assertIn('no socket at', board.findings()['socket']['says'])
            stale = pathlib.Path(home) / 'stale.sock'
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(str(stale))
            self.assertIn('nobody listens', board.findings(stale)['socket']['says'])
            self.assertIn('is no socket', board.findings(home)['socket']['says'])
            with socket.socket(socket.AF_UNIX) as other: # whoever it is, it greets nobody as onebitd does
                other.bind(home + '/other.sock')
                other.listen(8)
                greeter = threading.Thread(target=lambda: other.accept()[0].sendall(b'HTTP/1.1 400\r\n\r\n'))
                greeter.start()
                self.assertIn('is no onebitd', board.findings(home + '/other.sock')['socket']['says'])
                greeter.join()
                self.assertIn('says nothing', board.findings(home + '/other.sock')['socket']['says'])
            self.assertEqual(board.findings('/' + 'x' * 200)['socket']['verdict'], 'bad')
            with Daemon(models=[SOURCE / 'models/README.md']) as d:
                self.assertIn('no model in', board.findings(d.socket)['models']['says'])

    def test_what_the_running_daemon_uses_is_checked(self):
        """Goal: not the defaults, which this daemon does not use. Method: folders and a file that change under it."""
        with Board(HEALTHY) as board, Daemon() as d:
            told = d.status()['paths']
            self.assertEqual(told, {'config': str(d.config), 'models': str(d.models), 'cache': str(d.cache),
                                    'sessions': str(d.sessions)})
            found = board.findings(d.socket)
            for name, path in (('configuration', d.config), ('cache', d.cache), ('sessions', d.sessions)):
                self.assertEqual(found[name]['verdict'], 'ok', found[name])
                self.assertIn(str(path), found[name]['says'])
            d.config.write_text('[engine]\nthreads = many\n')
            d.sessions.rmdir()
            d.sessions.write_text('a file')
            found = board.findings(d.socket)
            self.assertEqual(found['configuration']['verdict'], 'bad')
            self.assertIn('threads', found['configuration']['says'])
            self.assertIn('no folder', found['sessions']['says'])
            d.config.unlink()
            d.sessions.unlink()
            found = board.findings(d.socket)
            self.assertEqual((found['configuration']['verdict'], found['sessions']['verdict']), ('bad', 'bad'))
            self.assertIn('restart onebitd', found['sessions']['fix'])

    def test_a_daemon_without_its_engine_or_its_default_model_is_sick(self):
        with Board(HEALTHY) as board, Daemon(config='[models]\ndefault = gone\n', runner='/nonexistent/runner') as d:
            def the_engine_has_ended():
                return d.status()['runner_restarts'] > 0
            wait_for(the_engine_has_ended)
            found = board.findings(d.socket)
            self.assertEqual((found['daemon']['verdict'], found['models']['verdict']), ('bad', 'bad'))
            self.assertIn('no engine runs', found['daemon']['says'])
            self.assertIn('gone', found['models']['says'])

    def test_paths_are_told_to_root_and_the_daemons_user_alone(self):
        if os.geteuid() != 0:
            self.skipTest('SKIPPED: only root can be somebody else for a moment')
        with Daemon() as d, Board(HEALTHY) as board:
            os.chmod(d.home, 0o755)
            os.chmod(board.root, 0o755)
            os.chmod(d.socket, 0o666)
            other = {'user': 65534, 'group': 65534, 'extra_groups': []}
            os.chmod(d.socket, 0o660)
            os.chown(d.socket, 0, 0)
            done = d.cli('doctor', **other)
            self.assertIn(b'set mode = 0660 and group = onebit', done.stdout) # never: join the group root
            self.assertNotIn(b'usermod', done.stdout)
            os.chmod(d.socket, 0o666)
            said = json.loads(d.cli('status', '--json', **other).stdout)
            self.assertIn('memory', said)
            self.assertNotIn('paths', said)
            env = dict(os.environ, ONEBIT_DOCTOR_ROOT=str(board.root), HOME='/nonexistent')
            done = subprocess.run([CLI, 'doctor', '-s', d.socket], env=env, capture_output=True, text=True,
                                  timeout=PATIENCE, **other)
            self.assertIn('told to root and its own user alone', done.stdout)
            self.assertIn('not looked at', done.stdout)
            self.assertNotIn(str(d.cache), done.stdout)

    def test_a_cache_that_cannot_be_used_is_named(self):
        with Board(HEALTHY) as board, tempfile.TemporaryDirectory() as home:
            env = dict(os.environ, ONEBIT_DOCTOR_ROOT=str(board.root), HOME=home, XDG_CACHE_HOME=home + '/cache',
                       XDG_CONFIG_HOME=home, XDG_DATA_HOME=home)
            env.pop('RUNTIME_DIRECTORY', None)
            def cache():
                done = subprocess.run([CLI, 'doctor', '--json', '-s', home + '/onebit.sock'], env=env, text=True,
                                      capture_output=True, timeout=PATIENCE)
                return {f['check']: f for f in json.loads(done.stdout)['findings']}
            if os.geteuid() == 0:
                env['STATE_DIRECTORY'], env['CACHE_DIRECTORY'] = home, home + '/cache/onebit'
            self.assertIn('makes it', cache()['cache']['fix'])
            (pathlib.Path(home) / 'cache').mkdir()
            (pathlib.Path(home) / 'cache/onebit').write_text('a file')
            self.assertIn('no folder', cache()['cache']['says'])
            (pathlib.Path(home) / 'cache/onebit').unlink()
            (pathlib.Path(home) / 'cache/onebit').mkdir()
            self.assertEqual(cache()['cache']['verdict'], 'ok')
            # On a card, by what the kernel calls the device; then on a stick, by its flag.
            st = os.stat(pathlib.Path(home) / 'cache/onebit').st_dev
            device = board.root / f'sys/dev/block/{os.major(st)}:{os.minor(st)}'
            device.parent.mkdir(parents=True)
            device.symlink_to('../../devices/platform/mmc/mmcblk0/mmcblk0p2')
            self.assertIn('SD card', cache()['cache-disk']['says'])
            device.unlink()
            device.mkdir()
            (device / 'removable').write_text('1\n')
            self.assertIn('removed', cache()['cache-disk']['says'])


class Config(unittest.TestCase):

    def check(self, *args, **kw):
        return subprocess.run([CLI, 'config', 'check', *map(str, args)], capture_output=True, text=True,
                              timeout=PATIENCE, **kw)

    def test_the_daemons_own_checker_decides(self):
        right = self.check(SOURCE / 'packaging/onebit.conf')
        self.assertEqual((right.returncode, right.stderr), (0, ''), right)
        with tempfile.TemporaryDirectory() as home:
            bad = pathlib.Path(home) / 'bad.conf'
            bad.write_text('[engine]\nthreads = many\x1b[2J\n')
            done = self.check(bad)
            self.assertEqual(done.returncode, 78)
            self.assertIn('threads', done.stderr)
            self.assertIn('line 2', done.stderr)
            self.assertNotIn('\x1b', done.stderr)
            said = json.loads(self.check('--json', bad).stdout)
            self.assertEqual((said['right'], said['exit_code'], said['file']), (False, 78, str(bad)))
            self.assertIn('line 2', said['says'])
            for name in ('socket', 'metrics'): # right in itself, but not on this machine
                bad.write_text(f'[{name}]\ngroup = no-such-group\n' + 'socket = /tmp/m\n' * (name == 'metrics'))
                done = self.check(bad)
                self.assertEqual(done.returncode, 78)
                self.assertIn(f"group in [{name}]: no such group 'no-such-group'", done.stderr)
            self.assertIn('Is a directory', self.check(home).stderr)
        self.assertEqual(self.check('/nonexistent/onebit.conf').returncode, 78)
        self.assertEqual(json.loads(self.check('--json', '/dev/null').stdout)['right'], True)

    def test_without_the_daemons_program_it_says_so(self):
        with tempfile.TemporaryDirectory() as home:
            alone = shutil.copy(CLI, home)
            env = dict(os.environ, PATH='/nonexistent:relative:', LD_LIBRARY_PATH=str(BUILD / 'client'))
            done = subprocess.run([alone, 'config', 'check'], env=env, capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 69, done)
            self.assertIn('neither beside this command nor on PATH', done.stderr)
            env['PATH'] = str(BUILD / 'daemon')
            done = subprocess.run([alone, 'config', 'check', '/dev/null'], env=env, capture_output=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 0, done)

    def test_wrong_usage(self):
        for words in ([], ['drop'], ['check', 'a', 'b'], ['check', '--socket', 'x']):
            done = subprocess.run([CLI, 'config', *words], capture_output=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 64, words)


if __name__ == '__main__':
    sys.exit(unittest.main(verbosity=1))
