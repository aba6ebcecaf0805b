#!/usr/bin/env python3
"""A process that takes memory: hog.py MIB_PER_SECOND MIB_MOST [--loop SECONDS]. It says `have N` (MiB) whenever it has
taken more, holds what it has when it has enough, and with --loop frees and takes it anew. It ends with its stdin."""
import argparse
import mmap
import select
import sys
import time

STEP = 5  # MiB


def ended(seconds):
    """Wait; has the other end of stdin gone meanwhile?"""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('rate', type=float)
    parser.add_argument('most', type=int)
    parser.add_argument('--loop', type=float)
    args = parser.parse_args()
    have, since = [], time.monotonic()
    while not ended(STEP / args.rate):
        if len(have) * STEP + STEP <= args.most:
            piece = mmap.mmap(-1, STEP << 20)  # zeroed by the kernel when it is touched
            for at in range(0, STEP << 20, 4096):
                piece[at] = 1
            have.append(piece)
            print('have', len(have) * STEP, flush=True)
        elif args.loop and time.monotonic() - since > args.loop:
            have.clear()
            since = time.monotonic()
            print('have 0', flush=True)


if __name__ == '__main__':
    main()
