/* bench_guard_queue.c - 100,000 actions that wait are replayed in order at the set rate: how fast, in how much memory; beside the floor: reading
 * each and taking it out, and nothing else.
 *
 * The queue is the real one in a process of its own; judge and backend are one question to this program, which also checks the order. */
#include "../integration/bus_kit.h"
#include "../integration/queue_guard.h"
#include "bench.h"
#include "common/wire.h"
#include <inttypes.h>
#include <unistd.h>

enum { AGENTS = 50, EACH = 2000, ALL = AGENTS * EACH, FLOOR = 10000, RATE = 4000, LIMIT_MS = 300000 };
#define PBE(x) REDOUBT__V1__##x

static struct {
    struct kit *k;
    struct kit_bus bus;
    int next[AGENTS];
    size_t runs, backwards;
    int64_t first_ns, last_ns;
} T;

static void on_run(void *ctx, const struct bus_msg *m)
{
    (void)ctx;
    int agent = atoi(subject_tail(m->subject, QUEUE_GUARD_RUN "agent-")), n = atoi(m->data);
    T.backwards += n < T.next[agent];
    if (n == T.next[agent]) {
        T.next[agent]++;
        T.runs++;
    }
    T.last_ns = bench_ns();
    if (T.first_ns == 0)
        T.first_ns = T.last_ns;
    struct bus_out o = {.subject = m->reply, .data = "done", .len = 4};
    (void)bus_publish(T.bus.b, &o, NULL);
}

static void put(struct kit_stored *s, int agent, int n)
{
    struct err e = {""};
    char name[32], key[32], subject[96], id[64];
    size_t len;
    PB(ActionRequest) r = PB_INIT(ACTION_REQUEST);
    PB(QueuedAction) q = PB_INIT(QUEUED_ACTION);
    snprintf(name, sizeof name, "agent-%d", agent);
    snprintf(key, sizeof key, "%d", n);
    snprintf(subject, sizeof subject, SUBJECT_QUEUE "%s.0", name);
    snprintf(id, sizeof id, "queue/%s/%d", name, n);
    r.agent = name;
    r.epoch = 1;
    r.idempotency_key = key;
    r.action = (char *)"block_ip";
    q.request = &r;
    q.queued_unix_ms = clock_wall_ms();
    q.guard = (char *)"bench";
    q.posture = PBE(POSTURE__POSTURE_DEGRADED);
    void *data = wire_pack(&q, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    struct bus_out o = {.subject = subject, .id = id, .type = wire_type(&q), .data = data, .len = len};
    bus_store(T.bus.b, &o, 0, kit_stored, s);
    free(data);
}

static void fill(int each)
{
    struct kit_stored s = {0};
    int sent = 0;
    for (int n = 0; n < each; n++) {
        for (int a = 0; a < AGENTS; a++, sent++)
            put(&s, a, n);
        KIT_WAIT_MS(T.k, sent - s.ok < 2000, LIMIT_MS);
    }
    KIT_WAIT_MS(T.k, s.ok == sent, LIMIT_MS);
}

static void direct(int agent, uint64_t epoch, int backend)
{
    struct err e = {""};
    struct kit_stored s = {0};
    char name[32], subject[96], id[64];
    size_t len;
    PB(AgentState) st = PB_INIT(AGENT_STATE);
    PB(Directive) d = PB_INIT(DIRECTIVE);
    snprintf(name, sizeof name, "agent-%d", agent);
    st.agent = name;
    st.epoch = st.revision = epoch;
    st.backend = (Redoubt__V1__BackendMode)backend;
    st.posture = epoch == 1 ? PBE(POSTURE__POSTURE_DEGRADED) : PBE(POSTURE__POSTURE_NORMAL);
    st.automation = PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
    st.override_mode = PBE(OVERRIDE_MODE__OVERRIDE_MODE_OFF);
    st.link = PBE(LINK_MODE__LINK_MODE_UP);
    st.resources = PBE(RESOURCE_MODE__RESOURCE_MODE_OK);
    st.load_percent = 100;
    st.llm_target = (char *)"llm.x";
    st.step = PBE(STEP__STEP_INITIAL);
    d.state = &st;
    d.step = PBE(STEP__STEP_INITIAL);
    void *data = wire_pack(&d, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    snprintf(subject, sizeof subject, SUBJECT_DIRECTIVE "%s", name);
    snprintf(id, sizeof id, "directive/%s/%" PRIu64, name, epoch);
    struct bus_out o = {.subject = subject, .id = id, .type = wire_type(&d), .data = data, .len = len};
    bus_store(T.bus.b, &o, 0, kit_stored, &s);
    free(data);
    KIT_WAIT_MS(T.k, s.ok == 1, LIMIT_MS);
}

/* ---- the floor: each agent's first is read, and taken out ---- */

struct chain {
    char subject[64];
    uint64_t seq;
};
static size_t removed, chains;

static void floor_read(struct chain *c);

static void floor_removed(void *ctx, enum bus_status st)
{
    if (st != BUS_OK)
        fail_msg("not removed: %s", bus_status_text(st));
    removed++;
    floor_read(ctx);
}

static void floor_got(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct chain *c = ctx;
    if (st != BUS_OK)
        fail_msg("not read: %s", bus_status_text(st));
    if (m)
        bus_remove(T.bus.b, STREAM_ACTIONS, m->stream_seq, 30000, floor_removed, c);
    else
        chains--;
}

static void floor_read(struct chain *c)
{
    bus_next(T.bus.b, STREAM_ACTIONS, c->subject, 0, 30000, floor_got, c);
}

static double floor_rate(void)
{
    static struct chain c[AGENTS];
    fill(FLOOR / AGENTS);
    int64_t began = bench_ns();
    for (int a = 0; a < AGENTS; a++, chains++) {
        snprintf(c[a].subject, sizeof c[a].subject, SUBJECT_QUEUE "agent-%d.0", a);
        floor_read(&c[a]);
    }
    KIT_WAIT_MS(T.k, chains == 0, LIMIT_MS);
    return (double)removed / ((double)(bench_ns() - began) / 1e9);
}

/* ---- the replay ---- */

static void write_settings(const char *path, int redis_port)
{
    FILE *f = fopen(path, "w");
    if (!f)
        fail_msg("cannot write %s", path);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\nlog: { level: warn }\n"
            "guard: { queue: { replay_rate: %d } }\ntargets: [ { name: llm.x, kind: llm } ]\nagents:\n",
            T.k->nats->url, redis_port, harness_dir(T.k->h), RATE);
    for (int a = 0; a < AGENTS; a++)
        fprintf(f, "  - { name: agent-%d, chain: [ { target: llm.x, model: m } ] }\n", a);
    fclose(f);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--guard") == 0) {
        argv[1] = argv[0];
        return queue_guard_main(argc - 1, argv + 1);
    }
    struct bench *b = bench_open(argc, argv);
    void *state;
    char self[512], config[600];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || kit_setup(&state))
        return 1;
    self[n] = 0;
    T.k = state;
    harness_start(T.k->nats);
    struct harness_proc *redis = harness_redis(T.k->h, "redis", NULL);
    snprintf(config, sizeof config, "%s/guard.yaml", harness_dir(T.k->h));
    write_settings(config, redis->port);
    kit_open_up(T.k, &T.bus);
    double floor = floor_rate();
    struct kit_answer r; /* the ids of the floor's are the same as what comes now */
    kit_ask(&T.bus, &r, "$JS.API.STREAM.DELETE." STREAM_ACTIONS, "");
    bus_subscribe(T.bus.b, QUEUE_GUARD_RUN "*", NULL, on_run, NULL);
    for (int a = 0; a < AGENTS; a++)
        direct(a, 1, PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED));
    const char *guard[] = {self, "--guard", "-c", config, NULL};
    struct harness_proc *p = harness_run(T.k->h, "guard", 0, guard);
    fill(EACH);
    double before = bench_rss(p->pid), most = 0;
    for (int a = 0; a < AGENTS; a++)
        direct(a, 2, PBE(BACKEND_MODE__BACKEND_MODE_UP));
    int64_t end = clock_mono_ms() + LIMIT_MS;
    while (T.runs < ALL && clock_mono_ms() < end) {
        for (int i = 0; i < 50; i++)
            kit_turn(T.k);
        double rss = bench_rss(p->pid);
        most = rss > most ? rss : most;
    }
    if (T.runs < ALL || T.backwards > 0)
        fail_msg("%zu of %d replayed, %zu not in order", T.runs, ALL, T.backwards);
    double rate = (double)ALL / ((double)(T.last_ns - T.first_ns) / 1e9);
    /* A ratio above 1 is what is not to be: too slow, too fast, more memory. */
    bench_row(b, "replay: time per action", "us", 1e6 / rate, "read and take out alone", 1e6 / floor, 0);
    bench_row(b, "replay: actions a second", "1/s", rate, "the set rate", RATE, 1.01);
    bench_row(b, "replay: memory while 100,000 wait and go", "MiB", most / (1 << 20), "before", before / (1 << 20),
              1.5);
    harness_stop(p);
    kit_close(&T.bus);
    kit_teardown(&state);
    return bench_close(b);
}
