#!/usr/bin/env python3
"""The arithmetic of `./dev bench` and its picture, without measuring anything."""
import pathlib
import sys
import unittest
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'bench'))
import figures  # noqa: E402
import mca  # noqa: E402
import page  # noqa: E402
import picture  # noqa: E402
import profiles  # noqa: E402


class Scaling(unittest.TestCase):

    def test_on_a_machine_like_theirs_a_figure_is_what_was_published(self):
        self.assertAlmostEqual(figures.scaled('q1', 'llama.cpp', 'generate', 49.0, 1.0), 33.0)
        self.assertAlmostEqual(figures.scaled('q1', 'llama.cpp', 'prompt', 1.0, 1091.0), 50.3)
        self.assertAlmostEqual(figures.scaled('bitnet', 'ik_llama.cpp', 'prompt', 1.0, 1091.0), 134.0)
        self.assertAlmostEqual(figures.scaled('home', 'llama.cpp', 'generate', 1.0, 544.5, one_thread=True), 5300.0)

    def test_generating_follows_reading_and_a_prompt_follows_multiply_adds(self):
        self.assertAlmostEqual(figures.scaled('bitnet', 'llama.cpp', 'generate', 24.5, 999.0), 10.4)
        self.assertAlmostEqual(figures.scaled('bitnet', 'llama.cpp', 'prompt', 999.0, 545.5), 27.0)
        self.assertIsNone(figures.scaled('q4', 'ik_llama.cpp', 'prompt', 49.0, 886.0))

    def test_instructions_are_compared_with_the_same_ones_there(self):
        self.assertAlmostEqual(figures.scaled('q1', 'llama.cpp', 'prompt', 1.0, 488.0, 'avx2'), 50.3)
        self.assertAlmostEqual(figures.scaled('q1', 'llama.cpp', 'prompt', 1.0, 48.8, 'dotprod'), 5.03)
        self.assertAlmostEqual(figures.scaled('home', 'llama.cpp', 'prompt', 1.0, 243.5, 'avx2', one_thread=True), 7700.0)

    def test_who_unpacks_slowly_is_scaled_by_multiply_adds_on_request(self):
        self.assertAlmostEqual(figures.scaled('q1', 'llama.cpp', 'generate', 10.0, 545.5, by_mac=True), 16.5)
        self.assertAlmostEqual(figures.scaled('q1', 'llama.cpp', 'prompt', 10.0, 545.5, by_mac=True), 25.15)

    def test_every_peer_of_a_target_has_a_published_figure(self):
        for row, targets in figures.TARGETS.items():
            for against, _ in targets:
                if against in ('llama.cpp', 'ik_llama.cpp'):
                    model, phase = row.rsplit('-', 1)
                    self.assertIsNotNone(figures.scaled(model, against, phase, 49.0, 751.0), row)


class Saturation(unittest.TestCase):

    def test_it_is_where_a_tenth_is_left_to_gain(self):
        self.assertEqual(figures.saturation({1: 10, 2: 19, 4: 33, 8: 36, 16: 36.6}), 4)
        self.assertEqual(figures.saturation({1: 10, 2: 20, 4: 40, 8: 80, 16: 160}), 16)
        self.assertEqual(figures.saturation({1: 10, 2: 9, 4: 8}), 1)
        self.assertEqual(figures.saturation({4: 36, 1: 10, 2: 27, 8: 30}), 4)  # past the best it falls

    def test_without_rates_there_is_none(self):
        for rates in ({}, {1: 0.0, 2: 3.0}):
            with self.assertRaises(ValueError):
                figures.saturation(rates)


class Verdicts(unittest.TestCase):

    def test_a_target_is_a_ratio_and_a_bound_is_a_figure(self):
        said = figures.verdicts('q1-generate', 100.0, {'llama.cpp': 20.0, 'read': 120.0})
        self.assertEqual([(v['against'], v['met']) for v in said], [('llama.cpp', True), ('read', False)])
        self.assertAlmostEqual(said[1]['reached'], 100 / 120)
        self.assertIs(figures.met(said), False)
        self.assertIs(figures.met(figures.verdicts('first-token', 150.0, {})), True)
        self.assertIs(figures.met(figures.verdicts('first-token', 150.1, {})), False)

    def test_what_was_not_measured_is_neither_met_nor_missed(self):
        said = figures.verdicts('bitnet-generate', 50.0, {'llama.cpp': 10.0})
        self.assertEqual([v['met'] for v in said], [True, None])
        self.assertIsNone(figures.met(said))
        self.assertIs(figures.met(figures.verdicts('bitnet-generate', 5.0, {'llama.cpp': 10.0})), False)
        self.assertIsNone(figures.met(figures.verdicts('overhead', None, {})))
        self.assertIsNone(figures.met(figures.verdicts('no-such-row', 1.0, {})))

    def test_medians_and_spreads_leave_out_what_is_missing(self):
        self.assertEqual(figures.median([3, None, 1, 2]), 2)
        self.assertIsNone(figures.median([None]))
        self.assertAlmostEqual(figures.spread([9, 10, 12]), 0.3)
        self.assertIsNone(figures.spread([9, None]))


class Picture(unittest.TestCase):

    def test_it_is_xml_with_a_bar_for_each_row_and_a_point_for_each_measurement(self):
        rows = [('q1 <prompt>', 0.7, '8 x & more', False), ('home', 20.0, '', True)]
        curves = {'0': ({1: 10.0, 2: 20.0, 16: 50.0}, 16), '2000': ({1: 5.0, 2: 7.0}, 2)}
        root = xml.etree.ElementTree.fromstring(picture.draw('a & b', rows, {'a sweep': curves}))
        kinds = [e.tag.rsplit('}', 1)[1] for e in root]
        self.assertEqual((kinds.count('rect'), kinds.count('circle'), kinds.count('polyline')), (2, 5, 2))
        words = [e.text for e in root]
        self.assertIn('q1 <prompt>', words)
        width = picture.WIDTH + 10
        for e in root:
            for key in ('x', 'x1', 'x2', 'cx'):
                self.assertTrue(-10 <= float(e.get(key, 0)) <= width, e.attrib)
            if e.tag.endswith('rect'):
                self.assertLessEqual(float(e.get('x')) + float(e.get('width')), width)

    def test_scales_have_a_few_round_steps(self):
        for most in (0.9, 7, 38.8, 420, 5300):
            self.assertTrue(0 < most / picture.steps(most) <= 6, most)


class Profiles(unittest.TestCase):
    PHASE = {'tokens': 4, 'steps': 2, 'rows': 2, 'total_ns': 10000, 'sample_ns': 1000, 'parts': [
        {'part': 'qkv', 'ns': 4000, 'wait_ns': 400, 'weight_bytes': 8000, 'multiply_adds': 30000},
        {'part': 'head', 'ns': 2000, 'wait_ns': 0, 'weight_bytes': 1000, 'multiply_adds': 50000},
        {'part': 'rope', 'ns': 2000, 'wait_ns': 200, 'weight_bytes': 0, 'multiply_adds': 0}]}

    def test_parts_are_of_a_token_and_rates_of_steps_tokens_and_rows(self):
        rows = {row[0]: row[1:] for row in profiles.rows_of(self.PHASE)}
        self.assertEqual(rows['qkv'], (1.0, 0.4, 0.1, 4.0, 30.0))    # twice 8000 bytes, four times 30000 products
        self.assertEqual(rows['head'], (0.5, 0.2, 0.0, 1.0, 50.0))   # products for two rows
        self.assertEqual(rows['rope'], (0.5, 0.2, 0.05, None, None))
        self.assertEqual(rows['sampling'][:2], (0.25, 0.1))
        self.assertEqual(rows['between steps'][:2], (0.25, 0.1))
        self.assertEqual(rows['all'][:2], (2.5, 1.0))
        self.assertAlmostEqual(sum(row[0] for name, row in rows.items() if name != 'all'), rows['all'][0])


class Pages(unittest.TestCase):
    PAGE = 'words\n<!-- measured: arm -->\nold\n<!-- end: arm -->\nmore\n<!-- measured: table -->\n<!-- end: table -->\n'

    def test_a_part_is_replaced_between_its_marks_and_nothing_else(self):
        once = page.replaced(self.PAGE, 'arm', 'new')
        self.assertNotIn('old', once)
        self.assertEqual(once.replace('\n\nnew\n\n', '\nold\n'), self.PAGE)
        self.assertEqual(page.replaced(once, 'arm', 'new'), once)
        for part in ('kernels', 'arm -->'):
            with self.assertRaises(ValueError):
                page.replaced(self.PAGE, part, 'new')
        with self.assertRaises(ValueError):
            page.replaced(self.PAGE + self.PAGE, 'arm', 'new')

    def test_the_page_of_the_tree_has_a_place_for_every_part(self):
        text = (pathlib.Path(page.__file__).resolve().parents[1] / 'docs/performance.md').read_text(encoding='utf-8')
        for part in page.PARTS:
            self.assertNotEqual(page.replaced(text, part, 'x'), page.replaced(text, part, 'y'))


class Instructions(unittest.TestCase):

    def test_the_analyser_reads_them_without_symbols_and_places(self):
        for word, want in (('b.ne\t400abc <panel_b1_neon+0x10>', 'b.ne .'), ('b\t400abc', 'b .'),
                           ('cbnz\tx3, 400abc <x>', 'cbnz\tx3, .'), ('tbz\tw1, #3, 400abc', 'tbz\tw1, #3, .'),
                           ('adrp\tx0, 4a0000 <y>', 'adrp\tx0, .'), ('bl\t400abc <memset>', 'bl .'),
                           ('sdot\tv0.4s, v1.16b, v2.4b[1]', 'sdot\tv0.4s, v1.16b, v2.4b[1]')):
            self.assertEqual(mca.plain(word, 'cortex-a72'), want)

    def test_only_a_cortex_a76_looks_up_in_one_operation(self):
        look_up = 'tbl\tv28.16b, {v6.16b}, v0.16b'
        self.assertEqual(mca.plain(look_up, 'cortex-a72'), look_up)
        self.assertEqual(mca.plain(look_up, 'cortex-a76'), 'orr\tv28.16b, v6.16b, v0.16b')

    def test_what_tables_take_is_told_from_what_panels_take(self):
        few, many = ([1000 + n * 70, n * 12] for n in mca.WIDE_PANELS)
        self.assertEqual(mca.panels_and_tables(few, many), ([70, 12], [1000, 0]))


if __name__ == '__main__':
    unittest.main()
