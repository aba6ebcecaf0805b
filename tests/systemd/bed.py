"""A real systemd as process 1 of its own namespaces, on a throw-away copy of this machine's root.

It needs root, namespaces, overlayfs and a cgroup2 mount to put a child group into. Controllers are not
needed (and where they are bound to cgroup v1, limits of memory and processor have no effect inside). Outside,
nothing changes but for that group, which goes with it."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SYSTEMD = pathlib.Path('/lib/systemd/systemd')
BOOT_S = 120


def cgroup2():
    for line in pathlib.Path('/proc/mounts').read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == 'cgroup2' and 'rw' in options.split(','):
            return pathlib.Path(where)
    return None


def lacks():
    """Why there can be no bed here; empty: there can."""
    if os.geteuid() != 0:
        return 'it is not run by root'
    for program in ('unshare', 'nsenter', 'pivot_root', 'meson', 'systemctl', 'journalctl'):
        if not shutil.which(program, path=os.environ['PATH'] + ':/usr/sbin:/sbin'):
            return f'there is no {program}'
    if not SYSTEMD.exists():
        return 'systemd is not installed'
    if not cgroup2():
        return 'no cgroup2 is mounted writable'
    tried = subprocess.run(['unshare', '-m', '-p', '-f', '-C', '-i', '-u', 'true'], capture_output=True, text=True)
    if tried.returncode != 0:
        return f'namespaces cannot be made: {tried.stderr.strip()}'
    return ''


class Bed:
    made = 0

    def __init__(self, build='none'):
        Bed.made += 1
        name = f'onebit-bed-{os.getpid()}-{Bed.made}'
        self.group = cgroup2() / name
        self.group.mkdir()
        self.log = open(f'/tmp/{name}.log', 'w+b')
        self.pid = None

        def enter():
            (self.group / 'cgroup.procs').write_text('0')
        try:
            self.process = subprocess.Popen(
                ['unshare', '-m', '-p', '-f', '-C', '-i', '-u', '--kill-child', 'bash', HERE / 'bed.sh', str(build)],
                stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=enter)
            self._wait_for_boot()
        except BaseException:
            self.close()
            raise

    def _wait_for_boot(self):
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            children = pathlib.Path(f'/proc/{self.process.pid}/task/{self.process.pid}/children').read_text().split()
            if children and self.pid is None and \
                    pathlib.Path(f'/proc/{children[0]}/comm').read_text().strip() == 'systemd':
                self.pid = int(children[0])
            if self.pid and self.run('systemctl is-active bed.target', check=False).stdout.strip() == 'active':
                return
            time.sleep(0.1)
        self.log.flush()
        raise RuntimeError('systemd did not come up: ' + pathlib.Path(self.log.name).read_text(errors='replace')[-3000:])

    def command(self, *words):
        return ['nsenter', '-t', str(self.pid), '-a', '-r', '-w', 'env', '-i', 'HOME=/root', 'LC_ALL=C.UTF-8',
                'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'DEBIAN_FRONTEND=noninteractive',
                *map(str, words)]

    def run(self, script, check=True, timeout=120):
        done = subprocess.run(self.command('bash', '-c', script), capture_output=True, text=True, errors='replace',
                              timeout=timeout, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise AssertionError(f'{script}: {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}')
        return done

    def start(self, *words, **kw):
        return subprocess.Popen(self.command(*words), stdin=subprocess.DEVNULL, **kw)

    def journal(self, unit='onebitd.service', since=None):
        cursor = f'--after-cursor={since!r}' if since else ''
        return self.run(f'journalctl --no-pager -o cat -u {unit} {cursor}').stdout

    def cursor(self):
        self.run('journalctl --sync', check=False)
        out = self.run('journalctl --no-pager -n0 --show-cursor').stdout
        return out.split('cursor: ')[1].strip()

    def show(self, what, unit='onebitd.service'):
        return self.run(f'systemctl show -P {what} {unit}').stdout.strip()

    def close(self):
        process = getattr(self, 'process', None)
        if process and process.poll() is None:
            process.send_signal(signal.SIGKILL)  # --kill-child: systemd goes with it, and all of its own
            process.wait()
        end = time.monotonic() + 20
        while time.monotonic() < end and any((g / 'cgroup.procs').read_text() for g in self._groups()):
            time.sleep(0.05)
        for group in self._groups():
            group.rmdir()
        self.log.close()
        os.unlink(self.log.name)

    def _groups(self):
        """This and what lies in it, the innermost first."""
        return [pathlib.Path(root) for root, _, _ in os.walk(self.group, topdown=False)]


if __name__ == '__main__':  # a shell in a bed, to look around
    why = lacks()
    if why:
        sys.exit(f'no bed: {why}')
    bed = Bed(sys.argv[1] if len(sys.argv) > 1 else 'none')
    try:
        subprocess.run(bed.command('bash', '-i'), check=False)
    finally:
        bed.close()
