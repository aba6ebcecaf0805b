#!/usr/bin/env python3
"""libonebit as its users meet it: every program of client/examples, and a C++ program, against a daemon.

They find it by $ONEBIT_SOCKET, as any program does."""
import os
import shutil
import signal
import socket
import subprocess
import unittest

from harness import BUILD, PATIENCE, SANITIZED, SOURCE, Daemon, wait_for


def environment(d):
    return dict(os.environ, ONEBIT_SOCKET=str(d.socket), LD_LIBRARY_PATH=str(BUILD / 'client'))


def example(d, name, *words, text=''):
    return subprocess.run([BUILD / 'client' / name, *words], input=text, env=environment(d), capture_output=True, text=True,
                          timeout=PATIENCE * 4)


class Library(unittest.TestCase):

    def test_every_example_is_built_and_tried_here(self):
        tried = {'hello', 'loop', 'patient', 'cancel', 'batch'}
        there = {p.stem for p in (SOURCE / 'client/examples').glob('*.c')}
        self.assertEqual(there, tried)

    def test_hello_prints_an_answer(self):
        with Daemon() as d:
            done = example(d, 'hello', 'turn on the kitchen lights')
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(len(done.stdout.strip()), 0)

    def test_hello_says_that_nobody_is_there(self):
        done = subprocess.run([BUILD / 'client/hello'], env=dict(os.environ, ONEBIT_SOCKET='/nonexistent/s'),
                              capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 1)
        self.assertIn('cannot connect: No such file', done.stderr)

    def test_loop_answers_each_line(self):
        with Daemon() as d:
            done = example(d, 'loop', text='turn on the lights\n' * 20)
            self.assertEqual(done.returncode, 0, done.stderr)
            lines = done.stdout.splitlines()
            self.assertEqual(sorted(int(l.split(':')[0]) for l in lines), list(range(1, 21)))
            self.assertEqual(len({l.split(':', 1)[1] for l in lines}), 1)  # the same question, the same answer

    def test_batch_answers_each_line_once(self):
        with Daemon() as d:
            alone = example(d, 'batch', text='turn on the lights\n')
            self.assertEqual(alone.returncode, 0, alone.stderr)
            answer = alone.stdout.split(':', 1)[1]
            done = example(d, 'batch', text='turn on the lights\n' * 50)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('50 done, 0 failed', done.stderr)
            self.assertEqual(sorted(done.stdout.splitlines(True)), sorted(f'{i}:{answer}' for i in range(50)))

    def test_a_thread_ends_a_long_answer(self):
        with Daemon() as d:
            done = example(d, 'cancel', '400')
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('ended by a cancel', done.stdout)

            def nothing_runs():
                return d.status()['running'] == 0
            wait_for(nothing_runs)

    def test_control_c_ends_a_long_answer(self):
        with Daemon() as d, subprocess.Popen([BUILD / 'client/cancel'], env=environment(d), stdout=subprocess.PIPE) as p:
            first = p.stdout.read(1)  # it answers
            p.send_signal(signal.SIGINT)
            rest = p.stdout.read()
            self.assertEqual(p.wait(PATIENCE), 0)
            self.assertIn(b'ended by a cancel', first + rest)

    def test_a_patient_program_lives_through_a_restart_of_the_daemon(self):
        """Goal: reconnecting, against a daemon that is really stopped. Method: the program connects to a listener that
        takes its request and goes away; then the daemon starts in its place."""
        d = Daemon()
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(d.socket))
            old.listen(1)
            p = subprocess.Popen([BUILD / 'client/patient', 'turn on the lights'], env=environment(d), text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            conn, _ = old.accept()
            hello = b'\x82\xa4type\xa5hello\xa8protocol\x92\x01\x01'
            conn.sendall(len(hello).to_bytes(4, 'little') + hello)
            got = b''
            while b'generate' not in got:
                got += conn.recv(65536)
        os.unlink(d.socket)
        conn.close()
        with d:
            out, err = p.communicate(timeout=PATIENCE * 4)
        self.assertEqual(p.returncode, 0, err)
        self.assertIn('trying again in', err)
        self.assertGreater(len(out.strip()), 0)

    def test_a_cpp_program_is_compiled_linked_and_run(self):
        gxx = shutil.which('g++')
        if not gxx or SANITIZED:
            self.skipTest('g++ is not there, or the library needs a sanitizer\'s runtime')
        with Daemon() as d:
            program = d.home / 'cpp'
            done = subprocess.run([gxx, '-std=c++11', '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-I', SOURCE / 'client',
                                   SOURCE / 'tests/unit/client/onebit_h.cpp', '-L', BUILD / 'client', '-lonebit',
                                   '-o', program], capture_output=True, text=True, timeout=PATIENCE * 4)
            self.assertEqual(done.returncode, 0, done.stderr)
            done = subprocess.run([program], env=environment(d), capture_output=True, text=True, timeout=PATIENCE * 4)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(len(done.stdout.strip()), 0)


if __name__ == '__main__':
    unittest.main(verbosity=1)
