"""GGUF files as parts that can be bent one by one and put together again. Standard library only.

What parse() reads, build() writes back byte for byte; everything in between may be wrong on purpose."""
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
SCALAR = {U8: '<B', I8: '<b', U16: '<H', I16: '<h', U32: '<I', I32: '<i', F32: '<f', BOOL: '<B', U64: '<Q', I64: '<q',
          F64: '<d'}
MASK64 = (1 << 64) - 1


class Key:
    """One key: `value` is its encoding, for an array that of the elements alone."""

    def __init__(self, name, kind, value, elem=None, n=1):
        self.name, self.kind, self.value, self.elem, self.n = name, kind, value, elem, n
        self.name_length = None  # says another length than the name has

    def copy(self):
        other = Key(self.name, self.kind, self.value, self.elem, self.n)
        other.name_length = self.name_length
        return other

    def build(self):
        head = struct.pack('<Q', len(self.name) if self.name_length is None else self.name_length) + self.name
        head += struct.pack('<I', self.kind & 0xffffffff)
        if self.kind == ARR:
            head += struct.pack('<IQ', (self.elem or 0) & 0xffffffff, self.n & MASK64)
        return head + self.value

    def strings(self):
        """The strings of an array of strings, or the one of a string; of bent ones, what is there."""
        at, out = 0, []
        while at + 8 <= len(self.value):
            n, = struct.unpack_from('<Q', self.value, at)
            out.append(self.value[at + 8:at + 8 + n])
            at += 8 + n
        return out

    def set_strings(self, items):
        self.value, self.n = b''.join(text(s) for s in items), len(items)


class Tensor:

    def __init__(self, name, dims, kind, offset):
        self.name, self.dims, self.kind, self.offset = name, list(dims), kind, offset
        self.n_dims = self.name_length = None

    def copy(self):
        other = Tensor(self.name, self.dims, self.kind, self.offset)
        other.n_dims, other.name_length = self.n_dims, self.name_length
        return other

    def build(self):
        name_length = len(self.name) if self.name_length is None else self.name_length
        return (struct.pack('<Q', name_length) + self.name +
                struct.pack('<I', len(self.dims) if self.n_dims is None else self.n_dims) +
                b''.join(struct.pack('<Q', d & MASK64) for d in self.dims) +
                struct.pack('<IQ', self.kind & 0xffffffff, self.offset & MASK64))


class Gguf:

    def __init__(self):
        self.magic, self.version = b'GGUF', 3
        self.keys, self.tensors, self.data = [], [], b''
        self.n_keys = self.n_tensors = None  # counts other than the true ones
        self.align = 32

    def copy(self):
        other = Gguf()
        other.__dict__.update(self.__dict__)
        other.keys = [k.copy() for k in self.keys]
        other.tensors = [t.copy() for t in self.tensors]
        return other

    def find(self, name):
        return next((k for k in self.keys if k.name == name), None)

    def put(self, key):
        """Replace the key of that name, or add it."""
        self.keys = [k for k in self.keys if k.name != key.name] + [key]

    def head(self):
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_keys = len(self.keys) if self.n_keys is None else self.n_keys
        out = [self.magic, struct.pack('<IQQ', self.version & 0xffffffff, n_tensors & MASK64, n_keys & MASK64)]
        out += [k.build() for k in self.keys]
        out += [t.build() for t in self.tensors]
        head = b''.join(out)
        return head + bytes(-len(head) % self.align)

    def build(self):
        return self.head() + self.data

    def range_of(self, tensor):
        """Where a tensor's bytes lie in the data: from its offset to the next one's."""
        begin = max(0, min(tensor.offset, len(self.data)))
        return begin, min([t.offset for t in self.tensors if t.offset > begin] + [len(self.data)])


def text(s):
    return struct.pack('<Q', len(s)) + s


def scalar(name, kind, value):
    return Key(name, kind, struct.pack(SCALAR[kind], value))


def _value_end(data, at, kind):
    if kind == STR:
        return at + 8 + struct.unpack_from('<Q', data, at)[0]
    return at + struct.calcsize(SCALAR[kind])


def _parse_key(data, at):
    n, = struct.unpack_from('<Q', data, at)
    name, at = data[at + 8:at + 8 + n], at + 8 + n
    kind, = struct.unpack_from('<I', data, at)
    at += 4
    if kind != ARR:
        end = _value_end(data, at, kind)
        return Key(name, kind, data[at:end]), end
    elem, count = struct.unpack_from('<IQ', data, at)
    at += 12
    end = at
    if elem == STR:
        for _ in range(count):
            end = _value_end(data, end, STR)
    else:
        end += count * struct.calcsize(SCALAR[elem])
    return Key(name, ARR, data[at:end], elem, count), end


def parse(data):
    """A sound file's parts."""
    g = Gguf()
    g.magic = data[:4]
    g.version, n_tensors, n_keys = struct.unpack_from('<IQQ', data, 4)
    at = 24
    for _ in range(n_keys):
        key, at = _parse_key(data, at)
        g.keys.append(key)
    for _ in range(n_tensors):
        n, = struct.unpack_from('<Q', data, at)
        name, at = data[at + 8:at + 8 + n], at + 8 + n
        n_dims, = struct.unpack_from('<I', data, at)
        dims = struct.unpack_from(f'<{n_dims}Q', data, at + 4)
        at += 4 + 8 * n_dims
        kind, offset = struct.unpack_from('<IQ', data, at)
        at += 12
        g.tensors.append(Tensor(name, dims, kind, offset))
    align = g.find(b'general.alignment')
    g.align = struct.unpack('<I', align.value)[0] if align else 32
    g.data = data[at + -at % g.align:]
    if g.build() != data:
        raise ValueError('the parts do not make the file again')
    return g
