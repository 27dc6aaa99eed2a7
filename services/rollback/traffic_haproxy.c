/* traffic_haproxy.c - weights by HAProxy's runtime API: what gets more is up and has its weight before anything else loses any.
 *
 * One exchange is one connection and one line. A set is: read; servers that come into use get their address and are made ready with weight 0; read again, and wait
 * for HAProxy's own health checks; raise; lower. Each step stops at the first error, so that a failure leaves too much traffic in place, never too little. */
#include "common/clock.h"
#include "rollback/traffic_haproxy_line.h"
#include "rollback/traffic_haproxy_plan.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define AGAIN_MS 100 /* while HAProxy's health check has not said yes yet */

struct traffic {
    struct loop *loop;
    const struct set_rb_traffic *set;
    struct job *jobs;
};

enum step { STEP_READ, STEP_READY, STEP_LOOK, STEP_RAISE, STEP_LOWER };
struct job {
    struct traffic *t;
    traffic_view_cb view;
    traffic_cb done;
    void *ctx;
    bool check; /* rights are tried, nothing is changed */
    bool set;
    struct traffic_order order;
    struct executor_instance *instances;
    char name[2][ROLLBACK_NAME];
    struct traffic_haproxy h;
    struct traffic_wanted wanted;
    enum step step;
    size_t at; /* command of this step */
    int64_t until_ms;
    struct traffic_line *line;
    struct loop_timer timer;
    struct job *prev, *next;
};

static void free_job(void *ctx)
{
    struct job *j = ctx;
    free(j->instances);
    free(j);
}

static void drop(struct job *j)
{
    DL_DELETE(j->t->jobs, j);
    traffic_line_cancel(j->line);
    loop_timer_close(&j->timer, free_job);
}

static void finish(struct job *j, const char *error, bool lasting)
{
    const struct executor_result r = {.ok = !error, .lasting = lasting, .text = error ? error : ""};
    struct traffic_view v = {.ok = !error, .lasting = lasting, .error = r.text};
    char text[ERR_TEXT_MAX + 300]; /* `error` may live in what ends now */
    if (error) {
        snprintf(text, sizeof text, "traffic haproxy, backend %s at %s: %s", j->t->set->backend, j->t->set->address,
                 error);
        v.error = text;
    }
    traffic_haproxy_found(&j->h, j->instances, j->set ? 0 : j->order.n, v.share, &v.nobody);
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < j->h.n[s]; i++)
            v.sessions[s] += j->h.server[s][i].sessions;
    traffic_view_cb view = j->view;
    traffic_cb done = j->done;
    void *ctx = j->ctx;
    drop(j);
    if (view)
        view(ctx, &v);
    else
        done(ctx, &(struct executor_result){.ok = r.ok, .lasting = lasting, .text = v.error});
}

static void on_answer(void *ctx, const char *answer, size_t len, const char *error, bool lasting);

static void ask(struct job *j, const char *line)
{
    j->line = traffic_line_ask(j->t->loop, j->t->set->address, line, j->t->set->timeout_ms, on_answer, j);
}

static void ask_state(struct job *j, enum step step)
{
    char line[TRAFFIC_COMMAND_MAX];
    j->step = step;
    traffic_haproxy_question(&j->h, line);
    ask(j, line);
}

/* As many commands of this step as a line takes; false: there are none left. */
static bool ask_next(struct job *j, enum traffic_phase phase)
{
    char line[TRAFFIC_LINE_MAX], command[TRAFFIC_COMMAND_MAX];
    size_t len = 0;
    for (size_t at = j->at; traffic_haproxy_command(&j->h, &j->wanted, phase, &at, command); j->at = at) {
        size_t more = strlen(command);
        if (len + more + 2 > sizeof line)
            break;
        len += (size_t)snprintf(line + len, sizeof line - len, "%s%s", len ? ";" : "", command);
    }
    if (len)
        ask(j, line);
    return len > 0;
}

static void raise_or_lower(struct job *j, enum step step)
{
    for (; step <= STEP_LOWER; step++) {
        j->at = j->step == step ? j->at : 0;
        j->step = step;
        if (ask_next(j, step == STEP_RAISE ? TRAFFIC_RAISE : TRAFFIC_LOWER))
            return;
    }
    finish(j, NULL, false);
}

/* The backend was read: what now? */
static void on_looked(struct job *j)
{
    struct err e;
    if (traffic_haproxy_able(&j->h, &j->wanted, &e)) {
        raise_or_lower(j, STEP_RAISE);
        return;
    }
    if (clock_mono_ms() >= j->until_ms)
        finish(j, e.text, false);
    else
        loop_timer_start(&j->timer, AGAIN_MS, 0);
}

static void look_again(void *ctx)
{
    ask_state(ctx, STEP_LOOK);
}

static void get_ready(struct job *j)
{
    j->step = STEP_READY;
    if (!ask_next(j, TRAFFIC_READY)) {
        if (j->at)
            ask_state(j, STEP_LOOK);
        else
            on_looked(j); /* nothing had to be made ready: what was read still holds */
    }
}

static void check_rights(struct job *j)
{
    char line[TRAFFIC_COMMAND_MAX];
    struct err e;
    /* static-rr keeps its weights, `first` fills one server after the other, leastconn deals evenly while there is little to do (seen: 50 of 100 requests
     * one after the other at weights 50 and 150): a share could not be set. */
    static const char *const deaf[] = {"static-rr", "first", "leastconn"};
    bool follows = true;
    for (size_t i = 0; i < sizeof deaf / sizeof *deaf; i++)
        follows = follows && strcmp(j->h.algorithm, deaf[i]) != 0;
    if (!follows) {
        err_set(&e, "it uses `balance %s`, which does not follow weights: use roundrobin or random", j->h.algorithm);
        finish(j, e.text, true);
        return;
    }
    if (*j->h.stranger) {
        err_set(
            &e,
            "server %s belongs to neither side and takes traffic: name it in `traffic.side_0` or `side_1`, or give "
            "it weight 0",
            j->h.stranger);
        finish(j, e.text, true);
        return;
    }
    snprintf(line, sizeof line, "set weight %s/%s %u", j->h.backend, j->h.server[0][0].name,
             j->h.server[0][0].weight);
    j->step = STEP_RAISE;
    ask(j, line);
}

static void on_read(struct job *j, const char *answer)
{
    struct err e;
    bool lasting;
    if (traffic_haproxy_read(&j->h, answer, &e, &lasting) < 0) {
        finish(j, e.text, lasting);
        return;
    }
    if (j->check) {
        check_rights(j);
    } else if (!j->set) {
        finish(j, NULL, false);
    } else if (j->step == STEP_LOOK) {
        on_looked(j);
    } else if (traffic_haproxy_want(&j->h, &j->order, j->t->set->set_address, &j->wanted, &e, &lasting) < 0) {
        finish(j, e.text, lasting);
    } else {
        j->at = 0;
        get_ready(j);
    }
}

static void on_answer(void *ctx, const char *answer, size_t len, const char *error, bool lasting)
{
    struct job *j = ctx;
    struct err e;
    (void)len;
    j->line = NULL;
    if (error) {
        err_set(&e, "%s", error);
        finish(j, e.text, lasting);
    } else if (j->step == STEP_READ || j->step == STEP_LOOK) {
        on_read(j, answer);
    } else if (traffic_haproxy_said(answer, &e, &lasting) < 0) {
        finish(j, e.text, lasting);
    } else if (j->check) {
        finish(j, NULL, false);
    } else if (j->step == STEP_READY) {
        get_ready(j);
    } else {
        raise_or_lower(j, j->step);
    }
}

static struct job *begin(struct traffic *t, traffic_view_cb view, traffic_cb done, void *ctx)
{
    struct job *j = calloc(1, sizeof *j);
    assert(j && "out of memory for a few words");
    j->t = t;
    j->view = view;
    j->done = done;
    j->ctx = ctx;
    j->until_ms = clock_mono_ms() + t->set->timeout_ms;
    loop_timer_init(t->loop, &j->timer, look_again, j);
    traffic_haproxy_init(&j->h, t->set);
    DL_APPEND(t->jobs, j);
    ask_state(j, STEP_READ);
    return j;
}

static struct traffic *haproxy_open(struct service *s, const struct set_deployment *set, struct err *e)
{
    struct traffic *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(e, "out of memory");
        return NULL;
    }
    t->loop = &s->loop;
    t->set = &set->traffic;
    return t;
}

static void haproxy_close(struct traffic *t)
{
    struct job *j, *next;
    if (!t)
        return;
    DL_FOREACH_SAFE(t->jobs, j, next)
    {
        drop(j);
    }
    free(t);
}

static void keep_instances(struct job *j, const struct executor_instance *at, size_t n)
{
    j->instances = malloc(n ? n * sizeof *at : 1);
    assert(j->instances && "out of memory for a few words");
    if (n)
        memcpy(j->instances, at, n * sizeof *at);
    j->order.instances = j->instances;
    j->order.n = n;
}

static void haproxy_view(struct traffic *t, const struct executor_instance *at, size_t n, traffic_view_cb cb,
                         void *ctx)
{
    keep_instances(begin(t, cb, NULL, ctx), at, t->set->set_address ? n : 0);
}

static void haproxy_check(struct traffic *t, traffic_cb cb, void *ctx)
{
    begin(t, NULL, cb, ctx)->check = true;
}

static void haproxy_set(struct traffic *t, const struct traffic_order *o, traffic_cb cb, void *ctx)
{
    struct job *j = begin(t, NULL, cb, ctx);
    j->set = true;
    j->order = *o;
    keep_instances(j, o->instances, o->n);
    for (int s = 0; s < 2; s++) {
        snprintf(j->name[s], sizeof j->name[s], "%s", o->name[s] ? o->name[s] : "");
        j->order.name[s] = j->name[s];
    }
}

const struct traffic_kind traffic_haproxy = {.name = "haproxy",
                                             .glances = true,
                                             .open = haproxy_open,
                                             .close = haproxy_close,
                                             .view = haproxy_view,
                                             .check = haproxy_check,
                                             .set = haproxy_set};
