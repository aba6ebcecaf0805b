#!/usr/bin/env python3
"""A trained model's greedy answers against those of another engine: at least 38 of 40 equal.

That engine quantizes activations its own way, so a close call may fall differently now and then."""
import json
import sys

from lab import chat, need_shared

LEAST = 38
lines = [json.loads(line) for line in need_shared('models/home-q1_0.greedy.jsonl').read_text().splitlines()]
model = need_shared('models/home-q1_0.gguf')
equal = 0
for want in lines:
    got = chat(model, want['command'], options=('-n', 200))['text']
    equal += got == want['answer']
    if got != want['answer']:
        print(f"{want['command']}\n  want {want['answer']}\n  got  {got}")
print(f'{equal} of {len(lines)} equal')
sys.exit(equal < LEAST or len(lines) != 40)
