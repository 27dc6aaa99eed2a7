/* alert_route.c - which routes take an alert, what each does with it now, and what a name in the settings stands for. */
#include "alert/alert_route.h"
#include "common/matcher.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(ALERT_ROUTE_NODE) + NAME_MAX_LEN <= ALERT_PARCEL_TOKEN_MAX, "a route's node is a token");

/* ---- which routes ---- */

#define ROUTES_MAX 64
#define CRITICAL   REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL

struct alert_routes {
    const struct set_alert *set;
    struct matchers *match[ROUTES_MAX];
};

struct alert_routes *alert_routes_new(const struct set_alert *set, struct err *e)
{
    struct alert_routes *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, "out of memory");
        return NULL;
    }
    r->set = set;
    for (size_t i = 0; i < set->routes.n && i < ROUTES_MAX; i++) {
        const struct set_route *route = CONF_AT(set->routes, struct set_route, i);
        r->match[i] = matchers_new((const char *const *)route->match.items, route->match.n, e);
        if (!r->match[i]) {
            alert_routes_free(r);
            return NULL;
        }
    }
    return r;
}

void alert_routes_free(struct alert_routes *r)
{
    for (size_t i = 0; r && i < ROUTES_MAX; i++)
        matchers_free(r->match[i]);
    free(r);
}

uint64_t alert_routes_of(const struct alert_routes *r, const PB(Alert) * a)
{
    uint64_t taken = 0;
    for (size_t i = 0; i < r->set->routes.n && i < ROUTES_MAX; i++) {
        const struct set_route *route = CONF_AT(r->set->routes, struct set_route, i);
        if ((int)a->severity < route->min_severity + REDOUBT__V1__SEVERITY__SEVERITY_INFO ||
            !matchers_fit(r->match[i], a))
            continue;
        taken |= UINT64_C(1) << i;
        if (!route->go_on)
            break;
    }
    return taken;
}

const char *alert_route_node(const struct set_route *route, char buf[static ALERT_PARCEL_TOKEN_MAX + 1])
{
    if (route->channels.n == 0)
        return route->to;
    snprintf(buf, ALERT_PARCEL_TOKEN_MAX + 1, "%s%s", ALERT_ROUTE_NODE, route->name);
    return buf;
}

/* ---- what a route does with an alert ---- */

/* `<route>-<hash of what the alert has in the fields>` */
static void group_bucket(const struct set_route *route, const PB(Alert) * a,
                         char ret[static ALERT_PARCEL_TOKEN_MAX + 1])
{
    crypto_generichash_state state;
    unsigned char hash[16];
    char hex[2 * 8 + 1];
    crypto_generichash_init(&state, NULL, 0, sizeof hash);
    for (size_t i = 0; i < route->group_by.n; i++) {
        const char *value = matcher_field(a, *CONF_AT(route->group_by, char *, i));
        value = value ? value : "";
        crypto_generichash_update(&state, (const unsigned char *)value, strlen(value) + 1);
    }
    crypto_generichash_final(&state, hash, sizeof hash);
    sodium_bin2hex(hex, sizeof hex, hash, 8);
    snprintf(ret, ALERT_PARCEL_TOKEN_MAX + 1, "%s-%s", route->name, hex);
}

struct alert_leg alert_route_leg(const struct set_route *route, const struct set_quiet *quiet, const PB(Alert) * a,
                                 bool alone, struct alert_dial now)
{
    struct alert_leg leg = {.kind = ALERT_LEG_AT_ONCE};
    if (a->resolved && !route->resolved) {
        leg.kind = ALERT_LEG_NONE;
    } else if (quiet && alert_quiet_holds(quiet, (int)a->severity, now)) {
        leg.kind = ALERT_LEG_PUT_BY;
        leg.reason = ALERT_PARCEL_QUIET;
        snprintf(leg.bucket, sizeof leg.bucket, "%s", quiet->name);
    } else if (route->group_by.n > 0 && a->severity < CRITICAL && !alone) {
        leg.kind = ALERT_LEG_PUT_BY;
        leg.reason = ALERT_PARCEL_GROUP;
        group_bucket(route, a, leg.bucket);
    }
    return leg;
}

/* ---- what a node is ---- */

#define DEPTH_MAX 10 /* groups nest 8 deep; a route or several nodes above them */

struct lay {
    const struct set_alert *set;
    struct alert_layout *to;
    size_t leaves;
};

static bool add(struct lay *l, const char *name, int depth);

static size_t open_node(struct lay *l, enum alert_node_kind kind, const char *name)
{
    struct alert_tree *t = &l->to->tree;
    if (t->n == ALERT_NODES_MAX)
        return SIZE_MAX;
    t->nodes[t->n] = (struct alert_node){.kind = (uint8_t)kind};
    l->to->names[t->n] = name;
    return t->n++;
}

static bool add_channel(struct lay *l, const char *name)
{
    size_t at = open_node(l, ALERT_NODE_CHANNEL, name), way = 0;
    if (at == SIZE_MAX || l->leaves++ == ALERT_LEAVES_MAX)
        return false;
    while (way < l->to->n_ways && strcmp(l->to->ways[way], name) != 0)
        way++;
    l->to->ways[way] = name; /* never more ways than leaves */
    if (way == l->to->n_ways)
        l->to->n_ways++;
    l->to->tree.nodes[at].way = (uint8_t)way;
    l->to->tree.nodes[at].end = (uint16_t)l->to->tree.n;
    return true;
}

static bool add_members(struct lay *l, enum alert_node_kind kind, const char *name, const char *const *members,
                        size_t n, int depth)
{
    size_t at = open_node(l, kind, name);
    if (at == SIZE_MAX || depth > DEPTH_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!add(l, members[i], depth + 1))
            return false;
    l->to->tree.nodes[at].end = (uint16_t)l->to->tree.n;
    return true;
}

static bool add(struct lay *l, const char *name, int depth)
{
    const struct set_alert *set = l->set;
    for (size_t i = 0; i < set->channels.n; i++) {
        const struct set_channel *c = CONF_AT(set->channels, struct set_channel, i);
        if (strcmp(c->name, name) == 0)
            return add_channel(l, c->name);
    }
    for (size_t i = 0; i < set->groups.n; i++) {
        const struct set_channel_group *g = CONF_AT(set->groups, struct set_channel_group, i);
        if (strcmp(g->name, name) == 0)
            return add_members(l, g->mode == SET_GROUP_FANOUT ? ALERT_NODE_FANOUT : ALERT_NODE_FAILOVER, g->name,
                               (const char *const *)g->members.items, g->members.n, depth);
    }
    const char *own = subject_tail(name, ALERT_ROUTE_NODE);
    for (size_t i = 0; own && depth <= 1 && i < set->routes.n; i++) {
        const struct set_route *r = CONF_AT(set->routes, struct set_route, i);
        if (r->channels.n > 0 && strcmp(r->name, own) == 0)
            return add_members(l, ALERT_NODE_FAILOVER, name, (const char *const *)r->channels.items, r->channels.n,
                               depth);
    }
    return false;
}

bool alert_layout_of(const struct set_alert *set, const char *const *nodes, size_t n, struct alert_layout *ret)
{
    struct lay l = {.set = set, .to = ret};
    ret->tree.n = ret->n_ways = 0;
    return n == 0 ? false : n == 1 ? add(&l, nodes[0], 0) : add_members(&l, ALERT_NODE_FANOUT, "", nodes, n, 0);
}
