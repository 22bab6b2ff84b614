/* Memory of the device and of the host. A part of libcuda.c. */

/* ---- memory ------------------------------------------------------------------------------ */

enum { DEVICE_MEMORY, HOST_MEMORY };
typedef struct Pool Pool;
typedef struct Block {
    char *at;
    size_t size;
    int kind, device, taken, live; /* taken: by the order of calls; live: by that of the work */
    Pool *pool;
    struct Block *next;
} Block;
struct Pool { int device; uint64_t threshold; };
static Block *blocks;

static size_t reserved(Pool *pool, int only_taken)
{
    size_t sum = 0;
    for (Block *b = blocks; b; b = b->next)
        if (b->kind == DEVICE_MEMORY && (!pool || b->pool == pool) && (b->taken || !only_taken))
            sum += b->size;
    return sum;
}

static Block *find(const void *at, size_t size, int kind)
{
    for (Block *b = blocks; b; b = b->next)
        if (b->kind == kind && (char *)at >= b->at && (char *)at + size <= b->at + b->size)
            return b;
    return NULL;
}

static Block *new_block(size_t size, int kind, Pool *pool)
{
    if (kind == DEVICE_MEMORY && reserved(NULL, 0) + size > (size_t)capacity()) return NULL;
    Block *b = calloc(1, sizeof *b);
    b->at = aligned_alloc(512, (size + 511) / 512 * 512);
    b->size = size, b->kind = kind, b->pool = pool, b->taken = 1;
    b->device = stack[depth - 1]->device;
    memset(b->at, 0xA5, size);
    b->next = blocks;
    return blocks = b;
}

static void remove_block(Block *gone)
{
    for (Block **b = &blocks; *b; b = &(*b)->next)
        if (*b == gone) {
            *b = gone->next;
            break;
        }
    memset(gone->at, 0xDD, gone->size);
    free(gone->at);
    free(gone);
}

int cuMemGetInfo(size_t *available, size_t *total)
{
    IN_CONTEXT();
    *total = capacity();
    *available = *total - reserved(NULL, 0);
    return OK;
}

int cuMemAlloc(uintptr_t *out, size_t size)
{
    IN_CONTEXT();
    REFUSE(!size, INVALID_VALUE);
    Block *b = new_block(size, DEVICE_MEMORY, NULL);
    note("alloc %zu %s", size, b ? "ok" : "out");
    REFUSE(!b, OUT_OF_MEMORY);
    b->live = 1;
    *out = (uintptr_t)b->at;
    return OK;
}

int cuMemFree(uintptr_t at)
{
    IN_CONTEXT();
    Block *b = find((void *)at, 0, DEVICE_MEMORY);
    REFUSE(!b || b->at != (char *)at || b->pool, INVALID_VALUE);
    note("free %zu", b->size);
    remove_block(b);
    return OK;
}

int cuMemHostAlloc(void **out, size_t size, unsigned flags)
{
    IN_CONTEXT();
    REFUSE(!size, INVALID_VALUE);
    note("host_alloc %zu %u", size, flags);
    REFUSE((long)size > setting("FAKE_CUDA_HOST_MEMORY", 1L << 40), OUT_OF_MEMORY);
    *out = new_block(size, HOST_MEMORY, NULL)->at;
    return OK;
}

int cuMemFreeHost(void *at)
{
    IN_CONTEXT();
    Block *b = find(at, 0, HOST_MEMORY);
    REFUSE(!b || b->at != at, INVALID_VALUE);
    note("host_free %zu", b->size);
    remove_block(b);
    return OK;
}

int cuPointerGetAttribute(void *out, int attribute, uintptr_t at)
{
    IN_CONTEXT();
    Block *b = find((void *)at, 1, DEVICE_MEMORY);
    REFUSE(!b, INVALID_VALUE);
    switch (attribute) {
    case 2: *(unsigned *)out = 2; return OK;  /* the kind of memory: a device's */
    case 8: *(unsigned *)out = 0; return OK;  /* managed: not */
    case 9: *(int *)out = b->device; return OK;
    }
    return INVALID_VALUE;
}

int cuPointerGetAttributes(unsigned n, int *attributes, void **data, uintptr_t at)
{
    for (unsigned i = 0; i < n; i++)
        cuPointerGetAttribute(data[i], attributes[i], at);
    return OK;
}
