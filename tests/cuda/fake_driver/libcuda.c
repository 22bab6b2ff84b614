/* A stand-in for CUDA's driver library on machines without a GPU: host memory is the device's.
 *
 * It takes what the real one takes and refuses what that refuses, as far as is written here:
 * calls without a current context, unknown handles, kernels for another chip, too few or too
 * many threads. Streams are queues whose work is done late, when somebody asks whether it is
 * done: whoever relies on a copy that was not waited for reads rubbish, as on a GPU. Memory is
 * allocated and freed in the order of its stream, and poisoned; a copy to memory that is not
 * allocated then fails, with that error for every call from then on. Kernels are machine code,
 * of which only the description of the parameters is read; what a launch does is left to a
 * function that the test gives (fake_on_launch). Every call of interest is written to the file
 * that FAKE_CUDA_LOG names. The variables that it listens to stand in `setting` calls below.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contexts.h"
#include "memory.h"
#include "streams.h"
#include "kernels.h"

/* ---- how callers find all this ----------------------------------------------------------- */

/* The newest form of a function that is older than CUDA 13 is the one that stands here. */
int cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags, int *status)
{
    static void *self;
    Dl_info info;
    (void)flags;
    if (!self && dladdr((void *)cuGetProcAddress_v2, &info))
        self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    if (!strcmp(name, "cuGetProcAddress")) name = "cuGetProcAddress_v2";
    *out = self && version < 13000 ? dlsym(self, name) : NULL;
    if (status) *status = *out ? 0 : 1;
    return *out ? OK : NOT_FOUND;
}

int cuGetProcAddress(const char *name, void **out, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(name, out, version, flags, NULL);
}
