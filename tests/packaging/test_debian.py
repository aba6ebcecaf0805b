#!/usr/bin/env python3
"""The packages, as far as it takes no building of them: what packaging/debian says is sound, complete, and true of this tree."""
import fnmatch
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(os.environ.get('ONEBIT_BUILD', 'build')).resolve()
SOURCE = pathlib.Path(os.environ.get('ONEBIT_SOURCE', '.')).resolve()
DEBIAN = SOURCE / 'packaging/debian'
PACKAGES = {'onebitd', 'onebit', 'onebit-models', 'onebit-train', 'libonebit0', 'libonebit-dev'}
MULTIARCH = 'x86_64-linux-gnu'  # any will do


def said(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=SOURCE).stdout


def paragraphs(text):
    """Of a control file: a map of field and value each."""
    for block in re.split(r'\n\s*\n', text.strip()):
        fields = {}
        for line in block.splitlines():
            if line[0] in ' \t':
                fields[name] += '\n' + line.strip()
            else:
                name, value = line.split(':', 1)
                fields[name] = value.strip()
        yield fields


def lists(kind):
    """(package, pattern) of every line in debian/PACKAGE.KIND."""
    for path in sorted(DEBIAN.glob(f'*.{kind}')):
        for line in path.read_text(encoding='utf-8').splitlines():
            if line.strip() and not line.startswith('#'):
                yield path.name[:-len(kind) - 1], line.split()[0]


def takes(pattern, path):
    """Does a line of an install list take this file? A folder takes all that is in it."""
    n = pattern.count('/') + 1
    return fnmatch.fnmatchcase('/'.join(path.split('/')[:n]), pattern)


class Debian(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        """What meson would install, configured as debian/rules does it."""
        options = re.search(r'dh_auto_configure -- (.*)', (DEBIAN / 'rules').read_text(encoding='utf-8')).group(1).split()
        with tempfile.TemporaryDirectory() as home:
            env = {k: v for k, v in os.environ.items() if k not in ('CC', 'CFLAGS', 'LDFLAGS')}
            subprocess.run(['meson', 'setup', home, SOURCE, '--prefix=/usr', f'--libdir=lib/{MULTIARCH}', *options],
                           check=True, capture_output=True, env=env)
            plan = json.loads(said('meson', 'introspect', '--installed', home))
        cls.installed = sorted(p.lstrip('/') for p in plan.values())

    def test_the_changelog_begins_with_the_version_of_the_tree(self):
        version = said('dpkg-parsechangelog', '-l', DEBIAN / 'changelog', '-S', 'Version').strip()
        project = json.loads(said('meson', 'introspect', '--projectinfo', SOURCE / 'meson.build'))['version']
        self.assertEqual(re.split('[-+~]', version)[0], project)
        self.assertEqual(said('dpkg-parsechangelog', '-l', DEBIAN / 'changelog', '-S', 'Source').strip(), 'onebit')

    def test_the_maintainer_is_the_same_everywhere_and_takes_no_mail(self):
        """Goal: until the project has an address, none that could be somebody else's (CONTRIBUTING.md says why)."""
        source, *_ = paragraphs((DEBIAN / 'control').read_text(encoding='utf-8'))
        name, address = re.fullmatch(r'(.+) <(.+)>', source['Maintainer']).groups()
        self.assertEqual(said('dpkg-parsechangelog', '-l', DEBIAN / 'changelog', '-S', 'Maintainer').strip(), source['Maintainer'])
        self.assertIn(f'Copyright: 2026 {name}\n', (DEBIAN / 'copyright').read_text(encoding='utf-8'))
        self.assertTrue(address.endswith('.invalid'), address)

    def test_each_package_is_described_and_has_a_list(self):
        source, *binaries = paragraphs((DEBIAN / 'control').read_text(encoding='utf-8'))
        self.assertEqual(source['Source'], 'onebit')
        self.assertEqual({b['Package'] for b in binaries}, PACKAGES)
        for binary in binaries:
            self.assertTrue({'Architecture', 'Depends', 'Description'} <= set(binary), binary['Package'])
        self.assertEqual({p for p, _ in lists('install')}, PACKAGES)
        for path in DEBIAN.glob('*.*'):
            self.assertIn(path.name.rsplit('.', 1)[0], PACKAGES, f'{path.name} belongs to no package')

    def test_what_is_installed_is_in_one_package(self):
        """Files that lie in the tree are named as they lie there; all else comes out of meson."""
        wanted = [(package, pattern) for package, pattern in lists('install') if not (SOURCE / pattern).exists()]
        for path in self.installed:
            owners = {package for package, pattern in wanted if takes(pattern, path)}
            self.assertEqual(len(owners), 1, f'{path} is in {owners or "no package"}')
        links = {f'usr/lib/{MULTIARCH}/libonebit.so', f'usr/lib/{MULTIARCH}/libonebit.so.0'}
        for package, pattern in wanted:
            self.assertTrue(any(takes(pattern, path) for path in {*self.installed, *links}), f'{package}: nothing is {pattern}')

    def test_documents_and_examples_that_are_named_are_there(self):
        for kind in ('docs', 'examples'):
            for package, pattern in lists(kind):
                self.assertTrue(list(SOURCE.glob(pattern)), f'{package}.{kind}: nothing is {pattern}')

    def test_the_symbols_are_those_of_the_library(self):
        text = (DEBIAN / 'libonebit0.symbols').read_text(encoding='utf-8')
        listed = set(re.findall(r'^ (\S+)@ONEBIT_0 ', text, re.M))
        self.assertTrue(text.startswith('libonebit.so.0 libonebit0 '))
        table = said('nm', '-D', '--defined-only', BUILD / 'client/libonebit.so.0')
        there = {line.split()[-1].split('@')[0] for line in table.splitlines()}
        self.assertEqual(listed, there)

    def test_scripts_are_shell_and_leave_room_for_debhelper(self):
        scripts = [p for p in DEBIAN.glob('*.*') if p.suffix in ('.preinst', '.postinst', '.prerm', '.postrm')]
        self.assertTrue(scripts)
        for path in scripts:
            subprocess.run(['sh', '-n', path], check=True)
            self.assertIn('\n#DEBHELPER#\n', path.read_text(encoding='utf-8'))
            self.assertIn('\nset -e\n', path.read_text(encoding='utf-8'))

    def test_the_units_that_scripts_and_rules_name_are_installed(self):
        units = {pathlib.Path(p).name for p in self.installed if 'systemd/' in p}
        for path in (DEBIAN / 'rules', DEBIAN / 'onebitd.prerm'):
            for unit in re.findall(r'\bonebitd[\w-]*\.(?:socket|service)\b', path.read_text(encoding='utf-8')):
                self.assertIn(unit, units, path)


if __name__ == '__main__':
    for program in ('dpkg-parsechangelog', 'meson', 'nm'):
        if not shutil.which(program):
            print(f'SKIPPED: {program} is not here: packaging/debian is not looked at')
            sys.exit(77)
    unittest.main()
