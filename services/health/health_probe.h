/* health_probe.h - a kind of probe behind one small vtable; one file each. */
#ifndef REDOUBT_HEALTH_PROBE_H
#define REDOUBT_HEALTH_PROBE_H

#include "common/bus.h"
#include "common/http.h"
#include "common/loop.h"
#include "common/settings.h"
#include "common/store.h"
#include "health/health.h"
#include "health/health_llm.h"

struct health_probe_env {
    struct loop *loop;
    struct http *http;
    struct bus *bus;
    struct store *store;
};
/* Called exactly once, on the loop, never from inside start or cancel. Filled in: fault, total, and what is known of status, first
 * token, Retry-After and detail. After a cancel the fault may be CANCELLED. */
typedef void (*health_probe_done)(void *ctx, const struct health_result *r);

/* One target's probe: what it needs to know, and what it learns from one time to the next. */
struct health_probe_conf {
    const struct set_probe *set; /* NULL: the target is no longer watched */
    unsigned llm_wants;          /* llm: what this API has shown to want, HEALTH_LLM_... */
    struct health_spent spent;   /* llm: by all probes since the start */
    void *memory; /* the probe kind's own, e.g. compiled patterns, a file being followed; NULL = none yet */
};

struct health_probe {
    int kind; /* enum health_probe_kind */
    bool paid;
    bool local; /* of this replica's own host or connections: another one would look at something else */
    /* The probe goes the way that real calls go. Without: a check beside it, whose word closes no breaker... */
    bool data_path;
    /* ...unless it is made under a permit or in probation: a backend's configured request stands for its calls then. */
    bool may_try;
    /* NULL: memory is out, and done will not be called. conf lives until done. */
    void *(*start)(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx);
    void (*cancel)(void *run);
    /* Frees conf->memory: the settings have changed or the target is not watched any more. No run is under way. May be NULL. */
    void (*forget)(struct health_probe_conf *conf);
};
extern const struct health_probe health_probe_http, health_probe_tcp, health_probe_llm, health_probe_tls,
    health_probe_dns, health_probe_resource, health_probe_log, health_probe_bus, health_probe_store;
/* NULL for SET_PROBE_NONE. */
const struct health_probe *health_probe_of(int set_probe_type);

/* What a call's end means when no answer is there to judge: fault, total time and detail. False: there is an answer. */
bool health_probe_failed(const struct http_result *h, struct health_result *r);

/* TLS as the settings want it. Holds pointers into them. */
void health_probe_tls_of(const struct set_probe *set, struct http_tls *ret);

#endif
