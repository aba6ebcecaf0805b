"""The usual encoders of the weight formats a second time, written from the published layouts and from
engine/NUMERICS.md ("Encoding") without a look at the C. Slow and plain: one weight after another.

Every operation is rounded to float32: a double holds the product, quotient or sum of two floats closely enough that
rounding it once more is what a float operation gives."""
import math
import struct

BLOCKS = {'F16': 1, 'BF16': 1, 'Q8_0': 32, 'Q4_0': 32, 'Q1_0': 128, 'Q2_0': 64, 'PQ2_0': 128, 'TQ1_0': 256,
          'TQ2_0': 256, 'I2_S': 128, 'IQ2_BN': 64}
IDS = {'F32': 0, 'F16': 1, 'BF16': 30, 'Q8_0': 8, 'Q4_0': 2, 'Q1_0': 41, 'Q2_0': 42, 'PQ2_0': 142, 'TQ1_0': 34,
       'TQ2_0': 35, 'I2_S': 36, 'IQ2_BN': 135}


def f32(x):
    return struct.unpack('<f', struct.pack('<f', x))[0]


def half_away(x):
    return math.floor(x + 0.5) if x >= 0 else -math.floor(0.5 - x)


def inverse(d):
    return f32(1 / d) if d else 0.0


def peak(xs):
    return max(map(abs, xs))


def ternary(xs, d):
    """Codes 0, 1, 2 for -1, 0, +1."""
    inv = inverse(d)
    return [max(-1, min(1, half_away(f32(x * inv)))) + 1 for x in xs]


def f16(xs):
    return struct.pack(f'<{len(xs)}e', *xs)


def bf16(xs):
    def one(bits):
        return (bits + 0x7fff + (bits >> 16 & 1)) >> 16
    return b''.join(struct.pack('<H', one(struct.unpack('<I', struct.pack('<f', x))[0])) for x in xs)


def q8_0(xs):
    d = f32(peak(xs) / 127)
    inv = inverse(d)
    return f16([d]) + bytes(half_away(f32(x * inv)) & 255 for x in xs)


def q4_0(xs):
    extreme = 0.0
    for x in xs:
        extreme = x if abs(x) > abs(extreme) else extreme
    d = f32(extreme / -8)
    inv = inverse(d)
    codes = [min(15, int(f32(f32(x * inv) + 8.5))) for x in xs]
    return f16([d]) + bytes(codes[i] | codes[16 + i] << 4 for i in range(16))


def q1_0(xs):
    total = 0.0
    for x in xs:
        total = f32(total + abs(x))
    return f16([f32(total / 128)]) + bytes(sum((x >= 0) << i for i, x in enumerate(xs[b:b + 8]))
                                           for b in range(0, 128, 8))


def q2_0(xs):
    d = peak(xs)
    codes = ternary(xs, d)
    return f16([d]) + bytes(sum(c << 2 * i for i, c in enumerate(codes[b:b + 4])) for b in range(0, len(xs), 4))


def tq2_0(xs):
    d = peak(xs)
    codes = ternary(xs, d)
    return bytes(sum(codes[128 * h + 32 * k + m] << 2 * k for k in range(4))
                 for h in range(2) for m in range(32)) + f16([d])


def tq1_0(xs):
    d = peak(xs)
    codes = ternary(xs, d)

    def byte(first, step, n):
        v = 0
        for k in range(5):
            v = v * 3 + (codes[first + step * k] if k < n else 0)
        return (v * 256 + 242) // 243
    return bytes([byte(m, 32, 5) for m in range(32)] + [byte(160 + m, 16, 5) for m in range(16)] +
                 [byte(240 + m, 4, 4) for m in range(4)]) + f16([d])


def i2_s(xs, d):
    codes = ternary(xs, d)
    return bytes(sum(codes[32 * k + m] << 6 - 2 * k for k in range(4)) for m in range(32))


def iq2_bn(xs, d):
    codes = ternary(xs, d)
    return bytes(sum(codes[16 * k + m] << 2 * k for k in range(4)) for m in range(16))


BLOCK = {'Q8_0': q8_0, 'Q4_0': q4_0, 'Q1_0': q1_0, 'Q2_0': q2_0, 'PQ2_0': q2_0, 'TQ1_0': tq1_0, 'TQ2_0': tq2_0}


def encode(fmt, rows):
    """The bytes of a tensor, rows of floats."""
    n = BLOCKS[fmt]
    if fmt in ('F16', 'BF16'):
        return b''.join((f16 if fmt == 'F16' else bf16)(row) for row in rows)
    if fmt == 'I2_S':
        d = max(map(peak, rows))
        return b''.join(i2_s(row[b:b + n], d) for row in rows for b in range(0, len(row), n)) + \
            struct.pack('<f', d) + bytes(28)
    if fmt == 'IQ2_BN':
        return b''.join(struct.pack('<f', peak(row)) +
                        b''.join(iq2_bn(row[b:b + n], peak(row)) for b in range(0, len(row), n)) for row in rows)
    return b''.join(BLOCK[fmt](row[b:b + n]) for row in rows for b in range(0, len(row), n))
