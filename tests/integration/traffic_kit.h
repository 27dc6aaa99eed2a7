/* traffic_kit.h - one deployment's traffic without the rest of redoubt-rollback: its settings, what is asked, how it ended. */
#ifndef REDOUBT_TESTS_TRAFFIC_KIT_H
#define REDOUBT_TESTS_TRAFFIC_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "../harness.h"
#include "common/clock.h"
#include "rollback/rollback_traffic.h"
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct town {
    struct harness *h;
    struct service s;
    struct service_desc desc;
    const struct traffic_kind *kind;
    struct traffic *t;
    bool bus_open;
    /* the last answer */
    bool done, ok, lasting;
    char text[1024];
    int share[2];
    int nobody;
    const struct executor_instance *at; /* with which a view compares; NULL = with nothing */
    size_t n_at;
    unsigned sessions[2];
    uint64_t epoch;
    void *more;
};

static inline void town_turn(struct town *t, int ms)
{
    bool never = false;
    (void)loop_run_until(&t->s.loop, &never, ms);
}

#define TOWN_WAIT(t, cond)                                                                                           \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + 2 * HARNESS_WAIT_MS;                                                     \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() >= end_ms_)                                                                          \
                fail_msg("waited in vain for: %s (last answer: %s)", #cond, (t)->text);                              \
            town_turn(t, 2);                                                                                         \
        }                                                                                                            \
    } while (0)

static inline void town_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static inline int town_setup(void **state)
{
    struct town *t = calloc(1, sizeof *t);
    struct err e = {""};
    signal(SIGPIPE, SIG_IGN);
    t->h = harness_open();
    t->desc = (struct service_desc){.name = "rollback"};
    t->s.desc = &t->desc;
    t->s.instance = "test";
    snprintf(t->s.boot_id, sizeof t->s.boot_id, "0123456789abcdef");
    if (loop_init(&t->s.loop) || !(t->s.http = http_open(&t->s.loop, &e)))
        return -1;
    *state = t;
    return 0;
}

static inline void town_close_traffic(struct town *t)
{
    if (t->t)
        t->kind->close(t->t);
    t->t = NULL;
}

static inline int town_teardown(void **state)
{
    struct town *t = *state;
    bool http = false, bus = !t->s.bus;
    town_close_traffic(t);
    if (t->s.bus)
        bus_close(t->s.bus, 1000, town_closed, &bus);
    http_close(t->s.http, town_closed, &http);
    TOWN_WAIT(t, http && bus);
    loop_done(&t->s.loop);
    settings_free(t->s.settings);
    harness_close(t->h);
    free(t);
    return 0;
}

/* `yaml` is the inside of `traffic`. */
static inline void town_traffic(struct town *t, const struct traffic_kind *kind, const char *fmt, ...)
{
    char path[600], row[3000];
    struct conf_report report = {0};
    struct err e = {""};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(row, sizeof row, fmt, ap);
    va_end(ap);
    snprintf(path, sizeof path, "%s/redoubt.yaml", harness_dir(t->h));
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fprintf(f,
            "rollback:\n  deployments:\n    - { name: mcp, executor: docker, docker: { container: mcp }, traffic: { "
            "%s } }\n",
            row);
    fclose(f);
    town_close_traffic(t);
    settings_free(t->s.settings);
    t->s.settings = settings_load(path, &report);
    if (!t->s.settings)
        fail_msg("settings: %s", report.n ? report.lines[0] : "?");
    conf_report_free(&report);
    const struct set_deployment *set = CONF_AT(t->s.settings->rollback.deployments, struct set_deployment, 0);
    t->kind = kind;
    t->t = kind->open(&t->s, set, &e);
    if (!t->t)
        fail_msg("open: %s", e.text);
}

static inline void town_on_result(void *ctx, const struct executor_result *r)
{
    struct town *t = ctx;
    assert_false(t->done);
    t->done = true;
    t->ok = r->ok;
    t->lasting = r->lasting;
    snprintf(t->text, sizeof t->text, "%s", r->text);
}

static inline void town_on_view(void *ctx, const struct traffic_view *v)
{
    struct town *t = ctx;
    assert_false(t->done);
    t->done = true;
    t->ok = v->ok;
    t->lasting = v->lasting;
    snprintf(t->text, sizeof t->text, "%s", v->error);
    memcpy(t->share, v->share, sizeof t->share);
    t->nobody = v->nobody;
    memcpy(t->sessions, v->sessions, sizeof t->sessions);
}

static inline bool town_view(struct town *t)
{
    t->done = false;
    t->kind->view(t->t, t->at, t->n_at, town_on_view, t);
    assert_false(t->done); /* never from inside */
    TOWN_WAIT(t, t->done);
    return t->ok;
}

static inline bool town_check(struct town *t)
{
    t->done = false;
    t->kind->check(t->t, town_on_result, t);
    assert_false(t->done);
    TOWN_WAIT(t, t->done);
    return t->ok;
}

#define TOWN_OK(t, call)                                                                                             \
    do {                                                                                                             \
        if (!(call))                                                                                                 \
            fail_msg("%s: %s", #call, (t)->text);                                                                    \
    } while (0)

static inline bool town_set(struct town *t, int a, int b, const struct executor_instance *instances, size_t n)
{
    const struct traffic_order o = {.job = "job-1",
                                    .epoch = ++t->epoch,
                                    .share = {a, b},
                                    .instances = instances,
                                    .n = n,
                                    .version = {"00000000000000v2", "00000000000000v1"},
                                    .name = {"v2", "v1"}};
    t->done = false;
    t->kind->set(t->t, &o, town_on_result, t);
    assert_false(t->done);
    TOWN_WAIT(t, t->done);
    return t->ok;
}

static inline void town_says(struct town *t, bool lasting, const char *words)
{
    assert_true(t->done);
    assert_false(t->ok);
    if (!strstr(t->text, words))
        fail_msg("expected `%s` in: %s", words, t->text);
    assert_int_equal(t->lasting, lasting);
}

static inline struct executor_instance town_instance(int side, const char *host, int port, bool ready)
{
    struct executor_instance x = {.side = side, .running = true, .ready = ready};
    snprintf(x.address, sizeof x.address, "%s:%d", host, port);
    snprintf(x.name, sizeof x.name, "mcp-%d-%d", side, port);
    snprintf(x.version, sizeof x.version, "00000000000000v%d", 2 - side);
    return x;
}

#endif
