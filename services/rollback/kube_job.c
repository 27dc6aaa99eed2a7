/* kube_job.c - a Job that runs a command once in a version: made of the version's pod template; and how it stands. Pure: JSON in, JSON out. */
#include "rollback/kube_deployment.h"
#include "rollback/rollback_executor.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_MAX 63 /* the pods' label `job-name` holds no more */
#define HASH_HEX  10
#define KEEP_S    86400 /* an end that nobody has asked for goes after a day */

void kube_job_name(const char *deployment, const char *job, char *buf)
{
    char hash[65];
    json_t *id = json_string(job);
    executor_config_hash(id, hash);
    json_decref(id);
    size_t n = strlen(deployment), most = LABEL_MAX - 4 - HASH_HEX;
    n = n < most ? n : most;
    while (n > 0 && !isalnum((unsigned char)deployment[n - 1]))
        n--;
    snprintf(buf, LABEL_MAX + 1, "%.*s-rb-%.*s", (int)n, deployment, HASH_HEX, hash);
}

/* ---- what is left of a template ---- */

/* Whoever asks whether the agent is well, sends it work or spreads its pods does not mean this one. */
static const char *const not_of_a_container[] = {"livenessProbe", "readinessProbe", "startupProbe", "lifecycle",
                                                 "ports",         "args",           "restartPolicy"};
static const char *const not_of_a_pod[] = {
    "initContainers", "ephemeralContainers",       "readinessGates",       "hostname",
    "subdomain",      "topologySpreadConstraints", "activeDeadlineSeconds"};

static void leave_out(json_t *o, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        json_object_del(o, keys[i]);
}

/* The kubelet fills $(NAME) into commands; $$ is one $ that is meant. */
static json_t *literally(const char *text)
{
    char *twice = malloc(strlen(text) * 2 + 1), *p = twice;
    if (!twice)
        abort();
    for (; *text; text++) {
        if (*text == '$')
            *p++ = '$';
        *p++ = *text;
    }
    *p = '\0';
    json_t *j = json_string(twice);
    free(twice);
    return j ? j : json_string("");
}

static json_t *container_of(const json_t *template, const struct kube_job_order *o)
{
    json_t *c = json_deep_copy(kube_container(template, o->container)), *command = json_array();
    leave_out(c, not_of_a_container, sizeof not_of_a_container / sizeof *not_of_a_container);
    for (size_t i = 0; o->argv[i]; i++)
        json_array_append_new(command, literally(o->argv[i]));
    json_object_set_new(c, "command", command);
    return c;
}

/* Annotations stay, as they may say how its containers are confined; but not ours, and none of a container that is not there. */
static json_t *annotations_of(const json_t *template, const char *container)
{
    const json_t *all = kube_at(template, "metadata.annotations");
    json_t *a = json_object(), *value;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)all, key, value)
    {
        const char *of = strchr(key, '/');
        bool confines = strncmp(key, "container.", 10) == 0 && strstr(key, ".security.") && of;
        if (strncmp(key, KUBE_OURS, strlen(KUBE_OURS)) != 0 && (!confines || strcmp(of + 1, container) == 0))
            json_object_set(a, key, value);
    }
    json_object_set_new(a, "cluster-autoscaler.kubernetes.io/safe-to-evict", json_string("false"));
    return a;
}

static json_t *object_in(json_t *o, const char *key)
{
    if (!json_is_object(json_object_get(o, key)))
        json_object_set_new(o, key, json_object());
    return json_object_get(o, key);
}

/* Best where the Deployment's pods are: a ReadWriteOnce volume is there already. Not away from anything. */
static void place(json_t *pod, const json_t *deployment)
{
    static const char preferred[] = "preferredDuringSchedulingIgnoredDuringExecution";
    json_t *affinity = object_in(pod, "affinity"), *near = object_in(affinity, "podAffinity");
    json_object_del(affinity, "podAntiAffinity");
    if (!json_is_array(json_object_get(near, preferred)))
        json_object_set_new(near, preferred, json_array());
    json_array_append_new(json_object_get(near, preferred),
                          json_pack("{s:i,s:{s:s,s:O}}", "weight", 100, "podAffinityTerm", "topologyKey",
                                    "kubernetes.io/hostname", "labelSelector", kube_at(deployment, "spec.selector")));
}

static bool label_ok(const char *value)
{
    size_t n = strlen(value);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)value[i]) && !strchr("-_.", value[i]))
            return false;
    return n > 0 && n <= 63 && isalnum((unsigned char)value[0]) && isalnum((unsigned char)value[n - 1]);
}

json_t *kube_job(const json_t *template, const json_t *deployment, const struct kube_job_order *o)
{
    json_t *pod = json_deep_copy(json_object_get(template, "spec")), *container = container_of(template, o);
    json_t *labels = json_pack("{s:s}", KUBE_OWNER, o->owner);
    if (label_ok(o->job))
        json_object_set_new(labels, KUBE_JOB, json_string(o->job));
    leave_out(pod, not_of_a_pod, sizeof not_of_a_pod / sizeof *not_of_a_pod);
    json_object_set_new(pod, "restartPolicy", json_string("Never"));
    json_object_set_new(pod, "containers", json_pack("[O]", container));
    place(pod, deployment);
    json_t *job = json_pack(
        "{s:s,s:s,s:{s:s,s:O,s:{s:s}},s:{s:i,s:I,s:i,s:{s:{s:O,s:o},s:o}}}", "apiVersion", "batch/v1", "kind", "Job",
        "metadata", "name", o->name, "labels", labels, "annotations", KUBE_JOB, o->job, "spec", "backoffLimit", 0,
        "activeDeadlineSeconds", (json_int_t)o->deadline_s, "ttlSecondsAfterFinished", KEEP_S, "template", "metadata",
        "labels", labels, "annotations", annotations_of(template, kube_text(container, "name")), "spec", pod);
    json_decref(container);
    json_decref(labels);
    return job;
}

/* ---- how it stands ---- */

bool kube_job_is(const json_t *object, const char *owner, const char *job)
{
    return strcmp(kube_label(object, KUBE_OWNER), owner) == 0 && strcmp(kube_annotation(object, KUBE_JOB), job) == 0;
}

enum kube_job_state kube_job_state(const json_t *object, char *why, size_t size)
{
    const json_t *status = json_object_get(object, "status"), *failed = kube_condition(status, "Failed");
    snprintf(why, size, "%s", "");
    if (strcmp(kube_text(kube_condition(status, "Complete"), "status"), "True") == 0)
        return KUBE_JOB_DONE;
    if (strcmp(kube_text(failed, "status"), "True") != 0)
        return KUBE_JOB_RUNS;
    snprintf(why, size, "%.60s: %.200s", kube_text(failed, "reason"), kube_text(failed, "message"));
    return KUBE_JOB_FAILED;
}

static bool expression_holds(const json_t *x, const json_t *labels)
{
    const char *op = kube_text(x, "operator");
    const json_t *values = json_object_get(x, "values"), *has = json_object_get(labels, kube_text(x, "key"));
    bool in = false;
    for (size_t i = 0; i < json_array_size(values); i++)
        in = in || json_equal(json_array_get(values, i), has);
    if (strcmp(op, "Exists") == 0)
        return has;
    if (strcmp(op, "DoesNotExist") == 0)
        return !has;
    return strcmp(op, "In") == 0 ? in : !in;
}

bool kube_selects(const json_t *deployment, const json_t *labels)
{
    const json_t *selector = kube_at(deployment, "spec.selector"),
                 *all = json_object_get(selector, "matchExpressions");
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(selector, "matchLabels"), key, value)
    {
        if (!json_equal(json_object_get(labels, key), value))
            return false;
    }
    for (size_t i = 0; i < json_array_size(all); i++)
        if (!expression_holds(json_array_get(all, i), labels))
            return false;
    return json_is_object(selector);
}

const char *kube_log_end(const char *text, size_t len, char *buf, size_t size)
{
    size_t n = 0;
    while (len > 0 && (unsigned char)text[len - 1] <= ' ')
        len--;
    size_t at = len < size ? 0 : len - size + 1;
    while (at < len && at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80)
        at++; /* not in the middle of a character */
    for (; at < len; at++)
        buf[n++] = (char)((unsigned char)text[at] < ' ' ? ' ' : text[at]);
    buf[n] = '\0';
    return buf;
}
