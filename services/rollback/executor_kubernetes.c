/* executor_kubernetes.c - versions as Deployments: a pair of them (stable and canary), or one whose template is patched.
 *
 * Of a pair, side 0 is the stable Deployment and side 1 the canary: a version is set as the template of one of them, with its own numbers of
 * pods. ReplicaSets are never touched: they are the Deployment controller's. */
#include "rollback/executor_kubernetes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < 254 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n && *name != '.' &&
           *name != '-';
}

static struct executor *open_kubernetes(struct service *s, const struct set_deployment *set, struct err *e)
{
    const struct set_rb_kubernetes *k = &set->kubernetes;
    struct err why = {""};
    if (!name_ok(k->deployment) || (*k->canary && !name_ok(k->canary)) || strcmp(k->deployment, k->canary) == 0) {
        err_set(e, "%s: kubernetes: found `%.100s` and `%.100s`; allowed: names of two Deployments, or of one",
                set->name, k->deployment, k->canary);
        return NULL;
    }
    struct executor *x = calloc(1, sizeof *x);
    if (!x) {
        err_set(e, "%s: out of memory", set->name);
        return NULL;
    }
    *x = (struct executor){.service = s, .set = set, .pair = *k->canary};
    x->kube = kube_open(&s->loop, s->http, k, &why);
    if (!x->kube) {
        err_set(e, "%s: %.400s", set->name, why.text);
        free(x);
        return NULL;
    }
    return x;
}

static void close_kubernetes(struct executor *x)
{
    kube_close(x->kube);
    free(x);
}

/* ---- view ---- */

struct viewing {
    struct executor *x;
    executor_view_cb cb;
    void *ctx;
    struct executor_instance instances[EXECUTOR_INSTANCES];
    size_t n;
    struct executor_version versions[2];
    size_t n_versions;
};

static void add_address(struct executor_instance *i, const json_t *pod, const char *container)
{
    const char *ip = kube_text(pod, "status.podIP");
    int64_t port =
        kube_int(json_array_get(json_object_get(kube_container(pod, container), "ports"), 0), "containerPort", 0);
    bool six = strchr(ip, ':') != NULL;
    if (*ip && port > 0)
        snprintf(i->address, sizeof i->address, "%s%s%s:%lld", six ? "[" : "", ip, six ? "]" : "", (long long)port);
}

static struct executor_instance *add_instance(struct viewing *v, const char *handle, const char *version,
                                              const char *job, int side)
{
    if (v->n == EXECUTOR_INSTANCES)
        return NULL;
    struct executor_instance *i = &v->instances[v->n++];
    *i = (struct executor_instance){.side = side};
    snprintf(i->handle, sizeof i->handle, "%.128s", handle);
    snprintf(i->name, sizeof i->name, "%.128s", handle);
    snprintf(i->version, sizeof i->version, "%s", version);
    snprintf(i->job, sizeof i->job, "%.64s", job);
    return i;
}

static void view_pod(struct viewing *v, const struct kube_side *s, const json_t *pod, int side, bool settled)
{
    const char *version = s->version.v.id, *job = kube_text(s->state, "job");
    bool current = kube_side_current(s, pod);
    if (!current) {
        /* Of one Deployment the former version is known, while its pods are replaced. Otherwise nobody can say what they were. */
        version = kube_text(s->state, "was.id");
        side = (int)kube_int(s->state, "was.side", side);
        job = "";
        if (v->x->pair || !*version)
            return;
    }
    struct executor_instance *i = add_instance(v, kube_text(pod, "metadata.name"), version, job, side);
    if (!i)
        return;
    i->ready = kube_pod_ready(pod, i->why, sizeof i->why);
    i->running =
        strcmp(kube_text(pod, "status.phase"), "Running") == 0 && !kube_at(pod, "metadata.deletionTimestamp");
    if (i->ready && current && !kube_side_ours(s) && !settled) {
        i->ready = false; /* an old pod with the same image looks the same */
        snprintf(i->why, sizeof i->why, "the Deployment is being rolled out");
    }
    add_address(i, pod, v->x->set->kubernetes.container);
}

/* Without the right to see pods: as many as the Deployment says. */
static void view_numbers(struct viewing *v, const struct kube_side *s, int side)
{
    int64_t n = kube_int(s->deployment, "status.replicas", 0),
            ready = kube_int(s->deployment, "status.readyReplicas", 0);
    int64_t old = n - kube_int(s->deployment, "status.updatedReplicas", 0);
    for (int64_t k = 0; k < n; k++) {
        char handle[300];
        snprintf(handle, sizeof handle, "%s/%lld", kube_text(s->deployment, "metadata.name"), (long long)k);
        struct executor_instance *i = add_instance(v, handle, s->version.v.id, kube_text(s->state, "job"), side);
        if (!i)
            return;
        i->running = true;
        i->ready = k < ready - old;
        if (!i->ready)
            snprintf(i->why, sizeof i->why, "%lld of %lld pods are ready", (long long)ready, (long long)n);
    }
}

static void view_side(struct viewing *v, struct kube_side *s, int side)
{
    char why[200];
    const char *stopped = kube_annotation(s->deployment, KUBE_STOPPED);
    size_t before = v->n;
    bool settled = kube_rollout(s->deployment, "", why, sizeof why) == KUBE_ROLLED;
    if (!v->x->pair && s->state)
        side = kube_int(s->state, "side", 0) == 1;
    if (s->pods)
        for (size_t i = 0; i < json_array_size(s->pods); i++)
            view_pod(v, s, json_array_get(s->pods, i), side, settled);
    else
        view_numbers(v, s, side);
    if (v->n == before && *s->version.v.id && strncmp(stopped, s->version.v.id, ROLLBACK_ID - 1) == 0) {
        struct executor_instance *i = add_instance(v, kube_text(s->deployment, "metadata.name"), s->version.v.id,
                                                   kube_text(s->state, "job"), side);
        if (i)
            snprintf(i->why, sizeof i->why, "it was stopped");
    }
    bool known = *s->version.v.id && s->version.spec;
    for (size_t i = 0; i < v->n_versions; i++)
        known = known && strcmp(v->versions[i].v.id, s->version.v.id) != 0;
    bool stands = false;
    for (size_t i = before; i < v->n; i++)
        stands = stands || strcmp(v->instances[i].version, s->version.v.id) == 0;
    if (known && stands)
        v->versions[v->n_versions++] = s->version; /* its spec stays the side's */
}

static void on_look(void *ctx, const struct kube_look *l)
{
    struct viewing *v = ctx;
    if (l && l->ok)
        for (int i = 0; i < 2; i++)
            if (l->side[i].deployment)
                view_side(v, (struct kube_side *)(uintptr_t)&l->side[i], i);
    if (l)
        v->cb(v->ctx, &(struct executor_view){.ok = l->ok,
                                              .lasting = l->lasting,
                                              .error = l->error,
                                              .instances = v->instances,
                                              .n = v->n,
                                              .versions = v->versions,
                                              .n_versions = v->n_versions});
    free(v);
}

static void view(struct executor *x, executor_view_cb cb, void *ctx)
{
    struct viewing *v = calloc(1, sizeof *v);
    if (!v)
        abort(); /* a callback that could not be promised would hang its owner for ever */
    v->x = x;
    v->cb = cb;
    v->ctx = ctx;
    kube_look(x->kube, &x->set->kubernetes, KUBE_ALL, NULL, NULL, on_look, v);
}

/* ---- acts ---- */

static void check(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    kube_check_start(act_new(x, ACT_CHECK, o, cb, ctx));
}

static void up(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    kube_act_start(act_new(x, ACT_UP, o, cb, ctx));
}

static void stop(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    kube_act_start(act_new(x, ACT_STOP, o, cb, ctx));
}

static void start(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    kube_act_start(act_new(x, ACT_START, o, cb, ctx));
}

static void remove_version(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    kube_act_start(act_new(x, ACT_REMOVE, o, cb, ctx));
}

const struct executor_kind executor_kubernetes = {
    .name = "kubernetes",
    .gradual = true,
    .goes_home = true,
    .open = open_kubernetes,
    .close = close_kubernetes,
    .view = view,
    .check = check,
    .up = up,
    .stop = stop,
    .start = start,
    .remove = remove_version,
};
const struct executor_kind executor_kubernetes_patch = {
    .name = "kubernetes",
    .open = open_kubernetes,
    .close = close_kubernetes,
    .view = view,
    .check = check,
    .up = up,
    .stop = stop,
    .start = start,
    .remove = remove_version,
};
