#!/usr/bin/env python3
"""`onebit top` on a terminal of its own: what is on the screen, at which size, and what is left of the terminal."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from harness import CLI, HOOKED_RUNNER, PATIENCE, Daemon, Peer

LONG = {'type': 'generate', 'prompt': '@@sleep-ms-5-per-step@@', 'max_tokens': 900, 'ignore_eos': True,
        'deadline_ms': 600000}
CONTROL = re.compile(r'\x1b\[([?>]?)([0-9;]*)([A-Za-z])|\x1b[()][A-Za-z0-9]|\x1b[=>78]')
LEAVE, SHOW_CURSOR = b'\x1b[?1049l', b'\x1b[?25h'  # what an xterm is told when a program gives it back


class Screen:
    """As much of a VT100 as curses uses with TERM=vt100."""

    def __init__(self, rows, columns):
        self.resize(rows, columns)

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.cells = [[' '] * columns for _ in range(rows)]
        self.y = self.x = 0
        self.top, self.bottom = 0, rows - 1

    def lines(self):
        return [''.join(row).rstrip() for row in self.cells]

    def clear(self, y, start, end):
        self.cells[y][start:end] = [' '] * (end - start)

    def control(self, private, numbers, letter):
        n = [int(v) if v else 0 for v in numbers.split(';')]
        first = max(1, n[0])
        if private or letter in 'mhlq':
            return
        if letter == 'H':
            self.y, self.x = min(first, self.rows) - 1, min(max(1, n[1] if len(n) > 1 else 1), self.columns) - 1
        elif letter == 'J':
            if n[0] == 0:
                self.clear(self.y, self.x, self.columns)
            for y in range(self.y + 1 if n[0] == 0 else 0, self.rows if n[0] != 1 else self.y):
                self.clear(y, 0, self.columns)
        elif letter == 'K':
            self.clear(self.y, 0 if n[0] else self.x, self.x + 1 if n[0] == 1 else self.columns)
        elif letter in 'ABCD':
            self.y += {'A': -first, 'B': first}.get(letter, 0)
            self.x += {'C': first, 'D': -first}.get(letter, 0)
        elif letter == 'r':
            self.top, self.bottom = first - 1, (n[1] if len(n) > 1 and n[1] else self.rows) - 1
            self.y = self.x = 0
        else:
            raise AssertionError(f'a control that this screen does not know: {letter}')

    def scroll(self, down):
        if down:
            self.cells.insert(self.bottom + 1, [' '] * self.columns)
            del self.cells[self.top]
        else:
            del self.cells[self.bottom]
            self.cells.insert(self.top, [' '] * self.columns)

    def feed(self, text):
        at = 0
        while at < len(text):
            found = CONTROL.match(text, at)
            if found:
                at = found.end()
                if found.group(3):
                    self.control(*found.groups())
                continue
            if text.startswith('\x1bM', at):
                at += 2
                if self.y == self.top:
                    self.scroll(False)
                else:
                    self.y -= 1
                continue
            c = text[at]
            at += 1
            if c == '\n':
                if self.y == self.bottom:
                    self.scroll(True)
                else:
                    self.y += 1
            elif c == '\r':
                self.x = 0
            elif c == '\b':
                self.x = max(0, self.x - 1)
            elif c >= ' ':
                assert self.x < self.columns, f'text past the last column: {text[at - 20:at + 20]!r}'
                self.cells[self.y][self.x] = c
                self.x = min(self.x + 1, self.columns - 1)
            elif c not in '\x0e\x0f\0':
                raise AssertionError(f'{c!r} reached the terminal')


class Top:
    """The program on a pseudo-terminal; a context manager that leaves nothing behind."""

    def __init__(self, socket, *words, rows=24, columns=80, term='vt100'):
        self.master, self.slave = pty.openpty()
        self.screen = Screen(rows, columns)
        self.raw = b''
        self.text = ''
        self.set_size(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        env = dict(os.environ, TERM=term, LC_ALL='C', NCURSES_NO_PADDING='1')
        env.pop('LINES', None), env.pop('COLUMNS', None)

        def own_terminal():
            """As a shell with job control starts it: in a group of its own, which is the terminal's, below a
            parent in the same session. Else it could not be stopped."""
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            pid = os.fork()
            if pid:
                os.closerange(3, 1024)  # else Popen waits for this process to become the program
                os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)  # nohup and the like have them ignored, and that is kept
            os.setpgid(0, 0)
            os.tcsetpgrp(0, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        self.process = subprocess.Popen([CLI, 'top', '-s', socket, '-d', '0.2', *words], stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, env=env, preexec_fn=own_terminal)

    def set_size(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))

    def resize(self, rows, columns):
        self.read(0.3)
        self.screen.resize(rows, columns)
        self.set_size(rows, columns)

    def read(self, seconds):
        """Take what is written for so long, or until it ends."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                piece = os.read(self.master, 65536)
                self.raw += piece
                self.screen.feed(piece.decode('ascii'))

    def until(self, what):
        """Read until what(lines) holds; the lines."""
        end = time.monotonic() + PATIENCE
        while not what(self.screen.lines()):
            if time.monotonic() > end or self.process.poll() is not None:
                raise AssertionError('\n'.join(['not seen:', *self.screen.lines(), str(self.process.poll())]))
            self.read(0.1)
        return self.screen.lines()

    def signal(self, number):
        os.kill(self.pid(), number)

    def pid(self):
        shell = self.process.pid
        with open(f'/proc/{shell}/task/{shell}/children', encoding='ascii') as f:
            return int(f.read())

    def key(self, key):
        os.write(self.master, key)

    def end(self):
        """Its exit code; the terminal has its settings back."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.05)
        self.read(0.1)
        assert termios.tcgetattr(self.slave) == self.before, 'the terminal has not got its settings back'
        return self.process.wait(timeout=1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def shows(*texts):
    """A condition on lines: every text is in one of them."""
    return lambda lines: all(any(text in line for line in lines) for text in texts)


class TopTest(unittest.TestCase):

    def test_at_80_by_24_it_shows_what_runs_and_a_key_ends_it(self):
        with Daemon(config='[engine]\nstreams_max = 2\n', runner=HOOKED_RUNNER) as daemon, Peer(daemon) as peer:
            for number in range(1, 31):
                peer.send({**LONG, 'id': number})
            with Top(daemon.socket) as top:
                lines = top.until(shows('onebitd 0.1.0', 'tokens/s', 'home-q1_0', 'REQUEST', 'decode', 'queued', 'more'))
                self.assertTrue(lines[-1].startswith('q quit   s sort (now by the daemon'), lines[-1])
                self.assertIn('pressure: ', ''.join(lines))
                top.until(lambda lines: any(re.search(r'tokens/s [1-9]', line) for line in lines))
                top.key(b's')
                top.until(shows('now by age'))
                top.key(b'q')
                self.assertEqual(top.end(), 0)

    def test_it_follows_the_size_of_the_terminal(self):
        with Daemon() as daemon, Top(daemon.socket) as top:
            top.until(shows('no model is loaded'))
            for rows, columns in ((10, 40), (50, 160), (3, 20), (24, 80)):
                top.resize(rows, columns)
                lines = top.until(lambda lines: lines[-1].startswith('q quit   s sort'))
                self.assertTrue(lines[0].startswith('onebitd 0.1.0'), lines)
            top.key(b'q')
            self.assertEqual(top.end(), 0)

    def test_every_signal_that_ends_it_gives_the_terminal_back(self):
        with Daemon() as daemon:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                with Top(daemon.socket, term='xterm') as top:
                    top.screen.feed = lambda text: None  # an xterm is told more than that screen knows
                    while SHOW_CURSOR not in top.raw and b'onebitd' not in top.raw:
                        top.read(0.1)
                    top.signal(number)
                    self.assertEqual(top.end(), 128 + number)
                    self.assertIn(LEAVE, top.raw)
                    self.assertIn(SHOW_CURSOR, top.raw)

    def test_a_stop_gives_the_terminal_back_for_as_long_as_it_lasts(self):
        with Daemon() as daemon, Top(daemon.socket) as top:
            top.until(shows('onebitd 0.1.0'))
            top.signal(signal.SIGTSTP)
            end = time.monotonic() + PATIENCE
            while state(top.pid()) != 'T' and time.monotonic() < end:
                top.read(0.05)
            self.assertEqual(state(top.pid()), 'T')
            self.assertEqual(termios.tcgetattr(top.slave), top.before)
            top.screen.resize(24, 80)
            top.signal(signal.SIGCONT)
            top.until(shows('onebitd 0.1.0', 'q quit'))
            top.key(b'q')
            self.assertEqual(top.end(), 0)

    def test_it_waits_for_a_daemon_that_went_away(self):
        daemon = Daemon()
        try:
            daemon.start()
            with Top(daemon.socket) as top:
                top.until(shows('onebitd 0.1.0', 'engine up'))
                daemon.process.kill()
                daemon.process.wait()
                top.until(shows('no onebitd answers at', '(old)'))
                daemon.start()
                top.until(lambda lines: lines[0].startswith('onebitd 0.1.0') and '(old)' not in lines[0])
                top.key(b'q')
                self.assertEqual(top.end(), 0)
        finally:
            daemon.clean()

    def test_once_prints_text_in_which_strangers_move_nothing(self):
        with Daemon(runner=HOOKED_RUNNER) as daemon, Peer(daemon, hello=False) as peer:
            peer.send({'type': 'hello', 'protocol': [1, 0], 'name': '\x1b[2J\x9bevil\u202e'})
            peer.receive()
            peer.send({**LONG, 'id': 1})
            peer.receive()
            for words, stdout in ((['--once', '-d', '0.1'], None), (['-d', '0.1'], None)):
                done = daemon.cli('top', *words)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn(b'\x1b', done.stdout)
                text = done.stdout.decode()
                self.assertIn('\\x1b[2J\\u009bevil\\u202e', text)
                self.assertTrue(text.startswith('onebitd 0.1.0'), text)

    def test_without_a_daemon_or_a_known_terminal_it_says_so(self):
        done = subprocess.run([CLI, 'top', '--once', '-s', '/nonexistent'], capture_output=True)
        self.assertEqual((done.returncode, done.stdout), (69, b''))
        self.assertIn(b'onebitd', done.stderr)
        with Daemon() as daemon, Top(daemon.socket, term='no-such-terminal') as top:
            self.assertEqual(top.end(), 64)
            self.assertIn(b'--once', top.raw)


def state(pid):
    with open(f'/proc/{pid}/stat', encoding='ascii') as f:
        return f.read().rsplit(')', 1)[1].split()[0]


if __name__ == '__main__':
    unittest.main(verbosity=2)
