# Computes in memory that is shared, but with nobody: anonymous, a memfd, a POSIX object. The argument says how long.
import hashlib
import mmap
import os
import struct
import sys
from multiprocessing.shared_memory import SharedMemory

anonymous = mmap.mmap(-1, 4 << 20)
descriptor = os.memfd_create("numbers")
os.ftruncate(descriptor, 2 << 20)
file = mmap.mmap(descriptor, 2 << 20)
named = SharedMemory(create=True, size=1 << 20)
named.unlink()

total = hashlib.sha256()
for step in range(int(sys.argv[1])):
    at = step * 7919 * 64 % len(anonymous)
    anonymous[at : at + 32] = hashlib.sha256(anonymous[at : at + 32] + struct.pack("q", step)).digest()
    at = step * 104729 * 32 % len(file)
    file[at : at + 32] = hashlib.sha256(file[at : at + 32] + anonymous[0:64]).digest()
    to = step * 32 % (1 << 20)
    named.buf[to : to + 32] = file[at : at + 32]
    for _ in range(40):
        total.update(file[at : at + 32])
    if step % 1000 == 999:
        # What is read by the descriptor is what was written to the memory.
        total.update(os.pread(descriptor, mmap.PAGESIZE, at & ~(mmap.PAGESIZE - 1)))
for part in anonymous[:], file[:], bytes(named.buf):
    total.update(part)
print(total.hexdigest())
named.close()
