/* test_alert_tree.c - channels in groups: every small tree with every fate of its channels in every order of answers, against a reference of another
 * kind; and routes, nodes, and what a route does with an alert. */
#include "alert/alert.h"
#include "alert/alert_route.h"
#include "common/conf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHANNELS 3

enum fate { YES, NO, FULL, AWAY }; /* accepts, refuses, takes no more now, is what the message is about */

/* ---- the reference: one channel after the other, as a person would do it ---- */

struct ref {
    const struct alert_tree *t;
    const enum fate *fates;
    unsigned tried;
};

static enum alert_standing ref_node(struct ref *r, size_t at, size_t *ret_next)
{
    const struct alert_node *n = &r->t->nodes[at];
    *ret_next = n->end;
    if (n->kind == ALERT_NODE_CHANNEL) {
        static const enum alert_standing of[] = {[YES] = ALERT_STANDING_TOLD,
                                                 [NO] = ALERT_STANDING_FAILED,
                                                 [FULL] = ALERT_STANDING_PUT_BY,
                                                 [AWAY] = ALERT_STANDING_ABSENT};
        if (r->fates[n->way] != AWAY)
            r->tried |= 1u << n->way;
        return of[r->fates[n->way]];
    }
    int told = 0, put_by = 0, failed = 0;
    for (size_t c = at + 1; c < n->end;) {
        enum alert_standing s = ref_node(r, c, &c);
        told += s == ALERT_STANDING_TOLD;
        put_by += s == ALERT_STANDING_PUT_BY;
        failed += s == ALERT_STANDING_FAILED;
        if (n->kind == ALERT_NODE_FAILOVER && (told || put_by))
            break;
    }
    return told     ? ALERT_STANDING_TOLD
           : put_by ? ALERT_STANDING_PUT_BY
           : failed ? ALERT_STANDING_FAILED
                    : ALERT_STANDING_ABSENT;
}

static enum alert_standing ref_at(const struct alert_tree *t, const enum fate *fates, size_t at)
{
    struct ref r = {t, fates, 0};
    size_t next;
    return ref_node(&r, at, &next);
}

/* What is owed: failed, and nothing above it has. Of a failover group only what was needed. */
static void ref_owed(const struct alert_tree *t, const enum fate *fates, size_t at, bool *owed)
{
    const struct alert_node *n = &t->nodes[at];
    enum alert_standing s = ref_at(t, fates, at);
    owed[at] = s == ALERT_STANDING_FAILED;
    if (owed[at] || n->kind == ALERT_NODE_CHANNEL)
        return;
    for (size_t c = at + 1; c < n->end; c = t->nodes[c].end) {
        enum alert_standing of_child = ref_at(t, fates, c);
        bool there = of_child == ALERT_STANDING_TOLD || of_child == ALERT_STANDING_PUT_BY;
        if (n->kind == ALERT_NODE_FANOUT || there)
            ref_owed(t, fates, c, owed);
        if (n->kind == ALERT_NODE_FAILOVER && there)
            return;
    }
}

/* ---- every order of answers ---- */

static uint64_t orders;

static void check(const struct alert_tree *t, const enum fate *fates, const struct alert_delivery *d,
                  enum alert_standing standing, unsigned sent)
{
    struct ref r = {t, fates, 0};
    size_t next;
    enum alert_standing want = ref_node(&r, 0, &next);
    bool owed[ALERT_NODES_MAX] = {false};
    uint16_t got[ALERT_LEAVES_MAX];
    orders++;
    assert_int_equal(standing, want);
    assert_int_equal(sent, r.tried);
    if (want == ALERT_STANDING_ABSENT)
        return;
    ref_owed(t, fates, 0, owed);
    size_t n = alert_tree_owed(t, &d->marks, got), n_want = 0;
    for (size_t i = 0; i < t->n; i++)
        n_want += owed[i];
    assert_int_equal(n, n_want);
    for (size_t i = 0; i < n; i++)
        assert_true(owed[got[i]]);
}

static void answer(const struct alert_plan *p, const enum fate *fates, const struct alert_delivery *was,
                   const struct alert_try *tries_were, unsigned sent)
{
    static const struct alert_outcome of[] = {[YES] = {ALERT_FAULT_NONE, 200, -1},
                                              [NO] = {ALERT_FAULT_NONE, 404, -1},
                                              [FULL] = {ALERT_FAULT_OVERFLOW, 0, -1}};
    for (size_t way = 0; way < CHANNELS; way++) {
        if (!(was->marks.busy & (UINT64_C(1) << way)))
            continue;
        struct alert_delivery d = *was;
        struct alert_try tries[CHANNELS];
        struct alert_effect out[ALERT_EFFECTS_MAX];
        unsigned now_sent = sent;
        memcpy(tries, tries_were, sizeof tries);
        d.tries = tries;
        struct alert_event ev = {.kind = ALERT_RESULT, .way = way, .outcome = of[fates[way]]};
        size_t n = alert_decide(&d, p, &ev, 0, out);
        for (size_t i = 0; i < n; i++)
            if (out[i].kind == ALERT_SEND) {
                assert_false(now_sent & (1u << out[i].way)); /* each channel once */
                now_sent |= 1u << out[i].way;
            }
        if (d.state == ALERT_DONE)
            check(&p->tree, fates, &d, out[n - 1].standing, now_sent);
        else
            answer(p, fates, &d, tries, now_sent);
    }
}

static void every_fate(const struct alert_tree *t)
{
    static struct alert_plan p;
    p.n = CHANNELS;
    p.tree = *t;
    for (size_t i = 0; i < CHANNELS; i++)
        p.ways[i] = (struct alert_way){
            .proto = ALERT_PROTO_HTTP, .tries = 3, .attempt_ms = 1, .deadline_ms = 1, .deadline_critical_ms = 1};
    for (unsigned code = 0; code < 64; code++) {
        enum fate fates[CHANNELS] = {(enum fate)(code & 3), (enum fate)(code >> 2 & 3), (enum fate)(code >> 4)};
        struct alert_delivery d = {0};
        struct alert_try tries[CHANNELS] = {0};
        struct alert_effect out[ALERT_EFFECTS_MAX];
        struct alert_event ev = {.kind = ALERT_START, .put_by = true};
        unsigned sent = 0;
        for (size_t i = 0; i < CHANNELS; i++)
            ev.left_out |= fates[i] == AWAY ? UINT64_C(1) << i : 0;
        d.tries = tries;
        size_t n = alert_decide(&d, &p, &ev, 0, out);
        for (size_t i = 0; i < n; i++)
            sent |= out[i].kind == ALERT_SEND ? 1u << out[i].way : 0;
        if (d.state == ALERT_DONE)
            check(t, fates, &d, out[n - 1].standing, sent);
        else
            answer(&p, fates, &d, tries, sent);
    }
}

/* ---- every small tree ---- */

static unsigned most_leaves;

/* Writes all trees that begin at t->n and have `leaves` leaves in `rest` more groups' members; calls every_fate() for each. A group is opened with a
 * kind and 1 to 3 members, a leaf with each channel. `open` says how many members each open group still wants. */
static void every_tree(struct alert_tree *t, unsigned leaves, int depth, uint8_t *wants, uint16_t *starts)
{
    while (depth > 0 && wants[depth - 1] == 0) { /* the innermost group is full */
        depth--;
        t->nodes[starts[depth]].end = (uint16_t)t->n;
    }
    if (depth == 0 && t->n > 0) {
        every_fate(t);
        return;
    }
    /* What is still wanted must fit. */
    unsigned wanted = 0;
    for (int i = 0; i < depth; i++)
        wanted += wants[i];
    if (leaves + wanted > most_leaves)
        return;
    size_t at = t->n;
    uint8_t wants_were[4];
    uint16_t starts_were[4];
    memcpy(wants_were, wants, sizeof wants_were);
    memcpy(starts_were, starts, sizeof starts_were);
    for (uint8_t way = 0; way < CHANNELS; way++) {
        t->nodes[at] = (struct alert_node){ALERT_NODE_CHANNEL, way, (uint16_t)(at + 1)};
        t->n = at + 1;
        if (depth > 0)
            wants[depth - 1]--;
        every_tree(t, leaves + 1, depth, wants, starts);
        memcpy(wants, wants_were, sizeof wants_were);
        memcpy(starts, starts_were, sizeof starts_were);
    }
    for (int kind = ALERT_NODE_FAILOVER; depth < 3 && kind <= ALERT_NODE_FANOUT; kind++)
        for (uint8_t members = depth == 0 ? 1 : 2; members <= 3; members++) {
            t->nodes[at] = (struct alert_node){(uint8_t)kind, 0, 0};
            t->n = at + 1;
            if (depth > 0)
                wants[depth - 1]--;
            wants[depth] = members;
            starts[depth] = (uint16_t)at;
            every_tree(t, leaves, depth + 1, wants, starts);
            memcpy(wants, wants_were, sizeof wants_were);
            memcpy(starts, starts_were, sizeof starts_were);
        }
    t->n = at;
}

static void every_small_tree(void **state)
{
    (void)state;
    static struct alert_tree t;
    uint8_t wants[4] = {0};
    uint16_t starts[4] = {0};
    bool slow = getenv("VALGRIND") != NULL;
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    slow = true;
#endif
    most_leaves = slow ? 3 : 4;
    every_tree(&t, 0, 0, wants, starts);
    print_message("%llu ends\n", (unsigned long long)orders);
    assert_true(orders > 10000);
    struct alert_marks none = {0};
    uint64_t begin;
    t.n = 0;
    assert_int_equal(alert_tree_look(&t, &none, &begin), ALERT_STANDING_ABSENT);
}

/* ---- settings ---- */

static struct set_alert *settings(const char *yaml)
{
    struct conf_report report = {0};
    struct settings *s = conf_parse(&settings_schema, "s.yaml", yaml, strlen(yaml), &report);
    if (!s)
        fail_msg("%s", report.n ? report.lines[0] : "?");
    conf_report_free(&report);
    /* Kept until the test ends: only `alert` is looked at. */
    static struct settings *kept;
    if (kept)
        conf_free(&settings_schema, kept);
    kept = s;
    return &s->alert;
}

static const char town[] =
    "alert:\n"
    "  channels:\n"
    "    - { name: a, type: file, path: /a }\n"
    "    - { name: b, type: slack, url: 'http://h/b' }\n"
    "    - { name: c, type: slack, url: 'http://h/c' }\n"
    "    - { name: d, type: slack, url: 'http://h/d' }\n"
    "  groups:\n"
    "    - { name: both, mode: fanout, members: [b, c] }\n"
    "    - { name: deep, members: [both, d, b] }\n"
    "  quiet:\n"
    "    - { name: night, from: '22:00', to: '06:00' }\n"
    "  routes:\n"
    "    - { name: web, match: ['label.team=web'], channels: [b, a, c], continue: true }\n"
    "    - { min_severity: critical, to: deep }\n"
    "    - { name: calm, match: ['severity<=warning'], to: both, quiet: night, resolved: false, continue: true }\n"
    "    - { name: rest, min_severity: warning, to: d, group_by: [agent, label.team], quiet: night }\n";

static PB(Label) team;
static PB(Label) * labels[] = {&team};

static PB(Alert) alert(int severity, const char *of_team)
{
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.severity = (Redoubt__V1__Severity)severity;
    team = (PB(Label))REDOUBT__V1__LABEL__INIT;
    team.key = (char *)"team";
    team.value = (char *)of_team;
    a.labels = labels;
    a.n_labels = of_team ? 1 : 0;
    return a;
}

static void routes_in_their_order(void **state)
{
    (void)state;
    struct err e;
    struct set_alert *set = settings(town);
    struct alert_routes *r = alert_routes_new(set, &e);
    assert_non_null(r);
    static const struct {
        int severity;
        const char *team;
        uint64_t routes;
    } rows[] = {
        {ALERT_INFO, NULL, 1 << 2},
        {ALERT_WARNING, NULL, 1 << 2 | 1 << 3},
        {ALERT_HIGH, NULL, 1 << 3},
        {ALERT_CRITICAL, NULL, 1 << 1},
        {ALERT_INFO, "web", 1 | 1 << 2},
        {ALERT_HIGH, "web", 1 | 1 << 3},
        {ALERT_CRITICAL, "web", 1 | 1 << 1},
        {ALERT_INFO, "db", 1 << 2},
        {0, NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PB(Alert) a = alert(rows[i].severity, rows[i].team);
        assert_int_equal(alert_routes_of(r, &a), rows[i].routes);
    }
    alert_routes_free(r);
    char buf[ALERT_PARCEL_TOKEN_MAX + 1];
    assert_string_equal(alert_route_node(CONF_AT(set->routes, struct set_route, 0), buf), "route-web");
    assert_string_equal(alert_route_node(CONF_AT(set->routes, struct set_route, 1), buf), "deep");
    assert_string_equal(CONF_AT(set->routes, struct set_route, 1)->name, "route2");
}

static void what_a_route_does(void **state)
{
    (void)state;
    struct set_alert *set = settings(town);
    const struct set_route *web = CONF_AT(set->routes, struct set_route, 0), *calm = web + 2, *rest = web + 3;
    const struct set_quiet *night = CONF_AT(set->quiet, struct set_quiet, 0);
    struct alert_dial noon = {3, 12 * 60}, late = {3, 23 * 60};
    PB(Alert) a = alert(ALERT_HIGH, "web"), other = alert(ALERT_HIGH, "web");
    a.agent = (char *)"mcp";
    other.agent = (char *)"db";

    assert_int_equal(alert_route_leg(web, NULL, &a, false, late).kind, ALERT_LEG_AT_ONCE);
    struct alert_leg leg = alert_route_leg(rest, night, &a, false, noon), second;
    assert_int_equal(leg.kind, ALERT_LEG_PUT_BY);
    assert_int_equal(leg.reason, ALERT_PARCEL_GROUP);
    assert_int_equal(strncmp(leg.bucket, "rest-", 5), 0);
    assert_int_equal(strlen(leg.bucket), 5 + 16);
    struct alert_parcel_name name;
    assert_int_equal(alert_parcel_name(&name, leg.reason, "d", leg.bucket), 0);
    second = alert_route_leg(rest, night, &other, false, noon);
    assert_string_not_equal(second.bucket, leg.bucket);
    other.agent = (char *)"mcp";
    other.target = (char *)"not-a-field-of-the-group";
    second = alert_route_leg(rest, night, &other, false, noon);
    assert_string_equal(second.bucket, leg.bucket);
    /* Values do not run into each other. */
    other.agent = (char *)"mcpw";
    team.value = (char *)"eb";
    second = alert_route_leg(rest, night, &other, false, noon);
    assert_string_not_equal(second.bucket, leg.bucket);

    assert_int_equal(alert_route_leg(rest, night, &a, true, noon).kind, ALERT_LEG_AT_ONCE);
    leg = alert_route_leg(rest, night, &a, false, late);
    assert_int_equal(leg.kind, ALERT_LEG_PUT_BY);
    assert_int_equal(leg.reason, ALERT_PARCEL_QUIET);
    assert_string_equal(leg.bucket, "night");
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL; /* never waits */
    assert_int_equal(alert_route_leg(rest, night, &a, false, late).kind, ALERT_LEG_AT_ONCE);
    assert_int_equal(alert_route_leg(rest, night, &a, false, noon).kind, ALERT_LEG_AT_ONCE);

    a.resolved = true;
    assert_int_equal(alert_route_leg(calm, night, &a, false, noon).kind, ALERT_LEG_NONE);
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    assert_int_equal(alert_route_leg(rest, night, &a, false, noon).kind, ALERT_LEG_PUT_BY); /* with its beginning */
}

static void what_a_node_is(void **state)
{
    (void)state;
    static struct alert_layout l;
    struct set_alert *set = settings(town);
    const char *one = "c", *deep = "deep", *own = "route-web", *many[] = {"route-web", "deep"};
    assert_true(alert_layout_of(set, &one, 1, &l));
    assert_int_equal(l.tree.n, 1);
    assert_string_equal(l.ways[0], "c");

    assert_true(alert_layout_of(set, &deep, 1, &l));
    static const struct {
        const char *name;
        int kind;
        uint16_t end;
    } want[] = {{"deep", ALERT_NODE_FAILOVER, 6}, {"both", ALERT_NODE_FANOUT, 4}, {"b", ALERT_NODE_CHANNEL, 3},
                {"c", ALERT_NODE_CHANNEL, 4},     {"d", ALERT_NODE_CHANNEL, 5},   {"b", ALERT_NODE_CHANNEL, 6}};
    assert_int_equal(l.tree.n, 6);
    assert_int_equal(l.n_ways, 3); /* b is there twice */
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(l.names[i], want[i].name);
        assert_int_equal(l.tree.nodes[i].kind, want[i].kind);
        assert_int_equal(l.tree.nodes[i].end, want[i].end);
        if (want[i].kind == ALERT_NODE_CHANNEL)
            assert_string_equal(l.ways[l.tree.nodes[i].way], want[i].name);
    }

    assert_true(alert_layout_of(set, &own, 1, &l));
    assert_int_equal(l.tree.nodes[0].kind, ALERT_NODE_FAILOVER);
    assert_int_equal(l.n_ways, 3);
    assert_string_equal(l.ways[1], "a");

    assert_true(alert_layout_of(set, many, 2, &l));
    assert_int_equal(l.tree.nodes[0].kind, ALERT_NODE_FANOUT);
    assert_string_equal(l.names[0], "");
    assert_int_equal(l.n_ways, 4);

    static const char *const unknown[] = {"e", "route-rest", "route-", "", "rest"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_false(alert_layout_of(set, &unknown[i], 1, &l));
    assert_false(alert_layout_of(set, NULL, 0, &l));

    /* As many as fit, and one more. */
    char yaml[4096];
    int at = snprintf(yaml, sizeof yaml,
                      "alert:\n  channels: [{ name: b, type: slack, url: 'http://h/b' }]\n  groups:\n"
                      "    - { name: eight, members: [b, b, b, b, b, b, b, b] }\n"
                      "    - { name: all, members: [eight, eight, eight, eight, eight, eight, eight, eight] }\n");
    assert_true(at > 0);
    set = settings(yaml);
    const char *all[] = {"all", "b"};
    assert_true(alert_layout_of(set, all, 1, &l));
    assert_int_equal(l.tree.n, 1 + 8 + 64);
    assert_int_equal(l.n_ways, 1);
    assert_false(alert_layout_of(set, all, 2, &l));
}

static int forget(void **state)
{
    (void)state;
    settings("{}");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_small_tree),
        cmocka_unit_test(routes_in_their_order),
        cmocka_unit_test(what_a_route_does),
        cmocka_unit_test(what_a_node_is),
    };
    return cmocka_run_group_tests(tests, NULL, forget);
}
