/* test_alert_queue.c - a channel's queue, its token bucket and its pause: who goes when, and who is told at once that it will not. */
#include "alert/alert_room.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the bucket ---- */

static void no_limit_is_no_wait(void **state)
{
    (void)state;
    struct alert_bucket b = {0};
    const struct alert_bucket_rule r = {0, 0};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(alert_bucket_at(&b, &r, i, 77), 77);
        alert_bucket_take(&b, &r, 77);
    }
    alert_bucket_hold(&b, 500);
    assert_int_equal(alert_bucket_at(&b, &r, 5, 77), 500);
    alert_bucket_hold(&b, 400); /* only ever later */
    assert_int_equal(alert_bucket_at(&b, &r, 5, 77), 500);
    assert_int_equal(alert_bucket_at(&b, &r, 5, 501), 501);
}

static void a_burst_then_the_rate(void **state)
{
    (void)state;
    struct alert_bucket b = {0};
    const struct alert_bucket_rule r = {60, 5};
    int64_t now = 1000000;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(alert_bucket_at(&b, &r, 0, now), now);
        alert_bucket_take(&b, &r, now);
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(alert_bucket_at(&b, &r, i, now), now + (i + 1) * 1000);
    now += 1000;
    assert_int_equal(alert_bucket_at(&b, &r, 0, now), now);
    alert_bucket_take(&b, &r, now);
    assert_int_equal(alert_bucket_at(&b, &r, 0, now), now + 1000);
    now += 3600000; /* never more than a burst, however long it rested */
    assert_int_equal(alert_bucket_at(&b, &r, 4, now), now);
    assert_int_equal(alert_bucket_at(&b, &r, 5, now), now + 1000);
}

/* Whatever the rule and whoever asks when: at most burst + rate x time in any window, and what was promised for a place holds. */
static void never_more_than_the_rule(void **state)
{
    (void)state;
    uint64_t rng = 88172645463325252u;
    for (int story = 0; story < 300; story++) {
        struct alert_bucket b = {0};
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        const struct alert_bucket_rule r = {(int64_t)(1 + (rng >> 33) % 6000), (int64_t)((rng >> 20) % 8)};
        int64_t now = (int64_t)((rng >> 40) % 100000), taken[400];
        for (int n = 0; n < 400; n++) {
            int64_t promised = alert_bucket_at(&b, &r, 3, now);
            int64_t last = now;
            for (int k = 0; k < 4 && n < 400; k++) {
                int64_t at = alert_bucket_at(&b, &r, 0, last);
                assert_true(at >= last);
                if (at > last)
                    assert_int_equal(alert_bucket_at(&b, &r, 0, at),
                                     at); /* it may then, and not a millisecond before */
                if (at > last)
                    assert_true(alert_bucket_at(&b, &r, 0, at - 1) >= at);
                alert_bucket_take(&b, &r, at);
                last = taken[n] = at;
                if (k < 3)
                    n++;
                if (k == 3)
                    assert_in_range(at, promised, promised + 4);
            }
            rng = rng * 6364136223846793005u + 1442695040888963407u;
            now = last + (int64_t)((rng >> 33) % 3 ? 0 : (rng >> 40) % 20000);
        }
        int64_t burst = r.burst > 1 ? r.burst : 1;
        for (int i = 0; i < 400; i += 7)
            for (int k = i; k < 400; k++)
                assert_true(k - i + 1 <= burst + (taken[k] - taken[i] + 1) * r.per_min / 60000 + 1);
    }
}

/* ---- the queue ---- */

#define JOBS 64
struct bench {
    struct service service;
    struct alert_room room;
    struct alert_channel c;
    struct alert_job *sent[JOBS]; /* under way */
    int n_sent;
    struct {
        char id[8];
        enum alert_fault fault;
    } ended[JOBS];
    int n_ended;
    PB(Alert) alerts[JOBS];
    const PB(Alert) * lists[JOBS];
    struct alert_message messages[JOBS];
    char ids[JOBS][8];
    int n;
    int64_t now;
};
static struct bench *the;

static void on_send(struct alert_channel *c, struct alert_job *j)
{
    (void)c;
    the->sent[the->n_sent++] = j;
}
static const struct alert_kind kind = {
    .name = "slack", .proto = ALERT_PROTO_HTTP, .at_once = 2, .send = on_send, .rate_per_min = 60, .burst = 3};

static void bench_open(struct bench *t, int64_t queue)
{
    *t = (struct bench){.now = clock_mono_ms()};
    the = t;
    t->room.service = &t->service;
    t->room.settling = true; /* ticks come from the test */
    t->room.refs = 1;
    t->c = (struct alert_channel){.room = &t->room, .kind = &kind, .refs = 1000, .at_once = 2};
    t->c.rule = (struct alert_bucket_rule){kind.rate_per_min, kind.burst};
    t->c.set.queue = queue;
    t->c.set.name = (char *)"chat";
}

static void on_done(void *ctx, const struct alert_result *r)
{
    const char *id = ctx;
    snprintf(the->ended[the->n_ended].id, 8, "%s", id);
    the->ended[the->n_ended++].fault = r->outcome.fault;
}

static struct alert_job *ask(struct bench *t, bool urgent, bool many, int64_t within_ms)
{
    int i = t->n++;
    snprintf(t->ids[i], 8, "a%d", i);
    t->alerts[i] = (PB(Alert))REDOUBT__V1__ALERT__INIT;
    t->alerts[i].id = t->ids[i];
    t->lists[i] = &t->alerts[i];
    t->messages[i] = alert_message_one(&t->lists[i], NULL);
    if (many)
        t->messages[i].kind = ALERT_MESSAGE_DIGEST;
    struct alert_job *j =
        alert_channel_send(&t->c, &t->messages[i], urgent, 1000, t->now + within_ms, on_done, t->ids[i]);
    assert_non_null(j);
    return j;
}

static int64_t tick(struct bench *t)
{
    int64_t next = alert_channel_tick(&t->c, t->now);
    return next == INT64_MAX ? -1 : next - t->now;
}

static void end_sent(struct bench *t, int status, int64_t retry_after_ms)
{
    while (t->n_sent > 0) {
        struct alert_job *j = t->sent[--t->n_sent];
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_NONE, status, retry_after_ms}, NULL);
    }
}

static int ended(const struct bench *t, enum alert_fault fault)
{
    int n = 0;
    for (int i = 0; i < t->n_ended; i++)
        n += t->ended[i].fault == fault;
    return n;
}

static void tokens_first_for_urgent_ones(void **state)
{
    (void)state;
    struct bench t;
    bench_open(&t, 100);
    for (int i = 0; i < 5; i++)
        ask(&t, false, false, 60000);
    tick(&t);
    assert_int_equal(t.n_sent, 2); /* at_once */
    end_sent(&t, 200, -1);
    tick(&t);
    assert_int_equal(t.n_sent, 1); /* the third token was the last */
    end_sent(&t, 200, -1);
    struct alert_job *urgent = ask(&t, true, false, 60000);
    int64_t wait = tick(&t);
    assert_in_range(wait, 1, 1000);
    assert_int_equal(t.n_sent, 0);
    t.now += wait;
    tick(&t);
    assert_int_equal(t.n_sent, 1);
    assert_ptr_equal(t.sent[0], urgent);
    end_sent(&t, 200, -1);
    for (int i = 0; i < 2; i++) {
        t.now += 1000;
        tick(&t);
        assert_int_equal(t.n_sent, 1);
        end_sent(&t, 200, -1);
    }
    assert_int_equal(t.n_ended, 6);
    assert_int_equal(ended(&t, ALERT_FAULT_NONE), 6);
    assert_int_equal(tick(&t), -1);
}

static void too_long_a_wait_is_said_at_once(void **state)
{
    (void)state;
    struct bench t;
    bench_open(&t, 100);
    for (int i = 0; i < 20; i++) /* 3 tokens now, then one a second: what would wait longer than 10 s is told so */
        ask(&t, false, false, 60000);
    tick(&t);
    assert_int_equal(t.n_sent, 2);
    assert_int_equal(t.n_ended, 7);
    for (int i = 0; i < 7; i++) {
        char id[8];
        snprintf(id, sizeof id, "a%d", 13 + i); /* those before them are not touched */
        assert_string_equal(t.ended[i].id, id);
        assert_int_equal(t.ended[i].fault, ALERT_FAULT_OVERFLOW);
    }
    end_sent(&t, 200, -1);
    tick(&t);
    end_sent(&t, 200, -1);
    assert_int_equal(t.c.n_waiting, 10);
    /* Urgent ones, and those that hold many, wait as long as they may; an urgent one pushes the last ordinary one over the edge: */
    int before = t.n_ended;
    ask(&t, true, false, 60000);
    ask(&t, false, true, 60000);
    tick(&t);
    assert_int_equal(t.n_ended, before + 1);
    assert_string_equal(t.ended[before].id, "a12");
    /* but nobody waits for what cannot come in time. */
    ask(&t, true, false, 1500);
    tick(&t);
    assert_int_equal(t.n_ended, before + 2);
    assert_string_equal(t.ended[before + 1].id, "a22");
    assert_int_equal(t.ended[before + 1].fault, ALERT_FAULT_OVERFLOW);
    int sent = 0;
    while (t.c.n_waiting > 0) {
        t.now += 1000;
        tick(&t);
        assert_true(t.n_sent <= 1);
        sent += t.n_sent;
        end_sent(&t, 200, -1);
    }
    assert_int_equal(sent, 11);
    assert_int_equal(ended(&t, ALERT_FAULT_LATE), 0);
}

static void a_full_queue_says_no(void **state)
{
    (void)state;
    struct bench t;
    bench_open(&t, 3);
    t.c.rule = (struct alert_bucket_rule){0, 0};
    ask(&t, false, false, 60000);
    ask(&t, false, false, 60000);
    tick(&t);
    assert_int_equal(t.n_sent, 2);
    for (int i = 0; i < 5; i++)
        ask(&t, false, false, 60000);
    assert_int_equal(t.n_ended, 0); /* never from inside */
    tick(&t);
    assert_int_equal(ended(&t, ALERT_FAULT_OVERFLOW), 2);
    assert_int_equal(t.c.n_waiting, 3);
    ask(&t, true, false, 60000); /* takes the place of the last ordinary one */
    tick(&t);
    assert_int_equal(ended(&t, ALERT_FAULT_OVERFLOW), 3);
    assert_string_equal(t.ended[2].id, "a4");
    ask(&t, false, true, 60000); /* a digest is never too many */
    tick(&t);
    assert_int_equal(ended(&t, ALERT_FAULT_OVERFLOW), 3);
    assert_int_equal(t.c.n_waiting, 4);
    end_sent(&t, 200, -1);
    tick(&t);
    assert_string_equal(t.sent[0]->message->id, "a7"); /* urgent first */
    while (t.c.n_waiting > 0 || t.n_sent > 0) {
        end_sent(&t, 200, -1);
        tick(&t);
    }
}

static void retry_after_holds_all(void **state)
{
    (void)state;
    struct bench t;
    bench_open(&t, 100);
    ask(&t, false, false, 60000);
    tick(&t);
    end_sent(&t, 429, 30000);
    assert_int_equal(t.ended[0].fault, ALERT_FAULT_NONE); /* the asker reads the 429 from its status */
    ask(&t, false, false, 60000);
    ask(&t, true, false, 60000);
    struct alert_job *test = ask(&t, true, false, 60000);
    test->forced = true;
    tick(&t);
    assert_int_equal(ended(&t, ALERT_FAULT_OVERFLOW), 1); /* 30 s: the ordinary one goes into a digest */
    assert_int_equal(t.n_sent, 1);
    assert_ptr_equal(t.sent[0], test); /* a person asks */
    assert_int_equal(t.c.n_waiting, 1);
    t.n_sent = 0;
    t.now += 29000;
    tick(&t);
    assert_int_equal(t.n_sent, 0);
    t.now += 2000;
    tick(&t);
    assert_int_equal(t.n_sent, 1); /* the urgent one, when the pause is over */
    end_sent(&t, 200, -1);
    t.sent[t.n_sent++] = test;
    /* A test that is taken ends a pause. */
    alert_bucket_hold(&t.c.bucket, t.now + 3600000);
    end_sent(&t, 200, -1);
    ask(&t, false, false, 60000);
    t.now += 5000;
    tick(&t);
    assert_int_equal(t.n_sent, 1);
    end_sent(&t, 200, -1);
}

static void dropped_jobs_cost_nothing(void **state)
{
    (void)state;
    struct bench t;
    bench_open(&t, 2);
    struct alert_job *j[4];
    for (int i = 0; i < 4; i++)
        j[i] = ask(&t, false, false, 60000);
    for (int i = 0; i < 4; i++)
        alert_job_drop(j[i]); /* those that were refused, too */
    assert_int_equal(tick(&t), -1);
    assert_int_equal(t.n_ended, 0);
    assert_int_equal(t.c.n_waiting, 0);
}

static void overflow_is_no_fault_of_the_channel(void **state)
{
    (void)state;
    const struct alert_outcome o = {ALERT_FAULT_OVERFLOW, 0, -1};
    for (int proto = ALERT_PROTO_SMTP; proto <= ALERT_PROTO_FILE; proto++)
        assert_int_equal(alert_classify((enum alert_proto)proto, &o), ALERT_CLASS_OVERFLOW);
    for (int s = ALERT_CIRCUIT_OK; s <= ALERT_CIRCUIT_BROKEN; s++) {
        struct alert_circuit c = {.state = s, .probe_ms = 5};
        assert_int_equal(alert_circuit_told(&c, ALERT_CLASS_OVERFLOW, &o, false, 100), ALERT_CIRCUIT_SILENT);
        assert_int_equal(c.state, s);
        assert_int_equal(c.probe_ms, 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit_is_no_wait),
        cmocka_unit_test(a_burst_then_the_rate),
        cmocka_unit_test(never_more_than_the_rule),
        cmocka_unit_test(tokens_first_for_urgent_ones),
        cmocka_unit_test(too_long_a_wait_is_said_at_once),
        cmocka_unit_test(a_full_queue_says_no),
        cmocka_unit_test(retry_after_holds_all),
        cmocka_unit_test(dropped_jobs_cost_nothing),
        cmocka_unit_test(overflow_is_no_fault_of_the_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
