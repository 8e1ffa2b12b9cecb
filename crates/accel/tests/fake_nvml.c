/* A stand-in for NVIDIA's management library, with one device that exists nowhere: what it tells is made up, and what is
 * set is kept in the process. Functions that it lacks are as missing as from an old library. */
#include <string.h>

#define OK 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NO_PERMISSION 4
#define GPU_IS_LOST 15

#ifndef MODE
#define MODE 0 /* 1: nothing may be set; 2: the device was pulled out; 3: says senseless things */
#endif

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory;
typedef struct { unsigned gpu, memory; } rates;

static unsigned limit = 300000, least, greatest, ecc = 1;
static const int lost = MODE == 2 ? GPU_IS_LOST : OK;
static const int denied = MODE == 1 ? NO_PERMISSION : MODE == 2 ? GPU_IS_LOST : OK;

int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int error) { return error ? "an error" : "no error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strncpy(text, "580.00", length); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = MODE == 3 ? 4000000000u : 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index) return INVALID_ARGUMENT;
    *device = (void *)&limit;
    return OK;
}
int nvmlDeviceGetPciInfo_v3(void *device, pci *info) {
    memset(info, 0, sizeof *info);
    info->bus = 0x41;
    info->id = 0x233510de;
    info->subsystem = 0x18be10de;
    strcpy(info->legacy, "0000:41:00.0");
    strcpy(info->bus_id, "00000000:41:00.0");
    return OK;
}
int nvmlDeviceGetName(void *device, char *text, unsigned length) { strncpy(text, "Stand-in", length); return OK; }
int nvmlDeviceGetUUID(void *device, char *text, unsigned length) { strncpy(text, "GPU-0", length); return OK; }
int nvmlDeviceGetMinorNumber(void *device, unsigned *minor) { *minor = 0; return OK; }
int nvmlDeviceGetUtilizationRates(void *device, rates *to) {
    to->gpu = MODE == 3 ? 4000000000u : 37;
    to->memory = 12;
    return lost;
}
int nvmlDeviceGetMemoryInfo_v2(void *device, memory *to) {
    to->total = 8ull << 30;
    to->used = 3ull << 30;
    to->reserved = 1ull << 29;
    to->free = to->total - to->used - to->reserved;
    return lost;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *to) { *to = MODE == 3 ? 4000000000u : 61; return lost; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *to) { *to = MODE == 3 ? 4000000000u : 123400; return lost; }
typedef struct { unsigned field, scope; long long timestamp, latency; int type, outcome; unsigned long long value; } field;
int nvmlDeviceGetFieldValues(void *device, int count, field *to) {
    for (int i = 0; i < count; i++) {
        to[i].type = 1;
        to[i].outcome = to[i].field == 82 ? OK : NOT_SUPPORTED;
        to[i].value = MODE == 3 ? 4000000000u : 47;
    }
    return lost;
}
int nvmlDeviceGetPerformanceState(void *device, int *to) { *to = MODE == 3 ? 32 : 2; return lost; }
typedef struct { unsigned pid; unsigned long long used; unsigned gpu, compute; } process;
static int list(unsigned *count, process *to, unsigned pid, unsigned long long used) {
    if (*count < 1) { *count = 1; return 7; }
    *count = 1;
    *to = (process){pid, used, -1, -1};
    return lost;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *to) { return list(count, to, 4242, 5ull << 20); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process *to) { return list(count, to, 4243, -1ull); }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *to) { *to = 5000; return lost; }
int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *to) { *to = 1000 + clock; return lost; }
int nvmlDeviceGetMaxClockInfo(void *device, int clock, unsigned *to) { *to = 1980; return lost; }
int nvmlDeviceGetNumFans(void *device, unsigned *to) { *to = MODE == 3 ? 4000000000u : 0; return OK; }
int nvmlDeviceGetSupportedMemoryClocks(void *device, unsigned *count, unsigned *to) {
    *count = 1;
    to[0] = 2619;
    return OK;
}
int nvmlDeviceGetSupportedGraphicsClocks(void *device, unsigned memory, unsigned *count, unsigned *to) {
    if (memory != 2619) return INVALID_ARGUMENT;
    *count = 3;
    to[0] = 1980;
    to[1] = 1200;
    to[2] = 345;
    return OK;
}
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *to) { *to = limit; return lost; }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *to) { *to = limit; return lost; }
int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *from, unsigned *to) {
    *from = 200000;
    *to = 700000;
    return lost;
}
int nvmlDeviceSetPowerManagementLimit(void *device, unsigned to) {
    if (denied) return denied;
    limit = to;
    return OK;
}
int nvmlDeviceGetEccMode(void *device, int *current, int *pending) {
    *current = 1;
    *pending = ecc;
    return lost;
}
int nvmlDeviceSetEccMode(void *device, int to) {
    if (denied) return denied;
    ecc = to;
    return OK;
}
int nvmlDeviceSetGpuLockedClocks(void *device, unsigned from, unsigned to) {
    if (denied) return denied;
    least = from;
    greatest = to;
    return OK;
}
int nvmlDeviceResetGpuLockedClocks(void *device) {
    if (denied) return denied;
    least = greatest = 0;
    return OK;
}
static int cleared;
int nvmlDeviceClearEccErrorCounts(void *device, int counter) {
    if (denied) return denied;
    cleared = !counter;
    return OK;
}
int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, unsigned long long *to) {
    *to = counter ? 3 : cleared ? 0 : 2;
    return lost;
}
/* What is locked the real library does not tell; the test asks for it here. */
int nvmlDeviceGetPcieReplayCounter(void *device, unsigned *to) { *to = least * 10000 + greatest; return lost; }
