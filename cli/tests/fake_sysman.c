/* A stand-in for Level Zero's loader, with one device that exists nowhere, at the address of a recorded card. It shows how
 * the helper and its asker bear a library that works (MODE 0), crashes when it is started (1) or later (2), hangs (3), lies
 * (4), or talks to the asker itself (5). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint32_t result;
static uint64_t asked;
static int device, memory, engines, errors;

result zesInit(uint32_t flags) {
    if (MODE == 1) abort();
    return 0;
}
static result one(uint32_t *count, void **handles, void *what) {
    if (handles) *handles = what;
    *count = MODE == 4 ? 4000000000u : 1;
    return 0;
}
result zesDriverGet(uint32_t *count, void **handles) {
    asked++;
    if (MODE == 2 && asked > 4) *(volatile int *)0 = 1;
    if (MODE == 3 && asked > 4) for (;;) pause();
    if (MODE == 5) for (int i = 0; i < 5000; i++) printf("something else than JSON, and no end of it ");
    return one(count, handles, &device);
}
result zesDeviceGet(void *driver, uint32_t *count, void **handles) { return one(count, handles, &device); }
result zesDevicePciGetProperties(void *handle, uint32_t *to) {
    if (handle != &device) return 1;
    to[4] = 0; to[5] = 11; to[6] = 0; to[7] = 0;
    return 0;
}
result zesDeviceEnumMemoryModules(void *handle, uint32_t *count, void **handles) { return one(count, handles, &memory); }
result zesMemoryGetState(void *handle, uint32_t *to) { to[4] = MODE == 4 ? 77 : 1; return 0; }
result zesMemoryGetBandwidth(void *handle, uint64_t *to) {
    to[0] = MODE == 4 ? rand() * 1000000007ull : asked * 30000000000ull;
    to[1] = asked * 20000000000ull;
    to[2] = 100000000000ull;
    to[3] = asked * 1000000;
    return 0;
}
result zesDeviceEnumEngineGroups(void *handle, uint32_t *count, void **handles) { return one(count, handles, &engines); }
result zesEngineGetProperties(void *handle, uint32_t *to) { to[4] = 0; return 0; }
result zesEngineGetActivity(void *handle, uint64_t *to) {
    to[0] = MODE == 4 ? asked * 9000000 : asked * 250000;
    to[1] = asked * 1000000;
    return 0;
}
result zesDeviceEnumRasErrorSets(void *handle, uint32_t *count, void **handles) { return one(count, handles, &errors); }
result zesRasGetProperties(void *handle, uint32_t *to) { to[4] = 1; return 0; }
result zesRasGetState(void *handle, uint8_t clear, uint64_t *to) {
    memset(to + 2, 0, 56);
    to[2] = MODE == 4 ? -5 : 3;
    return clear;
}
