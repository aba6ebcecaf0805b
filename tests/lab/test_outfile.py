#!/usr/bin/env python3
"""Output files: whole or absent, in the place of files alone.

Pipes, folders, sockets and links stand in for the device nodes that a rename would replace: it asks none of them."""
import os
import pathlib
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

from lab import LAB, lab, make

CANTCREATE = 73
WORDS = ('the other lights ' * 40).encode()


class Outfile(unittest.TestCase):

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.model = make(self.home, 'tiny', 'F32')
        self.text = self.home / 'text'
        self.text.write_bytes(WORDS)
        self.folder = self.home / 'out'
        self.folder.mkdir()
        self.out = self.folder / 'file'

    def verbs(self, out):
        return (('make', '--shape', 'tiny', '--format', 'Q1_0', out),
                ('pack', self.model, '--out', out),
                ('quantize', self.model, out, '--format', 'Q8_0'),
                ('sensitivity', self.model, '--text', self.text, '--ctx', '32', '--formats', 'Q8_0', '--tokens', '64',
                 '--bytes', '3000000', '--out', out))

    def refused(self, out, why):
        """By every verb, before any work, and everything stays as it was."""
        before = [(p.name, p.lstat().st_ino, p.lstat().st_mode) for p in sorted(self.folder.iterdir())]
        for verb in self.verbs(out):
            with self.subTest(verb=verb[0]):
                done = lab(*verb)
                self.assertEqual((done.returncode, done.stdout), (CANTCREATE, b''), done.stderr)
                self.assertRegex(done.stderr.decode(), rf'\Aonebit-lab: {out}: {why}[^\n]*\n\Z')
                after = [(p.name, p.lstat().st_ino, p.lstat().st_mode) for p in sorted(self.folder.iterdir())]
                self.assertEqual(after, before)

    def test_a_pipe_stays(self):
        os.mkfifo(self.out)
        self.refused(self.out, 'is a pipe')
        (self.folder / 'link').symlink_to(self.out)
        self.refused(self.folder / 'link', 'is a pipe')

    def test_a_socket_stays(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(self.out))
            self.refused(self.out, 'is a socket')

    def test_the_input_stays(self):
        """Goal: no verb replaces what it reads, under whatever name."""
        link = self.folder / 'link'
        link.hardlink_to(self.model)
        before = self.model.read_bytes()
        for verb in self.verbs(link)[1:]:
            with self.subTest(verb=verb[0]):
                done = lab(*verb)
                self.assertEqual((done.returncode, done.stdout), (64, b''), done.stderr)
                self.assertIn(b'is the input too', done.stderr)
                self.assertEqual(self.model.read_bytes(), before)

    def test_a_folder_stays(self):
        self.out.mkdir()
        self.refused(self.out, 'is a folder')

    def test_links_that_lead_nowhere_stay(self):
        self.out.symlink_to(self.folder / 'none')
        self.refused(self.out, 'is a link to nothing')
        self.out.unlink()
        self.out.symlink_to(self.out)
        self.refused(self.out, '')

    def test_names_without_a_folder(self):
        self.refused(self.folder / 'no/such/file', '')
        self.refused(self.model / 'file', '')

    def test_before_the_long_work(self):
        """Goal: no verb reads its input first. Method: an input that is none."""
        self.out.mkdir()
        bad = self.home / 'bad'
        bad.write_bytes(b'nothing')
        for verb in self.verbs(self.out)[1:]:
            done = lab(*(bad if word == self.model else word for word in verb))
            self.assertEqual(done.returncode, CANTCREATE, done)

    def test_new_files_and_old_ones(self):
        for verb in self.verbs(self.out):
            with self.subTest(verb=verb[0]):
                for before in (None, b'old'):
                    self.out.unlink(missing_ok=True)
                    if before:
                        self.out.write_bytes(before)
                    done = lab(*verb)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertGreater(self.out.stat().st_size, 20)
                    self.assertEqual(os.listdir(self.folder), ['file'])

    def test_a_link_stays_and_its_file_is_replaced(self):
        elsewhere = self.home / 'elsewhere'
        elsewhere.mkdir()
        self.out.symlink_to('../elsewhere/real')
        for verb in self.verbs(self.out):
            with self.subTest(verb=verb[0]):
                (elsewhere / 'real').write_bytes(b'old')
                done = lab(*verb)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(os.readlink(self.out), '../elsewhere/real')
                self.assertGreater((elsewhere / 'real').stat().st_size, 20)
                self.assertEqual((os.listdir(self.folder), os.listdir(elsewhere)), (['file'], ['real']))

    def test_what_comes_to_stand_there_meanwhile_stays(self):
        """Goal: the check before the rename. Method: while a large file is written, a pipe takes its name."""
        running = subprocess.Popen([LAB, 'make', '--shape', 'llama-160m', '--format', 'Q1_0', self.out],
                                   stderr=subprocess.PIPE)
        while not any(p.name.startswith('file.') for p in self.folder.iterdir()):
            self.assertIsNone(running.poll())
            time.sleep(0.001)
        running.send_signal(signal.SIGSTOP)
        self.assertFalse(self.out.exists())
        os.mkfifo(self.out)
        running.send_signal(signal.SIGCONT)
        said = running.communicate(timeout=120)[1]
        self.assertEqual(running.returncode, CANTCREATE, said)
        self.assertIn(b'is a pipe', said)
        self.assertTrue(stat.S_ISFIFO(self.out.lstat().st_mode))
        self.assertEqual(os.listdir(self.folder), ['file'])


if __name__ == '__main__':
    unittest.main(verbosity=2)
