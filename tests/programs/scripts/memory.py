# Computes in memory that is shared, but with nobody. The argument says how long.
import hashlib
import mmap
import struct
import sys

one, other, third = (mmap.mmap(-1, size << 20) for size in (4, 2, 1))
total = hashlib.sha256()
for step in range(int(sys.argv[1])):
    at = step * 7919 * 64 % len(one)
    one[at : at + 32] = hashlib.sha256(one[at : at + 32] + struct.pack("q", step)).digest()
    at = step * 104729 * 32 % len(other)
    other[at : at + 32] = hashlib.sha256(other[at : at + 32] + one[0:64]).digest()
    to = step * 32 % len(third)
    third[to : to + 32] = other[at : at + 32]
    for _ in range(40):
        total.update(other[at : at + 32])
for part in one, other, third:
    total.update(part[:])
print(total.hexdigest())
