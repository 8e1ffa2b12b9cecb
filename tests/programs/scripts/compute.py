"""Computes with all that Python has at hand and prints a digest of each step."""

import bz2
import collections
import decimal
import fractions
import functools
import hashlib
import itertools
import json
import lzma
import math
import pickle
import re
import struct
import sys
import zlib


def digest(*values):
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def primes(limit):
    sieve = bytearray([1]) * limit
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return [number for number in range(2, limit) if sieve[number]]


def words(seed, count):
    state = seed
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield "".join(chr(97 + (state >> shift) % 26) for shift in range(20, 20 + 3 * (state % 8 + 2), 3))


class Node:
    def __init__(self, name, parent):
        self.name, self.parent, self.children = name, parent, []
        if parent:
            parent.children.append(self)

    def depth(self):
        return 0 if self.parent is None else 1 + self.parent.depth()


def tree(seed):
    nodes = [Node("root", None)]
    for name in words(seed, 4000):
        nodes.append(Node(name, nodes[len(name) * 31 % len(nodes)]))
    return collections.Counter(node.depth() for node in nodes)


@functools.lru_cache(maxsize=None)
def ways(length, parts):
    if length == 0:
        return 1
    return sum(ways(length - part, parts) for part in parts if part <= length)


def main(rounds):
    for turn in range(rounds):
        text = " ".join(words(turn, 30000))
        counted = collections.Counter(text.split())
        print(turn, "count", digest(sorted(counted.items())))
        print(turn, "sort", digest(sorted(text.split(), key=lambda word: (word[::-1], len(word)))))
        print(turn, "regex", digest(re.findall(r"\b([aeiou])\w*\1\b", text)[:500]))
        packed = [pack(text.encode()) for pack in (zlib.compress, bz2.compress, functools.partial(lzma.compress, preset=1))]
        print(turn, "pack", digest(*packed))
        print(turn, "json", digest(json.loads(json.dumps(counted)) == counted, len(pickle.dumps(counted))))
        print(turn, "primes", digest(primes(200000 + turn)))
        print(turn, "big", digest(math.factorial(1500 + turn) % (2**521 - 1), pow(3, 10**6 + turn, 2**127 - 1)))
        print(turn, "float", digest(math.fsum(math.sin(n) / n for n in range(1, 100000)).hex()))
        with decimal.localcontext() as context:
            context.prec = 300
            print(turn, "decimal", digest(decimal.Decimal(turn + 2).sqrt(), decimal.Decimal(turn + 2).ln()))
        print(turn, "fractions", digest(sum(fractions.Fraction(1, n) for n in range(1, 400))))
        print(turn, "tree", digest(sorted(tree(turn).items())))
        print(turn, "ways", digest(ways(300 + turn, (1, 2, 5, 10, 20, 50))))
        print(turn, "permutations", digest(sum(1 for order in itertools.permutations(range(8)) if order[0] < order[-1])))
        print(turn, "struct", digest(struct.unpack("<500d", struct.pack("<500d", *map(math.sqrt, range(500))))))
        sys.stdout.flush()


main(int(sys.argv[1]))
