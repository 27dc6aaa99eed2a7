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
        [2];    /* percent by side as the traffic itself says it, of new work; they add up to 100 unless both are 0 */
    int nobody; /* percent that goes to where none of `at` stands (haproxy): shares and this add up to 100 then */
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
    bool glances; /* it forgets when it is started again, and a view costs next to nothing: it is looked at often */
    struct traffic *(*open)(struct service *s, const struct set_deployment *set, struct err *e);
    void (*close)(struct traffic *t);
    /* `at`: what stands, if the addresses that the traffic has are those that `set` has given it; it need not live longer than this call. n = 0: they are
     * not compared. */
    void (*view)(struct traffic *t, const struct executor_instance *at, size_t n, traffic_view_cb cb, void *ctx);
    /* Changes nothing: reachable, backend and servers there, weights may be set. */
    void (*check)(struct traffic *t, traffic_cb cb, void *ctx);
    /* Never takes traffic from one side before the other has it. May be asked for again. */
    void (*set)(struct traffic *t, const struct traffic_order *o, traffic_cb cb, void *ctx);
};
extern const struct traffic_kind traffic_none, traffic_haproxy, traffic_replicas, traffic_httproute, traffic_nats,
    traffic_webhook;
const struct traffic_kind *traffic_of(const struct set_deployment *set);

#endif
