/* traffic_replicas.c - traffic by the numbers of pods of two Deployments that one Service selects.
 *
 * The Service selects `io.redoubt.traffic: "on"` besides the labels that both have. So a pod can stand and be ready without any work, and gets its
 * share when its label is set: nothing is sent to who is not ready, and capacity is there before it is needed.
 *
 *   set: look -> label pods "on" where a side gets more -> wait until the Service has them -> label pods "off" -> note the share on the Deployment
 *   view: the endpoints that the Service has, by side; the noted share, if the numbers are those that were set for it */
#include "common/clock.h"
#include "rollback/kube_look.h"
#include "rollback/kube_share.h"
#include "rollback/rollback_traffic.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTE          "io.redoubt.share" /* "percent-of-stable pods-of-stable pods-of-canary" */
#define POLL_MS       200
#define CONFLICTS_MAX 6

struct traffic {
    struct service *service;
    const struct set_deployment *set;
    struct kube *kube;
    struct work *works; /* in hand */
};
enum work_kind { VIEW, CHECK, SET };
struct work {
    struct traffic *t;
    struct work *next, **link;
    enum work_kind kind;
    traffic_view_cb view_cb;
    traffic_cb cb;
    void *ctx;
    int share[2];
    /* Of the look. */
    json_t *stable, *canary, *pods[2];
    char service_name[254];
    unsigned has[2];   /* endpoints of each side */
    unsigned ready[2]; /* pods */
    unsigned plan[2];
    json_t *on, *off; /* names of pods that are to be labelled */
    json_t *wait;     /* {"pod": true} that the Service must have */
    unsigned tries;
    int64_t since_ms;
    struct loop_timer timer;
};

/* ---- life ---- */

static void on_timer_closed(void *ctx)
{
    free(ctx);
}

static void forget(struct work *w)
{
    json_t **all[] = {&w->stable, &w->canary, &w->pods[0], &w->pods[1], &w->on, &w->off, &w->wait};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        json_decref(*all[i]);
        *all[i] = NULL;
    }
}

static void drop(struct work *w)
{
    forget(w);
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    loop_timer_close(&w->timer, on_timer_closed);
}

static void end_view(struct work *w, bool lasting, const char *error, int share_0, int share_1)
{
    traffic_view_cb cb = w->view_cb;
    void *ctx = w->ctx;
    drop(w);
    cb(ctx, &(struct traffic_view){.ok = !*error, .lasting = lasting, .error = error, .share = {share_0, share_1}});
}

static void end(struct work *w, bool ok, bool lasting, const char *text)
{
    if (w->kind == VIEW) {
        end_view(w, lasting, text, 0, 0);
        return;
    }
    traffic_cb cb = w->cb;
    void *ctx = w->ctx;
    drop(w);
    cb(ctx, &(struct executor_result){.ok = ok, .lasting = lasting, .text = text});
}

/* False: it has ended. */
static bool went_well(struct work *w, const struct kube_reply *r)
{
    if (!r)
        drop(w);
    else if (!r->ok)
        end(w, false, r->lasting, r->error);
    return r && r->ok;
}

/* ---- pure: Services and endpoints ---- */

/* Does the selector choose pods of this template? `but` is left out of account. */
static bool selects(const json_t *selector, const json_t *deployment, const char *but)
{
    const json_t *labels = kube_at(deployment, "spec.template.metadata.labels");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)selector, key, value)
    {
        if (but && strcmp(key, but) == 0)
            continue;
        if (!json_equal(value, json_object_get(labels, key)))
            return false;
    }
    return true;
}

static bool is_traffic(const json_t *service)
{
    return strcmp(kube_text(json_object_get(kube_at(service, "spec.selector"), KUBE_TRAFFIC_LABEL), ""), "on") == 0;
}

/* The Service that carries both; and one that would take the canary's pods as soon as they start. */
static void find_services(const struct work *w, const json_t *items, const char **ret_name, const char **ret_blind)
{
    *ret_name = *ret_blind = NULL;
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *service = json_array_get(items, i), *selector = kube_at(service, "spec.selector");
        const char *name = kube_text(service, "metadata.name");
        if (json_object_size(selector) == 0 || !selects(selector, w->stable, KUBE_TRAFFIC_LABEL) ||
            !selects(selector, w->canary, KUBE_TRAFFIC_LABEL))
            continue;
        if (is_traffic(service) && !*ret_name)
            *ret_name = name;
        else if (!is_traffic(service) && strcmp(kube_text(kube_at(service, "spec"), "clusterIP"), "None") != 0)
            *ret_blind = name; /* a headless one only names pods */
    }
}

static const json_t *pod_named(const json_t *pods, const char *name)
{
    for (size_t i = 0; i < json_array_size(pods); i++)
        if (strcmp(kube_text(json_array_get(pods, i), "metadata.name"), name) == 0)
            return json_array_get(pods, i);
    return NULL;
}

/* Endpoints by side. One that is not ready for a moment keeps its place: nothing is sent to it, but the weights are as they were. What has been
 * found ready is taken off `wait`. */
static void count_endpoints(struct work *w, const json_t *slices)
{
    w->has[0] = w->has[1] = 0;
    for (size_t i = 0; i < json_array_size(slices); i++) {
        const json_t *endpoints = json_object_get(json_array_get(slices, i), "endpoints");
        for (size_t k = 0; k < json_array_size(endpoints); k++) {
            const json_t *e = json_array_get(endpoints, k);
            const char *pod = kube_text(e, "targetRef.name");
            if (json_is_true(kube_at(e, "conditions.terminating")))
                continue;
            for (int side = 0; side < 2; side++)
                w->has[side] += pod_named(w->pods[side], pod) != NULL;
            if (w->wait && !json_is_false(kube_at(e, "conditions.ready")))
                json_object_del(w->wait, pod);
        }
    }
}

static bool labelled(const json_t *pod)
{
    return strcmp(kube_label(pod, KUBE_TRAFFIC_LABEL), "on") == 0;
}

/* Which pods change their label so that `want` of a side have traffic: those that have it keep it as far as possible. */
static void choose(struct work *w, int side, unsigned want)
{
    unsigned on = 0;
    char why[160];
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < json_array_size(w->pods[side]); i++) {
            const json_t *pod = json_array_get(w->pods[side], i);
            bool ready = kube_pod_ready(pod, why, sizeof why), has = labelled(pod);
            if (has != (pass == 0) || kube_at(pod, "metadata.deletionTimestamp"))
                continue;
            const char *name = kube_text(pod, "metadata.name");
            if (ready && on < want) {
                on++;
                json_object_set_new(w->wait, name, json_true());
                if (!has)
                    json_array_append_new(w->on, json_string(name));
            } else if (has) {
                json_array_append_new(w->off, json_string(name));
            }
        }
}

static void count_ready(struct work *w)
{
    char why[160];
    for (int side = 0; side < 2; side++)
        for (size_t i = w->ready[side] = 0; i < json_array_size(w->pods[side]); i++)
            w->ready[side] += kube_pod_ready(json_array_get(w->pods[side], i), why, sizeof why);
}

/* ---- labels ---- */

static void label(struct work *w, const char *pod, const char *value, kube_cb cb)
{
    json_t *body = json_pack("{s:{s:{s:s}}}", "metadata", "labels", KUBE_TRAFFIC_LABEL, value);
    kube_call(w->t->kube, &(struct kube_request){.kind = KUBE_PODS, .verb = KUBE_MERGE, .name = pod, .body = body},
              cb, w);
    json_decref(body);
}

/* Takes the last name off the list; false if there is none. */
static bool take_name(json_t *list, char *buf, size_t size)
{
    size_t n = json_array_size(list);
    if (n == 0)
        return false;
    snprintf(buf, size, "%s", kube_text(json_array_get(list, n - 1), ""));
    json_array_remove(list, n - 1);
    return true;
}

/* ---- view ---- */

static void tell_view(struct work *w)
{
    int noted = -1;
    unsigned a = 0, b = 0;
    int percent = kube_share_percent(w->has[0], w->has[1]);
    /* 10% of four pods are one of five: the share that was asked for, as near as whole pods come to it. */
    bool is_note =
        sscanf(kube_annotation(w->stable, NOTE), "%d %u %u", &noted, &a, &b) == 3 && noted >= 0 && noted <= 100;
    if (is_note && a == w->has[0] && b == w->has[1] && a + b > 0)
        percent = noted;
    end_view(w, false, "", percent < 0 ? 0 : percent, percent < 0 ? 0 : 100 - percent);
}

static void on_healed(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    char name[254];
    if (!r)
        drop(w);
    else if (take_name(w->on, name, sizeof name)) /* a pod that is gone again is no matter */
        label(w, name, "on", on_healed);
    else
        tell_view(w);
}

/* A pod that came since, of the side that has all the traffic: it gets its part, or capacity would fall with each pod that is replaced. */
static void heal(struct work *w)
{
    int noted = -1;
    unsigned a, b;
    char why[160], name[254];
    w->on = json_array();
    if (sscanf(kube_annotation(w->stable, NOTE), "%d %u %u", &noted, &a, &b) == 3 && (noted == 0 || noted == 100)) {
        const json_t *pods = w->pods[noted == 0];
        for (size_t i = 0; i < json_array_size(pods); i++) {
            const json_t *pod = json_array_get(pods, i);
            if (!*kube_label(pod, KUBE_TRAFFIC_LABEL) && kube_pod_ready(pod, why, sizeof why))
                json_array_append(w->on, json_object_get(json_object_get(pod, "metadata"), "name"));
        }
    }
    if (take_name(w->on, name, sizeof name))
        label(w, name, "on", on_healed);
    else
        tell_view(w);
}

/* ---- set ---- */

static void note_share(struct work *w);

static void on_noted(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    char text[200];
    if (r && !r->ok && kube_conflict(r) && w->tries++ < CONFLICTS_MAX) {
        note_share(w);
        return;
    }
    if (!went_well(w, r))
        return;
    snprintf(text, sizeof text, "Service %.100s: %u pods of the stable Deployment, %u of the canary", w->service_name,
             w->plan[0], w->plan[1]);
    end(w, true, false, text);
}

static void on_stable(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    char note[64];
    if (!went_well(w, r))
        return;
    snprintf(note, sizeof note, "%d %u %u", w->share[0], w->plan[0], w->plan[1]);
    json_t *annotations = json_pack("{s:s}", NOTE, note),
           *body = kube_deployment_patch(r->body, NULL, -1, annotations);
    kube_call(
        w->t->kube,
        &(struct kube_request){
            .kind = KUBE_DEPLOYMENTS, .verb = KUBE_PATCH, .name = w->t->set->kubernetes.deployment, .body = body},
        on_noted, w);
    json_decref(annotations);
    json_decref(body);
}

static void note_share(struct work *w)
{
    kube_call(
        w->t->kube,
        &(struct kube_request){.kind = KUBE_DEPLOYMENTS, .verb = KUBE_GET, .name = w->t->set->kubernetes.deployment},
        on_stable, w);
}

static void on_off(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    char name[254];
    if (r && r->status != 404 && !r->ok) {
        end(w, false, r->lasting, r->error);
        return;
    }
    if (!r)
        drop(w);
    else if (take_name(w->off, name, sizeof name))
        label(w, name, "off", on_off);
    else
        note_share(w);
}

static void list_slices(struct work *w);

static void on_poll(void *ctx)
{
    list_slices(ctx);
}

/* Labelled; does the Service have them? */
static void wait_slices(struct work *w)
{
    char text[400];
    const char *first = json_object_iter_key(json_object_iter(w->wait));
    if (!first) {
        on_off(w, &(struct kube_reply){.ok = true});
    } else if (clock_mono_ms() - w->since_ms > w->t->set->kubernetes.timeout_ms) {
        snprintf(text, sizeof text,
                 "kubernetes: Service %.253s does not have pod %.100s after %lld ms, so no traffic was taken from "
                 "the other side; is it ready?",
                 w->service_name, first, (long long)(clock_mono_ms() - w->since_ms));
        end(w, false, false, text);
    } else {
        loop_timer_start(&w->timer, POLL_MS, 0);
    }
}

static void on_on(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    char name[254];
    if (!went_well(w, r))
        return;
    if (take_name(w->on, name, sizeof name)) {
        label(w, name, "on", on_on);
        return;
    }
    w->since_ms = clock_mono_ms();
    list_slices(w);
}

static void begin_set(struct work *w)
{
    count_ready(w);
    w->on = json_array();
    w->off = json_array();
    w->wait = json_object();
    if (!kube_share_plan(w->share[0], w->ready[0], w->ready[1], &w->plan[0], &w->plan[1])) {
        char text[300];
        snprintf(
            text, sizeof text,
            "kubernetes: %d%% and %d%% cannot be: %u pods of the stable Deployment are ready and %u of the canary",
            w->share[0], w->share[1], w->ready[0], w->ready[1]);
        end(w, false, false, text);
        return;
    }
    choose(w, 0, w->plan[0]);
    choose(w, 1, w->plan[1]);
    on_on(w, &(struct kube_reply){.ok = true});
}

/* ---- looking ---- */

static void on_dry_label(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    char text[300];
    if (!went_well(w, r))
        return;
    snprintf(text, sizeof text, "Service %.100s can be shared by pods of both Deployments", w->service_name);
    end(w, true, false, text);
}

/* May pods be labelled? Asked of one that stands, without doing it. */
static void check_labels(struct work *w)
{
    char name[254];
    const json_t *pod = json_array_get(w->pods[0], 0);
    if (!pod) {
        on_dry_label(w, &(struct kube_reply){.ok = true});
        return;
    }
    snprintf(name, sizeof name, "%s", kube_text(pod, "metadata.name"));
    json_t *body = json_pack("{s:{s:{s:s}}}", "metadata", "labels", KUBE_TRAFFIC_LABEL, labelled(pod) ? "on" : "off");
    kube_call(w->t->kube,
              &(struct kube_request){.kind = KUBE_PODS, .verb = KUBE_MERGE, .name = name, .body = body, .dry = true},
              on_dry_label, w);
    json_decref(body);
}

static void on_slices(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    if (!went_well(w, r))
        return;
    count_endpoints(w, json_object_get(r->body, "items"));
    if (w->kind == VIEW)
        heal(w);
    else if (w->kind == CHECK)
        check_labels(w);
    else
        wait_slices(w);
}

static void list_slices(struct work *w)
{
    char selector[400];
    snprintf(selector, sizeof selector, "kubernetes.io/service-name=%s", w->service_name);
    kube_call(w->t->kube, &(struct kube_request){.kind = KUBE_SLICES, .verb = KUBE_LIST, .selector = selector},
              on_slices, w);
}

static void on_services(void *ctx, const struct kube_reply *r)
{
    struct work *w = ctx;
    const char *name, *blind;
    char text[700];
    if (!went_well(w, r))
        return;
    find_services(w, json_object_get(r->body, "items"), &name, &blind);
    if (name && !(blind && w->kind == CHECK)) {
        snprintf(w->service_name, sizeof w->service_name, "%s", name);
        if (w->kind == SET)
            begin_set(w);
        else
            list_slices(w);
        return;
    }
    if (blind)
        snprintf(text, sizeof text,
                 "kubernetes: Service %.253s would send work to every pod of both Deployments as soon as it starts; "
                 "add `" KUBE_TRAFFIC_LABEL
                 ": \"on\"` to its selector, and to the labels of the stable Deployment's template",
                 blind);
    else
        snprintf(text, sizeof text,
                 "kubernetes: no Service in %s selects pods of both Deployments by `" KUBE_TRAFFIC_LABEL
                 ": \"on\"` (deploy/k8s/agent-pair.yaml "
                 "shows one)",
                 kube_namespace(w->t->kube));
    end(w, false, true, text);
}

static void on_look(void *ctx, const struct kube_look *l)
{
    struct work *w = ctx;
    if (!l) {
        drop(w);
        return;
    }
    if (!l->ok || !l->side[0].pods || !l->side[1].pods) {
        char text[1300];
        snprintf(text, sizeof text, "%s", l->ok ? "kubernetes: pods cannot be listed: give this right" : l->error);
        end(w, false, l->ok || l->lasting, text);
        return;
    }
    w->stable = json_incref(l->side[0].deployment);
    w->canary = json_incref(l->side[1].deployment);
    for (int i = 0; i < 2; i++)
        w->pods[i] = json_incref(l->side[i].pods);
    kube_call(w->t->kube, &(struct kube_request){.kind = KUBE_SERVICES, .verb = KUBE_LIST}, on_services, w);
}

/* ---- the table ---- */

static void begin(struct traffic *t, struct work what)
{
    struct work *w = malloc(sizeof *w);
    if (!w)
        abort(); /* a callback that could not be promised would hang its owner for ever */
    *w = what;
    w->t = t;
    w->next = t->works;
    w->link = &t->works;
    if (w->next)
        w->next->link = &w->next;
    t->works = w;
    loop_timer_init(&t->service->loop, &w->timer, on_poll, w);
    kube_look(t->kube, &t->set->kubernetes, KUBE_PODS_ONLY, NULL, NULL, on_look, w);
}

static struct traffic *open_replicas(struct service *s, const struct set_deployment *set, struct err *e)
{
    struct err why = {""};
    struct traffic *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(e, "%s: out of memory", set->name);
        return NULL;
    }
    *t = (struct traffic){.service = s, .set = set};
    t->kube = kube_open(&s->loop, s->http, &set->kubernetes, &why);
    if (!t->kube) {
        err_set(e, "%s: %.400s", set->name, why.text);
        free(t);
        return NULL;
    }
    return t;
}

static void close_replicas(struct traffic *t)
{
    kube_close(t->kube);
    while (t->works) /* those that wait by their timers */
        drop(t->works);
    free(t);
}

static void view(struct traffic *t, const struct executor_instance *at, size_t count, traffic_view_cb cb, void *ctx)
{
    (void)at, (void)count;
    begin(t, (struct work){.kind = VIEW, .view_cb = cb, .ctx = ctx});
}

static void check(struct traffic *t, traffic_cb cb, void *ctx)
{
    begin(t, (struct work){.kind = CHECK, .cb = cb, .ctx = ctx});
}

static void set_shares(struct traffic *t, const struct traffic_order *o, traffic_cb cb, void *ctx)
{
    begin(t, (struct work){.kind = SET, .cb = cb, .ctx = ctx, .share = {o->share[0], o->share[1]}});
}

const struct traffic_kind traffic_replicas = {.name = "replicas",
                                              .open = open_replicas,
                                              .close = close_replicas,
                                              .view = view,
                                              .check = check,
                                              .set = set_shares};
