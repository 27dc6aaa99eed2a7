/* test_alert_decide.c - the alert's deciders, cell by cell: outcomes, the way through the channels, circuits, problems. */
#include "alert/alert.h"
#include "alert/alert_circuit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define N_OF(a) (sizeof(a) / sizeof(a)[0])

static const struct alert_way a_channel = {
    .tries = 3, .attempt_ms = 10000, .deadline_ms = 300000, .deadline_critical_ms = 30000};

/* A failover group of n channels, the first of them mail; then the record. */
static struct alert_plan chain(size_t n, bool record)
{
    struct alert_plan p = {.n = n + (record ? 1 : 0)};
    p.tree.n = p.n + 1;
    p.tree.nodes[0] = (struct alert_node){.kind = ALERT_NODE_FAILOVER, .end = (uint16_t)p.tree.n};
    for (size_t i = 0; i < p.n; i++) {
        p.ways[i] = a_channel;
        p.ways[i].proto = i == n ? ALERT_PROTO_FILE : i == 0 ? ALERT_PROTO_SMTP : ALERT_PROTO_HTTP;
        p.ways[i].record = i == n;
        p.tree.nodes[i + 1] =
            (struct alert_node){.kind = ALERT_NODE_CHANNEL, .way = (uint8_t)i, .end = (uint16_t)(i + 2)};
    }
    return p;
}

/* mail, chat, pager; then the record */
static struct alert_plan three(void)
{
    return chain(3, true);
}

struct run {
    struct alert_delivery d;
    struct alert_plan p;
    struct alert_try tries[ALERT_WAYS_MAX];
    struct alert_effect out[ALERT_EFFECTS_MAX];
    size_t n;
};

static void feed(struct run *r, const struct alert_event *ev, int64_t now_ms)
{
    r->d.tries = r->tries; /* a run is copied by value here */
    r->n = alert_decide(&r->d, &r->p, ev, now_ms, r->out);
}

static void result_of(struct run *r, size_t way, enum alert_fault fault, int status, int64_t retry_after_ms,
                      int64_t now_ms)
{
    feed(r,
         &(struct alert_event){.kind = ALERT_RESULT,
                               .way = way,
                               .outcome = {.fault = fault, .status = status, .retry_after_ms = retry_after_ms}},
         now_ms);
}

static const struct alert_effect *find(const struct run *r, enum alert_effect_kind kind)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->out[i].kind == kind)
            return &r->out[i];
    return NULL;
}

/* Where the only attempt is under way. */
static size_t at(const struct run *r)
{
    size_t way = 0;
    assert_true(r->d.marks.busy && !(r->d.marks.busy & (r->d.marks.busy - 1)));
    while (!(r->d.marks.busy & (UINT64_C(1) << way)))
        way++;
    return way;
}

static void result(struct run *r, enum alert_fault fault, int status, int64_t retry_after_ms, int64_t now_ms)
{
    result_of(r, at(r), fault, status, retry_after_ms, now_ms);
}

static enum alert_status said(const struct run *r)
{
    const struct alert_effect *e = find(r, ALERT_RECEIPT);
    return e ? e->status : 0;
}

static bool exhausted(const struct run *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->out[i].kind == ALERT_RECEIPT && r->out[i].status == ALERT_STATUS_EXHAUSTED)
            return true;
    return false;
}

static void start(struct run *r, bool critical)
{
    feed(r, &(struct alert_event){.kind = ALERT_START, .record = true, .critical = critical}, 1000);
}

/* Recorded, and at its first channel. */
static struct run begun(bool critical)
{
    struct run r = {.p = three()};
    start(&r, critical);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.out[0].kind, ALERT_SEND);
    assert_int_equal(r.out[0].way, 3); /* the record comes first */
    result(&r, ALERT_FAULT_NONE, 0, -1, 1000);
    assert_int_equal(said(&r), ALERT_STATUS_RECORDED);
    const struct alert_effect *e = find(&r, ALERT_SEND);
    assert_non_null(e);
    assert_int_equal(e->way, 0);
    assert_int_equal(e->attempt, 1);
    return r;
}

/* Moves on to `way` by refusals. */
static struct run at_way(size_t way)
{
    struct run r = begun(false);
    for (size_t i = 0; i < way; i++)
        result(&r, ALERT_FAULT_SETTINGS, 0, -1, 1000);
    assert_int_equal(at(&r), way);
    return r;
}

static const struct {
    enum alert_fault fault;
    int http, smtp; /* statuses; 0 = none */
    int64_t retry_after_ms;
    enum alert_class class;
    int64_t wait_ms; /* before the second attempt; -1 = next channel at once */
} results[] = {
    {ALERT_FAULT_NONE, 200, 250, -1, ALERT_CLASS_ACCEPTED, -1},
    {ALERT_FAULT_NONE, 204, 251, -1, ALERT_CLASS_ACCEPTED, -1},
    {ALERT_FAULT_NONE, 302, 530, -1, ALERT_CLASS_REFUSED, -1},
    {ALERT_FAULT_NONE, 400, 552, -1, ALERT_CLASS_REJECTED, -1},
    {ALERT_FAULT_NONE, 413, 554, -1, ALERT_CLASS_REJECTED, -1},
    {ALERT_FAULT_NONE, 401, 550, -1, ALERT_CLASS_REFUSED, -1},
    {ALERT_FAULT_NONE, 404, 553, -1, ALERT_CLASS_REFUSED, -1},
    {ALERT_FAULT_NONE, 408, 421, -1, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
    {ALERT_FAULT_NONE, 429, 451, -1, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
    {ALERT_FAULT_NONE, 429, 450, 7000, ALERT_CLASS_AGAIN, 7000},
    {ALERT_FAULT_NONE, 429, 450, 299999, ALERT_CLASS_AGAIN, 299999},
    {ALERT_FAULT_NONE, 429, 450, 300000, ALERT_CLASS_AGAIN, -1},
    {ALERT_FAULT_NONE, 429, 450, 0, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
    {ALERT_FAULT_NONE, 500, 452, -1, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
    {ALERT_FAULT_NONE, 503, 421, 2000, ALERT_CLASS_AGAIN, 2000},
    {ALERT_FAULT_NONE, 100, 354, -1, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
    {ALERT_FAULT_NONE, 7777, 7777, -1, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
    {ALERT_FAULT_RESOLVE, 0, 0, -1, ALERT_CLASS_QUICK, ALERT_QUICK_MS},
    {ALERT_FAULT_CONNECT, 0, 0, -1, ALERT_CLASS_QUICK, ALERT_QUICK_MS},
    {ALERT_FAULT_TLS, 0, 0, -1, ALERT_CLASS_QUICK, ALERT_QUICK_MS},
    {ALERT_FAULT_TIMEOUT, 0, 0, -1, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
    {ALERT_FAULT_CUT, 0, 0, -1, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
    {ALERT_FAULT_ANSWER, 200, 0, -1, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
    {ALERT_FAULT_LOGIN, 401, 535, -1, ALERT_CLASS_REFUSED, -1},
    {ALERT_FAULT_SETTINGS, 0, 0, -1, ALERT_CLASS_REFUSED, -1},
    {ALERT_FAULT_LATE, 0, 0, -1, ALERT_CLASS_PASSED, -1},
    {ALERT_FAULT_SKIPPED, 0, 0, -1, ALERT_CLASS_PASSED, -1},
    {ALERT_FAULT_OVERFLOW, 0, 0, -1, ALERT_CLASS_OVERFLOW, -1},
    {ALERT_FAULT_OTHER, 0, 0, -1, ALERT_CLASS_AGAIN, ALERT_BACKOFF_MS},
};

static void every_result_at_every_channel(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(results); i++)
        for (size_t way = 0; way < 3; way++) {
            struct run r = at_way(way);
            int status = way == 0 ? results[i].smtp : results[i].http;
            result(&r, results[i].fault, status, results[i].retry_after_ms, 1000);
            if (results[i].class == ALERT_CLASS_ACCEPTED) {
                assert_int_equal(said(&r), ALERT_STATUS_ACCEPTED);
                assert_non_null(find(&r, ALERT_END));
                assert_null(find(&r, ALERT_SEND));
                assert_int_equal(r.d.state, ALERT_DONE);
            } else if (results[i].wait_ms >= 0) {
                assert_int_equal(said(&r), ALERT_STATUS_RETRYING);
                assert_int_equal(r.tries[way].state, ALERT_TRY_BACKOFF);
                int64_t wake_ms = 1000 + results[i].wait_ms;
                assert_int_equal(find(&r, ALERT_WAKE_AT)->at_ms, wake_ms);
                feed(&r, &(struct alert_event){.kind = ALERT_WAKE}, wake_ms - 1);
                assert_int_equal(r.n, 0);
                feed(&r, &(struct alert_event){.kind = ALERT_WAKE}, wake_ms);
                assert_int_equal(find(&r, ALERT_SEND)->way, way);
                assert_int_equal(find(&r, ALERT_SEND)->attempt, 2);
            } else {
                assert_int_equal(said(&r), ALERT_STATUS_FAILED);
                assert_int_equal(find(&r, ALERT_TOLD)->way, way);
                assert_int_equal(find(&r, ALERT_TOLD)->class, results[i].class);
                if (way < 2) {
                    assert_int_equal(find(&r, ALERT_SEND)->way, way + 1);
                    assert_int_equal(find(&r, ALERT_SEND)->attempt, 1);
                } else {
                    assert_true(exhausted(&r));
                    assert_int_equal(r.d.state, ALERT_DONE);
                    assert_int_equal(find(&r, ALERT_END)->standing, ALERT_STANDING_FAILED);
                }
            }
            assert_int_equal(
                alert_classify(r.p.ways[way].proto, &(struct alert_outcome){results[i].fault, status, -1}),
                results[i].class);
        }
    struct alert_outcome soft = {ALERT_FAULT_LOGIN, 454, -1};
    assert_int_equal(alert_classify(ALERT_PROTO_SMTP, &soft), ALERT_CLASS_AGAIN);
    assert_int_equal(alert_classify(ALERT_PROTO_HTTP, &soft), ALERT_CLASS_REFUSED);
    assert_int_equal(alert_classify(ALERT_PROTO_FILE, &(struct alert_outcome){ALERT_FAULT_DISK, 0, -1}),
                     ALERT_CLASS_REFUSED);
}

static void tries_and_deadline_bound_a_channel(void **state)
{
    (void)state;
    struct run r = begun(true);
    int64_t now = 1000;
    for (int attempt = 1; attempt < 3; attempt++) { /* three tries */
        result(&r, ALERT_FAULT_NONE, 451, -1, now);
        assert_int_equal(r.tries[0].state, ALERT_TRY_BACKOFF);
        now = r.tries[0].wake_ms;
        feed(&r, &(struct alert_event){.kind = ALERT_WAKE}, now);
        assert_int_equal(find(&r, ALERT_SEND)->attempt, attempt + 1);
    }
    assert_int_equal(now, 1000 + ALERT_BACKOFF_MS + 2 * ALERT_BACKOFF_MS);
    result(&r, ALERT_FAULT_NONE, 451, -1, now);
    assert_int_equal(find(&r, ALERT_SEND)->way, 1);

    /* The last attempt is cut to what is left of the 30 s. */
    result(&r, ALERT_FAULT_TIMEOUT, 0, -1, now + 10000);
    feed(&r, &(struct alert_event){.kind = ALERT_WAKE}, r.tries[1].wake_ms);
    result(&r, ALERT_FAULT_TIMEOUT, 0, -1, now + 20500);
    feed(&r, &(struct alert_event){.kind = ALERT_WAKE}, r.tries[1].wake_ms);
    assert_int_equal(find(&r, ALERT_SEND)->timeout_ms, 8500);
    assert_int_equal(find(&r, ALERT_SEND)->start_by_ms, now + 30000);

    /* A loop that wakes too late does not begin a further attempt. */
    struct run late = begun(true);
    result(&late, ALERT_FAULT_NONE, 451, -1, 1000);
    feed(&late, &(struct alert_event){.kind = ALERT_WAKE}, 31000);
    assert_int_equal(said(&late), ALERT_STATUS_FAILED);
    assert_int_equal(find(&late, ALERT_SEND)->way, 1);

    /* Refused: one quick try more, however many are set. */
    struct run quick = begun(false);
    result(&quick, ALERT_FAULT_CONNECT, 0, -1, 1000);
    feed(&quick, &(struct alert_event){.kind = ALERT_WAKE}, 1000 + ALERT_QUICK_MS);
    result(&quick, ALERT_FAULT_CONNECT, 0, -1, 1000 + ALERT_QUICK_MS);
    assert_int_equal(find(&quick, ALERT_SEND)->way, 1);
}

static void the_record(void **state)
{
    (void)state;
    /* A record that fails holds nobody up, and is said. */
    struct run r = {.p = three()};
    start(&r, false);
    result(&r, ALERT_FAULT_DISK, 0, -1, 1000);
    assert_int_equal(said(&r), ALERT_STATUS_FAILED);
    assert_int_equal(find(&r, ALERT_TOLD)->way, 3);
    assert_int_equal(find(&r, ALERT_SEND)->way, 0);
    assert_int_equal(r.d.recorded, 0);

    /* Several files are written at once, and people are told when all have ended. */
    struct run two = {.p = three()};
    two.p.ways[1].record = true;
    two.p.ways[1].proto = ALERT_PROTO_FILE;
    start(&two, false);
    assert_int_equal(two.n, 2);
    result_of(&two, 3, ALERT_FAULT_NONE, 0, -1, 1000);
    assert_null(find(&two, ALERT_SEND));
    result_of(&two, 1, ALERT_FAULT_DISK, 0, -1, 1000);
    assert_int_equal(find(&two, ALERT_SEND)->way, 0);
    result(&two, ALERT_FAULT_SETTINGS, 0, -1, 1000);
    assert_int_equal(find(&two, ALERT_SEND)->way, 2); /* never the file as a channel */

    /* Without it, files are as if they were not there. */
    struct run plain = {.p = three()};
    feed(&plain, &(struct alert_event){.kind = ALERT_START}, 1000);
    assert_int_equal(plain.n, 1);
    assert_int_equal(find(&plain, ALERT_SEND)->way, 0);

    /* Repeats are only recorded. */
    struct run quiet = {.p = three()};
    feed(&quiet, &(struct alert_event){.kind = ALERT_START, .record = true, .silent = true}, 1000);
    assert_int_equal(find(&quiet, ALERT_SEND)->way, 3);
    result(&quiet, ALERT_FAULT_NONE, 0, -1, 1000);
    assert_int_equal(quiet.d.state, ALERT_DONE);
    assert_null(find(&quiet, ALERT_SEND));
    assert_false(exhausted(&quiet));

    /* A route of files asks for no more than them. */
    struct run files = {.p = chain(0, true)};
    start(&files, false);
    result(&files, ALERT_FAULT_NONE, 0, -1, 1000);
    assert_int_equal(said(&files), ALERT_STATUS_RECORDED);
    assert_int_equal(files.d.state, ALERT_DONE);
    assert_false(exhausted(&files));

    /* No channel at all is said. */
    struct run none = {.p = {.n = 0}};
    start(&none, false);
    assert_int_equal(said(&none), ALERT_STATUS_EXHAUSTED);
    assert_int_equal(none.d.state, ALERT_DONE);
    assert_int_equal(find(&none, ALERT_END)->standing, ALERT_STANDING_ABSENT);
}

static void a_channels_own_alert_goes_past_it(void **state)
{
    (void)state;
    struct run r = {.p = three()};
    feed(&r, &(struct alert_event){.kind = ALERT_START, .record = true, .left_out = 1}, 1000);
    result(&r, ALERT_FAULT_NONE, 0, -1, 1000);
    assert_int_equal(find(&r, ALERT_SEND)->way, 1);
    struct run only = {.p = chain(1, false)};
    feed(&only, &(struct alert_event){.kind = ALERT_START, .left_out = 1}, 1000);
    assert_int_equal(said(&only), ALERT_STATUS_EXHAUSTED);
    assert_int_equal(find(&only, ALERT_END)->standing, ALERT_STANDING_ABSENT); /* and nothing is owed */
    assert_int_equal(only.d.state, ALERT_DONE);
}

static void more_than_a_channel_takes(void **state)
{
    (void)state;
    for (int critical = 0; critical < 2; critical++)
        for (int put_by = 0; put_by < 2; put_by++) {
            struct run r = {.p = chain(2, false)};
            feed(&r, &(struct alert_event){.kind = ALERT_START, .critical = critical, .put_by = put_by}, 1000);
            result(&r, ALERT_FAULT_OVERFLOW, 0, -1, 1000);
            if (put_by && !critical) { /* a digest is on its way there: nobody else is bothered */
                assert_int_equal(said(&r), ALERT_STATUS_WAITING);
                assert_null(find(&r, ALERT_TOLD));
                assert_int_equal(find(&r, ALERT_END)->standing, ALERT_STANDING_PUT_BY);
                assert_int_equal(r.d.marks.put_by, 1);
            } else {
                assert_int_equal(said(&r), ALERT_STATUS_FAILED);
                assert_int_equal(find(&r, ALERT_SEND)->way, 1);
            }
        }
    /* What waits for a channel already is joined without asking it; a critical one asks. */
    struct run r = {.p = chain(2, false)}, urgent = r;
    feed(&r, &(struct alert_event){.kind = ALERT_START, .put_by = true, .put_by_now = 1}, 1000);
    assert_int_equal(said(&r), ALERT_STATUS_WAITING);
    assert_int_equal(find(&r, ALERT_END)->standing, ALERT_STANDING_PUT_BY);
    feed(&urgent, &(struct alert_event){.kind = ALERT_START, .critical = true, .put_by = true, .put_by_now = 1},
         1000);
    assert_int_equal(find(&urgent, ALERT_SEND)->way, 0);
}

static void cancelled(void **state)
{
    (void)state;
    struct run r = begun(false);
    /* Outdated while an attempt is under way: if that is accepted, so be it; if not, it was the last. */
    feed(&r, &(struct alert_event){.kind = ALERT_CANCEL}, 1000);
    assert_int_equal(r.n, 0);
    struct run accepted = r;
    result(&accepted, ALERT_FAULT_NONE, 250, -1, 1000);
    assert_int_equal(said(&accepted), ALERT_STATUS_ACCEPTED);
    result(&r, ALERT_FAULT_NONE, 451, -1, 1000);
    assert_int_equal(said(&r), ALERT_STATUS_FAILED);
    assert_int_equal(r.d.state, ALERT_DONE);
    assert_false(exhausted(&r));

    /* In every other state it ends at once, but never before it is recorded. */
    struct run early = {.p = three()};
    start(&early, false);
    feed(&early, &(struct alert_event){.kind = ALERT_CANCEL}, 1000);
    assert_int_equal(early.n, 0);
    result(&early, ALERT_FAULT_NONE, 0, -1, 1000);
    assert_int_equal(early.d.state, ALERT_DONE);
    assert_null(find(&early, ALERT_SEND));
    struct run backoff = begun(false);
    result(&backoff, ALERT_FAULT_NONE, 451, -1, 1000);
    feed(&backoff, &(struct alert_event){.kind = ALERT_CANCEL}, 1000);
    assert_int_equal(backoff.d.state, ALERT_DONE);
    /* What comes after the end changes nothing. */
    for (int kind = ALERT_RESULT; kind <= ALERT_CANCEL; kind++)
        for (size_t way = 0; way < 5; way++) {
            feed(&backoff, &(struct alert_event){.kind = (enum alert_event_kind)kind, .way = way}, 99999);
            assert_int_equal(backoff.n, 0);
        }
    struct run fresh = {.p = three()};
    feed(&fresh, &(struct alert_event){.kind = ALERT_CANCEL}, 1000);
    assert_int_equal(fresh.n, 0);
}

static void circuits(void **state)
{
    (void)state;
    struct alert_outcome refused = {ALERT_FAULT_NONE, 404, -1}, rejected = {ALERT_FAULT_NONE, 400, -1},
                         busy = {ALERT_FAULT_NONE, 429, 60000}, skipped = {ALERT_FAULT_SKIPPED, 0, -1},
                         slow = {ALERT_FAULT_TIMEOUT, 0, -1}, disk = {ALERT_FAULT_DISK, 0, -1}, ok = {0};
    struct alert_circuit c = {0};
    assert_true(alert_circuit_admit(&c, 0));
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_REFUSED, &refused, false, 0), ALERT_CIRCUIT_RAISE);
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_REFUSED, &refused, false, 0), ALERT_CIRCUIT_SILENT);
    assert_false(alert_circuit_admit(&c, ALERT_PROBE_MS - 1));
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_PASSED, &skipped, false, 1), ALERT_CIRCUIT_SILENT);
    assert_true(alert_circuit_admit(&c, ALERT_PROBE_MS));
    assert_false(alert_circuit_admit(&c, ALERT_PROBE_MS + 1)); /* one probe, not a crowd */
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_ACCEPTED, &ok, false, 6000), ALERT_CIRCUIT_RESOLVE);
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_ACCEPTED, &ok, false, 6000), ALERT_CIRCUIT_SILENT);
    assert_true(alert_circuit_admit(&c, 6000));

    c = (struct alert_circuit){0};
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_REJECTED, &rejected, false, 0), ALERT_CIRCUIT_RAISE);
    assert_true(alert_circuit_admit(&c, 0)); /* perhaps it was that one message */
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_AGAIN, &busy, false, 0), ALERT_CIRCUIT_SILENT);
    assert_false(alert_circuit_admit(&c, 59999));
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_AGAIN, &slow, false, 100), ALERT_CIRCUIT_SILENT);
    assert_false(alert_circuit_admit(&c, 59999)); /* a later failure does not bring the probe forward */
    assert_true(alert_circuit_admit(&c, 60000));

    c = (struct alert_circuit){0};
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_REFUSED, &disk, true, 0), ALERT_CIRCUIT_RAISE);
    assert_true(alert_circuit_admit(&c, 0)); /* a file that fails at once is always tried */
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_AGAIN, &slow, true, 0), ALERT_CIRCUIT_SILENT);
    assert_false(alert_circuit_admit(&c, 0)); /* one that hangs is not */

    c = (struct alert_circuit){0};
    alert_circuit_recall(&c);
    assert_true(alert_circuit_admit(&c, 0));
    assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_ACCEPTED, &ok, false, 0), ALERT_CIRCUIT_RESOLVE);
}

static void order_within_a_problem(void **state)
{
    (void)state;
    assert_true(alert_overtakes(false, false));
    assert_false(alert_overtakes(false, true));
    assert_false(alert_overtakes(true, false));
    assert_true(alert_outdates(true, false));
    assert_false(alert_outdates(false, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_result_at_every_channel),
        cmocka_unit_test(tries_and_deadline_bound_a_channel),
        cmocka_unit_test(the_record),
        cmocka_unit_test(a_channels_own_alert_goes_past_it),
        cmocka_unit_test(more_than_a_channel_takes),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(circuits),
        cmocka_unit_test(order_within_a_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
