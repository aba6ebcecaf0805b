"""The arithmetic behind `./dev bench`: figures that were published for other engines, brought to this machine by
the ratio of what both machines can do; targets; where more streams do not pay any more. Nothing here measures."""
import statistics

# Two threads of an AMD Zen 5 server with AVX-512 VNNI: the machine of all figures below. What it can do: bytes read
# per second with 2 MiB pages, as published with them, and int8 multiply-adds per second by the best instructions of a
# level, as bench/limits.c measures on a machine of that kind, where ik_llama.cpp reaches its published prompt to a
# hundredth.
THERE = {
    'machine': 'two cores of an AMD Zen 5 server (AVX-512 VNNI)',
    'read': 49.0,                                # GB/s
    'mac': {'avx512': 1091.0, 'avx2': 488.0},    # G MAC/s
    'mac_one_thread': {'avx512': 544.5, 'avx2': 243.5},
}

# (model, peer): tokens/s of a prompt of 128 and of generating 24.
PUBLISHED = {
    ('q1', 'llama.cpp'): (50.3, 33.0),
    ('q4', 'llama.cpp'): (173.0, 37.6),
    ('q8', 'llama.cpp'): (83.5, 20.7),
    ('bitnet', 'llama.cpp'): (54.0, 20.8),         # TQ2_0 and f16 head
    ('bitnet', 'ik_llama.cpp'): (134.0, 41.0),     # its best head for each: f16, Q6_K
    ('avx2-q1', 'llama.cpp'): (51.1, 30.2),        # built for AVX2 only, like the next
    ('avx2-bitnet', 'llama.cpp'): (78.5, 23.3),
    ('home', 'llama.cpp'): (7700.0, 5300.0),       # the shipped model on one core
}

# row: [(against, at least)]. Against a peer: times its figure. 'read', 'mac': of the limit measured beside it.
# Another row: times that row's figure of the same run. 'bound': the figure itself, which may be at most so much.
TARGETS = {
    'q1-generate': [('llama.cpp', 5.0), ('read', 0.85)],
    'q1-prompt': [('llama.cpp', 8.0)],
    'q1-streams8': [('q1-prompt', 0.75)],
    'bitnet-generate': [('llama.cpp', 2.6), ('ik_llama.cpp', 1.4)],
    'bitnet-prompt': [('llama.cpp', 6.0), ('ik_llama.cpp', 2.5)],
    'bitnet-streams8': [('bitnet-generate', 4.0)],
    'q4-generate': [('llama.cpp', 1.0)],
    'q4-prompt': [('llama.cpp', 1.0)],
    'q8-generate': [('llama.cpp', 1.0)],
    'q8-prompt': [('llama.cpp', 1.0)],
    'avx2-q1-generate': [('llama.cpp', 2.0)],
    'avx2-q1-prompt': [('llama.cpp', 3.0)],
    'avx2-bitnet-generate': [('llama.cpp', 2.0)],
    'avx2-bitnet-prompt': [('llama.cpp', 2.0)],
    'home-generate': [('llama.cpp', 3.0)],
    'q1-context2000': [('q1-context0', 0.75)],
    'first-token': [('bound', 150.0)],
    'overhead': [('bound', 100.0)],
    'idle-memory': [('bound', 8.0)],
    'idle-wakes': [('bound', 0.2)],
    'arm': [('bound', 1.3)],
}
NO_SMALL_DIFFERENCE = 0.10  # of the best rate: what more streams may still bring at the saturation point


def scaled(model, peer, phase, read, mac, level='avx512', one_thread=False, by_mac=False):
    """A published figure times what this machine can do over what that one can, or None where there is none.

    phase: 'prompt' or 'generate'. Generating reads every weight for each token, and is scaled by reading; a prompt is
    scaled by multiply-adds, and so is a model that lies in the cache (one_thread), and generating, too, where that is
    asked (by_mac): for an engine that unpacks more slowly than it reads. read: GB/s; mac: G MAC/s by the instructions
    of `level`, which are compared with the same ones there, or with AVX2's where that machine has not got them: the
    peers hardly gain by AVX-512."""
    found = PUBLISHED.get((model, peer))
    if not found:
        return None
    figure = found[0] if phase == 'prompt' else found[1]
    if one_thread or phase == 'prompt' or by_mac:
        there = THERE['mac_one_thread' if one_thread else 'mac']
        return figure * mac / there.get(level, there['avx2'])
    return figure * read / THERE['read']


def saturation(rates):
    """{streams: tokens/s of all together} to the fewest streams that reach all but a tenth of the best rate."""
    if not rates or min(rates.values()) <= 0:
        raise ValueError(f'no rates: {rates}')
    enough = max(rates.values()) * (1 - NO_SMALL_DIFFERENCE)
    return min(n for n, rate in rates.items() if rate >= enough)


def verdicts(name, figure, against):
    """What a row's targets say: [{against, at_least or at_most, reached, met}]. against: {name: figure, or None}.
    met is None where there is nothing to compare with."""
    said = []
    for other, least in TARGETS.get(name, []):
        if other == 'bound':
            said.append({'against': other, 'at_most': least, 'reached': figure,
                         'met': None if figure is None else figure <= least})
            continue
        base = against.get(other)
        reached = figure / base if figure is not None and base else None
        said.append({'against': other, 'at_least': least, 'reached': reached,
                     'met': None if reached is None else reached >= least})
    return said


def met(said):
    """All targets of a row: True, False, or None where one could not be judged and none was missed."""
    every = [v['met'] for v in said]
    return False if False in every else None if None in every or not every else True


def median(values):
    """None where there is none."""
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def spread(values):
    """How far apart the rounds are: (largest - smallest) / median; None for fewer than two."""
    values = [v for v in values if v is not None]
    middle = median(values)
    return (max(values) - min(values)) / middle if len(values) > 1 and middle else None
