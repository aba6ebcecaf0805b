"""What `./dev bench` measured as a picture: SVG, written by hand, no library. Bars for what part of each target was
reached, and for each length of context a line of tokens/s over streams. Colours serve light and dark pages alike."""
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 860, 210, 120
BAR, GAP = 18, 8
PLOT_HEIGHT, TOP = 260, 46
COLOURS = ['#2a7fb8', '#d9822b', '#5a9e4b', '#9a62b3', '#b8433a']
GREY = '#808890'


def text(x, y, words, anchor='start', colour=GREY, size=12, weight='normal'):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-family="sans-serif" font-size="{size}" '
            f'font-weight="{weight}" fill="{colour}">{escape(words)}</text>')


def line(x1, y1, x2, y2, colour=GREY, dashes=''):
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ''
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'


def bars(rows, top):
    """rows: [(name, reached / wanted, words, met)]. Returns (elements, height)."""
    said = [text(0, top + 14, 'Part of each target that was reached (line: the target)', colour=GREY, weight='bold')]
    top += 28
    most = max([1.25] + [min(part, 3.0) for _, part, _, _ in rows])
    scale = (WIDTH - LEFT - RIGHT) / most
    for i, (name, part, words, ok) in enumerate(rows):
        y = top + i * (BAR + GAP)
        said.append(text(LEFT - 8, y + BAR - 5, name, 'end'))
        said.append(f'<rect x="{LEFT}" y="{y}" width="{max(1.0, min(part, most) * scale):.1f}" height="{BAR}" '
                    f'fill="{COLOURS[2] if ok else COLOURS[1]}"/>')
        said.append(text(LEFT + min(part, most) * scale + 6, y + BAR - 5, words))
    height = len(rows) * (BAR + GAP)
    said.append(line(LEFT + scale, top - 4, LEFT + scale, top + height, dashes='4 3'))
    return said, height + 36


def steps(most):
    """A round distance between lines of a scale that ends at `most`."""
    size = 1.0
    while most / size > 6:
        size *= 2 if str(size)[0] in '15' else 2.5
    return size


def lines(title, curves, top):
    """curves: {name: ({x: y}, marked x)}. Returns (elements, height)."""
    xs = sorted({x for points, _ in curves.values() for x in points})
    most = max(y for points, _ in curves.values() for y in points.values())
    right, bottom = WIDTH - RIGHT, top + TOP + PLOT_HEIGHT
    at = {x: LEFT / 3 + i * (right - LEFT / 3) / max(1, len(xs) - 1) for i, x in enumerate(xs)}
    said = [text(0, top + 14, title, colour=GREY, weight='bold')]
    size = steps(most)
    for k in range(int(most / size) + 1):
        y = bottom - k * size / most * PLOT_HEIGHT
        said += [line(LEFT / 3, y, right, y, '#80889040'), text(LEFT / 3 - 6, y + 4, f'{k * size:g}', 'end')]
    said += [text(at[x], bottom + 18, str(x), 'middle') for x in xs]
    said.append(text(right, bottom + 34, 'streams', 'end'))
    for i, (name, (points, marked)) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        place = {x: (at[x], bottom - y / most * PLOT_HEIGHT) for x, y in sorted(points.items())}
        path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in place.values())
        said.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, (px, py) in place.items():
            said.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{6 if x == marked else 3}" fill="{colour}"/>')
        px, py = place[max(place)]
        said.append(text(px + 10, py + 4 + 3 * i, name, colour=colour))
    return said, TOP + PLOT_HEIGHT + 46


def draw(title, rows, sweeps):
    """The whole picture. sweeps: {title: curves}."""
    said, top = [text(0, 18, title, colour=GREY, size=14, weight='bold')], 34
    if rows:
        more, height = bars(rows, top)
        said, top = said + more, top + height
    for name, curves in sweeps.items():
        more, height = lines(name, curves, top)
        said, top = said + more, top + height
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH + 20} {top}" width="{WIDTH + 20}" '
            f'height="{top}">\n' + '\n'.join(said) + '\n</svg>\n')
