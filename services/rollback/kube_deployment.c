/* kube_deployment.c - reads Deployments, their pods and their images. */
#include "rollback/kube_deployment.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

json_t *kube_at(const json_t *o, const char *path)
{
    json_t *at = (json_t *)(uintptr_t)o;
    while (at && *path) {
        size_t n = strcspn(path, ".");
        at = json_object_getn(at, path, n);
        path += n + (path[n] == '.');
    }
    return at;
}

const char *kube_text(const json_t *o, const char *path)
{
    const char *t = json_string_value(kube_at(o, path));
    return t ? t : "";
}

int64_t kube_int(const json_t *o, const char *path, int64_t otherwise)
{
    const json_t *j = kube_at(o, path);
    return json_is_integer(j) ? json_integer_value(j) : otherwise;
}

const char *kube_annotation(const json_t *o, const char *key)
{
    const char *t = json_string_value(json_object_get(kube_at(o, "metadata.annotations"), key));
    return t ? t : "";
}

const char *kube_label(const json_t *o, const char *key)
{
    const char *t = json_string_value(json_object_get(kube_at(o, "metadata.labels"), key));
    return t ? t : "";
}

const json_t *kube_condition(const json_t *status, const char *type)
{
    const json_t *all = json_object_get(status, "conditions");
    for (size_t i = 0; i < json_array_size(all); i++)
        if (strcmp(kube_text(json_array_get(all, i), "type"), type) == 0)
            return json_array_get(all, i);
    return NULL;
}

/* ---- rollout ---- */

#define DEADLINE "ProgressDeadlineExceeded"

static const char *condition_time(const json_t *c)
{
    const char *t = kube_text(c, "lastUpdateTime");
    return *t ? t : kube_text(c, "lastTransitionTime");
}

const char *kube_stale(const json_t *deployment)
{
    const json_t *c = kube_condition(json_object_get(deployment, "status"), "Progressing");
    return strcmp(kube_text(c, "reason"), DEADLINE) == 0 ? condition_time(c) : "";
}

__attribute__((format(printf, 3, 4))) static void say(char *buf, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, size, fmt, ap);
    va_end(ap);
}

enum kube_rollout kube_rollout(const json_t *d, const char *stale, char *why, size_t size)
{
    const json_t *progressing = kube_condition(json_object_get(d, "status"), "Progressing");
    const char *at = condition_time(progressing);
    long long wanted = kube_int(d, "spec.replicas", 1), all = kube_int(d, "status.replicas", 0);
    long long updated = kube_int(d, "status.updatedReplicas", 0),
              available = kube_int(d, "status.availableReplicas", 0);
    say(why, size, "%s", "");
    if (kube_int(d, "metadata.generation", 0) > kube_int(d, "status.observedGeneration", 0)) {
        say(why, size, "the Deployment's controller has not seen the change yet");
    } else if (strcmp(kube_text(progressing, "reason"), DEADLINE) == 0 && (!*stale || strcmp(at, stale) > 0)) {
        /* Times are RFC 3339 in UTC: their order is that of the text. */
        say(why, size, "the rollout is stuck since %s: %.120s", at, kube_text(progressing, "message"));
        return KUBE_STUCK;
    } else if (updated < wanted) {
        say(why, size, "%lld of %lld pods have the new template", updated, wanted);
    } else if (all > updated) {
        say(why, size, "%lld old pods are still ending", all - updated);
    } else if (available < updated) {
        say(why, size, "%lld of %lld pods are available", available, updated);
    } else {
        return KUBE_ROLLED;
    }
    if (json_is_true(kube_at(d, "spec.paused")))
        say(why, size, "the Deployment is paused: kubectl rollout resume");
    return KUBE_ROLLING;
}

/* ---- pods ---- */

static bool add(char *buf, size_t size, size_t *at, const char *text)
{
    int n = snprintf(buf + *at, size - *at, "%s", text);
    if (n < 0 || (size_t)n >= size - *at)
        return false;
    *at += (size_t)n;
    return true;
}

static bool add_expression(char *buf, size_t size, size_t *at, const json_t *x)
{
    const char *op = kube_text(x, "operator"), *key = kube_text(x, "key");
    const json_t *values = json_object_get(x, "values");
    if (strcmp(op, "Exists") == 0)
        return add(buf, size, at, key);
    if (strcmp(op, "DoesNotExist") == 0)
        return add(buf, size, at, "!") && add(buf, size, at, key);
    if (strcmp(op, "In") != 0 && strcmp(op, "NotIn") != 0)
        return false;
    bool ok = add(buf, size, at, key) && add(buf, size, at, *op == 'I' ? " in (" : " notin (");
    for (size_t i = 0; ok && i < json_array_size(values); i++)
        ok = (i == 0 || add(buf, size, at, ",")) && add(buf, size, at, kube_text(json_array_get(values, i), ""));
    return ok && add(buf, size, at, ")");
}

bool kube_selector(const json_t *d, char *buf, size_t size)
{
    const char *key;
    json_t *value;
    size_t at = 0;
    const json_t *expressions = kube_at(d, "spec.selector.matchExpressions");
    buf[0] = '\0';
    json_object_foreach(kube_at(d, "spec.selector.matchLabels"), key, value)
    {
        if (!json_is_string(value) || (at > 0 && !add(buf, size, &at, ",")) || !add(buf, size, &at, key) ||
            !add(buf, size, &at, "=") || !add(buf, size, &at, json_string_value(value)))
            return false;
    }
    for (size_t i = 0; i < json_array_size(expressions); i++)
        if ((at > 0 && !add(buf, size, &at, ",")) || !add_expression(buf, size, &at, json_array_get(expressions, i)))
            return false;
    return at > 0;
}

bool kube_owns(const json_t *deployment, const json_t *pod)
{
    char replica_set[320];
    const json_t *owners = kube_at(pod, "metadata.ownerReferences");
    snprintf(replica_set, sizeof replica_set, "%s-%s", kube_text(deployment, "metadata.name"),
             kube_label(pod, "pod-template-hash"));
    for (size_t i = 0; i < json_array_size(owners); i++)
        if (strcmp(kube_text(json_array_get(owners, i), "kind"), "ReplicaSet") == 0 &&
            strcmp(kube_text(json_array_get(owners, i), "name"), replica_set) == 0)
            return true;
    return false;
}

/* Why a container does not run: "ImagePullBackOff: ...". */
static void container_why(const json_t *pod, char *why, size_t size)
{
    const json_t *all = kube_at(pod, "status.containerStatuses");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *c = json_array_get(all, i);
        const char *reason = kube_text(c, "state.waiting.reason"), *message = kube_text(c, "state.waiting.message");
        if (!*reason) {
            reason = kube_text(c, "state.terminated.reason");
            message = kube_text(c, "state.terminated.message");
        }
        if (*reason) {
            say(why, size, "%s: %s%s%.80s", kube_text(c, "name"), reason, *message ? ": " : "", message);
            return;
        }
    }
}

bool kube_pod_ready(const json_t *pod, char *why, size_t size)
{
    const json_t *ready = kube_condition(json_object_get(pod, "status"), "Ready");
    say(why, size, "%s", "");
    if (kube_at(pod, "metadata.deletionTimestamp")) {
        say(why, size, "it is ending");
        return false;
    }
    if (strcmp(kube_text(ready, "status"), "True") == 0)
        return true;
    say(why, size, "it is %s", *kube_text(pod, "status.phase") ? kube_text(pod, "status.phase") : "not scheduled");
    if (*kube_text(ready, "message"))
        say(why, size, "%.120s", kube_text(ready, "message"));
    container_why(pod, why, size);
    return false;
}

/* ---- images ---- */

json_t *kube_container(const json_t *template, const char *name)
{
    json_t *all = kube_at(template, "spec.containers");
    if (!*name)
        return json_array_get(all, 0);
    for (size_t i = 0; i < json_array_size(all); i++)
        if (strcmp(kube_text(json_array_get(all, i), "name"), name) == 0)
            return json_array_get(all, i);
    return NULL;
}

/* Where the name ends: at the digest, or at a colon after the last slash (one before it is a registry's port). */
static size_t repository_len(const char *image)
{
    size_t n = strcspn(image, "@");
    for (size_t i = n; i > 0 && image[i - 1] != '/'; i--)
        if (image[i - 1] == ':')
            return i - 1;
    return n;
}

void kube_image_repository(const char *image, char *buf, size_t size)
{
    snprintf(buf, size, "%.*s", (int)repository_len(image), image);
}

void kube_image_tag(const char *image, char *buf, size_t size)
{
    size_t n = repository_len(image);
    say(buf, size, "%s", "");
    if (image[n] == ':')
        snprintf(buf, size, "%.*s", (int)strcspn(image + n + 1, "@"), image + n + 1);
}

void kube_image_digest(const char *image, char *buf, size_t size)
{
    const char *at = strstr(image, "sha256:");
    size_t n = at ? strspn(at + 7, "0123456789abcdef") : 0;
    bool begins = at && (at == image || at[-1] == '@' || at[-1] == '/');
    snprintf(buf, size, "%.*s", begins && n == 64 ? 71 : 0, at ? at : "");
}
