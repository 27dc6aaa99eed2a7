/* test_guard_matrix.c - fail secure: whatever is lost, in whatever posture, no action passes that would not pass with all well.
 *
 * One agent stands in each posture. What the guard says to each action with all well is noted; then one thing after the other is lost, and each
 * answer, while it is away and on the way back, is held against that note. */
#include "guard_kit.h"
#include <sys/resource.h>

static const char *const postures[] = {"normal",   "backup_llm",        "recovering",
                                       "degraded", "security_fallback", "frozen"};
static const char *const actions[] = {"block_ip", "close_session", "raise_alert", "collect_logs"};
enum { ACTIONS = sizeof actions / sizeof actions[0] };
/* From loose to strict; RECOVERING passes nothing here (0 %), so that each cell has one answer. */
enum rank { PASSES, WAITS, REFUSED, SILENT };
static enum rank well[KIT_POSTURES][ACTIONS];
static size_t asked, stricter;

static enum rank rank_of(const struct kit_answer *a)
{
    switch (a->decision) {
    case 0:
        return SILENT;
    case DECISION(FORWARDED):
    case DECISION(PERMITTED):
    case DECISION(DUPLICATE):
        return PASSES;
    case DECISION(QUEUED):
        return WAITS;
    default:
        return REFUSED;
    }
}

static void all_at_their_place(void)
{
    for (int p = 0; p < KIT_POSTURES; p++)
        kit_settled(p);
}

/* One answer for each cell; `columns` of them, each within the time. */
static void compare(const char *lost, int columns, int64_t timeout_ms)
{
    char key[32], agent[16];
    for (int p = 0; p < KIT_POSTURES; p++)
        for (int k = 0; k < columns; k++) {
            kit_agent(p, agent);
            struct kit_answer a = kit_ask_with(p, actions[k], kit_key(key), K.epoch[p], "one", timeout_ms);
            enum rank r = rank_of(&a);
            asked++;
            stricter += r > well[p][k];
            if (r < well[p][k])
                fail_msg("without %s, %s, %s: %d instead of %d (%s)", lost, postures[p], actions[k], r, well[p][k],
                         a.detail);
            if (well[p][k] != PASSES && kit_calls(agent, key, NULL) != 0)
                fail_msg("without %s, %s, %s: the backend was called", lost, postures[p], actions[k]);
        }
}

/* Everything as it was with all well, and on the way there never looser. */
static void back(const char *lost)
{
    char key[32];
    int64_t end = clock_mono_ms() + 3 * HARNESS_WAIT_MS;
    for (int p = 0; p < KIT_POSTURES; p++)
        for (int k = 0; k < ACTIONS; k++)
            for (;;) {
                struct kit_answer a = kit_ask_with(p, actions[k], kit_key(key), K.epoch[p], "one", 500);
                enum rank r = rank_of(&a);
                asked++;
                if (r == well[p][k])
                    break;
                if (r < well[p][k])
                    fail_msg("on the way back of %s, %s, %s: %d instead of %d", lost, postures[p], actions[k], r,
                             well[p][k]);
                if (clock_mono_ms() > end)
                    fail_msg("%s is back, but %s, %s stays at %d instead of %d: %s", lost, postures[p], actions[k], r,
                             well[p][k], a.detail);
                usleep(20000);
            }
}

/* Waits until raise_alert of the normal agent is answered in another way than with all well: the loss has been noticed. */
static void noticed(const char *lost)
{
    char key[32];
    int64_t end = clock_mono_ms() + 2 * HARNESS_WAIT_MS;
    for (;;) {
        struct kit_answer a = kit_ask_with(KIT_NORMAL, "raise_alert", kit_key(key), K.epoch[KIT_NORMAL], "one", 500);
        if (rank_of(&a) > PASSES)
            return;
        if (clock_mono_ms() > end)
            fail_msg("the loss of %s is not noticed", lost);
        usleep(10000);
    }
}

static void without_nats(void **state)
{
    (void)state;
    size_t calls = K.n_calls;
    harness_kill(K.nats);
    compare("NATS", 1, 100);
    assert_int_equal(K.n_calls, calls);
    harness_start(K.nats);
    back("NATS");
}

static void without_redis(void **state)
{
    (void)state;
    harness_kill(K.redis);
    compare("Redis", ACTIONS, 5000);
    harness_start(K.redis); /* empty: what it knew is gone as well */
    back("Redis");
    harness_freeze(K.redis);
    compare("an answer of Redis", ACTIONS, 5000);
    harness_thaw(K.redis);
    back("an answer of Redis");
}

static void without_a_disk(void **state)
{
    (void)state;
    struct rlimit was, none;
    assert_int_equal(prlimit(K.guard[0]->pid, RLIMIT_FSIZE, NULL, &was), 0);
    none = was;
    none.rlim_cur = 0;
    assert_int_equal(prlimit(K.guard[0]->pid, RLIMIT_FSIZE, &none, NULL), 0);
    noticed("the disk");
    compare("the disk", ACTIONS, 5000);
    char key[32];
    size_t calls = K.n_calls;
    for (int p = 0; p < KIT_POSTURES; p++)
        for (int k = 0; k < ACTIONS; k++) { /* what cannot be recorded is not done, queued or permitted at all */
            struct kit_answer a = kit_ask(p, actions[k], kit_key(key));
            assert_int_equal(rank_of(&a), REFUSED);
        }
    assert_int_equal(K.n_calls, calls);
    assert_int_equal(prlimit(K.guard[0]->pid, RLIMIT_FSIZE, &was, NULL), 0);
    back("the disk");
}

static void without_a_trusted_baseline(void **state)
{
    (void)state;
    char path[700];
    struct err e = {""};
    snprintf(path, sizeof path, "%s.signoff", K.baseline);
    static const char *const how[] = {"a baseline as it was signed off", "a baseline", "a sign-off",
                                      "a right baseline"};
    for (int i = 0; i < 4; i++) {
        if (i == 0) { /* wider than what was signed off */
            char text[sizeof kit_baseline + 64];
            snprintf(text, sizeof text, "%s  - name: anything\n    postures: [normal]\n", kit_baseline);
            kit_write(K.baseline, text);
        } else if (i == 1) {
            assert_int_equal(unlink(K.baseline), 0);
        } else if (i == 2) {
            assert_int_equal(unlink(path), 0);
        } else {
            kit_write(K.baseline, "version: [");
        }
        noticed(how[i]);
        compare(how[i], ACTIONS, 5000);
        char key[32];
        for (int p = 0; p < KIT_POSTURES; p++) {
            struct kit_answer a = kit_ask(p, "collect_logs", kit_key(key));
            assert_int_equal(rank_of(&a), REFUSED); /* the built-in allows nothing */
        }
        kit_write(K.baseline, kit_baseline);
        if (baseline_sign(K.baseline, "test", NULL, &e))
            fail_msg("%s", e.text);
        back(how[i]);
    }
}

static void without_a_backend(void **state)
{
    (void)state;
    kit_backend_down();
    compare("the backend", ACTIONS, 5000);
    kit_backend_up();
    back("the backend");
    kit_backend(500, 0);
    compare("the backend's health", ACTIONS, 5000);
    kit_backend(0, 0);
    back("the backend's health");
}

/* Killed and started anew: it knows nothing at first, and passes nothing on until it does. */
static void without_itself(void **state)
{
    (void)state;
    size_t calls = K.n_calls;
    harness_kill(K.guard[0]);
    compare("the guard", 1, 50);
    assert_int_equal(K.n_calls, calls);
    harness_start(K.guard[0]);
    back("the guard");
}

/* Stopped in the middle: what was sent to it meanwhile is old when it goes on, and the agent may have been frozen since. */
static void stopped_and_gone_on(void **state)
{
    (void)state;
    char key[32];
    harness_freeze(K.guard[0]);
    int from = K.keys;
    for (int i = 0; i < 5; i++)
        (void)kit_ask_with(KIT_NORMAL, "raise_alert", kit_key(key), K.epoch[KIT_NORMAL], "one", 50);
    int64_t until = clock_mono_ms() + TILT_GAP_MS + 300;
    while (clock_mono_ms() < until)
        compare("a guard that moves", 1, 50);
    int to = K.keys;
    harness_thaw(K.guard[0]);
    back("a guard that moves");
    for (int i = from + 1; i <= to; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        assert_int_equal(kit_calls("agent-0", key, NULL), 0);
    }
}

/* A second replica, and then that one alone. */
static void without_a_fellow(void **state)
{
    (void)state;
    K.guard[1] = kit_guard("guard-1");
    back("nothing");
    harness_kill(K.guard[0]);
    compare("one of two", ACTIONS, 300);
    back("one of two");
    harness_start(K.guard[0]);
    back("one of two");
    harness_freeze(K.guard[1]);
    compare("one of two that moves", ACTIONS, 300);
    harness_kill(K.guard[1]);
    back("one of two that moves");
}

static void with_all_well(void **state)
{
    (void)state;
    static const enum rank expected[KIT_POSTURES][ACTIONS] = {
        {PASSES, PASSES, PASSES, PASSES},  {PASSES, PASSES, PASSES, PASSES},   {WAITS, REFUSED, REFUSED, PASSES},
        {WAITS, REFUSED, REFUSED, PASSES}, {REFUSED, REFUSED, PASSES, PASSES}, {REFUSED, REFUSED, REFUSED, REFUSED},
    };
    char key[32];
    for (int p = 0; p < KIT_POSTURES; p++)
        kit_direct(p, (enum kit_posture)p, 0);
    all_at_their_place();
    for (int p = 0; p < KIT_POSTURES; p++)
        for (int k = 0; k < ACTIONS; k++) {
            struct kit_answer a = kit_ask(p, actions[k], kit_key(key));
            well[p][k] = rank_of(&a);
            if (well[p][k] != expected[p][k])
                fail_msg("%s, %s: %d (%s)", postures[p], actions[k], well[p][k], a.detail);
        }
}

static void it_was_a_test(void **state)
{
    (void)state;
    assert_true(asked > 400);
    assert_true(stricter > 40); /* the losses were losses */
}

static int setup(void **state)
{
    (void)state;
    kit_open(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kit_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_all_well),
        cmocka_unit_test(without_nats),
        cmocka_unit_test(without_redis),
        cmocka_unit_test(without_a_disk),
        cmocka_unit_test(without_a_trusted_baseline),
        cmocka_unit_test(without_a_backend),
        cmocka_unit_test(without_itself),
        cmocka_unit_test(stopped_and_gone_on),
        cmocka_unit_test(without_a_fellow),
        cmocka_unit_test(it_was_a_test),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
