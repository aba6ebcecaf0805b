#!/usr/bin/env python3
"""onebit-lab tune: the measurement, its table, and the file beside a packed model; generate --draft."""
import pathlib
import tempfile
import unittest

from lab import HOME_MODEL, fine, fine_json, lab

RECORD = 64


class Tune(unittest.TestCase):

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.packed = self.home / 'm-0123456789abcdef.pack'
        self.kept = self.packed.with_suffix('.tune')
        fine('pack', HOME_MODEL, '--out', self.packed)

    def test_the_figures_fit_what_is_chosen(self):
        said = fine_json('tune', HOME_MODEL, '--threads', 2, '--json')
        self.assertEqual((said['threads'], said['kept']), (2, None))
        counts = [row['threads'] for row in said['by_threads']]
        self.assertEqual(counts[0], 2)
        self.assertIn(1, counts)
        self.assertIn(said['generate_threads'], counts)
        self.assertIn(said['prompt_threads'], counts)
        self.assertGreaterEqual(said['rounds'], 5)
        sizes = {row['tokens']: row['layers_us'] for row in said['by_tokens']}
        self.assertEqual(sorted(sizes), [1, 2, 4, 8, 16])
        rates = {n: n / us for n, us in sizes.items()}
        if said['disturbed']:
            self.assertEqual((said['generate_threads'], said['prompt_threads'], said['streams']), (2, 2, 0))
            return
        self.assertEqual(said['streams'], min(n for n in rates if rates[n] >= 0.9 * max(rates.values())))
        for key, chosen in (('generate_us', said['generate_threads']), ('prompt_us', said['prompt_threads'])):
            by = {row['threads']: row[key] for row in said['by_threads']}
            self.assertGreater(by[2], 0)
            if chosen != 2:
                self.assertLess(by[chosen], by[2])

    def test_a_packed_file_gets_it_beside_it_and_a_second_one_takes_its_place(self):
        said = fine('tune', self.packed).decode()
        self.assertIn(str(self.kept), said)
        self.assertIn('the default', said)
        first = self.kept.read_bytes()
        self.assertEqual((len(first), first[:8]), (RECORD, b'obtuning'))
        self.kept.write_bytes(b'x' * 1000)
        self.assertEqual(fine_json('tune', self.packed, '--json')['kept'], str(self.kept))
        self.assertEqual(len(self.kept.read_bytes()), RECORD)
        self.assertEqual(sorted(p.name for p in self.home.iterdir()), sorted([self.packed.name, self.kept.name]))

    def test_too_little_time_chooses_nothing_and_writes_nothing(self):
        large = self.home / 'large.gguf'
        fine('make', '--shape', 'llama-160m', '--format', 'Q8_0', large)
        done = lab('tune', large, '--ms', 1)
        self.assertEqual((done.returncode, done.stdout), (65, b''))
        self.assertIn(b'--ms', done.stderr)

    def test_a_place_that_cannot_be_written_is_refused_before_measuring(self):
        self.kept.mkdir()
        self.assertEqual(lab('tune', self.packed).returncode, 73)


class Drafts(unittest.TestCase):
    """Guesses at next tokens: the same answer, whatever they were."""

    def test_texts_are_the_same_with_and_without(self):
        drafted = accepted = 0
        for prompt in ('turn on the kitchen lights', 'a b c a b c a b c a b', 'set the lamp lamp lamp lamp to to to'):
            for more in ([], ['--temperature', 0.3, '--seed', 7], ['--temperature', 1.2, '--seed', 3],
                         ['--repeat-penalty', 1.3]):
                said = [fine_json('generate', HOME_MODEL, '--prompt', prompt, '-n', 90, '--ignore-eos', '--draft', n,
                                  '--json', *more) for n in (0, 1, 5, 16)]
                self.assertEqual([said[0]['drafted'], said[0]['accepted']], [0, 0])
                for other in said[1:]:
                    self.assertEqual([other[k] for k in ('ids', 'text', 'finish_reason')],
                                     [said[0][k] for k in ('ids', 'text', 'finish_reason')])
                    self.assertLessEqual(other['accepted'], other['drafted'])
                    drafted += other['drafted']
                    accepted += other['accepted']
        self.assertGreater(accepted, 0)
        self.assertGreater(drafted, accepted)

    def test_lengths_and_limits(self):
        for n in range(6):
            said = [fine_json('generate', HOME_MODEL, '--prompt', 'a b a b a b a', '-n', n, '--ignore-eos', '--draft', k,
                              '--json')['ids'] for k in (0, 8)]
            self.assertEqual(said[0], said[1])
            self.assertEqual(len(said[0]), n)
        self.assertEqual(lab('generate', HOME_MODEL, '--prompt', 'x', '--draft', 17).returncode, 64)


if __name__ == '__main__':
    unittest.main(verbosity=2)
