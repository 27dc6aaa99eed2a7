/* bench_continuity.c - what redoubt-continuity costs with 10,000 open incidents behind 1,000,000 past events: its status, and its memory.
 *
 * The incidents are documents on the stream, as a leader before has left them; the events are changes of incidents that are over, on theirs. The floor is a bare request over
 * the same NATS in the same run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../integration/continuity_kit.h"
#include "bench.h"

enum { OPEN = 10000, EVENTS = 1000000, ASKED = 300, BATCH = 2000 };
#define STATUS_LIMIT_MS 200.0
#define RSS_LIMIT_MB    64.0

static void give_up(const char *what)
{
    fprintf(stderr, "bench_continuity: %s\n", what);
    exit(1);
}

#define UNTIL(cond, limit_ms)                                                                                        \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + (limit_ms);                                                              \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() > end_ms_)                                                                           \
                give_up("waited in vain for: " #cond);                                                               \
            kit_turn(k);                                                                                             \
        }                                                                                                            \
    } while (0)

/* ---- what was ---- */

static void open_incidents(struct kit *k)
{
    int64_t now = clock_wall_ms();
    for (int i = 0; i < OPEN; i++) {
        char id[32], key[64], target[64];
        PB(IncidentChanged) d = PB_INIT(INCIDENT_CHANGED);
        PB(ObjectiveClock) c[2] = {PB_INIT(OBJECTIVE_CLOCK), PB_INIT(OBJECTIVE_CLOCK)}, *clocks[] = {&c[0], &c[1]};
        PB(IncidentPhaseTime)
        p[2] = {PB_INIT(INCIDENT_PHASE_TIME), PB_INIT(INCIDENT_PHASE_TIME)},
        *phases[] = {&p[0], &p[1]};
        PB(IncidentSignal) signal = PB_INIT(INCIDENT_SIGNAL), *kept[] = {&signal};
        snprintf(id, sizeof id, "bench-%05d", i);
        snprintf(key, sizeof key, "manual.bench-%05d", i);
        snprintf(target, sizeof target, "llm.provider%d.model", i % 50);
        int64_t evidence = now - 60000 - i;
        d.id = id;
        d.epoch = 3;
        d.phase = E(INCIDENT_PHASE__INCIDENT_PHASE_ASSESS);
        d.previous = E(INCIDENT_PHASE__INCIDENT_PHASE_RESPOND);
        d.failure_kind = E(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE);
        d.severity = E(SEVERITY__SEVERITY_WARNING);
        d.cause = target;
        d.summary = (char *)"on a backup LLM";
        d.evidence_unix_ms = evidence;
        d.changed_unix_ms = now - 30000;
        c[0].objective = (char *)"mad_llm_fallback";
        c[0].limit_ms = 3600000;
        c[1].objective = (char *)"rto_full";
        c[1].limit_ms = 7200000;
        c[0].started_unix_ms = c[1].started_unix_ms = evidence;
        d.clocks = clocks;
        d.n_clocks = 2;
        d.key = key;
        p[0].phase = E(INCIDENT_PHASE__INCIDENT_PHASE_RESPOND);
        p[0].entered_unix_ms = evidence;
        p[0].left_unix_ms = p[1].entered_unix_ms = now - 30000;
        p[0].left_by = (char *)"continuity";
        p[0].why = (char *)"people were told";
        p[1].phase = E(INCIDENT_PHASE__INCIDENT_PHASE_ASSESS);
        d.phases = phases;
        d.n_phases = 2;
        d.fence = 1;
        d.open_signals = 1;
        signal.kind = E(INCIDENT_SIGNAL_KIND__INCIDENT_SIGNAL_KIND_DECLARED);
        signal.subject = key;
        signal.condition = 4;
        signal.since_unix_ms = evidence;
        d.kept = kept;
        d.n_kept = 1;
        kit_say(k, SUBJECT_CONTINUITY_INCIDENT, id, &d);
        if (i % BATCH == BATCH - 1)
            UNTIL(k->to_store - k->stored < BATCH / 2, 60000);
    }
    UNTIL(k->stored == k->to_store, 60000);
}

static void past_events(struct kit *k)
{
    PB(IncidentChanged) d = PB_INIT(INCIDENT_CHANGED);
    size_t len;
    struct err e = {""};
    d.epoch = 9;
    d.phase = E(INCIDENT_PHASE__INCIDENT_PHASE_CLOSED);
    d.summary = (char *)"on a backup LLM";
    d.id = (char *)"past-0000000";
    d.key = (char *)"llm.openai";
    void *data = wire_pack(&d, &len, &e);
    if (!data)
        give_up(e.text);
    for (int i = 0; i < EVENTS; i++) {
        char subject[SUBJECT_MAX_LEN];
        snprintf(subject, sizeof subject, SUBJECT_INCIDENT "past-%07d", i / 10);
        struct bus_out o = {.subject = subject, .data = data, .len = len};
        while (bus_publish(k->bus, &o, &e))
            kit_turn(k); /* the library's buffer is full for a moment */
        if (i % BATCH == 0)
            kit_turn(k);
    }
    free(data);
}

static uint64_t in_stream;
static void on_one(void *ctx, const char *subject, uint64_t messages)
{
    (void)ctx, (void)subject, (void)messages;
}
static void on_counted(void *ctx, enum bus_status st, const struct bus_stock *stock)
{
    *(bool *)ctx = true;
    in_stream = st == BUS_OK ? stock->messages : 0;
}

/* ---- asking ---- */

struct asked {
    struct kit *k;
    bool answered;
    int64_t ns;
    uint32_t open;
};

static void on_status(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct asked *a = ctx;
    struct err e;
    a->ns = bench_ns();
    a->answered = true;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, &e) : NULL;
    PB(ContinuityStatus) *s = r && r->status == E(COMMAND_STATUS__COMMAND_STATUS_OK)
                                  ? wire_unpack(PB_DESC(continuity_status), r->payload.data, r->payload.len, &e)
                                  : NULL;
    a->open = s ? s->open_incidents : 0;
    wire_free(s);
    wire_free(r);
}

static void on_echo(void *ctx, const struct bus_msg *m)
{
    struct kit *k = ctx;
    struct err e;
    struct bus_out o = {.subject = m->reply, .data = m->data, .len = m->len};
    (void)bus_publish(k->bus, &o, &e);
}

static double ask(struct kit *k, const char *subject, struct asked *a)
{
    PB(ContinuityCommand) cmd = PB_INIT(CONTINUITY_COMMAND);
    size_t len;
    struct err e = {""};
    cmd.by = (char *)"bench";
    void *data = wire_pack(&cmd, &len, &e);
    if (!data)
        give_up(e.text);
    struct bus_out o = {.subject = subject, .type = wire_type(&cmd), .data = data, .len = len};
    *a = (struct asked){.k = k};
    int64_t began = bench_ns();
    bus_request(k->bus, &o, 10000, on_status, a);
    while (!a->answered)
        uv_run(&k->loop.uv, UV_RUN_ONCE);
    free(data);
    return (double)(a->ns - began) / 1e6;
}

int main(int argc, char **argv)
{
    struct bench *b = bench_open(argc, argv);
    const char *program = bench_program(b, "redoubt-continuity");
    struct kit *k = kit_new("  phases: { respond: 1d, assess: 1d, settle: 1h }\n", "");
    static double status[ASKED], floor[ASKED];
    struct asked a = {0};
    bool counted = false;
    snprintf(k->program, sizeof k->program, "%s", program);
    open_incidents(k);
    past_events(k);
    while (in_stream < EVENTS) {
        counted = false;
        bus_counts(k->bus, STREAM_EVENTS, SUBJECT_INCIDENT "none", 10000, on_one, on_counted, &counted);
        UNTIL(counted, 60000);
    }
    kit_start(k, 0);
    int64_t began = clock_mono_ms();
    do
        (void)ask(k, SUBJECT_CMD "continuity.status", &a);
    while (a.open < OPEN && clock_mono_ms() - began < 60000);
    if (a.open < OPEN)
        give_up("the incidents are not open");
    double up_ms = (double)(clock_mono_ms() - began);
    if (!bus_subscribe(k->bus, SUBJECT_CMD "bench.echo", NULL, on_echo, k))
        give_up("cannot subscribe");
    for (size_t i = 0; i < ASKED; i++) {
        struct asked echo;
        status[i] = ask(k, SUBJECT_CMD "continuity.status", &a);
        if (a.open != OPEN)
            give_up("an answer without all incidents");
        floor[i] = ask(k, SUBJECT_CMD "bench.echo", &echo);
    }
    double p50 = bench_percentile(status, ASKED, 50), p99 = bench_percentile(status, ASKED, 99);
    bench_row(b, "continuity status, 10,000 open, p50", "ms", p50, "a bare request",
              bench_percentile(floor, ASKED, 50), 0);
    bench_row(b, "continuity status, 10,000 open, p99", "ms", p99, "limit", STATUS_LIMIT_MS, 1);
    bench_row(b, "continuity, start to leading with 10,000 open", "ms", up_ms, "limit", 30000, 0);
    bench_row(b, "continuity RSS, 10,000 open, 1,000,000 past", "MB", bench_rss(k->replica[0]->pid) / 1e6, "limit",
              RSS_LIMIT_MB, 1);
    kit_free(k);
    return bench_close(b);
}
