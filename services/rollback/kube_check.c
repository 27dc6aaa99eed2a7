/* kube_check.c - could this version be brought up? Rights, what scales or pauses the Deployments, what is missing; and a dry run.
 *
 *   look -> rights (all at a time) -> autoscalers -> dry run of the patch -> told
 * Nothing is changed: the API server checks the patch as if it was meant, with admission and quota of objects. */
#include "rollback/executor_kubernetes.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    enum kube_kind kind;
    const char *verb;
    bool needed; /* without it less is seen, and that is said */
} rights[] = {
    {KUBE_DEPLOYMENTS, "get", true},   {KUBE_DEPLOYMENTS, "watch", true}, {KUBE_DEPLOYMENTS, "patch", true},
    {KUBE_PODS, "list", true},         {KUBE_CONFIGMAPS, "get", true},    {KUBE_CONFIGMAPS, "list", true},
    {KUBE_CONFIGMAPS, "create", true}, {KUBE_CONFIGMAPS, "delete", true}, {KUBE_SECRETS, "get", false},
    {KUBE_SCALERS, "list", false},
};
#define N_RIGHTS (sizeof rights / sizeof *rights)

__attribute__((format(printf, 3, 4))) static void add(char *buf, size_t size, const char *fmt, ...)
{
    size_t at = strlen(buf);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf + at, size - at, fmt, ap);
    va_end(ap);
}

#define ADD(buf, ...) add(buf, sizeof(buf), __VA_ARGS__)

/* ---- the dry run ---- */

static void on_dry(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    char text[900];
    if (!r) {
        act_drop(a);
        return;
    }
    if (!r->ok && kube_conflict(r) && a->tries++ < 3) {
        kube_check_start(a); /* somebody was faster: look again */
        return;
    }
    if (!r->ok) {
        act_end(a, r->lasting, r->error, "");
        return;
    }
    snprintf(text, sizeof text,
             "Deployment %s can be given version %s. Whether its image can be pulled and its pods have room shows "
             "when they start%s",
             kube_text(a->deployment, "metadata.name"), a->name, a->notes);
    act_end(a, false, NULL, text);
}

static void dry_run(struct act *a)
{
    json_t *body = kube_deployment_patch(a->deployment, a->template, a->x->pair ? (int64_t)a->count : -1, NULL);
    kube_call(a->x->kube,
              &(struct kube_request){.kind = KUBE_DEPLOYMENTS,
                                     .verb = KUBE_PATCH,
                                     .name = kube_text(a->deployment, "metadata.name"),
                                     .body = body,
                                     .dry = true},
              on_dry, a);
    json_decref(body);
}

/* ---- autoscalers ---- */

static bool scales(const json_t *scaler, const json_t *deployment)
{
    return deployment && strcmp(kube_text(scaler, "spec.scaleTargetRef.kind"), "Deployment") == 0 &&
           strcmp(kube_text(scaler, "spec.scaleTargetRef.name"), kube_text(deployment, "metadata.name")) == 0;
}

static void on_scalers(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    char text[600];
    if (!r) {
        act_drop(a);
        return;
    }
    const json_t *items = json_object_get(r->body, "items");
    for (size_t i = 0; r->ok && a->x->pair && i < json_array_size(items); i++) {
        const json_t *h = json_array_get(items, i);
        if (!scales(h, a->deployment) && !scales(h, a->other))
            continue;
        snprintf(text, sizeof text,
                 "kubernetes: HorizontalPodAutoscaler %s scales Deployment %s, and would undo what a rollback "
                 "scales: delete it first, "
                 "and apply it again afterwards",
                 kube_text(h, "metadata.name"), kube_text(h, "spec.scaleTargetRef.name"));
        act_end(a, true, text, "");
        return;
    }
    if (!r->ok)
        ADD(a->notes, "; HorizontalPodAutoscalers could not be looked for (%d)", r->status);
    dry_run(a);
}

/* ---- rights ---- */

struct review {
    struct act *a;
    size_t i;
};

static void rights_known(struct act *a)
{
    char text[900];
    if (a->closed) {
        act_drop(a);
        return;
    }
    if (*a->missing) {
        snprintf(text, sizeof text,
                 "kubernetes: these rights are missing in namespace %s: %s; give them by a Role and RoleBinding "
                 "(deploy/k8s/rollback-rbac.yaml)",
                 kube_namespace(a->x->kube), a->missing);
        act_end(a, true, text, "");
        return;
    }
    kube_call(a->x->kube, &(struct kube_request){.kind = KUBE_SCALERS, .verb = KUBE_LIST}, on_scalers, a);
}

static void on_review(void *ctx, const struct kube_reply *r)
{
    struct review *v = ctx;
    struct act *a = v->a;
    size_t i = v->i;
    free(v);
    a->closed = a->closed || !r;
    /* Who may not ask learns it at the first act that is refused. */
    if (r && r->ok && !json_is_true(kube_at(r->body, "status.allowed"))) {
        const char *group = kube_group(rights[i].kind);
        char right[100];
        snprintf(right, sizeof right, "%s %s", rights[i].verb, kube_resource(rights[i].kind));
        if (rights[i].needed && !strstr(a->missing, right))
            ADD(a->missing, "%s%s %s%s%s", *a->missing ? ", " : "", rights[i].verb, kube_resource(rights[i].kind),
                *group ? "." : "", group);
        else if (!rights[i].needed)
            ADD(a->notes, "; without the right to %s %s they are not looked at", rights[i].verb,
                kube_resource(rights[i].kind));
    }
    if (--a->asked == 0)
        rights_known(a);
}

/* Rights may be given for names: asked for this one; NULL = for all. */
static void ask_right(struct act *a, size_t i, const json_t *deployment)
{
    struct review *v = malloc(sizeof *v);
    if (!v)
        abort();
    *v = (struct review){a, i};
    json_t *what = json_pack("{s:s,s:s,s:s,s:s}", "namespace", kube_namespace(a->x->kube), "verb", rights[i].verb,
                             "group", kube_group(rights[i].kind), "resource", kube_resource(rights[i].kind));
    if (deployment)
        json_object_set_new(what, "name", json_string(kube_text(deployment, "metadata.name")));
    json_t *body = json_pack("{s:s,s:s,s:{s:o}}", "apiVersion", "authorization.k8s.io/v1", "kind",
                             "SelfSubjectAccessReview", "spec", "resourceAttributes", what);
    a->asked++;
    kube_call(a->x->kube, &(struct kube_request){.kind = KUBE_REVIEWS, .verb = KUBE_CREATE, .body = body}, on_review,
              v);
    json_decref(body);
}

static void ask_rights(struct act *a)
{
    a->asked = 0;
    a->missing[0] = '\0';
    for (size_t i = 0; i < N_RIGHTS; i++) {
        bool one = rights[i].kind == KUBE_DEPLOYMENTS && strcmp(rights[i].verb, "watch") != 0;
        ask_right(a, i, one ? a->deployment : NULL);
        if (one && a->other)
            ask_right(a, i, a->other);
    }
}

/* ---- what stands ---- */

/* A canary whose selector takes the stable one's pods, or the other way round, would count them as its own. */
static bool same_selector(const json_t *a, const json_t *b)
{
    return json_equal(kube_at(a, "spec.selector"), kube_at(b, "spec.selector"));
}

/* -1: it has ended with an error. */
static int check_secrets(struct act *a, const struct kube_look *l)
{
    const char *name;
    json_t *was;
    char text[600];
    json_object_foreach(json_object_get(a->spec, "secrets"), name, was)
    {
        const char *then = json_string_value(was), *now = json_string_value(json_object_get(l->secrets, name));
        if (then && *then && now && !*now) {
            snprintf(text, sizeof text,
                     "kubernetes: Secret %.253s, which version %s needs, is not there any more; create it again",
                     name, a->name);
            act_end(a, true, text, "");
            return -1;
        }
        if (then && now && strcmp(then, now) != 0)
            ADD(a->notes, "; Secret %.60s was changed since: the version gets it as it is now", name);
    }
    return 0;
}

static int check_deployments(struct act *a)
{
    const json_t *both[] = {a->deployment, a->other};
    char text[500] = "";
    for (int i = 0; i < 2 && !*text; i++) {
        const char *name = kube_text(both[i], "metadata.name");
        if (both[i] && json_is_true(kube_at(both[i], "spec.paused")))
            snprintf(text, sizeof text, "kubernetes: Deployment %s is paused: kubectl rollout resume deployment/%s",
                     name, name);
        else if (both[i] && kube_at(both[i], "metadata.deletionTimestamp"))
            snprintf(text, sizeof text, "kubernetes: Deployment %s is being deleted; create it again first", name);
    }
    if (!*text && a->other && same_selector(a->deployment, a->other))
        snprintf(text, sizeof text,
                 "kubernetes: Deployments %s and %s select by the same labels; give each a label of its own",
                 kube_text(a->deployment, "metadata.name"), kube_text(a->other, "metadata.name"));
    if (!*text)
        return 0;
    act_end(a, true, text, "");
    return -1;
}

static void on_look(void *ctx, const struct kube_look *l)
{
    struct act *a = ctx;
    if (!l) {
        act_drop(a);
        return;
    }
    a->notes[0] = '\0';
    if (act_take(a, l) < 0 || check_deployments(a) < 0 || check_secrets(a, l) < 0 || act_plan_template(a, l) < 0)
        return;
    const char *name, *copy;
    json_t *value;
    json_object_foreach(a->copies, name, value)
    {
        copy = json_string_value(value);
        ADD(a->notes, "; ConfigMap %.60s was changed since: it is used as it was, as %.60s", name, copy);
    }
    ask_rights(a);
}

void kube_check_start(struct act *a)
{
    act_look(a, on_look);
}
