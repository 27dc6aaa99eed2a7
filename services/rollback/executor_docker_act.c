/* executor_docker_act.c - up, stop, start, settle, remove: look, one step, look again, until nothing is left to be done. */
#include "rollback/executor_docker.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MOST     (EXECUTOR_INSTANCES * 8) /* more than any order needs: something undoes what is done */
#define CONFLICTS_MOST 5                        /* others act at the same time: look again, but not for ever */
#define ACT_MS         60000
#define STOP_MORE_MS   20000 /* what the engine takes after a container's own time is over */

static void look(struct docker_op *op);

/* ---- what came of a step ---- */

static void on_step(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    /* Gone, or changed by somebody else (or by an earlier call whose answer was lost): what stands now decides. */
    bool conflict = a->status == 404 || a->status == 409;
    if (!a->ok && (!conflict || ++op->conflicts > CONFLICTS_MOST)) {
        docker_op_end(op, false, a->lasting, "%s", a->error);
        return;
    }
    look(op);
}

/* An image or a network that is missing is not made better by looking again. */
static void on_created(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    if (a->status == 404)
        docker_op_end(op, false, true, "%s: it is missing on this host; make it anew, then go on", a->error);
    else
        on_step(op, a);
}

/* An earlier call, whose answer was lost, has given it the name just now: the engine calls that a bad request. */
static void on_renamed(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    if (a->status == 400 && ++op->conflicts <= CONFLICTS_MOST)
        look(op);
    else
        on_step(op, a);
}

static void on_started(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    if (a->ok && op->aim.n_started < EXECUTOR_INSTANCES)
        snprintf(op->aim.started[op->aim.n_started++], DOCKER_ID, "%s", op->id);
    on_step(op, a);
}

/* ---- a step ---- */

static void post(struct docker_op *op, const char *what, const char *query, const json_t *body, int64_t timeout_ms,
                 docker_cb cb)
{
    char path[DOCKER_PATH];
    snprintf(path, sizeof path, "/containers/%s/%s%s", op->id, what, query);
    docker_op_call(op, "POST", path, body, timeout_ms, cb);
}

static void create(struct docker_op *op, const struct docker_step *st)
{
    char path[DOCKER_PATH], name[400];
    struct docker_made m = {.deployment = op->x->set->name,
                            .job = op->job,
                            .version = op->version,
                            .home = st->home,
                            .image = op->image,
                            .side = op->aim.side,
                            .index = st->index,
                            .volumes = st->volumes};
    if (!op->image[0]) {
        docker_op_end(op, false, op->image_lasting, "%s", op->image_error);
        return;
    }
    json_t *body = docker_create_body(op->spec, &m);
    snprintf(path, sizeof path, "/containers/create?name=%s", docker_escape(st->name, name, sizeof name));
    docker_op_call(op, "POST", path, body, ACT_MS, on_created);
    json_decref(body);
}

static void connect_network(struct docker_op *op, const struct docker_step *st)
{
    char path[DOCKER_PATH], name[700];
    json_t *body = docker_connect_body(op->spec, st->network, op->id);
    snprintf(path, sizeof path, "/networks/%s/connect", docker_escape(st->network, name, sizeof name));
    docker_op_call(op, "POST", path, body, ACT_MS, on_created);
    json_decref(body);
}

static void set_policy(struct docker_op *op, const struct docker_step *st)
{
    json_t *body = json_pack("{sO}", "RestartPolicy", st->policy);
    post(op, "update", "", body, ACT_MS, on_step);
    json_decref(body);
}

static void take(struct docker_op *op, const struct docker_step *st)
{
    int64_t stop_ms = op->x->set->docker.stop_ms;
    char query[500], name[400];
    snprintf(op->id, sizeof op->id, "%s", st->id);
    switch (st->act) {
    case DOCKER_CREATE:
        create(op, st);
        break;
    case DOCKER_CONNECT:
        connect_network(op, st);
        break;
    case DOCKER_START:
        post(op, "start", "", NULL, ACT_MS, on_started);
        break;
    case DOCKER_STOP:
        snprintf(query, sizeof query, "?t=%lld", (long long)((stop_ms + 999) / 1000));
        post(op, "stop", query, NULL, stop_ms + STOP_MORE_MS, on_step);
        break;
    case DOCKER_RENAME:
        snprintf(query, sizeof query, "?name=%s", docker_escape(st->name, name, sizeof name));
        post(op, "rename", query, NULL, ACT_MS, on_renamed);
        break;
    case DOCKER_POLICY:
        set_policy(op, st);
        break;
    default: {
        char path[DOCKER_PATH];
        snprintf(path, sizeof path, "/containers/%s?force=0&v=0", op->id); /* never v=1: volumes are data */
        docker_op_call(op, "DELETE", path, NULL, ACT_MS, on_step);
    }
    }
}

static void on_look(void *ctx, const struct docker_sight *s)
{
    struct docker_op *op = ctx;
    struct docker_step st;
    op->look = NULL;
    if (!s->ok) {
        docker_op_end(op, false, s->lasting, "%s", s->error);
        return;
    }
    docker_next(&op->aim, s, &st);
    if (st.act == DOCKER_DONE)
        docker_op_end(op, true, false, op->steps > 0 ? "done in %u steps" : "nothing was left to be done", op->steps);
    else if (st.act == DOCKER_REFUSE)
        docker_op_end(op, false, st.lasting, "%s", st.text);
    else if (++op->steps > STEPS_MOST)
        docker_op_end(op, false, false, "after %u steps it still does not stand: something undoes what is done here",
                      STEPS_MOST);
    else
        take(op, &st);
    json_decref(st.policy);
}

static void look(struct docker_op *op)
{
    op->look = docker_look_start(op->x->api, op->x->set, &op->x->cache, on_look, op);
}

/* ---- orders ---- */

static void begin(struct executor *x, const struct executor_order *o, enum docker_goal goal, executor_cb cb,
                  void *ctx)
{
    struct docker_op *op = docker_op_new(x, o, cb, ctx);
    if (!op)
        return;
    op->aim.goal = goal;
    if (op->spec && (goal == DOCKER_GOAL_UP || goal == DOCKER_GOAL_START))
        docker_op_image(op, look);
    else
        look(op);
}

void docker_up(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    begin(x, o, DOCKER_GOAL_UP, cb, ctx);
}

void docker_stop(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    begin(x, o, DOCKER_GOAL_STOPPED, cb, ctx);
}

void docker_start(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    begin(x, o, DOCKER_GOAL_START, cb, ctx);
}

void docker_settle(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    begin(x, o, DOCKER_GOAL_SETTLED, cb, ctx);
}

void docker_remove(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    begin(x, o, DOCKER_GOAL_REMOVED, cb, ctx);
}
