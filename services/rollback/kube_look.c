/* kube_look.c - reads the Deployments; then, all at a time, their pods and the ConfigMaps and Secrets of their templates. */
#include "rollback/kube_look.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct looker {
    struct kube *k;
    const struct set_rb_kubernetes *set;
    struct kube_look look;
    json_t *also, *also_secrets;
    enum kube_depth depth;
    size_t waiting;
    bool closed;
    kube_look_cb cb;
    void *ctx;
};
/* One thing that is read. */
struct errand {
    struct looker *w;
    int side; /* pods, deployments */
    char name[254];
};

static void free_looker(struct looker *w)
{
    for (int i = 0; i < 2; i++)
        kube_side_free(&w->look.side[i]);
    json_decref(w->look.configmaps);
    json_decref(w->look.secrets);
    json_decref(w->also);
    json_decref(w->also_secrets);
    free(w);
}

static void fail(struct looker *w, const struct kube_reply *r)
{
    if (*w->look.error)
        return; /* the first says why */
    snprintf(w->look.error, sizeof w->look.error, "%s", r->error);
    w->look.lasting = r->lasting;
}

static void finish(struct looker *w)
{
    w->look.ok = !w->closed && !*w->look.error;
    for (int i = 0; w->look.ok && i < 2; i++)
        if (w->look.side[i].deployment && w->depth == KUBE_ALL)
            kube_side_read(&w->look.side[i], w->set, &w->look);
    w->cb(w->ctx, w->closed ? NULL : &w->look);
    free_looker(w);
}

/* The last of several that were asked at a time goes on; whom the client's end meets has nothing more to do. */
static void errand_done(struct errand *x, const struct kube_reply *r, void (*next)(struct looker *w))
{
    struct looker *w = x->w;
    free(x);
    w->closed = w->closed || !r;
    if (--w->waiting == 0)
        (w->closed || *w->look.error ? finish : next)(w);
}

static void ask(struct looker *w, const struct kube_request *q, kube_cb cb, int side)
{
    struct errand *x = calloc(1, sizeof *x);
    if (!x)
        abort();
    x->w = w;
    x->side = side;
    snprintf(x->name, sizeof x->name, "%s", q->name ? q->name : "");
    w->waiting++;
    kube_call(w->k, q, cb, x);
}

/* ---- what the templates lead to ---- */

static void on_pods(void *ctx, const struct kube_reply *r)
{
    struct errand *x = ctx;
    struct kube_side *s = &x->w->look.side[x->side];
    const json_t *items = json_object_get(r ? r->body : NULL, "items");
    /* Without the right to see pods there is less to see: no addresses, no digests. */
    if (r && !r->ok && r->status != 403)
        fail(x->w, r);
    if (r && r->ok)
        s->pods = json_array();
    for (size_t i = 0; r && r->ok && i < json_array_size(items); i++)
        if (kube_owns(s->deployment, json_array_get(items, i)))
            json_array_append(s->pods, json_array_get(items, i));
    errand_done(x, r, finish);
}

static void on_configmap(void *ctx, const struct kube_reply *r)
{
    struct errand *x = ctx;
    if (r && !r->ok && r->status != 403 && r->status != 404)
        fail(x->w, r);
    json_object_set_new(x->w->look.configmaps, x->name, r && r->ok ? json_incref(r->body) : json_null());
    errand_done(x, r, finish);
}

static void on_secret(void *ctx, const struct kube_reply *r)
{
    struct errand *x = ctx;
    if (r && !r->ok && r->status != 403 && r->status != 404)
        fail(x->w, r);
    json_t *mark = r && r->status == 404 ? json_string("") : json_null();
    if (r && r->ok)
        mark =
            json_sprintf("%s/%s", kube_text(r->body, "metadata.uid"), kube_text(r->body, "metadata.resourceVersion"));
    json_object_set_new(x->w->look.secrets, x->name, mark);
    errand_done(x, r, finish);
}

static void wants(json_t *configmaps, json_t *secrets, const json_t *template)
{
    json_t *c, *s;
    kube_refs(template, &c, &s);
    json_object_update(configmaps, c);
    json_object_update(secrets, s);
    json_decref(c);
    json_decref(s);
}

static void look_further(struct looker *w)
{
    json_t *configmaps = json_object(), *secrets = json_object(), *value;
    char selector[1024];
    const char *name;
    for (int i = 0; i < 2; i++) {
        const json_t *d = w->look.side[i].deployment;
        if (!d)
            continue;
        /* Copies by their own names, and the originals: what a version that is not ours to change refers to. */
        if (w->depth == KUBE_ALL)
            wants(configmaps, secrets, kube_at(d, "spec.template"));
        if (kube_selector(d, selector, sizeof selector))
            ask(w, &(struct kube_request){.kind = KUBE_PODS, .verb = KUBE_LIST, .selector = selector}, on_pods, i);
    }
    if (w->also)
        json_object_update(configmaps, w->also);
    if (w->also_secrets)
        json_object_update(secrets, w->also_secrets);
    json_object_foreach(configmaps, name, value)
        ask(w, &(struct kube_request){.kind = KUBE_CONFIGMAPS, .verb = KUBE_GET, .name = name}, on_configmap, 0);
    json_object_foreach(secrets, name, value)
        ask(w, &(struct kube_request){.kind = KUBE_SECRETS, .verb = KUBE_GET, .name = name}, on_secret, 0);
    json_decref(configmaps);
    json_decref(secrets);
    if (w->waiting == 0)
        finish(w);
}

/* ---- the Deployments ---- */

static void on_deployment(void *ctx, const struct kube_reply *r)
{
    struct errand *x = ctx;
    if (r && r->ok)
        x->w->look.side[x->side].deployment = json_incref(r->body);
    else if (r)
        fail(x->w, r);
    errand_done(x, r, look_further);
}

void kube_look(struct kube *k, const struct set_rb_kubernetes *set, enum kube_depth depth, const json_t *also,
               const json_t *secrets, kube_look_cb cb, void *ctx)
{
    struct looker *w = calloc(1, sizeof *w);
    if (!w)
        abort(); /* a callback that could not be promised would hang its owner for ever */
    w->k = k;
    w->set = set;
    w->depth = depth;
    w->cb = cb;
    w->ctx = ctx;
    w->look.configmaps = json_object();
    w->look.secrets = json_object();
    w->also = also ? json_deep_copy(also) : NULL;
    w->also_secrets = secrets ? json_deep_copy(secrets) : NULL;
    ask(w, &(struct kube_request){.kind = KUBE_DEPLOYMENTS, .verb = KUBE_GET, .name = set->deployment}, on_deployment,
        0);
    if (*set->canary)
        ask(w, &(struct kube_request){.kind = KUBE_DEPLOYMENTS, .verb = KUBE_GET, .name = set->canary}, on_deployment,
            1);
}
