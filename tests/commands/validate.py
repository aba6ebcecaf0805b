#!/usr/bin/env python3
"""Rows drawn from the grammar, against schema.json and against themselves.

    validate.py ROWS-PROGRAM SOURCE-FOLDER

Goal: every answer is one that the schema has, in its order; every intent, slot and word of a slot
occurs; what is copied was said; the two splits share no template; the same seed, the same bytes;
no slip where none is wanted, no sentence that is kept out.
Method: draw rows of both splits by the program and check each by rules written here from the schema
file, apart from those that the generator has itself."""
import collections
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

COUNT = 40000
TEXTS = {'name', 'area', 'floor', 'item', 'search_query', 'message', 'conversation_command'}


def fits(value, rule):
    if 'enum' in rule:
        return value in rule['enum']
    if rule['type'] == 'string':
        return isinstance(value, str) and rule['minLength'] <= len(value) <= rule['maxLength']
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if rule['type'] == 'integer' and not isinstance(value, int):
        return False
    return rule['minimum'] <= value <= rule['maximum'] and value % rule.get('multipleOf', 0.5) == 0


def faults(answer, shapes, schema):
    shape = shapes.get(answer.get('intent'))
    if shape is None:
        yield 'no such intent'
        return
    for name, value in answer.items():
        if name not in shape['properties']:
            yield f'{name} is no slot of it'
        elif name != 'intent' and not fits(value, schema['$defs'][shape['properties'][name]['$ref'].split('/')[-1]]):
            yield f'{name} cannot be {value!r}'
    if any(name not in answer for name in shape['required']) or len(answer) < shape.get('minProperties', 1):
        yield 'something required is missing'
    if 'anyOf' in shape and not any(set(one['required']) <= set(answer) for one in shape['anyOf']):
        yield 'none of the slots of which one is required'
    if 'not' in shape and set(shape['not']['required']) <= set(answer):
        yield 'a value and a change'
    if any(name in answer and not set(needs) <= set(answer) for name, needs in shape.get('dependentRequired', {}).items()):
        yield 'by without change'
    order = [name for name in schema['x-key-order'] if name in answer]
    if order != list(answer):
        yield f'the order is {order}'


def unsaid(prompt, answer):
    """Slots that are copied, and do not stand in the sentence."""
    for name in TEXTS & set(answer):
        said = answer[name]
        if not (name == 'area' and said == 'everywhere') and said not in prompt:
            yield f'{name} {said!r} was not said'


def draw(program, source, split, seed, *more):
    command = [program, '--count', str(COUNT), '--seed', str(seed), '--split', split, '--grammar',
               str(source / 'train/commands/grammar'), *more]
    return subprocess.run(command, check=True, capture_output=True).stdout


def kept_out(program, source):
    """Draws again without sentences that were drawn before."""
    sys.path.insert(0, str(source / 'train/commands'))
    from keep_out import normal

    def sentences(data):
        return [normal(json.loads(row)['prompt']) for row in data.splitlines()]
    with tempfile.TemporaryDirectory() as home:
        first, hashes = pathlib.Path(home) / 'first.jsonl', pathlib.Path(home) / 'hashes'
        first.write_bytes(b'\n'.join(draw(program, source, 'all', 8).splitlines()[:5000]))
        with open(hashes, 'wb') as to:
            subprocess.run([sys.executable, source / 'train/commands/keep_out.py', first], check=True, stdout=to)
        unwanted = set(sentences(first.read_bytes()))
        plain, kept = (sentences(draw(program, source, 'all', 8, *more)) for more in ((), ('--keep-out', hashes)))
    if len(kept) != COUNT or unwanted & set(kept) or not unwanted & set(plain):
        yield f'{len(kept)} rows, {len(unwanted & set(kept))} sentences that were to be kept out'


def broken_off(program, source):
    """A file is replaced by all that was asked for, or stays: where no row of the split comes, and where a person ends it."""
    for ended, words in ((65, ['--count', '1', '--split', 'valid', '--templates', '0']), (128 + signal.SIGTERM, ['--count', '100000000'])):
        with tempfile.TemporaryDirectory() as home:
            out = pathlib.Path(home) / 'rows.jsonl'
            out.write_text('before')
            at_work = subprocess.Popen([program, *words, '--grammar', str(source / 'train/commands/grammar'), '-o', out],
                                       stderr=subprocess.DEVNULL)
            until = time.monotonic() + 60
            while ended > 128 and len(list(out.parent.iterdir())) == 1 and time.monotonic() < until:
                time.sleep(0.01)
            if ended > 128:
                at_work.terminate()
            code, left = at_work.wait(60), list(out.parent.iterdir())
            if code != ended or out.read_text() != 'before' or left != [out]:
                yield f'broken off with {code}: {out.read_bytes()[:40]!r} among {len(left)} files'


def main():
    program, source = sys.argv[1], pathlib.Path(sys.argv[2])
    schema = json.loads((source / 'train/commands/schema.json').read_text(encoding='utf-8'))
    shapes = {shape['properties']['intent']['const']: shape for shape in schema['oneOf']}
    seen, templates, wrong = collections.Counter(), {}, []
    for split in ('train', 'valid'):
        data = draw(program, source, split, 7)
        if data != draw(program, source, split, 7):
            wrong.append(f'{split}: drawn twice, not the same bytes')
        rows = [json.loads(line) for line in data.decode('utf-8').splitlines()]
        templates[split] = {row['template'] for row in rows}
        for row in rows:
            answer = json.loads(row['answer'])
            found = list(faults(answer, shapes, schema)) + list(unsaid(row['prompt'], answer))
            if row['answer'] != json.dumps(answer, separators=(',', ':'), ensure_ascii=False):
                found.append('not compact')
            wrong += [f'{row}: {what}' for what in found]
            seen.update((answer['intent'], name) for name in answer)
            seen.update((name, value) for name, value in answer.items() if name not in TEXTS)
    if templates['train'] & templates['valid']:
        wrong.append(f"{len(templates['train'] & templates['valid'])} templates in both splits")
    for intent, shape in shapes.items():
        wrong += [f'{intent} never with {name}' for name in shape['properties'] if not seen[intent, name]]
    for name, rule in schema['$defs'].items():
        wrong += [f'{name} is never {value}' for value in rule.get('enum', []) if not seen[name, value]]
    hummed = [sum(b' erm ' in row for row in draw(program, source, 'train', 7, '--slips', n).splitlines()) for n in '013']
    if hummed[0] or not hummed[1] or hummed[2] < 2 * hummed[1]:
        wrong.append(f'erm in {hummed[0]} rows without slips, in {hummed[1]} with them, in {hummed[2]} with thrice as many')
    wrong += kept_out(program, source)
    wrong += broken_off(program, source)
    print(*wrong[:40], sep='\n', end='\n' if wrong else '')
    print(f"{2 * COUNT} rows, {len(wrong)} faults; templates: {len(templates['train'])} in training, "
          f"{len(templates['valid'])} held back")
    return bool(wrong)


sys.exit(main())
