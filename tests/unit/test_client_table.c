/* test_client_table.c - the table of breaker states: every state, permits, epochs, many targets, readers beside the writer. */
#include "client/client_table.h"
#include "common/clock.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STATE(x) REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_##x

static void apply(struct client_slot *s, uint64_t epoch, PB(BreakerState) state, unsigned ramp, int64_t until_unix_ms,
                  uint64_t permit)
{
    PB(BreakerChanged) b = REDOUBT__V1__BREAKER_CHANGED__INIT;
    PB(BreakerPermit) p = REDOUBT__V1__BREAKER_PERMIT__INIT;
    p.id = permit;
    b.epoch = epoch;
    b.state = state;
    b.ramp_percent = ramp;
    b.until_unix_ms = until_unix_ms;
    b.permit = permit ? &p : NULL;
    (void)client_slot_apply(s, &b, clock_mono_ms(), clock_wall_ms());
}

static redoubt_admission admit(struct client_slot *s)
{
    bool ask = false;
    return client_slot_admit(s, &ask);
}

static void states(void **state)
{
    (void)state;
    struct client_table t = {0};
    assert_int_equal(client_table_init(&t), 0);
    assert_null(client_table_find(&t, "llm.a"));
    struct client_slot *s = client_table_enter(&t, "llm.a");
    assert_ptr_equal(client_table_enter(&t, "llm.a"), s);
    assert_ptr_equal(client_table_find(&t, "llm.a"), s);
    assert_true(admit(s).admitted); /* nothing heard */

    int64_t wall = clock_wall_ms();
    apply(s, 5, STATE(OPEN), 0, wall + 20000, 0);
    redoubt_admission a = admit(s);
    assert_false(a.admitted);
    assert_true(a.retry_after_ms > 15000 && a.retry_after_ms <= 20000);
    apply(s, 4, STATE(CLOSED), 100, 0, 0); /* late: older than what is known */
    apply(s, 5, STATE(CLOSED), 100, 0, 0);
    assert_false(admit(s).admitted);
    apply(s, 6, STATE(OPEN), 0, wall - 1000, 0); /* its end is past, but nobody has said that it may be called */
    a = admit(s);
    assert_true(!a.admitted && a.retry_after_ms > 0);
    apply(s, 7, STATE(FORCED_OPEN), 0, 0, 0);
    assert_false(admit(s).admitted);
    static const int passing[] = {STATE(CLOSED), STATE(FORCED_CLOSED), STATE(METRICS_ONLY)};
    for (size_t i = 0; i < 3; i++) {
        apply(s, 8 + i, (PB(BreakerState))passing[i], 100, 0, 0);
        assert_true(admit(s).admitted);
    }
    client_table_done(&t);
}

static bool advise(struct client_slot *s, uint64_t epoch, unsigned hold_ms, int64_t now_ms)
{
    PB(BreakerAdvice) a = REDOUBT__V1__BREAKER_ADVICE__INIT;
    a.epoch = epoch;
    a.hold_ms = hold_ms;
    return client_slot_advise(s, &a, now_ms);
}

static void advice(void **state)
{
    (void)state;
    struct client_table t = {0};
    client_table_init(&t);
    struct client_slot *s = client_table_enter(&t, "x");
    assert_true(advise(s, 0, 5000, clock_mono_ms())); /* before anything was heard */
    redoubt_admission a = admit(s);
    assert_true(!a.admitted && a.retry_after_ms > 3000 && a.retry_after_ms <= 5000);
    apply(s, 5, STATE(CLOSED), 100, 0, 0); /* a state that is newer ends it */
    assert_true(admit(s).admitted);
    assert_false(advise(s, 4, 5000, clock_mono_ms())); /* given before that state */
    assert_true(admit(s).admitted);
    assert_true(advise(s, 5, 5000, clock_mono_ms()));
    apply(s, 5, STATE(CLOSED), 100, 0, 0); /* the same once more, from a resync */
    assert_false(admit(s).admitted);
    advise(s, 5, 1, clock_mono_ms()); /* another replica sees it less dark: the stricter holds */
    assert_false(admit(s).admitted);
    apply(s, 6, STATE(CLOSED), 100, 0, 0);
    assert_true(advise(s, 6, 5000, clock_mono_ms() - 5000)); /* its time is over */
    assert_true(admit(s).admitted);
    advise(s, 6, 600000, clock_mono_ms()); /* nobody is believed for that long at once */
    a = admit(s);
    assert_true(!a.admitted && a.retry_after_ms <= 10000);
    /* Never more than without it: an open breaker stays open, whatever the advice. */
    apply(s, 7, STATE(OPEN), 0, clock_wall_ms() + 60000, 0);
    advise(s, 7, 1, clock_mono_ms() - 1000);
    assert_false(admit(s).admitted);
    apply(s, 8, STATE(HALF_OPEN), 0, 0, 0);
    client_slot_grant(s, 9, clock_mono_ms());
    advise(s, 8, 5000, clock_mono_ms());
    assert_false(admit(s).admitted);
    client_table_done(&t);
}

static void ramp(void **state)
{
    (void)state;
    struct client_table t = {0};
    client_table_init(&t);
    struct client_slot *s = client_table_enter(&t, "x");
    static const unsigned percents[] = {0, 10, 25, 50, 99, 100};
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        apply(s, i + 1, STATE(PROBATION), percents[i], 0, 0);
        unsigned passed = 0, run = 0, longest = 0;
        for (int k = 0; k < 10000; k++) {
            bool in = admit(s).admitted;
            passed += in;
            run = in ? 0 : run + 1;
            longest = run > longest ? run : longest;
        }
        assert_in_range(passed, percents[i] ? percents[i] * 100 - 1 : 0, percents[i] * 100 + 1);
        if (percents[i] >= 10)
            assert_true(longest <= 10);
    }
    client_table_done(&t);
}

static void permits(void **state)
{
    (void)state;
    struct client_table t = {0};
    client_table_init(&t);
    struct client_slot *s = client_table_enter(&t, "x");
    apply(s, 1, STATE(HALF_OPEN), 0, 0, 0);
    bool ask = false;
    redoubt_admission a = client_slot_admit(s, &ask);
    assert_true(!a.admitted && a.retry_after_ms > 0 && ask);
    assert_true(atomic_load(&s->wanted));
    ask = false;
    a = client_slot_admit(s, &ask); /* asked already */
    assert_true(!a.admitted && !ask);
    client_slot_grant(s, 42, clock_mono_ms());
    a = client_slot_admit(s, &ask);
    assert_true(a.admitted && a.permit_id == 42);
    a = client_slot_admit(s, &ask); /* one call, not two */
    assert_true(!a.admitted && ask);

    client_slot_grant(s, 43, clock_mono_ms() - 60000); /* nobody came for it in time */
    assert_false(admit(s).admitted);
    client_slot_grant(s, 44, clock_mono_ms());
    apply(s, 2, STATE(HALF_OPEN), 0, 0, 44); /* the same, told to all */
    apply(s, 3, STATE(HALF_OPEN), 0, 0, 45); /* somebody else's by now */
    assert_false(admit(s).admitted);
    client_slot_grant(s, 46, clock_mono_ms());
    apply(s, 4, STATE(OPEN), 0, 0, 0);
    assert_false(admit(s).admitted);
    apply(s, 5, STATE(HALF_OPEN), 0, 0, 0);
    assert_false(admit(s).admitted); /* it went with the state */
    client_table_done(&t);
}

static void full_table(void **state)
{
    (void)state;
    struct client_table t = {0};
    client_table_init(&t);
    char name[32];
    for (int i = 0; i < CLIENT_SLOTS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_non_null(client_table_enter(&t, name));
    }
    assert_null(client_table_enter(&t, "one-more"));
    assert_null(client_table_find(&t, "one-more"));
    for (int i = 0; i < CLIENT_SLOTS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_string_equal(client_table_find(&t, name)->name, name);
    }
    char longest[TARGET_MAX_LEN + 2];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(client_table_find(&t, longest));
    client_table_done(&t);
}

struct race {
    struct client_table t;
    _Atomic bool stop;
    _Atomic uint64_t admitted;
};

static void *reader(void *arg)
{
    struct race *x = arg;
    char name[32];
    for (unsigned i = 0; !atomic_load(&x->stop); i++) {
        snprintf(name, sizeof name, "t%u", i % 500);
        struct client_slot *s = client_table_find(&x->t, name);
        if (s) {
            assert_string_equal(s->name, name);
            if (admit(s).admitted)
                atomic_fetch_add(&x->admitted, 1);
        }
    }
    return NULL;
}

static void readers_beside_the_writer(void **state)
{
    (void)state;
    static struct race x;
    pthread_t t[3];
    char name[32];
    client_table_init(&x.t);
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, reader, &x);
    for (uint64_t epoch = 1; epoch <= 100 || atomic_load(&x.admitted) == 0; epoch++)
        for (int i = 0; i < 500; i++) {
            snprintf(name, sizeof name, "t%d", i);
            struct client_slot *s = client_table_enter(&x.t, name);
            apply(s, epoch, (PB(BreakerState))(1 + (epoch + (uint64_t)i) % 7), 50, 0, 0);
            client_slot_grant(s, epoch, clock_mono_ms());
        }
    atomic_store(&x.stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    client_table_done(&x.t);
}

/* No bound here: a loaded machine proves nothing. The figure is printed; the bench holds it against a reference. */
static void speed(void **state)
{
    (void)state;
    struct client_table t = {0};
    client_table_init(&t);
    static const char *const names[] = {"llm.openai.gpt-4o", "llm.anthropic.claude", "backend.mcp",
                                        "llm.local.llama3"};
    for (size_t i = 0; i < 4; i++)
        apply(client_table_enter(&t, names[i]), 1, STATE(CLOSED), 100, 0, 0);
    enum { N = 2000000 };
    unsigned in = 0;
    int64_t start = clock_mono_ns();
    for (unsigned i = 0; i < N; i++) {
        bool ask;
        in += client_slot_admit(client_table_find(&t, names[i & 3]), &ask).admitted;
    }
    print_message("admit: %.1f ns\n", (double)(clock_mono_ns() - start) / N);
    assert_int_equal(in, N);
    client_table_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(states),     cmocka_unit_test(advice),
                                       cmocka_unit_test(ramp),       cmocka_unit_test(permits),
                                       cmocka_unit_test(full_table), cmocka_unit_test(readers_beside_the_writer),
                                       cmocka_unit_test(speed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
