#!/usr/bin/env python3
"""Malformed model files: each is refused in one line, or loads and then generates without harm, as the index
that comes with them says. Nothing may crash, hang or take memory without bound."""
import json
import os
import re
import resource
import struct
import subprocess
import sys

from lab import LAB, need_shared

ADDRESS_SPACE = 6 << 30
SECONDS = 60
LINE = re.compile(rb'^onebit-lab: [^\n]+ \(at byte (\d+)\)\n$')
# Files whose defect is the value of a key, or a key or tensor that is not there.
VALUES = {
    'alignment-24.gguf': b'general.alignment',
    'arch-u32.gguf': b'general.architecture',
    'block-count-2p31.gguf': b'llama.block_count',
    'head-count-3.gguf': b'llama.attention.head_count',
    'rope-dim-large.gguf': b'llama.rope.dimension_count',
    'tokenizer-model-unknown.gguf': b'tokenizer.ggml.model',
}


def limited():
    if os.environ.get('ONEBIT_SANITIZED') != '1':  # a sanitizer reserves terabytes
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def run(*args):
    return subprocess.run([LAB, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
                          preexec_fn=limited)


def misplaced(path, offset):
    """Why this offset cannot be where the defect is, or None."""
    data = path.read_bytes()
    if offset > len(data):
        return f'byte {offset} is beyond the file'
    if offset == 0 and data[:4] == b'GGUF':
        return 'nothing is wrong at byte 0'
    name = VALUES.get(path.name)
    if name and data.index(struct.pack('<Q', len(name)) + name) + 8 + len(name) + 4 != offset:
        return f'byte {offset} is not the value of {name}'
    if '-missing' in path.name and offset < data.index(b'tokenizer.ggml.'):
        return f'byte {offset} is not past what is there'
    return None


def fault_of(path, expect):
    """What is wrong with how this file was met, or None."""
    done = run('verify', path)
    if expect == 'load' and done.returncode != 0:
        return f'a valid file ended with {done.returncode}: {done.stderr}'
    if expect == 'reject' and done.returncode not in (65, 69):
        return f'was not refused: exit {done.returncode}: {done.stderr[-500:]}'
    if done.returncode not in (0, 65, 69):
        return f'exit {done.returncode}: {done.stderr[-500:]}'
    if done.returncode != 0:
        said = LINE.match(done.stderr)
        if path.name == 'block-count-2p31.gguf' and done.returncode != 65:
            return 'layers that are not there make a file unsound'
        return misplaced(path, int(said[1])) if said else f'not one line with an offset: {done.stderr}'
    done = run('generate', path, '--ids', '1,2,3', '-n', 8, '--json')
    if done.returncode not in ((0,) if expect == 'load' else (0, 65)):
        return f'generate ended with {done.returncode}: {done.stderr[-500:]}'
    return None


def fault_of_vocabulary(path):
    """A file without weights serves for tokens, and is sound but unsupported as a model."""
    done = run('verify', path)
    if done.returncode != 69 or not LINE.match(done.stderr):
        return f'verify ended with {done.returncode}: {done.stderr}'
    done = run('detokenize', path)
    return None if done.returncode == 65 else f'detokenize of nothing ended with {done.returncode}: {done.stderr}'


folder = need_shared('oracle/bad')
index = json.loads((folder / 'index.json').read_text())
assert len(index) > 100
faults = 0
for entry in index:
    fault = fault_of(folder / entry['file'], entry['expect'])
    if fault:
        faults += 1
        print(f"{entry['file']} ({entry['defect']}, {entry['expect']}): {fault}")
for name in ('gpt-2', 'llama-spm', 'llama-bpe', 'qwen3'):
    fault = fault_of_vocabulary(need_shared('oracle/tokenizers') / f'{name}.gguf')
    if fault:
        faults += 1
        print(f'{name}: {fault}')
print(f'{len(index)} files, {faults} met wrongly')
sys.exit(faults > 0)
