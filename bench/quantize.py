#!/usr/bin/env python3
"""What each method of `onebit-lab quantize` leaves of a float model: the table of docs/quantize.md, or of a model of yours.

    quantize.py [--build DIR] [MODEL.gguf --calibrate TEXT --text TEXT [--tokens N] [--ctx N]]

Calibrated on one text, judged on the other, which it has not seen. Without MODEL: a model of random weights, small enough for
all methods in a minute or two, the README for the one text and docs/operations.md for the other, and the table goes into the page."""
import argparse
import array
import json
import math
import pathlib
import subprocess
import sys
import tempfile

from page import replaced, table
from run import ROOT, workbench_of

CASES = [('Q8_0', 'rounding'), ('Q8_0', 'awq'), ('Q4_0', 'rounding'), ('Q4_0', 'refine'), ('Q4_0', 'awq'), ('Q4_0', 'gptq'),
         ('Q4_0', 'propagate'), ('Q2_0', 'rounding'), ('Q2_0', 'refine'), ('Q2_0', 'refine, text'), ('Q2_0', 'propagate'),
         ('Q1_0', 'rounding'), ('Q1_0', 'refine'), ('Q1_0', 'refine, text'), ('Q1_0', 'propagate')]
SEEN = 256  # tokens whose logits are compared


class Judge:
    """A float model and a text that it was not calibrated on."""

    def __init__(self, lab, model, text, ctx):
        self.lab, self.text, self.ctx = lab, text, ctx
        ids = json.loads(subprocess.run([lab, 'tokenize', model], input=text.read_bytes(), stdout=subprocess.PIPE, check=True).stdout)
        self.ids = ','.join(map(str, ids[:SEEN]))
        self.want = self.logits(model)
        self.power = sum(x * x for x in self.want)

    def said(self, *words):
        return subprocess.run([self.lab, *map(str, words)], stdout=subprocess.PIPE, check=True).stdout

    def logits(self, model):
        got = array.array('f')
        got.frombytes(self.said('logits', model, '--ids', self.ids, '--all'))
        return got

    def distance(self, model):
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(self.logits(model), self.want)) / self.power)

    def perplexity(self, model):
        return json.loads(self.said('perplexity', model, '--text', self.text, '--ctx', self.ctx, '--json'))['perplexity']


def mean_of(tensors, field):
    """The root of the mean square, each matrix by its weights; a dash where nobody knows."""
    known = [t for t in tensors if t['name'].startswith('blk.') and t['from'] != t['format'] and t[field] is not None]
    weights = sum(t['weights'] for t in known)
    return f'{math.sqrt(sum(t[field] ** 2 * t["weights"] for t in known) / weights):.4f}' if weights else '-'


def row_of(judge, args, model, out, fmt, method):
    with_text = method not in ('rounding', 'refine')
    name = method.partition(',')[0]
    words = ['quantize', model, out, '--json', '--format', fmt, '--method', name]
    if with_text:
        words += ['--calibrate', args.calibrate, '--tokens', args.tokens, '--ctx', args.ctx]
    said = json.loads(judge.said(*words))
    return [fmt, method, out.stat().st_size, mean_of(said['tensors'], 'error'), mean_of(said['tensors'], 'output_error'),
            mean_of(said['tensors'], 'rounding_output_error'), f'{judge.distance(out):.4f}', f'{judge.perplexity(out):.2f}']


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', type=pathlib.Path, nargs='?')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build')
    parser.add_argument('--calibrate', type=pathlib.Path, default=ROOT / 'README.md')
    parser.add_argument('--text', type=pathlib.Path, default=ROOT / 'docs/operations.md')
    parser.add_argument('--tokens', type=int, default=8192)
    parser.add_argument('--ctx', type=int, default=256)
    args = parser.parse_args()
    lab = workbench_of(args.build)
    with tempfile.TemporaryDirectory(prefix='onebit-quantize-', dir='/var/tmp') as home:
        model, out = args.model, pathlib.Path(home) / 'out.gguf'
        if not model:
            model = pathlib.Path(home) / 'float.gguf'
            subprocess.run([lab, 'make', '--shape', 'tiny-llama', '--format', 'F32', model], check=True)
        judge = Judge(lab, model, args.text, args.ctx)
        rows = [['as it is', '', model.stat().st_size, '', '', '', '0', f'{judge.perplexity(model):.2f}']]
        rows += [row_of(judge, args, model, out, *case) for case in CASES]
    columns = ['format', 'method', 'bytes', 'weights lose', 'outputs lose', 'by rounding', 'logits differ', 'perplexity']
    if args.model:
        print(table(columns, rows))
        return
    text = table(columns[:-1], [row[:-1] for row in rows])  # the perplexity of random weights means nothing
    page = ROOT / 'docs/quantize.md'
    page.write_text(replaced(page.read_text(encoding='utf-8'), 'methods', text), encoding='utf-8')


if __name__ == '__main__':
    sys.exit(main())
