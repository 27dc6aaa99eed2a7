/* test_breaker_service.c - redoubt-breaker as processes, on a real NATS and Redis.
 *
 * Nothing here depends on how fast the machine is: what was seen on the way counts, not only the last of it; what must be in the window
 * before the next step is waited for there; and of what one replica answers from its memory, it may be a moment behind the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../harness.h"
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <unistd.h>

/* One target per test: they run in any order, on one stack. */
static const char *const targets[] = {"t.open",
                                      "t.votes",
                                      "t.trial",
                                      "t.bad",
                                      "t.damage",
                                      "t.people",
                                      "t.away",
                                      "t.sweep",
                                      "t.health",
                                      "t.retry",
                                      "t.batch",
                                      "t.emptied",
                                      "llm.openai.gpt-4o-mini"};
/* One account. */
static const char *const accounts[] = {"acct.m1", "acct.m2", "acct.m3", "acct.m4", "acct.m5"};
enum { TARGETS = sizeof targets / sizeof targets[0], ACCOUNTS = sizeof accounts / sizeof accounts[0] };
#define SEEN_MAX  4096
#define LIMIT_MS  (3 * HARNESS_WAIT_MS) /* sanitised, and with others on the same cores */
#define PERMIT_MS 700

static struct {
    struct harness *h;
    struct harness_proc *nats, *redis, *replica[2];
    natsConnection *nc;
    natsSubscription *states;
    char config[600];
    PB(BreakerChanged) * seen[SEEN_MAX];
    size_t n_seen;
    struct {
        const char *target;
        uint64_t epoch;
    } mark[TARGETS + ACCOUNTS]; /* up to where the test has followed it */
} T;

/* ---- the stack ---- */

/* Where many calls must be in it at once, or long after, a slow machine needs time for them. */
static int64_t window_of(const char *target)
{
    static const char *const many[] = {"t.open", "t.votes", "llm.openai.gpt-4o-mini"};
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
        if (strcmp(target, many[i]) == 0)
            return 20000;
    return strncmp(target, "acct.", 5) == 0 ? 40000 : 6000;
}

static void write_target(FILE *f, const char *target, const char *open)
{
    fprintf(f,
            "  - name: %s\n    kind: llm\n    scopes: [%s]\n    breaker: { window: %" PRId64
            "ms, min_calls: 10, consecutive: 5, %s, jitter: 0%%, permit: %dms, ramp_step: 100ms }\n",
            target, strncmp(target, "acct.", 5) == 0 ? "account.one" : "", window_of(target), open, PERMIT_MS);
}

static void write_settings(void)
{
    snprintf(T.config, sizeof T.config, "%s/redoubt.yaml", harness_dir(T.h));
    FILE *f = fopen(T.config, "w");
    assert_non_null(f);
    fprintf(
        f,
        "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: 1s\ntargets:\n",
        T.nats->url, T.redis->port, harness_dir(T.h));
    for (size_t i = 0; i < TARGETS; i++)
        write_target(f, targets[i], "open: 500ms, open_max: 1s");
    /* What is open stays so until the test says otherwise. The last model is never called. */
    for (int i = 0; i < ACCOUNTS; i++)
        write_target(f, accounts[i], "open: 2m, open_max: 2m");
    fclose(f);
}

static void subscribe(void)
{
    assert_int_equal(natsConnection_ConnectTo(&T.nc, T.nats->url), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&T.states, T.nc, SUBJECT_BREAKER ">"), NATS_OK);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
}

static int set_up(void **state)
{
    (void)state;
    char self[400], program[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return -1;
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/bin/redoubt-breaker", self);
    if (access(program, X_OK) != 0) {
        fprintf(stderr, "%s is not built: run `make all` first\n", program);
        return -1;
    }
    T.h = harness_open();
    T.nats = harness_nats(T.h, "nats", NULL);
    T.redis = harness_redis(T.h, "redis", NULL);
    write_settings();
    subscribe();
    for (int i = 0; i < 2; i++) {
        const char *argv[] = {program, "-c", T.config, NULL};
        T.replica[i] = harness_run(T.h, i ? "breaker-1" : "breaker-0", 0, argv);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int ends[2];
    for (int i = 0; i < 2; i++)
        ends[i] = harness_stop(T.replica[i]);
    for (size_t i = 0; i < T.n_seen; i++)
        wire_free(T.seen[i]);
    natsSubscription_Destroy(T.states);
    natsConnection_Destroy(T.nc);
    nats_Close();
    harness_close(T.h);
    return ends[0] == 0 && ends[1] == 0 ? 0 : -1; /* drained */
}

/* ---- seeing ---- */

#define NONSENSE "nonsense"

/* Takes what the stream of changes has brought; each epoch of a target is one document. */
static void take_in(int64_t wait_ms)
{
    natsMsg *m = NULL;
    for (; natsSubscription_NextMsg(&m, T.states, wait_ms) == NATS_OK; natsMsg_Destroy(m), wait_ms = 1) {
        struct err e;
        if (natsMsg_GetDataLength(m) == (int)strlen(NONSENSE) &&
            memcmp(natsMsg_GetData(m), NONSENSE, strlen(NONSENSE)) == 0) /* our own */
            continue;
        PB(BreakerChanged) *b =
            wire_unpack(PB_DESC(breaker_changed), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
        if (!b)
            fail_msg("%s: %s", natsMsg_GetSubject(m), e.text);
        for (size_t i = 0; i < T.n_seen; i++)
            if (strcmp(T.seen[i]->target, b->target) == 0 && T.seen[i]->epoch == b->epoch) {
                char *was = wire_json(T.seen[i]), *is = wire_json(b);
                assert_string_equal(was, is);
                free(was);
                free(is);
            }
        assert_true(T.n_seen < SEEN_MAX);
        T.seen[T.n_seen++] = b;
    }
}

static const PB(BreakerChanged) * last(const char *target)
{
    const PB(BreakerChanged) *best = NULL;
    for (size_t i = 0; i < T.n_seen; i++)
        if (strcmp(T.seen[i]->target, target) == 0 && (!best || T.seen[i]->epoch > best->epoch))
            best = T.seen[i];
    return best;
}

static int state_of(const char *target)
{
    const PB(BreakerChanged) *b = last(target);
    return b ? (int)b->state : BREAKER_NONE;
}

static uint64_t *mark_of(const char *target)
{
    size_t i = 0;
    while (T.mark[i].target && strcmp(T.mark[i].target, target) != 0)
        i++;
    T.mark[i].target = target;
    return &T.mark[i].epoch;
}

/* The first document in this state since the one that was waited for before: it may be over by now. */
static const PB(BreakerChanged) * wait_state(const char *target, int state)
{
    uint64_t *mark = mark_of(target);
    int64_t end = clock_mono_ms() + LIMIT_MS;
    for (;;) {
        take_in(5);
        const PB(BreakerChanged) *first = NULL;
        for (size_t i = 0; i < T.n_seen; i++) {
            const PB(BreakerChanged) *b = T.seen[i];
            if (strcmp(b->target, target) == 0 && (int)b->state == state && b->epoch >= *mark &&
                (!first || b->epoch < first->epoch))
                first = b;
        }
        if (first) {
            *mark = first->epoch;
            return first;
        }
        if (clock_mono_ms() > end)
            fail_msg("%s is %s, not %s", target, sm_name(&breaker_sm, state_of(target)), sm_name(&breaker_sm, state));
    }
}

/* Closed, and closed long enough that the window counts (a tenth of it). */
static void wait_ready(const char *target)
{
    const PB(BreakerChanged) *closed = wait_state(target, BREAKER_CLOSED);
    while (clock_wall_ms() <= closed->changed_unix_ms + window_of(target) / 10 + 50)
        take_in(5);
}

/* Something would have happened by now. */
static void settle(int64_t ms)
{
    int64_t end = clock_mono_ms() + ms;
    while (clock_mono_ms() < end)
        take_in(5);
}

/* ---- saying ---- */

static void say(const char *subject, const void *message, const char *type)
{
    struct err e;
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    natsMsg *m = NULL;
    assert_int_equal(natsMsg_Create(&m, subject, NULL, data, (int)len), NATS_OK);
    if (type)
        natsMsgHeader_Set(m, "ce-type", type);
    assert_int_equal(natsConnection_PublishMsg(T.nc, m), NATS_OK);
    natsMsg_Destroy(m);
    free(data);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
}

static PB(OutcomeReport) outcome(const char *target, const char *reporter, int how)
{
    PB(OutcomeReport) r = PB_INIT(OUTCOME_REPORT);
    r.target = (char *)target;
    r.reporter = (char *)reporter;
    r.outcome = (PB(Outcome))how;
    r.ended_unix_ms = clock_wall_ms();
    r.data_path = true;
    return r;
}

static void report(const char *target, const char *reporter, int how, uint64_t permit)
{
    char subject[128];
    PB(OutcomeReport) r = outcome(target, reporter, how);
    r.permit_id = permit;
    snprintf(subject, sizeof subject, SUBJECT_REPORT "%s", target);
    say(subject, &r, NULL);
}

static void *request(const char *verb, const void *message, const ProtobufCMessageDescriptor *answer)
{
    struct err e;
    size_t len;
    char subject[128];
    snprintf(subject, sizeof subject, SUBJECT_CMD "breaker.%s", verb);
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    natsMsg *m = NULL;
    natsStatus st = natsConnection_Request(&m, T.nc, subject, data, (int)len, LIMIT_MS);
    free(data);
    if (st != NATS_OK)
        fail_msg("%s: %s", subject, natsStatus_GetText(st));
    void *reply = wire_unpack(answer, natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    if (!reply)
        fail_msg("%s: %s", subject, e.text);
    natsMsg_Destroy(m);
    return reply;
}

static PB(AllowReply) allow(const char *target, const char *holder)
{
    PB(AllowRequest) r = PB_INIT(ALLOW_REQUEST);
    r.target = (char *)target;
    r.holder = (char *)holder;
    PB(AllowReply) *a = request("allow", &r, PB_DESC(allow_reply));
    PB(AllowReply) copy = *a;
    wire_free(a);
    return copy;
}

static int give_order(const char *verb, const char *target, const char *by, const char *why, uint64_t duration_ms)
{
    PB(BreakerCommand) c = PB_INIT(BREAKER_COMMAND);
    c.target = (char *)target;
    c.by = (char *)by;
    c.reason = (char *)why;
    c.duration_ms = duration_ms;
    PB(CommandReply) *r = request(verb, &c, PB_DESC(command_reply));
    int status = (int)r->status;
    wire_free(r);
    return status;
}

static int order(const char *verb, const char *target, const char *by, uint64_t duration_ms)
{
    return give_order(verb, target, by, "because", duration_ms);
}

/* With a reason of so many bytes. */
static int order_because(const char *verb, const char *target, size_t len)
{
    char why[1024];
    memset(why, 'x', len);
    why[len] = 0;
    return give_order(verb, target, "eve", why, 0);
}

/* ---- what is in Redis and on the streams ---- */

static redisReply *redis_ask(const char *fmt, const char *target)
{
    redisContext *c = redisConnect("127.0.0.1", T.redis->port);
    assert_non_null(c);
    assert_int_equal(c->err, 0);
    redisReply *r = redisCommand(c, fmt, target);
    assert_non_null(r);
    redisFree(c);
    return r;
}

static void redis_do(const char *fmt, const char *target)
{
    freeReplyObject(redis_ask(fmt, target));
}

static uint64_t rev_of(const char *target)
{
    redisReply *r = redis_ask("HGET redoubt:{b:%s}:doc rev", target);
    uint64_t rev = r->type == REDIS_REPLY_STRING ? strtoull(r->str, NULL, 10) : 0;
    freeReplyObject(r);
    return rev;
}

/* What the replicas have merged so far, all together. */
static uint32_t calls_of(const char *target)
{
    const struct breaker_delta nothing = {0};
    const struct breaker_rule rule = {.window_ms = window_of(target)};
    struct breaker_flush_args a;
    char doc[128], window[128];
    snprintf(doc, sizeof doc, "redoubt:{b:%s}:doc", target);
    snprintf(window, sizeof window, "redoubt:{b:%s}:w", target);
    const char *argv[24] = {"EVAL", breaker_state_flush_body(), "2", doc, window};
    size_t lens[24];
    for (int i = 0; i < 5; i++)
        lens[i] = strlen(argv[i]);
    int n = breaker_state_args(&a, &rule, &nothing, 0);
    memcpy(argv + 5, a.args, (size_t)n * sizeof *argv);
    memcpy(lens + 5, a.lens, (size_t)n * sizeof *lens);
    redisContext *c = redisConnect("127.0.0.1", T.redis->port);
    assert_non_null(c);
    redisReply *r = redisCommandArgv(c, n + 5, argv, lens);
    assert_non_null(r);
    if (r->type != REDIS_REPLY_ARRAY)
        fail_msg("script: %s", r->str);
    struct breaker_totals t;
    breaker_state_totals(r, &t);
    freeReplyObject(r);
    redisFree(c);
    return t.calls;
}

static int64_t field(const char *target, const char *name, char text[static 32])
{
    char fmt[64];
    snprintf(fmt, sizeof fmt, "HGET redoubt:{b:%%s}:doc %s", name);
    redisReply *r = redis_ask(fmt, target);
    snprintf(text, 32, "%s", r->type == REDIS_REPLY_STRING ? r->str : "(none)");
    freeReplyObject(r);
    return strtoll(text, NULL, 10);
}

static bool pending(const char *target)
{
    redisReply *r = redis_ask("HGET redoubt:{b:%s}:doc pending", target);
    bool is = r->type == REDIS_REPLY_STRING && strcmp(r->str, "1") == 0;
    freeReplyObject(r);
    return is;
}

#define WAIT_FOR(condition)                                                                                          \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + LIMIT_MS;                                                                   \
        while (take_in(5), !(condition))                                                                             \
            if (clock_mono_ms() > end_)                                                                              \
                fail_msg("waited in vain for: " #condition);                                                         \
    } while (0)

/* Is there a message on the stream that `fits`? Reads from the first to the last. */
static bool stream_has(const char *stream, const ProtobufCMessageDescriptor *desc,
                       bool (*fits)(const void *message, const char *what), const char *what)
{
    jsCtx *js = NULL;
    jsStreamInfo *info = NULL;
    bool found = false;
    struct err e;
    assert_int_equal(natsConnection_JetStream(&js, T.nc, NULL), NATS_OK);
    if (js_GetStreamInfo(&info, js, stream, NULL, NULL) == NATS_OK) {
        for (uint64_t seq = info->State.FirstSeq; seq <= info->State.LastSeq && !found; seq++) {
            natsMsg *m = NULL;
            if (js_GetMsg(&m, js, stream, seq, NULL, NULL) != NATS_OK)
                continue;
            void *x = wire_unpack(desc, natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
            found = x && fits(x, what);
            wire_free(x);
            natsMsg_Destroy(m);
        }
        jsStreamInfo_Destroy(info);
    }
    jsCtx_Destroy(js);
    return found;
}

static bool raised(const void *m, const char *key)
{
    const PB(Alert) *a = m;
    return strcmp(a->dedup_key, key) == 0 && !a->resolved;
}

static bool resolved(const void *m, const char *key)
{
    const PB(Alert) *a = m;
    return strcmp(a->dedup_key, key) == 0 && a->resolved;
}

static bool by_eve(const void *m, const char *action)
{
    const PB(AuditRecord) *r = m;
    return strcmp(r->action, action) == 0 && strcmp(r->actor, "eve") == 0 &&
           r->audit_class == REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
}

static bool recorded(const void *m, const char *action)
{
    return strcmp(((const PB(AuditRecord) *)m)->action, action) == 0;
}

/* ---- tests ---- */

enum { SUCCESS = 1, ERROR = 2, RATE_LIMITED = 4 };

static void bring_back(const char *target)
{
    uint64_t epoch = 0;
    int64_t end = clock_mono_ms() + LIMIT_MS;
    while (take_in(5), state_of(target) != BREAKER_CLOSED) {
        if (clock_mono_ms() > end)
            fail_msg("%s stays %s", target, sm_name(&breaker_sm, state_of(target)));
        if (state_of(target) == BREAKER_HALF_OPEN) {
            PB(AllowReply) a = allow(target, "watcher");
            if (a.permit_id)
                report(target, "watcher", SUCCESS, a.permit_id);
        } else if (state_of(target) == BREAKER_PROBATION && last(target)->epoch != epoch) {
            epoch = last(target)->epoch;
            report(target, "watcher", SUCCESS, 0);
        }
    }
}

/* Both replicas refuse: each answers from its own memory, and hears a little later what the other has stored. */
static void wait_refused(const char *target)
{
    int64_t end = clock_mono_ms() + LIMIT_MS;
    for (int in_a_row = 0; in_a_row < 16; take_in(1)) {
        in_a_row = allow(target, "agent").admitted ? 0 : in_a_row + 1;
        if (clock_mono_ms() > end)
            fail_msg("calls to %s are still admitted", target);
    }
}

static void test_opens_and_comes_back(void **unused)
{
    (void)unused;
    const char *t = "t.open";
    wait_ready(t);
    assert_int_equal(last(t)->epoch, 1);
    assert_int_equal(last(t)->reason, BREAKER_BY_INITIAL);
    /* Two replicas: what is sent at once may be merged in any order. */
    for (int i = 0; i < 4; i++)
        report(t, "agent", ERROR, 0);
    WAIT_FOR(calls_of(t) == 4);
    report(t, "agent", SUCCESS, 0);
    WAIT_FOR(calls_of(t) == 5);
    for (int i = 0; i < 4; i++)
        report(t, "agent", ERROR, 0);
    WAIT_FOR(calls_of(t) == 9);
    report(t, "agent", ERROR, 0);
    const PB(BreakerChanged) *open = wait_state(t, BREAKER_OPEN);
    assert_int_equal(open->epoch, 2);
    assert_int_equal(open->totals->calls, 10); /* and not a call earlier */
    assert_int_equal(open->reason, BREAKER_BY_CONSECUTIVE);
    assert_true(open->evidence_unix_ms > 0 && open->evidence_unix_ms <= open->changed_unix_ms);
    assert_true(rev_of(t) >= open->epoch);
    WAIT_FOR(!pending(t));
    WAIT_FOR(stream_has(STREAM_ALERTS, PB_DESC(alert), raised, "breaker/t.open"));
    WAIT_FOR(stream_has(STREAM_AUDIT, PB_DESC(audit_record), recorded, "breaker.open"));
    bring_back(t);
    WAIT_FOR(stream_has(STREAM_ALERTS, PB_DESC(alert), resolved, "breaker/t.open"));
    WAIT_FOR(allow(t, "agent").admitted);
}

static void test_one_of_several(void **unused)
{
    (void)unused;
    const char *t = "t.votes";
    wait_ready(t);
    report(t, "fine", SUCCESS, 0);
    WAIT_FOR(calls_of(t) == 1); /* whoever fails first is not alone */
    for (int i = 0; i < 50; i++)
        report(t, "blind", ERROR, 0);
    WAIT_FOR(calls_of(t) == 51);
    settle(100);
    assert_int_equal(state_of(t), BREAKER_CLOSED);
    for (int i = 0; i < 5; i++)
        report(t, "fine", ERROR, 0);
    const PB(BreakerChanged) *open = wait_state(t, BREAKER_OPEN);
    assert_int_equal(open->epoch, 2);
    assert_true(open->totals->calls > 51); /* not before it failed for this one, too */
}

static void test_one_permit(void **unused)
{
    (void)unused;
    const char *t = "t.trial";
    wait_ready(t);
    for (int i = 0; i < 5; i++)
        report(t, "agent", ERROR, 0);
    wait_state(t, BREAKER_HALF_OPEN);
    /* Both replicas are asked many times: one may go. Its holder is silent: another goes, but not before. */
    int64_t asked_ms = 0, end = clock_mono_ms() + LIMIT_MS;
    PB(AllowReply) first, second = {0};
    WAIT_FOR((asked_ms = clock_mono_ms(), first = allow(t, "agent")).admitted);
    for (int refused = 0; second.permit_id == 0 || refused < 20; take_in(1)) { /* if slow, over several permits */
        int64_t now_ms = clock_mono_ms();
        PB(AllowReply) a = allow(t, "other");
        if (a.admitted) {
            first = second.permit_id ? second : first;
            second = a;
            assert_true(second.permit_id > first.permit_id);
            assert_true(clock_mono_ms() >= asked_ms + PERMIT_MS - 50);
            asked_ms = now_ms;
        } else { /* 1000: the replica stood still with a permit in its hands, and gave it to nobody */
            assert_true(a.retry_after_ms > 0 && (a.retry_after_ms <= PERMIT_MS + 50 || a.retry_after_ms == 1000));
            refused++;
        }
        if (now_ms > end)
            fail_msg("asked in vain for a second permit");
    }
    /* The first one's word is void. */
    report(t, "agent", SUCCESS, first.permit_id);
    WAIT_FOR(calls_of(t) >= 1);
    report(t, "other", ERROR, second.permit_id);
    const PB(BreakerChanged) *open = wait_state(t, BREAKER_OPEN);
    assert_int_equal(open->previous, BREAKER_HALF_OPEN);
    assert_int_equal(open->reason, BREAKER_BY_TRIAL_FAILED);
    assert_int_equal(open->open_count, 2);
    bring_back(t);
}

static void test_bad_reports(void **unused)
{
    (void)unused;
    const char *t = "t.bad";
    wait_ready(t);
    PB(OutcomeReport) r = outcome("t.open", "agent", ERROR);
    for (int i = 0; i < 10; i++) {
        say(SUBJECT_REPORT "t.bad", &r, NULL);     /* another target than the subject's */
        say(SUBJECT_REPORT "t.nowhere", &r, NULL); /* unknown */
        assert_int_equal(natsConnection_PublishString(T.nc, SUBJECT_REPORT "t.bad", "\xff\xff\xff"), NATS_OK);
        assert_int_equal(natsConnection_Publish(T.nc, SUBJECT_REPORT "t.bad", "", 0), NATS_OK);
        assert_int_equal(natsConnection_PublishString(T.nc, SUBJECT_BREAKER "t.bad", NONSENSE), NATS_OK);
    }
    /* A batch with one report that does not belong is refused whole; a ping says nothing. */
    PB(OutcomeReport) parts[10];
    PB(OutcomeReport) * list[10];
    for (int i = 0; i < 10; i++) {
        parts[i] = outcome(i == 9 ? "t.open" : t, "agent", ERROR);
        list[i] = &parts[i];
    }
    PB(OutcomeBatch) batch = PB_INIT(OUTCOME_BATCH);
    batch.n_reports = 10;
    batch.reports = list;
    say(SUBJECT_REPORT "t.bad", &batch, "redoubt.v1.OutcomeBatch");
    r = outcome(t, "watcher", ERROR);
    r.probe = true;
    r.data_path = false;
    for (int i = 0; i < 20; i++)
        say(SUBJECT_REPORT "t.bad", &r, NULL);
    settle(200);
    assert_int_equal(state_of(t), BREAKER_CLOSED);
    assert_int_equal(rev_of(t), 1);
    assert_true(harness_alive(T.replica[0]) && harness_alive(T.replica[1]));
    for (int i = 0; i < 5; i++)
        report(t, "agent", ERROR, 0);
    const PB(BreakerChanged) *open = wait_state(t, BREAKER_OPEN);
    assert_int_equal(open->epoch, 2);
    assert_int_equal(open->totals->calls, 5); /* none of the others has counted */
}

static void test_batch(void **unused)
{
    (void)unused;
    wait_ready("t.batch");
    PB(OutcomeReport) parts[100];
    PB(OutcomeReport) * list[100];
    for (int i = 0; i < 100; i++) {
        parts[i] = outcome("t.batch", "agent", i % 2 ? ERROR : SUCCESS);
        list[i] = &parts[i];
    }
    PB(OutcomeBatch) batch = PB_INIT(OUTCOME_BATCH);
    batch.n_reports = 100;
    batch.reports = list;
    say(SUBJECT_REPORT "t.batch", &batch, "redoubt.v1.OutcomeBatch");
    const PB(BreakerChanged) *open = wait_state("t.batch", BREAKER_OPEN);
    assert_int_equal(open->reason, BREAKER_BY_FAILURE_RATIO);
    assert_int_equal(open->totals->calls, 100);
    assert_int_equal(open->totals->failures, 50);
}

static void test_damaged_document(void **unused)
{
    (void)unused;
    const char *t = "t.damage";
    wait_ready(t);
    static const char *const harm[] = {"SET redoubt:{b:%s}:doc nonsense", "HSET redoubt:{b:%s}:doc doc garbage rev 9",
                                       "HSET redoubt:{b:%s}:doc rev x", "SET redoubt:{b:%s}:w nonsense"};
    for (size_t i = 0; i < sizeof harm / sizeof harm[0]; i++) {
        uint64_t epoch = last(t)->epoch;
        redis_do(harm[i], t);
        report(t, "agent", SUCCESS, 0);
        /* Put right, and nothing has changed; merged among the failures, the success would break their run. */
        WAIT_FOR(rev_of(t) == epoch && calls_of(t) == 1);
        assert_int_equal(state_of(t), BREAKER_CLOSED);
        for (int k = 0; k < 5; k++)
            report(t, "agent", ERROR, 0);
        wait_state(t, BREAKER_OPEN);
        assert_int_equal(order("reset", t, "eve", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
        wait_state(t, BREAKER_CLOSED); /* the harm makes a new window, which counts only a tenth of it later */
    }
}

static void test_people(void **unused)
{
    (void)unused;
    const char *t = "t.people";
    wait_ready(t);
    assert_int_equal(order("open", t, "", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID);
    assert_int_equal(order("open", "t.nowhere", "eve", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID);
    settle(50);
    assert_int_equal(state_of(t), BREAKER_CLOSED);
    assert_int_equal(order("open", t, "eve", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    const PB(BreakerChanged) *forced = wait_state(t, BREAKER_FORCED_OPEN);
    assert_string_equal(forced->forced_by, "eve");
    assert_string_equal(forced->forced_why, "because");
    assert_int_equal(order("open", t, "eve", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY);
    wait_refused(t);
    WAIT_FOR(stream_has(STREAM_AUDIT, PB_DESC(audit_record), by_eve, "breaker.open"));

    PB(BreakerCommand) c = PB_INIT(BREAKER_COMMAND);
    c.target = (char *)t;
    PB(CommandReply) *r = request("show", &c, PB_DESC(command_reply));
    struct err e;
    PB(BreakerChanged) *b = wire_unpack(PB_DESC(breaker_changed), r->payload.data, r->payload.len, &e);
    assert_non_null(b);
    assert_int_equal(b->state, BREAKER_FORCED_OPEN);
    assert_int_equal(b->epoch, r->epoch);
    wire_free(b);
    wire_free(r);

    assert_int_equal(order("metrics", t, "eve", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    wait_state(t, BREAKER_METRICS_ONLY);
    for (int i = 0; i < 20; i++)
        report(t, "agent", ERROR, 0);
    WAIT_FOR(calls_of(t) == 20);
    settle(100);
    assert_int_equal(state_of(t), BREAKER_METRICS_ONLY);
    assert_int_equal(order("close", t, "eve", 300), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    wait_state(t, BREAKER_FORCED_CLOSED);
    wait_state(t, BREAKER_CLOSED); /* its time is over */
}

static void test_verdict(void **unused)
{
    (void)unused;
    const char *t = "t.health";
    wait_ready(t);
    PB(HealthChanged) h = PB_INIT(HEALTH_CHANGED);
    h.target = (char *)t;
    h.epoch = 1;
    h.state = REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_UNHEALTHY;
    h.since_unix_ms = clock_wall_ms() - 1000;
    h.changed_unix_ms = clock_wall_ms();
    say(SUBJECT_HEALTH "t.health", &h, NULL);
    const PB(BreakerChanged) *open = wait_state(t, BREAKER_OPEN);
    assert_int_equal(open->reason, BREAKER_BY_UNHEALTHY);
    assert_int_equal(open->evidence_unix_ms, h.since_unix_ms);
    wait_state(t, BREAKER_HALF_OPEN);
    h.epoch = 2;
    h.state = REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_HEALTHY;
    h.changed_unix_ms = clock_wall_ms();
    say(SUBJECT_HEALTH "t.health", &h, NULL);
    settle(300);
    assert_int_equal(state_of(t), BREAKER_HALF_OPEN); /* a verdict closes nothing */
    bring_back(t);
}

static void test_retry_after(void **unused)
{
    (void)unused;
    const char *t = "t.retry";
    wait_ready(t);
    PB(OutcomeReport) r = outcome(t, "agent", RATE_LIMITED);
    r.retry_after_ms = 60000;
    int64_t said_ms = clock_wall_ms();
    say(SUBJECT_REPORT "t.retry", &r, NULL);
    const PB(BreakerChanged) *open = wait_state(t, BREAKER_OPEN);
    assert_int_equal(open->reason, BREAKER_BY_RETRY_AFTER);
    int64_t until = open->until_unix_ms; /* from when it was heard, up to the next second */
    assert_in_range(until, said_ms + 60000 - 50, open->changed_unix_ms + 60000 + BREAKER_RETRY_STEP_MS + 50);
    wait_refused(t);
    char text[32];
    assert_int_equal(field(t, "until", text), until);
    assert_true(field(t, "state", text) == 0 && strcmp(text, "OPEN") == 0);
    assert_true(field(t, "ramp", text) == 0 && strcmp(text, "0") == 0);
    r.retry_after_ms = 5000; /* earlier: no change */
    say(SUBJECT_REPORT "t.retry", &r, NULL);
    settle(200);
    assert_int_equal(last(t)->until_unix_ms, until);
    r.retry_after_ms = 90000;
    say(SUBJECT_REPORT "t.retry", &r, NULL);
    WAIT_FOR(last(t)->until_unix_ms >= until + 28000);
}

/* ---- for those who read only Redis ---- */

static int64_t memory_of(const char *fmt, const char *target)
{
    redisReply *r = redis_ask(fmt, target);
    int64_t bytes = r->type == REDIS_REPLY_INTEGER ? r->integer : -1;
    freeReplyObject(r);
    assert_true(bytes > 0);
    return bytes;
}

static void test_plain_fields_and_memory(void **unused)
{
    (void)unused;
    const char *t = "llm.openai.gpt-4o-mini";
    char text[32];
    wait_ready(t);
    WAIT_FOR(field(t, "state", text) == 0 && strcmp(text, "CLOSED") == 0);
    assert_int_equal(field(t, "until", text), 0);
    assert_int_equal(field(t, "ramp", text), 100);
    /* All of them fail, so many that only the last 32 are known. */
    for (int i = 0; i < 40; i++) {
        char reporter[32];
        snprintf(reporter, sizeof reporter, "agent-%d", i);
        report(t, reporter, i < 30 ? SUCCESS : ERROR, 0);
    }
    WAIT_FOR(calls_of(t) == 40);
    int64_t window = memory_of("MEMORY USAGE redoubt:{b:%s}:w", t);
    assert_int_equal(state_of(t), BREAKER_CLOSED);
    PB(OutcomeReport) r = outcome(t, "agent-1", RATE_LIMITED);
    r.retry_after_ms = 1000;
    char reporter[32];
    for (int i = 1; i < 40; i++) {
        snprintf(reporter, sizeof reporter, "agent-%d", i);
        r.reporter = reporter;
        say(SUBJECT_REPORT "llm.openai.gpt-4o-mini", &r, NULL);
    }
    wait_state(t, BREAKER_OPEN);
    assert_true(field(t, "ramp", text) == 0 && strcmp(text, "0") == 0);
    int64_t doc = memory_of("MEMORY USAGE redoubt:{b:%s}:doc", t);
    wait_state(t, BREAKER_HALF_OPEN);
    WAIT_FOR(allow(t, "mcp-security-agent-17").admitted);
    int64_t half_open = memory_of("MEMORY USAGE redoubt:{b:%s}:doc", t);
    doc = half_open > doc ? half_open : doc;
    redis_do("HSET redoubt:{b:%s}:doc began 1764110000000", t); /* as of one that was put back */
    half_open = memory_of("MEMORY USAGE redoubt:{b:%s}:doc", t);
    doc = half_open > doc ? half_open : doc;
    print_message("Redis memory of a target with 32 reporters: document %" PRId64 " + window %" PRId64 " = %" PRId64
                  " bytes\n",
                  doc, window, doc + window);
    assert_true(doc + window < 1024);
    /* A reason that is too long for the compact form is kept whole, and read again. */
    assert_int_equal(order_because("open", t, 900), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    uint64_t epoch = wait_state(t, BREAKER_FORCED_OPEN)->epoch;
    for (int i = 0; i < 2; i++)
        report(t, "agent", SUCCESS, 0);
    assert_int_equal(order("reset", t, "eve", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    assert_int_equal(wait_state(t, BREAKER_CLOSED)->epoch, epoch + 1);
}

/* ---- scopes ---- */

static int count_reason(const char *target, int reason)
{
    int n = 0;
    for (size_t i = 0; i < T.n_seen; i++)
        if (strcmp(T.seen[i]->target, target) == 0 && (int)T.seen[i]->reason == reason) {
            bool again = false; /* told twice is one */
            for (size_t k = 0; k < i; k++)
                again |= strcmp(T.seen[k]->target, target) == 0 && T.seen[k]->epoch == T.seen[i]->epoch;
            n += !again;
        }
    return n;
}

static void fail_model(const char *target)
{
    for (int i = 0; i < 6; i++)
        report(target, "agent", ERROR, 0);
    assert_string_equal(wait_state(target, BREAKER_OPEN)->scope, "");
}

/* Lines of its log with this text. */
static int log_count(const struct harness_proc *p, const char *text)
{
    char path[600], line[1000];
    int n = 0;
    snprintf(path, sizeof path, "%s.log", p->data);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, text) != NULL;
    fclose(f);
    return n;
}

static void test_scope(void **unused)
{
    (void)unused;
    char text[32];
    const char *const *m = accounts;
    for (int i = 0; i < 5; i++)
        wait_ready(m[i]);
    for (int i = 0; i < 4; i++)
        report(m[i], "agent", SUCCESS, 0);
    for (int i = 0; i < 4; i++)
        WAIT_FOR(calls_of(m[i]) == 1);
    /* One bad model of the account, and even two of four, stay alone. */
    fail_model(m[0]);
    fail_model(m[1]);
    settle(300);
    for (int i = 2; i < 5; i++)
        assert_int_equal(state_of(m[i]), BREAKER_CLOSED);
    fail_model(m[2]);
    for (int i = 3; i < 5; i++) { /* three of the four that are called: the account is ill */
        const PB(BreakerChanged) *open = wait_state(m[i], BREAKER_OPEN);
        assert_int_equal(open->reason, BREAKER_BY_SCOPE);
        assert_string_equal(open->scope, "account.one");
        assert_true(open->until_unix_ms <= last(m[2])->until_unix_ms);
        wait_refused(m[i]);
    }
    assert_true(field(m[4], "state", text) == 0 && strcmp(text, "OPEN") == 0);
    WAIT_FOR(stream_has(STREAM_ALERTS, PB_DESC(alert), raised, "breaker-scope/account.one"));
    /* A replica that starts anew comes to the same, and does nothing twice. */
    harness_kill(T.replica[0]);
    int served = log_count(T.replica[0], "store connected");
    harness_start(T.replica[0]);
    WAIT_FOR(log_count(T.replica[0], "store connected") > served);
    settle(300);
    /* The account is well: what was opened because of it is tried, and what a person has closed stays so. */
    for (int i = 0; i < 3; i++)
        assert_int_equal(order("reset", m[i], "eve", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    for (int i = 3; i < 5; i++)
        WAIT_FOR(count_reason(m[i], BREAKER_BY_SCOPE_ENDED) == 1);
    WAIT_FOR(stream_has(STREAM_ALERTS, PB_DESC(alert), resolved, "breaker-scope/account.one"));
    for (int i = 3; i < 5; i++) {
        bring_back(m[i]);
        assert_int_equal(count_reason(m[i], BREAKER_BY_SCOPE), 1);
        assert_int_equal(count_reason(m[i], BREAKER_BY_SCOPE_ENDED), 1);
        char key[64];
        snprintf(key, sizeof key, "breaker/%s", m[i]);
        assert_false(stream_has(STREAM_ALERTS, PB_DESC(alert), raised, key)); /* one alert for all of them */
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(state_of(m[i]), BREAKER_CLOSED);
}

/* A replica stored a change and died before it could say so. */
static void test_sweep(void **unused)
{
    (void)unused;
    const char *t = "t.sweep";
    wait_ready(t);
    PB(BreakerChanged) b = *last(t);
    struct err e;
    size_t len;
    b.epoch++;
    b.previous = b.state;
    b.state = REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_FORCED_OPEN;
    b.ramp_percent = 0;
    b.forced_by = "eve";
    b.forced_why = "because";
    void *data = wire_pack(&b, &len, &e);
    assert_non_null(data);
    redisContext *c = redisConnect("127.0.0.1", T.redis->port);
    char rev[24];
    snprintf(rev, sizeof rev, "%" PRIu64, b.epoch);
    freeReplyObject(redisCommand(c, "HSET redoubt:{b:%s}:doc rev %s pending 1 doc %b", t, rev, data, len));
    redisFree(c);
    free(data);
    wait_state(t, BREAKER_FORCED_OPEN);
    WAIT_FOR(!pending(t));
    WAIT_FOR(stream_has(STREAM_ALERTS, PB_DESC(alert), raised, "breaker/t.sweep"));
}

static void test_redis_emptied(void **unused)
{
    (void)unused;
    const char *t = "t.emptied";
    wait_ready(t);
    assert_int_equal(order("open", t, "eve", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    uint64_t epoch = wait_state(t, BREAKER_FORCED_OPEN)->epoch;
    for (int i = 0; i < 2; i++)
        harness_kill(T.replica[i]);
    redis_do("FLUSHALL", t);
    for (int i = 0; i < 2; i++)
        harness_start(T.replica[i]);
    WAIT_FOR(rev_of(t) == epoch);
    for (int i = 0; i < 16; i++)
        assert_false(allow(t, "agent").admitted); /* not by one that has just come up, either */
    settle(100);
    assert_int_equal(last(t)->epoch, epoch);
    char text[32]; /* its window is younger than it */
    assert_in_range(field(t, "began", text), clock_wall_ms() - 60000, clock_wall_ms());
    /* The other replica may still be on its way up. */
    WAIT_FOR(order("reset", t, "eve", 0) == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    assert_int_equal(wait_state(t, BREAKER_CLOSED)->epoch, epoch + 1);
    field(t, "began", text);
    assert_string_equal(text, "(none)"); /* the next document and its window begin together */
}

static void test_redis_away(void **unused)
{
    (void)unused;
    const char *t = "t.away";
    wait_ready(t);
    report(t, "agent", SUCCESS, 0);
    WAIT_FOR(calls_of(t) == 1); /* good news may wait a little; merged with the failures, it would break their run */
    harness_kill(T.redis);
    WAIT_FOR(stream_has(STREAM_ALERTS, PB_DESC(alert), raised, "store/breaker"));
    uint64_t epoch = last(t)->epoch;
    assert_int_equal(order("open", t, "eve", 0), REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE);
    assert_true(allow(t, "agent").admitted); /* as it was; one that hears all of what follows may advise against it */
    for (int i = 0; i < 5; i++)
        report(t, "agent", ERROR, 0);
    settle(300);
    assert_int_equal(last(t)->epoch, epoch); /* no epoch without shared state */
    harness_start(T.redis);                  /* emptied, too */
    assert_int_equal(wait_state(t, BREAKER_OPEN)->epoch, epoch + 1);
    WAIT_FOR(stream_has(STREAM_ALERTS, PB_DESC(alert), resolved, "store/breaker"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_people),
        cmocka_unit_test(test_verdict),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_opens_and_comes_back),
        cmocka_unit_test(test_one_of_several),
        cmocka_unit_test(test_one_permit),
        cmocka_unit_test(test_damaged_document),
        cmocka_unit_test(test_plain_fields_and_memory),
        cmocka_unit_test(test_scope),
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_redis_emptied),
        cmocka_unit_test(test_redis_away),
        cmocka_unit_test(test_bad_reports),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
