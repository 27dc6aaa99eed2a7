/* check_command.c - a program that ends with 0: the agent's own health check. Of each instance once. */
#include "common/program.h"
#include "rollback/rollback_check_kind.h"
#include "rollback/rollback_fill.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct own {
    struct service *s;
    const struct set_rb_check *set;
};
struct asked {
    check_done done;
    void *ctx;
    struct loop *loop;
    struct program *program; /* NULL = it is not run */
    bool cancelled;
    struct check_answer a;
};

static int open_own(struct service *s, const struct set_rb_check *set, void **ret, struct err *e)
{
    char why[256];
    const char *program = *CONF_AT(set->command, char *, 0);
    if (!fill_allowed(&s->settings->rollback.exec_allowed, &set->command))
        return err_set(e, "%s is not in rollback.exec_allowed", program);
    if (!program_ok(program, why, sizeof why))
        return err_set(e, "%s cannot be run: %.200s", program, why);
    for (size_t i = 1; i < set->command.n; i++)
        if (check_text_ok("command", *CONF_AT(set->command, char *, i), e))
            return -1;
    struct own *o = malloc(sizeof *o);
    if (!o)
        return err_set(e, "out of memory");
    *o = (struct own){s, set};
    *ret = o;
    return 0;
}

static int sample(const struct set_rb_check *set)
{
    (void)set;
    return ROLLBACK_PLAIN;
}

/* It is told the address, also if its arguments are not. */
static bool each(const struct set_rb_check *set)
{
    (void)set;
    return true;
}

static void finish(void *ctx)
{
    struct asked *x = ctx;
    if (x->cancelled)
        x->a.said = CHECK_NOTHING;
    x->done(x->ctx, &x->a);
    free(x);
}

static void on_end(void *ctx, const struct program_result *r)
{
    struct asked *x = ctx;
    /* Only a program that came to its own end has said something. */
    if (r->end == PROGRAM_EXITED && r->code == 0)
        check_say(&x->a, CHECK_PASSED, "ended with 0 after %lld ms", (long long)r->took_ms);
    else
        check_say(&x->a, r->end == PROGRAM_EXITED ? CHECK_FAILED : CHECK_NOTHING, "%s", r->text);
    finish(x);
}

static char *pair(const char *name, const char *value)
{
    char *text;
    if (asprintf(&text, "%s=%s", name, value) < 0)
        abort();
    return text;
}

static void begin(struct own *o, const struct check_ask *q, struct asked *x)
{
    struct err e = {""};
    char why[256];
    const char *side = q->side->side ? "1" : "0", *program = *CONF_AT(o->set->command, char *, 0);
    const struct fill_name names[] = {{"address", *q->address ? q->address : NULL},
                                      {"version", q->side->name},
                                      {"digest", q->side->digest},
                                      {"side", side}};
    if (!program_ok(program, why, sizeof why)) {
        check_say(&x->a, CHECK_NOTHING, "%.80s cannot be run: %.100s", program, why);
        return;
    }
    char **argv = fill_argv(&o->set->command, names, sizeof names / sizeof names[0], &e);
    if (!argv) {
        check_say(&x->a, CHECK_NOTHING, "%s", e.text);
        return;
    }
    char *env[] = {pair("REDOUBT_VERSION", q->side->name), pair("REDOUBT_ADDRESS", q->address),
                   pair("REDOUBT_DIGEST", q->side->digest), pair("REDOUBT_SIDE", side), NULL};
    x->program = program_run(x->loop,
                             &(struct program_opts){.argv = (const char *const *)argv,
                                                    .env = (const char *const *)env,
                                                    .timeout_ms = o->set->timeout_ms,
                                                    .cut = true},
                             on_end, x);
    if (!x->program)
        check_say(&x->a, CHECK_NOTHING, "out of memory");
    for (size_t i = 0; env[i]; i++)
        free(env[i]);
    fill_free(argv);
}

static void *ask(void *p, const struct check_ask *q, check_done done, void *ctx)
{
    struct own *o = p;
    struct asked *x = calloc(1, sizeof *x);
    if (!x)
        abort(); /* who asks is promised an answer */
    *x = (struct asked){.done = done, .ctx = ctx, .loop = &o->s->loop};
    begin(o, q, x);
    if (!x->program)
        loop_defer(x->loop, finish, x);
    return x;
}

static void cancel(void *handle)
{
    struct asked *x = handle;
    x->cancelled = true;
    program_cancel(x->program);
}

const struct check_kind check_command = {open_own, free, sample, each, ask, cancel};
