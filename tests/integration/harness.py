"""A daemon of one's own for a test: private folders, the built programs, raw frames where wanted.

Standard library only. ONEBIT_BUILD and ONEBIT_SOURCE come from meson."""
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

BUILD = pathlib.Path(os.environ.get('ONEBIT_BUILD', 'build')).resolve()
SOURCE = pathlib.Path(os.environ.get('ONEBIT_SOURCE', '.')).resolve()
DAEMON = BUILD / 'daemon/onebitd'
RUNNER = BUILD / 'daemon/onebit-runner'
HOOKED_RUNNER = BUILD / 'tests/support/onebit-runner-hooked'
PUPPET_RUNNER = BUILD / 'tests/support/onebit-runner-puppet'
CLI = BUILD / 'client/onebit'
LAB = BUILD / 'engine/onebit-lab'
SANITIZED = os.environ.get('ONEBIT_SANITIZED', '') == '1'
PATIENCE = 120 if SANITIZED else 60  # seconds that nothing in a healthy run comes near


def wait_for(what, seconds=PATIENCE, step=0.01):
    """Poll until what() is true; a test that waits in vain fails with the name of the condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(step)
    raise AssertionError(f'waited {seconds} s in vain for {what.__name__}')


def alive(pid):
    """Is there a process that is no zombie?"""
    try:
        with open(f'/proc/{pid}/stat', encoding='ascii') as f:
            return f.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError:
        return False


class Daemon:
    """onebitd in a temporary folder. Use as a context manager; it must end well, or the test fails."""

    def __init__(self, models=(), config='', runner=None, env=None, pass_socket=False):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix='onebit-test-'))
        self.socket = self.home / 'onebit.sock'
        self.models = self.home / 'models'
        self.cache = self.home / 'cache'
        self.sessions = self.home / 'sessions'
        self.models.mkdir()
        for model in models or [SOURCE / 'models/home-q1_0.gguf']:
            shutil.copy(model, self.models)
        self.config = self.home / 'onebit.conf'
        self.set_config(config, runner)
        self.log = open(self.home / 'log', 'w+b')
        self.env = dict(os.environ, **(env or {}))
        self.pass_socket = pass_socket
        self.process = None

    def set_config(self, config, runner=None):
        """Write the configuration file; [engine] gets the runner of this test."""
        text = config
        if runner:
            engine = f'[engine]\nrunner = {runner}\n'
            text = text.replace('[engine]\n', engine) if '[engine]\n' in text else text + '\n' + engine
        self.config.write_text(text)

    def command(self):
        return [DAEMON, '--config', self.config, '--socket', self.socket, '--models', self.models,
                '--cache', self.cache, '--sessions', self.sessions]

    def start(self):
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, env=self.env)

        def the_socket_answers():
            if self.process.poll() is not None:
                raise AssertionError('onebitd ended: ' + self.read_log())
            try:
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(str(self.socket))
                return True
            except OSError:
                return False
        wait_for(the_socket_answers)
        return self

    def reload(self):
        """Have the daemon take over the configuration as it is now, which has to be sound."""
        before = self.read_log().count('configuration reloaded')
        self.process.send_signal(signal.SIGHUP)

        def it_is_reloaded():
            return self.read_log().count('configuration reloaded') > before
        wait_for(it_is_reloaded)

    def read_log(self):
        return (self.home / 'log').read_text(errors='replace')

    def status(self):
        return json.loads(self.cli('status', '--json').stdout)

    def cli(self, verb, *args, **kw):
        """Run one CLI verb to its end."""
        kw.setdefault('timeout', PATIENCE * 4)
        kw.setdefault('stdin', subprocess.DEVNULL)
        return subprocess.run([CLI, verb, '-s', self.socket, *map(str, args)], capture_output=True,
                              **kw)

    def cli_start(self, verb, *args, **kw):
        return subprocess.Popen([CLI, verb, '-s', self.socket, *map(str, args)],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0,
                                stderr=subprocess.PIPE, **kw)

    def stop(self):
        """SIGTERM and a clean end: exit 0, nobody left, socket gone."""
        runner = None
        if self.process.poll() is None:
            runner = self.status().get('runner_pid')
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=PATIENCE)
        assert code == 0, f'onebitd ended with {code}: {self.read_log()}'
        assert not self.socket.exists(), 'the socket was left behind'
        if runner:
            def the_runner_is_gone():
                return not alive(runner)
            wait_for(the_runner_is_gone)
        left = [p.name for p in self.cache.iterdir() if not p.name.endswith(('.pack', '.tune', '.kv')) and p.name != 'salts']
        assert left in ([], ['lock']), f'left in the cache: {left}'

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.clean()
            raise

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stop()
            else:
                print(self.read_log())
        finally:
            self.clean()

    def clean(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)


# ---- msgpack and frames, as little as the tests need and independent of the project's own ----

def pack(value):
    if value is None:
        return b'\xc0'
    if isinstance(value, bool):
        return b'\xc3' if value else b'\xc2'
    if isinstance(value, int):
        if 0 <= value < 128:
            return bytes([value])
        return b'\xcf' + struct.pack('>Q', value) if value >= 0 else b'\xd3' + struct.pack('>q', value)
    if isinstance(value, float):
        return b'\xcb' + struct.pack('>d', value)
    if isinstance(value, str):
        data = value.encode()
        return b'\xdb' + struct.pack('>I', len(data)) + data
    if isinstance(value, (list, tuple)):
        return b'\xdd' + struct.pack('>I', len(value)) + b''.join(map(pack, value))
    return b'\xdf' + struct.pack('>I', len(value)) + b''.join(pack(k) + pack(v) for k, v in value.items())


def unpack(data, at=0):
    """One value at `at`: (value, next)."""
    b = data[at]
    at += 1
    if b < 0x80:
        return b, at
    if b >= 0xe0:
        return b - 256, at
    if b < 0x90 or b in (0xde, 0xdf):
        n, at = (b & 15, at) if b < 0x90 else _number(data, at, 2 if b == 0xde else 4)
        out = {}
        for _ in range(n):
            key, at = unpack(data, at)
            out[key], at = unpack(data, at)
        return out, at
    if b < 0xa0 or b in (0xdc, 0xdd):
        n, at = (b & 15, at) if b < 0xa0 else _number(data, at, 2 if b == 0xdc else 4)
        items = []
        for _ in range(n):
            item, at = unpack(data, at)
            items.append(item)
        return items, at
    if b < 0xc0 or b in (0xd9, 0xda, 0xdb, 0xc4, 0xc5, 0xc6):
        width = {0xd9: 1, 0xda: 2, 0xdb: 4, 0xc4: 1, 0xc5: 2, 0xc6: 4}.get(b)
        n, at = _number(data, at, width) if width else (b & 31, at)
        raw = data[at:at + n]
        return (raw if b in (0xc4, 0xc5, 0xc6) else raw.decode()), at + n
    if b in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[b], at
    if b in (0xca, 0xcb):
        width, form = (4, '>f') if b == 0xca else (8, '>d')
        return struct.unpack(form, data[at:at + width])[0], at + width
    width = 1 << (b & 3)
    raw = data[at:at + width]
    return int.from_bytes(raw, 'big', signed=b >= 0xd0), at + width


def _number(data, at, width):
    return int.from_bytes(data[at:at + width], 'big'), at + width


class Peer:
    """A raw client: frames in, frames out, and the liberty to misbehave."""

    def __init__(self, daemon, hello=True):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(PATIENCE)
        self.s.connect(str(daemon.socket))
        self.bytes = b''
        if hello:
            self.send({'type': 'hello', 'protocol': [1, 0], 'name': 'test'})
            self.hello = self.receive()
            assert self.hello['type'] == 'hello', self.hello

    def send(self, message):
        body = pack(message)
        self.s.sendall(struct.pack('<I', len(body)) + body)

    def receive(self):
        """The next frame, or None when the daemon has closed."""
        while True:
            if len(self.bytes) >= 4:
                n = struct.unpack('<I', self.bytes[:4])[0]
                if len(self.bytes) >= 4 + n:
                    body, self.bytes = self.bytes[4:4 + n], self.bytes[4 + n:]
                    return unpack(body)[0]
            try:
                more = self.s.recv(65536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self.bytes += more

    def until_end(self, number):
        """All frames of one request up to its terminal one."""
        frames = []
        while True:
            frame = self.receive()
            assert frame is not None, f'closed before the end of request {number}: {frames[-1:]}'
            if frame.get('id') == number:
                frames.append(frame)
                if frame['type'] in ('done', 'error'):
                    return frames

    def close(self):
        self.s.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def text_of(frames):
    return ''.join(f.get('text', '') for f in frames if f['type'] == 'delta')


class Manager:
    """What a service manager hears."""

    def __init__(self):
        self.home = tempfile.mkdtemp(prefix='onebit-test-')
        self.path = self.home + '/notify'
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.s.settimeout(PATIENCE)
        self.s.bind(self.path)

    def until_ready(self):
        """All notifications up to the one that has READY, each as a dictionary."""
        heard = []
        while not heard or 'READY' not in heard[-1]:
            lines = self.s.recv(4096).decode().splitlines()
            heard.append(dict(line.split('=', 1) for line in lines))
        return heard

    def until_status(self, status, ends=None):
        """Each STATUS up to this one, or until the process that speaks has ended."""
        heard = []
        self.s.settimeout(PATIENCE if ends is None else 0.2)
        while not heard or heard[-1] != status:
            try:
                lines = self.s.recv(4096).decode().splitlines()
            except TimeoutError:
                if ends is None:
                    raise
                if ends.poll() is not None:
                    break
                continue
            heard += [line.split('=', 1)[1] for line in lines if line.startswith('STATUS=')]
        return heard

    def close(self):
        self.s.close()
        shutil.rmtree(self.home)
