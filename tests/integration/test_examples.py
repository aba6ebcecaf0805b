#!/usr/bin/env python3
"""Every example in the manual pages, in docs/client.md, docs/operations.md, docs/memory.md and docs/deploy-*.md is run, as a reader would, page by page.

A daemon of the test's own, with the shipped model, stands behind the user's default socket; onebitd, onebit
and onebit-lab are on PATH; the home folder, in which the examples run one after the other, is private.

Examples are `.EX` to `.EE`, `.Bd -literal` to `.Ed` and `.Dl` of manual pages, and fenced blocks of
Markdown. A fence names its kind, and so does a comment line before an example of a page, `.\\" example: KIND`:

    sh          run by bash, and has to end with 0; the kind of a page's examples without a comment
    conf        a configuration: `onebitd --check` has to find it right
    c           a whole program: compiled against libonebit and run, and has to end with 0
    c-part      a piece of one: compiled inside a function that has `conn`, `user` and `r`
    text        nothing that could be run: output, a picture

`not run: REASON` instead of, or behind, the kind is for what a test cannot do (`sudo`, systemd): its syntax is
checked all the same."""
import os
import pathlib
import re
import subprocess
import sys
import unittest

from harness import BUILD, PATIENCE, SANITIZED, SOURCE, Daemon

PAGES = sorted((SOURCE / 'packaging/man').glob('*.[1-8]')) + \
    [SOURCE / 'docs' / name for name in ('client.md', 'operations.md', 'memory.md', 'deploy-raspberry-pi.md', 'deploy-jetson.md')]
KINDS = ('sh', 'conf', 'c', 'c-part', 'text')
ROFF = {r'\-': '-', r'\e': '\\', r'\&': '', r'\(aq': "'", r'\(dq': '"', r'\(ti': '~', r'\(ha': '^', r'\(ga': '`',
        r'\\': '\\', r'\ ': ' ', r'\[aq]': "'", r'\[dq]': '"', r'\[ti]': '~', r'\[ha]': '^', r'\[ga]': '`'}
PART = '''#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <onebit.h>
int part(struct onebit_conn *conn, void *user);
int part(struct onebit_conn *conn, void *user)
{
    int r = 0;
    (void)conn; (void)user;
#line 1 "a piece"
%s
    return r;
}
'''


class Example:
    def __init__(self, name, line, word, text):
        self.where = f'{name}:{line}'
        kind, marked, reason = word.partition('not run:')
        self.kind = kind.strip() or 'sh'
        self.reason = reason.strip()
        self.marked = bool(marked)
        self.text = text
        assert self.kind in KINDS, f'{self.where}: "{self.kind}" is none of {KINDS}'
        assert not self.marked or self.reason, f'{self.where}: "not run:" wants a reason'


def unroff(line):
    line = re.sub(r'\\f(?:\[\w*\]|\(..|.)', '', line)
    return re.sub(r'\\(?:\[\w+\]|\(..|.)', lambda m: ROFF[m[0]], line)


def of_manual(name, text):
    lines = text.splitlines()
    at, word, section = 0, '', ''
    while at < len(lines):
        line, start = lines[at], at + 1
        at += 1
        if said := re.match(r'\.\\" (?:example: (.*)|(not run:.*))', line):
            word = said[1] or said[2]
            continue
        if line.startswith(('.SH ', '.Sh ')):
            section = line[4:].strip('"')
        if line.startswith('.Dl '):
            yield Example(name, start, word, unroff(line[4:]) + '\n')
        elif re.match(r'\.(EX|Bd -literal|Bd -unfilled)', line):
            end = '.EE' if line.startswith('.EX') else '.Ed'
            body = []
            while not lines[at].startswith(end):
                body.append(unroff(lines[at]))
                at += 1
            yield Example(name, start, word, '\n'.join(body) + '\n')
        else:
            assert section == 'SYNOPSIS' or line != '.nf', f'{name}:{start}: .EX says that it is an example, .nf does not'
        word = ''


def of_markdown(name, text):
    for m in re.finditer(r'^( *)```(.*)\n((?:.*\n)*?)\1```$', text, re.M):
        word = m[2].strip()
        line = text[:m.start()].count('\n') + 1
        assert word, f'{name}:{line}: a fence without a kind'
        body = ''.join(l[len(m[1]):] if l.strip() else '\n' for l in m[3].splitlines(True))
        yield Example(name, line, word, body)


def examples(name, text):
    return list((of_markdown if name.endswith('.md') else of_manual)(name, text))


class Reader:
    """Somebody who tries every example of a page."""

    def __init__(self, daemon):
        self.home = daemon.home
        run = self.home / 'run'
        run.mkdir(mode=0o700, exist_ok=True)
        (run / 'onebit.sock').symlink_to(daemon.socket)
        programs = ':'.join(str(BUILD / d) for d in ('client', 'daemon', 'engine'))
        self.env = {'HOME': str(self.home), 'XDG_RUNTIME_DIR': str(run), 'PATH': f'{programs}:{os.environ["PATH"]}',
                    'LC_ALL': 'C.UTF-8', 'MODELS': str(SOURCE / 'models'), 'LD_LIBRARY_PATH': str(BUILD / 'client'),
                    'PKG_CONFIG_PATH': str(BUILD / 'meson-uninstalled')}

    def run(self, *words, text=''):
        return subprocess.run(words, input=text, env=self.env, cwd=self.home, capture_output=True, text=True,
                              timeout=PATIENCE * 4, start_new_session=True, errors='replace')

    def try_sh(self, e):
        return self.run('bash', '-n', text=e.text) if e.marked else \
            self.run('bash', '-eu', '-o', 'pipefail', '-c', e.text)

    def try_conf(self, e):
        file = self.home / 'example.conf'
        file.write_text(e.text)
        return self.run('onebitd', '--check', '--config', file)

    def compile(self, text, *more):
        return self.run('cc', '-std=c11', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter',
                        '-Wno-unused-function', '-I', SOURCE / 'client', *more, '-x', 'c', '-', '-L', BUILD / 'client',
                        '-lonebit', text=text)

    def try_c(self, e):
        if SANITIZED:  # a plain program cannot be linked with a library that has the sanitizers in it
            return self.compile(e.text, '-c', '-o', '/dev/null')
        done = self.compile(e.text, '-o', self.home / 'example')
        return done if done.returncode or e.marked else self.run(self.home / 'example', 'turn on the lights')

    def try_c_part(self, e):
        return self.compile(PART % e.text, '-c', '-o', '/dev/null')

    def attempt(self, e):
        """None, or what went wrong."""
        if e.kind == 'text':
            return None
        done = getattr(self, 'try_' + e.kind.replace('-', '_'))(e)
        if done.returncode == 0:
            return None
        return f'{e.where}: ended with {done.returncode}\n{e.text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}'


class Examples(unittest.TestCase):

    def test_every_example_works(self):
        for page in PAGES:
            if not page.exists():
                continue
            with self.subTest(page.name), Daemon() as d:
                reader = Reader(d)
                for e in examples(page.name, page.read_text(encoding='utf-8')):
                    fault = reader.attempt(e)
                    self.assertIsNone(fault, fault)

    def test_the_command_has_examples(self):
        self.assertGreaterEqual(len(examples('onebit.1', (SOURCE / 'packaging/man/onebit.1').read_text())), 1)

    def test_an_example_that_is_wrong_is_found(self):
        """Goal: the runner itself can fail. Method: pages with a fault of each kind, and one without."""
        wrong = {
            'sh': ['onebit run --nonsense hi', 'false | cat', 'echo "$UNSET_NAME"', 'onebit list | grep nothing-such'],
            'conf': ['[engine]\nthreads = many\n'],
            'c': ['int main(void) { nonsense(); return 0; }'] + ([] if SANITIZED else ['int main(void) { return 3; }']),
            'c-part': ['r = onebit_nonsense(conn);'],
        }
        right = {'sh': ['onebit run hi > out; test -s out'], 'conf': ['[engine]\nthreads = 2\n'],
                 'c': ['#include <onebit.h>\nint main(void) { return onebit_version() == 0; }'],
                 'c-part': ['r = onebit_cancel(conn, 1);']}
        with Daemon() as d:
            reader = Reader(d)
            for kinds, fails in ((wrong, True), (right, False)):
                for kind, texts in kinds.items():
                    for text in texts:
                        found = examples('page.md', f'before\n\n```{kind}\n{text}\n```\n')
                        self.assertEqual(len(found), 1)
                        self.assertEqual(reader.attempt(found[0]) is not None, fails, text)

    def test_both_kinds_of_pages_are_read_alike(self):
        manual = ('.SH X\n.EX\nonebit run \\-\\-seed 7 \\(aqhi\\(aq\n\\&.x\n.EE\n.\\" example: conf\n.Bd -literal\n[a]\n.Ed\n'
                  '.\\" not run: needs root\n.Dl sudo x\n.\\" example: c not run: no net\n.EX\nint x;\n.EE\n')
        markdown = ("```sh\nonebit run --seed 7 'hi'\n.x\n```\n- a\n\n  ```conf\n  [a]\n  ```\n\n"
                    '```sh not run: needs root\nsudo x\n```\n```c not run: no net\nint x;\n```\n')
        def told(found):
            return [(e.kind, e.reason, e.text) for e in found]
        self.assertEqual(told(examples('page.1', manual)), told(examples('page.md', markdown)))
        self.assertEqual(len(examples('page.1', manual)), 4)
        for bad in ('.SH EXAMPLES\n.nf\n', '.\\" not run:\n.EX\n.EE\n', '.\\" example: python\n.EX\n.EE\n'):
            with self.assertRaises(AssertionError):
                examples('page.1', bad)


if __name__ == '__main__':
    unittest.main(verbosity=1)
