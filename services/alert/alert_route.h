/* alert_route.h - which routes take an alert, what each does with it now, and what a name in the settings stands for. Pure but for its memory. */
#ifndef REDOUBT_ALERT_ROUTE_H
#define REDOUBT_ALERT_ROUTE_H

#include "alert/alert_parcel.h"
#include "alert/alert_quiet.h"
#include "alert/alert_tree.h"
#include "common/settings.h"
#include "common/wire.h"

#define ALERT_ROUTE_NODE                                                                                             \
    "route-" /* a route's own list of channels is the node `route-<its name>`: a failover group */

/* ---- which routes ---- */

struct alert_routes;
/* `set` is kept by reference. NULL with the reason in e. */
struct alert_routes *alert_routes_new(const struct set_alert *set, struct err *e);
void alert_routes_free(struct alert_routes *r); /* NULL is fine */
/* A bit per route of the settings: the first that takes it, and those behind it while they `continue`. 0 = none. */
uint64_t alert_routes_of(const struct alert_routes *r, const PB(Alert) * a);

/* The node that a route tells; buf holds it if it is the route's own. */
const char *alert_route_node(const struct set_route *route, char buf[static ALERT_PARCEL_TOKEN_MAX + 1]);

/* ---- what a route does with an alert ---- */

enum alert_leg_kind {
    ALERT_LEG_NONE, /* nobody is to be told of an end */
    ALERT_LEG_AT_ONCE,
    ALERT_LEG_PUT_BY, /* reason, bucket */
};
struct alert_leg {
    enum alert_leg_kind kind;
    enum alert_parcel_reason reason;
    char bucket[ALERT_PARCEL_TOKEN_MAX + 1];
};
/* `quiet` is the route's, NULL = none. `alone`: it is told by itself whatever the route groups. */
struct alert_leg alert_route_leg(const struct set_route *route, const struct set_quiet *quiet, const PB(Alert) * a,
                                 bool alone, struct alert_dial now);

/* ---- what a node is ---- */

/* Names point into the settings, or are those asked for. */
struct alert_layout {
    struct alert_tree tree;
    size_t n_ways;
    const char *ways[ALERT_WAYS_MAX];   /* channels */
    const char *names[ALERT_NODES_MAX]; /* of the tree's nodes; "" of one that only holds several together */
};
/* The nodes, put together as a fanout group if they are more than one. False: one of them is not known, or they are more than fits. */
bool alert_layout_of(const struct set_alert *set, const char *const *nodes, size_t n, struct alert_layout *ret);

#endif
