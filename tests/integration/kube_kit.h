/* kube_kit.h - an API server for one test (tests/e2e/lib/kube.mjs), and the Kubernetes executor and traffic against it. */
#ifndef REDOUBT_TESTS_KUBE_KIT_H
#define REDOUBT_TESTS_KUBE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "../harness.h"
#include "common/clock.h"
#include "rollback/kube_deployment.h"
#include "rollback/rollback_traffic.h"
#include <cmocka.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct seen_version {
    struct rollback_version v;
    char image[512];
    char *spec;
    size_t n_gaps;
    char gap[256];
};
struct seen {
    bool done, ok, lasting;
    char text[1400];
    struct executor_instance instances[EXECUTOR_INSTANCES];
    size_t n;
    struct seen_version versions[4];
    size_t n_versions;
    int share[2];
};
struct town {
    struct harness *h;
    struct harness_proc *api;
    struct service s;
    struct service_desc desc;
    struct set_deployment set;
    struct conf_list services[2];
    const struct executor_kind *xk;
    const struct traffic_kind *tk;
    struct executor *x;
    struct traffic *t;
    char url[64], token_file[600];
    json_t *state; /* what the server said last */
    char *side[2];
};

static inline void until(struct town *t, const bool *done, const char *what)
{
    if (!loop_run_until(&t->s.loop, done, 2 * HARNESS_WAIT_MS))
        fail_msg("waited in vain for: %s", what);
}

/* ---- the server's other door ---- */

static inline void on_control(void *ctx, const struct http_result *r)
{
    struct town *t = ctx;
    json_decref(t->state);
    t->state = r->fault == HTTP_OK && r->status == 200 ? json_loadb(r->body, r->len, 0, NULL) : NULL;
    if (!t->state)
        fail_msg("the test server: %s %d %s", http_fault_text(r->fault), r->status, r->body);
}

struct asked {
    struct town *t;
    bool done;
};

static inline void on_asked(void *ctx, const struct http_result *r)
{
    struct asked *a = ctx;
    on_control(a->t, r);
    a->done = true;
}

/* Quotes are written as '. */
__attribute__((format(printf, 2, 3))) static inline void control(struct town *t, const char *fmt, ...)
{
    char body[16384], url[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(body, sizeof body, fmt, ap);
    va_end(ap);
    for (char *p = body; *p; p++)
        *p = (char)(*p == '\'' ? '"' : *p);
    struct asked a = {.t = t};
    snprintf(url, sizeof url, "%s/_test", t->url);
    struct http_request q = {
        .method = "POST", .url = url, .body = body, .body_len = strlen(body), .max_response = 16 << 20};
    (void)http_start(t->s.http, &q, NULL, on_asked, &a);
    until(t, &a.done, "the test server");
}

static inline json_t *object(struct town *t, const char *key)
{
    control(t, "{}");
    return json_object_get(json_object_get(t->state, "objects"), key);
}

static inline int64_t counted(struct town *t, const char *what)
{
    control(t, "{}");
    return kube_int(json_object_get(t->state, "seen"), what, -1);
}

static inline size_t count_objects(struct town *t, const char *prefix)
{
    const char *key;
    json_t *value;
    size_t n = 0;
    control(t, "{}");
    json_object_foreach(json_object_get(t->state, "objects"), key, value) n +=
        strncmp(key, prefix, strlen(prefix)) == 0;
    return n;
}

/* A Deployment with track NAME; `more` goes into the pod template's labels, `pod` into its spec, `container` into the container. */
static inline void deploy(struct town *t, const char *name, const char *image, int replicas, const char *labels,
                          const char *pod, const char *container, const char *spec)
{
    control(t,
            "{'apply':{'deployments':[{'metadata':{'name':'%s'},'spec':{'replicas':%d,'selector':{'matchLabels':{'"
            "app':'agent','track':'%s'}}%s,"
            "'template':{'metadata':{'labels':{'app':'agent','track':'%s'%s}},'spec':{'containers':[{'name':'agent','"
            "image':'%s','ports':"
            "[{'containerPort':8080}]%s}]%s}}}}]}}",
            name, replicas, name, spec, name, labels, image, container, pod);
}

/* ---- executor and traffic, one thing at a time ---- */

static inline void on_view(void *ctx, const struct executor_view *v)
{
    struct seen *s = ctx;
    s->done = true;
    s->ok = v->ok;
    s->lasting = v->lasting;
    snprintf(s->text, sizeof s->text, "%s", v->error);
    s->n = v->n;
    memcpy(s->instances, v->instances, v->n * sizeof *v->instances);
    s->n_versions = v->n_versions;
    for (size_t i = 0; i < v->n_versions; i++) {
        struct seen_version *d = &s->versions[i];
        const struct executor_version *f = &v->versions[i];
        *d = (struct seen_version){.v = f->v, .spec = strdup(f->spec), .n_gaps = f->n_gaps};
        assert_int_equal(strlen(f->spec), f->spec_len);
        snprintf(d->image, sizeof d->image, "%s", f->image);
        snprintf(d->gap, sizeof d->gap, "%s", f->n_gaps ? f->gap[0] : "");
    }
}

static inline void on_result(void *ctx, const struct executor_result *r)
{
    struct seen *s = ctx;
    assert_false(s->done);
    s->done = true;
    s->ok = r->ok;
    s->lasting = r->lasting;
    snprintf(s->text, sizeof s->text, "%s", r->text);
}

static inline void on_traffic(void *ctx, const struct traffic_view *v)
{
    struct seen *s = ctx;
    s->done = true;
    s->ok = v->ok;
    s->lasting = v->lasting;
    snprintf(s->text, sizeof s->text, "%s", v->error);
    s->share[0] = v->share[0];
    s->share[1] = v->share[1];
}

static inline void forget_seen(struct seen *s)
{
    for (size_t i = 0; i < s->n_versions; i++)
        free(s->versions[i].spec);
    *s = (struct seen){0};
}

static inline void look(struct town *t, struct seen *s)
{
    forget_seen(s);
    t->xk->view(t->x, on_view, s);
    assert_false(s->done); /* never from inside */
    until(t, &s->done, "a view");
}

static inline unsigned ready_on(const struct seen *s, int side)
{
    unsigned n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += s->instances[i].side == side && s->instances[i].ready;
    return n;
}

static inline unsigned all_on(const struct seen *s, int side)
{
    unsigned n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += s->instances[i].side == side;
    return n;
}

/* Looks until side 0 and 1 have so many ready, and nothing else of them stands. */
static inline void wait_ready(struct town *t, struct seen *s, unsigned a, unsigned b)
{
    int64_t end_ms = clock_mono_ms() + 2 * HARNESS_WAIT_MS;
    bool never = false;
    do {
        (void)loop_run_until(&t->s.loop, &never, 10);
        look(t, s);
        if (s->ok && ready_on(s, 0) == a && ready_on(s, 1) == b && s->n == a + b)
            return;
    } while (clock_mono_ms() < end_ms);
    fail_msg("waited in vain for %u and %u ready: %u of %u and %u of %u: %s", a, b, ready_on(s, 0), all_on(s, 0),
             ready_on(s, 1), all_on(s, 1), s->text);
}

static inline const struct seen_version *version_on(const struct seen *s, int side)
{
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < s->n_versions; k++)
            if (s->instances[i].side == side && strcmp(s->instances[i].version, s->versions[k].v.id) == 0)
                return &s->versions[k];
    fail_msg("no version on side %d", side);
    return NULL;
}

static inline struct seen act(struct town *t,
                              void (*fn)(struct executor *, const struct executor_order *, executor_cb, void *),
                              const struct seen_version *v, int side, unsigned count)
{
    struct seen s = {0};
    struct executor_order o = {.job = "job-1",
                               .version = v->v.id,
                               .name = v->v.name,
                               .image = v->image,
                               .digest = v->v.digest,
                               .spec = v->spec,
                               .spec_len = strlen(v->spec),
                               .side = side,
                               .count = count};
    fn(t->x, &o, on_result, &s);
    assert_false(s.done);
    until(t, &s.done, "an act");
    return s;
}

#define ACT(what, v, side, count)                                                                                    \
    do {                                                                                                             \
        struct seen s_ = act(t, t->xk->what, (v), (side), (count));                                                  \
        if (!s_.ok)                                                                                                  \
            fail_msg("%s: %s", #what, s_.text);                                                                      \
    } while (0)
#define REFUSED(what, v, side, count, words, for_ever)                                                               \
    do {                                                                                                             \
        struct seen s_ = act(t, t->xk->what, (v), (side), (count));                                                  \
        if (s_.ok || !strstr(s_.text, words) || s_.lasting != (for_ever))                                            \
            fail_msg("%s: ok=%d lasting=%d %s", #what, s_.ok, s_.lasting, s_.text);                                  \
    } while (0)

static inline struct seen traffic_see(struct town *t)
{
    struct seen s = {0};
    t->tk->view(t->t, NULL, 0, on_traffic, &s);
    assert_false(s.done);
    until(t, &s.done, "a view of the traffic");
    return s;
}

static inline struct seen traffic_set(struct town *t, int a, int b)
{
    struct seen s = {0};
    struct traffic_order o = {.job = "job-1", .epoch = 1, .share = {a, b}, .version = {"", ""}, .name = {"", ""}};
    t->tk->set(t->t, &o, on_result, &s);
    assert_false(s.done);
    until(t, &s.done, "the shares");
    return s;
}

static inline struct seen traffic_check(struct town *t)
{
    struct seen s = {0};
    t->tk->check(t->t, on_result, &s);
    until(t, &s.done, "a check of the traffic");
    return s;
}

/* ---- life ---- */

static inline void write_token(struct town *t, const char *token)
{
    FILE *f = fopen(t->token_file, "w");
    assert_non_null(f);
    fputs(token, f);
    fclose(f);
}

static inline void open_all(struct town *t, const char *canary)
{
    struct err e = {""};
    t->set.kubernetes.canary = (char *)(uintptr_t)canary;
    t->xk = *canary ? &executor_kubernetes : &executor_kubernetes_patch;
    t->x = t->xk->open(&t->s, &t->set, &e);
    if (!t->x)
        fail_msg("%s", e.text);
}

/* One server for all tests of a program: each begins with an empty one. */
struct shared {
    struct harness *h;
    struct harness_proc *api;
};

static inline int shared_setup(void **state)
{
    struct shared *g = calloc(1, sizeof *g);
    char port[16];
    signal(SIGPIPE, SIG_IGN);
    g->h = harness_open();
    int n = harness_free_port();
    snprintf(port, sizeof port, "%d", n);
    const char *argv[] = {"node", "tests/e2e/lib/kube.mjs", port, NULL};
    g->api = harness_run(g->h, "kube", n, argv);
    *state = g;
    return 0;
}

static inline int shared_teardown(void **state)
{
    struct shared *g = *state;
    harness_close(g->h);
    free(g);
    return 0;
}

static inline int town_setup(void **state)
{
    struct shared *g = *state;
    struct town *t = calloc(1, sizeof *t);
    struct err e = {""};
    t->h = g->h;
    t->api = g->api;
    snprintf(t->url, sizeof t->url, "http://127.0.0.1:%d", g->api->port);
    snprintf(t->token_file, sizeof t->token_file, "%s/token", harness_dir(t->h));
    if (!harness_alive(t->api))
        harness_start(t->api);
    t->desc = (struct service_desc){.name = "rollback"};
    t->s.desc = &t->desc;
    if (loop_init(&t->s.loop) || !(t->s.http = http_open(&t->s.loop, &e)))
        return -1;
    char *none = (char *)(uintptr_t) "";
    t->set = (struct set_deployment){.name = (char *)(uintptr_t) "agent",
                                     .executor = SET_EXECUTOR_KUBERNETES,
                                     .kubernetes = {.server = t->url,
                                                    .kubeconfig = none,
                                                    .context = none,
                                                    .ca_file = none,
                                                    .token_file = t->token_file,
                                                    .namespace = (char *)(uintptr_t) "agents",
                                                    .deployment = (char *)(uintptr_t) "stable",
                                                    .canary = none,
                                                    .container = none,
                                                    .rollout_ms = 15000,
                                                    .timeout_ms = 5000},
                                     .traffic = {.route = none, .timeout_ms = 2000}};
    write_token(t, "first");
    control(t, "{'reset':true}");
    *state = t;
    return 0;
}

static inline void on_http_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static inline int town_teardown(void **state)
{
    struct town *t = *state;
    bool closed = false;
    if (t->t)
        t->tk->close(t->t);
    if (t->x)
        t->xk->close(t->x);
    http_close(t->s.http, on_http_closed, &closed);
    until(t, &closed, "the end of all calls");
    json_decref(t->state);
    loop_done(&t->s.loop);
    free(t);
    return 0;
}

#endif
