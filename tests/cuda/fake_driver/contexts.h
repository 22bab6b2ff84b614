/* Settings, errors, devices and contexts. A part of libcuda.c. */

enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NO_BINARY = 209,
    INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700,
    OUT_OF_RESOURCES = 701, NOT_SUPPORTED = 801
};

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pid_t started;      /* the process of cuInit */
static int failed;         /* the error that a kernel or a copy left behind */

static long setting(const char *name, long otherwise)
{
    const char *value = getenv(name);
    return value && *value ? strtol(value, NULL, 0) : otherwise;
}

static void note(const char *format, ...)
{
    static FILE *file;
    if (!file) {
        const char *path = getenv("FAKE_CUDA_LOG");
        if (!path || !(file = fopen(path, "a"))) return;
        setvbuf(file, NULL, _IOLBF, 0);
    }
    va_list args;
    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    fputc('\n', file);
}

/* ---- errors ------------------------------------------------------------------------------ */

static const struct { int code; const char *name, *text; } errors[] = {
    {OK, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
};

static int error_word(int code, const char **out, int text)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) {
            *out = text ? errors[i].text : errors[i].name;
            return OK;
        }
    *out = NULL;
    return INVALID_VALUE;
}

int cuGetErrorName(int code, const char **out) { return error_word(code, out, 0); }
int cuGetErrorString(int code, const char **out) { return error_word(code, out, 1); }

/* ---- devices and contexts ---------------------------------------------------------------- */

typedef struct { int device; } Context;
static Context contexts[8];
static __thread Context *stack[64];
static __thread int depth;

static long devices(void) { return setting("FAKE_CUDA_DEVICES", 1); }
static long capability(void) { return setting("FAKE_CUDA_CAPABILITY", 90); }
static long capacity(void) { return setting("FAKE_CUDA_MEMORY", 1L << 30); }

static int ready(void) { return started == getpid() ? failed : NOT_INITIALIZED; }
static int in_context(void)
{
    int code = ready();
    return code ? code : depth ? OK : INVALID_CONTEXT;
}
static void leave(int *entered) { if (*entered) pthread_mutex_unlock(&lock); }
/* A call that needs a context; it has the library for itself until it returns. */
#define IN_CONTEXT()                                                                          \
    __attribute__((cleanup(leave))) int entered = !pthread_mutex_lock(&lock);                 \
    do { int code_ = in_context(); if (code_) return code_; } while (0)
#define REFUSE(condition, code) do { if (condition) return code; } while (0)

int cuDriverGetVersion(int *out)
{
    *out = (int)setting("FAKE_CUDA_DRIVER_VERSION", 13000);
    return OK;
}

int cuInit(unsigned flags)
{
    REFUSE(started && started != getpid(), NOT_INITIALIZED);
    long code = setting("FAKE_CUDA_INIT", OK);
    if (!code && !devices()) code = NO_DEVICE;
    if (!code) started = getpid();
    note("init %u", flags);
    return (int)code;
}

int cuDeviceGetCount(int *out)
{
    REFUSE(ready(), ready());
    *out = (int)devices();
    return OK;
}

int cuDeviceGet(int *out, int ordinal)
{
    REFUSE(ready(), ready());
    REFUSE(ordinal < 0 || ordinal >= devices(), INVALID_DEVICE);
    *out = ordinal;
    return OK;
}

int cuDeviceGetName(char *out, int length, int device)
{
    snprintf(out, length, "Fake %d", device);
    return OK;
}

int cuDeviceGetAttribute(int *out, int attribute, int device)
{
    REFUSE(ready(), ready());
    REFUSE(device < 0 || device >= devices(), INVALID_DEVICE);
    switch (attribute) {
    case 16: *out = 4; return OK;                                         /* multiprocessors */
    case 75: *out = (int)(capability() / 10); return OK;
    case 76: *out = (int)(capability() % 10); return OK;
    case 115: *out = (int)setting("FAKE_CUDA_POOLS", 1); return OK;
    }
    *out = 0;
    return OK;
}

int cuDevicePrimaryCtxRetain(Context **out, int device)
{
    REFUSE(ready(), ready());
    REFUSE(device < 0 || device >= devices(), INVALID_DEVICE);
    contexts[device].device = device;
    *out = &contexts[device];
    return OK;
}

int cuCtxPushCurrent(Context *context)
{
    REFUSE(started != getpid(), NOT_INITIALIZED);
    REFUSE(context < contexts || context >= contexts + 8, INVALID_CONTEXT);
    stack[depth++] = context;
    return OK;
}

int cuCtxPopCurrent(Context **out)
{
    REFUSE(!depth, INVALID_CONTEXT);
    *out = stack[--depth];
    return OK;
}

int cuCtxGetCurrent(Context **out)
{
    *out = depth ? stack[depth - 1] : NULL;
    return OK;
}

int cuCtxSetCurrent(Context *context)
{
    if (depth) depth--;
    if (context) stack[depth++] = context;
    return OK;
}

int cuCtxGetDevice(int *out)
{
    IN_CONTEXT();
    *out = stack[depth - 1]->device;
    return OK;
}
