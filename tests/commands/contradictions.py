#!/usr/bin/env python3
"""Sentences of the grammar that have more than one answer.

    contradictions.py ROWS-PROGRAM SOURCE-FOLDER [COUNT [SHOWN]]

Goal: a sentence tells its answer; no reader could learn both of two. Method: rows are drawn and told
apart by their words alone, in small letters and without marks. A second drawing has no slips, and
words that say nothing (made up, seldom heard, first names) are one and the same, in sentence and
answer: so it is found where an unknown word is a room here and a name there. Counted are the rows
whose answer is not the most frequent one of their sentence."""
import collections
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

MOST = 0.002
UNSAID = ('rare', 'first_name', 'any_noun')  # rules of words that say nothing
NUMBERS = ('zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen '
           'seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred half point a and')


def words_of(text):
    return re.sub(r"[^a-z0-9%°.' -]", ' ', text.lower()).replace('.', ' . ').replace("'", '').replace(' . ', '.').strip(' .')


def grammar_words(folder):
    """All words that the grammar itself says, and those of them that say nothing."""
    known, nothing, rule = set(NUMBERS.split()), set(), ''
    for path in sorted(folder.glob('*.txt')):
        for line in path.read_text(encoding='utf-8').splitlines():
            if not line.startswith(' '):
                rule = line.split()[1] if line.startswith('= ') else ''
                continue
            found = re.findall(r"[a-z0-9]+", line.replace("'", ''))
            (nothing if rule in UNSAID else known).update(found)
    for word in list(known):
        known.update({word + 's', word + 'ed'})
    return known, nothing - known


def masked(text, known, nothing):
    out = []
    for word in text.split():
        bare = re.sub(r"[^a-z0-9]", '', word)
        unknown = bare and not bare[0].isdigit() and not set(word.split('-')) <= known and (bare in nothing or bare.rstrip('s') in nothing or bare not in known)
        out.append('~' if unknown else word)
    return ' '.join(out)


def draw(program, folder, count, seed):
    command = [program, '--count', str(count), '--seed', str(seed), '--split', 'all', '--grammar', str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding='utf-8') as process:
        for line in process.stdout:
            row = json.loads(line)
            yield row['prompt'], row['answer']
        if process.wait():
            sys.exit('no rows were drawn')


def answer_words(answer, mask):
    said = json.loads(answer)
    return tuple((name, mask(words_of(value)) if isinstance(value, str) and name != 'intent' else value)
                 for name, value in said.items())


def search(rows, mask, shown, what):
    groups, count = collections.defaultdict(collections.Counter), 0
    for prompt, answer in rows:
        text = ' '.join(words_of(prompt).replace(',', ' ').split())
        groups[mask(text)][answer_words(answer, mask)] += 1
        count += 1
    wrong = [(sum(some.values()) - max(some.values()), text, some) for text, some in groups.items() if len(some) > 1]
    wrong.sort(key=lambda one: (-one[0], one[1]))
    rate = sum(one[0] for one in wrong) / count
    print(f'{what}: {count} rows, {len(groups)} sentences, {len(wrong)} of them with several answers: '
          f'{100 * rate:.3f} % of rows')
    for lost, text, some in wrong[:shown]:
        print(f'  {lost} {text!r}')
        for answer, n in some.most_common(3):
            print(f"      {n} {' '.join(f'{name}={value}' for name, value in answer)}")
    return rate


def main():
    program, source = sys.argv[1], pathlib.Path(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 100000
    shown = int(sys.argv[4]) if len(sys.argv) > 4 else 10
    folder = source / 'train/commands/grammar'
    known, nothing = grammar_words(folder)
    with tempfile.TemporaryDirectory() as clean:
        for path in folder.glob('*.txt'):
            shutil.copy(path, clean)
        mix = pathlib.Path(clean) / '00-mix.txt'
        text = re.sub(r'^(noise (?:filler|repeat|typo|apostrophe)) .*$', r'\1 0', mix.read_text(encoding='utf-8'), flags=re.M)
        mix.write_text(text, encoding='utf-8')
        rates = (search(draw(program, folder, count, 21), lambda text: text, shown, 'as said'),
                 search(draw(program, clean, count, 22), lambda text: masked(text, known, nothing), shown, 'masked'))
    return max(rates) > MOST


if __name__ == '__main__':
    sys.exit(main())
