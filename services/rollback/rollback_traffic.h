/* rollback_traffic.h - how traffic moves between the two sides: one file per kind behind this table of functions. */
#ifndef REDOUBT_ROLLBACK_TRAFFIC_H
#define REDOUBT_ROLLBACK_TRAFFIC_H

#include "common/service.h"
#include "rollback/rollback_executor.h"

struct traffic_view { /* valid only inside the callback */
    bool ok;
    bool lasting;      /* wrong settings or rights */
    const char *error; /* what, where, what to do; "" if ok */
    int share
        [2]; /* percent by side as the traffic itself says it, of new work; they add up to 100 unless both are 0 */
    unsigned sessions[2]; /* in hand; 0 if it cannot say */
};
typedef void (*traffic_view_cb)(void *ctx, const struct traffic_view *v);
typedef void (*traffic_cb)(void *ctx, const struct executor_result *r);

struct traffic_order {
    const char *job;
    uint64_t epoch; /* of the document: grows */
    int share[2];
    const struct executor_instance *instances; /* where the sides are */
    size_t n;
    const char *version[2]; /* id and name by side; "" = nothing there */
    const char *name[2];
};

struct traffic;
struct traffic_kind {
    const char *name;
    struct traffic *(*open)(struct service *s, const struct set_deployment *set, struct err *e);
    void (*close)(struct traffic *t);
    void (*view)(struct traffic *t, traffic_view_cb cb, void *ctx);
    /* Changes nothing: reachable, backend and servers there, weights may be set. */
    void (*check)(struct traffic *t, traffic_cb cb, void *ctx);
    /* Never takes traffic from one side before the other has it. May be asked for again. */
    void (*set)(struct traffic *t, const struct traffic_order *o, traffic_cb cb, void *ctx);
};
extern const struct traffic_kind traffic_none, traffic_haproxy, traffic_replicas, traffic_httproute, traffic_nats,
    traffic_webhook;
const struct traffic_kind *traffic_of(const struct set_deployment *set);

#endif
