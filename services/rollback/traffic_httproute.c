/* traffic_httproute.c - traffic by the weights of a Gateway API HTTPRoute's two backends.
 *
 * A weight counts as set when every gateway that has the route says of this very generation that it is accepted and its backends are found. */
#include "rollback/kube_api.h"
#include "rollback/kube_deployment.h"
#include "rollback/kube_share.h"
#include "rollback/rollback_traffic.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFLICTS_MAX 6

struct traffic {
    const struct set_deployment *set;
    struct kube *kube;
};
/* One thing in hand. */
struct work {
    struct traffic *t;
    enum { VIEW, CHECK, SET } kind;
    traffic_view_cb view_cb;
    traffic_cb cb;
    void *ctx;
    int share[2];
    unsigned tries;
};
/* What the route says. */
struct route {
    size_t at[2]; /* index of each side's backend */
    long long weight[2];
    char error[600];
    bool lasting;
};

static const char *side_name(const struct traffic *t, int side)
{
    const struct conf_list *l = side ? &t->set->traffic.side_1 : &t->set->traffic.side_0;
    return *CONF_AT(*l, char *, 0);
}

/* ---- pure: reading a route ---- */

static bool read_backends(const struct traffic *t, const json_t *object, struct route *r)
{
    const json_t *rule = json_array_get(kube_at(object, "spec.rules"), (size_t)t->set->traffic.rule);
    const json_t *refs = json_object_get(rule, "backendRefs");
    int found[2] = {0, 0};
    r->lasting = true;
    if (!rule) {
        snprintf(r->error, sizeof r->error, "it has no rule %lld: set traffic.rule", (long long)t->set->traffic.rule);
        return false;
    }
    for (size_t i = 0; i < json_array_size(refs); i++) {
        const json_t *b = json_array_get(refs, i);
        const char *name = kube_text(b, "name"), *kind = kube_text(b, "kind");
        long long weight = kube_int(b, "weight", 1);
        int side = strcmp(name, side_name(t, 0)) == 0 ? 0 : strcmp(name, side_name(t, 1)) == 0 ? 1 : -1;
        if (side >= 0 && (!*kind || strcmp(kind, "Service") == 0)) {
            found[side]++;
            r->at[side] = i;
            r->weight[side] = weight;
        } else if (weight > 0) {
            snprintf(r->error, sizeof r->error,
                     "its rule %lld sends traffic to `%.200s` as well, which is neither side",
                     (long long)t->set->traffic.rule, name);
            return false;
        }
    }
    for (int i = 0; i < 2; i++)
        if (found[i] != 1) {
            snprintf(r->error, sizeof r->error, "its rule %lld names Service `%.200s` %d times; allowed: once",
                     (long long)t->set->traffic.rule, side_name(t, i), found[i]);
            return false;
        }
    return true;
}

/* Has every gateway taken this generation? */
static bool read_status(const json_t *object, struct route *r)
{
    static const char *const wanted[] = {"Accepted", "ResolvedRefs"};
    const json_t *parents = kube_at(object, "status.parents");
    int64_t generation = kube_int(object, "metadata.generation", 0);
    r->lasting = false;
    if (json_array_size(parents) == 0) {
        snprintf(r->error, sizeof r->error, "no gateway has taken it");
        return false;
    }
    for (size_t i = 0; i < json_array_size(parents); i++)
        for (size_t k = 0; k < 2; k++) {
            const json_t *p = json_array_get(parents, i), *c = kube_condition(p, wanted[k]);
            const char *gateway = kube_text(p, "parentRef.name");
            if (kube_int(c, "observedGeneration", 0) < generation) {
                snprintf(r->error, sizeof r->error, "gateway %.100s has not taken its present form (%lld) yet",
                         gateway, (long long)generation);
                return false;
            }
            if (strcmp(kube_text(c, "status"), "True") != 0) {
                snprintf(r->error, sizeof r->error, "gateway %.100s says %s=%s: %.200s", gateway, wanted[k],
                         kube_text(c, "status"), kube_text(c, "message"));
                return false;
            }
        }
    return true;
}

static json_t *weights_patch(const struct traffic *t, const json_t *object, const struct route *r, const int share[2])
{
    json_t *patch = json_array();
    char path[120];
    json_array_append_new(patch, json_pack("{s:s,s:s,s:s}", "op", "replace", "path", "/metadata/resourceVersion",
                                           "value", kube_text(object, "metadata.resourceVersion")));
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/spec/rules/%lld/backendRefs/%zu/weight", (long long)t->set->traffic.rule,
                 r->at[i]);
        json_array_append_new(patch, json_pack("{s:s,s:s,s:i}", "op", "add", "path", path, "value", share[i]));
    }
    return patch;
}

/* ---- one thing in hand ---- */

static void end_view(struct work *w, bool lasting, const char *error, const int share[2])
{
    struct traffic_view v = {.ok = !*error, .lasting = lasting, .error = error, .share = {share[0], share[1]}};
    traffic_view_cb cb = w->view_cb;
    void *ctx = w->ctx;
    free(w);
    cb(ctx, &v);
}

static void end(struct work *w, bool ok, bool lasting, const char *text)
{
    static const int nothing[2] = {0, 0};
    if (w->kind == VIEW) {
        end_view(w, lasting, text, nothing);
        return;
    }
    traffic_cb cb = w->cb;
    void *ctx = w->ctx;
    free(w);
    cb(ctx, &(struct executor_result){.ok = ok, .lasting = lasting, .text = text});
}

static void read_route(struct work *w);

static void on_patched(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    char text[300];
    if (!r) {
        free(w);
    } else if (!r->ok && kube_conflict(r) && w->tries++ < CONFLICTS_MAX) {
        read_route(w); /* somebody else was faster */
    } else if (!r->ok) {
        end(w, false, r->lasting, r->error);
    } else {
        snprintf(text, sizeof text,
                 w->kind == SET ? "HTTPRoute %.200s: weights %d and %d" : "HTTPRoute %.200s can be given weights",
                 w->t->set->traffic.route, w->share[0], w->share[1]);
        end(w, true, false, text);
    }
}

static void on_route(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    struct route route = {0};
    char text[900];
    if (!r) {
        free(w);
        return;
    }
    if (!r->ok) {
        end(w, false, r->lasting, r->error);
        return;
    }
    bool ok = read_backends(w->t, r->body, &route) && (w->kind == SET || read_status(r->body, &route));
    if (!ok) {
        snprintf(text, sizeof text, "kubernetes: HTTPRoute %.253s: %s", w->t->set->traffic.route, route.error);
        end(w, false, route.lasting, text);
        return;
    }
    if (w->kind == VIEW) {
        int percent = kube_share_percent(route.weight[0], route.weight[1]);
        int share[2] = {percent < 0 ? 0 : percent, percent < 0 ? 0 : 100 - percent};
        end_view(w, false, "", share);
        return;
    }
    int now[2] = {(int)route.weight[0], (int)route.weight[1]};
    json_t *patch = weights_patch(w->t, r->body, &route, w->kind == SET ? w->share : now);
    kube_call(w->t->kube,
              &(struct kube_request){.kind = KUBE_ROUTES,
                                     .verb = KUBE_PATCH,
                                     .name = w->t->set->traffic.route,
                                     .body = patch,
                                     .dry = w->kind == CHECK},
              on_patched, w);
    json_decref(patch);
}

static void read_route(struct work *w)
{
    kube_call(w->t->kube,
              &(struct kube_request){.kind = KUBE_ROUTES, .verb = KUBE_GET, .name = w->t->set->traffic.route},
              on_route, w);
}

static void begin(struct work what)
{
    struct work *w = malloc(sizeof *w);
    if (!w)
        abort(); /* a callback that could not be promised would hang its owner for ever */
    *w = what;
    read_route(w);
}

/* ---- the table ---- */

static struct traffic *open_httproute(struct service *s, const struct set_deployment *set, struct err *e)
{
    struct err why = {""};
    struct traffic *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(e, "%s: out of memory", set->name);
        return NULL;
    }
    t->set = set;
    t->kube = kube_open(&s->loop, s->http, &set->kubernetes, &why);
    if (!t->kube) {
        err_set(e, "%s: %.400s", set->name, why.text);
        free(t);
        return NULL;
    }
    return t;
}

static void close_httproute(struct traffic *t)
{
    kube_close(t->kube);
    free(t);
}

static void view(struct traffic *t, const struct executor_instance *at, size_t count, traffic_view_cb cb, void *ctx)
{
    (void)at, (void)count;
    begin((struct work){.t = t, .kind = VIEW, .view_cb = cb, .ctx = ctx});
}

static void check(struct traffic *t, traffic_cb cb, void *ctx)
{
    begin((struct work){.t = t, .kind = CHECK, .cb = cb, .ctx = ctx});
}

static void set_shares(struct traffic *t, const struct traffic_order *o, traffic_cb cb, void *ctx)
{
    begin((struct work){.t = t, .kind = SET, .cb = cb, .ctx = ctx, .share = {o->share[0], o->share[1]}});
}

const struct traffic_kind traffic_httproute = {.name = "httproute",
                                               .open = open_httproute,
                                               .close = close_httproute,
                                               .view = view,
                                               .check = check,
                                               .set = set_shares};
