/* test_guard_judge.c - the guard's decision: cell by cell against rows written by hand, and over all combinations that nothing stricter or
 * less known ever makes it looser. */
#include "guard/guard.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IS(what)     REDOUBT__V1__##what
#define REASON(what) REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_##what
#define NOW          INT64_C(1800000000000)
#define EPOCH        UINT64_C(7)

enum {
    NORMAL = IS(POSTURE__POSTURE_NORMAL),
    BACKUP = IS(POSTURE__POSTURE_BACKUP_LLM),
    RECOVERING = IS(POSTURE__POSTURE_RECOVERING),
    DEGRADED = IS(POSTURE__POSTURE_DEGRADED),
    SECURITY = IS(POSTURE__POSTURE_SECURITY_FALLBACK),
    FROZEN = IS(POSTURE__POSTURE_FROZEN),
    ENABLED = IS(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED),
    AUTO_FROZEN = IS(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN),
    UP = IS(BACKEND_MODE__BACKEND_MODE_UP),
    DOWN = IS(BACKEND_MODE__BACKEND_MODE_DEGRADED),
    BACK = IS(BACKEND_MODE__BACKEND_MODE_RECOVERING),
    LINK_UP = IS(LINK_MODE__LINK_MODE_UP),
    RESTRICTED = IS(LINK_MODE__LINK_MODE_RESTRICTED),
    GONE = IS(LINK_MODE__LINK_MODE_GONE),
    RETURNING = IS(LINK_MODE__LINK_MODE_RETURNING),
    FINE = IS(RESOURCE_MODE__RESOURCE_MODE_OK),
    SHEDDING = IS(RESOURCE_MODE__RESOURCE_MODE_SHEDDING),
    RESTARTING = IS(RESOURCE_MODE__RESOURCE_MODE_RESTARTING),
};

static const char text[] =
    "version: t\nactions:\n"
    "  - { name: any, postures: [normal, backup_llm, recovering, degraded, security_fallback], queue: yes, expires: "
    "1h,\n"
    "      parameters: [{ name: ip, type: ip, required: yes }, { name: n, type: int, min: 1, max: 9 }] }\n"
    "  - { name: once, postures: [normal, backup_llm, recovering, degraded, security_fallback] }\n"
    "  - { name: own, postures: [normal, backup_llm, recovering, degraded, security_fallback], execute: agent }\n"
    "  - { name: fair, postures: [normal, backup_llm], queue: yes }\n"
    "  - { name: some, postures: [normal, backup_llm, recovering, degraded], queue: yes }\n";

static struct baseline *baseline(void)
{
    struct conf_report r = {0};
    struct baseline *b = baseline_parse("t", text, strlen(text), &r);
    if (!b)
        fail_msg("%s", r.lines[0]);
    b->trusted = true;
    return b;
}

struct world {
    struct baseline *b;
    struct guard_position at;
    struct guard_view v;
    PB(Label) labels[3];
    PB(Label) * list[3];
    PB(ActionRequest) r;
};

static void fresh(struct world *w, struct baseline *b)
{
    *w = (struct world){.b = b};
    w->at = (struct guard_position){.epoch = EPOCH,
                                    .posture = NORMAL,
                                    .automation = ENABLED,
                                    .backend = UP,
                                    .link = LINK_UP,
                                    .resources = FINE,
                                    .load_percent = 100};
    w->v = (struct guard_view){
        .known = true, .sure = true, .at = &w->at, .baseline = b, .has_backend = true, .max_age_ms = 24 * 3600000};
    w->r = (PB(ActionRequest))PB_INIT(ACTION_REQUEST);
    w->r.agent = (char *)"a";
    w->r.epoch = EPOCH;
    w->r.idempotency_key = (char *)"k-1";
    w->r.action = (char *)"any";
    for (int i = 0; i < 3; i++) {
        w->labels[i] = (PB(Label))PB_INIT(LABEL);
        w->list[i] = &w->labels[i];
    }
    w->labels[0].key = (char *)"ip";
    w->labels[0].value = (char *)"192.0.2.1";
    w->r.parameters = w->list;
    w->r.n_parameters = 1;
}

static void plain(struct world *w, const char *action)
{
    w->r.action = (char *)action;
    w->r.n_parameters = 0;
}

static struct guard_choice judge(struct world *w, int64_t queued_ms)
{
    struct guard_choice c;
    memset(&c, 0xa5, sizeof c); /* every field must be set */
    guard_judge(&w->v, &w->r, queued_ms, NOW, &c);
    assert_int_equal(c.verdict == GUARD_REFUSE, c.reason != 0);
    if (c.verdict == GUARD_REFUSE || c.hold)
        assert_true(c.detail[0] != 0 && memchr(c.detail, 0, sizeof c.detail) != NULL);
    return c;
}

/* ---- where to: rows by hand ---- */

static void by_position(void **state)
{
    (void)state;
    struct baseline *b = baseline();
    enum { F = GUARD_FORWARD, P = GUARD_PERMIT, Q = GUARD_QUEUE, R = GUARD_REFUSE };
    /* any may be queued, once may not, own is carried out by the agent; replay is of `any`, H = held. */
    enum { H = 9 };
    static const struct {
        const char *what;
        int posture, automation, backend, link, resources;
        uint32_t ramp, load;
        bool waiting, restart;
        int any, once, own, replay;
    } rows[] = {
        {"all is well", NORMAL, ENABLED, UP, LINK_UP, FINE, 0, 100, 0, 0, F, F, P, F},
        {"on a backup", BACKUP, ENABLED, UP, LINK_UP, FINE, 0, 100, 0, 0, F, F, P, F},
        {"backend away", DEGRADED, ENABLED, DOWN, LINK_UP, FINE, 0, 100, 0, 0, Q, R, P, H},
        {"backend back, none yet", RECOVERING, ENABLED, BACK, LINK_UP, FINE, 0, 100, 0, 0, Q, R, P, H},
        {"backend back, all", RECOVERING, ENABLED, BACK, LINK_UP, FINE, 100, 100, 0, 0, F, F, P, F},
        {"shedding to nothing", RECOVERING, ENABLED, UP, LINK_UP, SHEDDING, 0, 0, 0, 0, Q, R, R, H},
        {"shedding a little", RECOVERING, ENABLED, UP, LINK_UP, SHEDDING, 0, 100, 0, 0, F, F, P, F},
        {"restarting", DEGRADED, ENABLED, UP, LINK_UP, RESTARTING, 0, 100, 0, 0, Q, R, P, H},
        {"restart asked", DEGRADED, ENABLED, UP, LINK_UP, SHEDDING, 0, 100, 0, 1, Q, R, P, H},
        {"waits for a model", DEGRADED, ENABLED, UP, LINK_UP, FINE, 0, 100, 1, 0, Q, R, P, H},
        {"not confirmed", DEGRADED, ENABLED, UP, RESTRICTED, FINE, 0, 100, 0, 0, Q, R, R, H},
        {"gone", DEGRADED, ENABLED, UP, GONE, FINE, 0, 100, 0, 0, Q, R, R, H},
        {"returning, none yet", RECOVERING, ENABLED, UP, RETURNING, FINE, 0, 0, 0, 0, Q, R, R, H},
        {"no model", SECURITY, ENABLED, UP, LINK_UP, FINE, 0, 100, 0, 0, F, F, P, F},
        {"no model, no backend", SECURITY, ENABLED, DOWN, LINK_UP, FINE, 0, 100, 0, 0, Q, R, P, H},
        {"frozen", FROZEN, AUTO_FROZEN, UP, LINK_UP, FINE, 0, 100, 0, 0, R, R, R, H},
        {"frozen, says only the posture", FROZEN, ENABLED, UP, LINK_UP, FINE, 0, 100, 0, 0, R, R, R, H},
        {"frozen, says only automation", NORMAL, AUTO_FROZEN, UP, LINK_UP, FINE, 0, 100, 0, 0, R, R, R, H},
        {"degraded, for what we do not know", DEGRADED, ENABLED, UP, LINK_UP, FINE, 0, 100, 0, 0, Q, R, P, H},
        {"a posture of the future", 7, ENABLED, UP, LINK_UP, FINE, 0, 100, 0, 0, R, R, R, H},
        {"a negative posture", -1, ENABLED, UP, LINK_UP, FINE, 0, 100, 0, 0, R, R, R, H},
        {"no posture", 0, ENABLED, UP, LINK_UP, FINE, 0, 100, 0, 0, R, R, R, H},
        {"automation not said", NORMAL, 0, UP, LINK_UP, FINE, 0, 100, 0, 0, R, R, R, H},
        {"backend not said", NORMAL, ENABLED, 0, LINK_UP, FINE, 0, 100, 0, 0, R, R, R, H},
        {"backend of the future", NORMAL, ENABLED, 4, LINK_UP, FINE, 0, 100, 0, 0, R, R, R, H},
        {"link of the future", NORMAL, ENABLED, UP, 5, FINE, 0, 100, 0, 0, R, R, R, H},
        {"resources of the future", NORMAL, ENABLED, UP, LINK_UP, 4, 0, 100, 0, 0, R, R, R, H},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world w;
        fresh(&w, b);
        w.at.posture = rows[i].posture;
        w.at.automation = rows[i].automation;
        w.at.backend = rows[i].backend;
        w.at.link = rows[i].link;
        w.at.resources = rows[i].resources;
        w.at.ramp_percent = rows[i].ramp;
        w.at.load_percent = rows[i].load;
        w.at.llm_waiting = rows[i].waiting;
        w.at.restart_requested = rows[i].restart;
        struct guard_choice any = judge(&w, 0), again = judge(&w, NOW - 1000);
        int replay = again.hold ? H : (int)again.verdict;
        assert_int_equal(again.hold && again.verdict != GUARD_QUEUE, 0);
        plain(&w, "once");
        struct guard_choice once = judge(&w, 0);
        plain(&w, "own");
        struct guard_choice own = judge(&w, 0);
        if ((int)any.verdict != rows[i].any || (int)once.verdict != rows[i].once || (int)own.verdict != rows[i].own ||
            replay != rows[i].replay)
            fail_msg("%s: any %d, once %d, own %d, replay %d", rows[i].what, any.verdict, once.verdict, own.verdict,
                     replay);
    }
    baseline_free(b);
}

/* ---- why not: rows by hand ---- */

static void changed(struct world *w, int k)
{
    static struct guard_position never;
    switch (k) {
    case 0:
        w->v.known = false;
        break;
    case 1:
        w->v.sure = false;
        break;
    case 2:
        w->v.at = NULL;
        break;
    case 3:
        w->v.at = &never;
        break;
    case 4:
        w->r.epoch = EPOCH - 1;
        break;
    case 5:
        w->r.epoch = EPOCH + 1;
        break;
    case 6:
        w->r.epoch = 0;
        break;
    case 7:
        w->b->trusted = false;
        break;
    case 8:
        w->r.action = (char *)"other";
        break;
    case 9:
        w->r.expires_unix_ms = NOW;
        break;
    case 10:
        w->r.n_parameters = 0;
        break;
    case 11:
        w->labels[0].value = (char *)"300.0.0.1";
        break;
    case 12:
        w->labels[0].key = (char *)"host";
        break;
    case 13:
        w->labels[1] = w->labels[0];
        w->r.n_parameters = 2;
        break;
    case 14:
        w->labels[1].key = (char *)"n";
        w->labels[1].value = (char *)"10";
        w->r.n_parameters = 2;
        break;
    case 15:
        w->v.has_backend = false;
        break;
    case 16:
        w->r.idempotency_key = (char *)"a b";
        break;
    case 17:
        w->r.idempotency_key = (char *)"a\r\nX: y";
        break;
    case 18:
        w->at.posture = RECOVERING;
        plain(w, "fair");
        break;
    case 19:
        w->at.posture = FROZEN;
        break;
    case 20:
        w->r.idempotency_key = (char *)"\xc3\xa4";
        break;
    }
}

static void by_mistake(void **state)
{
    (void)state;
    static const struct {
        int change, reason;
        bool held; /* when it is a replay */
    } rows[] = {
        {0, REASON(UNKNOWN_AGENT), false}, {1, REASON(STATE_UNKNOWN), true}, {2, REASON(STATE_UNKNOWN), true},
        {3, REASON(STATE_UNKNOWN), true},  {5, REASON(STATE_UNKNOWN), true}, {7, REASON(NOT_ALLOWED), true},
        {8, REASON(NOT_ALLOWED), false},   {9, REASON(EXPIRED), false},      {10, REASON(INVALID), false},
        {11, REASON(INVALID), false},      {12, REASON(INVALID), false},     {13, REASON(INVALID), false},
        {14, REASON(INVALID), false},      {15, REASON(NOT_ALLOWED), false}, {16, REASON(INVALID), false},
        {17, REASON(INVALID), false},      {18, REASON(NOT_ALLOWED), true},  {19, REASON(FROZEN), true},
        {20, REASON(INVALID), false},
    };
    struct baseline *b = baseline();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world w;
        fresh(&w, b);
        b->trusted = true;
        changed(&w, rows[i].change);
        struct guard_choice c = judge(&w, 0), again = judge(&w, NOW - 1000);
        if (c.verdict != GUARD_REFUSE || c.reason != rows[i].reason || again.hold != rows[i].held ||
            (!again.hold && again.reason != rows[i].reason))
            fail_msg("change %d: verdict %d, reason %d; replay held %d, reason %d", rows[i].change, c.verdict,
                     c.reason, again.hold, again.reason);
    }
    b->trusted = true;
    baseline_free(b);
}

static void epochs(void **state)
{
    (void)state;
    struct baseline *b = baseline();
    struct world w;
    fresh(&w, b);
    w.r.epoch = EPOCH - 1;
    assert_int_equal(judge(&w, 0).reason, REASON(STALE_EPOCH));
    assert_int_equal(judge(&w, NOW - 1).verdict, GUARD_FORWARD); /* it was current when it was queued */
    w.at.frozen_epoch = EPOCH - 1;
    assert_true(judge(&w, NOW - 1).hold); /* frozen since: a person decides */
    w.v.released_epoch = EPOCH - 2;
    assert_true(judge(&w, NOW - 1).hold);
    w.v.released_epoch = EPOCH - 1;
    assert_int_equal(judge(&w, NOW - 1).verdict, GUARD_FORWARD);
    w.v.released_epoch = 0;
    w.r.epoch = EPOCH; /* asked for after the freeze was over */
    assert_int_equal(judge(&w, NOW - 1).verdict, GUARD_FORWARD);
    baseline_free(b);
}

static void ages(void **state)
{
    (void)state;
    struct baseline *b = baseline();
    struct world w;
    fresh(&w, b);
    w.r.expires_unix_ms = NOW + 1;
    assert_int_equal(judge(&w, 0).verdict, GUARD_FORWARD);
    w.r.expires_unix_ms = 0;
    assert_int_equal(judge(&w, NOW - 3599999).verdict, GUARD_FORWARD);
    assert_int_equal(judge(&w, NOW - 3600000).reason, REASON(EXPIRED)); /* the action's own hour */
    plain(&w, "fair");
    assert_int_equal(judge(&w, NOW - 3600000).verdict, GUARD_FORWARD);
    assert_int_equal(judge(&w, NOW - 24 * INT64_C(3600000)).reason, REASON(EXPIRED));
    w.at.posture = FROZEN; /* what is over is over, held or not */
    assert_int_equal(judge(&w, NOW - 24 * INT64_C(3600000)).reason, REASON(EXPIRED));
    baseline_free(b);
}

static void shares(void **state)
{
    (void)state;
    char key[32];
    static const uint32_t steps[] = {0, 10, 25, 50, 75, 100};
    size_t n[6] = {0};
    for (int i = 0; i < 20000; i++) {
        bool was = false;
        snprintf(key, sizeof key, "key-%d", i);
        for (size_t k = 0; k < 6; k++) {
            bool has = guard_share_has(key, steps[k]);
            assert_true(has || !was); /* who passes at 10 % passes at 25 % */
            assert_int_equal(has, guard_share_has(key, steps[k]));
            was = has;
            n[k] += has;
        }
    }
    for (size_t k = 0; k < 6; k++)
        assert_in_range(n[k], steps[k] * 200 - (steps[k] % 100 ? 400 : 0),
                        steps[k] * 200 + (steps[k] % 100 ? 400 : 0));
    struct baseline *b = baseline();
    struct world w;
    fresh(&w, b);
    w.at.posture = RECOVERING;
    w.at.backend = BACK;
    w.at.ramp_percent = 50;
    w.at.load_percent = 25; /* the smaller one counts */
    size_t passed = 0;
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        w.r.idempotency_key = key;
        passed += judge(&w, 0).verdict == GUARD_FORWARD;
    }
    assert_int_equal(passed, n[2]);
    baseline_free(b);
}

/* ---- fail secure, over all combinations ---- */

/* As fallback derives it. Of the language models only how many are left matters: 0 primary, 1 backup, 2 none. */
static int posture_of(const struct guard_position *p, int llm)
{
    int asked[] = {
        p->llm_waiting ? DEGRADED
        : llm == 2     ? SECURITY
        : llm == 1     ? BACKUP
                       : NORMAL,
        p->backend == DOWN   ? DEGRADED
        : p->backend == BACK ? RECOVERING
                             : NORMAL,
        p->link == RESTRICTED || p->link == GONE ? DEGRADED
        : p->link == RETURNING                   ? RECOVERING
                                                 : NORMAL,
        p->resources == RESTARTING || p->restart_requested ? DEGRADED
        : p->resources == SHEDDING                         ? RECOVERING
                                                           : NORMAL,
        p->automation == AUTO_FROZEN ? FROZEN : NORMAL,
    };
    int strictest = NORMAL;
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        strictest = asked[i] > strictest ? asked[i] : strictest;
    return strictest;
}

/* Each input by itself from the loosest value to the strictest. Of two values of one rank neither is stricter. */
enum {
    D_LLM,
    D_BACKEND,
    D_LINK,
    D_RESOURCES,
    D_AUTOMATION,
    D_RAMP,
    D_LOAD,
    D_WAITING,
    D_RESTART,
    D_KNOWN,
    D_SURE,
    D_AT,
    D_EPOCH,
    D_TRUSTED,
    D_HAS_BACKEND,
    D_EXPIRY,
    D_PARAMETER,
    DIMENSIONS
};
static const int sizes[DIMENSIONS] = {3, 3, 3, 3, 2, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};

#define MIXES (3 * 3 * 3 * 3 * 2 * 3 * 3 * 2 * 2) /* of positions, all that is not known being well */
static void unpack(int mix, int at[static DIMENSIONS])
{
    memset(at, 0, DIMENSIONS * sizeof *at);
    for (int d = 0; d < D_KNOWN; d++) {
        at[d] = mix % sizes[d];
        mix /= sizes[d];
    }
}

static void build(struct world *w, struct baseline *b, const int at[static DIMENSIONS], const char *action)
{
    static const int backends[] = {UP, BACK, DOWN}, links[] = {LINK_UP, RETURNING, RESTRICTED},
                     resources[] = {FINE, SHEDDING, RESTARTING};
    static const uint32_t percents[] = {100, 50, 0};
    fresh(w, b);
    b->trusted = !at[D_TRUSTED];
    w->r.action = (char *)action;
    w->at.backend = backends[at[D_BACKEND]];
    w->at.link = links[at[D_LINK]];
    w->at.resources = resources[at[D_RESOURCES]];
    w->at.automation = at[D_AUTOMATION] ? AUTO_FROZEN : ENABLED;
    w->at.ramp_percent = percents[at[D_RAMP]];
    w->at.load_percent = percents[at[D_LOAD]];
    w->at.llm_waiting = at[D_WAITING];
    w->at.restart_requested = at[D_RESTART];
    w->at.posture = posture_of(&w->at, at[D_LLM]);
    w->v.known = !at[D_KNOWN];
    w->v.sure = !at[D_SURE];
    w->v.at = at[D_AT] ? NULL : &w->at;
    w->r.epoch = at[D_EPOCH] ? EPOCH - 1 : EPOCH;
    w->v.has_backend = !at[D_HAS_BACKEND];
    w->r.expires_unix_ms = at[D_EXPIRY] ? NOW - 1 : 0;
    w->r.n_parameters = strcmp(action, "any") == 0 ? 1 : 0;
    if (at[D_PARAMETER]) {
        w->labels[0].value = (char *)"nonsense";
        w->r.n_parameters = 1;
    }
}

static int rank(const struct guard_choice *c)
{
    return c->verdict == GUARD_REFUSE ? 2 : c->verdict == GUARD_QUEUE ? 1 : 0;
}

/* llm_waiting is a way of having no model, not stricter than having none: compared apart from the models. */
static bool comparable(const int at[static DIMENSIONS], int d)
{
    return !(d == D_LLM && at[D_WAITING]) && !(d == D_WAITING && at[D_LLM] == 2);
}

static void nothing_stricter_is_looser(void **state)
{
    (void)state;
    static const char *const actions[] = {"any", "once", "own", "fair",
                                          "some"}; /* each list has every looser posture, too */
    struct baseline *b = baseline();
    size_t compared = 0, refused = 0, passed = 0, waits = 0;
    for (size_t k = 0; k < sizeof actions / sizeof actions[0]; k++) {
        for (int mix = 0; mix < MIXES; mix++) {
            int at[DIMENSIONS];
            struct world w;
            struct guard_choice c;
            unpack(mix, at);
            build(&w, b, at, actions[k]);
            guard_judge(&w.v, &w.r, 0, NOW, &c);
            refused += rank(&c) == 2;
            waits += rank(&c) == 1;
            passed += rank(&c) == 0;
            for (int d = 0; d < D_KNOWN; d++) {
                if (at[d] + 1 >= sizes[d] || !comparable(at, d))
                    continue;
                struct world w2;
                struct guard_choice c2;
                int stricter[DIMENSIONS];
                memcpy(stricter, at, sizeof at);
                stricter[d]++;
                build(&w2, b, stricter, actions[k]);
                guard_judge(&w2.v, &w2.r, 0, NOW, &c2);
                compared++;
                if (rank(&c2) < rank(&c))
                    fail_msg("%s: dimension %d from %d to %d: verdict %d becomes %d (posture %d to %d)", actions[k],
                             d, at[d], at[d] + 1, c.verdict, c2.verdict, w.at.posture, w2.at.posture);
            }
        }
        for (int u = D_KNOWN; u < DIMENSIONS; u++) /* what is not known, each alone, over every position */
            for (int mix = 0; mix < MIXES; mix++) {
                int at[DIMENSIONS];
                struct world w;
                struct guard_choice well, ill;
                unpack(mix, at);
                build(&w, b, at, actions[k]);
                guard_judge(&w.v, &w.r, 0, NOW, &well);
                at[u] = 1;
                build(&w, b, at, actions[k]);
                guard_judge(&w.v, &w.r, 0, NOW, &ill);
                compared++;
                bool own_way = u == D_HAS_BACKEND && strcmp(actions[k], "own") == 0;
                if (ill.verdict != GUARD_REFUSE && !own_way)
                    fail_msg("%s: input %d is bad, and the verdict is %d", actions[k], u, ill.verdict);
                if (rank(&ill) < rank(&well))
                    fail_msg("%s: input %d is bad, and the verdict is looser", actions[k], u);
            }
    }
    assert_true(compared > 100000 && refused > 1000 && waits > 1000 && passed > 100); /* it has seen all of them */
    b->trusted = true;
    baseline_free(b);
}

/* Without a trusted file: nothing, in any position, for any action. */
static void the_built_in_allows_nothing(void **state)
{
    (void)state;
    struct set_baseline none = {.path = (char *)"", .public_key = (char *)""};
    struct baseline *strict = baseline_load(&none);
    for (int mix = 0; mix < MIXES; mix++) {
        int at[DIMENSIONS];
        unpack(mix, at);
        struct world w;
        struct guard_choice c;
        build(&w, strict, at, "any");
        strict->trusted = false;
        guard_judge(&w.v, &w.r, 0, NOW, &c);
        assert_int_equal(c.verdict, GUARD_REFUSE);
    }
    baseline_free(strict);
}

static void older_directives(void **state)
{
    (void)state;
    PB(AgentState) m = PB_INIT(AGENT_STATE);
    struct guard_position p;
    m.epoch = 3;
    m.posture = IS(POSTURE__POSTURE_NORMAL);
    m.automation = IS(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
    m.backend = IS(BACKEND_MODE__BACKEND_MODE_UP);
    guard_position_take(&p, &m);
    assert_int_equal(p.load_percent, 100);
    assert_int_equal(p.link, LINK_UP);
    assert_int_equal(p.resources, FINE);
    struct baseline *b = baseline();
    struct world w;
    fresh(&w, b);
    w.at = p;
    w.r.epoch = 3;
    assert_int_equal(judge(&w, 0).verdict, GUARD_FORWARD);
    baseline_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_position),      cmocka_unit_test(by_mistake),
        cmocka_unit_test(epochs),           cmocka_unit_test(ages),
        cmocka_unit_test(shares),           cmocka_unit_test(nothing_stricter_is_looser),
        cmocka_unit_test(older_directives), cmocka_unit_test(the_built_in_allows_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
