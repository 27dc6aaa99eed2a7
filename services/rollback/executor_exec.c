/* executor_exec.c - versions that programs of the settings start and stop: for whatever has no executor of its own.
 *
 * Programs are those of rollback.exec_allowed, run as common/program.h says: no shell, names filled into arguments as whole texts. 0 = done, 75
 * (EX_TEMPFAIL), a time-out and a signal = it may be tried again, anything else = it will not become better by itself. */
#include "common/program.h"
#include "common/utf8.h"
#include "rollback/executor_exec_view.h"
#include "rollback/rollback_fill.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define VIEW_MAX (4 * 1024 * 1024)

struct run {
    struct executor *x;
    const char *what; /* "exec.up" */
    struct program *program;
    struct loop_timer later; /* there is nothing to run: the answer, later */
    struct executor_result said;
    char text[ERR_TEXT_MAX];
    executor_view_cb view_cb;
    executor_cb cb;
    void *ctx;
    struct run *prev, *next;
};
struct executor {
    struct service *s;
    const struct set_deployment *set;
    struct run *runs;
};

enum { VERSION, DIGEST, IMAGE, ID, JOB, SIDE, COUNT, KEEP, DEPLOYMENT, NAMES };
static const char *const names[NAMES] = {"version", "digest", "image", "id",        "job",
                                         "side",    "count",  "keep",  "deployment"};

/* ---- runs ---- */

static struct run *run_new(struct executor *x, const char *what, executor_cb cb, executor_view_cb view_cb, void *ctx)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r)
        abort(); /* the decider waits for the answer */
    *r = (struct run){.x = x, .what = what, .cb = cb, .view_cb = view_cb, .ctx = ctx, .next = x->runs};
    if (r->next)
        r->next->prev = r;
    x->runs = r;
    return r;
}

static void run_unlink(struct run *r)
{
    if (r->prev)
        r->prev->next = r->next;
    else
        r->x->runs = r->next;
    if (r->next)
        r->next->prev = r->prev;
}

static void run_tell(struct run *r, bool ok, bool lasting, const char *said)
{
    char text[ERR_TEXT_MAX];
    snprintf(text, sizeof text, "%s", said);
    text[utf8_valid_until(text, strlen(text))] = '\0'; /* not cut inside a character */
    if (r->view_cb) {
        r->view_cb(r->ctx, &(struct executor_view){.ok = ok, .lasting = lasting, .error = ok ? "" : text});
        return;
    }
    r->cb(r->ctx, &(struct executor_result){.ok = ok, .lasting = lasting, .text = text});
}

static void on_later_closed(void *ctx)
{
    free(ctx);
}

static void on_later(void *ctx)
{
    struct run *r = ctx;
    run_unlink(r);
    run_tell(r, r->said.ok, r->said.lasting, r->text);
    loop_timer_close(&r->later, on_later_closed);
}

static void answer_later(struct run *r, bool ok, bool lasting)
{
    r->said = (struct executor_result){.ok = ok, .lasting = lasting};
    loop_timer_init(&r->x->s->loop, &r->later, on_later, r);
    loop_timer_start(&r->later, 0, 0);
}

static void failed(struct run *r, const struct program_result *p)
{
    bool lasting = p->end == PROGRAM_NOT_STARTED || p->end == PROGRAM_TOO_MUCH ||
                   (p->end == PROGRAM_EXITED && p->code != EX_TEMPFAIL);
    char text[ERR_TEXT_MAX];
    snprintf(text, sizeof text, "%s of deployment %s %s", r->what, r->x->set->name, p->text);
    run_tell(r, false, lasting, text);
}

static void seen(struct run *r, const struct program_result *p)
{
    struct exec_view *v = calloc(1, sizeof *v);
    struct err e = {""}, said;
    if (!v)
        abort();
    if (exec_view_read(p->out, p->out_len, v, &e) != 0) {
        err_set(&said, "what exec.view of deployment %s prints cannot be used: %.380s", r->x->set->name, e.text);
        run_tell(r, false, true, said.text);
    } else {
        r->view_cb(r->ctx, &(struct executor_view){.ok = true,
                                                   .error = "",
                                                   .instances = v->instances,
                                                   .n = v->n,
                                                   .versions = v->versions,
                                                   .n_versions = v->n_versions});
    }
    exec_view_done(v);
    free(v);
}

static void on_done(void *ctx, const struct program_result *p)
{
    struct run *r = ctx;
    run_unlink(r);
    if (p->end != PROGRAM_EXITED || p->code != EX_OK)
        failed(r, p);
    else if (r->view_cb)
        seen(r, p);
    else
        run_tell(r, true, false, p->err);
    free(r);
}

/* ---- orders ---- */

static char **fill(struct executor *x, const struct conf_list *command, const struct executor_order *o,
                   const char *keep, struct err *e)
{
    char side[16] = "", count[16] = "";
    if (o) {
        snprintf(side, sizeof side, "%d", o->side);
        snprintf(count, sizeof count, "%u", o->count);
    }
    const char *values[NAMES] = {[DEPLOYMENT] = x->set->name, [KEEP] = keep};
    if (o) {
        values[VERSION] = o->name;
        values[DIGEST] = o->digest;
        values[IMAGE] = o->image;
        values[ID] = o->version;
        values[JOB] = o->job;
        values[SIDE] = side;
        values[COUNT] = count;
    }
    struct fill_name known[NAMES];
    for (size_t i = 0; i < NAMES; i++)
        known[i] = (struct fill_name){names[i], values[i]};
    return fill_argv(command, known, NAMES, e);
}

struct input {
    const void *data;
    size_t len;
};
static void start(struct run *r, const struct conf_list *command, const struct executor_order *o, const char *keep,
                  struct input in)
{
    struct executor *x = r->x;
    struct err e = {""};
    char **argv = fill(x, command, o, keep, &e);
    if (!argv) {
        snprintf(r->text, sizeof r->text, "%s of deployment %s is not run: %.400s", r->what, x->set->name, e.text);
        answer_later(r, false, true);
        return;
    }
    struct program_opts opts = {.argv = (const char *const *)argv,
                                .input = in.data,
                                .input_len = in.len,
                                .timeout_ms = x->set->exec.timeout_ms,
                                .max_output = VIEW_MAX,
                                .merge = !r->view_cb,
                                .leave = true}; /* what it starts is what it is for */
    r->program = program_run(&x->s->loop, &opts, on_done, r);
    if (!r->program)
        abort();
    fill_free(argv);
}

static void act(struct executor *x, const char *what, const struct conf_list *command, const struct executor_order *o,
                const char *keep, bool with_spec, executor_cb cb, void *ctx)
{
    struct run *r = run_new(x, what, cb, NULL, ctx);
    if (command->n == 0) { /* the settings need those that must be there */
        snprintf(r->text, sizeof r->text, "%s is not set: nothing to do", what);
        answer_later(r, true, false);
        return;
    }
    start(r, command, o, keep, with_spec ? (struct input){o->spec, o->spec_len} : (struct input){NULL, 0});
}

static void exec_view(struct executor *x, executor_view_cb cb, void *ctx)
{
    start(run_new(x, "exec.view", NULL, cb, ctx), &x->set->exec.view, NULL, NULL, (struct input){NULL, 0});
}

#define ACT(verb, with_spec)                                                                                         \
    static void exec_##verb(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)           \
    {                                                                                                                \
        act(x, "exec." #verb, &x->set->exec.verb, o, NULL, with_spec, cb, ctx);                                      \
    }
ACT(check, true)
ACT(up, true)
ACT(stop, false)
ACT(start, false)
ACT(settle, false)
ACT(remove, false)

static void exec_keep(struct executor *x, const struct executor_order *o, bool keep, executor_cb cb, void *ctx)
{
    act(x, "exec.keep", &x->set->exec.keep, o, keep ? "true" : "false", false, cb, ctx);
}

/* The command goes to the program's stdin, as a JSON list of texts. */
static void exec_run(struct executor *x, const struct executor_order *o, const char *const *argv, executor_cb cb,
                     void *ctx)
{
    struct run *r = run_new(x, "exec.run", cb, NULL, ctx);
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; ok && argv[i]; i++)
        ok = json_array_append_new(list, json_string(argv[i])) == 0;
    char *text = ok ? json_dumps(list, JSON_COMPACT) : NULL;
    json_decref(list);
    if (x->set->exec.run.n == 0 || !text) {
        snprintf(
            r->text, sizeof r->text, "deployment %s: %s", x->set->name,
            text ? "exec.run is not set, so nothing can be run in a version: set it, or restore a snapshot instead"
                 : "the command is not UTF-8");
        answer_later(r, false, true);
    } else {
        start(r, &x->set->exec.run, o, NULL, (struct input){text, strlen(text)});
    }
    free(text);
}

/* ---- open and close ---- */

static struct executor *exec_open(struct service *s, const struct set_deployment *set, struct err *e)
{
    const struct set_rb_exec *c = &set->exec;
    const struct {
        const char *key;
        const struct conf_list *command;
    } rows[] = {{"view", &c->view},     {"check", &c->check}, {"up", &c->up},
                {"stop", &c->stop},     {"start", &c->start}, {"settle", &c->settle},
                {"remove", &c->remove}, {"keep", &c->keep},   {"run", &c->run}};
    struct fill_name known[NAMES];
    struct err why = {""};
    for (size_t i = 0; i < NAMES; i++)
        known[i] = (struct fill_name){names[i], NULL};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].command->n > 0 && !fill_allowed(&s->settings->rollback.exec_allowed, rows[i].command)) {
            err_set(e, "deployment %s: exec.%s is `%.200s`, which is not among rollback.exec_allowed", set->name,
                    rows[i].key, *CONF_AT(*rows[i].command, char *, 0));
            return NULL;
        }
        if (!fill_known(rows[i].command, known, NAMES, &why)) {
            err_set(e, "deployment %s: exec.%s: %.300s", set->name, rows[i].key, why.text);
            return NULL;
        }
    }
    struct executor *x = calloc(1, sizeof *x);
    if (!x) {
        err_set(e, "out of memory");
        return NULL;
    }
    *x = (struct executor){.s = s, .set = set};
    return x;
}

static void exec_close(struct executor *x)
{
    for (struct run *r = x ? x->runs : NULL, *next; r; r = next) {
        next = r->next;
        if (r->program) {
            program_drop(r->program, true);
            free(r);
        } else {
            loop_timer_close(&r->later, on_later_closed);
        }
    }
    free(x);
}

const struct executor_kind executor_exec = {.name = "exec",
                                            .gradual = true,
                                            .open = exec_open,
                                            .close = exec_close,
                                            .view = exec_view,
                                            .check = exec_check,
                                            .up = exec_up,
                                            .stop = exec_stop,
                                            .start = exec_start,
                                            .settle = exec_settle,
                                            .remove = exec_remove,
                                            .keep = exec_keep,
                                            .run = exec_run};
