/* probe_resource.c - what a process or a cgroup of this host uses, against its limits. */
#include "common/clock.h"
#include "health/health_probe.h"
#include "health/health_usage.h"
#include <stdlib.h>
#include <string.h>

struct memory {
    struct health_usage_seen seen;
    struct health_resource means;
    char *place; /* what is looked at: another one begins anew */
};
struct run {
    struct loop *loop;
    struct health_probe_conf *conf;
    health_probe_done done;
    void *ctx;
    bool cancelled;
};

static const char *place_of(const struct set_probe *set)
{
    return *set->pid_file ? set->pid_file : set->cgroup;
}

static void forget(struct health_probe_conf *conf)
{
    struct memory *m = conf->memory;
    conf->memory = NULL;
    if (m)
        free(m->place);
    free(m);
}

static struct memory *remember(struct health_probe_conf *conf)
{
    struct memory *m = conf->memory;
    if (m && strcmp(m->place, place_of(conf->set)) == 0)
        return m;
    forget(conf);
    if (!(m = calloc(1, sizeof *m)))
        return NULL;
    if (!(m->place = strdup(place_of(conf->set)))) {
        free(m);
        return NULL;
    }
    return conf->memory = m;
}

static void look(struct memory *m, const struct set_probe *set, struct health_result *r)
{
    static const struct health_usage_roots roots = {"/proc", "/sys/fs/cgroup"};
    const struct set_limits *l = &set->limits;
    const struct health_resource_rule rule = {
        .mark_percent = {[HEALTH_MEANS_MEMORY] = (uint32_t)l->memory_percent,
                         [HEALTH_MEANS_CPU] = (uint32_t)l->cpu_percent,
                         [HEALTH_MEANS_FDS] = (uint32_t)l->fds_percent,
                         [HEALTH_MEANS_TASKS] = (uint32_t)l->fds_percent},
        .memory_bytes = (uint64_t)l->memory_bytes,
    };
    struct health_usage u;
    struct err e = {""};
    int64_t now_us = clock_mono_ns() / 1000;
    int rc = *set->pid_file ? health_usage_process(&roots, set->pid_file, &m->seen, now_us, &u, &e)
                            : health_usage_cgroup(set->cgroup, &m->seen, now_us, &u, &e);
    if (rc == 0) {
        health_resource_judge(&m->means, &rule, &u, now_us / 1000, r);
        return;
    }
    /* What comes after it is measured anew, but for kills: they count on in the group. */
    m->seen = (struct health_usage_seen){0};
    r->fault = HEALTH_FAULT_CONNECT;
    health_detail(r, "%s", e.text);
}

static void on_turn(void *ctx)
{
    struct run *x = ctx;
    struct health_result r = {.probe = HEALTH_PROBE_RESOURCE, .fault = HEALTH_FAULT_CANCELLED};
    struct memory *m = x->cancelled || !x->conf->set ? NULL : remember(x->conf);
    int64_t began_ms = clock_mono_ms();
    if (m)
        look(m, x->conf->set, &r);
    r.total_ms = (uint32_t)(clock_mono_ms() - began_ms);
    x->done(x->ctx, &r);
    free(x);
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    struct run *x = malloc(sizeof *x);
    if (!x)
        return NULL;
    *x = (struct run){.loop = env->loop, .conf = conf, .done = done, .ctx = ctx};
    loop_defer(env->loop, on_turn, x);
    return x;
}

static void cancel(void *run)
{
    ((struct run *)run)->cancelled = true;
}

const struct health_probe health_probe_resource = {
    .kind = HEALTH_PROBE_RESOURCE, .local = true, .start = start, .cancel = cancel, .forget = forget};
