#!/usr/bin/env python3
"""The units as systemd's own tools see them. No manager has to run; where the tools are absent, this is
skipped.

systemd-analyze verify ends with 0 on keys that it does not know and on values that it ignores, so what
counts is that it says nothing at all."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ.get('ONEBIT_SOURCE', '.')).resolve()
BUILD = pathlib.Path(os.environ.get('ONEBIT_BUILD', 'build')).resolve()
UNITS = SOURCE / 'packaging/systemd'
EXPOSURE_MAX = 10  # tenths; 1.0

if not all(map(shutil.which, ('systemd-analyze', 'systemd-sysusers', 'systemd-tmpfiles'))):
    print('SKIPPED: systemd-analyze, systemd-sysusers and systemd-tmpfiles are not all here')
    sys.exit(77)


def run(*command, **kw):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=60,
                          env={'PATH': os.environ['PATH'], 'SYSTEMD_COLORS': '0', 'XDG_RUNTIME_DIR': '/run'}, **kw)


class Units(unittest.TestCase):

    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix='onebit-units-'))
        self.addCleanup(shutil.rmtree, self.home)

    def service(self, template, folder):
        """The unit with programs that are there."""
        text = (UNITS / template).read_text()
        text = text.replace('@bindir@/onebitd', str(BUILD / 'daemon/onebitd')).replace('@bindir@/onebit', '/bin/true')
        path = folder / 'onebitd.service'
        path.write_text(text)
        return path

    def laid_out(self, templates):
        folder = self.home / 'units'
        folder.mkdir(exist_ok=True)
        return [self.service(t, folder) if t.endswith('.in') else pathlib.Path(shutil.copy(UNITS / t, folder))
                for t in templates]

    def verified(self, *templates, mode='--system'):
        files = self.laid_out(templates)
        done = run('systemd-analyze', mode, 'verify', '--man=no', *files)
        said = [x for x in done.stderr.splitlines()
                if any(f.name in x or f.name.split('.')[0] in x for f in files)]
        self.assertEqual(said, [], done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_systems_units_are_accepted_without_a_word(self):
        self.verified('onebitd.service.in', 'onebitd.socket', 'onebitd-metrics.socket')

    def test_a_users_units_are_accepted_without_a_word(self):
        self.verified('user/onebitd.service.in', 'user/onebitd.socket', mode='--user')

    def test_a_wrong_key_would_have_been_noticed(self):
        """Goal: the tests above can fail. Method: a key that no version knows."""
        (path,) = self.laid_out(['onebitd.service.in'])
        path.write_text(path.read_text().replace('[Service]\n', '[Service]\nNoSuchKey=yes\n', 1))
        shutil.copy(UNITS / 'onebitd.socket', path.parent)
        self.assertIn('NoSuchKey', run('systemd-analyze', '--system', 'verify', '--man=no', path).stderr)

    def test_the_service_is_exposed_by_at_most_one_point_in_ten(self):
        (path,) = self.laid_out(['onebitd.service.in'])
        done = run('systemd-analyze', 'security', '--offline=yes', f'--threshold={EXPOSURE_MAX}', '--no-pager', path)
        print(done.stdout.strip().splitlines()[-1:])
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_what_tells_clients_apart_stays_visible(self):
        """Goal: nobody hardens away by what clients are known and memory is felt."""
        text = (UNITS / 'onebitd.service.in').read_text()
        for key in ('PrivateUsers', 'ProtectProc', 'ProcSubset', 'DynamicUser'):
            self.assertIsNone(re.search(f'^{key}=', text, re.M), key)

    def test_memory_of_the_drop_in_is_all_commented_out(self):
        lines = (UNITS / 'memory.conf').read_text().splitlines()
        self.assertEqual([x for x in lines if x and not x.startswith('#')], ['[Service]'])

    def test_the_user_and_its_group_are_made(self):
        (self.home / 'etc').mkdir()
        done = run('systemd-sysusers', '--root', self.home, UNITS / 'onebit.sysusers')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex((self.home / 'etc/passwd').read_text(), r'(?m)^onebit:x:\d+:\d+:.*:/var/lib/onebit:/usr/sbin/nologin$')
        self.assertRegex((self.home / 'etc/group').read_text(), r'(?m)^onebit:x:\d+:')

    @unittest.skipIf(os.geteuid() != 0, 'only root can give folders away')
    def test_the_folders_are_made_for_it(self):
        (self.home / 'etc').mkdir()
        made = run('systemd-sysusers', '--root', self.home, UNITS / 'onebit.sysusers')
        self.assertEqual(made.returncode, 0, made.stderr)
        done = run('systemd-tmpfiles', '--root', self.home, '--create', UNITS / 'onebit.tmpfiles')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        uid = int(re.search(r'(?m)^onebit:x:(\d+):', (self.home / 'etc/passwd').read_text()).group(1))
        for folder in ('var/lib/onebit', 'var/lib/onebit/models'):
            st = (self.home / folder).stat()
            self.assertEqual((st.st_uid, st.st_mode & 0o7777), (uid, 0o755), folder)


if __name__ == '__main__':
    unittest.main(verbosity=2)
