/* A stand-in for OpenCL's library, with one device at 0000:BUS:00.0 that exists nowhere. Nothing is computed by it, so all
 * results are wrong; MODE says what else it does wrong. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef MODE
#define MODE 0 /* 1: crashes when it is asked for devices; 2: crashes, 3: hangs, 4: fails while it computes */
#endif

#ifndef BUS
#define BUS 3
#endif

typedef unsigned u;
static int thing;
#define THING ((void *)&thing)

static int give(const void *from, size_t length, size_t room, void *to, size_t *told) {
    if (told) *told = length;
    if (to && room >= length) memcpy(to, from, length);
    return room >= length ? 0 : -30;
}
int clGetPlatformIDs(u room, void **to, u *count) { *count = 1; *to = THING; return 0; }
int clGetPlatformInfo(void *p, u what, size_t room, void *to, size_t *told) { return give("Stand-in", 9, room, to, told) ? 0 : 0; }
int clGetDeviceIDs(void *p, unsigned long kind, u room, void **to, u *count) {
    if (MODE == 1) *(volatile int *)0 = 1;
    *count = 1;
    *to = THING;
    return 0;
}
int clGetDeviceInfo(void *d, u what, size_t room, void *to, size_t *told) {
    u place[4] = {0, BUS, 0, 0}, units = 1, none = 0;
    unsigned long kind = 4, size = 1ul << 28, zero = 0;
    switch (what) {
    case 0x1000: return give(&kind, 8, room, to, told);
    case 0x1002: return give(&units, 4, room, to, told);
    case 0x1010: case 0x101f: return give(&size, 8, room, to, told);
    case 0x1032: return give(&zero, 8, room, to, told);
    case 0x1035: return give(&none, 4, room, to, told);
    case 0x410f: return give(place, 16, room, to, told);
    case 0x102b: case 0x102f: memset(to, 0, room); strcpy(to, "Stand-in 1.0"); *told = 13; return 0;
    }
    return -30;
}
void *clCreateContext(void *a, u b, void *c, void *d, void *e, int *error) { *error = 0; return THING; }
void *clCreateCommandQueue(void *a, void *b, unsigned long c, int *error) { *error = 0; return THING; }
void *clCreateProgramWithSource(void *a, u b, void *c, void *d, int *error) { *error = 0; return THING; }
int clBuildProgram(void *a, u b, void *c, void *d, void *e, void *f) { return 0; }
int clGetProgramBuildInfo(void *a, void *b, u c, size_t d, void *e, size_t *f) { return 0; }
void *clCreateKernel(void *a, void *b, int *error) { *error = 0; return THING; }
int clReleaseKernel(void *a) { return 0; }
int clSetKernelArg(void *a, u b, size_t c, void *d) { return 0; }
int clEnqueueNDRangeKernel(void *a, void *b, u c, void *d, void *e, void *f, u g, void *h, void *i) { return MODE == 4 ? -36 : 0; }
int clFinish(void *a) {
    if (MODE == 2) *(volatile int *)0 = 1;
    while (MODE == 3) sleep(1);
    return 0;
}
void *clCreateBuffer(void *a, unsigned long b, size_t size, void *c, int *error) { *error = 0; return calloc(1, size); }
int clReleaseMemObject(void *a) { free(a); return 0; }
void *clEnqueueMapBuffer(void *a, void *buffer, u b, unsigned long c, size_t d, size_t e, u f, void *g, void *h, int *error) {
    *error = 0;
    return buffer;
}
int clEnqueueWriteBuffer(void *a, void *to, u b, size_t at, size_t size, void *from, u c, void *d, void *e) {
    memcpy((char *)to + at, from, size);
    return 0;
}
int clEnqueueReadBuffer(void *a, void *from, u b, size_t at, size_t size, void *to, u c, void *d, void *e) {
    memcpy(to, (char *)from + at, size);
    return 0;
}
