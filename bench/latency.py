#!/usr/bin/env python3
"""How long the daemon lets one wait on this machine, and what it costs when nobody asks. Prints medians and 99th
percentiles; asserts nothing but that every answer is of the expected kind.

    latency.py [--runs N] [--build DIR] [--json FILE]

A daemon of its own runs in a temporary folder with the shipped model. Rows:
  answer            a request to its last token, over one open connection
  ps, status idle   control verbs while nothing runs
  ps, status busy   the same while 8 streams decode
  cancel decoding   a cancel to the terminal frame of a request that decodes
  cancel waiting    the same for one that waits in the queue
  refusal           a request to its `queue_full`, beside a full queue
Then the broker's memory at rest and how often it wakes up in 5 seconds without a request."""
import argparse
import json
import pathlib
import socket
import statistics
import sys
import threading
import time

from run import ROOT, machine, use_daemon_of

ASK = {'type': 'generate', 'messages': [{'role': 'user', 'content': 'turn on the kitchen lights'}]}
LONG = {'type': 'generate', 'prompt': 'x', 'max_tokens': 1000, 'ignore_eos': True, 'deadline_ms': 600000}
STREAMS, WAITING = 8, 4
CONFIG = f'[engine]\nstreams_max = {STREAMS}\n[queue]\ntotal = {WAITING}\n[limits]\nstall_ms = 600000\n'
SETTLE_SECONDS, REST_SECONDS = 1, 5


class Asker:
    """A connection that counts its requests."""

    def __init__(self, daemon):
        from harness import Peer
        self.peer = Peer(daemon)
        self.n = 0

    def ask(self, message):
        self.n += 1
        self.peer.send({**message, 'id': self.n})
        return self.n

    def end(self, number, want):
        """The terminal frame of a request, which has to be of this type or have this name."""
        frame = self.peer.until_end(number)[-1]
        if want not in (frame['type'], frame.get('name')):
            sys.exit(f'want {want}: {frame}')
        return frame

    def first(self, number, kind):
        """Read up to this kind of frame, which has to come before the end."""
        while True:
            frame = self.peer.receive()
            if frame is None or (frame['id'] == number and frame['type'] in ('error', 'done')):
                sys.exit(f'want {kind}: {frame}')
            if frame['id'] == number and frame['type'] == kind:
                return frame

    def timed(self, message, want):
        start = time.perf_counter()
        self.end(self.ask(message), want)
        return time.perf_counter() - start


class Crowd:
    """Requests that keep all streams busy, and maybe some more that wait; each is asked anew when it has ended."""

    def __init__(self, daemon, waiting=0):
        self.asker = Asker(daemon)
        for _ in range(STREAMS + waiting):
            self.asker.ask(LONG)
        started = set()
        while len(started) < STREAMS:
            frame = self.asker.peer.receive()
            if frame['type'] == 'delta':
                started.add(frame['id'])
        self.over = False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.over:
            frame = self.asker.peer.receive()
            if frame is None:
                return
            if frame['type'] in ('done', 'error') and not self.over:
                self.asker.ask(LONG)

    def end(self):
        self.over = True
        self.asker.peer.s.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.asker.peer.close()


def cancels(asker, runs, reach):
    """Seconds from a cancel to the terminal frame of its target, which has reached this kind of frame."""
    times = []
    for _ in range(runs):
        target = asker.ask(LONG)
        asker.first(target, reach)
        start = time.perf_counter()
        cancel = asker.ask({'type': 'cancel', 'target': target})
        asker.end(target, 'cancelled')
        times.append(time.perf_counter() - start)
        asker.end(cancel, 'done')
    return times


def refusals(asker, runs):
    """Seconds to `queue_full`. When a stream has just ended there may be room: that try does not count."""
    times = []
    while len(times) < runs:
        start = time.perf_counter()
        number = asker.ask(LONG)
        frame = asker.peer.receive()
        while frame['id'] != number:
            frame = asker.peer.receive()
        if frame.get('name') == 'queue_full':
            times.append(time.perf_counter() - start)
        elif frame['type'] == 'accepted':
            asker.end(asker.ask({'type': 'cancel', 'target': number}), 'done')
        else:
            sys.exit(f'want queue_full: {frame}')
    return times


def numbers(path, *keys):
    """Whole numbers of `key: value` lines."""
    found = {}
    for line in pathlib.Path(path).read_text(encoding='ascii').splitlines():
        key, _, value = line.partition(':')
        if key in keys:
            found[key] = int(value.split()[0])
    return found


def at_rest(pid):
    """The broker's memory and its wake-ups."""
    time.sleep(SETTLE_SECONDS)  # what has just closed has been seen
    memory = numbers(f'/proc/{pid}/status', 'VmRSS', 'VmHWM')
    memory.update(numbers(f'/proc/{pid}/smaps_rollup', 'Pss', 'Private_Dirty'))
    before = numbers(f'/proc/{pid}/status', 'voluntary_ctxt_switches')
    time.sleep(REST_SECONDS)
    after = numbers(f'/proc/{pid}/status', 'voluntary_ctxt_switches')
    wakes = after['voluntary_ctxt_switches'] - before['voluntary_ctxt_switches']
    return {**memory, 'wakes_per_second': wakes / REST_SECONDS}


def measure(daemon, runs):
    """Yield (row, seconds)."""
    asker = Asker(daemon)
    for _ in range(3):
        asker.timed(ASK, 'done')  # the model is loaded and packed now
    yield 'answer', [asker.timed(ASK, 'done') for _ in range(runs)]
    for verb in ('ps', 'status'):
        yield verb + ' idle', [asker.timed({'type': verb}, 'done') for _ in range(runs)]
    yield 'cancel decoding', cancels(asker, runs, 'delta')
    crowd = Crowd(daemon)
    for verb in ('ps', 'status'):
        yield verb + ' busy', [asker.timed({'type': verb}, 'done') for _ in range(runs)]
    yield 'cancel waiting', cancels(asker, runs, 'accepted')
    crowd.end()
    crowd = Crowd(daemon, WAITING)
    yield 'refusal', refusals(asker, runs)
    crowd.end()
    asker.peer.close()


def p99(times):
    return sorted(times)[min(len(times) - 1, len(times) * 99 // 100)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=200, help='times each row is measured')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--json', type=pathlib.Path)
    args = parser.parse_args()
    if args.runs < 1:
        parser.error('--runs wants at least 1')
    return args


def main():
    args = arguments()
    use_daemon_of(args.build)
    from harness import Daemon
    where, rows = machine(), {}
    print(', '.join(f'{k} {v}' for k, v in where.items()))
    print(f"{'':<16} {'median ms':>10} {'p99 ms':>10}   {args.runs} times each", flush=True)
    with Daemon(config=CONFIG) as daemon:
        fresh = at_rest(daemon.process.pid)
        for name, times in measure(daemon, args.runs):
            rows[name] = times
            print(f'{name:<16} {statistics.median(times) * 1e3:>10.3f} {p99(times) * 1e3:>10.3f}', flush=True)
        rest = {'fresh': fresh, 'after the above': at_rest(daemon.process.pid)}
    for when, r in rest.items():
        print(f"broker at rest, {when}: resident {r['VmRSS']} kB (Pss {r['Pss']} kB, private dirty "
              f"{r['Private_Dirty']} kB), {r['wakes_per_second']:.1f} wake-ups/s")
    if args.json:
        args.json.write_text(json.dumps({'machine': where, 'rows': rows, 'at_rest': rest}, indent=1) + '\n')


if __name__ == '__main__':
    main()
