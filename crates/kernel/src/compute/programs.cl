/* The programs, for OpenCL. `compute.rs` says what they mean, `programs.ptx` says the same for CUDA. */

#ifdef DOUBLE
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

uint pattern(ulong number, uint seed, uint mask, uint flip) {
    uint word = ((uint)number + (uint)(number >> 32) * 0x9e3779b9u) ^ seed;
    word ^= word >> 16;
    word *= 0x7feb352du;
    word ^= word >> 15;
    word *= 0x846ca68bu;
    word ^= word >> 16;
    return (word & mask) ^ flip;
}

kernel void fill(global uint *to, ulong count, uint seed, uint mask, uint flip) {
    for (ulong i = get_global_id(0); i < count; i += get_global_size(0))
        to[i] = pattern(i, seed, mask, flip);
}

kernel void check(global const uint *of, ulong count, uint seed, uint mask, uint flip, global uint *tally) {
    uint seen = 0;
    for (ulong i = get_global_id(0); i < count; i += get_global_size(0)) {
        seen++;
        if (of[i] != pattern(i, seed, mask, flip)) {
            atomic_inc(&tally[0]);
            atomic_min(&tally[1], (uint)(i >> 10));
        }
    }
    atomic_add(&tally[2], seen);
}

kernel void copy(global const uint4 *from, global uint4 *to, ulong count) {
    for (ulong i = get_global_id(0); i < count; i += get_global_size(0))
        to[i] = from[i];
}

#define STEP(f) a = f(a, m, b); c = f(c, m, b); d = f(d, m, b); e = f(e, m, b); \
    g = f(g, m, b); h = f(h, m, b); j = f(j, m, b); k = f(k, m, b);
#define STEPS(f) STEP(f) STEP(f) STEP(f) STEP(f)
#define CHAIN(type, f) \
    type m = (type)as_float(factor), b = (type)as_float(mirror); \
    type a = (type)(get_global_id(0) & 1023); \
    type c = a + 1, d = a + 2, e = a + 3, g = a + 4, h = a + 5, j = a + 6, k = a + 7; \
    for (uint round = 0; round < rounds; round++) { STEPS(f) STEPS(f) STEPS(f) STEPS(f) } \
    to[get_global_id(0)] = a + c + d + e + g + h + j + k;

kernel void chain32(global float *to, uint rounds, uint factor, uint mirror) {
    CHAIN(float, mad)
}

#ifdef DOUBLE
kernel void chain64(global double *to, uint rounds, uint factor, uint mirror) {
    CHAIN(double, mad)
}
#endif
