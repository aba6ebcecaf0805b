#!/usr/bin/env python3
"""Completion by bash, zsh and fish offers what `onebit --help` tells, verb by verb, and what a daemon has.

bash is always asked; zsh and fish where they are installed, and read as text where they are not."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'integration'))
from harness import CLI, HOOKED_RUNNER, PATIENCE, SOURCE, Daemon, Peer  # noqa: E402

FOLDER = SOURCE / 'packaging/completions'
BASH, ZSH, FISH = (FOLDER / n for n in ('onebit.bash', '_onebit', 'onebit.fish'))
ENV = dict(os.environ, PATH=f'{CLI.parent}:{os.environ["PATH"]}', LC_ALL='C.UTF-8')
ENV.pop('ONEBIT_SOCKET', None)


def ran(*words, **kw):
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=kw.pop('env', ENV), **kw)


def help_of(*words):
    return ran(CLI, *words).stdout


VERBS = re.findall(r'^  (\w+) +\w', help_of('--help'), re.M)
OPTIONS = {v: set(re.findall(r'^  (?:-\w, |    )--([a-z-]+)', help_of(v, '--help'), re.M)) for v in VERBS}


def bash(*words, env=ENV, cwd=None):
    """What bash would offer for these words, the last of which is being typed. As bash does, --x=y is parted at =."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _onebit; '
              '((${#COMPREPLY[@]})) && printf "%s\\n" "${COMPREPLY[@]}"')
    done = ran('bash', '--norc', '-c', script, 'bash', BASH, 'onebit', *words, env=env, cwd=cwd)
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


def fish(line, env=ENV):
    done = ran('fish', '--no-config', '-c', 'source $argv[1]; complete -C $argv[2]', FISH, line, env=env)
    assert done.returncode == 0 and not done.stderr, done
    return [l.split('\t')[0] for l in done.stdout.splitlines()]


ZSH_ASKED = '''
asked=0
_arguments() {
    if [[ $asked == 0 ]]; then asked=1; state=$want; words=($verb); return 1; fi
    print -rl -- "$@"
}
_describe() { print -rl -- ${(P)${@[-1]}} }
want=$2 verb=$3
source $1
'''


def zsh(state, verb=''):
    """The specifications that the file hands to zsh's own machinery, which stands still here."""
    done = ran('zsh', '-f', '-c', ZSH_ASKED, 'zsh', ZSH, state, verb)
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


class Completions(unittest.TestCase):

    def test_help_was_understood(self):
        self.assertIn('run', VERBS)
        self.assertIn('temperature', OPTIONS['run'])
        self.assertTrue(all('help' in OPTIONS[v] for v in VERBS), OPTIONS)

    def test_the_files_are_sound(self):
        self.assertEqual(ran('bash', '-n', BASH).returncode, 0)
        for shell, file in (('zsh', ZSH), ('fish', FISH)):
            if shutil.which(shell):
                self.assertEqual(ran(shell, '-n', file).returncode, 0, shell)

    def test_every_verb_and_option_stands_in_every_file(self):
        """Also where the shell itself is not there to be asked."""
        for file, option in ((BASH, r'\b{}\b'), (ZSH, r'--{}\b'), (FISH, r'-l {}\b')):
            text = file.read_text()
            for verb in VERBS:
                self.assertRegex(text, rf'\b{verb}\b', file.name)
            for name in set().union(*OPTIONS.values()):
                self.assertRegex(text, option.format(name), file.name)

    def test_bash_offers_each_verb_and_its_options_and_no_others(self):
        self.assertEqual(set(bash('')), set(VERBS) | {'--help', '--version'})
        self.assertEqual(bash('sta'), ['status'])
        for verb in VERBS:
            self.assertEqual(set(bash(verb, '-')), {'--' + o for o in OPTIONS[verb]}, verb)
        self.assertEqual(bash('nonsense', '-'), [])

    def test_bash_offers_values_and_words(self):
        self.assertEqual(bash('run', '--class', ''), ['low', 'normal', 'high'])
        self.assertEqual(bash('run', '--class', '=', 'h'), ['high'])
        self.assertEqual(bash('run', '--class', '='), ['low', 'normal', 'high'])
        self.assertEqual(bash('run', '--template', 'q'), ['qwen3'])
        self.assertEqual(bash('run', '--seed', '-'), [])
        self.assertEqual(bash('session', ''), ['list', 'show', 'drop'])
        self.assertEqual(bash('session', '--json', 's'), ['show'])
        self.assertEqual(bash('config', ''), ['check'])
        self.assertEqual(set(bash('help', '')), set(VERBS))
        self.assertIn('context_too_long', bash('explain', 'con'))

    def test_fish_offers_each_verb_and_its_options_and_no_others(self):
        if not shutil.which('fish'):
            self.skipTest('SKIPPED: no fish here; its file was read only')
        self.assertEqual(set(fish('onebit ')), set(VERBS))
        for verb in VERBS:
            self.assertEqual(set(fish(f'onebit {verb} --')), {'--' + o for o in OPTIONS[verb]}, verb)
        self.assertEqual(fish('onebit run --class '), ['high', 'low', 'normal'])
        self.assertIn('deadline', fish('onebit explain dead'))

    def test_zsh_offers_each_verb_and_its_options_and_no_others(self):
        if not shutil.which('zsh'):
            self.skipTest('SKIPPED: no zsh here; its file was read only')
        self.assertEqual({l.split(':')[0] for l in zsh('verb')}, set(VERBS))
        for verb in VERBS:
            found = {m[1] for l in zsh('rest', verb) if (m := re.match(r'(?:\([^)]*\))?\*?--([a-z-]+)', l))}
            self.assertEqual(found, OPTIONS[verb], verb)

    def test_names_come_from_the_daemon_and_are_never_obeyed(self):
        """Goal: a model's name is a file's name, which anybody may have chosen."""
        with tempfile.TemporaryDirectory() as home:
            shipped = SOURCE / 'models/home-q1_0.gguf'
            names = ['plain', '$(touch trap)', "quo'te", 'two words', '`touch trap`', ';touch trap']
            models = []
            for name in names:
                models.append(pathlib.Path(home) / (name + '.gguf'))
                models[-1].symlink_to(shipped)
            with Daemon(models=models) as d:
                listed = set(ran(CLI, 'list', '--names', '-s', d.socket).stdout.splitlines())
                self.assertIn('plain', listed)
                offered = bash('load', '-s', d.socket, '', cwd=home)
                self.assertEqual({ran('bash', '-c', f'printf %s {o}').stdout for o in offered}, listed)
                self.assertEqual(bash('run', '-s', d.socket, '-m', 'pl', cwd=home), ['plain'])
                self.assertEqual(bash('run', '--socket', '=', str(d.socket), '-m', 'pl', cwd=home), ['plain'])
                env = dict(ENV, ONEBIT_SOCKET=str(d.socket))
                self.assertEqual(bash('unload', 'pla', env=env, cwd=home), ['plain'])
                self.assertEqual(bash('load', 'plain', '', env=env, cwd=home), [])
                if shutil.which('fish'):
                    self.assertEqual(fish(f'onebit run -s {d.socket} --model pl'), ['plain'])
                    self.assertLessEqual(listed, set(fish('onebit load ', env=env)))
            self.assertFalse((pathlib.Path(home) / 'trap').exists())

    def test_requests_and_sessions_that_are_there_are_offered(self):
        slow = {'type': 'generate', 'id': 1, 'prompt': '@@sleep-ms-50-per-step@@ ', 'max_tokens': 900,
                'ignore_eos': True, 'deadline_ms': 600000}
        with Daemon(runner=HOOKED_RUNNER) as d, Peer(d) as peer:
            env = dict(ENV, ONEBIT_SOCKET=str(d.socket))
            self.assertEqual(bash('cancel', '', env=env), [])
            d.cli('run', '--session', 'kitchen', 'hello')
            peer.send(slow)
            number = str(peer.receive()['request'])
            self.assertEqual(ran(CLI, 'ps', '--names', '-s', d.socket).stdout, number + '\n')
            self.assertEqual(bash('cancel', '', env=env), [number])
            self.assertEqual(bash('cancel', number, '', env=env), [number])
            self.assertEqual(bash('cancel', 'x', env=env), [])
            for words in (('session', 'show', ''), ('session', 'drop', 'kit'), ('run', '--session', ''),
                          ('chat', '--session', '=', 'k')):
                self.assertEqual(bash(*words, env=env), ['kitchen'], words)
            if shutil.which('fish'):
                for line, offered in (('cancel ', number), ('session drop ', 'kitchen'),
                                      ('chat --session k', 'kitchen')):
                    self.assertIn(offered, fish('onebit ' + line, env=env), line)
            self.assertEqual(d.cli('cancel', number).returncode, 0)
            self.assertEqual(peer.until_end(1)[-1]['name'], 'cancelled')

    def test_without_a_daemon_there_is_silence(self):
        env = dict(ENV, ONEBIT_SOCKET='/nonexistent/onebit.sock')
        self.assertEqual(bash('cancel', '', env=env), [])
        self.assertEqual(bash('load', '', env=env), [])
        self.assertEqual(bash('session', 'drop', '', env=env), [])
        if shutil.which('fish'):
            self.assertEqual(fish('onebit load ', env=env), [])


if __name__ == '__main__':
    unittest.main(verbosity=1)
