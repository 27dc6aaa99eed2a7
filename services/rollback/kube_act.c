/* kube_act.c - up, stop, start and remove of a version: look, change what differs, wait until the controller has done it.
 *
 *   UP:    look -> copies of ConfigMaps -> dry run (what would it be stored as?) -> patch -> wait
 *   START, STOP, REMOVE: look -> patch -> wait (REMOVE: -> copies that nobody refers to any more)
 * Every patch names the resourceVersion that was looked at: who was slower looks again. What is done already is not done again. */
#include "rollback/executor_kubernetes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFLICTS_MAX 6
#define FAILS_MS      3000

static void on_look(void *ctx, const struct kube_look *l);

/* ---- life ---- */

struct act *act_new(struct executor *x, enum act_kind kind, const struct executor_order *o, executor_cb cb, void *ctx)
{
    struct act *a = calloc(1, sizeof *a);
    if (!a)
        abort(); /* a callback that could not be promised would hang its owner for ever */
    a->x = x;
    a->kind = kind;
    a->cb = cb;
    a->ctx = ctx;
    a->side = o->side == 1;
    a->count = o->count;
    snprintf(a->job, sizeof a->job, "%s", o->job ? o->job : "");
    snprintf(a->version, sizeof a->version, "%s", o->version ? o->version : "");
    snprintf(a->name, sizeof a->name, "%s", o->name ? o->name : "");
    snprintf(a->digest, sizeof a->digest, "%s", o->digest ? o->digest : "");
    a->spec = o->spec && o->spec_len ? json_loadb(o->spec, o->spec_len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    return a;
}

static void forget_look(struct act *a)
{
    json_t **all[] = {&a->deployment, &a->other, &a->copies, &a->make, &a->template};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        json_decref(*all[i]);
        *all[i] = NULL;
    }
}

static void on_closed(void *ctx)
{
    free(ctx);
}

void act_drop(struct act *a)
{
    forget_look(a);
    json_decref(a->spec);
    a->spec = NULL;
    if (a->limited)
        loop_timer_close(&a->limit, on_closed);
    else
        free(a);
}

void act_end(struct act *a, bool lasting, const char *error, const char *text)
{
    executor_cb cb = a->cb;
    void *ctx = a->ctx;
    char copy[1400];
    snprintf(copy, sizeof copy, "%s", error ? error : text);
    act_drop(a);
    cb(ctx, &(struct executor_result){.ok = !error, .lasting = lasting, .text = copy});
}

/* ---- looking ---- */

json_t *act_spec_template(const struct act *a)
{
    json_t *t = json_object_get(a->spec, "template");
    return json_is_object(t) ? t : NULL;
}

void act_look(struct act *a, kube_look_cb cb)
{
    json_t *also = json_object(), *secrets = json_object(), *value;
    const char *name;
    char copy[254];
    forget_look(a);
    json_object_foreach(json_object_get(a->spec, "configmaps"), name, value)
    {
        kube_copy_name(name, kube_text(value, "hash"), copy, sizeof copy);
        json_object_set_new(also, name, json_true());
        json_object_set_new(also, copy, json_true());
    }
    json_object_foreach(json_object_get(a->spec, "secrets"), name, value)
        json_object_set_new(secrets, name, json_true());
    kube_look(a->x->kube, &a->x->set->kubernetes, KUBE_ALL, also, secrets, cb, a);
    json_decref(also);
    json_decref(secrets);
}

int act_take(struct act *a, const struct kube_look *l)
{
    if (!l->ok) {
        act_end(a, l->lasting, l->error, "");
        return -1;
    }
    const struct kube_side *s = &l->side[a->x->pair ? a->side : 0], *o = &l->side[a->x->pair ? !a->side : 1];
    a->deployment = json_incref(s->deployment);
    a->other = json_incref(o->deployment);
    snprintf(a->stale, sizeof a->stale, "%s", kube_stale(s->deployment));
    /* The version before, of one Deployment; of an act that is made again, what it was at the first time. */
    bool again = s->state && strcmp(s->version.v.id, a->version) == 0;
    snprintf(a->was, sizeof a->was, "%.16s", again ? kube_text(s->state, "was.id") : s->version.v.id);
    a->was_side = (int)kube_int(s->state, again ? "was.side" : "side", 0) == 1;
    if (again && s->state)
        snprintf(a->stale, sizeof a->stale, "%s", kube_text(s->state, "stale"));
    return 0;
}

/* ---- ConfigMaps ---- */

/* The contents of a recorded ConfigMap, as they are compared: without our hash. */
static json_t *recorded_data(const json_t *entry)
{
    return kube_configmap_data(entry);
}

static bool same(const json_t *object, const char *hash)
{
    char now[65];
    if (!json_is_object(object))
        return false;
    json_t *data = kube_configmap_data(object);
    executor_config_hash(data, now);
    json_decref(data);
    return strcmp(now, hash) == 0;
}

static json_t *copy_object(const struct act *a, const char *name, const char *copy, const json_t *entry)
{
    json_t *object = recorded_data(entry);
    json_object_set_new(object, "apiVersion", json_string("v1"));
    json_object_set_new(object, "kind", json_string("ConfigMap"));
    json_object_set_new(object, "immutable", json_true());
    json_object_set_new(object, "metadata",
                        json_pack("{s:s,s:{s:s},s:{s:s}}", "name", copy, "labels", KUBE_OWNER, a->x->set->name,
                                  "annotations", "io.redoubt.copy-of", name));
    return object;
}

/* -1: it cannot be as it was. */
static int plan_configmap(struct act *a, const struct kube_look *l, const char *name, const json_t *entry)
{
    const char *hash = kube_text(entry, "hash");
    const json_t *now = json_object_get(l->configmaps, name);
    char copy[254], text[700];
    if (same(now, hash))
        return 0;
    kube_copy_name(name, hash, copy, sizeof copy);
    json_object_set_new(a->copies, name, json_string(copy));
    if (same(json_object_get(l->configmaps, copy), hash))
        return 0;
    json_t *data = recorded_data(entry);
    bool kept = json_object_size(data) > 0;
    json_decref(data);
    if (!kept || json_is_object(json_object_get(l->configmaps, copy))) {
        snprintf(
            text, sizeof text,
            "kubernetes: ConfigMap %.253s is not what version %s had, and %s; put its former contents back by hand",
            name, a->name, kept ? "somebody else has taken the name of its copy" : "its contents were not kept");
        act_end(a, true, text, "");
        return -1;
    }
    json_array_append_new(a->make, copy_object(a, name, copy, entry));
    return 0;
}

int act_plan_template(struct act *a, const struct kube_look *l)
{
    const char *name, *pull = kube_text(a->spec, "pull");
    json_t *entry, *recorded = act_spec_template(a);
    char text[400];
    a->copies = json_object();
    a->make = json_array();
    if (!recorded || !kube_container(recorded, a->x->set->kubernetes.container)) {
        snprintf(text, sizeof text, "kubernetes: version %s was recorded without %s: deploy it by other means",
                 a->name, recorded ? "the container of kubernetes.container" : "a pod template");
        act_end(a, true, text, "");
        return -1;
    }
    json_object_foreach(json_object_get(a->spec, "configmaps"), name,
                        entry) if (plan_configmap(a, l, name, entry) < 0) return -1;
    a->template = kube_template_for(recorded, a->deployment, a->x->set->kubernetes.container, pull, a->copies);
    /* Pods of this template say so themselves. */
    json_t *meta = json_object_get(a->template, "metadata"), *notes = json_object_get(meta, "annotations");
    if (!json_is_object(notes)) {
        json_object_set_new(meta, "annotations", json_object());
        notes = json_object_get(meta, "annotations");
    }
    json_object_set_new(notes, KUBE_STATE, json_string(a->version));
    return 0;
}

/* ---- waiting ---- */

static void finish(struct act *a);

static void on_limit(void *ctx)
{
    struct act *a = ctx;
    char text[700];
    snprintf(text, sizeof text, "kubernetes: Deployment %s was not done within %s: %s",
             kube_text(a->deployment, "metadata.name"), a->fails ? "a few seconds" : "kubernetes.rollout",
             *a->stuck ? a->stuck : "it could not be read");
    kube_unfollow(a->follow);
    act_end(a, false, text, "");
}

/* Are there as many as are wanted? Whether they are ready is seen by view. */
static enum kube_rollout numbers(const struct act *a, const json_t *d, char *why, size_t size, bool *ret_fails)
{
    const json_t *failure = kube_condition(json_object_get(d, "status"), "ReplicaFailure");
    long long updated = kube_int(d, "status.updatedReplicas", 0), all = kube_int(d, "status.replicas", 0);
    bool ends = a->kind == ACT_STOP || a->kind == ACT_REMOVE;
    if (kube_int(d, "metadata.generation", 0) > kube_int(d, "status.observedGeneration", 0)) {
        snprintf(why, size, "the Deployment's controller has not seen the change yet");
        return KUBE_ROLLING;
    }
    if (ends ? all == 0 : updated >= (long long)a->count)
        return KUBE_ROLLED;
    snprintf(why, size, ends ? "%lld pods are still there" : "%lld pods of %u have been made", ends ? all : updated,
             a->count);
    if (!ends && strcmp(kube_text(failure, "status"), "True") == 0) {
        snprintf(why, size, "%.200s", kube_text(failure, "message"));
        *ret_fails = true;
    }
    return KUBE_ROLLING;
}

static void on_change(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    bool fails = false;
    char text[700];
    if (!r) {
        act_drop(a);
        return;
    }
    if (!r->ok) {
        snprintf(a->stuck, sizeof a->stuck, "%.299s", r->error);
        if (!r->lasting)
            return; /* it is followed on */
        snprintf(text, sizeof text, "%.690s", r->error);
        kube_unfollow(a->follow);
        act_end(a, true, text, "");
        return;
    }
    enum kube_rollout now = a->x->pair ? numbers(a, r->body, a->stuck, sizeof a->stuck, &fails)
                                       : kube_rollout(r->body, a->stale, a->stuck, sizeof a->stuck);
    /* Pods that cannot be made (quota, admission) may be made a moment later, when others have ended; not for long. */
    if (now == KUBE_ROLLING && fails && !a->fails && a->x->set->kubernetes.rollout_ms > FAILS_MS)
        loop_timer_start(&a->limit, FAILS_MS, 0);
    if (now == KUBE_ROLLING && !fails && a->fails)
        loop_timer_start(&a->limit, a->x->set->kubernetes.rollout_ms, 0);
    a->fails = fails;
    if (now == KUBE_ROLLING)
        return;
    kube_unfollow(a->follow);
    a->follow = NULL;
    if (now == KUBE_ROLLED) {
        loop_timer_stop(&a->limit);
        finish(a);
        return;
    }
    snprintf(text, sizeof text, "kubernetes: Deployment %s: %s", kube_text(r->body, "metadata.name"), a->stuck);
    act_end(a, true, text, "");
}

static void wait_for_it(struct act *a)
{
    if (!a->limited)
        loop_timer_init(&a->x->service->loop, &a->limit, on_limit, a);
    a->limited = true;
    loop_timer_start(&a->limit, a->x->set->kubernetes.rollout_ms, 0);
    a->follow = kube_follow(a->x->kube, KUBE_DEPLOYMENTS, kube_text(a->deployment, "metadata.name"), on_change, a);
}

/* ---- the end of it: copies that nobody needs ---- */

static void delete_next(struct act *a);

static void on_deleted(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r) {
        act_drop(a);
        return;
    }
    if (!r->ok && r->status != 404)
        snprintf(a->notes, sizeof a->notes, "; %.500s",
                 r->error); /* it costs nothing but a name: no reason to fail */
    delete_next(a);
}

static void delete_next(struct act *a)
{
    char text[800], name[254];
    size_t n = json_array_size(a->make);
    if (n == 0) {
        snprintf(text, sizeof text, "Deployment %s has no pods of version %s any more%s",
                 kube_text(a->deployment, "metadata.name"), a->name, a->notes);
        act_end(a, false, NULL, text);
        return;
    }
    snprintf(name, sizeof name, "%s", kube_text(json_array_get(a->make, n - 1), ""));
    json_array_remove(a->make, n - 1);
    kube_call(a->x->kube, &(struct kube_request){.kind = KUBE_CONFIGMAPS, .verb = KUBE_DELETE, .name = name},
              on_deleted, a);
}

static void on_copies(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r) {
        act_drop(a);
        return;
    }
    json_t *used = json_object(), *configmaps, *secrets;
    const json_t *items = json_object_get(r->body, "items"), *both[] = {a->deployment, a->other};
    for (int i = 0; i < 2; i++) {
        kube_refs(kube_at(both[i], "spec.template"), &configmaps, &secrets);
        json_object_update(used, configmaps);
        json_decref(configmaps);
        json_decref(secrets);
    }
    json_decref(a->make);
    a->make = json_array();
    for (size_t i = 0; r->ok && i < json_array_size(items); i++) {
        const json_t *c = json_array_get(items, i);
        if (*kube_annotation(c, "io.redoubt.copy-of") && !json_object_get(used, kube_text(c, "metadata.name")))
            json_array_append_new(a->make, json_string(kube_text(c, "metadata.name")));
    }
    json_decref(used);
    if (!r->ok)
        snprintf(a->notes, sizeof a->notes, "; %.500s", r->error);
    delete_next(a);
}

static void finish(struct act *a)
{
    char text[400], selector[200];
    if (a->kind == ACT_REMOVE) {
        snprintf(selector, sizeof selector, "%s=%s", KUBE_OWNER, a->x->set->name);
        kube_call(a->x->kube,
                  &(struct kube_request){.kind = KUBE_CONFIGMAPS, .verb = KUBE_LIST, .selector = selector}, on_copies,
                  a);
        return;
    }
    snprintf(text, sizeof text, "Deployment %s: version %s: %s", kube_text(a->deployment, "metadata.name"), a->name,
             a->kind == ACT_STOP ? "scaled to 0"
             : a->x->pair        ? "its pods are made"
                                 : "rolled out");
    act_end(a, false, NULL, text);
}

/* ---- changing ---- */

static void on_patched(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r) {
        act_drop(a);
    } else if (r->ok) {
        wait_for_it(a);
    } else if (kube_conflict(r) && a->tries++ < CONFLICTS_MAX) {
        act_look(a, on_look);
    } else {
        act_end(a, r->lasting, r->error, "");
    }
}

static void patch(struct act *a, const json_t *template, int64_t replicas, const json_t *annotations, bool dry,
                  kube_cb cb)
{
    json_t *body = kube_deployment_patch(a->deployment, template, replicas, annotations);
    kube_call(a->x->kube,
              &(struct kube_request){.kind = KUBE_DEPLOYMENTS,
                                     .verb = KUBE_PATCH,
                                     .name = kube_text(a->deployment, "metadata.name"),
                                     .body = body,
                                     .dry = dry},
              cb, a);
    json_decref(body);
}

static int64_t wanted(const struct act *a)
{
    return a->x->pair ? (int64_t)a->count : -1;
}

static json_t *state_text(const struct act *a, const char *hash, const char *job)
{
    json_t *state =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:s,s:{s:s,s:i}}", "id", a->version, "name", a->name, "digest",
                  a->digest, "config", kube_text(a->spec, "config"), "pull", kube_text(a->spec, "pull"), "hash", hash,
                  "job", job, "side", a->side, "stale", a->stale, "was", "id", a->was, "side", a->was_side);
    char *text = json_dumps(state, JSON_COMPACT);
    json_t *j = json_string(text ? text : "");
    free(text);
    json_decref(state);
    return j;
}

static void on_dry(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r || !r->ok) {
        on_patched(a, r);
        return;
    }
    /* As it will be stored, defaults and all: what is compared later. */
    json_t *hashes = json_object(), *template = kube_template(r->body), *entry;
    const char *name;
    json_object_foreach(json_object_get(a->spec, "configmaps"), name, entry)
        json_object_set(hashes, name, json_object_get(entry, "hash"));
    json_t *hashed = kube_hashed(template, a->x->set->kubernetes.container, hashes);
    executor_config_hash(hashed, a->hash);
    json_t *annotations = json_pack("{s:o,s:n}", KUBE_STATE, state_text(a, a->hash, a->job), KUBE_STOPPED);
    patch(a, a->template, wanted(a), annotations, false, on_patched);
    json_decref(annotations);
    json_decref(hashed);
    json_decref(hashes);
    json_decref(template);
}

static void make_next(struct act *a);

static void on_made(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r || !r->ok) {
        on_patched(a, r); /* 409: it is there by now; look again */
        return;
    }
    json_array_remove(a->make, json_array_size(a->make) - 1);
    make_next(a);
}

static void make_next(struct act *a)
{
    size_t n = json_array_size(a->make);
    if (n > 0)
        kube_call(a->x->kube,
                  &(struct kube_request){
                      .kind = KUBE_CONFIGMAPS, .verb = KUBE_CREATE, .body = json_array_get(a->make, n - 1)},
                  on_made, a);
    else
        patch(a, a->template, wanted(a), NULL, true, on_dry);
}

/* ---- deciding what differs ---- */

static void act_up(struct act *a, const struct kube_look *l, const struct kube_side *s)
{
    bool there = s->state
                     ? strcmp(s->version.v.id, a->version) == 0
                     : strcmp(s->version.v.id, a->version) == 0 && kube_int(s->deployment, "spec.replicas", 1) > 0;
    bool enough = !a->x->pair || kube_int(s->deployment, "spec.replicas", 1) >= (int64_t)a->count;
    if (json_is_true(kube_at(s->deployment, "spec.paused"))) {
        char text[400];
        snprintf(text, sizeof text, "kubernetes: Deployment %s is paused: kubectl rollout resume deployment/%s",
                 kube_text(s->deployment, "metadata.name"), kube_text(s->deployment, "metadata.name"));
        act_end(a, true, text, "");
        return;
    }
    if (there && enough && !*kube_annotation(s->deployment, KUBE_STOPPED)) {
        wait_for_it(a);
    } else if (there) {
        json_t *annotations = json_pack("{s:n}", KUBE_STOPPED);
        patch(a, NULL, wanted(a), annotations, false, on_patched);
        json_decref(annotations);
    } else if (act_plan_template(a, l) == 0) {
        make_next(a);
    }
}

static void act_scale(struct act *a, const struct kube_side *s)
{
    long long now = kube_int(s->deployment, "spec.replicas", 1);
    const char *stopped = kube_annotation(s->deployment, KUBE_STOPPED);
    char mark[64];
    json_t *annotations;
    if (a->kind == ACT_START) {
        const char *n = strchr(stopped, ' ');
        if (a->count == 0)
            a->count = n ? (unsigned)strtoul(n, NULL, 10) : 1;
        annotations = json_pack("{s:n}", KUBE_STOPPED);
        patch(a, NULL, (int64_t)a->count > now ? (int64_t)a->count : now, annotations, false, on_patched);
    } else if (a->kind == ACT_STOP) {
        snprintf(mark, sizeof mark, "%s %lld", a->version, now);
        annotations = json_pack("{s:s}", KUBE_STOPPED, now == 0 && *stopped ? stopped : mark);
        if (!s->state)
            json_object_set_new(annotations, KUBE_STATE, state_text(a, s->hash, ""));
        patch(a, NULL, 0, annotations, false, on_patched);
    } else {
        annotations = json_pack("{s:n,s:n}", KUBE_STATE, KUBE_STOPPED);
        patch(a, NULL, 0, annotations, false, on_patched);
    }
    json_decref(annotations);
}

static void on_look(void *ctx, const struct kube_look *l)
{
    struct act *a = ctx;
    char text[400];
    if (!l) {
        act_drop(a);
        return;
    }
    if (act_take(a, l) < 0)
        return;
    const struct kube_side *s = &l->side[a->x->pair ? a->side : 0];
    bool there = strcmp(s->version.v.id, a->version) == 0;
    if (a->kind == ACT_UP) {
        act_up(a, l, s);
    } else if (!a->x->pair) {
        finish(a); /* the rollout itself stops the pods of the former version and starts those of the other */
    } else if (there) {
        act_scale(a, s);
    } else if (a->kind == ACT_START) {
        snprintf(text, sizeof text,
                 "kubernetes: Deployment %s does not have version %s any more: it must be brought up anew",
                 kube_text(s->deployment, "metadata.name"), a->name);
        act_end(a, true, text, "");
    } else {
        finish(a); /* nothing of it stands here */
    }
}

void kube_act_start(struct act *a)
{
    act_look(a, on_look);
}
