"""What bench/bits.py found, as tables, as a picture, and in the page."""
import json
import math

from page import replaced, table
from picture import COLOURS, GREY, line, text

WIDTH, HEIGHT, LEFT, TOP, RIGHT = 860, 420, 60, 50, 200


def figure(value, digits):
    return '-' if value is None else f'{value:.{digits}f}'


def row_of(r):
    return [f"{r['bytes']:,}", f"{r['bits']:.3f}", figure(r['ms'], 2), figure(r['exact'], 1), figure(r['real'], 1),
            f"{r['perplexity']:.4f}"]


COLUMNS = ['bytes', 'bits a weight', 'ms an answer', 'held templates, %', 'real commands, %', 'perplexity']


def tables(found):
    """One shape in every width, and all sizes."""
    a, where = found['amounts'], found['machine']
    load = ' to '.join(f'{x:.1f}' for x in found['load'])
    named = (f"{a['steps']:,} steps of {a['batch']} rows. Times: {where['cpu']}, one thread, load average {load}, "
             f"{where['when'][:10]}.")
    first = [[r['kind'], r['how'], *row_of(r)] for r in found['results'] if r['size'] == found['main']]
    kinds = {(r['kind'], r['how']) for r in found['results'] if r['size'] != found['main']}
    sized = [r for r in found['results'] if (r['kind'], r['how']) in kinds]
    sized.sort(key=lambda r: r['weights'])
    rest = [[f"{r['weights'] / 1e6:.2f} M", r['kind'], r['how'], *row_of(r)] for r in sized]
    return {'bits': f'{named}\n\n{table(["weights", "how", *COLUMNS], first)}',
            'sizes': f'{named}\n\n{table(["parameters", "weights", "how", *COLUMNS], rest)}',
            'gap': gaps(sized)}


def gaps(sized):
    """Points that each kind lacks to 32-bit weights of its size, held templates and real commands; sized: rows by size."""
    def less(whole, r):
        return ' / '.join('-' if r[key] is None else f'{whole[key] - r[key]:.1f}' for key in ('exact', 'real'))

    sizes = list(dict.fromkeys(r['size'] for r in sized))
    cells = {(r['size'], r['kind'], r['how']): r for r in sized}
    kinds = [kind for kind in dict.fromkeys((r['kind'], r['how']) for r in sized) if kind[0] != '32-bit']
    rows = []
    for size in sizes:
        whole = cells[size, '32-bit', 'trained so']
        rows.append([f"{whole['weights'] / 1e6:.2f} M", *(less(whole, cells[size, *kind]) for kind in kinds)])
    return table(['parameters', *(', '.join(kind) for kind in kinds)], rows)


def named_points(lone, place):
    """Points of the kinds that stand for themselves, [(kind, how, bytes, exact)]; those of one kind that are near each other
    have one name above them."""
    groups = []
    for kind, how, n, exact in lone:
        x, y = place(n, exact)
        near = [g for g in groups if g['kind'] == kind and abs(g['x'] - x) < 30 and abs(g['y'] - y) < 12]
        if near:
            near[0]['hows'].append(how)
            near[0]['y'] = min(near[0]['y'], y)
        else:
            groups.append({'kind': kind, 'hows': [how], 'x': x, 'y': y})
    above = sorted((g for g in groups if len(g['hows']) > 1), key=lambda g: g['x'])
    for g in groups:
        words = f"{g['kind']}, {' / '.join(g['hows'])}"
        if g in above:
            yield text(g['x'], g['y'] - 20 + 12 * (above.index(g) % 2), words, 'middle', size=9)
        else:
            yield text(g['x'] + 6, g['y'] - 4, words, size=9)


def draw(results):
    """Exact answers to held-back templates over bytes of the file, a line for each kind."""
    kinds = {}
    for r in results:
        kinds.setdefault((r['kind'], r['how']), []).append((r['bytes'], r['exact']))
    sizes = [n for points in kinds.values() for n, _ in points]
    low, high = math.log(min(sizes) / 1.2), math.log(max(sizes) * 1.2)
    right, bottom = WIDTH - RIGHT, HEIGHT - 50

    def place(n, exact):
        return LEFT + (math.log(n) - low) / (high - low) * (right - LEFT), bottom - exact / 100 * (bottom - TOP)

    said = [text(0, 18, 'Answered exactly, % of rows from templates held back, over bytes of the file', size=14, weight='bold')]
    for exact in range(0, 101, 20):
        y = place(min(sizes), exact)[1]
        said += [line(LEFT, y, right, y, '#80889040'), text(LEFT - 6, y + 4, str(exact), 'end')]
    for power in range(4, 9):
        for n in (10 ** power, 3 * 10 ** power):
            if low <= math.log(n) <= high:
                x = place(n, 0)[0]
                said += [line(x, bottom, x, bottom + 5, GREY), text(x, bottom + 20, f'{n / 1e6:g} MB', 'middle')]
    many = [name for name, points in kinds.items() if len(points) > 1]
    for name, points in kinds.items():
        places = [place(*point) for point in sorted(points)]
        colour = COLOURS[many.index(name) % len(COLOURS)] if name in many else GREY
        if name in many:
            path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)
            said.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            y = TOP + 14 + 20 * many.index(name)
            said += [line(right + 14, y - 4, right + 34, y - 4, colour), text(right + 40, y, ', '.join(name), colour=colour, size=11)]
        said += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
    said += named_points([(*name, *point) for name, points in kinds.items() if name not in many for point in points], place)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH + 20} {HEIGHT}" width="{WIDTH + 20}" '
            f'height="{HEIGHT}">\n' + '\n'.join(said) + '\n</svg>\n')


def publish(page, found):
    """The page's marked parts, and beside it the picture and the figures."""
    words = page.read_text(encoding='utf-8')
    picture = page.with_suffix('.svg')
    parts = tables(found)
    parts['picture'] = f'![Exact answers over bytes of the file]({picture.name})'
    for part, what in parts.items():
        words = replaced(words, part, what)
    picture.write_text(draw(found['results']), encoding='utf-8')
    page.with_suffix('.json').write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    page.write_text(words, encoding='utf-8')
