/* Streams, events, pools and copies. A part of libcuda.c. */

/* ---- streams and events ------------------------------------------------------------------ */

enum { COPY, ALLOCATE, RELEASE, LAUNCH, WAIT };
typedef struct { char *entry; uint32_t shape[7]; size_t n; char *parameters; } Call;
typedef struct Stream Stream;
typedef struct {
    int kind;
    char *to, *from;
    size_t width, rows, to_pitch, from_pitch;
    char *on_device; /* the end of a copy that lies on the device, and its distance of rows */
    size_t device_pitch;
    Block *block;
    Call *call;
    Stream *other;
    uint64_t until;
} Op;
struct Stream { Context *context; Op *ops; uint64_t asked, done, room; int number; };
typedef struct { Stream *stream; uint64_t until; int answered; } Event;

static Stream legacy, per_thread = {.number = 1}, *streams[64] = {&legacy, &per_thread};
static int n_streams = 2;
typedef void Launched(const char *, const uint32_t *, const void *, size_t);
static Launched *on_launch;

void fake_on_launch(Launched *function) { on_launch = function; }
void fake_forgive(void) { failed = OK; }

static Stream *stream_of(void *handle)
{
    if ((uintptr_t)handle < 2) return &legacy;
    if ((uintptr_t)handle == 2) return &per_thread;
    for (int i = 0; i < n_streams; i++)
        if (streams[i] == handle && streams[i]->context == stack[depth - 1]) return handle;
    return NULL;
}

static Op *push(Stream *stream, Op op)
{
    if (stream->asked == stream->room) {
        stream->room = stream->room ? 2 * stream->room : 64;
        stream->ops = realloc(stream->ops, stream->room * sizeof(Op));
    }
    stream->ops[stream->asked] = op;
    return &stream->ops[stream->asked++];
}

static void fail(const char *why)
{
    note("failed %s", why);
    failed = ILLEGAL_ADDRESS;
}

static void perform(Op *op)
{
    if (failed) return;
    if (op->kind == ALLOCATE) {
        op->block->live = 1;
        memset(op->block->at, 0xA5, op->block->size);
    } else if (op->kind == RELEASE) {
        op->block->live = 0;
        memset(op->block->at, 0xDD, op->block->size);
    } else if (op->kind == COPY) {
        for (size_t i = 0; i < op->rows; i++) {
            Block *b = find(op->on_device + i * op->device_pitch, op->width, DEVICE_MEMORY);
            if (!b || !b->live) {
                fail("a copy outside of allocated memory");
                return;
            }
            memcpy(op->to + i * op->to_pitch, op->from + i * op->from_pitch, op->width);
        }
    } else if (op->kind == LAUNCH) {
        if (setting("FAKE_CUDA_KERNELS_FAIL", 0)) fail("a kernel, as was asked for");
        else if (on_launch)
            on_launch(op->call->entry, op->call->shape, op->call->parameters, op->call->n);
    }
}

/* Do the work of a stream up to a place, and first what it waits for on others. */
static void drive(Stream *stream, uint64_t until)
{
    while (stream->done < until) {
        Op op = stream->ops[stream->done++];
        if (op.kind == WAIT) drive(op.other, op.until);
        else perform(&op);
    }
}

int cuStreamCreate(Stream **out, unsigned flags)
{
    IN_CONTEXT();
    Stream *s = calloc(1, sizeof *s);
    s->context = stack[depth - 1];
    s->number = n_streams;
    streams[n_streams++] = *out = s;
    note("stream %d %u", s->number, flags);
    return OK;
}

int cuStreamGetDevice(Stream *handle, int *out)
{
    IN_CONTEXT();
    (void)handle;
    *out = stack[depth - 1]->device;
    return OK;
}

int cuStreamSynchronize(void *handle)
{
    IN_CONTEXT();
    Stream *s = stream_of(handle);
    REFUSE(!s, INVALID_HANDLE);
    note("stream_synchronize %d", s->number);
    drive(s, s->asked);
    return failed;
}

int cuCtxSynchronize(void)
{
    IN_CONTEXT();
    note("context_synchronize");
    for (int i = 0; i < n_streams; i++) drive(streams[i], streams[i]->asked);
    return failed;
}

int cuEventCreate(Event **out, unsigned flags)
{
    IN_CONTEXT();
    (void)flags;
    *out = calloc(1, sizeof **out);
    return OK;
}

int cuEventRecord(Event *event, void *handle)
{
    IN_CONTEXT();
    Stream *s = stream_of(handle);
    REFUSE(!s, INVALID_HANDLE);
    event->stream = s, event->until = s->asked, event->answered = 0;
    return OK;
}

int cuEventQuery(Event *event)
{
    IN_CONTEXT();
    if (!event->stream) return OK;
    /* By default, nothing is done when it is asked for first. */
    if (event->answered++ < setting("FAKE_CUDA_PATIENCE", 1)) return NOT_READY;
    drive(event->stream, event->until);
    return failed;
}

int cuEventSynchronize(Event *event)
{
    IN_CONTEXT();
    if (event->stream) drive(event->stream, event->until);
    return failed;
}

int cuEventDestroy(Event *event)
{
    IN_CONTEXT();
    free(event);
    return OK;
}

int cuStreamWaitEvent(void *handle, Event *event, unsigned flags)
{
    IN_CONTEXT();
    Stream *s = stream_of(handle);
    REFUSE(!s || !event || flags, INVALID_HANDLE);
    if (event->stream) {
        push(s, (Op){.kind = WAIT, .other = event->stream, .until = event->until});
        note("wait %d %d", s->number, event->stream->number);
    }
    return OK;
}

/* ---- pools ------------------------------------------------------------------------------- */

typedef struct { int allocation, handle, location, number; } PoolProperties;

int cuMemPoolCreate(Pool **out, const PoolProperties *properties)
{
    IN_CONTEXT();
    REFUSE(properties->allocation != 1 || properties->location != 1, INVALID_VALUE);
    REFUSE(properties->number < 0 || properties->number >= devices(), INVALID_DEVICE);
    *out = calloc(1, sizeof **out);
    (*out)->device = properties->number;
    note("pool %d", properties->number);
    return OK;
}

int cuMemPoolSetAttribute(Pool *pool, int attribute, void *value)
{
    IN_CONTEXT();
    REFUSE(attribute != 4, INVALID_VALUE);
    pool->threshold = *(uint64_t *)value;
    note("threshold %llu", (unsigned long long)pool->threshold);
    return OK;
}

int cuMemPoolGetAttribute(Pool *pool, int attribute, void *value)
{
    IN_CONTEXT();
    REFUSE(attribute != 5 && attribute != 7, INVALID_VALUE);
    *(uint64_t *)value = reserved(pool, attribute == 7);
    return OK;
}

int cuMemPoolTrimTo(Pool *pool, size_t least)
{
    IN_CONTEXT();
    (void)least;
    note("trim");
    for (Block *b = blocks, *next; b; b = next) {
        next = b->next;
        if (b->pool == pool && !b->taken && !b->live) remove_block(b);
    }
    return OK;
}

int cuMemAllocFromPoolAsync(uintptr_t *out, size_t size, Pool *pool, void *handle)
{
    IN_CONTEXT();
    Stream *s = stream_of(handle);
    REFUSE(!s || !size, INVALID_VALUE);
    Block *b = blocks;
    while (b && !(b->pool == pool && !b->taken && b->size == size)) b = b->next;
    if (!b) b = new_block(size, DEVICE_MEMORY, pool);
    note("alloc %zu %s", size, b ? "ok" : "out");
    REFUSE(!b, OUT_OF_MEMORY);
    b->taken = 1;
    push(s, (Op){.kind = ALLOCATE, .block = b});
    *out = (uintptr_t)b->at;
    return OK;
}

int cuMemFreeAsync(uintptr_t at, void *handle)
{
    IN_CONTEXT();
    Stream *s = stream_of(handle);
    Block *b = find((void *)at, 0, DEVICE_MEMORY);
    REFUSE(!s || !b || b->at != (char *)at || !b->taken, INVALID_VALUE);
    note("free %zu", b->size);
    b->taken = 0;
    push(s, (Op){.kind = RELEASE, .block = b});
    return OK;
}

/* ---- copies ------------------------------------------------------------------------------ */

static int copy(const char *name, Op op, const void *host, void *handle)
{
    IN_CONTEXT();
    Stream *s = stream_of(handle);
    REFUSE(!s, INVALID_HANDLE);
    REFUSE(!op.width || op.to_pitch < op.width || op.from_pitch < op.width, INVALID_VALUE);
    op.kind = COPY;
    push(s, op);
    note("%s %d %zux%zu %s", name, s->number, op.rows, op.width,
         find(host, op.rows * op.width, HOST_MEMORY) ? "pinned" : "pageable");
    return OK;
}

int cuMemcpyHtoDAsync(uintptr_t to, const void *from, size_t n, void *handle)
{
    return copy("upload", (Op){.to = (char *)to, .from = (char *)from, .on_device = (char *)to,
                .width = n, .rows = 1, .to_pitch = n, .from_pitch = n, .device_pitch = n},
                from, handle);
}

int cuMemcpyDtoHAsync(void *to, uintptr_t from, size_t n, void *handle)
{
    return copy("download", (Op){.to = to, .from = (char *)from, .on_device = (char *)from,
                .width = n, .rows = 1, .to_pitch = n, .from_pitch = n, .device_pitch = n},
                to, handle);
}

typedef struct {
    size_t x, y;
    int kind;
    void *host;
    uintptr_t device;
    void *array;
    size_t pitch;
} End;
typedef struct { End from, to; size_t width, rows; } Copy2D;

int cuMemcpy2DAsync(const Copy2D *c, void *handle)
{
    int up = c->from.kind == 1 && c->to.kind == 2, down = c->from.kind == 2 && c->to.kind == 1;
    REFUSE(!up && !down, INVALID_VALUE);
    char *to = up ? (char *)c->to.device : c->to.host;
    char *from = up ? c->from.host : (char *)c->from.device;
    Op op = {.to = to, .from = from, .on_device = up ? to : from, .width = c->width,
             .rows = c->rows, .to_pitch = c->to.pitch, .from_pitch = c->from.pitch,
             .device_pitch = up ? c->to.pitch : c->from.pitch};
    return copy(up ? "upload" : "download", op, up ? from : to, handle);
}
