/* Kernels, launches and graphs. A part of libcuda.c. */

/* ---- modules ----------------------------------------------------------------------------- */

typedef struct { Context *context; char *image; } Module;
typedef struct {
    Context *context;
    char *name;
    unsigned threads, n, bytes, offset[256], size[256], shared;
} Function;

static uint64_t number(const char *at, int bytes)
{
    uint64_t value = 0;
    memcpy(&value, at, bytes);
    return value;
}

int cuModuleLoadData(Module **out, const char *image)
{
    IN_CONTEXT();
    REFUSE(memcmp(image, "\177ELF", 4) || number(image + 18, 2) != 190, INVALID_IMAGE);
    REFUSE((long)number(image + 49, 1) != capability(), NO_BINARY); /* byte 1 of the flags */
    uint64_t size = number(image + 40, 8) + number(image + 58, 2) * number(image + 60, 2);
    *out = calloc(1, sizeof **out);
    (*out)->context = stack[depth - 1];
    (*out)->image = memcpy(malloc(size), image, size);
    note("module");
    return OK;
}

/* Read a kernel's description: records of a format, an attribute and two bytes or a length. */
static void describe(Function *f, const char *at, const char *end)
{
    while (at + 4 <= end) {
        unsigned format = (uint8_t)at[0], attribute = (uint8_t)at[1];
        unsigned n = (unsigned)number(at + 2, 2);
        at += 4;
        if (format != 4) continue;
        if (attribute == 0x17) { /* a parameter: index, ordinal, offset, and the size's bits */
            unsigned i = (unsigned)number(at + 4, 2);
            f->offset[i] = (unsigned)number(at + 6, 2);
            f->size[i] = (unsigned)number(at + 8, 4) >> 18;
            f->n = i + 1 > f->n ? i + 1 : f->n;
        }
        if (attribute == 0x05) f->threads = (unsigned)number(at, 4);
        at += n;
    }
    for (unsigned i = 0; i < f->n; i++)
        if (f->offset[i] + f->size[i] > f->bytes) f->bytes = f->offset[i] + f->size[i];
}

int cuModuleGetFunction(Function **out, Module *module, const char *name)
{
    IN_CONTEXT();
    const char *image = module->image, *sections = image + number(image + 40, 8);
    unsigned size = (unsigned)number(image + 58, 2), n = (unsigned)number(image + 60, 2);
    const char *names = image + number(sections + size * number(image + 62, 2) + 24, 8);
    char wanted[4096];
    snprintf(wanted, sizeof wanted, ".nv.info.%s", name);
    for (unsigned i = 0; i < n; i++) {
        const char *s = sections + size * i;
        if (strcmp(names + number(s, 4), wanted)) continue;
        Function *f = *out = calloc(1, sizeof *f);
        f->context = module->context;
        f->name = strdup(name);
        f->shared = 48 << 10;
        const char *info = image + number(s + 24, 8);
        describe(f, info, info + number(s + 32, 8));
        note("function %s", name);
        return OK;
    }
    return NOT_FOUND;
}

int cuFuncSetAttribute(Function *f, int attribute, int value)
{
    IN_CONTEXT();
    REFUSE(attribute != 8 || value > 232448 - 1024, INVALID_VALUE);
    f->shared = (unsigned)value;
    note("dynamic_shared %d", value);
    return OK;
}

/* ---- launches ---------------------------------------------------------------------------- */

typedef struct {
    Function *function;
    uint32_t shape[7]; /* grid, block, dynamic shared memory */
    void **parameters, **extra;
    void *kernel, *context;
} Node;

static int prepared(const Node *node, Call **out)
{
    const Function *f = node->function;
    const uint32_t *s = node->shape;
    REFUSE(f && f->context != stack[depth - 1], INVALID_HANDLE);
    REFUSE(!f || node->extra || (f->n && !node->parameters), INVALID_VALUE);
    for (int i = 0; i < 6; i++) REFUSE(!s[i], INVALID_VALUE);
    REFUSE(s[0] > 0x7fffffff || s[1] > 65535 || s[2] > 65535, INVALID_VALUE);
    REFUSE((f->threads && s[3] * s[4] * s[5] > f->threads), OUT_OF_RESOURCES);
    REFUSE(s[6] > f->shared, INVALID_VALUE);
    Call *call = calloc(1, sizeof *call);
    call->entry = f->name, call->n = f->bytes;
    call->parameters = calloc(1, f->bytes + 1);
    memcpy(call->shape, s, sizeof call->shape);
    for (unsigned i = 0; i < f->n; i++)
        memcpy(call->parameters + f->offset[i], node->parameters[i], f->size[i]);
    *out = call;
    return OK;
}

static void note_call(const char *what, const Call *c, int stream)
{
    char text[2 * 4096 + 1] = "";
    for (size_t i = 0; i < c->n && i < 4096; i++)
        snprintf(text + 2 * i, 3, "%02x", (uint8_t)c->parameters[i]);
    const uint32_t *s = c->shape;
    note("%s %d %s %u,%u,%u %u,%u,%u %u %s", what, stream, c->entry, s[0], s[1], s[2], s[3], s[4],
         s[5], s[6], text);
}

int cuLaunchKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned shared, void *handle, void **parameters,
                   void **extra)
{
    IN_CONTEXT();
    Stream *s = stream_of(handle);
    REFUSE(!s, INVALID_HANDLE);
    Node node = {function, {gx, gy, gz, bx, by, bz, shared}, parameters, extra, NULL, NULL};
    Call *call;
    int code = prepared(&node, &call);
    REFUSE(code, code);
    push(s, (Op){.kind = LAUNCH, .call = call});
    note_call("launch", call, s->number);
    return OK;
}

typedef struct { Call *calls[4096]; int n; } Graph;

int cuGraphCreate(Graph **out, unsigned flags)
{
    IN_CONTEXT();
    REFUSE(flags, INVALID_VALUE);
    *out = calloc(1, sizeof **out);
    note("graph");
    return OK;
}

/* Nodes are their numbers, from 1 on; each must depend on the one before, and on no other. */
int cuGraphAddKernelNode(uintptr_t *out, Graph *graph, const uintptr_t *after, size_t n,
                         const Node *node)
{
    IN_CONTEXT();
    REFUSE(n != (graph->n > 0) || (n && *after != (uintptr_t)graph->n), INVALID_VALUE);
    int code = prepared(node, &graph->calls[graph->n]);
    REFUSE(code, code);
    note_call("node", graph->calls[graph->n], 0);
    *out = ++graph->n;
    return OK;
}

int cuGraphInstantiateWithFlags(Graph **out, Graph *graph, unsigned long long flags)
{
    IN_CONTEXT();
    REFUSE(flags, INVALID_VALUE);
    note("instantiate %d", graph->n);
    REFUSE(!setting("FAKE_CUDA_GRAPHS", 1), NOT_SUPPORTED);
    *out = memcpy(malloc(sizeof *graph), graph, sizeof *graph);
    return OK;
}

int cuGraphLaunch(Graph *graph, void *handle)
{
    IN_CONTEXT();
    Stream *s = stream_of(handle);
    REFUSE(!s, INVALID_HANDLE);
    for (int i = 0; i < graph->n; i++) push(s, (Op){.kind = LAUNCH, .call = graph->calls[i]});
    note("graph_launch %d %d", s->number, graph->n);
    return OK;
}

int cuGraphDestroy(Graph *graph)
{
    IN_CONTEXT();
    note("graph_destroy");
    free(graph);
    return OK;
}

int cuGraphExecDestroy(Graph *graph)
{
    IN_CONTEXT();
    note("exec_destroy");
    free(graph);
    return OK;
}
