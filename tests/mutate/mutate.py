"""Bends sound GGUF files: knows their parts, so that most results get past the first check.

mutate(data, other, identity) is a pure function: the same files and the same identity give the same bytes, on every
version of Python. `other` is a second sound file, for splices."""
import hashlib
import math
import random
import struct

from gguf import ARR, BOOL, F32, F64, I32, I64, SCALAR, STR, U8, U32, U64, Key, Tensor, parse, scalar, text

NUMBERS = [0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 127, 128, 255, 256, 1023, 1024, 4095, 65535, 65536, 1 << 20, (1 << 20) + 1,
           1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
LARGE = NUMBERS + [1 << 32, (1 << 32) + 1, 1 << 40, 1 << 61, (1 << 61) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-45, 1e-30, 1e-9, 1e-5, 1e9, 1e30, 3e38, math.inf, -math.inf, math.nan]
HALVES = [0x0000, 0x8000, 0x0001, 0x03ff, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0xfe01]
TENSOR_TYPES = list(range(44)) + [134, 135, 137, 140, 142, 143, 144, 335, 1000, 1 << 16, 1 << 31, (1 << 32) - 1]
# Where the scales of a block lie: type -> (bytes in a block, offsets of f16 scales).
SCALES = {1: (2, [0]), 2: (18, [0]), 3: (20, [0, 2]), 6: (22, [0]), 7: (24, [0, 2]), 8: (34, [0]), 12: (144, [0, 2]),
          13: (176, [0, 2]), 14: (210, [208]), 30: (2, [0]), 34: (54, [52]), 35: (66, [64]), 41: (18, [0]),
          42: (18, [0]), 142: (34, [0])}
ARCHES = [b'llama', b'qwen3', b'qwen2', b'bitnet', b'bitnet-b1.58', b'bitnet-25', b'minicpm', b'falcon', b'phi3', b'',
          b'llama\0', b'Llama']
# Keys that a reader may know, below "<arch>." where they begin with a dot.
INTS = ['.block_count', '.context_length', '.embedding_length', '.feed_forward_length', '.attention.head_count',
        '.attention.head_count_kv', '.attention.key_length', '.attention.value_length', '.rope.dimension_count',
        '.rope.scaling.original_context_length', '.vocab_size', '.expert_count', '.expert_used_count',
        '.attention.sliding_window', 'general.alignment', 'general.quantization_version', 'general.file_type',
        'tokenizer.ggml.bos_token_id', 'tokenizer.ggml.eos_token_id', 'tokenizer.ggml.eot_token_id',
        'tokenizer.ggml.eom_token_id', 'tokenizer.ggml.unknown_token_id', 'tokenizer.ggml.padding_token_id',
        'general.sampling.top_k']
REALS = ['.attention.layer_norm_rms_epsilon', '.rope.freq_base', '.rope.scale_linear', '.rope.scaling.factor',
         '.rope.scaling.attn_factor', '.rope.scaling.yarn_ext_factor', '.rope.scaling.yarn_beta_fast',
         '.rope.scaling.yarn_beta_slow', '.rope.scaling.yarn_log_multiplier', '.logit_scale', '.embedding_scale',
         '.residual_scale', '.attention.scale', '.attn_logit_softcapping', '.final_logit_softcapping',
         'general.sampling.temp', 'general.sampling.top_p', 'general.sampling.min_p']
TEXTS = {'.rope.scaling.type': [b'none', b'linear', b'yarn', b'longrope', b'llama3', b'', b'x' * 300],
         '.hidden_activation': [b'relu2', b'silu', b'gelu', b''],
         'tokenizer.ggml.model': [b'gpt2', b'llama', b'bert', b't5', b'none', b''],
         'tokenizer.ggml.pre': [b'gpt-2', b'llama-bpe', b'qwen2', b'falcon', b'falcon3', b'deepseek-llm', b'default', b''],
         'tokenizer.chat_template': [b'', b'<|im_start|>', b'<|start_header_id|>', b'{{' * 500, b'[INST]', b'\xff\xfe'],
         'general.architecture': ARCHES, 'general.name': [b'', b'\xff' * 9, b'n' * 100000, b'a\0b']}
FLAGS = ['.attention.causal', 'tokenizer.ggml.add_bos_token', 'tokenizer.ggml.add_eos_token',
         'tokenizer.ggml.add_space_prefix', 'tokenizer.ggml.remove_extra_whitespaces']


class Dice:
    """Numbers drawn from an identity; uses only what every Python version draws alike."""

    def __init__(self, identity):
        self.bits = random.Random(int.from_bytes(hashlib.sha256(identity.encode()).digest(), 'big')).getrandbits

    def below(self, n):
        return self.bits(64) % n if n > 0 else 0

    def pick(self, items):
        return items[self.below(len(items))]

    def chance(self, one_in):
        return self.below(one_in) == 0

    def bytes(self, n):
        return self.bits(8 * n).to_bytes(n, 'little') if n > 0 else b''

    def number(self, near, numbers):
        """One that readers stumble over, or one beside the right one."""
        way = self.below(6)
        if way == 0:
            return near + self.pick([-1, 1, 2, -2])
        if way == 1:
            return near * self.pick([2, 3, 4, 256])
        if way == 2:
            return near // self.pick([2, 3, 4])
        if way == 3:
            return self.bits(self.pick([4, 8, 12, 16, 31]))
        return self.pick(numbers)


# ---- keys ----

def named(g, name):
    """The key's full name in this file."""
    arch = g.find(b'general.architecture')
    prefix = arch.value[8:] if arch and arch.kind == STR else b'llama'
    return (prefix if name.startswith('.') else b'') + name.encode()


def pack(kind, value):
    code = SCALAR[kind]
    size = struct.calcsize(code)
    if kind == F32:
        try:
            return struct.pack(code, value)
        except OverflowError:
            return struct.pack(code, math.inf)
    if kind == F64:
        return struct.pack(code, float(value))
    return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, 'little')


def key_number(g, dice):
    """A count that the graph is made of."""
    name = named(g, dice.pick(INTS))
    old = g.find(name)
    near = int.from_bytes(old.value[:8], 'little') if old and old.kind in SCALAR else 4
    kind = dice.pick([U32, U32, U32, U64, I32, I64, U8])
    g.put(Key(name, kind, pack(kind, dice.number(near, NUMBERS))))


def key_real(g, dice):
    name = named(g, dice.pick(REALS))
    kind = dice.pick([F32, F32, F32, F64])
    g.put(Key(name, kind, pack(kind, dice.pick(FLOATS) * dice.pick([1, 1, 1, 3, 1000]))))


def key_text(g, dice):
    name = dice.pick(sorted(TEXTS))
    g.put(Key(named(g, name), STR, text(dice.pick(TEXTS[name]))))


def key_flag(g, dice):
    g.put(Key(named(g, dice.pick(FLAGS)), BOOL, dice.bytes(1) if dice.chance(3) else bytes([dice.below(2)])))


def key_any(g, dice):
    """Whatever key it is: another value, another type, another name, none at all, one twice."""
    if not g.keys:
        return
    at = dice.below(len(g.keys))
    key, way = g.keys[at], dice.below(9)
    if way == 0:
        key.kind = dice.pick(list(range(16)) + [255, 1 << 31])
    elif way == 1:
        key.name = bend(key.name, dice) if dice.chance(2) else dice.pick(g.keys).name
    elif way == 2:
        del g.keys[at]
    elif way == 3:
        g.keys.insert(dice.below(len(g.keys)), key.copy())
    elif way == 4:
        other = dice.pick(g.keys)
        key.kind, key.value, key.elem, key.n = other.kind, other.value, other.elem, other.n
    elif way == 5:
        key.name_length = dice.pick(LARGE)
    elif way == 6:
        key.value = key.value[:dice.below(len(key.value) + 1)]
    elif way == 7:
        key.value = bend(key.value, dice)
    else:
        g.keys.insert(at, g.keys.pop(dice.below(len(g.keys))))


def key_array(g, dice):
    """Lengths and element types of arrays."""
    arrays = [k for k in g.keys if k.kind == ARR]
    if not arrays:
        return
    key, way = dice.pick(arrays), dice.below(5)
    if way == 0:
        key.n = dice.number(key.n, LARGE)
    elif way == 1:
        key.elem = dice.pick(list(range(16)) + [1 << 31])
    elif way == 2:
        key.elem, key.n, key.value = ARR, 1, struct.pack('<IQ', ARR, 1) * dice.below(2000)
    elif way == 3 and key.elem == STR:  # one string says another length
        before = key.strings()[:dice.below(key.n)]
        at = sum(8 + len(s) for s in before)
        key.value = key.value[:at] + struct.pack('<Q', dice.pick(LARGE)) + key.value[at + 8:]
    elif key.elem in SCALAR:
        size = struct.calcsize(SCALAR[key.elem])
        key.n = dice.pick([0, 1, key.n - 1, key.n // 2])
        key.value = key.value[:key.n * size]


# ---- the vocabulary ----

def tokens(g, dice):
    key = g.find(b'tokenizer.ggml.tokens')
    if not key or key.elem != STR:
        return
    items = key.strings()
    for _ in range(dice.pick([1, 1, 3, 30, len(items)])):
        if not items:
            break
        at, way = dice.below(len(items)), dice.below(10)
        if way == 0:
            items[at] = b''
        elif way == 1:
            items[at] = dice.pick(items)
        elif way == 2:
            items[at] = dice.bytes(dice.below(40))
        elif way == 3:
            items[at] = dice.pick([b'<0x41>', b'<0xFF>', b'<0xgg>', b'</s>', b'<|im_end|>', b'\0', b'\xe2\x96\x81' * 9])
        elif way == 4 and dice.chance(8):
            items[at] = dice.pick([b'x', b'\xc4\xa0', b' ', b'<|']) * dice.pick([255, 1024, 4096, 65536])
        elif way == 5 and dice.chance(8):
            items = items[:at]
        elif way == 6 and dice.chance(8):
            items += [dice.bytes(4) for _ in range(dice.below(2000))]
        else:
            items[at] = bend(items[at], dice)
    key.set_strings(items)


def token_numbers(g, dice):
    """Types and scores; ids out of range."""
    key = g.find(dice.pick([b'tokenizer.ggml.token_type', b'tokenizer.ggml.scores']))
    if not key or key.kind != ARR or len(key.value) < 4 or key.elem not in (I32, F32):
        return
    value = bytearray(key.value)
    for _ in range(dice.pick([1, 10, len(value) // 4])):
        number = dice.pick(FLOATS) if key.elem == F32 else dice.pick([0, 1, 2, 3, 4, 5, 6, 7, -1, 1 << 30])
        struct.pack_into('<f' if key.elem == F32 else '<i', value, 4 * dice.below(len(value) // 4), number)
    key.value = bytes(value)


def merges(g, dice):
    key = g.find(b'tokenizer.ggml.merges')
    if not key or key.elem != STR:
        return tokens(g, dice)
    items = key.strings()
    for _ in range(dice.pick([1, 5, 50])):
        at = dice.below(len(items) + 1)
        line = dice.pick([b'', b' ', b'a b c', b'ab', b'a ', b' b', b'\xff \xfe', b'no such', b'a' * 5000 + b' b',
                          dice.pick(items) if items else b'', dice.bytes(6)])
        items[at:at + dice.below(2)] = [line]
    if dice.chance(10):
        items = items[::-1]
    elif dice.chance(10):
        items = items[:1] * dice.pick([1000, 30000])
    key.set_strings(items)
    return None


# ---- many of a kind: what memory has to grow with ----

def many_records(g, dice):
    n = dice.pick([1000, 20000, 65535, 65536, 65537])
    if dice.chance(2):
        g.keys += [Key(b'k%d' % i, U8, b'\0') for i in range(n)]
    else:
        g.tensors += [Tensor(b't%d' % i, [1], 0, 0) for i in range(n)]


def many_strings(g, dice):
    n, line = dice.pick([5000, 100000, 300000]), dice.pick([b'', b'a b', b'th e', b'x'])
    name = dice.pick([b'tokenizer.ggml.merges', b'tokenizer.ggml.merges', b'tokenizer.ggml.added_tokens', b'list'])
    g.put(Key(name, ARR, text(line) * n, STR, n))


def many_tokens(g, dice):
    """A vocabulary that grows, and with it the matrices whose rows it numbers, as in a sound file."""
    key = g.find(b'tokenizer.ggml.tokens')
    wide = [t for t in g.tensors if t.name in (b'token_embd.weight', b'output.weight') and
            len(t.dims) == 2 and 0 < t.dims[1] <= len(g.data)]
    if not key or not wide or key.elem != STR or not key.strings():
        return
    row = max((g.range_of(t)[1] - g.range_of(t)[0]) // t.dims[1] for t in wide)
    n = min(dice.pick([5000, 20000, 100000]), (4 << 20) // max(row, 1))
    if n <= key.n or row == 0:
        return
    items = key.strings()[:n]
    same = dice.pick([[b''], [b'x'], [dice.pick(items)], [b'%d' % i for i in range(n - len(items))]])
    key.set_strings(items + same * ((n - len(items)) // len(same)))
    n = key.n
    for name in (b'tokenizer.ggml.token_type', b'tokenizer.ggml.scores'):
        side = g.find(name)
        if side and side.value:
            side.n, side.value = n, (side.value * (4 * n // len(side.value) + 1))[:4 * n]
    for t in wide:
        begin, end = g.range_of(t)
        rows = g.data[begin:end] * (n // t.dims[1] + 1)
        t.offset, bytes_row = len(g.data) + -len(g.data) % g.align, (end - begin) // t.dims[1]
        g.data += bytes(-len(g.data) % g.align) + rows[:n * bytes_row]
        g.data += bytes(-len(g.data) % g.align)
        t.dims[1] = n


# ---- tensors ----

def tensor_record(g, dice):
    """Names, dimensions, types and places."""
    if not g.tensors:
        return
    at = dice.below(len(g.tensors))
    t, way = g.tensors[at], dice.below(13)
    if way == 0:
        t.kind = dice.pick(TENSOR_TYPES)
    elif way == 1 and t.dims:
        t.dims[dice.below(len(t.dims))] = dice.number(t.dims[0], LARGE)
    elif way == 2:
        t.dims = t.dims[::-1]
    elif way == 3:
        t.dims = t.dims + [dice.pick([0, 1, 1, 2, 1 << 32])] * dice.pick([1, 2, 3])
    elif way == 4:
        t.n_dims = dice.pick([0, 1, 2, 3, 4, 5, 8, 1 << 31])
    elif way == 5:
        t.offset = dice.number(t.offset, LARGE)
    elif way == 6:
        t.offset = dice.pick(g.tensors).offset
    elif way == 7:
        t.offset += dice.pick([g.align, -g.align, 1, len(g.data), 1 << 63])
    elif way == 8:
        t.name = bend(t.name, dice) if dice.chance(2) else dice.pick(g.tensors).name
    elif way == 9:
        t.name_length = dice.pick(LARGE)
    elif way == 10:
        del g.tensors[at]
    elif way == 11:
        g.tensors.insert(at, dice.pick(g.tensors).copy())
    else:
        other = dice.pick(g.tensors)
        t.kind, t.dims, t.offset = other.kind, list(other.dims), other.offset


def tensor_swap(g, dice):
    """Two tensors change places, records or data; a type changes in every tensor that has it."""
    if len(g.tensors) < 2:
        return
    a, b = dice.pick(g.tensors), dice.pick(g.tensors)
    way = dice.below(3)
    if way == 0:
        a.name, b.name = b.name, a.name
    elif way == 1:
        a.offset, b.offset = b.offset, a.offset
    else:
        old, new = a.kind, dice.pick(TENSOR_TYPES)
        for t in g.tensors:
            t.kind = new if t.kind == old else t.kind


def tensor_extra(g, dice):
    """A tensor that some graph has and this one may not: biases, scales, norms, rope factors."""
    layer = b'blk.%d.' % dice.pick([0, 0, 1, 2, 1 << 20])
    name = dice.pick([b'rope_freqs.weight', b'output.weight', b'output.bias', b'token_embd.bias', layer + b'attn_q.bias',
                      layer + b'attn_q.scale', layer + b'attn_sub_norm.weight', layer + b'ffn_sub_norm.weight',
                      layer + b'attn_q_norm.weight', layer + b'ffn_down.scale', layer + b'ffn_gate_inp.weight', b'x'])
    n = dice.pick([1, 2, 16, 32, 64, 128, 256, 512])
    values = [dice.pick(FLOATS) if dice.chance(4) else 1.0 + dice.below(100) / 50 for _ in range(n)]
    data = struct.pack(f'<{n}f', *values)
    g.data += bytes(-len(g.data) % g.align)
    g.tensors.append(Tensor(name, [n] if dice.below(4) else [n // 2, 2], dice.pick([0, 0, 0, 1, 8]), len(g.data)))
    g.data += data + bytes(-len(data) % g.align)


def weights(g, dice):
    """Scales that are not numbers, codes that no encoder writes."""
    if not g.tensors:
        return
    t = dice.pick(g.tensors)
    begin, end = g.range_of(t)
    if end - begin < 4:
        return
    data = bytearray(g.data)
    way = dice.below(4)
    if way == 0:  # everything, so that it meets every path
        at, n = begin, min(end - begin, dice.pick([16, 256, 4096, 1 << 20]))
        data[at:at + n] = dice.bytes(1) * n if dice.chance(2) else dice.bytes(n)
    elif way == 1 and t.kind in SCALES:
        block, at = SCALES[t.kind]
        for _ in range(dice.pick([1, 4, 64])):
            place = begin + dice.below((end - begin) // block) * block + dice.pick(at)
            if place + 2 <= end:
                struct.pack_into('<H', data, place, dice.pick(HALVES))
    elif way == 2:  # 32-bit scales lie at the ends of I2_S, at the head of a row in IQ2_BN, everywhere in F32
        row = 4 + (t.dims[0] if t.dims else 0) // 4
        n_rows = max(1, (end - begin) // row)
        tail = math.prod(t.dims) // 4
        for _ in range(dice.pick([1, 4, 64])):
            place = dice.pick([begin, begin + tail, begin + dice.below(n_rows) * row,
                               begin + 4 * dice.below((end - begin) // 4)])
            if begin <= place <= end - 4:
                struct.pack_into('<f', data, place, dice.pick(FLOATS))
    else:
        for _ in range(dice.pick([1, 8, 64])):
            data[begin + dice.below(end - begin)] = dice.below(256)
    g.data = bytes(data)


# ---- the file ----

def header(g, dice):
    way = dice.below(4)
    if way == 0:
        g.magic = dice.pick([b'GGUf', b'FUGG', b'\0\0\0\0', b'ONEB'])
    elif way == 1:
        g.version = dice.pick([0, 1, 2, 4, 1 << 24, (1 << 32) - 1])
    elif way == 2:
        g.n_keys = dice.number(len(g.keys), LARGE)
    else:
        g.n_tensors = dice.number(len(g.tensors), LARGE)


def alignment(g, dice):
    """Said and kept, said and not kept."""
    said = dice.pick([1, 2, 8, 16, 32, 64, 128, 4096, 65536, 1 << 20, 1 << 31, 0, 3, 24])
    g.put(scalar(b'general.alignment', U32, said))
    if dice.chance(2) and 0 < said <= 65536:
        g.align = said


def splice(g, dice, other):
    """Keys of one file with tensors of another, and the like."""
    h = parse(other)
    way = dice.below(5)
    if way == 0:
        g.keys = h.keys
    elif way == 1:
        g.tensors, g.data, g.align = h.tensors, h.data, h.align
    elif way == 2:
        g.data = h.data
    elif way == 3:
        g.tensors = h.tensors
    else:
        mine = {k.name for k in g.keys}
        vocabulary = [k for k in h.keys if k.name.startswith(b'tokenizer.')]
        g.keys = [k for k in g.keys if not k.name.startswith(b'tokenizer.')] + vocabulary
        if dice.chance(3):
            g.keys += [k for k in h.keys if k.name not in mine and k not in vocabulary]


def bend(data, dice):
    """A few bytes of a string changed, dropped or added."""
    data = bytearray(data)
    way = dice.below(4)
    at = dice.below(len(data) + 1)
    if way == 0 and data:
        data[at % len(data)] ^= 1 << dice.below(8)
    elif way == 1:
        data[at:at + 1 + dice.below(4)] = b''
    elif way == 2:
        data[at:at] = dice.bytes(1 + dice.below(8))
    elif data:
        data[at % len(data)] = dice.pick([0, 0x20, 0x7f, 0x80, 0xc0, 0xe2, 0xff])
    return bytes(data)


def blind(data, dice, n_head, other):
    """Without regard to what the bytes mean."""
    data = bytearray(data)
    reach = n_head if dice.chance(2) else len(data)
    way = dice.below(7)
    if way == 0:
        for _ in range(dice.pick([1, 2, 8, 64])):
            data[dice.below(reach)] ^= 1 << dice.below(8)
    elif way == 1:
        for _ in range(dice.pick([1, 4, 16])):
            data[dice.below(reach)] = dice.pick([0, 1, 0x7f, 0x80, 0xff, dice.below(256)])
    elif way == 2:
        del data[dice.below(reach + 1):]
    elif way == 3:
        data += bytes(dice.pick([1, 31, 4096, 65536])) if dice.chance(2) else dice.bytes(dice.pick([1, 33, 5000]))
    elif way == 4:
        at, n = dice.below(reach), dice.pick([1, 4, 8, 100])
        if dice.chance(2):
            del data[at:at + n]
        else:
            data[at:at] = dice.bytes(n)
    elif way == 5:
        at, to, n = dice.below(reach), dice.below(reach), dice.pick([4, 8, 64, 4096])
        data[to:to + n] = data[at:at + n]
    else:
        at = dice.below(min(reach, len(other)))
        data[at:] = other[at if dice.chance(2) else dice.below(len(other)):]
    return bytes(data)


PARTS = [header, alignment] + [key_number] * 5 + [key_real] * 3 + [key_text] * 2 + [key_flag] + [key_any] * 4 + \
    [key_array] * 3 + [tokens] * 3 + [token_numbers] * 2 + [merges] * 2 + \
    [many_records, many_strings, many_tokens] + [tensor_record] * 5 + [tensor_swap] * 2 + \
    [tensor_extra] * 3 + [weights] * 6 + [splice] * 2


def mutate(data, other, identity, parsed=None):
    """The bent file. @parsed: what parse(data) gave, when the caller has it; untouched."""
    dice = Dice(identity)
    g = (parsed or parse(data)).copy()
    if dice.chance(5):
        return blind(data, dice, len(g.head()), other)
    for _ in range(dice.pick([1, 1, 1, 1, 1, 2, 2, 3])):
        part = dice.pick(PARTS)
        if part is splice:
            splice(g, dice, other)
        else:
            part(g, dice)
    built = g.build()
    return blind(built, dice, len(g.head()), other) if built and dice.chance(10) else built
