#!/usr/bin/env python3
"""Write tests/data/packed/torchao-*.bin: packed buffers of torchao's CPU kernels, by the formulas of its scalar packers.

Every width has its own formula here, as in the original, where src/io/torchao_bits.c reads one table. Codes, scales and
zero points are functions of their indices, which tests/io/test_torchao.c repeats.

    script/oracles/torchao_buffers.py tests/data/packed
"""
import struct
import sys


def pack1(u, w):
    return [sum(u[w * s + i] << 7 - s for s in range(8)) for i in range(w)]


def pack2(u, w):
    return [u[i] << 6 | u[w + i] << 4 | u[2 * w + i] << 2 | u[3 * w + i] for i in range(w)]


def pack3(u, w):
    s = [u[w * j:w * j + w] for j in range(8)]
    return ([(s[6][i] & 3) << 6 | s[0][i] << 3 | s[1][i] for i in range(w)]
            + [(s[7][i] & 3) << 6 | s[2][i] << 3 | s[3][i] for i in range(w)]
            + [(s[6][i] & 4) << 5 | (s[7][i] & 4) << 4 | s[4][i] << 3 | s[5][i] for i in range(w)])


def pack4(u):
    return [u[i + 16] << 4 | u[i] for i in range(16)]


def pack5(u, w):
    s = [u[w * j:w * j + w] for j in range(8)]
    pairs = [s[2 * j][i] | (s[2 * j + 1][i] & 7) << 5 for j in range(4) for i in range(w)]
    return pairs + [s[1][i] >> 3 | s[3][i] >> 3 << 2 | s[5][i] >> 3 << 4 | s[7][i] >> 3 << 6 for i in range(w)]


def pack6(u, w):
    s = [u[w * j:w * j + w] for j in range(4)]
    return [s[j][i] | (s[3][i] >> 2 * j & 3) << 6 for j in range(3) for i in range(w)]


def pack7(u, w):
    s = [u[w * j:w * j + w] for j in range(8)]
    return [s[j][i] | (s[7][i] >> j & 1) << 7 for j in range(7) for i in range(w)]


def pack1_64(u):
    s = [u[16 * j:16 * j + 16] for j in range(4)]
    nibble = [s[0][i] << 3 | s[1][i] << 2 | s[2][i] << 1 | s[3][i] for i in range(16)]
    return [nibble[i] | nibble[i + 8] << 4 for i in range(8)]


def pack5_64(u):
    first = [u[i] | (u[i + 16] & 7) << 5 for i in range(16)] + [u[i + 32] | (u[i + 48] & 7) << 5 for i in range(16)]
    return first + [u[16 + i] >> 3 | u[24 + i] >> 3 << 2 | u[48 + i] >> 3 << 4 | u[56 + i] >> 3 << 6 for i in range(8)]


def each(u, size, pack):
    return [byte for at in range(0, len(u), size) for byte in pack(u[at:at + size])]


def pack(bits, u):
    """u: 128, 64 or 32 codes without a sign."""
    n = len(u)
    width = {128: 16, 64: 8, 32: 1}[n]
    if bits == 1:
        return pack1_64(u) if n == 64 else each(u, 8 * width, lambda v: pack1(v, width))
    if bits == 2:
        return pack2(u, 8) if n == 32 else each(u, 64, lambda v: pack2(v, 16))
    if bits == 3:
        return each(u, 8 * width, lambda v: pack3(v, width))
    if bits == 4:
        return each(u, 32, pack4)
    if bits == 5:
        return pack5_64(u) if n == 64 else each(u, 8 * width, lambda v: pack5(v, width))
    if bits == 6:
        return pack6(u, 8) if n == 32 else each(u, 64, lambda v: pack6(v, 16))
    if bits == 7:
        return each(u, 8 * width, lambda v: pack7(v, width))
    return list(u)


def unsigned(bits, code):
    return code + (1 << bits - 1) if bits < 8 else code & 255


def code_at(bits, row, k):
    return (row * 37 + k * 11 + row * k * 5 + k * k // 7) % (1 << bits) - (1 << bits - 1)


def linear(bits, rows, cols, group, zeros, bias):
    out = struct.pack("<16i", 6712, 1, bits, zeros, bias, 8, 16, 2, *[0] * 8)
    for n in range(0, rows, 8):
        real = [n + r < rows for r in range(8)]
        for g in range(cols // group):
            for k in range(g * group, (g + 1) * group, 16):
                tile = [code_at(bits, n + r, k + 8 * s + j) if real[r] else 0
                        for s in range(2) for r in range(8) for j in range(8)]
                out += bytes(pack(bits, [unsigned(bits, c) for c in tile]))
            index = [(n + r) * (cols // group) + g for r in range(8)]
            out += struct.pack("<8f", *[(index[r] + 1) / 64 if real[r] else 0 for r in range(8)])
            out += struct.pack("<8i", *[sum(code_at(bits, n + r, k) for k in range(g * group, (g + 1) * group))
                                        if real[r] else 0 for r in range(8)])
            if zeros:
                out += struct.pack("<8i", *[index[r] % 17 - 8 if real[r] else 0 for r in range(8)])
        if bias:
            out += struct.pack("<8f", *[(n + r) / 4 - 1 if real[r] else 0 for r in range(8)])
    return out


def embedding(bits, rows, cols):
    out = struct.pack("<16i", 6712, 2, 1, bits, 32, 128, *[0] * 10)
    for row in range(rows):
        at = 0
        while at < cols:
            span = 128 if cols - at >= 128 else 64 if cols - at >= 64 else 32
            out += bytes(pack(bits, [unsigned(bits, code_at(bits, row, k)) for k in range(at, at + span)]))
            at += span
    return out


folder = sys.argv[1]
for bits in range(1, 9):
    with open(f"{folder}/torchao-linear-{bits}.bin", "wb") as f:
        f.write(linear(bits, 11, 96, 32, bits % 2, bits % 3 == 0))
    with open(f"{folder}/torchao-embedding-{bits}.bin", "wb") as f:
        f.write(embedding(bits, 3, 224))
