/* data_pause.c - has the writers of the learning data pause, and go on again, by a program or by a POST. */
#include "rollback/data_impl.h"
#include "rollback/rollback_fill.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ONE_MS    10000 /* one writer has this long */
#define RESUMES   5     /* it is asked so often to go on */
#define RESUME_MS 100   /* and again after this, doubled each time */

struct writer {
    struct pausing *p;
    const char *address; /* "" = all at once */
    struct program *program;
    struct http_call *call;
    struct loop_timer again;
    unsigned tries;
    bool over;
};
struct pausing {
    struct data *d;
    bool resume;
    struct writer *writers;
    char **addresses;
    size_t n, left, handles;
    pausing_cb cb; /* NULL: it is dropped */
    void *ctx;
    char text[ERR_TEXT_MAX]; /* of the first that failed */
};

static const struct conf_list *command_of(const struct set_rb_data *set, bool resume)
{
    return resume ? &set->resume : &set->pause;
}

static const char *url_of(const struct set_rb_data *set, bool resume)
{
    return resume ? set->resume_url : set->pause_url;
}

bool pausing_has(const struct set_rb_data *set)
{
    return set->pause.n > 0 || *set->pause_url;
}

static bool each(const struct set_rb_data *set, bool resume)
{
    return command_of(set, resume)->n > 0 ? fill_uses(command_of(set, resume), "address")
                                          : strstr(url_of(set, resume), "{{") != NULL;
}

/* Is anybody asked? Without {{address}} it is the settings' own business whom the program or URL reaches. */
bool pausing_asks(const struct set_rb_data *set, size_t n)
{
    return pausing_has(set) && (n > 0 || !each(set, false));
}

/* ---- the end ---- */

static void free_if_over(struct pausing *p)
{
    if (p->cb || p->left > 0 || p->handles > 0)
        return;
    for (size_t i = 0; p->addresses && p->addresses[i]; i++)
        free(p->addresses[i]);
    free(p->addresses);
    free(p->writers);
    free(p);
}

static void on_closed(void *ctx)
{
    struct writer *w = ctx;
    w->p->handles--;
    free_if_over(w->p);
}

static void end(struct writer *w)
{
    struct pausing *p = w->p;
    w->over = true;
    loop_timer_close(&w->again, on_closed);
    if (--p->left > 0 || !p->cb)
        return;
    pausing_cb cb = p->cb;
    p->cb = NULL;
    cb(p->ctx, !*p->text, p->text);
}

static void ended(struct writer *w, bool ok, const char *text)
{
    struct pausing *p = w->p;
    if (!ok && p->cb && p->resume && ++w->tries < RESUMES) {
        loop_timer_start(&w->again, RESUME_MS << w->tries, 0);
        return;
    }
    if (!ok && !*p->text)
        snprintf(p->text, sizeof p->text, "the writer%s%.100s did not %s: %.300s", *w->address ? " at " : "",
                 w->address, p->resume ? "go on" : "pause", text);
    end(w);
}

/* ---- asking ---- */

static void on_program(void *ctx, const struct program_result *r)
{
    struct writer *w = ctx;
    w->program = NULL;
    ended(w, r->end == PROGRAM_EXITED && r->code == 0, r->text);
}

static void on_answer(void *ctx, const struct http_result *r)
{
    struct writer *w = ctx;
    char text[200];
    w->call = NULL;
    if (r->fault != HTTP_OK)
        snprintf(text, sizeof text, "%s", *r->error ? r->error : http_fault_text(r->fault));
    else
        snprintf(text, sizeof text, "it answered with %d", r->status);
    ended(w, r->fault == HTTP_OK && r->status >= 200 && r->status < 300, text);
}

static void ask(void *ctx)
{
    struct writer *w = ctx;
    const struct set_deployment *set = w->p->d->set;
    struct service *s = w->p->d->s;
    const struct conf_list *command = command_of(&set->data, w->p->resume);
    const struct fill_name names[] = {{"address", w->address}, {"deployment", set->name}};
    struct err e = {""};
    if (command->n > 0) {
        char **argv = fill_argv(command, names, 2, &e);
        if (argv)
            w->program = program_run(
                &s->loop,
                &(struct program_opts){
                    .argv = (const char *const *)argv, .timeout_ms = ONE_MS, .merge = true, .leave = true},
                on_program, w);
        fill_free(argv);
    } else {
        char *url = fill_text(url_of(&set->data, w->p->resume), names, 2, &e);
        if (url && s->http)
            w->call = http_start(s->http, &(struct http_request){.method = "POST", .url = url, .timeout_ms = ONE_MS},
                                 NULL, on_answer, w);
        free(url);
    }
    if (!w->program && !w->call)
        ended(w, false, *e.text ? e.text : "out of memory");
}

struct pausing *pausing_start(struct data *d, bool resume, char *const *addresses, size_t n, pausing_cb cb, void *ctx)
{
    bool many = each(&d->set->data, resume);
    struct pausing *p = calloc(1, sizeof *p);
    size_t count = many ? n : 1;
    assert(p && "out of memory for a pause");
    *p =
        (struct pausing){.d = d, .resume = resume, .cb = cb, .ctx = ctx, .n = count, .left = count, .handles = count};
    p->writers = calloc(count, sizeof *p->writers);
    p->addresses = calloc(count + 1, sizeof *p->addresses);
    assert(p->writers && p->addresses && "out of memory for a pause");
    for (size_t i = 0; i < count; i++) {
        struct writer *w = &p->writers[i];
        p->addresses[i] = strdup(many ? addresses[i] : "");
        assert(p->addresses[i] && "out of memory for a pause");
        *w = (struct writer){.p = p, .address = p->addresses[i]};
        loop_timer_init(&d->s->loop, &w->again, ask, w);
        loop_timer_start(&w->again, 0, 0);
    }
    return p; /* with no writer at all the caller does not come here */
}

void pausing_cancel(struct pausing *p)
{
    if (!p)
        return;
    p->cb = NULL;
    for (size_t i = 0; i < p->n; i++) {
        struct writer *w = &p->writers[i];
        if (w->over)
            continue;
        if (w->call) {
            http_cancel(w->call); /* its end comes later */
            continue;
        }
        program_drop(w->program, true);
        end(w);
    }
    free_if_over(p);
}

static void on_gone(void *ctx, const struct http_result *r)
{
    (void)ctx;
    (void)r;
}

static void on_left(void *ctx, const struct program_result *r)
{
    (void)ctx;
    (void)r;
}

void pausing_let_go(struct data *d, char *const *addresses, size_t n)
{
    const struct set_rb_data *set = &d->set->data;
    size_t count = each(set, true) ? n : 1;
    for (size_t i = 0; i < count; i++) {
        const struct fill_name names[] = {{"address", each(set, true) ? addresses[i] : ""},
                                          {"deployment", d->set->name}};
        char **argv = set->resume.n > 0 ? fill_argv(&set->resume, names, 2, NULL) : NULL;
        char *url = set->resume.n > 0 ? NULL : fill_text(set->resume_url, names, 2, NULL);
        if (argv)
            program_drop(
                program_run(&d->s->loop, &(struct program_opts){.argv = (const char *const *)argv}, on_left, NULL),
                false);
        if (url && d->s->http)
            http_start(d->s->http, &(struct http_request){.method = "POST", .url = url, .timeout_ms = ONE_MS}, NULL,
                       on_gone, NULL);
        fill_free(argv);
        free(url);
    }
}

int pausing_check(struct service *s, const struct set_deployment *set, struct err *e)
{
    static const struct fill_name names[] = {{"address", NULL}, {"deployment", NULL}};
    if (pausing_has(&set->data) && each(&set->data, false) != each(&set->data, true))
        return err_set(e, "deployment %s: data.pause and data.resume must both have {{address}}, or neither",
                       set->name);
    for (int i = 0; i < 2; i++) {
        const struct conf_list *c = command_of(&set->data, i == 1);
        const char *key = i ? "resume" : "pause";
        struct err why = {""};
        if (c->n > 0 && !fill_allowed(&s->settings->rollback.exec_allowed, c))
            return err_set(e, "deployment %s: data.%s is `%.200s`, which is not among rollback.exec_allowed",
                           set->name, key, *CONF_AT(*c, char *, 0));
        if (!fill_known(c, names, 2, &why))
            return err_set(e, "deployment %s: data.%s: %.300s", set->name, key, why.text);
        const char *const url = url_of(&set->data, i == 1);
        const struct fill_name some[] = {{"address", "127.0.0.1:80"}, {"deployment", set->name}};
        char *filled = fill_text(url, some, 2, &why);
        bool ok =
            filled && (!*url || conf_url_ok(filled, strlen(filled), (const char *const[]){"http", "https", NULL}));
        free(filled);
        if (!ok)
            return err_set(
                e, "deployment %s: data.%s_url: found `%.200s`; allowed is http://... with {{address}}%s%.100s",
                set->name, key, url, *why.text ? ": " : "", why.text);
    }
    return 0;
}
