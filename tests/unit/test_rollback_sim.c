/* test_rollback_sim.c - whole jobs of the decider in a world where everything goes wrong, by seed.
 *
 * One seed is one story: a rollback of 1 to 4 instances by some plan, while acts fail, are slow or end without a word, who acts dies between store and act
 * or in the middle of one, instances die and come back or do not, the traffic forgets its weights or is set by others, executor and traffic are away,
 * checks fail or say nothing, clocks jump, and people order this and that. Must hold at every moment:
 *  - traffic goes only to what can carry it, and nothing with traffic is stopped or removed; where nobody kills instances, capacity is never short;
 *  - one act at a time; the document is valid, and read back by whoever takes over; there is always something that will wake it;
 *  - no data are replaced that were not saved;
 * and in the end, when nothing goes wrong any more and a person decides: the job ends, with exactly one version, all the traffic, the writer going on, and the
 * data that it should have. SEED=n runs one seed and tells; SEEDS=n runs so many. */
#include "rollback_world.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SEEDS_HERE 150
#else
#define SEEDS_HERE 1500
#endif
#define SEEDS_VALGRIND 2

static bool tells;

struct sums {
    unsigned done, aborted, refused, holds, crashes, acts, weights, left, stores;
};

/* ---- stories ---- */

struct story {
    struct world w;
    unsigned instances;
    unsigned trouble; /* further disturbances */
    bool foreign;     /* somebody has deployed in the middle */
    bool left;        /* an abort by force */
};

static void tell(const struct story *s, const char *what, int64_t n)
{
    const struct rollback_job *j = &s->w.doc.job;
    if (tells)
        print_message("%8" PRId64 " %-9s stage %d step %zu weight %3d | %s %" PRId64 " | %s\n", s->w.now_ms - T0,
                      sm_name(&rollback_sm, j->phase), j->stage, j->step, j->weight, what, n, j->reason);
}

static void kill_some(struct story *s, int side, bool all)
{
    struct world *w = &s->w;
    for (int i = 0; i < MAX; i++) {
        struct instance *x = &w->side[side][i];
        if (!x->there || (!all && chance(w, 50)))
            continue;
        x->running = false;
        x->again_ms = chance(w, 70) ? w->now_ms + 500 + below(w, 8000) : 0;
        if (w->doc.job.from_stopped && side == w->doc.job.from_side)
            x->again_ms = 0; /* it was stopped on purpose */
    }
}

static void disturb(struct story *s)
{
    struct world *w = &s->w;
    int side = (int)below(w, 2), what = (int)below(w, 14);
    tell(s, "disturbed", what);
    switch (what) {
    case 0:
    case 1:
    case 2:
        w->crash_in = 1 + (int)below(w, 12);
        break;
    case 3:
        if (w->alive)
            crash(w);
        break;
    case 4:
        kill_some(s, side, false);
        break;
    case 5:
        kill_some(s, side, true);
        break;
    case 6:
        w->share[0] = w->share[1] = 50;
        w->others_ms = w->now_ms;
        break;
    case 7:
        w->executor_away = !w->executor_away;
        break;
    case 8:
        w->traffic_away = !w->traffic_away;
        break;
    case 9:
        w->bad_target = chance(w, 30);
        w->bad_errors = chance(w, 50);
        break;
    case 10:
        w->silent = !w->silent;
        break;
    case 11:
        w->fails_percent = (int)below(w, 40);
        w->lasting_percent = (int)below(w, 20);
        w->slow_ms = (int)below(w, 4000);
        w->deaf_percent = chance(w, 30) ? 30 : 0;
        break;
    case 12:
        w->now_ms += below(w, 120000); /* the clock jumps, or nobody acts for a while */
        break;
    default:
        if (chance(w, 15) && w->rule.gradual && rollback_busy(&w->doc) &&
            w->doc.job.phase != ROLLBACK_PHASE(PREPARE)) {
            put(w, w->doc.job.from_side, V3, s->instances);
            s->foreign = true;
        }
    }
}

static void person(struct story *s)
{
    struct world *w = &s->w;
    static const enum rollback_event_kind orders[] = {ROLLBACK_HOLD_IT, ROLLBACK_RESUME, ROLLBACK_ABORT,
                                                      ROLLBACK_EMERGENCY, ROLLBACK_START};
    enum rollback_event_kind kind = orders[below(w, 5)];
    bool holds = w->doc.job.phase == ROLLBACK_PHASE(HOLD);
    if (!w->alive || !rollback_busy(&w->doc) || (!holds && chance(w, 85)))
        return;
    bool force = chance(w, 50) && !rollback_clearing(&w->doc.job) && kind == ROLLBACK_RESUME;
    int status = order(w, kind, kind == ROLLBACK_START ? "another" : "", force, false);
    tell(s, "ordered", (int)kind * 10 + status);
    if (kind == ROLLBACK_START && w->alive && status != STATUS(UNAVAILABLE))
        broke(w, "a second job was not refused: %s", w->reply.text);
}

/* Nothing goes wrong any more, and a person sees to it. */
static void calm(struct story *s)
{
    struct world *w = &s->w;
    w->crash_in = 0;
    w->fails_percent = w->deaf_percent = w->slow_ms = 0;
    w->executor_away = w->traffic_away = w->silent = w->bad_target = w->bad_errors = false;
    w->bad_from_weight = -1;
    for (unsigned i = 0; i < 60 && !w->broken[0]; i++) {
        run(w, 60000);
        tell(s, "calm", i);
        if (!rollback_busy(&w->doc))
            return;
        if (w->doc.job.phase != ROLLBACK_PHASE(HOLD))
            continue;
        bool clearing = rollback_clearing(&w->doc.job);
        if (clearing) {
            s->left = s->foreign && i > 6;
            order(w, ROLLBACK_RESUME, "", s->left, false);
        } else if (i % 2 && !s->foreign)
            order(w, ROLLBACK_RESUME, "", true, false);
        else if (i > 6 && s->foreign) {
            s->left = true;
            order(w, ROLLBACK_ABORT, "", true, false);
        } else
            order(w, ROLLBACK_ABORT, "", false, false);
        tell(s, "ordered in the calm", w->reply.status);
    }
    broke(w, "it never ends: %s", w->doc.job.reason);
}

static void check_data(struct story *s)
{
    struct world *w = &s->w;
    const struct rollback_job *j = &w->doc.job;
    unsigned base = 1;
    if (j->phase == ROLLBACK_PHASE(DONE) && j->plan.data == ROLLBACK_DATA_RESTORE)
        base = 7;
    if (j->phase == ROLLBACK_PHASE(DONE) && j->plan.data == ROLLBACK_DATA_MIGRATE ? w->data.base < 1000
                                                                                  : w->data.base != base)
        broke(w, "the data of %u stand at the end, not of %u", w->data.base, base);
}

static void set_up(struct story *s, uint64_t seed)
{
    static const int plans[][5] = {{100, 50, 25, 10, 0}, {50, 0}, {0}, {100, 0}, {90, 60, 30, 0}};
    static const size_t lengths[] = {5, 2, 1, 2, 4};
    struct world *w = &s->w;
    memset(s, 0, sizeof *s);
    world_init(w, seed, 1);
    s->instances = 1 + below(w, 4);
    size_t plan = below(w, 5);
    w->rule.gradual = !chance(w, 15);
    w->rule.goes_home = w->rule.gradual && chance(w, 25);
    w->rule.n_steps = lengths[plan];
    memcpy(w->rule.weight, plans[plan], lengths[plan] * sizeof(int));
    int side = w->rule.gradual && !w->rule.goes_home ? (int)below(w, 2) : 0;
    memset(w->side, 0, sizeof w->side);
    put(w, side, V2, s->instances);
    w->share[side] = 100;
    w->share[!side] = 0;
    w->has_writer = chance(w, 80);
    w->counts_sessions = chance(w, 50);
    w->rule.has_data = chance(w, 85);
    w->rule.has_migration = chance(w, 30);
    if (chance(w, 30)) {
        rollback_find(&w->doc, V1)->data_schema = 1;
        rollback_find(&w->doc, V2)->data_schema = 2;
    }
    struct rollback_lineage *l = &w->doc.lineage[0];
    w->snapshots[w->n_snapshots++] = (struct data){7, 0};
    w->doc.n_lineage = 1;
    l->verified = true;
    l->taken_ms = T0 - 1500000;
    snprintf(l->version, sizeof l->version, V1);
    snprintf(l->snapshot, sizeof l->snapshot, "snapshot-0");
    w->stored = w->doc;
    s->trouble = below(w, 12);
    if (s->trouble > 0 && chance(w, 20)) {
        w->fails_percent = (int)below(w, 40);
        w->lasting_percent = (int)below(w, 50);
    }
    w->quiet = s->trouble == 0 && w->rule.gradual;
    if (chance(w, 20))
        w->bad_from_weight = (int)below(w, 100);
}

static bool story(uint64_t seed, struct sums *sums)
{
    static struct story story;
    struct story *s = &story;
    struct world *w = &s->w;
    set_up(s, seed);
    int status = order(w, ROLLBACK_START, "job-1", false, chance(w, 10));
    if (status != STATUS(OK))
        broke(w, "it is not started: %s", w->reply.text);
    for (unsigned i = 0; i < 200 && rollback_busy(&w->doc) && !w->broken[0] && s->trouble > 0; i++) {
        run(w, 200 + below(w, 4000));
        tell(s, "runs", i);
        if (chance(w, 25)) {
            disturb(s);
            s->trouble--;
        }
        person(s);
    }
    /* Without trouble a job must come to its end by itself, or hold with a reason. */
    if (s->trouble == 0 && !w->broken[0])
        calm(s);
    else if (rollback_busy(&w->doc))
        calm(s);
    if (!w->alive) { /* who ended it is dead, and has perhaps not said so */
        w->crash_in = 0;
        run(w, 10000);
        if (rollback_busy(&w->doc))
            calm(s);
    }
    s->left |= strstr(w->doc.job.reason, "by force") != NULL;
    if (!w->broken[0] && !s->foreign && !s->left && w->doc.job.phase != ROLLBACK_PHASE(REFUSED)) {
        check_end(w, w->doc.job.plan.instances ? w->doc.job.plan.instances : s->instances);
        check_data(s);
    }
    if (w->paused && !s->left)
        broke(w, "the writer is left paused");
    sums->done += w->done;
    sums->aborted += w->aborted;
    sums->refused += w->refused;
    sums->holds += w->holds;
    sums->crashes += w->crashes;
    sums->acts += w->acts;
    sums->weights += w->weights;
    sums->stores += w->stores;
    sums->left += s->left;
    if (w->broken[0])
        print_message("SEED=%" PRIu64 ": %s\n", seed, w->broken);
    return !w->broken[0];
}

static void test_stories(void **unused)
{
    (void)unused;
    struct sums s = {0};
    const char *one = getenv("SEED"), *many = getenv("SEEDS");
    tells = one != NULL;
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t n = one ? 1 : many ? strtoull(many, NULL, 10) : getenv("VALGRIND") ? SEEDS_VALGRIND : SEEDS_HERE;
    unsigned bad = 0;
    for (uint64_t seed = first; seed < first + n && bad < 5; seed++)
        bad += !story(seed, &s);
    print_message("%u done, %u aborted (%u left as they were), %u refused, %u holds, %u deaths of who acts, %u acts, "
                  "%u settings of "
                  "weights, %u documents\n",
                  s.done, s.aborted, s.left, s.refused, s.holds, s.crashes, s.acts, s.weights, s.stores);
    assert_int_equal(bad, 0);
    if (n < 100)
        return;
    assert_true(s.done > n / 5 && s.aborted > n / 20 && s.holds > n / 5 && s.crashes > n / 5 && s.refused > 0 &&
                s.left > 0);
}

/* ---- a planted regression ---- */

/* It shows from some weight on: the step that shows it first is the last one. */
static void test_planted(void **unused)
{
    (void)unused;
    static struct world w;
    unsigned runs = getenv("VALGRIND") ? 2 : 100;
    for (unsigned seed = 1; seed <= runs; seed++) {
        static const int shows[] = {100, 50, 25, 10, 0};
        world_init(&w, seed, 1 + seed % 4);
        w.quiet = true;
        w.slow_ms = (int)(seed * 7 % 900);
        w.bad_from_weight = shows[seed % 5];
        assert_int_equal(order(&w, ROLLBACK_START, "job", false, false), STATUS(OK));
        run(&w, 120000);
        assert_string_equal(w.broken, "");
        assert_int_equal(w.doc.job.phase, ROLLBACK_PHASE(HOLD));
        assert_int_equal(w.doc.job.hold, ROLLBACK_HOLD(REGRESSION));
        assert_int_equal(w.most_moved, shows[seed % 5]);
        assert_int_equal(w.doc.job.weight, shows[seed % 5]);
        assert_true(w.raised.critical && w.raised.notice == ROLLBACK_NOTICE_HOLD);
        assert_non_null(strstr(w.doc.job.reason, "selftest"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stories), cmocka_unit_test(test_planted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
