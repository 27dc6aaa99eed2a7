/* test_rollback_share.c - traffic by shares of work: real agents of two versions on libredoubt, a real NATS server. */
#include "client/redoubt.h"
#include "traffic_kit.h"

#define KEYS 4000

struct agents {
    struct harness_proc *nats;
    redoubt *r[4];
};

static enum redoubt_ack on_directive(void *ctx, const redoubt_directive *d, char detail[256])
{
    (void)ctx, (void)d, (void)detail;
    return REDOUBT_APPLIED;
}

static redoubt *agent(struct town *t, const char *instance, const char *version)
{
    struct agents *a = t->more;
    char error[256];
    redoubt *r = redoubt_open(&(redoubt_options){.url = a->nats->url,
                                                 .agent = "mcp",
                                                 .instance = instance,
                                                 .on_directive = on_directive,
                                                 .deployment = version ? "mcp" : NULL,
                                                 .version = version},
                              error);
    if (!r)
        fail_msg("%s", error);
    return r;
}

static void open_it(struct town *t)
{
    struct err e;
    struct agents *a = t->more = calloc(1, sizeof *a);
    a->nats = harness_nats(t->h, "nats", NULL);
    struct bus_opts o = {.url = a->nats->url, .name = "test", .inbox_prefix = "_INBOX_rollback"};
    t->s.bus = bus_open(&t->s.loop, &o, &e);
    assert_non_null(t->s.bus);
    TOWN_WAIT(t, bus_up(t->s.bus));
    town_traffic(t, &traffic_nats, "type: nats");
}

static int share_teardown(void **state)
{
    struct agents *a = ((struct town *)*state)->more;
    for (size_t i = 0; i < 4; i++)
        redoubt_close(a->r[i]);
    free(a);
    return town_teardown(state);
}

static unsigned keys_of(redoubt *r, bool taken[KEYS])
{
    unsigned n = 0;
    char key[32];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "event-%d", i);
        taken[i] = redoubt_take_share(r, key);
        n += taken[i];
        if (taken[i])
            redoubt_share_done(r);
    }
    return n;
}

static void test_steps(void **state)
{
    struct town *t = *state;
    static const int steps[] = {100, 50, 25, 10, 0};
    static bool one[KEYS], other[KEYS], twin[KEYS];
    open_it(t);
    struct agents *a = t->more;
    a->r[0] = agent(t, "one", "v2");
    a->r[1] = agent(t, "two", "v1");
    a->r[2] = agent(t, "three", "00000000000000v1"); /* knows itself by its id */
    TOWN_OK(t, town_check(t));
    TOWN_OK(t, town_view(t)); /* nobody has said otherwise: what others have deployed has everything */
    assert_int_equal(t->share[0], 100);
    assert_int_equal(keys_of(a->r[0], one), KEYS);
    unsigned before = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        TOWN_OK(t, town_set(t, steps[i], 100 - steps[i], NULL, 0));
        TOWN_WAIT(t, town_view(t) && t->share[0] == steps[i] && t->share[1] == 100 - steps[i]);
        unsigned n = keys_of(a->r[0], one), m = 0;
        /* Those of v1 may not have spoken before the first step: then nobody waited for them. */
        TOWN_WAIT(t, (m = keys_of(a->r[1], other)) + n == KEYS && keys_of(a->r[2], twin) == m);
        assert_in_range(n * 100 / KEYS + 3, (unsigned)steps[i], (unsigned)steps[i] + 6);
        assert_true(m >= before); /* what has moved stays moved */
        before = m;
        for (int k = 0; k < KEYS; k++) {
            assert_int_equal(one[k] + other[k], 1);
            assert_int_equal(other[k], twin[k]);
        }
        /* By turn: of any 100 exactly so many. */
        int turns = 0;
        for (int k = 0; k < 100; k++)
            turns += redoubt_take_share(a->r[1], NULL);
        assert_int_equal(turns, 100 - steps[i]);
        for (int k = 0; k < turns; k++)
            redoubt_share_done(a->r[1]);
    }
    uint64_t epoch = t->epoch;
    t->epoch--; /* asked for again, after a crash in its middle */
    TOWN_OK(t, town_set(t, 0, 100, NULL, 0));
    assert_int_equal(t->epoch, epoch);
}

static void test_in_hand(void **state)
{
    struct town *t = *state;
    open_it(t);
    struct agents *a = t->more;
    a->r[0] = agent(t, "one", "v2");
    a->r[1] = agent(t, "two", "v1");
    TOWN_OK(t, town_check(t));
    TOWN_OK(t, town_set(t, 50, 50, NULL, 0));
    TOWN_WAIT(t, town_view(t) && t->share[0] == 50);
    int taken = 0;
    while (taken < 2)
        taken += redoubt_take_share(a->r[0], NULL);
    TOWN_OK(t, town_set(t, 0, 100, NULL, 0));
    TOWN_WAIT(t, town_view(t) && t->share[0] == 0);
    assert_int_equal(t->sessions[0], 2);
    redoubt_share_done(a->r[0]);
    redoubt_share_done(a->r[0]);
    TOWN_WAIT(t, town_view(t) && t->sessions[0] == 0); /* said at once, not 10 s later */
}

/* The version that is to get more does not speak: the other keeps everything. */
static void test_silent_target(void **state)
{
    struct town *t = *state;
    static bool taken[KEYS];
    open_it(t);
    struct agents *a = t->more;
    a->r[0] = agent(t, "one", "v2");
    TOWN_OK(t, town_check(t));
    TOWN_OK(t, town_set(t, 100, 0, NULL, 0));
    TOWN_WAIT(t, town_view(t));
    assert_false(town_set(t, 50, 50, NULL, 0));
    town_says(t, false, "no instance of v1 has said");
    assert_int_equal(keys_of(a->r[0], taken), KEYS);
    /* It comes, learns its share from the stream, and the next try goes through. */
    a->r[1] = agent(t, "two", "v1");
    TOWN_WAIT(t, town_set(t, 50, 50, NULL, 0));
    TOWN_WAIT(t, town_view(t) && t->share[0] == 50);
    /* An agent without versions takes everything, and one of a version that is not named does. */
    a->r[2] = agent(t, "three", NULL);
    a->r[3] = agent(t, "four", "v9");
    assert_int_equal(keys_of(a->r[2], taken), KEYS);
    assert_int_equal(keys_of(a->r[3], taken), KEYS);
    /* NATS goes and comes: agents keep their shares, nothing is set meanwhile. */
    harness_kill(a->nats);
    TOWN_WAIT(t, !bus_up(t->s.bus));
    assert_false(town_set(t, 25, 75, NULL, 0));
    town_says(t, false, "NATS is not reachable");
    unsigned n = keys_of(a->r[0], taken);
    assert_in_range(n, KEYS * 45 / 100, KEYS * 55 / 100);
    harness_start(a->nats);
    TOWN_WAIT(t, bus_up(t->s.bus) && town_set(t, 25, 75, NULL, 0));
    TOWN_WAIT(t, town_view(t) && t->share[0] == 25);
}

static void test_nobody(void **state)
{
    struct town *t = *state;
    char error[256];
    open_it(t);
    TOWN_OK(t, town_view(t));
    /* Nobody speaks in 12 s. */
    assert_false(town_check(t));
    town_says(t, false, "no instance has said");
    t->done = false;
    t->kind->check(t->t, town_on_result, t);
    t->kind->view(t->t, NULL, 0, town_on_view, t);
    town_close_traffic(t);
    town_turn(t, 50);
    assert_false(t->done);
    /* Half of the options is refused. */
    static const redoubt_options wrong[] = {
        {.url = "nats://127.0.0.1:1", .agent = "mcp", .on_directive = on_directive, .deployment = "mcp"},
        {.url = "nats://127.0.0.1:1", .agent = "mcp", .on_directive = on_directive, .version = "v1"},
        {.url = "nats://127.0.0.1:1",
         .agent = "mcp",
         .on_directive = on_directive,
         .deployment = "M.C",
         .version = "v1"},
        {.url = "nats://127.0.0.1:1",
         .agent = "mcp",
         .on_directive = on_directive,
         .deployment = "mcp",
         .version = ""},
        {.url = "nats://127.0.0.1:1",
         .agent = "mcp",
         .on_directive = on_directive,
         .deployment = "mcp",
         .version = "\xff"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_null(redoubt_open(&wrong[i], error));
        assert_true(strstr(error, "version") || strstr(error, "deployment"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_steps, town_setup, share_teardown),
        cmocka_unit_test_setup_teardown(test_in_hand, town_setup, share_teardown),
        cmocka_unit_test_setup_teardown(test_silent_target, town_setup, share_teardown),
        cmocka_unit_test_setup_teardown(test_nobody, town_setup, share_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
