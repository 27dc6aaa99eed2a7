/* consumer.c - a complete consumer: the present of REDOUBT_STATE, then every change, without gap or double. One line for each.
 *
 *   NATS_URL=nats://127.0.0.1:4222 NATS_USER=siem NATS_PASSWORD_FILE=/run/secrets/redoubt/nats ./consumer [FILTER]
 *
 * FILTER is redoubt.v1.> or a part of it: redoubt.v1.breaker.>. Stands on the official NATS client and on the .proto files alone.
 *
 * How it works: every message of a stream has a sequence. What is next after the last one is asked for until there is nothing more: that is
 * the present. From then on a live message is only a bell: it says that there is something to ask for. So nothing is missed while the
 * connection is away, nothing comes twice, and no state is kept on the server. Each subject has its last message only, which says everything. */
#include "types.h"
#include <errno.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STREAM      "REDOUBT_STATE"
#define GET         "$JS.API.DIRECT.GET." STREAM
#define ANSWER_MS   5000
#define SUBJECT_MAX 256
#define DEPTH_MAX   8
#define IN_VAIN     4 /* bells after which nothing was found: is it still the same stream? */
/* A bell may ring a moment before the stream has the message; the last: in case one was not heard. */
static const int look_again_ms[] = {20, 100, 500, 5000};
#define LOOKS (sizeof look_again_ms / sizeof look_again_ms[0])

/* The subjects that the stream keeps (proto/README.md). */
static const char *const kinds[] = {"health",  "breaker", "directive", "rollback",   "version",   "share",
                                    "problem", "silence", "pulse",     "checkpoint", "continuity"};

/* What was told last of a subject: a stream that is made anew may hold it again. */
struct seen {
    char *subject, *id;
    uint64_t seq;
};
static struct seen *seen;
static size_t n_seen, seen_cap;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t rung;
    bool ring, stop, ended;
} bell = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "consumer: %s: %s\n", what, why);
    exit(1);
}

static void *must(void *memory)
{
    if (!memory)
        fail("cannot go on", "out of memory");
    return memory;
}

/* ---- a message as text: its type names the fields ---- */

static void print_text(const char *s, size_t n)
{
    putchar('"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void print_message(const ProtobufCMessage *m, int depth);

static void print_value(const ProtobufCFieldDescriptor *f, const void *at, int depth)
{
    const ProtobufCEnumValue *e;
    const char *s;
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        s = *(char *const *)at;
        print_text(s ? s : "", s ? strlen(s) : 0);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        printf("\"%zu bytes\"", ((const ProtobufCBinaryData *)at)->len);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        print_message(*(const ProtobufCMessage *const *)at, depth + 1);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        e = protobuf_c_enum_descriptor_get_value(f->descriptor, *(const int *)at);
        if (e)
            printf("\"%s\"", e->name);
        else
            printf("%d", *(const int *)at);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        fputs(*(const protobuf_c_boolean *)at ? "true" : "false", stdout);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        printf("%g", (double)*(const float *)at);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        printf("%g", *(const double *)at);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        printf("%" PRId64, *(const int64_t *)at);
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        printf("%" PRIu64, *(const uint64_t *)at);
        break;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        printf("%" PRId32, *(const int32_t *)at);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        printf("%" PRIu32, *(const uint32_t *)at);
        break;
    }
}

static size_t size_of(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return 8;
    default:
        return 4;
    }
}

/* Is there something to say? Fields that have their default are left out, as on the wire. */
static bool is_set(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *m, const char *at)
{
    static const char zero[sizeof(ProtobufCBinaryData)];
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const uint32_t *)(const void *)((const char *)m + f->quantifier_offset) == f->id;
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)(const void *)((const char *)m + f->quantifier_offset) > 0;
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return *(char *const *)(const void *)at && **(char *const *)(const void *)at;
    if (f->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)(const void *)at)->len > 0;
    return memcmp(at, zero, size_of(f->type)) != 0;
}

static void print_fields(const ProtobufCMessage *m, int depth)
{
    const char *separator = "";
    for (unsigned i = 0; depth < DEPTH_MAX && i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const char *at = (const char *)m + f->offset;
        if (!is_set(f, m, at))
            continue;
        printf("%s\"%s\":", separator, f->name);
        separator = ",";
        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
            print_value(f, at, depth);
            continue;
        }
        size_t n = *(const size_t *)(const void *)((const char *)m + f->quantifier_offset);
        const char *items = *(char *const *)(const void *)at;
        for (size_t k = 0; k < n; k++) {
            putchar(k ? ',' : '[');
            print_value(f, items + k * size_of(f->type), depth);
        }
        putchar(']');
    }
}

static void print_message(const ProtobufCMessage *m, int depth)
{
    putchar('{');
    if (m)
        print_fields(m, depth);
    putchar('}');
}

/* ---- a message of the stream ---- */

struct got {
    natsMsg *m;
    uint64_t seq;
    const char *subject, *time, *id, *type; /* of m */
};

static const char *header(natsMsg *m, const char *name)
{
    const char *value = NULL;
    return natsMsgHeader_Get(m, name, &value) == NATS_OK && value ? value : "";
}

/* 1 with *ret to be destroyed, 0 if there is none, -1 if nobody can say. */
static int get(natsConnection *nc, const char *subject, const char *query, struct got *ret)
{
    natsMsg *m = NULL;
    natsStatus s = natsConnection_RequestString(&m, nc, subject, query, ANSWER_MS);
    if (s != NATS_OK) {
        fprintf(stderr, "consumer: " STREAM " does not answer (%s); asking again\n", natsStatus_GetText(s));
        return -1;
    }
    const char *status = header(m, "Status");
    if (*status) {
        int code = atoi(status);
        if (code != 404)
            fprintf(stderr, "consumer: " STREAM " says %s; asking again\n", status);
        natsMsg_Destroy(m);
        return code == 404 ? 0 : -1;
    }
    *ret = (struct got){.m = m,
                        .seq = strtoull(header(m, "Nats-Sequence"), NULL, 10),
                        .subject = header(m, "Nats-Subject"),
                        .time = header(m, "Nats-Time-Stamp"),
                        .id = header(m, "ce-id"),
                        .type = header(m, "ce-type")};
    return 1;
}

static struct seen *seen_of(const char *subject)
{
    for (size_t i = 0; i < n_seen; i++)
        if (strcmp(seen[i].subject, subject) == 0)
            return &seen[i];
    return NULL;
}

/* Remembers it. True if just this was told before. */
static bool note_seen(const struct got *g)
{
    struct seen *s = seen_of(g->subject);
    bool again = s && *g->id && strcmp(s->id, g->id) == 0;
    if (!s) {
        if (n_seen == seen_cap) {
            seen_cap = seen_cap ? 2 * seen_cap : 64;
            seen = must(realloc(seen, seen_cap * sizeof *seen));
        }
        s = &seen[n_seen++];
        *s = (struct seen){.subject = must(strdup(g->subject))};
    }
    free(s->id);
    s->id = must(strdup(g->id));
    s->seq = g->seq;
    return again;
}

static void tell(const struct got *g)
{
    if (note_seen(g))
        return;
    const ProtobufCMessageDescriptor *d = types_find(g->type);
    ProtobufCMessage *p = d ? protobuf_c_message_unpack(d, NULL, (size_t)natsMsg_GetDataLength(g->m),
                                                        (const uint8_t *)natsMsg_GetData(g->m))
                            : NULL;
    printf("{\"seq\":%" PRIu64 ",\"time\":", g->seq);
    print_text(g->time, strlen(g->time));
    fputs(",\"subject\":", stdout);
    print_text(g->subject, strlen(g->subject));
    fputs(",\"id\":", stdout);
    print_text(g->id, strlen(g->id));
    fputs(",\"type\":", stdout);
    const char *name = strrchr(g->type, '.');
    print_text(name ? name + 1 : g->type, strlen(name ? name + 1 : g->type));
    fputs(",\"message\":", stdout);
    if (p)
        print_message(p, 0);
    else
        printf("{\"undecoded\":%d}", natsMsg_GetDataLength(g->m)); /* of a newer contract than this program's */
    puts("}");
    fflush(stdout);
    if (p)
        protobuf_c_message_free_unpacked(p, NULL);
}

/* ---- bells ---- */

static void set(bool *what)
{
    pthread_mutex_lock(&bell.lock);
    *what = true;
    pthread_cond_signal(&bell.rung);
    pthread_mutex_unlock(&bell.lock);
}

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    (void)nc, (void)sub, (void)ctx;
    set(&bell.ring);
    natsMsg_Destroy(m);
}

static void on_disconnected(natsConnection *nc, void *ctx)
{
    (void)nc, (void)ctx;
    fputs("consumer: the connection is away; what happens meanwhile is read afterwards\n", stderr);
}

static void on_reconnected(natsConnection *nc, void *ctx)
{
    (void)nc, (void)ctx;
    set(&bell.ring); /* whatever was missed */
}

static void on_closed(natsConnection *nc, void *ctx)
{
    (void)nc, (void)ctx;
    set(&bell.ended);
}

static void *on_signals(void *signals)
{
    int which;
    sigwait(signals, &which);
    set(&bell.stop);
    return NULL;
}

/* Until a bell rings (true) or the time is over. */
static bool wait_bell(int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&bell.lock);
    while (!bell.ring && !bell.stop && !bell.ended &&
           pthread_cond_timedwait(&bell.rung, &bell.lock, &until) != ETIMEDOUT)
        ;
    bool rung = bell.ring;
    bell.ring = false;
    pthread_mutex_unlock(&bell.lock);
    return rung;
}

static bool over(void)
{
    pthread_mutex_lock(&bell.lock);
    bool o = bell.stop || bell.ended;
    pthread_mutex_unlock(&bell.lock);
    return o;
}

/* ---- the present, and on ---- */

/* How many there were from *next on; -1 if nobody can say. */
static int read_on(natsConnection *nc, const char *filter, uint64_t *next)
{
    struct got g;
    int n = 0, r = 0;
    char query[SUBJECT_MAX + 64];
    while (!over()) {
        snprintf(query, sizeof query, "{\"seq\":%" PRIu64 ",\"next_by_subj\":\"%s\"}", *next, filter);
        if ((r = get(nc, GET, query, &g)) != 1)
            break;
        tell(&g);
        *next = g.seq + 1;
        natsMsg_Destroy(g.m);
        n++;
    }
    return r < 0 ? -1 : n;
}

/* A stream that was lost and made anew, or restored from an older copy, counts from an earlier number: what we wait for would never come.
 * It is another one if it holds something before `next` that we do not know so. -1 if nobody can say. */
static int began_anew(natsConnection *nc, const char *filter, uint64_t next)
{
    char query[SUBJECT_MAX + 64];
    struct got g;
    snprintf(query, sizeof query, "{\"seq\":1,\"next_by_subj\":\"%s\"}", filter);
    int r = get(nc, GET, query, &g);
    if (r != 1)
        return r;
    const struct seen *s = seen_of(g.subject);
    bool anew = g.seq < next && !(s && s->seq == g.seq);
    natsMsg_Destroy(g.m);
    return anew;
}

static void follow(natsConnection *nc, const char *filter)
{
    uint64_t next = 1;
    size_t looks = 0;
    int vain = 0;
    bool present = false, rang = false;
    while (!over()) {
        int n = read_on(nc, filter, &next), anew = 0;
        if (n > 0) {
            vain = 0;
            rang = false;
        } else if (n == 0 && rang && ++vain >= IN_VAIN) {
            anew = began_anew(nc, filter, next);
            if (anew > 0) {
                fputs("consumer: " STREAM " has begun anew: reading it from its first message\n", stderr);
                next = 1;
                vain = 0;
                continue;
            }
            if (anew == 0) {
                vain = 0;
                rang = false;
            }
        }
        if (n >= 0 && !present && !over()) {
            fprintf(stderr,
                    "consumer: this is the present of " STREAM ", up to sequence %" PRIu64 "; now every change\n",
                    next - 1);
            present = true;
        }
        if (n < 0 || anew < 0)
            looks = LOOKS - 2;
        bool now = wait_bell(look_again_ms[looks]);
        rang |= now;
        looks = now ? 0 : looks < LOOKS - 1 ? looks + 1 : looks;
    }
}

/* ---- the connection ---- */

static const char *password(char *buf, int size)
{
    const char *path = getenv("NATS_PASSWORD_FILE");
    if (!path || !*path)
        return getenv("NATS_PASSWORD");
    FILE *f = fopen(path, "re");
    if (!f || !fgets(buf, size, f))
        fail(path, f ? "there is no password in it" : strerror(errno));
    (void)fclose(f);
    buf[strcspn(buf, "\r\n")] = 0;
    return buf;
}

#define TRY(call)                                                                                                    \
    do {                                                                                                             \
        natsStatus try_ = (call);                                                                                    \
        if (try_ != NATS_OK)                                                                                         \
            fail(#call, natsStatus_GetText(try_));                                                                   \
    } while (0)

static void listen_to(natsConnection *nc, const char *filter)
{
    natsSubscription *sub;
    char subject[SUBJECT_MAX];
    if (strcmp(filter, "redoubt.v1.>") != 0) {
        TRY(natsConnection_Subscribe(&sub, nc, filter, on_message, NULL));
        return;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        snprintf(subject, sizeof subject, "redoubt.v1.%s.>", kinds[i]);
        TRY(natsConnection_Subscribe(&sub, nc, subject, on_message, NULL));
    }
}

int main(int argc, char **argv)
{
    const char *filter = argc > 1 ? argv[1] : "redoubt.v1.>", *url = getenv("NATS_URL"), *user = getenv("NATS_USER");
    char word[1024];
    natsOptions *o = NULL;
    natsConnection *nc = NULL;
    sigset_t both;
    pthread_t signals;
    pthread_condattr_t monotonic;
    if (strlen(filter) >= SUBJECT_MAX - 64 || strpbrk(filter, "\"\\ \t\r\n"))
        fail("FILTER", "not a subject");
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&bell.rung, &monotonic);
    sigemptyset(&both);
    sigaddset(&both, SIGTERM);
    sigaddset(&both, SIGINT);
    pthread_sigmask(SIG_BLOCK, &both, NULL); /* of every thread: one of them waits for these */
    if (pthread_create(&signals, NULL, on_signals, &both))
        fail("cannot start", "no thread");

    TRY(natsOptions_Create(&o));
    TRY(natsOptions_SetURL(o, url && *url ? url : "nats://127.0.0.1:4222"));
    TRY(natsOptions_SetName(o, "redoubt consumer"));
    if (user && *user)
        TRY(natsOptions_SetUserInfo(o, user, password(word, sizeof word)));
    TRY(natsOptions_SetMaxReconnect(o, -1));
    TRY(natsOptions_SetReconnectWait(o, 500));
    TRY(natsOptions_SetDisconnectedCB(o, on_disconnected, NULL));
    TRY(natsOptions_SetReconnectedCB(o, on_reconnected, NULL));
    TRY(natsOptions_SetClosedCB(o, on_closed, NULL));
    /* The server may be later than we are; a wrong password is wrong at once. */
    for (natsStatus s; (s = natsConnection_Connect(&nc, o)) != NATS_OK && !over();) {
        if (s != NATS_NO_SERVER && s != NATS_TIMEOUT && s != NATS_IO_ERROR && s != NATS_CONNECTION_CLOSED)
            fail("cannot connect", natsStatus_GetText(s));
        (void)wait_bell(look_again_ms[2]);
    }
    if (nc) {
        listen_to(nc, filter);
        follow(nc, filter);
    }
    int code = bell.ended && !bell.stop;
    if (code)
        fputs("consumer: the connection has ended for good: the server refuses us\n", stderr);
    natsConnection_Destroy(nc);
    natsOptions_Destroy(o);
    nats_CloseAndWait(2000);
    for (size_t i = 0; i < n_seen; i++) {
        free(seen[i].subject);
        free(seen[i].id);
    }
    free(seen);
    return code;
}
