#!/usr/bin/env python3
"""Start a daemon on a private socket, put one prompt to it, stop it, leave nothing behind.

    run_once.py BUILD MODELS -- [onebit run options] PROMPT
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

build, models = (pathlib.Path(p).resolve() for p in sys.argv[1:3])
words = sys.argv[4:]


def stop(daemon):
    """Ask first; a daemon that does not end in five seconds is killed and that is a failure."""
    if daemon.poll() is not None:
        return daemon.returncode
    daemon.terminate()
    try:
        return daemon.wait(timeout=5)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
        return 1


def main():
    home = pathlib.Path(tempfile.mkdtemp(prefix='onebit-run-'))
    socket = home / 'onebit.sock'
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(128 + number))
    log = open(home / 'log', 'w+', encoding='utf-8')
    daemon = subprocess.Popen(
        [build / 'daemon/onebitd', '--config', '/dev/null', '--socket', socket, '--models', models,
         '--cache', home / 'cache', '--sessions', home / 'sessions'], stdin=subprocess.DEVNULL, stderr=log, stdout=log,
        start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while not socket.exists() and daemon.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        client = subprocess.Popen([build / 'client/onebit', 'run', '-s', socket] + words)
        while True:
            try:
                code = client.wait()
                break
            except KeyboardInterrupt:
                pass  # the client has the signal too and cancels its request
        if stop(daemon) != 0 or code not in (0, 64, 130):
            log.seek(0)
            sys.stderr.write(log.read())
        return code
    finally:
        stop(daemon)
        log.close()
        shutil.rmtree(home, ignore_errors=True)


sys.exit(main())
