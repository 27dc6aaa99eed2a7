/* bench_audit.c - the trail: records a second that are safe on the disk, how long one waits for that, how fast it is verified, and how far behind
 * what is said it and its mirror are.
 *
 * References: fdatasync of the same bytes in the same directory, taken in between; for rates the figures that are promised. The log is
 * the real one, first by itself, then in redoubt-audit, fed by the stream. */
#include "../integration/bus_kit.h"
#include "audit/audit_log.h"
#include "audit/audit_verify.h"
#include "bench.h"
#include "common/wire.h"
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROMISED_PER_S 20000.0  /* fsynced */
#define VERIFIED_PER_S 500000.0 /* verified */
#define LAG_MS         1000.0
#define RECORD_BYTES   250
enum {
    BULK = 200000,
    IN_HAND = 4096,
    LONE = 3000,
    LOADED = 3000,
    LOADED_GAP_US = 700,
    STREAMED = 40000,
    BATCH = 100,
    STEADY = 2500,
    STEADY_GAP_US = 1500
};
#define PBE(x) REDOUBT__V1__##x

/* A record as services write them: about 250 bytes. */
static void *make_record(int n, size_t *len)
{
    char id[48], detail[64];
    struct err e;
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    PB(Label) labels[2] = {PB_INIT(LABEL), PB_INIT(LABEL)};
    PB(Label) * fields[2] = {&labels[0], &labels[1]};
    snprintf(id, sizeof id, "bench-01HZX3Q9T8-%08d", n);
    snprintf(detail, sizeof detail, "ISOLATE, be MINIMAL: evaluation number %d", n);
    labels[0].key = (char *)"posture";
    labels[0].value = (char *)"MINIMAL";
    labels[1].key = (char *)"cause";
    labels[1].value = (char *)"llm.openai.gpt-4o is UNHEALTHY";
    r.id = id;
    r.at_unix_ms = clock_wall_ms();
    r.at_mono_ns = clock_mono_ns();
    r.service = (char *)"fallback";
    r.instance = (char *)"host-1-fallback-0";
    r.audit_class = PBE(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY);
    r.action = (char *)"directive.issued";
    r.actor = (char *)"fallback";
    r.subject = (char *)"mcp-security-agent";
    r.outcome = PBE(AUDIT_OUTCOME__AUDIT_OUTCOME_DONE);
    r.epoch = (uint64_t)n + 1;
    r.detail = detail;
    r.fields = fields;
    r.n_fields = 2;
    void *data = wire_pack(&r, len, &e);
    if (!data)
        fail_msg("%s", e.text);
    return data;
}

/* ---- the log alone ---- */

static struct {
    struct kit *k;
    struct kit_bus bus;
    struct audit_log *log;
    char dir[600];
    size_t answered;
    bool closed;
    int raw_fd;
    uv_timer_t tick;
    /* Of each record of a run: when it was given, and when it was safe. */
    int64_t given_ns[LOADED], safe_ns[LOADED];
} T;

static void on_appended(void *ctx, uint64_t seq, const char *error)
{
    int64_t *at = ctx;
    if (seq == 0)
        fail_msg("append: %s", error);
    T.answered++;
    if (at)
        *at = bench_ns();
}

static void on_closed(void *ctx)
{
    (void)ctx;
    T.closed = true;
}

static void open_log(const char *name)
{
    struct err e;
    struct audit_log_found found;
    snprintf(T.dir, sizeof T.dir, "%s/%s", harness_dir(T.k->h), name);
    if (mkdir(T.dir, 0700))
        fail_msg("cannot make %s", T.dir);
    struct audit_log_opts o = {.dir = T.dir, .segment_bytes = 16 << 20};
    T.log = audit_log_open(&T.k->loop, &o, &found, &e);
    if (!T.log)
        fail_msg("%s", e.text);
}

static void close_log(void)
{
    T.closed = false;
    audit_log_close(T.log, on_closed, NULL);
    KIT_WAIT_MS(T.k, T.closed, 60000);
}

static void turn(void)
{
    uv_run(&T.k->loop.uv, UV_RUN_NOWAIT);
}

static double bulk(void)
{
    size_t first = T.answered, len;
    int64_t began = bench_ns();
    for (int n = 0; n < BULK;) {
        for (; n < BULK && (size_t)n - (T.answered - first) < IN_HAND; n++) {
            void *data = make_record(n, &len);
            audit_log_append(T.log, data, len, on_appended, NULL);
            free(data);
        }
        uv_run(&T.k->loop.uv, UV_RUN_ONCE);
    }
    while (T.answered - first < BULK)
        uv_run(&T.k->loop.uv, UV_RUN_ONCE);
    return BULK / ((double)(bench_ns() - began) / 1e9);
}

/* The same bytes by write and fdatasync, on a file beside the trail. */
static double raw_us(size_t len)
{
    static const char bytes[4096];
    int64_t began = bench_ns();
    if (write(T.raw_fd, bytes, len) != (ssize_t)len || fdatasync(T.raw_fd))
        fail_msg("cannot write beside the trail");
    return (double)(bench_ns() - began) / 1e3;
}

/* One at a time: nothing is waited for but its own write. The reference is taken in turn with it. */
static void lone(struct bench *b)
{
    static double own[LONE], raw[LONE];
    for (int n = 0; n < LONE; n++) {
        size_t len, want = T.answered + 1;
        void *data = make_record(n, &len);
        int64_t began = bench_ns(), safe = 0;
        audit_log_append(T.log, data, len, on_appended, &safe);
        while (T.answered < want)
            uv_run(&T.k->loop.uv, UV_RUN_ONCE);
        own[n] = (double)(safe - began) / 1e3;
        raw[n] = raw_us(len + AUDIT_RECORD_EXTRA);
        free(data);
    }
    bench_row(b, "append, one at a time: p50", "us", bench_percentile(own, LONE, 50), "fdatasync of as much, p50",
              bench_percentile(raw, LONE, 50), 0);
    bench_row(b, "append, one at a time: p99", "us", bench_percentile(own, LONE, 99), "fdatasync of as much, p99",
              bench_percentile(raw, LONE, 99), 2);
}

/* Steadily: a record waits for the batch that is on its way, and then for its own. In rounds, with the reference in between: the disk's mood changes. */
static void on_tick(uv_timer_t *t)
{
    (void)t; /* the loop turns */
}

static void loaded_round(int from, int to)
{
    size_t want = T.answered + (size_t)(to - from), len;
    int64_t due = bench_ns();
    uv_timer_start(&T.tick, on_tick, 1, 1);
    for (int n = from; n < to;) {
        uv_run(&T.k->loop.uv, UV_RUN_ONCE);
        for (; n < to && bench_ns() >= due; n++, due += LOADED_GAP_US * INT64_C(1000)) {
            void *data = make_record(n, &len);
            T.given_ns[n] = bench_ns();
            audit_log_append(T.log, data, len, on_appended, &T.safe_ns[n]);
            free(data);
        }
    }
    while (T.answered < want)
        uv_run(&T.k->loop.uv, UV_RUN_ONCE);
    uv_timer_stop(&T.tick);
}

/* Of a disk that stalls once, many records tell, but one batch: batches are compared with the reference, which stalls alike. */
static void loaded(struct bench *b)
{
    static double own[LOADED], wait[LOADED], whole[LOADED], raw[LOADED];
    enum { ROUND = LOADED / 20 };
    int64_t freed = 0, batch = 0; /* when the batch before was safe; the present one's moment */
    size_t batches = 0;
    for (int n = 0; n < LOADED; n++) {
        if (n % ROUND == 0) {
            for (int k = n; k < n + ROUND; k++)
                raw[k] = raw_us(RECORD_BYTES + AUDIT_RECORD_EXTRA);
            loaded_round(n, n + ROUND);
        }
        bool another = T.safe_ns[n] - batch > 20000; /* the callbacks of one batch come together */
        freed = another ? batch : freed;
        batch = another ? T.safe_ns[n] : batch;
        int64_t began = T.given_ns[n] > freed ? T.given_ns[n] : freed;
        if (another)
            own[batches++] = (double)(T.safe_ns[n] - began) / 1e3;
        wait[n] = (double)(began - T.given_ns[n]) / 1e3;
        whole[n] = (double)(T.safe_ns[n] - T.given_ns[n]) / 1e3;
    }
    double p99 = bench_percentile(raw, LOADED, 99);
    bench_row(b, "append under load: a batch, p99", "us", bench_percentile(own, batches, 99),
              "fdatasync of one record, p99", p99, 2);
    bench_row(b, "append under load: a record, p99", "us", bench_percentile(whole, LOADED, 99),
              "waiting for the batch before, p99", bench_percentile(wait, LOADED, 99), 0);
}

/* ---- verification ---- */

static void verify(struct bench *b)
{
    static struct audit_report r;
    struct err e;
    double best = 0;
    for (int i = 0; i < 3; i++) {
        int64_t began = bench_ns();
        if (audit_verify(T.dir, NULL, &r, &e) != 0)
            fail_msg("%s", r.n_problems ? r.problems[0].what : e.text);
        double us = (double)(bench_ns() - began) / 1e3 / (double)r.records;
        best = i == 0 || us < best ? us : best;
    }
    bench_row(b, "verify: time per record", "us", best, "500,000 a second", 1e6 / VERIFIED_PER_S, 1);

    /* The independent verifier, for information. */
    if (access("tests/verify/audit-verify.mjs", R_OK) != 0)
        return;
    int64_t began = bench_ns();
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execlp("node", "node", "tests/verify/audit-verify.mjs", T.dir, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        bench_row(b, "verify by the independent verifier: per record", "us",
                  (double)(bench_ns() - began) / 1e3 / (double)r.records, "redoubt audit verify", best, 0);
}

/* ---- the service ---- */

static struct {
    bool asked;
    uint64_t size, mirrored;
    int64_t asked_ns;
} S;

static void on_status(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    (void)ctx;
    S.asked = false;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    json_t *j = r ? json_loadb((char *)r->payload.data, r->payload.len, 0, NULL) : NULL;
    if (j) {
        S.size = (uint64_t)json_integer_value(json_object_get(j, "size"));
        S.mirrored = (uint64_t)json_integer_value(json_object_get(json_object_get(j, "mirror"), "size"));
    }
    json_decref(j);
    wire_free(r);
}

static void ask_status(void)
{
    struct bus_out o = {.subject = SUBJECT_CMD "audit.status", .data = "", .len = 0};
    if (S.asked)
        return;
    S.asked = true;
    S.asked_ns = bench_ns();
    bus_request(T.bus.b, &o, 5000, on_status, NULL);
}

static uint64_t size_now(void)
{
    for (;;) {
        S.size = UINT64_MAX;
        ask_status();
        KIT_WAIT(T.k, !S.asked);
        if (S.size != UINT64_MAX)
            return S.size;
    }
}

static void store(struct kit_stored *s, int n)
{
    char id[48];
    size_t len;
    void *data = make_record(n, &len);
    snprintf(id, sizeof id, "bench-01HZX3Q9T8-%08d", n);
    struct bus_out o = {
        .subject = SUBJECT_AUDIT "bench", .id = id, .type = "redoubt.v1.AuditRecord", .data = data, .len = len};
    bus_store(T.bus.b, &o, 0, kit_stored, s);
    free(data);
}

static void store_batch(struct kit_stored *s, int first)
{
    PB(AuditBatch) b = PB_INIT(AUDIT_BATCH);
    PB(AuditRecord) * records[BATCH];
    char id[48];
    struct err e;
    size_t len;
    for (int i = 0; i < BATCH; i++) {
        void *data = make_record(first + i, &len);
        records[i] = wire_unpack(PB_DESC(audit_record), data, len, NULL);
        free(data);
    }
    b.records = records;
    b.n_records = BATCH;
    void *data = wire_pack(&b, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    snprintf(id, sizeof id, "bench-batch-%08d", first);
    struct bus_out o = {.subject = SUBJECT_AUDIT "bench", .id = id, .type = wire_type(&b), .data = data, .len = len};
    bus_store(T.bus.b, &o, 0, kit_stored, s);
    free(data);
    for (int i = 0; i < BATCH; i++)
        wire_free(records[i]);
}

/* STREAMED records from `first` on wait on the stream; then the service goes on, and the time from its first to its last durable one counts. */
static void drain(struct bench *b, struct harness_proc *p, int first, bool batches)
{
    struct kit_stored s = {0};
    int messages = batches ? STREAMED / BATCH : STREAMED;
    for (int n = 0; n < messages; n++) {
        if (batches)
            store_batch(&s, first + n * BATCH);
        else
            store(&s, first + n);
        KIT_WAIT_MS(T.k, n - s.n < 1000, 60000);
    }
    KIT_WAIT_MS(T.k, s.ok == messages, 60000);
    harness_start(p);
    uint64_t want = (uint64_t)(first + STREAMED), from = 0, n = 0;
    int64_t began = 0, end = clock_mono_ms() + 120000;
    double cpu = 0, rss = 0;
    while ((n = size_now()) < want && clock_mono_ms() < end)
        if (n > (uint64_t)first && began == 0) {
            began = S.asked_ns;
            from = n;
            cpu = bench_cpu_s(p->pid);
            rss = bench_rss(p->pid);
        }
    if (n < want || began == 0)
        fail_msg("%" PRIu64 " of %" PRIu64 " are in the trail", n, want);
    double us = (double)(bench_ns() - began) / 1e3 / (double)(want - from);
    bench_row(b,
              batches ? "service: stream to disk, batches of 100, per record"
                      : "service: stream to disk, time per record",
              "us", us, "20,000 a second", 1e6 / PROMISED_PER_S, 1);
    bench_row(b, batches ? "service: CPU of it, batches of 100, per record" : "service: CPU of it, per record", "us",
              (bench_cpu_s(p->pid) - cpu) * 1e6 / (double)(want - from), "its time", us, 0);
    if (batches)
        bench_row(b, "service: memory after it", "MiB", bench_rss(p->pid) / (1 << 20), "at its start",
                  rss / (1 << 20), 0);
}

/* A record each 1.5 ms; when is it seen in the trail, and in the mirror? Seen is when it was asked, so that what is shown is no better than it was. */
static void steady(struct bench *b)
{
    static int64_t said[STEADY];
    static double trail[STEADY], mirror[STEADY];
    struct kit_stored s = {0};
    uint64_t base = size_now(), seen = 0, copied = 0;
    int64_t due = bench_ns(), end = clock_mono_ms() + 120000;
    int sent = 0;
    while ((seen < STEADY || copied < STEADY) && clock_mono_ms() < end) {
        for (; sent < STEADY && bench_ns() >= due; sent++, due += STEADY_GAP_US * INT64_C(1000)) {
            said[sent] = bench_ns();
            store(&s, 2 * STREAMED + sent);
        }
        ask_status();
        turn();
        int64_t now = bench_ns();
        for (; seen < STEADY && S.size != UINT64_MAX && S.size > base + seen; seen++)
            trail[seen] = (double)(now - said[seen]) / 1e6;
        for (; copied < STEADY && S.mirrored > base + copied; copied++)
            mirror[copied] = (double)(now - said[copied]) / 1e6;
    }
    KIT_WAIT(T.k, !S.asked);
    if (seen < STEADY || copied < STEADY)
        fail_msg("%" PRIu64 " in the trail, %" PRIu64 " in the mirror of %d", seen, copied, STEADY);
    bench_row(b, "replication: stream to trail, p99", "ms", bench_percentile(trail, STEADY, 99), "promised", LAG_MS,
              1);
    bench_row(b, "replication: stream to mirror, p50", "ms", bench_percentile(mirror, STEADY, 50),
              "stream to trail, p50", bench_percentile(trail, STEADY, 50), 0);
    bench_row(b, "replication: stream to mirror, p99", "ms", bench_percentile(mirror, STEADY, 99), "promised", LAG_MS,
              1);
}

static void service(struct bench *b)
{
    char config[600], mirror[600];
    snprintf(config, sizeof config, "%s/audit.yaml", harness_dir(T.k->h));
    snprintf(mirror, sizeof mirror, "%s/mirror", harness_dir(T.k->h));
    FILE *f = mkdir(mirror, 0700) ? NULL : fopen(config, "w");
    if (!f)
        fail_msg("cannot write %s", config);
    fprintf(f, "nats: { url: \"%s\" }\ndata_dir: \"%s/data\"\naudit: { mirror: \"%s\" }\n", T.k->nats->url,
            harness_dir(T.k->h), mirror);
    fclose(f);
    harness_start(T.k->nats);
    kit_open_up(T.k, &T.bus);
    const char *argv[] = {bench_program(b, "redoubt-audit"), "-c", config, NULL};
    struct harness_proc *p = harness_run_later(T.k->h, "audit", 0, argv);
    drain(b, p, 0, false);
    harness_stop(p);
    drain(b, p, STREAMED, true);
    KIT_WAIT_MS(T.k, size_now() >= 2 * STREAMED && S.mirrored >= 2 * STREAMED, 60000);
    steady(b);
    harness_stop(p);
    kit_close(&T.bus);
}

int main(int argc, char **argv)
{
    struct bench *b = bench_open(argc, argv);
    void *state;
    char raw[600];
    if (kit_setup(&state))
        return 1;
    T.k = state;
    snprintf(raw, sizeof raw, "%s/raw", harness_dir(T.k->h));
    T.raw_fd = open(raw, O_WRONLY | O_CREAT | O_APPEND, 0600);
    uv_timer_init(&T.k->loop.uv, &T.tick);
    open_log("latency");
    lone(b);
    loaded(b);
    close_log();
    uv_close((uv_handle_t *)&T.tick, NULL);
    open_log("bulk");
    double rate = bulk();
    bench_row(b, "append by group commit: time per record", "us", 1e6 / rate, "20,000 a second", 1e6 / PROMISED_PER_S,
              1);
    close_log();
    verify(b);
    service(b);
    close(T.raw_fd);
    kit_teardown(&state);
    return bench_close(b);
}
