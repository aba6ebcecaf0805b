#!/usr/bin/env python3
"""Starts that are refused: each says why, ends with its own exit status and leaves nothing behind."""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

from harness import CLI, DAEMON, HOOKED_RUNNER, PATIENCE, RUNNER, Daemon, Peer

BAD_USAGE, NO_SERVICE, BAD_CONFIG = 64, 69, 78
NOBODY = 65534


class Start(unittest.TestCase):

    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix='onebit-start-'))
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.paths = {'config': '/dev/null', 'socket': self.home / 'onebit.sock', 'models': self.home / 'models',
                      'cache': self.home / 'cache', 'sessions': self.home / 'sessions'}

    def refused(self, code, *words, leave=(), user=None, env=None, **paths):
        """Start with some paths replaced (None: not given): the exit code, the words said, and what
        is left in the home."""
        arguments = [f'--{name}={value}' for name, value in {**self.paths, **paths}.items() if value is not None]
        who = {'user': user, 'group': user, 'extra_groups': []} if user else {}
        try:
            done = subprocess.run([DAEMON, *arguments], capture_output=True, text=True, timeout=PATIENCE,
                                  env=dict(os.environ) if env is None else env, **who)
        except PermissionError:
            if user is None:
                raise
            self.skipTest(f'user {user} may not run {DAEMON}')
        self.assertEqual(done.returncode, code, done.stderr)
        for word in words:
            self.assertIn(str(word), done.stderr)
        left = {p.name for p in self.home.iterdir()} - {'models', 'cache', 'sessions'}
        self.assertEqual(left, set(leave))

    def test_an_empty_path_is_a_wrong_command_line(self):
        for name in self.paths:
            self.refused(BAD_USAGE, f'--{name}', 'empty', **{name: ''})

    def test_a_plain_file_is_never_taken_for_a_socket(self):
        self.paths['socket'].write_text('mine')
        self.refused(BAD_CONFIG, self.paths['socket'], 'is no socket', leave=['onebit.sock'])
        self.assertEqual(self.paths['socket'].read_text(), 'mine')

    def test_a_socket_path_that_is_too_long_is_told_the_limit(self):
        self.refused(BAD_CONFIG, 'longer than 96 bytes', socket=self.home / ('x' * 97))

    def test_a_group_that_does_not_exist_leaves_no_lock(self):
        config = self.home / 'onebit.conf'
        config.write_text('[socket]\ngroup = no-such-group-here\n')
        self.refused(BAD_CONFIG, 'no such group', config=config, leave=['onebit.conf'])

    def test_somebody_elses_socket_is_left_alone(self):
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(self.paths['socket']))
            other.listen(8)
            self.refused(NO_SERVICE, 'listening there already', leave=['onebit.sock'])

    def test_a_folder_that_is_none_is_named_at_the_start(self):
        for name in ('models', 'cache'):
            file = self.home / 'file'
            file.write_text('')
            self.refused(BAD_CONFIG, f'the {name} folder {file}', leave=['file'], **{name: file})
            self.refused(BAD_CONFIG, f'the {name} folder {file}/below', leave=['file'], **{name: file / 'below'})

    @unittest.skipIf(os.geteuid() != 0, 'only root can start it as somebody else')
    def test_a_folder_that_may_not_be_used_is_named_at_the_start(self):
        os.chown(self.home, NOBODY, NOBODY)
        for name, mode in (('models', 0o300), ('cache', 0o500)):
            folder = self.home / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            os.chown(folder, NOBODY, NOBODY)
            folder.chmod(mode)
            self.refused(BAD_CONFIG, f'the {name} folder {folder}', 'Permission denied', user=NOBODY)
            folder.chmod(0o700)

    @unittest.skipIf(os.geteuid() != 0, 'only root can start it as somebody else')
    def test_a_user_without_a_runtime_folder_has_to_name_the_socket(self):
        os.chown(self.home, NOBODY, NOBODY)
        env = {'HOME': str(self.home), 'PATH': os.environ['PATH']}
        self.refused(BAD_CONFIG, 'XDG_RUNTIME_DIR', '--socket', '[socket]', user=NOBODY, env=env, socket=None)

    def test_an_absent_models_folder_is_made_and_said(self):
        class Elsewhere(Daemon):
            def command(self):
                shutil.rmtree(self.models)
                return super().command()
        with Elsewhere() as d:
            self.assertIn(f'created empty models folder {d.models}', d.read_log())
            self.assertEqual(list(d.models.iterdir()), [])
            self.assertEqual(d.cache.stat().st_mode & 0o777, 0o700)

    def test_the_log_names_the_socket_that_was_passed(self):
        activate = ('import os, socket, sys\n'
                    's = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(8)\n'
                    'os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n'
                    'os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))\n'
                    'os.execv(sys.argv[2], sys.argv[2:])\n')

        class Activated(Daemon):
            def command(self):
                command = super().command()  # with the path that is configured
                self.socket = self.home / 'passed.sock'
                return [sys.executable, '-c', activate, self.socket, *command]

            def stop(self):
                self.process.terminate()
                assert self.process.wait(timeout=PATIENCE) == 0, self.read_log()
        with Activated() as d:
            d.status()  # the socket is there before the daemon is
            self.assertIn(f'serving on {d.socket}\n', d.read_log())

    def test_while_it_drains_a_passed_socket_is_left_to_the_next_daemon(self):
        """Goal: a restart refuses nobody. Method: a socket that outlives the daemon, with somebody in an answer,
        somebody idle and somebody who comes while it drains; then another daemon on the same socket."""
        kept = socket.socket(socket.AF_UNIX)
        kept.bind(str(self.home / 'kept.sock'))
        kept.listen(8)
        self.addCleanup(kept.close)
        activate = ('import os, sys\n'
                    'os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True)\n'
                    'os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))\n'
                    'os.execv(sys.argv[2], sys.argv[2:])\n')

        class Kept(Daemon):
            def start(self):
                self.socket = self.home / 'unused.sock'
                self.process = subprocess.Popen(
                    [sys.executable, '-c', activate, str(kept.fileno()), *map(str, self.command())],
                    stdout=self.log, stderr=self.log, env=self.env, pass_fds=[kept.fileno()])
                self.socket = kept.getsockname()
                return self

            def stop(self):
                self.process.terminate()
                assert self.process.wait(timeout=PATIENCE) == 0, self.read_log()
        slow = {'type': 'generate', 'id': 1, 'prompt': 'go @@sleep-ms-20-per-step@@', 'max_tokens': 40,
                'ignore_eos': True}
        with Kept(runner=HOOKED_RUNNER) as old, Peer(old) as busy, Peer(old) as idle:
            busy.send(slow)
            while busy.receive()['type'] != 'delta':
                pass
            old.process.terminate()
            self.assertIsNone(idle.receive())
            late = Peer(old, hello=False)
            late.send({'type': 'hello', 'protocol': [1, 0], 'name': 'late'})
            self.assertEqual(busy.until_end(1)[-1]['type'], 'done')
            self.assertIsNone(busy.receive())
            self.assertEqual(old.process.wait(timeout=PATIENCE), 0)
            old.stop = lambda: None
        with Kept() as new:
            self.assertEqual(late.receive()['type'], 'hello')
            late.send({'type': 'generate', 'id': 1, 'prompt': 'hi', 'max_tokens': 2})
            self.assertEqual(late.until_end(1)[-1]['type'], 'done')
            late.close()
            self.assertNotEqual(new.process.pid, old.process.pid)

    def test_priorities_are_for_the_journal_alone(self):
        """Goal: both processes write "<N>" only where $JOURNAL_STREAM names their own stderr. Method: a
        variable that names another file, then the log file itself."""
        class Named(Daemon):
            def start(self):
                st = os.fstat(self.log.fileno())
                self.env['JOURNAL_STREAM'] = f'{st.st_dev}:{st.st_ino + self.off}'
                return super().start()
        for off, front in ((1, ('onebitd: ', 'onebit-runner: ')), (0, ('<',))):
            Named.off = off
            with Named() as d:
                d.status()
                seam = subprocess.run([RUNNER, '--seam', '3', '--threads', 'x'], stderr=d.log, env=d.env,
                                      timeout=PATIENCE)
                self.assertEqual(seam.returncode, BAD_USAGE)
                lines = [x for x in d.read_log().splitlines() if 'serving on' in x or 'cannot be had' in x]
                self.assertEqual(len(lines), 2)
                for said in lines:
                    self.assertTrue(said.startswith(front), said)

    @unittest.skipIf(os.geteuid() != 0 or not shutil.which('unshare'), 'only root can map one user into a namespace')
    def test_a_service_whose_clients_are_all_nobody_is_refused(self):
        """Goal: PrivateUsers=yes in a drop-in does not make all users one. Method: its namespace, made by hand."""
        arguments = [f'--{name}={value}' for name, value in self.paths.items()]
        for variable, code in ((f'STATE_DIRECTORY={self.home}', BAD_CONFIG), ('OTHER=1', None)):
            command = ['unshare', '--user', '--map-root-user', 'env', variable, DAEMON, *arguments]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as p:
                try:
                    said = p.stderr.readline()
                    if 'unshare' in said:
                        self.skipTest(said.strip())
                    self.assertIn('clients cannot be told apart', said)
                    if code is not None:
                        self.assertIn('PrivateUsers', said)
                        self.assertEqual(p.wait(timeout=PATIENCE), code)
                finally:
                    p.kill()

    def test_a_reload_by_the_command_ends_when_it_is_taken_over_or_refused(self):
        with Daemon(config='[queue]\ntotal = 7\n') as d:
            d.set_config('[queue]\ntotal = 8\n')
            self.assertEqual(d.cli('reload').returncode, 0)
            self.assertIn('configuration reloaded', d.read_log())
            d.set_config('[queue]\ntotal = no\n')
            refused = d.cli('reload')
            self.assertEqual(refused.returncode, 1)
            self.assertIn(b'refused', refused.stderr)
            self.assertEqual((d.status()['reloads'], d.status()['reload_refused']), (2, True))

    def test_list_and_run_say_the_same_of_a_models_folder_that_went_away(self):
        with Daemon() as d, Peer(d) as peer:
            d.models.rename(d.home / 'gone')
            ends = []
            for number, message in enumerate(({'type': 'list'}, {'type': 'generate', 'prompt': 'hi'}), 1):
                peer.send({**message, 'id': number})
                ends.append(peer.until_end(number)[-1])
            self.assertEqual(ends[0]['name'], 'internal')
            self.assertIn("models folder cannot be read", ends[0]['message'])
            self.assertNotIn(str(d.home), ends[0]['message'])
            self.assertEqual((ends[0]['name'], ends[0]['message']), (ends[1]['name'], ends[1]['message']))

    def test_several_models_and_no_default_is_told_what_to_do(self):
        with Daemon() as d:
            shutil.copy(d.models / 'home-q1_0.gguf', d.models / 'second.gguf')
            done = subprocess.run([CLI, 'run', '-s', d.socket, 'hi'], capture_output=True, text=True,
                                  timeout=PATIENCE)
            self.assertEqual(done.returncode, 66)
            self.assertIn('name one with -m', done.stderr)
            self.assertIn("'default' in [models]", done.stderr)


if __name__ == '__main__':
    unittest.main(verbosity=2)
